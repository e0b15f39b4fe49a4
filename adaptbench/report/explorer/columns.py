"""Columns of the page: heading, unit, definition, which direction is better, how a number is written."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from adaptbench.graph.known_tasks import known_tasks
from adaptbench.tasks import Task

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Column:
    """One number of a run.

    `better` is 1 where higher is better, -1 where lower is, 0 where neither. `shown` columns are visible when the page
    opens. `general` marks the score of a task of general ability.
    """

    key: str
    label: str
    unit: str
    about: str
    group: Literal["scores", "forgetting", "cost", "further metrics"]
    better: int = 0
    form: Literal["score", "count", "seconds", "bytes"] = "score"
    shown: bool = True
    general: bool = False


def _cost(
    name: str, label: str, about: str, form: Literal["count", "seconds", "bytes"] = "count", *, shown: bool = True
) -> Column:
    return Column(f"cost/{name}", label, "", about, "cost", -1, form, shown)


COSTS = (
    _cost("trained_parameters", "trained parameters", "Weights that training changes, in the stage that trains most."),
    _cost("wall_seconds", "seconds", "Seconds of the run's stages, with start-up, without compiling.", "seconds"),
    _cost("flops", "training FLOPs", "Floating-point operations of training, estimated from the matrix products."),
    _cost("tokens", "tokens", "Tokens that the run's training read, with padding."),
    _cost("peak_bytes", "peak memory", "The largest memory of a stage during training.", "bytes"),
    _cost("disk_bytes", "disk", "Size of the model, or team of models, as saved.", "bytes"),
    _cost("trained_tokens", "trained tokens", "Tokens with a label, on which the loss is computed.", shown=False),
    _cost("train_seconds", "training seconds", "Seconds in optimizer steps only.", "seconds", shown=False),
)  # fmt: skip
FORGOTTEN = "/forgotten"


def of_track(scores: "pd.DataFrame") -> list[Column]:
    """Return the columns of a track: its tasks, the general ones with what was forgotten, costs, further metrics."""
    named = known_tasks()
    own: list[Column] = []
    general: list[Column] = []
    further: list[Column] = []
    for name in dict.fromkeys(scores["task"]):
        metrics = list(dict.fromkeys(scores["metric"][scores["task"] == name]))
        task = named.or_unknown(name, metrics[0])
        place = general if task.general else own
        place += [_main(task)] if task.metric in metrics else []
        place += [_forgotten(task)] if place is general else []
        place += [_more(task, metric, heading) for metric, heading in task.shown if metric in metrics]
        shown = {task.metric, *(metric for metric, _ in task.shown)}
        further += [_more(task, metric, metric, shown=False) for metric in metrics if metric not in shown]
    return [*own, *general, *COSTS, *further]


def together(tracks: Iterable[Sequence[Column]]) -> dict[str, Column]:
    """Return the columns of all tracks by key."""
    return {column.key: column for columns in tracks for column in columns}


def _main(task: Task) -> Column:
    direction = "Higher is better." if task.higher_is_better else "Lower is better."
    about = f"Task {task.name}, metric {task.metric}: mean over seeds and documents with its 95 % interval. {direction}"
    better = 1 if task.higher_is_better else -1
    return Column(f"{task.name}/{task.metric}", task.label, task.unit, about, "scores", better, general=task.general)


def _forgotten(task: Task) -> Column:
    about = (
        f"The loss of the base's {task.label}, document by document, with its 95 % interval. "
        "Above 0 the run is worse than the base, below 0 better."
    )
    return Column(task.name + FORGOTTEN, f"{task.label} forgotten", task.unit, about, "forgetting", -1)


def _more(task: Task, metric: str, heading: str, shown: bool = True) -> Column:
    about = f"Task {task.name} ({task.label}), metric {metric}: mean over seeds and documents with its 95 % interval."
    label = heading if shown else f"{task.label}: {heading}"
    return Column(f"{task.name}/{metric}", label, task.label if shown else "", about, "further metrics", shown=shown)
