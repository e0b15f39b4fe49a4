"""Collects the provenance of results: commit, versions, hardware, time."""

import importlib.metadata
import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from functools import cache
from typing import Any

from adaptbench.registry import project_root

PACKAGES = (
    "torch", "transformers", "lm-eval", "datasets", "accelerate", "peft", "safetensors", "tokenizers", "numpy",
    "snakemake",
)  # fmt: skip

CODE = (
    "Snakefile", "pyproject.toml", "constraints.txt", "adaptbench", "benchmarks", "config", "kernels", "methods",
    "profiles", "workflow",
)  # fmt: skip


def seconds_since_process_start() -> float:
    """Return the seconds since this process was created, interpreter start and imports included."""
    import psutil

    return time.time() - psutil.Process().create_time()


@cache
def git_state() -> dict[str, Any]:
    """Return the project's commit and whether files differ from it, new ones included; None outside a git checkout."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(project_root()), *arguments], capture_output=True, text=True, timeout=30, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    status = git("status", "--porcelain", "--", *CODE)
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if status is None else bool(status)}


def versions() -> dict[str, str]:
    """Return the versions of Python and of PACKAGES that are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    """Return the processor, the cores this process may use, the threads it uses, and the accelerator."""
    import torch

    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def processor() -> str:
    """Return the processor's name, as Linux has it."""
    try:
        with open("/proc/cpuinfo") as file:
            return next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "unknown")
    except OSError:
        return platform.processor() or "unknown"


def collect() -> dict[str, Any]:
    """Return all of them, with the time in UTC."""
    finished = datetime.now(UTC).isoformat(timespec="seconds")
    return {"git": git_state(), "versions": versions(), "hardware": hardware(), "finished": finished}
