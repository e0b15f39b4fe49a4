"""Compare a run of a preset with the kept reference: is each number in the reference's interval, is each verdict the
same?

The intervals are over seeds and documents. Another machine may round differently, and so pre-train another base with
other numbers: cells outside are then no errors, but show how far the reference generalises. Runs with other options
than the reference's are different experiments and are listed first.
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
    """Write `results`/verify.csv, a row for each cell, and return a summary.

    The summary has a line for each track with other options, each table, and each cell outside the reference's
    interval.

    Raises:
        AdaptbenchError: there is no reference, or nothing to hold against it.
    """
    kept, ours = read(reference / "tables"), read(results / "tables")
    table = compared(ours, kept)
    write_text(results / "verify.csv", table.to_csv(index=False))
    lines = _of_options(results, reference)
    for name, cells in table.groupby("table", sort=False):
        counts = cells["status"].value_counts()
        summary = ", ".join(
            f"{counts[status]} {status}" for status in ("inside", "outside", "missing") if status in counts
        )
        lines.append(f"{name}: {summary}")
        outside = cells[cells["status"] == "outside"]
        lines += [
            f"  {row.run}, {row.task}, {row.metric}: {row.mean:.3f},"
            f" reference {row.reference:.3f} [{row.low:.3f}, {row.high:.3f}]"
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
    """Return a line for each track with runs whose options (own, data, base, questions) differ from the reference's."""
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
        f"{track}: {len(others)} of {len(runs)} runs have other options than the reference's, and need not agree with"
        f" it: {', '.join(others)}"
        for track, runs in tracks.items()
        if (others := [run for run, same in runs.items() if not same])
    ]


def _of_verdicts(cells: "pd.DataFrame") -> list[str]:
    """Return a line with the number of equal verdicts, and a line for each reversed one (better against worse)."""
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
    """Read the scores of all tables of a folder, with KEY as index."""
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
    """Return a row for each cell of the reference: our mean, the kept one with its interval, the status, both verdicts.

    Tables that were not made, such as an ablation's, and times are not compared.
    """
    made = kept.index.get_level_values("table").isin(ours.index.get_level_values("table"))
    timed = kept.index.get_level_values("metric") == "milliseconds"
    theirs = kept[made & ~timed][KEPT].rename(columns={"mean": "reference", "verdict": "reference_verdict"})
    joined = theirs.join(ours[OURS])
    inside = joined["mean"].between(joined["low"], joined["high"])
    joined["status"] = inside.map({True: "inside", False: "outside"}).where(joined["mean"].notna(), "missing")
    return joined.reset_index()
