// Any number against any other, drawn by the library Plotly when the plot first comes into view.

const plot = { drawn: false, track: null };

function quoted(text) {
  return text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

// Which way is better is an arrow, so that the title is short enough for a phone.
function axisTitle(column, [more, less]) {
  const arrow = { 1: more, "-1": less }[column.better];
  return quoted(`${column.label}${column.unit ? ` (${column.unit})` : ""}${arrow ? ` · better ${arrow}` : ""}`);
}

function fillAxes() {
  const columns = shownColumns(shownRows());
  const entries = columns.map((column) => ({ value: column.key, text: column.label + (column.group === "further metrics" && column.unit ? ` (${column.unit})` : ""), group: column.group }));
  const kept = columns.find((column) => column.group === "scores" && column.general) ?? columns[0];
  const learned = columns.find((column) => column.group === "scores" && !column.general) ?? kept;
  const [across, up] = ["across", "up"].map((id) => document.getElementById(id));
  options(across, entries, entries.some(({ value }) => value === across.value) && state.kept ? across.value : kept?.key);
  options(up, entries, entries.some(({ value }) => value === up.value) && state.kept ? up.value : learned?.key);
}

function bars(values) {
  if (values.length < 3 || values[1] === null || values[2] === null) return { visible: false };
  return { type: "data", symmetric: false, array: [values[2] - values[0]], arrayminus: [values[0] - values[1]], thickness: 1, width: 3 };
}

// Runs that interpolate between others are joined to them, in the colour of their own.
function curveLine(rows, x, y) {
  if (rows.length < 3) return null;
  const along = rows.toSorted((one, other) => one.values[x.key][0] - other.values[x.key][0]);
  const [across, up] = [x, y].map(({ key }) => along.map((row) => row.values[key][0]));
  return { type: "scatter", mode: "lines", x: across, y: up, line: { color: colour(rows[0].look), width: 1 }, opacity: 0.6, showlegend: false, hoverinfo: "skip" };
}

async function drawPlot() {
  const [x, y] = ["across", "up"].map((id) => data.columns[document.getElementById(id).value]);
  if (!x || !y) return;
  await library("plotly");
  const rows = shownRows();
  const both = rows.filter((row) => [x, y].every(({ key }) => Number.isFinite(row.values[key]?.[0])));
  const several = new Set(rows.map((row) => row.track)).size > 1;
  const said = (row, column) => {
    const [mean, low, high] = row.values[column.key];
    return `${quoted(column.label)}: ${number(mean, column.form)}${Number.isFinite(low) ? ` [${number(low)}, ${number(high)}]` : ""}`;
  };
  const lines = Object.entries(data.curves).flatMap(([track, curves]) => curves.map((runs) => curveLine(runs.map((run) => both.find((row) => row.track === track && row.run === run)).filter(Boolean), x, y)));
  const points = both.map((row) => ({
    type: "scatter",
    mode: "markers",
    name: quoted(several ? `${row.track}/${row.run}` : row.run),
    x: [row.values[x.key][0]],
    y: [row.values[y.key][0]],
    error_x: bars(row.values[x.key]),
    error_y: bars(row.values[y.key]),
    marker: { color: colour(row.look), symbol: PLOTTED[row.look.marker] ?? "circle", size: row.run === "base" ? 15 : 10, line: { width: PLOTTED[row.look.marker]?.endsWith("-open") ? 2.5 : 0, color: colour(row.look) } },
    hovertemplate: `<b>${quoted(row.run)}</b><br>${said(row, x)}<br>${said(row, y)}<extra></extra>`,
  }));
  const style = getComputedStyle(document.documentElement);
  const ink = style.getPropertyValue("--ink").trim();
  const chart = document.getElementById("chart");
  const narrow = chart.clientWidth < 640;
  const axis = (column, id, arrows) => ({ title: { text: axisTitle(column, arrows), standoff: 8, font: { size: narrow ? 12 : 14 } }, type: document.getElementById(`${id}-log`).checked ? "log" : "linear", gridcolor: style.getPropertyValue("--line").trim(), zeroline: false, automargin: true, exponentformat: "SI", ticks: "outside", tickcolor: "transparent" });
  const legendRows = Math.ceil(points.length / 2);
  await Plotly.react(chart, [...lines.filter(Boolean), ...points], {
    height: narrow ? 400 + 19 * legendRows : Math.max(460, 60 + 19 * points.length),
    margin: { l: 60, r: 12, t: 12, b: 50 },
    paper_bgcolor: "transparent",
    plot_bgcolor: "transparent",
    font: { color: ink, family: "system-ui, sans-serif", size: 13 },
    xaxis: axis(x, "across", "→←"),
    yaxis: axis(y, "up", "→←"),
    showlegend: true,
    legend: narrow ? { orientation: "h", y: -0.2, yanchor: "top", x: 0, entrywidth: 0.5, entrywidthmode: "fraction" } : { x: 1.01, y: 1 },
    hoverlabel: { font: { family: "system-ui, sans-serif" } },
  }, { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"] });
  plot.drawn = true;
  chart.setAttribute("aria-label", `${both.length} runs by ${x.label} and ${y.label}; the numbers are in the table of runs.`);
  const left = rows.filter((row) => !both.includes(row)).map((row) => row.run);
  document.getElementById("chart-note").replaceChildren(...(left.length ? ["Without one of the two numbers: ", left.length > 8 ? `${left.length} runs` : name(left.join(", ")), "."] : []));
}

function startPlot() {
  for (const id of ["across", "up", "across-log", "up-log"]) {
    document.getElementById(id).addEventListener("change", () => { state.kept = true; drawPlot(); });
  }
  new IntersectionObserver((entries, observer) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    plot.drawn = true;
    drawPlot();
  }, { rootMargin: "200px" }).observe(document.getElementById("chart"));
}
