"""Pack questions and answers by column: the questions of each task once, the answers of each run once.

The page unpacks a task's questions and two runs' answers only when they are shown. A question is identified by its
document number and both hashes: runs with another question under the same number refer to other entries, and are not
compared on it.
"""

from typing import TYPE_CHECKING, Any

from adaptbench.graph.known_tasks import known_tasks
from adaptbench.report.explorer.embed import Chunks

if TYPE_CHECKING:
    import pandas as pd

ENTRY = ["document", "document_hash", "prompt_hash"]


def pack(samples: "pd.DataFrame", further: "pd.DataFrame", chunks: Chunks) -> tuple[dict[str, Any], dict[str, Any]]:
    """Add all questions and answers to `chunks`; `further` holds the values of further metrics.

    Returns:
        The description of each task with the chunk of its questions, by track and task.
        The chunk of each run's answers, by track and run.
    """
    tasks: dict[str, Any] = {}
    answers: dict[str, dict[str, dict[str, Any]]] = {}
    named = known_tasks()
    numbers = _numbers(further)
    for track, task in samples[["track", "task"]].drop_duplicates().itertuples(index=False):
        mine = samples[(samples["track"] == track) & (samples["task"] == task)]
        metric = mine["metric"].iloc[0]
        meaning = named.or_unknown(task, metric)
        entries = mine.drop_duplicates(ENTRY).sort_values("document", kind="stable")
        number = {key: i for i, key in enumerate(entries[ENTRY].itertuples(index=False, name=None))}
        binary = bool(mine["value"].dropna().isin((0.0, 1.0)).all())
        tasks.setdefault(track, {})[task] = {
            "label": meaning.label,
            "unit": meaning.unit,
            "higher": meaning.higher_is_better,
            "binary": binary,
            "episodes": meaning.episodes,
            "general": meaning.general,
            "further": [[metric, heading] for metric, heading in meaning.shown if metric in meaning.more],
            "questions": chunks.add(_questions(entries)),
        }
        place = [number[key] for key in mine[ENTRY].itertuples(index=False, name=None)]
        for (run, seed), rows in mine.assign(place=place).groupby(["run", "seed"], sort=True):
            of_run = answers.setdefault(track, {}).setdefault(run, {})
            of_run.setdefault(task, {})[str(seed)] = _answers(rows, len(entries), binary)
            of_run[task][str(seed)]["further"] = {
                metric: [found.get(document) for document in rows.sort_values("place", kind="stable")["document"]]
                for metric, found in numbers.get((track, task, run, seed), {}).items()
            }
    return tasks, {track: {run: chunks.add(_share(of)) for run, of in runs.items()} for track, runs in answers.items()}


def _numbers(further: "pd.DataFrame") -> dict[Any, dict[str, dict[int, float]]]:
    """Return the documents' numbers by track, task, run and seed, then by metric; integers without a fraction."""
    found: dict[Any, dict[str, dict[int, float]]] = {}
    finite = further[further["value"].abs() < float("inf")]
    for (*key, metric), rows in finite.groupby(["track", "task", "run", "seed", "metric"]):
        values = [int(value) if value == int(value) else float(f"{value:.4g}") for value in rows["value"].tolist()]
        found.setdefault(tuple(key), {})[str(metric)] = dict(zip(rows["document"].tolist(), values, strict=True))
    return found


def _questions(entries: "pd.DataFrame") -> dict[str, Any]:
    return {
        "documents": entries["document"].tolist(),
        "prompts": entries["prompt"].fillna("").tolist(),
        "targets": entries["target"].fillna("").tolist(),
    }


def _answers(rows: "pd.DataFrame", entries: int, binary: bool) -> dict[str, Any]:
    """Return one seed's answers: the index of each question (None if all in order), the values, the texts."""
    rows = rows.sort_values("place", kind="stable")
    place = rows["place"].tolist()
    values = rows["value"].tolist()
    return {
        "entries": None if place == list(range(entries)) else place,
        "values": "".join(map(_right, values)) if binary else [_short(value) for value in values],
        "texts": rows["prediction"].fillna("").tolist(),
    }


def _right(value: float) -> str:
    return "?" if value != value else "1" if value else "0"


def _short(value: float) -> float | None:
    return float(f"{value:.5g}") if abs(value) < float("inf") else None


def _share(tasks: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return a run's answers with each distinct text stored once, over all seeds and tasks."""
    codes: dict[str, int] = {}
    for seeds in tasks.values():
        for answers in seeds.values():
            answers["texts"] = [codes.setdefault(text, len(codes)) for text in answers["texts"]]
    return {"texts": list(codes), "tasks": tasks}
