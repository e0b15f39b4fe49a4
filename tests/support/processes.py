"""Processes that tests start and wait for."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest


def finished(
    command: Sequence[str], folder: Path, *, seconds: float = 600, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end. One that takes longer than `seconds` is killed with all that it started, and fails."""
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    try:
        output, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, errors = process.communicate(timeout=10)
        pytest.fail(f"{' '.join(command)}: not done after {seconds} s\n{output[-3000:]}\n{errors[-3000:]}")
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def snakemake(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Snakemake in a copy of the project, as a user would; `variables` are added to the environment."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | variables
    return finished([sys.executable, "-m", "snakemake", *arguments], folder, environment=environment)


def has_checkpoint(work: Path) -> bool:
    """Whether a stage has written a checkpoint after a few steps."""
    for state in work.glob("*/checkpoint/state.json"):
        try:
            if json.loads(state.read_text())["state"]["counts"]["step"] >= 3:
                return True
        except (OSError, ValueError):
            continue
    return False


def wait_until(condition: Callable[[], object], seconds: float = 60, *, every: float = 0.02) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"did not come within {seconds} s"
        time.sleep(every)
