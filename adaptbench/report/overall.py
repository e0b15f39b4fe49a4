"""Write two tables over all tracks: gains, losses and costs of every run, and the cost card.

    overall     gain on the track's main task, tested against the track's baseline; loss of each general score; cost
    fairness    resources of each method: parameters, data, steps, FLOPs, time, memory, disk, and tries in tuning

Each part of the preset has its tables: the ablation's are `ablation_overall` and `ablation_fairness`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from adaptbench.graph.known_tasks import known_tasks
from adaptbench.graph.sweeps import Key, tried
from adaptbench.graph.targets import overall_tables
from adaptbench.io.files import write_text
from adaptbench.report import table_text
from adaptbench.report.fairness import COSTS, cost_card, mean_costs, note
from adaptbench.report.tables import forgotten, shown, write_texts
from adaptbench.statistics.collect import main_scores
from adaptbench.statistics.comparison_table import PLACES
from adaptbench.tasks import Task

if TYPE_CHECKING:
    import pandas as pd


OVERALL = (
    "Gain on the track's main task and loss of each general score against the base, with 95 % intervals; n: documents."
    " Bold and italic, the difference from the track's baseline, its p after Holm, verdict and detectable difference:"
    " as in the track's own table. Trained parameters: of the stage that trains most."
)


def write(collected: Path, report: Path, out: Path, only: str | None = None) -> None:
    """Write both tables, or the `only` one of that name, as .csv, .md and .tex."""
    planned = json.loads(report.read_text())
    overall, fairness = overall_tables(planned["part"])
    if only in (None, overall):
        table = gains(collected, report)
        write_text(out / f"{overall}.csv", table.to_csv(index=False))
        write_texts(_overall_blocks(table), OVERALL, out / overall)
    if only in (None, fairness):
        table, caption = cost_card(_runs(collected, planned), tried(planned["sweep"]), planned["sweep"])
        write_text(out / f"{fairness}.csv", table.to_csv(index=False))
        write_texts([_block(table)], caption, out / fairness)


def _runs(collected: Path, planned: Mapping[str, Any]) -> dict[Key, list[dict[str, Any]]]:
    """Return the runs of the plan's tables, all seeds of each."""
    runs = json.loads((collected / "runs.json").read_text())
    return {
        (table["track"], name): [run for run in runs if shown(run, table) and run["key"]["run"] == name]
        for table in planned["tables"].values()
        for name in table["runs"]
    }


def gains(collected: Path, report: Path) -> "pd.DataFrame":
    """Return the overall table, a row for each run; the ends of intervals are in further columns."""
    import pandas as pd

    planned = json.loads(report.read_text())
    by_key = _runs(collected, planned)
    tests = _tests(pd.read_csv(collected / "comparisons.csv"), planned["tables"])
    scores = main_scores(pd.read_csv(collected / "scores.csv"))
    tasks = known_tasks()
    found = {(row.track, row.run, row.task): cast(Any, row) for row in scores.itertuples()}
    general = [name for name in dict.fromkeys(scores["task"]) if tasks[name].general]
    main = {track: _main_task(track, scores, tasks) for track in dict.fromkeys(track for track, _ in by_key)}
    rows = []
    for (track, name), runs in by_key.items():
        done = [run for run in runs if run["status"] == "done"]
        own = found.get((track, name, main[track].name)) if main[track] else None
        row = {"track": track, "run": name, "task": main[track].label if main[track] else ""}
        row["n"] = own.documents if own else float("nan")
        row |= _changed("gain", own, main[track])
        row |= dict.fromkeys(TESTED, float("nan"))
        row |= tests.get((track, name, main[track].name), {}) if main[track] else {}
        for task in general:
            row |= _changed(f"{tasks[task].label} forgotten", found.get((track, name, task)), tasks[task], lost=True)
        row |= mean_costs(done, COSTS) | {"note": note(runs)}
        rows.append(row)
    return pd.DataFrame(rows)


TESTED = (
    "against",
    "difference",
    "difference low",
    "difference high",
    "p",
    "verdict",
    "detectable",
    "relevant",
    "place",
)


