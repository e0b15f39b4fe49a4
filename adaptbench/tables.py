"""A table of runs as CSV (every number), Markdown and LaTeX (mean and interval): one a track, and those that runs name.

One row a run, one column a task; "forgotten" is what a run lost of the base's general score, positive when it is worse.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from adaptbench.collect import known_tasks
from adaptbench.contracts import Task
from adaptbench.files import write_text

if TYPE_CHECKING:
    import pandas as pd


WIDEST = 14  # columns in one block


def write(collected: Path, report: Path, out: Path) -> None:
    """Write <table>.csv, .md and .tex for every table of the plan's `report`."""
    import pandas as pd

    runs = json.loads((collected / "runs.json").read_text())
    everything = pd.read_csv(collected / "scores.csv")
    for name, table in json.loads(report.read_text())["tables"].items():
        ours = [run for run in runs if shown(run, table)]
        if not ours:
            continue
        scores = everything[(everything["track"] == table["track"]) & everything["run"].isin(table["runs"])]
        blocks = layout(ours, scores, table["runs"])
        write_text(out / f"{name}.csv", full_numbers(ours, scores).to_csv(index=False))
        write_text(out / f"{name}.md", markdown(blocks, _caption(ours)))
        write_text(out / f"{name}.tex", latex(blocks, _caption(ours)))


def shown(run: dict[str, Any], table: dict[str, Any]) -> bool:
    return run["key"]["track"] == table["track"] and run["key"]["run"] in table["runs"]


def full_numbers(runs: Sequence[dict[str, Any]], scores: "pd.DataFrame") -> "pd.DataFrame":
    """The scores with each run's mean cost beside them, and skipped runs with their reason."""
    import pandas as pd

    costs = [
        {
            "run": run["key"]["run"],
            "trained_parameters": trained_parameters(run),
            "training_tokens": run["cost"]["tokens"],
            "training_flops": run["cost"]["flops"],
            "trained_tokens": run["cost"]["trained_tokens"],
            "training_seconds": run["cost"]["train_seconds"],
            "stage_seconds": run["cost"]["wall_seconds"],
            "peak_bytes": run["cost"]["peak_bytes"],
            "model_bytes": run["model"]["bytes"],
        }
        for run in runs
        if run["status"] == "done"
    ]
    table = scores
    if costs:
        table = scores.merge(pd.DataFrame(costs).groupby("run", as_index=False).mean(), on="run", how="left")
    skipped = {run["key"]["run"]: run["reason"] for run in runs if run["status"] != "done"}
    notes = pd.DataFrame({"run": list(skipped), "track": runs[0]["key"]["track"], "skipped": list(skipped.values())})
    return pd.concat([table, notes], ignore_index=True) if skipped else table


def own_stages(run: dict[str, Any]) -> list[dict[str, Any]]:
    """The training stages that the run has beyond the base."""
    return [stage for stage in run["cost"]["stages"].values() if stage["kind"] == "train" and stage["parameters"]]


def trained_parameters(run: dict[str, Any]) -> int:
    """The most that any of the run's own stages trains."""
    return max((stage["parameters"]["trained"] for stage in own_stages(run)), default=0)


Block = tuple[list[str], list[list[str]]]
"""Headings and rows of cells, the first column the run's name."""


def layout(runs: Sequence[dict[str, Any]], scores: "pd.DataFrame", names: Sequence[str]) -> list[Block]:
    """The shown table, a row for each of `names`: one block, or where it would be too wide one for each of the track's
    tasks and one for the rest.
    """
    tasks = known_tasks()
    shown = [tasks[name] for name in dict.fromkeys(scores["task"])]
    own = [_task_columns(task, scores, change=False) for task in shown if not task.name.startswith("general")]
    general = [_task_columns(task, scores, change=True) for task in shown if task.name.startswith("general")]
    rest = [column for columns in general for column in columns] + _cost_columns(runs)
    whole = [column for columns in own for column in columns] + rest
    groups = [whole] if len(whole) <= WIDEST else [*own, rest]
    return [_block(columns, runs, names) for columns in groups]


Column = tuple[str, Callable[[str], str]]
"""A heading, and the cell of the run of that name."""


