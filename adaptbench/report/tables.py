"""Write tables of runs as CSV (every number), Markdown and LaTeX (mean and interval): one per track, and those that
runs name.

Each run is a row, each task a column. "Forgotten" is the loss of the base's general score, positive if the run is
worse. Runs that share the first place of a task are bold, those that may share it italic. A second block compares every
run with the table's baseline.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from adaptbench.graph.known_tasks import known_tasks
from adaptbench.io.files import write_text
from adaptbench.report import latex, table_text
from adaptbench.statistics.comparison_table import PLACES
from adaptbench.tasks import Task

if TYPE_CHECKING:
    import pandas as pd


WIDEST = 14  # columns in one block


def write(collected: Path, report: Path, out: Path, only: str | None = None) -> None:
    """Write <table>.csv, .md and .tex for every table of the plan's `report`, or for the `only` one of that name."""
    import pandas as pd

    runs = json.loads((collected / "runs.json").read_text())
    everything = pd.read_csv(collected / "scores.csv")
    comparisons = pd.read_csv(collected / "comparisons.csv")
    for name, table in json.loads(report.read_text())["tables"].items():
        ours = [run for run in runs if shown(run, table)]
        if not ours or only not in (None, name):
            continue
        scores = everything[(everything["track"] == table["track"]) & everything["run"].isin(table["runs"])]
        compared = comparisons[comparisons["table"] == name]
        blocks = layout(ours, scores, table["runs"], compared)
        for kind in ("baseline", "kept"):
            effects = effects_block(compared[compared["kind"] == kind], table["runs"], table["baseline"])
            blocks += [effects] if effects[1] else []
        caption = _caption(ours, compared, table["baseline"])
        write_text(out / f"{name}.csv", full_numbers(ours, scores, compared).to_csv(index=False))
        write_texts(blocks, caption, out / name)


def write_texts(blocks: Sequence[table_text.Block], caption: str, stem: Path) -> None:
    """Write <stem>.md and .tex."""
    write_text(stem.with_name(f"{stem.name}.md"), table_text.markdown(blocks, caption))
    write_text(stem.with_name(f"{stem.name}.tex"), latex.tables(blocks, caption))


def shown(run: dict[str, Any], table: dict[str, Any]) -> bool:
    """Return True if the table shows the run."""
    return run["key"]["track"] == table["track"] and run["key"]["run"] in table["runs"]


def full_numbers(runs: Sequence[dict[str, Any]], scores: "pd.DataFrame", compared: "pd.DataFrame") -> "pd.DataFrame":
    """Return the scores with the comparisons and the mean cost of each run, and skipped runs with their reason."""
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
    key = ["run", "task", "metric"]
    against = compared[compared["kind"].isin(["baseline", "kept"])].set_index(key)[
        ["against", "effect", "low", "high", "p", "p_holm", "detectable", "verdict", "test", "note"]
    ]
    against = against.rename(columns={"low": "effect_low", "high": "effect_high"})
    leaders = compared[compared["kind"] == "leader"].set_index(key)
    first = (leaders["verdict"].map(PLACES) == "first").rename("shares_first_place")
    table = scores.join(first, on=key).join(against, on=key)
    if costs:
        table = table.merge(pd.DataFrame(costs).groupby("run", as_index=False).mean(), on="run", how="left")
    skipped = {run["key"]["run"]: run["reason"] for run in runs if run["status"] != "done"}
    notes = pd.DataFrame({"run": list(skipped), "track": runs[0]["key"]["track"], "skipped": list(skipped.values())})
    return pd.concat([table, notes], ignore_index=True) if skipped else table


