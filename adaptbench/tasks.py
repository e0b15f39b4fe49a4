"""What an lm-eval task of a benchmark is, and a benchmark's splits."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from adaptbench.contracts import Record


@dataclass(frozen=True)
class Derived:
    """A metric of all documents together, such as a ratio or an F1: no mean of documents' values.

    `counts` is given the documents' values of the metrics `of` (arrays of one shape) and returns arrays of that shape;
    `combine` turns their sums over documents into the metric, which is between 0 and 1. Both work on numpy arrays; nothing to
    count gives nan.
    """

    name: str
    of: tuple[str, ...]
    counts: Callable[..., Sequence[Any]]
    combine: Callable[..., Any]


@dataclass(frozen=True)
class Task:
    """One lm-eval task and how its main number is shown.

    `more` are further metrics of the same answers, kept beside the main one; a document may lack any of them, the same
    ones whatever the model answers; `derived` are made of all documents' values of those. `shown` says which of both tables
    show beside the main one, as pairs of a metric and its heading. `weight`
    names the sample's field that weights a document, for metrics that are ratios; `group` the document's field whose equal
    values mark documents that belong together (the steps of one problem, say) and are drawn together for intervals. `episodes` says that answers are played episodes, kept as JSON to be read. `split` says what the task may be used
    for: "test" for reporting, "validation" for choosing. `primary` marks the track's main task of its split; hyper-parameters are chosen by the validation one.
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


class Splits(dict[str, list[Record]]):
    """A benchmark's splits by name, where some published records are in none of them.

    `left_out` tells why: for each source and each reason the numbers, from 1, of its records.
    """

    def __init__(self, splits: Mapping[str, list[Record]], left_out: Mapping[str, Mapping[str, Sequence[int]]]) -> None:
        super().__init__(splits)
        self.left_out = left_out
