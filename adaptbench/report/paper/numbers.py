"""Numbers of papers beside ours, where a preset ran the same model on the same data; elsewhere the reason why not.

reproduced: our interval contains the paper's number. direction reproduced: it does not, but our difference from the
table's reference method has the paper's sign and is significant (the interval of the paired difference excludes zero),
and both runs have learned. Numbers of other models or other data are never compared; the number of an untrained base on
a task of lm-eval depends on no training data.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from adaptbench import statistics
from adaptbench.errors import AdaptbenchError
from adaptbench.graph.known_tasks import known_tasks
from adaptbench.report.paper.ours import NotRun, Ours
from adaptbench.report.paper.source import Cell, Paper, Table


@dataclass(frozen=True)
class Row:
    """One number of a paper and ours: values in per cent, the difference (ours - paper's) in points."""

    paper: str
    table: str
    track: str
    model: str
    setting: str
    method: str
    metric: str
    paper_value: float
    run: str = ""
    task: str = ""
    our_metric: str = ""
    ours: float | None = None
    low: float | None = None
    high: float | None = None
    difference: float | None = None
    seeds: int | None = None
    documents: int | None = None
    verdict: str = "not run"
    why: str = ""
    note: str = ""


def rows(papers: Mapping[str, tuple[str, Paper]], ours: Ours) -> list[Row]:
    """Return a row for each number of all `papers` (key: track and paper), in their order."""
    return [
        _row(
            Row(key, name, track, cell.model, cell.setting, cell.method, cell.metric, cell.value, note=cell.note),
            cell, paper, table, ours,
        )
        for key, (track, paper) in papers.items()
        for name, table in paper.tables.items()
        for cell in table.cells
    ]  # fmt: skip


def _row(row: Row, cell: Cell, paper: Paper, table: Table, ours: Ours) -> Row:
    track = row.track
    try:
        ours.on_track(track)
        metric = paper.metrics[cell.metric]
        exact = metric.settings.get(cell.setting, metric.number)
        selector = paper.runs.get(cell.method)
        task, our_metric = ours.reproduces(
            track,
            hub=paper.models[cell.model],
            data=table.data,
            exact=exact,
            trained=selector is None or not selector.base,
        )
        run = ours.run(track, cell.method, selector)
        mine = ours.answers(track, run, task, our_metric)
    except NotRun as why:
        return replace(row, why=str(why))
    found = statistics.mean_interval(mine)
    mean, low, high = (100 * one for one in (found.mean, found.low, found.high))
    row = replace(
        row, run=run, task=task, our_metric=our_metric, ours=mean, low=low, high=high,
        difference=mean - cell.value, seeds=found.seeds, documents=found.documents,
    )  # fmt: skip
    if math.isnan(low):
        return replace(row, low=None, high=None, verdict="untestable")
    if low <= cell.value <= high:
        return replace(row, verdict="reproduced")
    same = _same_way(cell, mine, paper=paper, table=table, ours=ours, track=track, measured=(task, our_metric))
    return replace(row, verdict="direction reproduced" if same else "not reproduced")


def _same_way(
    cell: Cell,
    mine: statistics.Answers,
    *,
    paper: Paper,
    table: Table,
    ours: Ours,
    track: str,
    measured: tuple[str, str],
) -> bool:
    """Return True if our run differs significantly from our reference run, in the direction of the paper's numbers."""
    reference = table.value(cell.model, cell.setting, table.reference, cell.metric)
    if reference is None or reference == cell.value:
        return False
    try:
        run = ours.run(track, table.reference, paper.runs.get(table.reference))
        if ours.untested(track, known_tasks()[mine.task], mine.run, run):
            return False
        found = statistics.compare(statistics.paired(mine, ours.answers(track, run, *measured)))
    except AdaptbenchError:
        return False
    return found.low > 0 if cell.value > reference else found.high < 0
