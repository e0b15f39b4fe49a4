"""Read the parts of a preset's results: its main runs and, if there is one, the ablation.

A problem of one run becomes a notice of one line; everything else is still shown. A run that is in two parts counts
once.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from adaptbench.errors import AdaptbenchError
from adaptbench.graph.known_tasks import known_tasks
from adaptbench.io import results
from adaptbench.statistics.collect import SCORE_COLUMNS

if TYPE_CHECKING:
    import pandas as pd

Key = tuple[str, str, int]
"""A track, a run's name and a seed."""

COMPARISONS = "comparisons.csv"
SCORES = SCORE_COLUMNS[: SCORE_COLUMNS.index("high") + 1]
CHANGES = ("documents", "change", "change_low", "change_high")


@dataclass
class Results:
    """The results of all parts.

    Attributes:
        runs: every run.json by its key, in the order of the parts.
        scores: rows of done runs.
        samples: rows of done runs, with each task's main metric only.
        further: the values of the further metrics that tables show.
        tables: the plans' tables by name, each with its part.
        order: every run of the preset.
        comparisons: the rows of comparisons.csv by part, as text.
        notices: problems, a line each.
    """

    runs: dict[Key, dict[str, Any]]
    scores: "pd.DataFrame"
    samples: "pd.DataFrame"
    further: "pd.DataFrame"
    tables: dict[str, dict[str, Any]]
    order: list[dict[str, Any]]
    comparisons: dict[str, list[list[str]]] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)


def read(parts: Sequence[tuple[Path, Path]]) -> Results:
    """Read the results in `parts`, pairs of a folder that `collect` wrote and the plan's report of it.

    A part that was never made is skipped.

    Raises:
        AdaptbenchError: no part was made, or one's runs.json or report is damaged.
    """
    import pandas as pd

    made = [(folder, report) for folder, report in parts if (folder / "runs.json").exists()]
    if not made:
        raise AdaptbenchError(f"{parts[0][0] / 'runs.json'}: missing; collect the runs first")
    runs: dict[Key, dict[str, Any]] = {}
    owner: dict[Key, Path] = {}
    found = Results(runs, pd.DataFrame(), pd.DataFrame(), pd.DataFrame(), {}, [])
    scores, samples, further = [], [], []
    for folder, report in made:
        plan = _json(report)
        name = _part_name(report)
        found.tables |= {table: content | {"part": name} for table, content in plan["tables"].items()}
        found.order = found.order or plan["order"]
        for run in _readable(_json(folder / "runs.json"), folder, found.notices):
            key = _key(run)
            if key in owner:
                if owner[key] == folder or run != runs[key]:
                    places = " and ".join(dict.fromkeys((owner[key].name, folder.name)))
                    found.notices.append(
                        f"{_shown(key)}: two different runs of this key in {places}; the first is shown"
                    )
                continue
            runs[key], owner[key] = run, folder
        mine = {key for key in runs if owner[key] == folder and runs[key]["status"] == "done"}
        scores.append(_read_scores(folder / "scores.csv", {key[:2] for key in mine}, found.notices))
        samples.append(_read_samples(folder / "samples.parquet", mine, found.notices))
        further.append(_read_further(folder / "samples.parquet", mine, len(samples[-1])))
        if (folder / COMPARISONS).exists():
            found.comparisons[name] = _read_comparisons(folder / COMPARISONS, found.notices)
    found.scores = pd.concat(scores, ignore_index=True).drop_duplicates(["track", "run", "task", "metric"])
    found.samples = pd.concat(samples, ignore_index=True)
    found.further = pd.concat(further, ignore_index=True)
    found.notices += _not_numbers(found)
    return found


def _part_name(report: Path) -> str:
    """Return the name of the part: `ablation` for report-ablation.json."""
    return report.stem.partition("-")[2] or report.stem


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise AdaptbenchError(f"{path}: missing") from None
    except (ValueError, RecursionError):
        raise AdaptbenchError(f"{path}: damaged; delete it and run again") from None


def _key(run: dict[str, Any]) -> Key:
    key = run["key"]
    return key["track"], key["run"], int(key["seed"])


def _shown(key: Key) -> str:
    track, run, seed = key
    return f"{track}/{run} seed {seed}"


def _readable(entries: Iterable[Any], folder: Path, notices: list[str]) -> Iterable[dict[str, Any]]:
    """Yield the entries of a runs.json; mark those that this version cannot read as left out, with the reason."""
    for number, run in enumerate(entries, 1):
        try:
            key, status, version = _key(run), run["status"], run.get("schema_version", 0)
            if status != "done":
                run["reason"] = str(run.get("reason") or "no reason given")
        except (KeyError, TypeError, ValueError, AttributeError):
            notices.append(f"{folder.name}/runs.json: entry {number} is damaged and left out")
            continue
        if not isinstance(version, int) or version > results.SCHEMA_VERSION:
            reason = f"schema version {version} is newer than {results.SCHEMA_VERSION}; update adaptbench"
            notices.append(f"{_shown(key)}: left out: {reason}")
            run = {"key": run["key"], "config": None, "status": "left out", "reason": reason}
        elif status == "done" and not _whole(run):
            notices.append(f"{_shown(key)}: left out: its run.json is damaged")
            run = {"key": run["key"], "config": None, "status": "left out", "reason": "damaged run.json"}
        yield run