def _task_columns(task: Task, scores: "pd.DataFrame", change: bool) -> list[Column]:
    """The main metric, what was lost of it against the base, and the further metrics that the task shows."""
    mine = scores[scores["task"] == task.name]
    cells = {(str(row.run), str(row.metric)): cast(Any, row) for row in mine.itertuples()}

    def value(metric: str) -> Callable[[str], str]:
        def cell(run: str) -> str:
            found = cells.get((run, metric))
            return _with_interval(found.mean, found.low, found.high) if found else ""

        return cell

    def forgotten(run: str) -> str:
        found = cells.get((run, task.metric))
        return _forgotten(found, task) if found and run != "base" else ""

    columns: list[Column] = [(f"{task.label} ({task.unit})", value(task.metric))]
    columns += [("forgotten", forgotten)] if change else []
    return columns + [(heading, value(metric)) for metric, heading in task.shown]


def _cost_columns(runs: Sequence[dict[str, Any]]) -> list[Column]:
    def of(run: str) -> list[dict[str, Any]]:
        return [one for one in runs if one["key"]["run"] == run and one["status"] == "done" and own_stages(one)]

    def trained(run: str) -> str:
        return f"{max(map(trained_parameters, of(run))):,}" if of(run) else ""

    def mean_of(run: str, number: Callable[[dict[str, Any]], float], form: str) -> str:
        return format(sum(map(number, of(run))) / len(of(run)), form) if of(run) else ""

    return [
        ("trained parameters", trained),
        ("seconds", lambda run: mean_of(run, lambda one: one["cost"]["wall_seconds"], ".0f")),
        ("MB on disk", lambda run: mean_of(run, lambda one: one["model"]["bytes"] / 1e6, ".2f")),
    ]


def _block(columns: Sequence[Column], runs: Sequence[dict[str, Any]], names: Sequence[str]) -> Block:
    rows = []
    for name in names:
        named = [run for run in runs if run["key"]["run"] == name]
        done = [run for run in named if run["status"] == "done"]
        if done:
            label = name if len(done) == len(named) else f"{name} ({len(done)} of {len(named)} seeds)"
            rows.append([label, *(cell(name) for _, cell in columns)])
        else:
            reason = f"{named[0]['status']}: {named[0]['reason']}" if named else "missing"
            rows.append([name, reason, *[""] * (len(columns) - 1)])
    return ["run", *(heading for heading, _ in columns)], rows


def _with_interval(mean: float, low: float, high: float) -> str:
    mean, low, high = (round(value, 3) + 0.0 for value in (mean, low, high))  # no -0.000
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]"


def _forgotten(cell: Any, task: Task) -> str:
    if cell.change != cell.change:  # the base is missing
        return ""
    if task.higher_is_better:
        return _with_interval(-cell.change, -cell.change_high, -cell.change_low)
    return _with_interval(cell.change, cell.change_low, cell.change_high)


def _caption(runs: Sequence[dict[str, Any]]) -> str:
    done = [run for run in runs if run["status"] == "done"]
    seeds = len({run["key"]["seed"] for run in done if run["key"]["run"] != "base"})
    over = f"{seeds} seeds and the documents" if seeds > 1 else "the documents, 1 seed"
    caption = f"Mean and 95 % interval over {over} (two-level bootstrap). Forgotten: loss against the base."
    if any(len(own_stages(run)) > 1 for run in done):
        caption += " Trained parameters: of the stage that trains most; seconds: of all stages."
    options = done[0]["evaluation"] if done else {}
    if options.get("limit"):
        caption += f" Only the first {options['limit']} documents of each task."
    if options.get("split") == "validation":
        caption += " On validation."
    left_out = [f"{run['key']['run']} seed {run['key']['seed']}" for run in runs if run["status"] == "left out"]
    return caption + (f" Left out, missing or damaged: {', '.join(left_out)}." if left_out else "")


def markdown(blocks: Sequence[Block], caption: str) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"

    def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
        rule = "| --- |" + " ---: |" * (len(columns) - 1) + "\n"
        return line(columns) + rule + "".join(line(row) for row in rows)

    return "\n".join(table(columns, rows) for columns, rows in blocks) + f"\n{caption}\n"


def latex(blocks: Sequence[Block], caption: str) -> str:
    """Booktabs tables under one caption."""

    def line(cells: Sequence[str]) -> str:
        return " & ".join(_escape(cell) for cell in cells) + r" \\" + "\n"

    def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
        body = "".join(line(row) for row in rows)
        alignment = f"l{'r' * (len(columns) - 1)}"
        return f"\\begin{{tabular}}{{{alignment}}}\n\\toprule\n{line(columns)}\\midrule\n{body}\\bottomrule\n\\end{{tabular}}"

    tables = "\n\n\\bigskip\n".join(table(columns, rows) for columns, rows in blocks)
    return f"\\begin{{table}}\n\\centering\n\\caption{{{_escape(caption)}}}\n{tables}\n\\end{{table}}\n"


_LATEX = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def _escape(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
