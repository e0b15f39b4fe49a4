"""Names of the files that a preset's reports consist of, and which part of the preset each belongs to."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from adaptbench import registry
from adaptbench.graph import plan_files
from adaptbench.graph.nodes import Graph
from adaptbench.graph.plan_files import of_part

Names = Callable[[Graph, str], list[str]]
FORMATS = ("csv", "md", "tex")
IMAGES = ("svg", "pdf", "png")
OVERALL_TABLES = ("overall", "fairness")
TABLE_FIGURES = ("forgetting", "scores", "loss", "effects")
SUFFIXES = ("", "-ablation")
"""What the wildcard `part` of a rule may be."""


def part(wildcards: Any) -> str:
    """Return the name of the part that the wildcard `part` stands for."""
    return wildcards.part.removeprefix("-") or "main"


def overall_tables(part: str) -> list[str]:
    """Return the names of a part's tables over all tracks."""
    return [of_part(name, part) for name in OVERALL_TABLES]


def overall_figure(part: str) -> str:
    """Return the name of a part's figure over all tracks."""
    return of_part("cost", part)


def table_names(unfolded: Graph, part: str) -> list[str]:
    return [*plan_files.tables(unfolded, part), *overall_tables(part)]


def paper_names(unfolded: Graph, part: str) -> list[str]:
    return [of_part("paper", part)]


def figure_names(unfolded: Graph, part: str) -> list[str]:
    drawn = plan_files.tables(unfolded, part).items()
    names = [f"{table}_{name}" for table, content in drawn for name in (*TABLE_FIGURES, *content["figures"])]
    return [*names, overall_figure(part), *plan_files.method_figures(unfolded, part)]


def transcript_names(unfolded: Graph, part: str) -> list[str]:
    return [name for name, content in plan_files.tables(unfolded, part).items() if content["episodes"]]


def part_of_table(unfolded: Graph, table: str) -> str:
    """Return the part that a table belongs to."""
    return _part_of(unfolded, table_names, table)


def part_of_figure(unfolded: Graph, figure: str) -> str:
    """Return the part that a figure belongs to."""
    return _part_of(unfolded, figure_names, figure)


def _part_of(unfolded: Graph, names: Names, name: str) -> str:
    return next(part for part in plan_files.parts(unfolded) if name in names(unfolded, part))


def one_of(unfolded: Graph, names: Names) -> str:
    """Return a wildcard's pattern: one of the names of any part."""
    found = [re.escape(name) for part in plan_files.parts(unfolded) for name in names(unfolded, part)]
    return "|".join(found) or "(?!)"


def reports(unfolded: Graph, part: str) -> list[str]:
    """Return the files of a part's tables, figures and transcripts."""
    folders: Sequence[tuple[str, Names, Sequence[str]]] = (
        ("tables", table_names, FORMATS),
        ("tables", paper_names, FORMATS),
        ("figures", figure_names, IMAGES),
        ("transcripts", transcript_names, ("html",)),
    )
    return [
        f"{unfolded.root}/{folder}/{name}.{suffix}"
        for folder, names, suffixes in folders
        for name in names(unfolded, part)
        for suffix in suffixes
    ]


def collected(unfolded: Graph, part: str) -> str:
    """Return the folder of a part's collected scores."""
    return f"{unfolded.root}/collected" if part == "main" else f"{unfolded.root}/collected-{part}"


def scores(unfolded: Graph, part: str) -> dict[str, str]:
    """Return the files of a part's collected scores, which its tables, figures and pages read, by name of a rule's input."""
    names = ("runs.json", "scores.csv", "comparisons.csv", "samples.parquet")
    return {name.partition(".")[0]: f"{collected(unfolded, part)}/{name}" for name in names}


def sweep(unfolded: Graph) -> list[str]:
    """Return the kept sweep that the preset names."""
    return [unfolded.preset.sweep] if unfolded.preset.sweep else []


def paper_parts(name: str) -> list[str]:
    """Return the parts that a table of papers needs: main, and for `ablation_paper` the ablation, too."""
    return ["main", "ablation"] if name == of_part("paper", "ablation") else ["main"]


def files_of_project(*patterns: str) -> list[str]:
    """The files that a rule reads of the project, relative to the project."""
    root = registry.project_root()
    return sorted(path.relative_to(root).as_posix() for pattern in patterns for path in root.glob(pattern))


def explorer_parts(unfolded: Graph) -> str:
    """The parts of the preset as options of the explorer, which passes over those that were never made."""
    parts = plan_files.parts(unfolded)
    return " ".join(f"--part {collected(unfolded, part)} {plan_files.report_file(unfolded, part)}" for part in parts)


def after_failure(unfolded: Graph, logs: Sequence[str]) -> list[str]:
    """The commands to run when some jobs failed: those that report the runs that are done, for each part begun."""
    said = "".join(Path(log).read_text() for log in logs)
    asked = ("Terminating processes on user request", "Will exit after finishing currently running jobs")
    # The last one counts: the logs of failed jobs are shown before it, on a cluster those of Snakemakes that were ended, too.
    if max(map(said.rfind, asked)) > said.rfind("Exiting because a job execution failed"):
        return []
    commands = []
    runs = {part: plan_files.runs(unfolded, part) for part in plan_files.parts(unfolded)}
    for part, mine in runs.items():
        own = [run for run in mine if not any(run in others for other, others in runs.items() if other != part)]
        done = [Path(run).exists() for run in own]
        if any(done) and not all(done):
            commands.append(f"partial {plan_files.report_file(unfolded, part)} {unfolded.root}/partial/{part}")
    return commands