def _tests(comparisons: "pd.DataFrame", tables: Mapping[str, Any]) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Return the results of tests by track, run and task, from the first of `tables` with the run."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    first: dict[Key, str] = {}
    for name, table in tables.items():
        for run in table["runs"]:
            first.setdefault((table["track"], run), name)
    for row in map(cast(Any, dict), comparisons.to_dict("records")):
        if first.get((row["track"], row["run"])) != row["table"]:
            continue
        mine = found.setdefault((row["track"], row["run"], row["task"]), {})
        if row["kind"] == "leader":
            mine["place"] = PLACES.get(row["verdict"], "")
        elif row["kind"] == "baseline":
            mine |= {"against": row["against"], "difference": row["effect"], "difference low": row["low"]}
            mine |= {"difference high": row["high"], "p": row["p_holm"]}
            mine |= {name: row[name] for name in ("verdict", "detectable", "relevant")}
    return found


def _main_task(track: str, scores: "pd.DataFrame", tasks: Mapping[str, Task]) -> Any:
    """Return the track's primary task, else its first one; None if it has no task."""
    own = [tasks[name] for name in dict.fromkeys(scores[scores["track"] == track]["task"])]
    own = [task for task in own if not task.general]
    return next((task for task in own if task.primary), own[0] if own else None)


def _changed(name: str, score: Any, task: Task | None, *, lost: bool = False) -> dict[str, float]:
    """Return the change against the base with its interval: positive for a gain, or with `lost` for a loss."""
    if score is None or task is None or score.change != score.change:
        return {name: float("nan"), f"{name} low": float("nan"), f"{name} high": float("nan")}
    mean, low, high = forgotten(score, task)
    ends = (mean, low, high) if lost else (-mean, -high, -low)
    return dict(zip((name, f"{name} low", f"{name} high"), ends, strict=True))


def _overall_blocks(table: "pd.DataFrame") -> list[table_text.Block]:
    """Return the blocks of the overall table: gains and tests, then losses and costs."""
    rows = []
    for row in cast(list[dict[str, Any]], table.to_dict("records")):
        look = {"first": table_text.Bold, "perhaps": table_text.Italic}.get(row["place"], str)
        task = f"{row['task']} (n = {row['n']:,.0f})" if row["n"] == row["n"] else row["task"]
        gain = look(_cell("gain", row, interval=True))
        rows.append([row["track"], row["run"], task, gain, *_test(row)])
    headings = [
        "track",
        table_text.SubHeading("run"),
        "task",
        "gain",
        "against",
        *map(table_text.SubHeading, ("difference", "p", "verdict", "detectable")),
    ]
    return [(headings, rows), _block(table.drop(columns=["task", "n", "gain", "gain low", "gain high", *TESTED]))]


def _test(row: Mapping[str, Any]) -> list[str]:
    """Return the cells baseline, difference, p, verdict and detectable difference; empty if not tested."""
    if row["against"] != row["against"]:
        return [""] * 5
    if row["difference"] != row["difference"]:
        return [row["against"], "", "", row["verdict"], ""]
    return [
        row["against"],
        _cell("difference", row, interval=True),
        table_text.p_value(row["p"]),
        row["verdict"],
        table_text.detectable(row["detectable"], row["relevant"]),
    ]


def _block(table: "pd.DataFrame") -> table_text.Block:
    """Return the table as text, each number and its interval in one cell."""
    ends = {column for column in table.columns if column.endswith((" low", " high"))}
    columns = [column for column in table.columns if column not in ends]
    if not table["note"].any():
        columns.remove("note")
    rows = []
    for row in table.to_dict("records"):
        rows.append([_cell(column, row, f"{column} low" in ends) for column in columns])
    return [table_text.SubHeading(column) if column == "run" else column for column in columns], rows


def _cell(column: str, row: Mapping[Any, Any], interval: bool) -> str:
    value = row[column]
    if isinstance(value, str):
        return value
    if value != value:
        return ""
    if interval:
        return table_text.with_interval(
            value, row[f"{column} low"], row[f"{column} high"], sign=column in ("gain", "difference")
        )
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.2f}"
