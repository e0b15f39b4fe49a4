"""Write all kinds of tables at once, and a report on the done runs if some failed."""

import json
import sys
from pathlib import Path

from adaptbench.report import overall, tables, transcripts
from adaptbench.report.explorer import page
from adaptbench.report.figures import draw
from adaptbench.statistics import collect, comparison_table


def write_tables(collected: Path, report: Path, out: Path, only: str | None = None) -> None:
    """Write the tables of each track and those over all, or the `only` one of that name."""
    tables.write(collected, report, out, only)
    overall.write(collected, report, out, only)


def write_partial(report: Path, out: Path) -> None:
    """Write tables, figures and pages of the done runs, and print their number."""
    planned = [Path(run) for run in json.loads(report.read_text())["runs"]]
    done = [run for run in planned if run.exists()]
    collected = out / "collected"
    collect.run(planned, collected)
    comparison_table.write(collected, report)
    write_tables(collected, report, out / "tables")
    draw.draw(collected, report, out / "figures")
    transcripts.write(collected, report, out / "transcripts")
    page.write([(collected, report)], out / "index.html")
    print(
        f"{len(done)} of {len(planned)} runs are done; their tables and figures: {out}. Run again for the rest.",
        file=sys.stderr,
    )
