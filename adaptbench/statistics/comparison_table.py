"""Compare every run of a table with the table's baseline and with the best run of each task.

    comparisons.csv    one row per table, task and run of each kind

`baseline` rows compare a run with the run that the preset names: paired by document and seed, corrected (Holm) over all
such comparisons of the table. `kept` rows do the same on the general tasks, as a separate family: which run forgets
more? `leader` rows compare a run with the best mean of the task, corrected over the task. A run that ties with the best
shares the first place; an untestable one may. Runs with missing seeds never lead and are compared on the seeds that
they have, without a verdict.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from adaptbench import statistics
from adaptbench.errors import AdaptbenchError
from adaptbench.graph.known_tasks import known_tasks
from adaptbench.io import results
from adaptbench.io.files import write_text
from adaptbench.statistics.comparisons import RELEVANT
from adaptbench.tasks import Task

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "table", "track", "kind", "task", "metric", "run", "against", "effect", "low", "high", "p", "p_holm", "detectable",
    "relevant", "verdict", "test", "seeds", "documents", "note",
)  # fmt: skip
PLACES: Mapping[str, Literal["first", "perhaps"]] = {"leads": "first", "tie": "first", "untestable": "perhaps"}
"""Place of a run by its verdict against the leader: it shares the first place, or perhaps does (untestable)."""


def write(collected: Path, report: Path) -> None:
    """Write `collected`/comparisons.csv for the tables of the plan's `report`."""
    import pandas as pd

    samples = results.read_samples(collected / "samples.parquet")
    runs = json.loads((collected / "runs.json").read_text())
    tasks = known_tasks()
    rows: list[dict[str, Any]] = []
    for name, table in json.loads(report.read_text())["tables"].items():
        mine = samples[(samples["track"] == table["track"]) & samples["run"].isin(table["runs"])]
        of_task = {task: main_answers(mine, tasks[task], table["runs"]) for task in dict.fromkeys(mine["task"])}
        missing = seeds_missing(run for run in runs if run["key"]["track"] == table["track"])
        found = of_table(of_task, table["baseline"], missing)
        rows += [{"table": name, "track": table["track"], **row} for row in found]
    write_text(collected / "comparisons.csv", pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(index=False))


def seeds_missing(runs: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return by name the runs of one track with missing seeds, each with the text "<done> of <planned> seeds"."""
    done: dict[str, list[bool]] = {}
    for run in runs:
        done.setdefault(run["key"]["run"], []).append(run["status"] == "done")
    return {name: f"{sum(seeds)} of {len(seeds)} seeds" for name, seeds in done.items() if not all(seeds)}


def lacks(pair: Sequence[str], missing: Mapping[str, str]) -> str:
    """Return a text that names the missing seeds of the compared runs, empty if none is missing."""
    return "; ".join(f"{run}: {missing[run]}" for run in pair if run in missing)


def main_answers(samples: "pd.DataFrame", task: Task, runs: Sequence[str]) -> dict[str, statistics.Answers]:
    """Return the values of the task's main metric by run, in the table's order."""
    main = samples[(samples["task"] == task.name) & (samples["metric"] == task.metric)]
    found = {str(run): statistics.answers(rows) for run, rows in main.groupby("run")}
    return {run: found[run] for run in runs if run in found}


def of_table(
    answers: Mapping[str, Mapping[str, statistics.Answers]],
    baseline: str,
    missing: Mapping[str, str] = MappingProxyType({}),
) -> list[dict[str, Any]]:
    """Return the rows of one table; `answers` by task and run, `missing` as `seeds_missing` returns it."""
    tasks = known_tasks()
    rows = []
    for kind in ("baseline", "kept"):
        pairs = [
            (tasks[task], run, baseline)
            for task, by_run in answers.items()
            if tasks[task].general == (kind == "kept") and baseline in by_run
            for run in by_run
            if run != baseline
        ]
        rows += _family(kind, pairs, answers, missing)
    for name, by_run in answers.items():
        task = tasks[name]
        means = {run: statistics.mean_interval(one).mean for run, one in by_run.items()}
        whole = [run for run in means if run not in missing]
        if not whole:
            continue
        best = (max if task.higher_is_better else min)(whole, key=lambda run: means[run])
        rows.append(
            {"kind": "leader", "task": name, "metric": task.metric, "run": best, "against": best, "verdict": "leads"}
        )
        rows += _family("leader", [(task, run, best) for run in by_run if run != best], answers, missing)
    return rows


def _family(
    kind: str,
    pairs: Sequence[tuple[Task, str, str]],
    answers: Mapping[str, Mapping[str, statistics.Answers]],
    missing: Mapping[str, str],
) -> list[dict[str, Any]]:
    """Return the rows of comparisons that are corrected together."""
    rows, differences, tested = [], [], []
    for task, run, against in pairs:
        row = {"kind": kind, "task": task.name, "metric": task.metric, "run": run, "against": against}
        other = answers[task.name][against]
        few = lacks((run, against), missing)
        try:
            differences.append(statistics.paired(answers[task.name][run], other, whole=not few))
        except AdaptbenchError as error:
            rows.append(row | {"verdict": "untestable", "note": str(error)})
            continue
        tested.append((row, task, relevant(other), few))
    for (row, task, least, few), (found, p) in zip(tested, statistics.family(differences), strict=True):
        found = replace(found, too_few=few or found.too_few)
        verdict = found.verdict(p, task.higher_is_better, least)
        numbers = {name: value for name, value in vars(found).items() if name != "too_few"}
        rows.append(row | numbers | {"p_holm": p, "relevant": least, "verdict": verdict, "note": found.too_few})
    return rows


def relevant(baseline: statistics.Answers) -> float:
    """Return the smallest relevant difference: a tenth of the scale for shares, else of the baseline's mean."""
    return RELEVANT if baseline.share else RELEVANT * abs(statistics.mean_interval(baseline).mean)