def own_stages(run: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the run's training stages, without those of the base."""
    return [stage for stage in run["cost"]["stages"].values() if stage["kind"] == "train" and stage["parameters"]]


def trained_parameters(run: dict[str, Any]) -> int:
    """Return the largest number of parameters that one of the run's stages trains."""
    return max((stage["parameters"]["trained"] for stage in own_stages(run)), default=0)


def layout(
    runs: Sequence[dict[str, Any]], scores: "pd.DataFrame", names: Sequence[str], compared: "pd.DataFrame"
) -> list[table_text.Block]:
    """Return the blocks of the table, a row for each of `names`: the track's tasks, then general tasks and costs.

    A block has at most WIDEST columns.
    """
    tasks = known_tasks()
    shown = [tasks[name] for name in dict.fromkeys(scores["task"])]
    leading = compared[compared["kind"] == "leader"]
    looks = {
        (run, task): table_text.Bold if PLACES[verdict] == "first" else table_text.Italic
        for run, task, verdict in zip(leading["run"], leading["task"], leading["verdict"], strict=True)
        if verdict in PLACES
    }
    own = [_task_columns(task, scores, looks, change=False) for task in shown if not task.general]
    general = [_task_columns(task, scores, looks, change=True) for task in shown if task.general]
    rest = [column for columns in general for column in columns] + _cost_columns(runs)
    groups: list[list[Column]] = []
    for columns in [*own, rest]:
        if groups and len(groups[-1]) + len(columns) <= WIDEST:
            groups[-1] += columns
        else:
            groups.append(list(columns))
    return [_block(columns, runs, names) for columns in groups]


Column = tuple[str, Callable[[str], str]]
"""A heading, and a function from a run's name to its cell."""


def _task_columns(
    task: Task, scores: "pd.DataFrame", looks: Mapping[tuple[str, str], type[str]], *, change: bool
) -> list[Column]:
    """Return the columns of a task: main metric, its loss against the base (`change`), further shown metrics."""
    mine = scores[scores["task"] == task.name]
    found_of = {(str(row.run), str(row.metric)): cast(Any, row) for row in mine.itertuples()}

    def value(metric: str) -> Callable[[str], str]:
        def cell(run: str) -> str:
            found = found_of.get((run, metric))
            if not found:
                return ""
            shown = table_text.with_interval(found.mean, found.low, found.high)
            return looks.get((run, task.name), str)(shown) if metric == task.metric else shown

        return cell

    def lost(run: str) -> str:
        found = found_of.get((run, task.metric))
        return table_text.with_interval(*forgotten(found, task)) if found and found.change == found.change else ""

    documents = int(mine["documents"].max())
    columns: list[Column] = [(f"{task.label} ({task.unit}, n = {documents:,})", value(task.metric))]
    columns += [(table_text.SubHeading("forgotten"), lost)] if change else []
    return columns + [(heading, value(metric)) for metric, heading in task.shown]


def effects_block(compared: "pd.DataFrame", names: Sequence[str], baseline: str) -> table_text.Block:
    """Return each run's comparison with the baseline by task: effect, corrected p, verdict, detectable effect."""
    tasks = known_tasks()
    order = list(dict.fromkeys(compared["task"]))
    columns = [f"run against {baseline}"]
    for task in order:
        columns += [
            f"{tasks[task].label} ({tasks[task].unit})",
            *map(table_text.SubHeading, ("p", "verdict", "detectable")),
        ]
    found_of = {(str(row.run), str(row.task)): cast(Any, row) for row in compared.itertuples()}
    rows = []
    for name in names:
        if any((name, task) in found_of for task in order):
            rows.append([name, *(cell for task in order for cell in _effect(found_of.get((name, task))))])
    return columns, rows


def _effect(found: Any) -> list[str]:
    if found is None:
        return [""] * 4
    if found.effect != found.effect:
        return ["", "", f"{found.verdict}: {found.note}", ""]
    few = f" ({found.note})" if isinstance(found.note, str) and found.note else ""
    return [
        table_text.with_interval(found.effect, found.low, found.high, sign=True),
        table_text.p_value(found.p_holm),
        found.verdict + few,
        table_text.detectable(found.detectable, found.relevant),
    ]


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


def _block(columns: Sequence[Column], runs: Sequence[dict[str, Any]], names: Sequence[str]) -> table_text.Block:
    rows = []
    for name in names:
        named = [run for run in runs if run["key"]["run"] == name]
        done = [run for run in named if run["status"] == "done"]
        if done:
            label = name if len(done) == len(named) else f"{name} ({len(done)} of {len(named)} seeds)"
            rows.append([label, *(cell(name) for _, cell in columns)])
        else:
            reason = "; ".join(dict.fromkeys(f"{run['status']}: {run['reason']}" for run in named)) or "missing"
            rows.append([name, reason, *[""] * (len(columns) - 1)])
    return ["run", *(heading for heading, _ in columns)], rows


def forgotten(score: Any, task: Task) -> tuple[float, float, float]:
    """Return the loss against the base with its interval, from a row of scores.csv; nan if there is no base."""
    if task.higher_is_better:
        return -score.change, -score.change_high, -score.change_low
    return score.change, score.change_low, score.change_high


def _caption(runs: Sequence[dict[str, Any]], compared: "pd.DataFrame", baseline: str) -> str:
    done = [run for run in runs if run["status"] == "done"]
    seeds = len({run["key"]["seed"] for run in done if run["key"]["run"] != "base"})
    over = f"{seeds} seeds and the documents" if seeds > 1 else "the documents, 1 seed"
    caption = (
        f"Mean and 95 % interval, of each number alone, over {over}; n: documents. Bold: the task's best and what ties"
        " with it; italic: not shown to be worse than the best after Holm, nor to be as good."
    )
    caption += " Forgotten: loss against the base."
    if any(len(own_stages(run)) > 1 for run in done):
        caption += " Trained parameters: of the stage that trains most; seconds: of all stages."
    counts = [int((compared["kind"] == kind).sum()) for kind in ("baseline", "kept")]
    if any(counts):
        kept = f", on general tasks over all {counts[1]}" if counts[1] else ""
        caption += (
            f" Against {baseline}: paired by document and seed; intervals of each comparison alone, p after Holm over"
            f" all {counts[0]}{kept}. Better, worse: by that p; tie: the interval holds no difference of a tenth;"
            " untestable: neither. Detectable: the difference found four times in five, none where the whole scale is"
            " too small."
        )
        if seeds == 1:
            caption += " With one seed this is about these models, not about the methods."
    options = done[0]["evaluation"] if done else {}
    if options.get("limit"):
        caption += f" Only the first {options['limit']} documents of each task."
    if options.get("split") == "validation":
        caption += " On validation."
    left_out = [f"{run['key']['run']} seed {run['key']['seed']}" for run in runs if run["status"] == "left out"]
    return caption + (f" Left out, missing or damaged: {', '.join(left_out)}." if left_out else "")
