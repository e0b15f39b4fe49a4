"""Holds a run of a preset against the kept reference: does each number fall inside the reference's interval, is each
verdict the same?

The intervals are over seeds and documents. Where another machine rounds otherwise, the base that the graph pre-trains
is another too, and with it every number: cells outside are then no error, but say how far the reference reaches. Runs
whose options are others than the reference's are another experiment, and named first.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from adaptbench.errors import AdaptbenchError
from adaptbench.io.files import write_text
from tools.reference import run_path

if TYPE_CHECKING:
    import pandas as pd

KEY = ["table", "run", "task", "metric"]
OURS, KEPT = ["mean", "verdict"], ["mean", "low", "high", "verdict"]


def write(results: Path, reference: Path) -> str:
    """Write `results`/verify.csv, a row a cell; returns a line for each track whose options are others, each table and
    each cell that lies outside.

    Raises:
        AdaptbenchError: there is no reference, or nothing to hold against it.
    """
    kept, ours = read(reference / "tables"), read(results / "tables")
    table = compared(ours, kept)
    write_text(results / "verify.csv", table.to_csv(index=False))
    lines = _of_options(results, reference)
    for name, cells in table.groupby("table", sort=False):
        counts = cells["status"].value_counts()
        told = ", ".join(
            f"{counts[status]} {status}" for status in ("inside", "outside", "missing") if status in counts
        )
        lines.append(f"{name}: {told}")
        outside = cells[cells["status"] == "outside"]
        lines += [
            f"  {row.run}, {row.task}, {row.metric}: {row.mean:.3f}, reference {row.reference:.3f} [{row.low:.3f}, {row.high:.3f}]"
            for row in outside.itertuples()
        ]
        lost = cells[cells["status"] == "missing"]
        lines += [f"  {row.run}, {row.task}, {row.metric}: missing" for row in lost.itertuples()]
        lines += _of_verdicts(cells.dropna(subset=["verdict", "reference_verdict"]))
    made = set(ours.index.get_level_values("table"))
    absent = [one for one in dict.fromkeys(kept.index.get_level_values("table")) if one not in made]
    lines += [f"{one}: not made" for one in absent]
    return "\n".join(lines)


def _of_options(results: Path, reference: Path) -> list[str]:
    """A line for each track with runs that the reference has under other options: of the run, its data, its base or its questions."""
    made, provenance = results / "collected" / "runs.json", reference / "provenance.json"
    if not made.exists() or not provenance.exists():
        return []
    kept = json.loads(provenance.read_text())["runs"]
    tracks: dict[str, dict[str, bool]] = {}
    for run in json.loads(made.read_text()):
        theirs = kept.get(run_path(run["key"]))
        if theirs is not None:
            known = tracks.setdefault(run["key"]["track"], {})
            known[run["key"]["run"]] = known.get(run["key"]["run"], True) and theirs == run["hash"]
    return [
        f"{track}: {len(others)} of {len(runs)} runs have other options than the reference's, and need not agree with it: {', '.join(others)}"
        for track, runs in tracks.items()
        if (others := [run for run, same in runs.items() if not same])
    ]


def _of_verdicts(cells: "pd.DataFrame") -> list[str]:
    """How many tests ended alike, and those that say the opposite; the others are undecided in one of the two, or a tie."""
    if cells.empty:
        return []
    alike = (cells["verdict"] == cells["reference_verdict"]).sum()
    opposite = [{row.verdict, row.reference_verdict} == {"better", "worse"} for row in cells.itertuples()]
    lines = [f"  verdicts: {alike} of {len(cells)} alike, {sum(opposite) or 'none'} reversed"]
    return lines + [
        f"  {row.run}, {row.task}, {row.metric}: {row.verdict}, reference {row.reference_verdict}"
        for row in cells[opposite].itertuples()
    ]


def read(tables: Path) -> "pd.DataFrame":
    """The scores of all tables of a folder, with KEY as index."""
    import pandas as pd

    found = []
    for path in sorted(tables.glob("*.csv")):
        table = pd.read_csv(path)
        if {"run", "task", "metric", "mean", "low", "high"} <= set(table.columns):
            scores = table[table["task"].notna()].assign(table=path.stem)
            found.append(scores if "verdict" in scores else scores.assign(verdict=None))
    if not found:
        raise AdaptbenchError(f"{tables}: no tables with scores; make them first")
    return pd.concat(found).set_index(KEY)


def compared(ours: "pd.DataFrame", kept: "pd.DataFrame") -> "pd.DataFrame":
    """A row for each cell of the reference: our mean, the kept one and its interval, the status, and what the tests
    said.

    Of a table that was not made (an ablation's) nothing is missing. Times are not compared.
    """
    made = kept.index.get_level_values("table").isin(ours.index.get_level_values("table"))
    timed = kept.index.get_level_values("metric") == "milliseconds"
    theirs = kept[made & ~timed][KEPT].rename(columns={"mean": "reference", "verdict": "reference_verdict"})
    joined = theirs.join(ours[OURS])
    inside = joined["mean"].between(joined["low"], joined["high"])
    joined["status"] = inside.map({True: "inside", False: "outside"}).where(joined["mean"].notna(), "missing")
    return joined.reset_index()
