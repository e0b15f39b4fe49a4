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

function drawComparisons() {
  const parts = Object.entries(data.comparisons).filter(([, rows]) => rows.length);
  document.getElementById("comparisons").hidden = !parts.length;
  for (const [part, [headings, ...rows]] of parts) {
    const head = make("tr", {}, ...headings.map((text) => make("th", { scope: "col" }, text)));
    const table = make("table", { class: "display", "aria-label": `Comparisons, ${part}` }, make("thead", {}, head));
    document.getElementById("comparison-tables").append(make("h3", {}, part), table);
    const cell = (index) => (row, type) => (type === "display" ? make("span", {}, row[index] ?? "") : row[index] ?? "");
    new DataTable(table, { data: rows, columns: headings.map((_, index) => ({ data: cell(index) })), order: [], autoWidth: false, pageLength: 25, lengthChange: false });
  }
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
  drawComparisons();
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
