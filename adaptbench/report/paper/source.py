"""A paper as data: its numbers, its claims, and the runs and tasks of ours that correspond to them.

Each paper is one file benchmarks/<track>/papers/<name>.yaml. Numbers are in per cent, as printed, in CSV; an empty cell
is an unknown number, never a guess. A claim names two cells, from which its direction and size are computed. Every
mistake in a file is reported in one line with the file and the key.
"""

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from pydantic import Field, model_validator

from adaptbench.contracts import StrictModel

PLACE = ("model", "setting", "method", "metric")


@dataclass(frozen=True)
class Cell:
    """One number of a paper's table, in per cent; `note` is a remark on it."""

    model: str
    setting: str
    method: str
    metric: str
    value: float
    note: str = ""


class Selector(StrictModel):
    """A selector of runs: the base, or the runs whose methods have these options.

    Options that are not given may have any value. A run with a post-hoc step or decoding options is never selected.
    """

    base: bool = False
    curriculum: dict[str, Any] | None = None
    tuner: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _whole(self) -> "Selector":
        given = (self.curriculum is not None, self.tuner is not None)
        if given != ((False, False) if self.base else (True, True)):
            raise ValueError("name a curriculum and a tuner, or base: true")
        return self


class Measured(StrictModel):
    """The metric and the task on which a claim is tested.

    Without `task` it is the first test of the preset's benchmark that has the metric; the metric `main` is the main
    test's main metric. If the preset evaluates lm-eval's task `stock`, which is the paper's, its main metric is used.
    """

    task: str | None = None
    metric: str
    stock: str | None = None


class Exact(StrictModel):
    """The measurement that the paper made.

    It is the main metric of lm-eval's task `stock` if the preset evaluates it, else the named task of a benchmark of
    the track.
    """

    benchmark: str | None = None
    task: str | None = None
    metric: str | None = None
    stock: str | None = None


class Metric(StrictModel):
    """Our measurements of a metric of the paper, in claims and as a number; a text is the reason for none."""

    claim: Measured | None = Field(None, description="counts the same way up as the paper's metric")
    number: Exact | str
    settings: dict[str, Exact] = Field({}, description="what stands for it in settings where `number` does not")


class Table(StrictModel):
    title: str
    source: str = Field(description="where the numbers were read")
    reliability: Literal["good", "single seed", "weak"]
    data: dict[str, Any] | str = Field(description="the benchmark to train on, or why there is none")
    reference: str = Field(description="the method against which a number has a direction")
    across: Literal["method", "metric"] = Field(description="what the columns of numbers name")
    numbers: str = Field(description="CSV; the other columns are of model, setting, method, metric, note")

    @model_validator(mode="after")
    def _read(self) -> "Table":
        seen = set()
        for cell in self.cells:
            place = tuple(getattr(cell, name) for name in PLACE)
            if place in seen:
                raise ValueError(f"numbers: {' '.join(filter(None, place))} twice")
            seen.add(place)
        if self.reference not in {cell.method for cell in self.cells}:
            raise ValueError(f"reference: no method {self.reference!r} in numbers")
        return self

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Return the known numbers, row by row."""
        rows = csv.DictReader(io.StringIO(self.numbers), strict=True)
        return tuple(cell for row in rows for cell in self._row(row, rows.line_num))

    def _row(self, row: Mapping[str | None, Any], line: int) -> Iterator[Cell]:
        if None in row or None in row.values():
            raise ValueError(f"numbers: line {line} has not as many columns as the first")
        place = {name: row.get(name, "").strip() for name in (*PLACE, "note")}
        for column, text in row.items():
            if column is None or column in place or not text.strip():
                continue
            try:
                value = float(text)
            except ValueError:
                value = math.nan
            if not math.isfinite(value):
                raise ValueError(f"numbers: line {line}: {column}: {text!r} is not a number")
            yield Cell(**(place | {self.across: column}), value=value)

    def value(self, model: str, setting: str, method: str, metric: str) -> float | None:
        """Return the number at that place, in per cent; None if it is not known."""
        wanted = (model, setting, method, metric)
        return next((cell.value for cell in self.cells if tuple(getattr(cell, n) for n in PLACE) == wanted), None)


class Claim(StrictModel):
    """The difference `method` - `against` of each of `metrics`, for one model and setting of a table.

    `ours` maps a side to other runs that correspond to it, such as a control that the paper lacks. `counted` are the
    metrics over which the paper's differences of the same sign are counted, in all models and settings; by default
    `metrics`.
    """

    table: str
    model: str
    setting: str = ""
    method: str
    against: str
    metrics: tuple[str, ...] = Field(strict=False, min_length=1)
    counted: tuple[str, ...] = Field((), strict=False)
    ours: dict[str, str] = Field({})


class Paper(StrictModel):
    name: str
    arxiv: str = Field(pattern=r"^\d{4}\.\d{5}$")
    notes: tuple[str, ...] = Field((), strict=False, description="what to know before believing the numbers")
    models: dict[str, str | None] = Field(description="the hub's name of each model; none where it is not known")
    runs: dict[str, Selector]
    metrics: dict[str, Metric]
    tables: dict[str, Table] = Field(min_length=1)
    claims: tuple[Claim, ...] = Field((), strict=False)


def effect(table: Table, claim: Claim, metric: str) -> float | None:
    """Return the paper's difference in points; None if one of its numbers is not known."""
    here = differences(table, claim, (metric,))
    return here.get((claim.model, claim.setting, metric))


def differences(table: Table, claim: Claim, metrics: Sequence[str]) -> dict[tuple[str, str, str], float]:
    """Return the paper's differences in points by model, setting and metric, where both numbers are known."""
    found = {}
    for cell in table.cells:
        other = table.value(cell.model, cell.setting, claim.against, cell.metric)
        if cell.method == claim.method and cell.metric in metrics and other is not None:
            found[cell.model, cell.setting, cell.metric] = round(cell.value - other, 6)  # no 5.680000000000007
    return found
