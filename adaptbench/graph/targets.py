"""Names the files of a preset's reports, and the part of the preset that each belongs to."""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from adaptbench import registry
from adaptbench.graph import plan_files
from adaptbench.graph.nodes import Graph
from adaptbench.graph.plan_files import name_in_part

Names = Callable[[Graph, str], list[str]]
FORMATS = ("csv", "md", "tex")
IMAGES = ("svg", "pdf", "png")
OVERALL_TABLES = ("overall", "fairness")
TABLE_FIGURES = ("forgetting", "scores", "loss", "effects")
COLLECTED = {
    "runs": "runs.json",
    "scores": "scores.csv",
    "comparisons": "comparisons.csv",
    "samples": "samples.parquet",
}
"""Files of a part's collected scores, by what they hold."""
SUFFIXES = {"main": "", "ablation": "-ablation"}
"""By part, what ends the names of its folders: the wildcard `part`."""


def part(wildcards: Any) -> str:
    """Return the name of the part for the wildcard `part`, main for a rule without it."""
    return wildcards.get("part", "").removeprefix("-") or "main"


def overall_tables(part: str) -> list[str]:
    """Return the names of a part's tables over all tracks."""
    return [name_in_part(name, part) for name in OVERALL_TABLES]


def overall_figure(part: str) -> str:
    """Return the name of a part's figure over all tracks."""
    return name_in_part("cost", part)


def table_names(graph: Graph, part: str) -> list[str]:
    """Return the names of a part's tables, except those of papers."""
    return [*plan_files.tables(graph, part), *overall_tables(part)]


def paper_names(graph: Graph, part: str) -> list[str]:
    """Return the names of a part's tables of papers."""
    return [name_in_part("paper", part)]


def figure_names(graph: Graph, part: str) -> list[str]:
    """Return the names of a part's figures."""
    drawn = plan_files.tables(graph, part).items()
    names = [f"{table}_{name}" for table, content in drawn for name in (*TABLE_FIGURES, *content["figures"])]
    return [*names, overall_figure(part), *plan_files.method_figures(graph, part)]


def transcript_names(graph: Graph, part: str) -> list[str]:
    """Return the names of a part's pages of transcripts."""
    return [name for name, content in plan_files.tables(graph, part).items() if content["episodes"]]


def by_name(graph: Graph, names: Names) -> dict[str, str]:
    """Return the part that each of these tables or figures belongs to."""
    return {name: part for part in plan_files.parts(graph) for name in names(graph, part)}


def one_of(names: Iterable[str]) -> str:
    """Return a pattern for a wildcard that is one of the names."""
    return "|".join(map(re.escape, names)) or "(?!)"


def reports(graph: Graph, part: str) -> list[str]:
    """Return the files of a part's tables, figures and transcripts."""
    folders: Sequence[tuple[str, Names, Sequence[str]]] = (
        ("tables", table_names, FORMATS),
        ("tables", paper_names, FORMATS),
        ("figures", figure_names, IMAGES),
        ("transcripts", transcript_names, ("html",)),
    )
    return [
        f"{graph.root}/{folder}/{name}.{suffix}"
        for folder, names, suffixes in folders
        for name in names(graph, part)
        for suffix in suffixes
    ]


def collected(graph: Graph, part: str) -> str:
    """Return the folder of a part's collected scores."""
    return f"{graph.root}/collected{SUFFIXES[part]}"


def scores(graph: Graph, part: str, *names: str) -> dict[str, str]:
    """Return files of a part's collected scores, all unless named, by their names as inputs of a rule."""
    folder = collected(graph, part)
    return {name: f"{folder}/{COLLECTED[name]}" for name in names or COLLECTED}


def sweep(graph: Graph) -> list[str]:
    """Return the preset's file of a sweep, if it has one."""
    return [graph.preset.sweep] if graph.preset.sweep else []


def paper_parts(name: str) -> list[str]:
    """Return the parts that a table of papers needs: main, and for `ablation_paper` also the ablation."""
    return ["main", "ablation"] if name == name_in_part("paper", "ablation") else ["main"]


def files_of_project(*patterns: str) -> list[str]:
    """Return the files of the project that match the patterns, relative to the project."""
    root = registry.project_root()
    return sorted(path.relative_to(root).as_posix() for pattern in patterns for path in root.glob(pattern))


def explorer_parts(graph: Graph) -> str:
    """Return the preset's parts as options of the command `explorer`, which skips parts that were not made."""
    parts = plan_files.parts(graph)
    return " ".join(f"--part {collected(graph, part)} {plan_files.report_file(graph, part)}" for part in parts)


def after_failure(graph: Graph, logs: Sequence[str]) -> list[str]:
    """Return the commands to run after jobs failed: a report of the finished runs of each part."""
    output = "".join(Path(log).read_text() for log in logs)
    stops = ("Terminating processes on user request", "Will exit after finishing currently running jobs")
    # The last message counts. The logs of failed jobs are before it, on a cluster also those of Snakemakes that ended.
    if max(map(output.rfind, stops)) > output.rfind("Exiting because a job execution failed"):
        return []
    commands = []
    runs = {part: plan_files.runs(graph, part) for part in plan_files.parts(graph)}
    for part, mine in runs.items():
        own = [run for run in mine if not any(run in others for other, others in runs.items() if other != part)]
        done = [Path(run).exists() for run in own]
        if any(done) and not all(done):
            commands.append(f"partial {plan_files.report_file(graph, part)} {graph.root}/partial/{part}")
    return commands
