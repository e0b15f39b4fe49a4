"""Join the runs of a preset into one set of scores, from which statistics and reports start.

    runs.json         every run.json, unchanged
    samples.parquet   every document of every run
    scores.csv        one row per run and task: mean over seeds and documents, interval, and change against the base

A missing or damaged run has that status and the reason in runs.json, so that every table shows it. The other runs are
still collected.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from adaptbench import statistics
from adaptbench.errors import AdaptbenchError
from adaptbench.graph.known_tasks import known_tasks
from adaptbench.io import results
from adaptbench.io.files import write_text
from adaptbench.tasks import Derived

if TYPE_CHECKING:
    import pandas as pd


AnswersKey = tuple[str, str, str, str]
"""Track, run, task and metric."""


SCORE_COLUMNS = (
    "track", "run", "task", "metric", "mean", "low", "high", "standard_error", "seeds", "documents",
    "change", "change_low", "change_high",
)  # fmt: skip


@dataclass
class _Collection:
    """Entries of runs.json in the order of the paths, and the samples of the readable runs by index of the entry."""

    runs: list[dict[str, Any]] = field(default_factory=list)
    samples: "dict[int, pd.DataFrame]" = field(default_factory=dict)

    def leave_out(self, place: int, reason: str) -> None:
        """Drop the samples of a run and keep the reason in its entry."""
        print(f"left out: {reason}", file=sys.stderr)
        self.runs[place] = {"key": self.runs[place]["key"], "status": "left out", "reason": reason}
        self.samples.pop(place, None)


def run(paths: list[Path], out: Path) -> None:
    """Collect the run.json files at `paths` into the directory `out`."""
    import pandas as pd

    collection = _read(paths)
    answered = _answers_of_runs(collection)
    if not any(run["status"] != "left out" for run in collection.runs):
        raise AdaptbenchError("no run to collect")
    empty = pd.DataFrame(columns=results.SAMPLE_COLUMNS)
    together = pd.concat([rows for rows in collection.samples.values() if len(rows)] or [empty], ignore_index=True)
    results.write_samples(out / "samples.parquet", together)
    write_text(out / "runs.json", json.dumps(collection.runs, indent=1) + "\n")
    write_text(out / "scores.csv", scores(collection.runs, answered).to_csv(index=False))


def _read(paths: list[Path]) -> _Collection:
    """Read the runs; leave out those that are missing, damaged, or in the folder of another run."""
    collection = _Collection()
    first_of_key: dict[tuple[Any, ...], Path] = {}
    for place, path in enumerate(paths):
        track, name, seed = path.parts[-4:-1]
        folder = {"track": track, "run": name, "seed": int(seed.removeprefix("seed"))}
        collection.runs.append({"key": folder})
        try:
            one = results.read_run(path)
            results.check_counted(one, path)
            rows = results.read_samples(path.with_name("samples.parquet"))
        except AdaptbenchError as error:
            collection.leave_out(place, str(error))
            continue
        first = first_of_key.setdefault(tuple(sorted(one["key"].items())), path)
        if first != path:
            collection.leave_out(place, f"{path}: has the key of {first}; delete one of both")
        elif any(one["key"][part] != value for part, value in folder.items()):
            key = "/".join(str(one["key"][part]) for part in folder)
            collection.leave_out(place, f"{path}: has the key {key}, not that of its folder; delete it and run again")
        else:
            collection.runs[place], collection.samples[place] = one, rows
    return collection


def _answers_of_runs(collection: _Collection) -> dict[AnswersKey, statistics.Answers]:
    """Return the answers of all runs; leave out runs whose seeds did not answer the same documents."""
    import pandas as pd

    seeds_of: dict[tuple[str, str], list[int]] = {}  # indices of the runs with documents, by track and name
    for place, rows in collection.samples.items():
        if len(rows):
            key = collection.runs[place]["key"]
            seeds_of.setdefault((key["track"], key["run"]), []).append(place)
    found: dict[AnswersKey, statistics.Answers] = {}
    for places in seeds_of.values():
        try:
            found |= answers(pd.concat([collection.samples[place] for place in places]))
        except AdaptbenchError as error:
            for place in places:
                collection.leave_out(place, str(error))
    return found


def main_scores(scores: "pd.DataFrame") -> "pd.DataFrame":
    """Return the rows of each task's main metric."""
    tasks = known_tasks()
    main = [(name, tasks[name].metric) for name in dict.fromkeys(scores["task"])]
    return scores[scores.set_index(["task", "metric"]).index.isin(main)]


