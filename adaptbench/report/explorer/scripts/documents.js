// Two runs on the same documents. Only pairs whose document and prompt hashes agree are compared: those share an entry.

const PAGE = 20;
const pair = { pairs: [], shown: [], until: PAGE, only: "all", turn: 0 };
const FILTERS = {
  right: [["all", "all"], ["a", "only A right"], ["b", "only B right"], ["both", "both right"], ["neither", "neither right"]],
  better: [["all", "all"], ["a", "A better"], ["b", "B better"], ["both", "equal"]],
};
const control = {};

function startDocuments() {
  for (const id of ["track", "task", "a", "b", "seed"]) {
    control[id] = make("select", { id: `pair-${id}` });
    control[id].addEventListener("change", () => { if (id === "track") fillTrack(); else fillSeeds(); loadPair(); });
  }
  const swap = button("Swap A and B", () => {
    [control.a.value, control.b.value] = [control.b.value, control.a.value];
    fillSeeds();
    loadPair();
  });
  const words = { track: "Track", a: "Run A", b: "Run B", seed: "Seed", task: "Task" };
  document.getElementById("pair").append(...["track", "task", "a", "b", "seed"].map((id) => labelled(words[id], control[id])), swap);
  let waiting;
  document.getElementById("words").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(choosePairs, 150);
  });
  const tracks = Object.keys(data.answers);
  options(control.track, tracks.map((track) => ({ value: track, text: track })));
  if (!tracks.length) {
    document.getElementById("documents-note").textContent = "There are no documents.";
    document.getElementById("pair").hidden = document.getElementById("words").disabled = true;
  }
}

// Runs in the table's order, tasks with the track's own first.
function fillTrack(wanted = {}) {
  const track = control.track.value;
  const runs = data.rows.filter((row) => row.track === track && row.run in (data.answers[track] ?? {})).map((row) => row.run);
  const asked = data.tasks[track] ?? {};
  const own = Object.keys(asked).sort((x, y) => asked[x].general - asked[y].general);
  const entries = runs.map((run) => ({ value: run, text: run }));
  options(control.a, entries, wanted.a ?? (runs.includes("base") ? "base" : runs[0]));
  options(control.b, entries, wanted.b ?? runs.findLast((run) => run !== "base" && inTable(run)) ?? runs.at(-1));
  options(control.task, own.map((task) => ({ value: task, text: data.tasks[track][task].label })), wanted.task ?? own.find((task) => data.tasks[track][task].episodes));
  fillSeeds();
}

function inTable(run) {
  const table = data.tables[state.which];
  return !table || table.track !== control.track.value || table.runs.includes(run);
}

function fillSeeds() {
  const seeds = (run) => data.rows.find((row) => row.track === control.track.value && row.run === run)?.done ?? [];
  const both = [...new Set([...seeds(control.a.value), ...seeds(control.b.value)])].sort((x, y) => x - y);
  options(control.seed, both.map((seed) => ({ value: String(seed), text: String(seed) })), control.seed.value);
}

// A run that has not the seed (the base has one) answers with its first.
function answersOf(chunkOf, taskName, task, wanted) {
  const seeds = chunkOf.tasks[taskName] ?? {};
  const seed = wanted in seeds ? wanted : Object.keys(seeds)[0];
  const found = seeds[seed];
  if (!found) return { seed, byEntry: new Map() };
  const entries = found.entries ?? found.texts.map((_, index) => index);
  const further = (index) => task.further.map(([metric, heading]) => [heading, found.further[metric]?.[index]]);
  const value = (index) => {
    if (typeof found.values !== "string") return found.values[index];
    return found.values[index] === "?" ? null : Number(found.values[index]);
  };
  return { seed, byEntry: new Map(entries.map((entry, index) => [entry, { value: value(index), text: chunkOf.texts[found.texts[index]], further: further(index) }])) };
}

