"""The project's folder, a copy of it, and the options of a smoke run."""

import os
import shutil
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
COMPILES = shutil.which(os.environ.get("CXX", "g++")) is not None
"""Whether this machine has what training.compile needs."""
SMOKE = ("--cores", "2", "--configfile", "config/smoke.yaml")
TOKENS = {name: f"secret-of-{name}" for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY")}


def copy_of_project(target: Path) -> Path:
    """The project's code without results, but with the kept sweep that a preset names."""
    ignore = shutil.ignore_patterns(".git", ".*venv", "results", ".snakemake", "__pycache__", ".*_cache")
    shutil.copytree(PROJECT, target, ignore=ignore)
    shutil.copytree(PROJECT / "results/reference/sweep", target / "results/reference/sweep")
    return target
