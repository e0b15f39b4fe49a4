"""The NVIDIA GPUs of this machine, and which of them a job takes: jobs that run side by side take different ones while there are free ones.

A job of a cluster sees the GPUs that it was given and takes those; where nobody gives any out, files that jobs lock do.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import product
from pathlib import Path

from adaptbench.io.files import lock

STAGES = ("base", "prepare", "train")
"""Kinds of stages that compute on a GPU where there is one."""


SHOWN = "CUDA_VISIBLE_DEVICES"


JOBS = 256  # that a GPU is shared out to before locks are no longer asked for


def memory() -> dict[str, float]:
    """The bytes of each GPU that jobs see, by its number or name in CUDA_VISIBLE_DEVICES; empty where there is none."""
    command = ["nvidia-smi", "--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
        lines = [line.split(", ") for line in done.stdout.splitlines()]
        sizes = {index: float(size) * 2**20 for index, _, size in lines}
        names = {uuid: index for index, uuid, _ in lines}
    except (OSError, subprocess.SubprocessError, ValueError):
        return {}
    shown = os.environ.get(SHOWN)
    if shown is None:
        return sizes
    seen: dict[str, float] = {}
    for name in (one.strip() for one in shown.split(",")):
        index = names.get(name, name)
        if index not in sizes:  # what CUDA does not know ends its list
            break
        seen[name] = sizes[index]
    return seen


@contextmanager
def reserve(count: int) -> Iterator[None]:
    """Let this process and its children see `count` GPUs alone, those that the fewest jobs here have. Where it sees no more anyway,
    nothing changes. To be entered before CUDA is first asked.
    """
    seen = list(memory()) if count else []
    if len(seen) <= count:
        yield
        return
    before = os.environ.get(SHOWN)
    with ExitStack() as stack:
        taken = _take(seen, count, stack)
        if before is None:
            os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # as nvidia-smi counts them
        os.environ[SHOWN] = ",".join(taken)
        try:
            yield
        finally:
            if before is None:
                os.environ.pop(SHOWN, None)
            else:
                os.environ[SHOWN] = before


def _take(seen: list[str], count: int, stack: ExitStack) -> list[str]:
    """The first `count` whose locks are free, those of one job each first; held until the stack is closed or the process ends."""
    folder = Path(tempfile.gettempdir()) / f"adaptbench-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    taken: list[str] = []
    for turn, name in product(range(JOBS), seen):
        if name in taken:
            continue
        file = (folder / f"{name}.{turn}").open("w")
        if lock(file.fileno()):
            stack.enter_context(file)
            taken.append(name)
        else:
            file.close()
        if len(taken) == count:
            return taken
    return seen[:count]


def device() -> str:
    """Where models run: on the first CUDA device, if there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
