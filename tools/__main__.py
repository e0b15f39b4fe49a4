"""Command line of `python -m tools`: disk space and time of results, and measurements for maintainers."""

import sys
from pathlib import Path

from adaptbench.cli import main as run
from adaptbench.commands import PATH, PATHS, Command

OUT = {"out": PATH}
COMMANDS = {
    "time": Command("tools.timing:summary", "say where a preset's time went", {"root": PATH}),
    "disk": Command("tools.disk:usage", "say what a preset's files weigh", {"root": PATH}),
    "clean-work": Command(
        "tools.disk:clean",
        "remove models that nothing reads any more and finished stages' work",
        {
            "root": PATH,
            "--force": {
                "action": "store_true",
                "help": "also unfinished stages' checkpoints, and models of other options",
            },
        },
    ),
    "verify": Command(
        "tools.verify:write", "hold a preset's tables against the kept ones", {"results": PATH, "reference": PATH}
    ),
    "reference": Command(
        "tools.reference:update",
        "keep a preset's tables and figures in the repository",
        {"results": PATH, **OUT, "documents": {**PATHS, "help": "documents that show tables between markers"}},
    ),
    "sweep-preset": Command(
        "tools.sweep:write_preset", "turn a preset into its learning-rate sweep", {"preset": PATH, **OUT}
    ),
    "sweep-choose": Command("tools.sweep:choose", "choose rates from a sweep's scores", {"collected": PATH, **OUT}),
    "calibration": Command("tools.calibration:measure", "simulate how often intervals and tests are right", OUT),
    "kernel-speed": Command(
        "tools.speed.kernels:measure", "time the operations of kernels/ against what they replace", OUT
    ),
    "step-speed": Command(
        "tools.speed.steps:measure", "time the parts of a training step of each method", {"root": PATH, **OUT}
    ),
    "latent-speed": Command("tools.speed.latents:measure", "time ways through latent tokens", OUT),
    "live-speed": Command(
        "tools.speed.live:measure", "time live episodes side by side and one at a time", {"run": PATH, **OUT}
    ),
    "peer-speed": Command(
        "tools.speed.peers:measure", "time training steps against those of TRL, transformers and peft", OUT
    ),
    "links": Command(
        "tools.links:check",
        "check links, anchors and named files of Markdown pages",
        {"pages": {"type": Path, "nargs": "*", "help": "default: all that git tracks"}},
    ),
    "preset-keys": Command(
        "tools.preset_keys:write",
        "write the table of a preset's keys into a page",
        {"page": PATH, "--check": {"action": "store_true", "help": "only compare"}},
    ),
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command."""
    return run(arguments, COMMANDS)


if __name__ == "__main__":
    sys.exit(main())
