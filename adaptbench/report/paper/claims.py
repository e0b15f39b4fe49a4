"""Directions of differences that papers report, tested on our runs.

A claim is a difference between two numbers of a paper. Ours is the paired difference of the two corresponding runs on
our task. Its size has another meaning, so only the signs are compared. p-values are corrected (Holm) over all claims
with both runs. A claim is untestable if one of the runs did not learn, or hardly uses what its method adds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from adaptbench import statistics
from adaptbench.errors import AdaptbenchError
from adaptbench.report.paper.ours import NotRun, Ours
from adaptbench.report.paper.source import Claim, Paper, differences, effect
from adaptbench.statistics.comparison_table import relevant
from adaptbench.tasks import Task

VERDICTS = ("direction reproduced", "opposite", "not reproduced: tie", "untestable", "not run")


@dataclass(frozen=True)
class Row:
    """One claim with the paper's difference and ours.

    Attributes:
        paper_value: the paper's difference, in points.
        same_way, places: so many of the paper's differences (other models, settings, metrics) have the same sign.
        ours: our difference, in the unit of our metric. Our numbers are None if nothing was measured.
        why: the reason why nothing was measured, or a remark on the verdict.
    """

    paper: str
    table: str
    track: str
    model: str
    setting: str
    method: str
    against: str
    metric: str
    paper_value: float
    same_way: int
    places: int
    stand_in: str = ""
    run: str = ""
    against_run: str = ""
    task: str = ""
    our_metric: str = ""
    unit: str = ""
    ours: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    detectable: float | None = None
    relevant: float | None = None
    seeds: int | None = None
    documents: int | None = None
    verdict: str = "not run"
    why: str = ""


def rows(papers: Mapping[str, tuple[str, Paper]], ours: Ours) -> list[Row]:
    """Return a row for each claim and metric of all `papers` (key: track and paper), in their order."""
    begun = [
        _begin(key, track, paper, claim, metric=metric, ours=ours)
        for key, (track, paper) in papers.items()
        for claim in paper.claims
        for metric in claim.metrics
    ]
    tested = iter(statistics.family([pair[0] for _, pair in begun if pair is not None]))
    return [row if pair is None else judged(row, pair[1], *next(tested)) for row, pair in begun]


Pair = tuple[statistics.Answers, statistics.Answers]
"""Our paired differences, and the values of the run that is subtracted."""


def _begin(key: str, track: str, paper: Paper, claim: Claim, *, metric: str, ours: Ours) -> tuple[Row, Pair | None]:
    """Return the row without a verdict, and the answers to test; None if there is nothing to test."""
    table = paper.tables[claim.table]
    paper_value = effect(table, claim, metric)
    assert paper_value is not None  # names.py has checked it
    everywhere = differences(table, claim, claim.counted or (metric,)).values()
    row = Row(
        key, claim.table, track, claim.model, claim.setting, claim.method, claim.against, metric, paper_value,
        same_way=sum(other * paper_value > 0 for other in everywhere), places=len(everywhere),
        stand_in="; ".join(f"ours of {side}: {label}" for side, label in claim.ours.items()),
    )  # fmt: skip
    try:
        ours.on_track(track)
        row = replace(row, run=_run(claim.method, claim, track, paper, ours))
        row = replace(row, against_run=_run(claim.against, claim, track, paper, ours))
        measured = paper.metrics[metric].claim
        assert measured is not None
        task, our_metric = ours.task(track, measured)
        row = replace(row, task=task.name, our_metric=our_metric, unit=_unit(task, our_metric))
        mine = ours.answers(track, row.run, task.name, our_metric)
        other = ours.answers(track, row.against_run, task.name, our_metric)
    except NotRun as why:
        return replace(row, why=str(why)), None
    try:
        lacks = ours.lacks(track, row.run, row.against_run)
        difference = statistics.paired(mine, other, whole=not lacks)
        return replace(row, why=lacks or ours.untested(track, task, row.run, row.against_run)), (difference, other)
    except AdaptbenchError as error:
        return replace(row, verdict="untestable", why=str(error)), None


def _run(side: str, claim: Claim, track: str, paper: Paper, ours: Ours) -> str:
    label = claim.ours.get(side, side)
    return ours.run(track, label, paper.runs.get(label))


def judged(row: Row, against: statistics.Answers, found: statistics.Comparison, p_holm: float) -> Row:
    """Return the row with our difference and the verdict on the paper's direction; untestable if seeds are missing."""
    found = replace(found, too_few=row.why or found.too_few)
    least = relevant(against)
    said = found.verdict(p_holm, True, least)  # "better" means that our difference is positive
    if said in ("better", "worse"):
        verdict = "direction reproduced" if (found.effect > 0) == (row.paper_value > 0) else "opposite"
    else:
        verdict = "not reproduced: tie" if said == "tie" else "untestable"
    numbers = {name: value for name, value in asdict(found).items() if name in Row.__dataclass_fields__}
    return replace(row, ours=found.effect, p_holm=p_holm, relevant=least, verdict=verdict, why=found.too_few, **numbers)


def _unit(task: Task, metric: str) -> str:
    """Return the unit of our number, as the tables of runs name it."""
    return task.unit if metric == task.metric else dict(task.shown).get(metric, metric)


def counts(of: Sequence[Any]) -> dict[str, int]:
    """Count the rows with each verdict."""
    found: dict[str, int] = {}
    for one in of:
        found[one.verdict] = found.get(one.verdict, 0) + 1
    return found
