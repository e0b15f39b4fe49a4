// Starts the page: the summary first, then what it shows; documents and provenance when they come into view.

let data = null;
const state = { which: "", kept: false };
const THEMES = ["system", "light", "dark"];

function theme() {
  try {
    return THEMES.includes(localStorage.getItem("theme")) ? localStorage.getItem("theme") : "system";
  } catch {
    return "system"; // a page from disk may have no storage
  }
}

function setTheme(wanted) {
  const dark = wanted === "dark" || (wanted === "system" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  document.documentElement.classList.toggle("dark", dark); // what DataTables goes by
  document.getElementById("theme").textContent = `Theme: ${wanted}`;
  if (data && plot.drawn) drawPlot();
}

function startTheme() {
  let wanted = theme();
  document.getElementById("theme").addEventListener("click", () => {
    wanted = THEMES[(THEMES.indexOf(wanted) + 1) % THEMES.length];
    try {
      localStorage.setItem("theme", wanted);
    } catch { /* it is kept for as long as the page is open */ }
    setTheme(wanted);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => setTheme(wanted));
  setTheme(wanted);
}

function show(which) {
  state.which = which;
  drawTable();
  drawComparisons();
  fillAxes();
  if (plot.drawn) drawPlot();
  const track = data.tables[which]?.track;
  if (track && track in data.answers && control.track.value !== track) {
    control.track.value = track;
    fillTrack();
    if (pair.turn) loadPair();
  }
  if (track && chosen.track.value !== track) {
    chosen.track.value = track;
    fillRuns();
    if (runTurn) drawRun();
  }
}

function whenSeen(id, action) {
  new IntersectionObserver((entries, observer) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    action();
  }, { rootMargin: "300px" }).observe(document.getElementById(id));
}

const COMPARED = { kind: "against the", effect: "effect", p: "p alone", p_holm: "p after Holm" };

// How a field of comparisons.csv is written: tasks by their label, numbers with three digits.
function comparedText(heading, text, row) {
  const column = data.columns[`${row.task}/${row.metric}`];
  const short = (value) => Number(value).toFixed(3);
  if (heading === "task" && column) return `${column.label} (${column.unit})`;
  if (heading === "effect" && text !== "") return `${short(text)} [${short(row.low)}, ${short(row.high)}]`;
  if (heading === "kind") return { leader: "best", kept: "baseline, general" }[text] ?? text;
  if (heading.startsWith("p") && text !== "" && Number(text) < 0.001) return "< 0.001";
  if (!/^-?\d+\.\d+(e-?\d+)?$/.test(text)) return text;
  return Number.isInteger(Number(text)) && ["seeds", "documents"].includes(heading) ? String(Number(text)) : short(text);
}

// The shown table's comparisons; all of them where all runs are shown.
function drawComparisons() {
  const box = document.getElementById("comparison-tables");
  box.replaceChildren();
  for (const [headings, ...rows] of Object.values(data.comparisons).filter((part) => part.length)) {
    const place = headings.indexOf("table");
    const shown = rows.filter((row) => place < 0 || !state.which || row[place] === state.which);
    if (!shown.length) continue;
    const one = (name) => new Set(shown.map((row) => row[headings.indexOf(name)])).size < 2;
    const hidden = new Set([...["table", "track", "test"].filter(one), ...(headings.includes("effect") ? ["metric", "low", "high", "relevant"] : [])]);
    const kept = headings.map((_, index) => index).filter((index) => !hidden.has(headings[index]));
    const head = make("tr", {}, ...kept.map((index) => make("th", { scope: "col" }, COMPARED[headings[index]] ?? headings[index])));
    const table = make("table", { class: "display", "aria-labelledby": "comparisons-title" }, make("thead", {}, head));
    box.append(table);
    const fields = (row) => Object.fromEntries(headings.map((heading, index) => [heading, row[index] ?? ""]));
    const numeric = headings.map((_, index) => shown.every((row) => !row[index] || Number.isFinite(Number(row[index]))));
    const cell = (index) => (text, type, row) => {
      if (type === "sort" || type === "type") return !numeric[index] ? text : text === "" ? null : Number(text);
      const written = comparedText(headings[index], text, fields(row));
      return type === "display" ? make("span", {}, written) : written;
    };
    new DataTable(table, {
      data: shown.map((row) => headings.map((_, index) => row[index] ?? "")),
      columns: kept.map((index) => ({ data: index, render: cell(index), type: numeric[index] ? "value" : "string" })),
      order: [], autoWidth: false, pageLength: 25, lengthChange: false, language: { search: "Search ", info: "_TOTAL_ rows", infoFiltered: "(of _MAX_)" },
    });
  }
  document.getElementById("comparisons").hidden = document.getElementById("to-comparisons").hidden = !box.children.length;
}

async function start() {
  startTheme();
  startTips();
  const summary = Number(document.getElementById("summary").textContent);
  [data] = await Promise.all([chunk(summary), library("tables")]);
  registerOrder();
  const select = document.getElementById("which");
  const tables = Object.entries(data.tables).filter(([, table]) => data.rows.some((row) => row.track === table.track && table.runs.includes(row.run)));
  const entries = tables.map(([id, table]) => ({ value: id, text: id.replaceAll("_", " "), group: table.part === "main" ? "tracks" : table.part }));
  options(select, [...entries, { value: "", text: "all runs" }], entries[0]?.value ?? "");
  select.addEventListener("change", () => show(select.value));
  state.which = select.value;
  startDocuments();
  startRun();
  startPlot();
  fillTrack();
  fillRuns();
  show(select.value);
  whenSeen("documents", () => { if (!pair.turn) loadPair(); });
  whenSeen("details", () => { if (!runTurn) drawRun(); });
  document.documentElement.dataset.ready = "yes";
}

start().catch((error) => {
  const problem = document.getElementById("problem");
  problem.hidden = false;
  problem.textContent = `The page could not start: ${error.message}. It needs a browser of 2023 or later.`;
  throw error;
});
