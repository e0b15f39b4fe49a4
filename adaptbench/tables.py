"""A table of runs as CSV (every number), Markdown and LaTeX (mean and interval): one a track, and those that runs name.

One row a run, one column a task; "forgotten" is what a run lost of the base's general score, positive when it is worse.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from adaptbench.collect import known_tasks, main_scores
from adaptbench.contracts import Task
from adaptbench.files import write_text

if TYPE_CHECKING:
    import pandas as pd


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
        rows, columns = layout(ours, main_scores(scores), table["runs"])
        write_text(out / f"{name}.csv", full_numbers(ours, scores).to_csv(index=False))
        write_text(out / f"{name}.md", markdown(rows, columns, _caption(ours)))
        write_text(out / f"{name}.tex", latex(rows, columns, _caption(ours)))


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


def trained_parameters(run: dict[str, Any]) -> int:
    """The most that any of the run's own stages trains."""
    own = [stage for stage in run["cost"]["stages"].values() if stage["kind"] == "train" and stage["parameters"]]
    return max((stage["parameters"]["trained"] for stage in own), default=0)


def layout(
    runs: Sequence[dict[str, Any]], scores: "pd.DataFrame", names: Sequence[str]
) -> tuple[list[list[str]], list[str]]:
    """Cells of the shown table, a row for each of `names`, the first column the run's name, and the column headings."""
    tasks = known_tasks()
    shown = [tasks[name] for name in dict.fromkeys(scores["task"])]
    shown.sort(key=lambda task: task.name.startswith("general"))
    columns = ["run"]
    for task in shown:
        columns.append(f"{task.label} ({task.unit})")
        if task.name.startswith("general"):
            columns.append("forgotten")
    columns += ["trained parameters", "seconds"]
    cells = {(str(row.run), str(row.task)): cast(Any, row) for row in scores.itertuples()}
    rows = []
    for name in names:
        named = [run for run in runs if run["key"]["run"] == name]
        mine = [run for run in named if run["status"] == "done"]
        if not mine:
            reason = f"{named[0]['status']}: {named[0]['reason']}" if named else "missing"
            rows.append([name, reason, *[""] * (len(columns) - 2)])
            continue
        row = [name if len(mine) == len(named) else f"{name} ({len(mine)} of {len(named)} seeds)"]
        for task in shown:
            cell = cells.get((name, task.name))
            row.append(_with_interval(cell.mean, cell.low, cell.high) if cell else "")
            if task.name.startswith("general"):
                row.append(_forgotten(cell, task) if cell and name != "base" else "")
        seconds = sum(run["cost"]["wall_seconds"] for run in mine) / len(mine)
        trained = max(trained_parameters(run) for run in mine)
        row += [f"{trained:,}" if name != "base" else "", f"{seconds:.0f}" if name != "base" else ""]
        rows.append(row)
    return rows, columns


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
    options = done[0]["evaluation"] if done else {}
    if options.get("limit"):
        caption += f" Only the first {options['limit']} documents of each task."
    if options.get("split") == "validation":
        caption += " On validation."
    left_out = [f"{run['key']['run']} seed {run['key']['seed']}" for run in runs if run["status"] == "left out"]
    return caption + (f" Left out, missing or damaged: {', '.join(left_out)}." if left_out else "")


def markdown(rows: Sequence[Sequence[str]], columns: Sequence[str], caption: str) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"

    rule = "| --- |" + " ---: |" * (len(columns) - 1) + "\n"
    return line(columns) + rule + "".join(line(row) for row in rows) + f"\n{caption}\n"


def latex(rows: Sequence[Sequence[str]], columns: Sequence[str], caption: str) -> str:
    """A booktabs table."""

    def line(cells: Sequence[str]) -> str:
        return " & ".join(_escape(cell) for cell in cells) + r" \\" + "\n"

    body = "".join(line(row) for row in rows)
    return (
        "\\begin{table}\n\\centering\n"
        f"\\caption{{{_escape(caption)}}}\n"
        f"\\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}\n\\toprule\n"
        f"{line(columns)}\\midrule\n{body}\\bottomrule\n\\end{{tabular}}\n\\end{{table}}\n"
    )


_LATEX = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def _escape(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