def scores(runs: list[dict[str, Any]], answered: Mapping[AnswersKey, statistics.Answers]) -> "pd.DataFrame":
    """Return the scores: a row for each track, run, task and metric of `answered`, with SCORE_COLUMNS.

    low and high are the 95 % interval of the mean. change, change_low and change_high are the mean paired difference
    from the base; they are empty for the base and where the base is missing.
    """
    import math

    import pandas as pd

    tasks = known_tasks()
    shares = _shares(answered)
    order = list(dict.fromkeys((run["key"]["track"], run["key"]["run"]) for run in runs if run["status"] == "done"))
    rows = []
    for track, name in order:
        mine = {
            (task, metric): found
            for (of_track, run, task, metric), found in answered.items()
            if (of_track, run) == (track, name)
        }
        for (task, metric), found in mine.items():
            row = {
                "track": track,
                "run": name,
                "task": task,
                "metric": metric,
                **vars(statistics.mean_interval(found, share=(task, metric) in shares)),
            }
            before = answered.get((track, "base", task, metric))
            if name != "base" and before is not None:
                row |= _change(found, before)
            rows.append(row)
        for task, derived in (
            (one, of) for one in dict.fromkeys(task for task, _ in mine) for of in tasks[one].derived
        ):
            if not all((task, metric) in mine for metric in derived.of):
                continue  # a policy's answers lack metrics of a model's, such as seconds
            whole = _derived([mine[task, metric] for metric in derived.of], derived)
            if not math.isnan(whole.mean):
                rows.append({"track": track, "run": name, "task": task, "metric": derived.name, **vars(whole)})
    return pd.DataFrame(rows, columns=list(SCORE_COLUMNS))


def _shares(answered: Mapping[AnswersKey, statistics.Answers]) -> set[tuple[str, str]]:
    """Return the tasks and metrics whose values are 0 or 1 in all runs: shares of right answers, and not counts."""
    import numpy as np

    by_metric: dict[tuple[str, str], bool] = {}
    for (_, _, task, metric), found in answered.items():
        here = bool(np.isin(found.values, (0, 1)).all())
        by_metric[task, metric] = by_metric.get((task, metric), True) and here
    return {key for key, holds in by_metric.items() if holds}


def answers(samples: "pd.DataFrame") -> dict[AnswersKey, statistics.Answers]:
    """Return the answers of all samples, by track, run, task and metric.

    Raises:
        AdaptbenchError: a run's seeds did not answer the same documents.
    """
    grouped = samples.groupby(["track", "run", "task", "metric"], sort=False)
    return {cast(AnswersKey, of): statistics.answers(rows) for of, rows in grouped}


def _change(after: statistics.Answers, before: statistics.Answers) -> dict[str, float]:
    try:
        change = statistics.mean_interval(statistics.paired(after, before), share=False)
    except AdaptbenchError as error:
        print(f"no change against the base: {error}", file=sys.stderr)
        return {}
    return {"change": change.mean, "change_low": change.low, "change_high": change.high}


def _derived(answers: list[statistics.Answers], metric: Derived) -> statistics.Interval:
    """Return the interval of a metric of all documents together; such a metric has no change against the base."""
    counts = metric.counts(*(one.values for one in answers))
    found = statistics.interval_of_sums(counts, metric.combine, answers[0].groups)
    return replace(found, low=max(found.low, 0.0), high=min(found.high, 1.0))
