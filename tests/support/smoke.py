"""What tests of the whole graph share: the smoke preset's command, its dry runs, its results. The fixture `smoke` is in
conftest.py.
"""

import json
import re
from pathlib import Path

import yaml

from tests.support.processes import snakemake
from tests.support.project import PROJECT

RUNS = yaml.safe_load((PROJECT / "config/smoke.yaml").read_text())["runs"]
DOMAIN, AGENT, REASONING = (
    [run["name"] for run in RUNS if run["track"] == track] for track in ("domain", "agent", "reasoning")
)
POLICIES = ["majority", "always-call", "always-give-up"]
NOTHING = "Nothing to be done"


def planned(folder: Path, *arguments: str) -> list[str]:
    """The outputs that a dry run would make, joined per job."""
    done = snakemake(folder, *arguments, "--dry-run")
    assert done.returncode == 0, done.stdout + done.stderr
    text = done.stdout + done.stderr
    return [] if NOTHING in text else re.findall(r"^    output: (.*)$", text, re.MULTILINE)


def with_run(folder: Path, line: str) -> str:
    """The smoke preset with one more run."""
    return (folder / "config/smoke.yaml").read_text().replace("ablation:\n", f"{line}ablation:\n")


def run_json(folder: Path, run: str, seed: int = 0, *, track: str = "domain") -> dict:
    return json.loads((folder / f"results/smoke/runs/{track}/{run}/seed{seed}/run.json").read_text())


def files_with(folder: Path, text: bytes) -> list[Path]:
    """What a run leaves, logs and Snakemake's own notes included, where the text is in it."""
    left = (path for place in ("results", ".snakemake") for path in (folder / place).rglob("*") if path.is_file())
    return [path for path in left if text in path.read_bytes()]
