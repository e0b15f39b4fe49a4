"""Reads the saved sweep of learning rates."""

from collections import Counter
from pathlib import Path

from adaptbench.errors import AdaptbenchError
from adaptbench.io import local_files

Key = tuple[str, str]
"""A run's track and name."""


def tried(sweep: str | None) -> dict[Key, int]:
    """Return how many settings the sweep scored for each run.

    Raises:
        AdaptbenchError: the file is no CSV table with the columns track and run, or has no rows.
    """
    found: Counter[Key] = Counter()
    for where, row in local_files.READERS[".csv"](Path(sweep)) if sweep else ():
        if not {"track", "run"} <= row.keys():
            raise AdaptbenchError(f"{where}: no columns 'track' and 'run'; there are {', '.join(row)}")
        found[row["track"], row["run"]] += 1
    if sweep and not found:
        raise AdaptbenchError(f"{sweep}: holds no records")
    return found
