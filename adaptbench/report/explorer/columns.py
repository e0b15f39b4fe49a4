"""What the page's columns are: heading, unit, definition, which direction is better, how a number is written."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from adaptbench.graph.known_tasks import known_tasks
from adaptbench.tasks import Task

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Column:
    """One number of a run. `better` is 1 where more is better, -1 where less is, 0 where neither; `shown` says that
    the table shows it at first.
    """

    key: str
    label: str
    unit: str
    about: str
    group: Literal["scores", "forgetting", "cost", "further metrics"]
    better: int = 0
    form: Literal["score", "count", "seconds", "bytes"] = "score"
    shown: bool = True


COSTS = (
    Column("cost/trained_parameters", "trained parameters", "", "Weights that training moves; of a run's several stages, the most.", "cost", -1, "count"),
    Column("cost/wall_seconds", "seconds", "", "Seconds of all the run's own stages, start-up and saving included, compiling left out.", "cost", -1, "seconds"),
    Column("cost/flops", "training FLOPs", "", "Floating-point operations of training, estimated from the matrix products.", "cost", -1, "count"),
    Column("cost/tokens", "tokens", "", "Tokens that the run's training read, padding included.", "cost", -1, "count"),
    Column("cost/peak_bytes", "peak memory", "", "The most memory that a stage held while training.", "cost", -1, "bytes"),
    Column("cost/disk_bytes", "disk", "", "Size of the model, or team of models, as saved.", "cost", -1, "bytes"),
    Column("cost/trained_tokens", "trained tokens", "", "Tokens that the loss was taken on.", "cost", -1, "count", shown=False),
    Column("cost/train_seconds", "training seconds", "", "Seconds in optimizer steps alone.", "cost", -1, "seconds", shown=False),
)  # fmt: skip
FORGOTTEN = "/forgotten"


def of_track(scores: "pd.DataFrame") -> list[Column]:
    """The columns of a track with these scores: its own tasks, the general ones with what was forgotten, costs, the rest."""
    named = known_tasks()
    own: list[Column] = []
    general: list[Column] = []
    further: list[Column] = []
    for name in dict.fromkeys(scores["task"]):
        metrics = list(dict.fromkeys(scores["metric"][scores["task"] == name]))
        task = named.or_unknown(name, metrics[0])
        place = general if name.startswith("general") else own
        place += [_main(task)] if task.metric in metrics else []
        place += [_forgotten(task)] if place is general else []
        place += [_more(task, metric, heading) for metric, heading in task.shown if metric in metrics]
        shown = {task.metric, *(metric for metric, _ in task.shown)}
        further += [_more(task, metric, metric, shown=False) for metric in metrics if metric not in shown]
    return [*own, *general, *COSTS, *further]


def together(tracks: Iterable[Sequence[Column]]) -> dict[str, Column]:
    """Every column by its key."""
    return {column.key: column for columns in tracks for column in columns}


def _main(task: Task) -> Column:
    direction = "Higher is better." if task.higher_is_better else "Lower is better."
    about = f"Task {task.name}, metric {task.metric}: mean over seeds and documents with its 95 % interval. {direction}"
    better = 1 if task.higher_is_better else -1
    return Column(f"{task.name}/{task.metric}", task.label, task.unit, about, "scores", better)


def _forgotten(task: Task) -> Column:
    about = (
        f"What the run lost of the base's {task.label}, document by document, with its 95 % interval. "
        "Above 0 it is worse than the base, below 0 better."
    )
    return Column(task.name + FORGOTTEN, f"{task.label} forgotten", task.unit, about, "forgetting", -1)


def _more(task: Task, metric: str, heading: str, shown: bool = True) -> Column:
    about = f"Task {task.name} ({task.label}), metric {metric}: mean over seeds and documents with its 95 % interval."
    label = heading if shown else f"{task.label}: {heading}"
    return Column(f"{task.name}/{metric}", label, task.label if shown else "", about, "further metrics", shown=shown)
