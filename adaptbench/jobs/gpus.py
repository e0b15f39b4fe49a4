"""Shares the NVIDIA GPUs of this machine among jobs: concurrent jobs use different GPUs while some are free.

A cluster's job sees the GPUs that it was given and uses those. On other machines jobs reserve GPUs by locking files.
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


JOBS = 256  # on one GPU, after which locks are ignored


def memory() -> dict[str, float]:
    """Return the memory in bytes of each visible GPU, by its number or name in CUDA_VISIBLE_DEVICES."""
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
        if index not in sizes:  # CUDA ignores the list from an unknown name on
            break
        seen[name] = sizes[index]
    return seen


@contextmanager
def reserve(count: int) -> Iterator[None]:
    """Restrict CUDA_VISIBLE_DEVICES to the `count` least-used GPUs inside the block, if more are visible.

    Enter it before CUDA is initialised.
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
    """Lock and return the `count` least-used GPUs; the stack, or the end of the process, releases the locks."""
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
    """Return the device of models: "cuda" if there is one, else "cpu"."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
