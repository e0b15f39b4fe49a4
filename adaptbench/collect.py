"""Joins the runs of a preset into one set of scores: the seam between running and concluding.

    runs.json         every run.json, as it is
    samples.parquet   every document of every run
    scores.csv        one row per run and task: mean over seeds and documents, interval, and change against the base

A run that is missing or damaged stands in runs.json with that status and the reason, so that every table says it; the
others are still collected.
"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptbench import registry, results, statistics
from adaptbench.contracts import AdaptbenchError, Derived, Task
from adaptbench.files import write_text

if TYPE_CHECKING:
    import pandas as pd

SCORE_COLUMNS = (
    "track", "run", "task", "metric", "mean", "low", "high", "seeds", "documents", "change", "change_low", "change_high",
)  # fmt: skip


def run(paths: list[Path], out: Path) -> None:
    """Collect the run.json files at `paths` into the directory `out`."""
    import pandas as pd

    runs, samples = [], []
    for path in paths:
        try:
            one = results.read_run(path)
            rows = results.read_samples(path.with_name("samples.parquet"))
        except AdaptbenchError as error:
            print(f"left out: {error}", file=sys.stderr)
            track, name, seed = path.parts[-4:-1]
            key = {"track": track, "run": name, "seed": int(seed.removeprefix("seed"))}
            runs.append({"key": key, "status": "left out", "reason": str(error)})
            continue
        runs.append(one)
        samples.append(rows)
    if not any(run["status"] != "left out" for run in runs):
        raise AdaptbenchError("no run to collect")
    empty = pd.DataFrame(columns=results.SAMPLE_COLUMNS)
    together = pd.concat([rows for rows in samples if len(rows)] or [empty], ignore_index=True)
    results.write_samples(out / "samples.parquet", together)
    write_text(out / "runs.json", json.dumps(runs, indent=1) + "\n")
    write_text(out / "scores.csv", scores(runs, together).to_csv(index=False))


def known_tasks() -> dict[str, Task]:
    """Every benchmark's tasks by name."""
    return {
        task.name: task
        for track in registry.tracks()
        for module in registry.discover(f"benchmarks.{track}").values()
        for task in module.TASKS
    }


def main_scores(scores: "pd.DataFrame") -> "pd.DataFrame":
    """The rows of each task's main metric."""
    main = [(task.name, task.metric) for task in known_tasks().values()]
    return scores[scores.set_index(["task", "metric"]).index.isin(main)]


def scores(runs: list[dict[str, Any]], samples: "pd.DataFrame") -> "pd.DataFrame":
    """One row per track, run, task and metric, with SCORE_COLUMNS.

    low and high bound the mean at 95 %; change, change_low and change_high are the mean paired difference after - base,
    empty for the base itself and where the base is missing.
    """
    import math

    import pandas as pd

    tasks = known_tasks()
    order = list(dict.fromkeys((run["key"]["track"], run["key"]["run"]) for run in runs if run["status"] == "done"))
    rows = []
    for track, name in order:
        of_run = samples[(samples["track"] == track) & (samples["run"] == name)]
        base = samples[(samples["track"] == track) & (samples["run"] == "base")]
        for task, metric in dict.fromkeys(zip(of_run["task"], of_run["metric"], strict=True)):
            mine, before = (rows[(rows["task"] == task) & (rows["metric"] == metric)] for rows in (of_run, base))
            interval = statistics.two_level_bootstrap(*statistics.matrix(mine))
            row = {"track": track, "run": name, "task": task, "metric": metric, **vars(interval)}
            if name != "base" and len(before):
                change = statistics.two_level_bootstrap(*_change(mine, before))
                row |= {"change": change.mean, "change_low": change.low, "change_high": change.high}
            rows.append(row)
        for task, derived in ((one, of) for one in dict.fromkeys(of_run["task"]) for of in tasks[one].derived):
            found = _derived(of_run[of_run["task"] == task], derived)
            if not math.isnan(found.mean):
                rows.append({"track": track, "run": name, "task": task, "metric": derived.name, **vars(found)})
    return pd.DataFrame(rows, columns=list(SCORE_COLUMNS))


def _derived(samples: "pd.DataFrame", metric: Derived) -> statistics.Interval:
    """A metric of all documents together; it has no change against the base."""
    answers = [statistics.matrix(samples[samples["metric"] == name]) for name in metric.of]
    counts = metric.counts(*(one.values for one in answers))
    return statistics.bootstrap_of_sums(counts, metric.combine, answers[0].groups)


def _change(after: "pd.DataFrame", before: "pd.DataFrame") -> Any:
    """Values after minus values before on the same documents, as `statistics.matrix` gives them."""
    hashes = ["document_hash", "prompt_hash"]
    joined = after.merge(before[["document", *hashes, "value"]], on="document", suffixes=("", "_before"))
    if len(joined) != len(after) or any((joined[name] != joined[f"{name}_before"]).any() for name in hashes):
        raise AdaptbenchError(f"{after['run'].iloc[0]} and the base did not answer the same documents; run both again")
    return statistics.matrix(joined.assign(value=joined["value"] - joined["value_before"]))
