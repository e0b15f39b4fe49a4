"""What the scores of a table allow one to say: every run against the table's baseline, and which runs share the first place.

    comparisons.csv    one row per table, task and run of each kind

`baseline` rows hold a run against the run that the preset names: paired on the same documents and seeds, corrected (Holm) over all
such comparisons of the table. `leader` rows hold it against the best mean of the task, corrected over the task's: whoever is not
worse shares the first place, unless so few seeds or documents cannot tell. General tasks have leaders alone; what a run forgets of them is the table's own column.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from adaptbench import results, statistics
from adaptbench.collect import known_tasks
from adaptbench.contracts import AdaptbenchError, Task
from adaptbench.files import write_text
from adaptbench.statistics.comparisons import RELEVANT

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "table", "track", "kind", "task", "metric", "run", "against", "effect", "low", "high", "p", "p_holm", "detectable",
    "verdict", "test", "seeds", "documents", "note",
)  # fmt: skip
PLACES: Mapping[str, Literal["first", "perhaps"]] = {"leads": "first", "tie": "first", "untestable": "perhaps"}
"""What verdicts against the leader say of the first place: shared, or that too few seeds or documents cannot tell."""


def write(collected: Path, report: Path) -> None:
    """Write `collected`/comparisons.csv for the tables of the plan's `report`."""
    import pandas as pd

    samples = results.read_samples(collected / "samples.parquet")
    tasks = known_tasks()
    rows: list[dict[str, Any]] = []
    for name, table in json.loads(report.read_text())["tables"].items():
        mine = samples[(samples["track"] == table["track"]) & samples["run"].isin(table["runs"])]
        of_task = {task: main_answers(mine, tasks[task], table["runs"]) for task in dict.fromkeys(mine["task"])}
        rows += [{"table": name, "track": table["track"], **row} for row in of_table(of_task, table["baseline"])]
    write_text(collected / "comparisons.csv", pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(index=False))


def main_answers(samples: "pd.DataFrame", task: Task, runs: Sequence[str]) -> dict[str, statistics.Answers]:
    """By run, in the table's order: the values of the task's main metric."""
    main = samples[(samples["task"] == task.name) & (samples["metric"] == task.metric)]
    found = {str(run): statistics.answers(rows) for run, rows in main.groupby("run")}
    return {run: found[run] for run in runs if run in found}


def of_table(answers: Mapping[str, Mapping[str, statistics.Answers]], baseline: str) -> list[dict[str, Any]]:
    """The rows of one table; `answers` by task and run."""
    tasks = known_tasks()
    pairs = [
        (tasks[task], run, baseline)
        for task, by_run in answers.items()
        if not task.startswith("general") and baseline in by_run
        for run in by_run
        if run != baseline
    ]
    rows = _family("baseline", pairs, answers)
    for name, by_run in answers.items():
        task = tasks[name]
        means = {run: statistics.mean_interval(one).mean for run, one in by_run.items()}
        best = (max if task.higher_is_better else min)(means, key=lambda run: means[run])
        rows.append(
            {"kind": "leader", "task": name, "metric": task.metric, "run": best, "against": best, "verdict": "leads"}
        )
        rows += _family("leader", [(task, run, best) for run in by_run if run != best], answers)
    return rows


def _family(
    kind: str, pairs: Sequence[tuple[Task, str, str]], answers: Mapping[str, Mapping[str, statistics.Answers]]
) -> list[dict[str, Any]]:
    """Comparisons that are corrected together."""
    rows, differences, tested = [], [], []
    for task, run, against in pairs:
        row = {"kind": kind, "task": task.name, "metric": task.metric, "run": run, "against": against}
        other = answers[task.name][against]
        try:
            differences.append(statistics.paired(answers[task.name][run], other))
        except AdaptbenchError as error:
            rows.append(row | {"verdict": "untestable", "note": str(error)})
            continue
        tested.append((row, task, relevant(other)))
    for (row, task, least), (found, p) in zip(tested, statistics.family(differences), strict=True):
        verdict = found.verdict(p, task.higher_is_better, least)
        numbers = {name: value for name, value in vars(found).items() if name != "too_few"}
        rows.append(row | numbers | {"p_holm": p, "verdict": verdict, "note": found.too_few})
    return rows


def relevant(baseline: statistics.Answers) -> float:
    """The difference that a tie rules out: a tenth of a share's scale, else of the baseline's mean."""
    share = baseline.values.min() >= 0 and baseline.values.max() <= 1
    return RELEVANT if share else RELEVANT * abs(statistics.mean_interval(baseline).mean)
