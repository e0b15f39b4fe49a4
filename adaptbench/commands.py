"""The commands of `python -m adaptbench`: functions that are imported when they run. This module imports nothing of the project."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PATH: Mapping[str, Any] = {"type": Path}
PATHS: Mapping[str, Any] = {"type": Path, "nargs": "+"}


@dataclass(frozen=True)
class Command:
    """A function and what it takes from the command line.

    `function` is "module:name". `arguments` maps what argparse calls each argument to its options there; the parsed values are
    the function's keyword arguments. `more` names a function that takes the parser and adds others. What the function returns is printed.
    """

    function: str
    help: str
    arguments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    more: str = ""


_Arguments = Mapping[str, Mapping[str, Any]]
_COLLECTED: _Arguments = {"collected": PATH, "report": PATH}
_DRAWN: _Arguments = {
    **_COLLECTED,
    "out": PATH,
    "--only": {"metavar": "NAME", "help": "the one of this name; default: all"},
}
_PRESETS = {
    "presets": PATHS,
    "--config": {"nargs": "+", "default": [], "metavar": "KEY=VALUE", "help": "changes options, as Snakemake's"},
}

COMMANDS: Mapping[str, Command] = {
    "stage": Command("adaptbench.stages.job:run", "make one stage's directory", {"plan": PATH, "out": PATH}),
    "evaluate": Command("adaptbench.evaluate.score:run", "score one run", {"plan": PATH, "out": PATH}),
    "collect": Command(
        "adaptbench.statistics.collect:run", "join runs into one set of scores", {"out": PATH, "paths": PATHS}
    ),
    "conclude": Command("adaptbench.statistics.verdicts:write", "test the runs of every table", _COLLECTED),
    "tables": Command("adaptbench.report.write:write_tables", "write the tables", _DRAWN),
    "figures": Command("adaptbench.report.figures.draw:draw", "draw the figures", _DRAWN),
    "transcripts": Command("adaptbench.report.transcripts:write", "write pages with episodes to read", _DRAWN),
    "explorer": Command(
        "adaptbench.report.explorer.page:write",
        "write the page to look around in all results",
        {
            "out": PATH,
            "--part": {
                "dest": "found_in",
                "nargs": 2,
                "type": Path,
                "action": "append",
                "required": True,
                "metavar": ("COLLECTED", "REPORT"),
                "help": "a part's collected runs and its report; one that was not made is passed over; may be given again",
            },
        },
    ),
    "partial": Command(
        "adaptbench.report.write:write_partial",
        "tables and figures of the runs that are done",
        {"report": PATH, "out": PATH},
    ),
    "paper": Command(
        "adaptbench.report.paper.tables:write",
        "hold the runs against what papers report",
        {"plan": PATH, "out": PATH, "collected": {**PATHS, "help": "collected parts, main first"}},
    ),
    "check": Command(
        "adaptbench.graph.planning:check", "say of presets what is wrong with them, if anything", _PRESETS
    ),
    "estimate": Command(
        "adaptbench.graph.planning:estimates",
        "say what presets will take: jobs, GPU hours, memory, disk, downloads",
        _PRESETS,
        more="adaptbench.graph.planning:add_assumptions",
    ),
    "schema": Command(
        "adaptbench.config.preset:write_schema",
        "write the presets' JSON schema",
        {"file": PATH, "--check": {"action": "store_true", "help": "only say whether the file is up to date"}},
    ),
}