async function loadPair() {
  const turn = ++pair.turn;
  const [track, taskName, a, b] = ["track", "task", "a", "b"].map((id) => control[id].value);
  const task = data.tasks[track]?.[taskName];
  if (!task) return;
  const [questions, ofA, ofB] = await Promise.all([chunk(task.questions), chunk(data.answers[track][a]), chunk(data.answers[track][b])]);
  if (turn !== pair.turn) return; // another pair was chosen meanwhile
  const [left, right] = [ofA, ofB].map((of) => answersOf(of, taskName, task, control.seed.value));
  pair.task = task;
  pair.names = { a, b };
  pair.pairs = [];
  for (const [entry, answerA] of left.byEntry) {
    const answerB = right.byEntry.get(entry);
    if (!answerB) continue;
    pair.pairs.push({ document: questions.documents[entry], prompt: questions.prompts[entry], target: questions.targets[entry], a: answerA, b: answerB, who: verdict(task, answerA.value, answerB.value) });
  }
  const asked = (side) => new Set([...side.byEntry.keys()].map((entry) => questions.documents[entry]));
  const [askedA, askedB] = [asked(left), asked(right)];
  const common = [...askedA].filter((number) => askedB.has(number)).length;
  const alone = askedA.size + askedB.size - 2 * common;
  pair.note = [];
  if (common > pair.pairs.length) pair.note.push(`${(common - pair.pairs.length).toLocaleString("en")} documents are left out: their document or prompt hashes disagree between the two runs.`);
  if (alone) pair.note.push(`${alone.toLocaleString("en")} documents are left out: only one of the two runs answered them.`);
  for (const [letter, run, side] of [["A", a, left], ["B", b, right]]) {
    if (side.seed !== control.seed.value && side.seed !== undefined) pair.note.push(`Run ${letter} (${run}) is shown under seed ${side.seed}, since it has no seed ${control.seed.value}.`);
  }
  drawFilters();
  choosePairs();
}

function verdict(task, a, b) {
  if (task.binary) return a && b ? "both" : a ? "a" : b ? "b" : "neither";
  if (a === b || a === null || b === null) return "both";
  return a > b === task.higher ? "a" : "b";
}

function drawFilters() {
  const kinds = FILTERS[pair.task.binary ? "right" : "better"];
  if (!kinds.some(([value]) => value === pair.only)) pair.only = "all";
  const radio = ([value, text]) => {
    const count = value === "all" ? pair.pairs.length : pair.pairs.filter((one) => one.who === value).length;
    const input = make("input", { type: "radio", name: "only", value, checked: value === pair.only });
    input.addEventListener("change", () => { pair.only = value; choosePairs(); });
    return make("label", {}, input, make("span", {}, `${text} `, make("b", {}, count.toLocaleString("en"))));
  };
  document.getElementById("filters").replaceChildren(...kinds.map(radio));
}

function choosePairs() {
  const words = document.getElementById("words").value.toLowerCase();
  const has = (one) => [one.prompt, one.target, one.a.text, one.b.text].some((text) => text.toLowerCase().includes(words));
  pair.shown = pair.pairs.filter((one) => (pair.only === "all" || one.who === pair.only) && (!words || has(one)));
  pair.until = PAGE;
  const list = document.getElementById("list");
  list.replaceChildren();
  document.getElementById("documents-note").replaceChildren(...[`${pair.shown.length.toLocaleString("en")} of ${pair.pairs.length.toLocaleString("en")} documents.`, ...pair.note].map((line) => make("span", {}, name(line), " ")));
  addCards(0);
}

function addCards(from) {
  const list = document.getElementById("list");
  list.querySelector(".more")?.remove();
  const cards = pair.shown.slice(from, pair.until).map(card);
  list.append(...cards);
  if (from) cards[0]?.focus();
  const rest = pair.shown.length - pair.until;
  if (rest > 0) {
    list.append(button(`Show ${Math.min(PAGE, rest)} more of ${rest.toLocaleString("en")}`, () => {
      const next = pair.until;
      pair.until += PAGE;
      addCards(next);
    }, { class: "more" }));
  }
}

function mark(value) {
  if (value === null) return make("span", { class: "wrong" }, "not a number");
  if (!pair.task.binary) return make("span", { class: "value" }, `${number(value)} ${pair.task.unit}`);
  return make("span", { class: value ? "right" : "wrong" }, value ? "✓ right" : "✗ wrong");
}

// What else was measured of an answer: turns, tokens, errors.
function numbersOf(found) {
  const there = found.further.filter(([, value]) => value !== undefined && value !== null);
  return there.length ? make("p", { class: "further" }, there.map(([heading, value]) => `${heading} ${value}`).join(" · ")) : null;
}

function card(one) {
  const side = (letter, found) => make("div", { class: "side" }, make("h4", {}, make("span", {}, `${letter}: `, name(pair.names[letter.toLowerCase()])), mark(found.value)), found.text === "" && !pair.task.binary ? null : answer(found.text, pair.task), numbersOf(found));
  const question = one.prompt ? [make("h4", {}, "Question"), longText(one.prompt, { head: 500, tail: 700 })] : [];
  return make("article", { class: `card ${one.who}`, tabindex: -1 },
    make("h3", {}, `Document ${one.document + 1}`),
    ...question, make("h4", {}, one.prompt ? "Target" : "Text"), longText(one.target, { kind: "target" }),
    make("div", { class: "sides" }, side("A", one.a), side("B", one.b)));
}
