"""Types of a benchmark's lm-eval tasks and splits."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from adaptbench.contracts import Record


@dataclass(frozen=True)
class Derived:
    """A metric over all documents together, such as a ratio or an F1, that is no mean of documents' values.

    Attributes:
        name: the metric's name.
        of: the per-document metrics that `counts` takes.
        counts: maps the documents' values of `of` (numpy arrays of one shape) to arrays of that shape.
        combine: maps the sums of those arrays over documents to the metric, between 0 and 1; nan if there is nothing to
            count.
    """

    name: str
    of: tuple[str, ...]
    counts: Callable[..., Sequence[Any]]
    combine: Callable[..., Any]


@dataclass(frozen=True)
class Task:
    """One lm-eval task and how its main metric is shown.

    Attributes:
        name: the task's name in lm-eval.
        metric: the main metric.
        label: the task's heading in tables and figures.
        unit: the main metric's unit.
        higher_is_better: whether a larger value is better.
        more: further metrics of the same answers. A document may lack some; which ones does not depend on the answers.
        derived: metrics computed from all documents' values of the metrics above.
        shown: pairs (metric, heading) of `more` and `derived` that tables show beside the main one.
        weight: the sample's field that weights a document, for metrics that are ratios.
        group: the document's field that is equal for documents that belong together, such as the steps of one problem.
            They are resampled together for intervals.
        episodes: whether answers are played episodes, kept as JSON to be read.
        split: "test" for reporting, "validation" for choosing hyper-parameters.
        primary: whether it is the track's main task of its split; the validation one chooses hyper-parameters.
        general: whether it measures general ability, and so what a method forgets.
    """

    name: str
    metric: str
    label: str
    unit: str
    higher_is_better: bool = True
    more: tuple[str, ...] = ()
    derived: tuple[Derived, ...] = ()
    shown: tuple[tuple[str, str], ...] = ()
    weight: str | None = None
    group: str | None = None
    episodes: bool = False
    split: Literal["test", "validation"] = "test"
    primary: bool = False
    general: bool = False


class Splits(dict[str, list[Record]]):
    """A benchmark's splits by name, where some published records are in none of them.

    `left_out` maps each source and each reason to the numbers, from 1, of the records that were left out.
    """

    def __init__(self, splits: Mapping[str, list[Record]], left_out: Mapping[str, Mapping[str, Sequence[int]]]) -> None:
        super().__init__(splits)
        self.left_out = left_out
