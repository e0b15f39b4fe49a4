// The runs as a table of the library DataTables. Cells are nodes or plain numbers, never HTML.

let dataTable = null;

function shownRows() {
  const table = data.tables[state.which];
  return data.rows.filter((row) => !table || (row.track === table.track && table.runs.includes(row.run)));
}

function shownColumns(rows) {
  const tracks = [...new Set(rows.map((row) => row.track))];
  const keys = [...new Set(tracks.flatMap((track) => data.tracks[track] ?? []))];
  const order = ["scores", "forgetting", "cost", "further metrics"];
  const there = keys.filter((key) => rows.some((row) => key in row.values)).map((key) => data.columns[key]);
  return tracks.length > 1 ? there.sort((a, b) => order.indexOf(a.group) - order.indexOf(b.group)) : there;
}

function runCell(row, several) {
  const open = button("", () => openRun(row.track, row.run), { class: "link", "data-tip": row.method.join(" ") || null });
  open.append(swatch(row.look), name(row.run));
  const cell = make("div", { class: "run-cell" }, open);
  if (several) cell.append(make("span", { class: "quiet" }, name(row.track)));
  if (row.status !== "done") cell.append(make("span", { class: "status", "data-tip": row.reasons.join("; "), tabindex: 0 }, row.status));
  return cell;
}

function scoreCell(values, column, row) {
  if (!values.length) return "";
  const [mean, low, high] = values;
  const cell = make("div", { class: "number" }, make("span", { class: data.first[state.which]?.[`${row.run}/${column.key}`] }, number(mean, column.form)));
  if (Number.isFinite(low)) cell.append(make("span", { class: "interval" }, `${number(low)} – ${number(high)}`));
  return cell;
}

function heading(column) {
  const unit = column.unit ? make("span", { class: "unit" }, column.unit) : null;
  return make("th", { scope: "col", "data-tip": column.about }, make("span", {}, column.label), " ", unit);
}

function escaped(text) {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

// Runs without a number come last, whichever way the column is sorted.
function registerOrder() {
  const order = DataTable.ext.type.order;
  const sorted = (sign) => (a, b) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return sign * (a - b);
  };
  order["value-asc"] = sorted(1);
  order["value-desc"] = sorted(-1);
}

function drawTable() {
  const rows = shownRows();
  const columns = shownColumns(rows);
  const several = new Set(rows.map((row) => row.track)).size > 1;
  if (dataTable) dataTable.destroy(true);
  const runHeading = make("th", { scope: "col", "data-tip": "The run's name; it opens where the run's numbers come from." }, "run");
  const statusHeading = make("th", { scope: "col", "data-tip": "Whether the run is done, under how many seeds, and if not why." }, "status");
  const head = make("thead", {}, make("tr", {}, runHeading, ...columns.map(heading), statusHeading));
  const element = make("table", { class: "display", id: "runs-table", "aria-labelledby": "runs-title" }, head);
  document.getElementById("table").replaceChildren(element);
  const score = (column) => (values, type, cells) => (type === "display" ? scoreCell(values, column, cells[0]) : values[0] ?? null);
  const says = (row) => [row.status, ...row.reasons].join("; ");
  const labels = ["run", ...columns.map((column) => column.label), "status"];
  dataTable = new DataTable(element, {
    data: rows.map((row) => [row, ...columns.map((column) => row.values[column.key] ?? []), row]),
    columns: [
      { render: (row, type) => (type === "display" ? runCell(row, several) : several ? `${row.run} ${row.track}` : row.run), type: "string", searchBuilderType: "string" },
      ...columns.map((column) => ({
        render: score(column),
        type: "value",
        searchBuilderType: "num",
        searchBuilderTitle: escaped(column.label),
        visible: column.shown,
        orderSequence: column.better === 1 ? ["desc", "asc", ""] : ["asc", "desc", ""],
      })),
      { render: (row, type) => (type === "display" ? make("span", { class: "reason" }, says(row)) : says(row)), type: "string", searchBuilderType: "string", visible: rows.some((row) => row.status !== "done") },
    ],
    order: [],
    orderMulti: true,
    autoWidth: false,
    pageLength: 50,
    lengthChange: false,
    paging: rows.length > 50,
    layout: {
      topStart: {
        buttons: [
          { extend: "colvis", text: "Columns", columns: ":gt(0)", columnText: (_, index) => escaped(labels[index]), collectionLayout: "columns", background: false },
          "searchBuilder",
          { extend: "csvHtml5", text: "Save as CSV", title: null, filename: state.which || "runs", exportOptions: { orthogonal: "export" } },
        ],
      },
      topEnd: { search: { placeholder: "run, status" } },
      bottomStart: "info",
      bottomEnd: rows.length > 50 ? "paging" : null,
    },
    language: { searchBuilder: { button: { 0: "Filter", _: "Filter (%d)" }, title: { 0: "Show runs for which", _: "Show runs for which (%d)" } }, search: "Search ", emptyTable: "No runs.", info: "_TOTAL_ runs", infoFiltered: "(of _MAX_)", infoEmpty: "No runs" },
  });
  const track = data.tables[state.which]?.track;
  document.getElementById("about").textContent = data.about[track] ?? "";
  document.getElementById("places").hidden = !data.first[state.which];
  drawGaps(rows);
}

// The runs that are not there, or not all of them, with their reasons.
function drawGaps(rows) {
  const entry = (row) => row.reasons.map((reason) => make("li", {}, name(`${row.track}/${row.run}`), ", ", name(reason)));
  document.getElementById("gaps").replaceChildren(...rows.flatMap(entry));
}