def _whole(run: dict[str, Any]) -> bool:
    """Return True if a done run has the structure that rows, tables and the page's scripts need."""
    if not all(isinstance(run.get(name), dict) for name in ("metrics", "cost", "model", "provenance")):
        return False
    stages = run["cost"].get("stages")
    inner = [*run["metrics"].values(), *(stages.values() if isinstance(stages, dict) else [None])]
    return all(isinstance(one, dict) for one in inner)


def _read_scores(path: Path, runs: set[tuple[str, str]], notices: list[str]) -> "pd.DataFrame":
    import pandas as pd

    try:
        scores = pd.read_csv(path, dtype={"track": str, "run": str, "task": str, "metric": str}, keep_default_na=True)
        missing = [column for column in (*SCORES, *CHANGES) if column not in scores]
        if missing:
            raise ValueError(f"no column {missing[0]!r}")
        for column in (*SCORES[4:], *CHANGES):
            scores[column] = pd.to_numeric(scores[column], errors="coerce")
    except (OSError, ValueError) as error:
        notices.append(f"{path.parent.name}/{path.name}: {str(error).splitlines()[0]}; the page has no scores of it")
        return pd.DataFrame(columns=list(SCORE_COLUMNS))
    return scores.loc[[row in runs for row in zip(scores["track"], scores["run"], strict=True)]]


def _read_samples(path: Path, runs: set[Key], notices: list[str]) -> "pd.DataFrame":
    """Return the documents of `runs`, each once, with its task's main metric (the first one of an unknown task)."""
    import pandas as pd

    if not runs:
        return pd.DataFrame(columns=list(results.SAMPLE_COLUMNS))
    tasks = known_tasks()
    try:
        samples = results.read_samples(
            path, metrics={task.metric for task in tasks.values()}, tasks=set(tasks), strict=False
        )
    except AdaptbenchError as error:
        notices.append(f"{error}; the page has no documents of it")
        return pd.DataFrame(columns=list(results.SAMPLE_COLUMNS))
    first = samples.drop_duplicates("task").set_index("task")["metric"]
    main = {task: tasks.or_unknown(str(task), metric).metric for task, metric in first.items()}
    samples = _of(samples[samples["metric"] == samples["task"].map(main)], runs)
    return samples.drop_duplicates(["track", "run", "seed", "task", "document"])


def _of(samples: "pd.DataFrame", runs: set[Key]) -> "pd.DataFrame":
    """Return the rows of `runs`."""
    keys = samples[["track", "run", "seed"]].drop_duplicates()
    wanted = keys.loc[[key in runs for key in zip(keys["track"], keys["run"], keys["seed"], strict=True)]]
    return samples.merge(wanted, on=["track", "run", "seed"])


def _read_further(path: Path, runs: set[Key], readable: int) -> "pd.DataFrame":
    """Return the values of the further metrics that tables show, without the texts."""
    import pandas as pd

    columns = ["track", "run", "seed", "task", "document", "metric", "value"]
    wanted = [
        [("task", "==", task.name), ("metric", "in", {metric for metric, _ in task.shown})]
        for task in known_tasks().values()
        if task.shown
    ]
    if not readable:
        return pd.DataFrame(columns=columns)
    return _of(pd.read_parquet(path, columns=columns, filters=wanted), runs)


def _read_comparisons(path: Path, notices: list[str]) -> list[list[str]]:
    """Return the heading and the rows as text."""
    import csv

    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [row for row in csv.reader(file) if row]
    except (OSError, ValueError, csv.Error):
        notices.append(f"{path.parent.name}/{path.name}: damaged")
        return []


def _not_numbers(found: Results) -> list[str]:
    """Return a line for each score and each metric of a run that is not a finite number."""
    lines = {}
    for each in found.scores.itertuples():
        row = cast(Any, each)
        ends = [math.isfinite(one) for one in (row.low, row.high)]  # of one document there are none
        if not math.isfinite(row.mean) or any(ends) != all(ends):
            lines[row.track, row.run, row.task, row.metric] = (
                f"{row.track}/{row.run}: {row.task} {row.metric} is not a number"
            )
    for key, run in found.runs.items():
        for task, metric in run.get("metrics", {}).items() if run["status"] == "done" else ():
            values = {metric.get("metric"): metric.get("value")} | (metric.get("more") or {})
            for name, value in values.items():
                if not isinstance(value, int | float) or not math.isfinite(value):
                    lines.setdefault((*key[:2], task, name), f"{_shown(key)}: {task} {name} is not a number")
    lost = found.samples[found.samples["value"].isna()]
    for (track, name, task), documents in lost.groupby(["track", "run", "task"]):
        lines.setdefault(
            (track, name, task, ""), f"{track}/{name}: {task}: {len(documents)} documents without a number"
        )
    return list(lines.values())
