"""Every number of a paper beside ours, where a preset ran that model on that data; elsewhere why there is none.

reproduced: the paper's number lies in our interval. direction reproduced: it does not, but against the table's reference method
ours has changed the way that the paper's has, surely (the interval of the paired difference leaves out zero), and both have learned
something. A number is never
held against one of another model or other data; a base's own, on a task of lm-eval, is of no data.
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
    """One number of a paper: all values in per cent, the difference (ours less the paper's) in points."""

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
    """One row a number, of all `papers` (by key: the track and the paper), in their order."""
    return [
        _row(Row(key, name, track, cell.model, cell.setting, cell.method, cell.metric, cell.value, note=cell.note), cell, paper, table, ours)
        for key, (track, paper) in papers.items()
        for name, table in paper.tables.items()
        for cell in table.cells
    ]  # fmt: skip


def _row(row: Row, cell: Cell, paper: Paper, table: Table, ours: Ours) -> Row:
    track = row.track
    try:
        ours.on_track(track)
        metric = paper.metrics[cell.metric]
        asked = metric.settings.get(cell.setting, metric.number)
        selector = paper.runs.get(cell.method)
        task, our_metric = ours.reproduces(
            track,
            hub=paper.models[cell.model],
            data=table.data,
            exact=asked,
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
    """Whether ours differs from our run of the reference method as the paper's number does from the reference's."""
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
