"""A full disk."""

import shutil
from contextlib import suppress
from pathlib import Path


def fill(disk: Path) -> Path:
    """A file that leaves no room for anything else."""
    path = disk / "filling"
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    assert shutil.disk_usage(disk).free == 0
    return path
