// Where a run's numbers come from: scores by seed, costs by stage, options, commit, versions, hardware.

const chosen = { track: make("select", { id: "run-track" }), run: make("select", { id: "run-name" }), seed: make("select", { id: "run-seed" }) };
let runTurn = 0;

function startRun() {
  const words = { track: "Track", run: "Run", seed: "Seed" };
  document.getElementById("which-run").append(...Object.entries(chosen).map(([id, select]) => labelled(words[id], select)));
  options(chosen.track, Object.keys(data.runs).map((track) => ({ value: track, text: track })));
  chosen.track.addEventListener("change", () => { fillRuns(); drawRun(); });
  chosen.run.addEventListener("change", drawRun);
  chosen.seed.addEventListener("change", drawRun);
}

function fillRuns(wanted) {
  const rows = data.rows.filter((row) => row.track === chosen.track.value);
  options(chosen.run, rows.map((row) => ({ value: row.run, text: row.run + (row.status === "done" ? "" : ` (${row.status})`) })), wanted);
}

function openRun(track, run) {
  chosen.track.value = track;
  fillRuns(run);
  drawRun();
  const section = document.getElementById("run");
  section.scrollIntoView();
  section.focus({ preventScroll: true });
}

// Nested options as lines `training.learning_rate`; those that are not set are left out.
function flat(value, path = "") {
  if (value === null || value === undefined) return [];
  if (typeof value !== "object") return [[path, String(value)]];
  if (Array.isArray(value) && value.every((inner) => inner === null || typeof inner !== "object")) return value.length ? [[path, value.join(", ")]] : [];
  return Object.entries(value).flatMap(([key, inner]) => flat(inner, path ? `${path}.${key}` : key));
}

function lines(title, value, open = false) {
  const found = flat(value);
  if (!found.length) return null;
  const rows = found.map(([path, text]) => make("tr", {}, make("th", { scope: "row" }, name(path)), make("td", {}, longText(text, { head: 300 }))));
  return make("details", { open }, make("summary", {}, title), make("div", { class: "scroll" }, make("table", { class: "plain options" }, make("tbody", {}, ...rows))));
}

function grid(title, headings, rows) {
  const head = make("tr", {}, ...headings.map(([text, tip]) => make("th", { scope: "col", "data-tip": tip, tabindex: tip ? 0 : null }, text)));
  const body = rows.map((cells) => make("tr", {}, ...cells.map((cell, index) => make(index ? "td" : "th", index ? {} : { scope: "row" }, index ? cell : name(cell)))));
  return make("div", {}, make("h3", {}, title), make("div", { class: "scroll" }, make("table", { class: "plain" }, make("thead", {}, head), make("tbody", {}, ...body))));
}

function scoresGrid(details) {
  const seeds = Object.entries(details.seeds).filter(([, run]) => run.status === "done");
  const of = (run, task, metric) => {
    const found = run.metrics[task];
    return found?.metric === metric ? found.value : found?.more?.[metric];
  };
  const between = (low, high) => (Number.isFinite(low) && Number.isFinite(high) ? `${number(low)} – ${number(high)}` : "");
  const rows = details.scores.map((score) => [
    `${score.task} ${score.metric}`, number(score.mean), between(score.low, score.high),
    score.change === null ? "" : number(score.change), between(score.change_low, score.change_high), number(score.documents, "count"),
    ...seeds.map(([, run]) => number(of(run, score.task, score.metric))),
  ]);
  const headings = [["task and metric"], ["mean", "Over seeds and documents."], ["95 % interval"], ["change", "Paired difference against the base: after minus before."], ["its 95 % interval"], ["documents"], ...seeds.map(([seed]) => [`seed ${seed}`, "This seed's own value, as its run.json says it."])];
  return grid("Scores", headings, rows);
}

function stagesGrid(run) {
  const text = (value, form) => (value === undefined || value === null ? "" : number(value, form));
  const rows = Object.entries(run.cost.stages ?? {}).map(([node, stage]) => [
    node, stage.kind, text(stage.parameters?.trained, "count"), text(stage.cost?.steps, "count"), text(stage.cost?.tokens, "count"), text(stage.cost?.flops, "count"),
    text(stage.seconds?.all, "seconds"), text(stage.cost?.peak_bytes, "bytes"), text(stage.cost?.final_loss), (stage.git?.commit ?? "").slice(0, 10) + (stage.git?.dirty ? " (changed)" : ""),
  ]);
  if (!rows.length) return null;
  const headings = [["stage", "Its folder under stages/; the end of the name is a hash of its options, parents and seed."], ["kind"], ["trained parameters"], ["steps"], ["tokens"], ["FLOPs"], ["seconds"], ["peak memory"], ["final loss", "Nats a token, on the stage's own mixture."], ["commit"]];
  return grid("Stages, first to last", headings, rows);
}

async function drawRun() {
  const turn = ++runTurn;
  const [track, run] = [chosen.track.value, chosen.run.value];
  const row = data.rows.find((one) => one.track === track && one.run === run);
  if (!row) return;
  const details = await chunk(data.runs[track][run]);
  if (turn !== runTurn) return;
  options(chosen.seed, Object.keys(details.seeds).map((seed) => ({ value: seed, text: seed })), chosen.seed.value);
  const one = details.seeds[chosen.seed.value];
  const box = document.getElementById("details");
  const title = make("h3", { class: "run-head" }, swatch(row.look), name(`${track} / ${run}`));
  const about = row.method.map((line) => make("p", {}, line));
  const gaps = row.reasons.map((reason) => make("li", {}, name(reason)));
  box.replaceChildren(title, ...about, ...(gaps.length ? [make("ul", { class: "gaps" }, ...gaps)] : []));
  const parts = [];
  if (details.scores.length) parts.push(scoresGrid(details));
  if (one.status === "done") {
    const { git, versions, hardware, ...rest } = one.provenance;
    parts.push(stagesGrid(one), make("h3", {}, `Seed ${chosen.seed.value}`),
      lines("Commit, hash, time", { commit: git?.commit, "files changed since": git?.dirty, "run hash": one.hash, finished: rest.finished, "model directory": one.model.directory }, true),
      lines("Options", one.config), lines("Hardware", hardware, true), lines("Package versions", versions),
      lines("Evaluation", { ...one.evaluation, seconds: one.seconds, peak_bytes: one.evaluation_peak_bytes }), lines("Model", { ...one.model, directory: null }),
      lines("Base model", rest.base), lines("Data", rest.data), lines("Kernels", rest.kernels));
  } else {
    parts.push(lines("Options", one.config, true));
  }
  box.append(...parts.filter(Boolean));
}
