"""Lists the commands of `python -m adaptbench`.

Their functions are imported when they run. This module imports nothing of the project.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PATH: Mapping[str, Any] = {"type": Path}
PATHS: Mapping[str, Any] = {"type": Path, "nargs": "+"}


@dataclass(frozen=True)
class Command:
    """A function and its command-line arguments.

    Attributes:
        function: "module:name"; the text that it returns is printed.
        help: one line for `--help`.
        arguments: argparse's name of each argument -> its options for `add_argument`. The parsed values are the
            function's keyword arguments.
        more: "module:name" of a function that takes the parser and adds further arguments.
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
    "--only": {"metavar": "NAME", "help": "draw only the one with this name; default: all"},
}
_PRESETS = {
    "presets": {
        **PATHS,
        "help": "each is read alone; snakemake -n checks files that it merges",
    },
    "--config": {"nargs": "+", "default": [], "metavar": "KEY=VALUE", "help": "change options, as in Snakemake"},
}

COMMANDS: Mapping[str, Command] = {
    "stage": Command("adaptbench.stages.job:run", "make one stage's directory", {"plan": PATH, "out": PATH}),
    "evaluate": Command("adaptbench.evaluate.score:run", "score one run", {"plan": PATH, "out": PATH}),
    "collect": Command(
        "adaptbench.statistics.collect:run", "join runs into one set of scores", {"out": PATH, "paths": PATHS}
    ),
    "conclude": Command(
        "adaptbench.statistics.comparison_table:write", "run the significance tests of every table", _COLLECTED
    ),
    "tables": Command("adaptbench.report.write:write_tables", "write the tables", _DRAWN),
    "figures": Command("adaptbench.report.figures.draw:draw", "draw the figures", _DRAWN),
    "transcripts": Command("adaptbench.report.transcripts:write", "write pages of episodes to read", _DRAWN),
    "explorer": Command(
        "adaptbench.report.explorer.page:write",
        "write the page that explores all results",
        {
            "out": PATH,
            "--part": {
                "dest": "found_in",
                "nargs": 2,
                "type": Path,
                "action": "append",
                "required": True,
                "metavar": ("COLLECTED", "REPORT"),
                "help": "collected runs and report of a part; repeatable; missing parts are skipped",
            },
        },
    ),
    "partial": Command(
        "adaptbench.report.write:write_partial",
        "write tables and figures of the finished runs",
        {"report": PATH, "out": PATH},
    ),
    "paper": Command(
        "adaptbench.report.paper.tables:write",
        "compare the runs with what papers report",
        {"plan": PATH, "out": PATH, "collected": {**PATHS, "help": "collected parts, main first"}},
    ),
    "check": Command("adaptbench.graph.planning:check", "check presets and report the first mistake", _PRESETS),
    "estimate": Command(
        "adaptbench.graph.planning:estimates",
        "estimate what presets need: jobs, GPU hours, memory, disk, downloads",
        _PRESETS,
        more="adaptbench.graph.planning:add_assumptions",
    ),
    "schema": Command(
        "adaptbench.config.preset_model:write_schema",
        "write the presets' JSON schema",
        {"file": PATH, "--check": {"action": "store_true", "help": "only check that the file is up to date"}},
    ),
}
