"""Reads and writes results: run.json with metrics, cost and provenance, samples.parquet with one row per document.

Both are written atomically. Readers check the schema version and the fields, and report a mistake in one line.
"""

import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptbench.errors import AdaptbenchError
from adaptbench.io.files import whole_file, write_text

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 2
SAMPLE_COLUMNS = (
    "track", "run", "seed", "task", "document", "group", "document_hash", "prompt_hash", "metric", "value", "weight",
    "prompt", "prediction", "target",
)  # fmt: skip


NEEDED: Mapping[str, type | tuple[type, ...]] = {
    "key.track": str, "key.run": str, "key.seed": int, "status": str, "evaluation": dict,
}  # fmt: skip
NEEDED_IF_DONE = ("metrics", "model", "cost")
_NUMBER = (int, float)
COUNTED: Mapping[str, type | tuple[type, ...]] = {
    "model.bytes": _NUMBER, "seconds.evaluation": _NUMBER, "evaluation_peak_bytes": _NUMBER, "cost.stages": dict,
    "cost.steps": _NUMBER, "cost.tokens": _NUMBER, "cost.trained_tokens": _NUMBER, "cost.flops": _NUMBER,
    "cost.train_seconds": _NUMBER, "cost.wall_seconds": _NUMBER, "cost.peak_bytes": _NUMBER,
}  # fmt: skip
"""Fields of a finished run that tables and figures read."""


def write_run(folder: Path, run: dict[str, Any], samples: "pd.DataFrame") -> None:
    """Write samples.parquet, then run.json: a run with a run.json is complete."""
    write_samples(folder / "samples.parquet", samples[list(SAMPLE_COLUMNS)])
    write_text(
        folder / "run.json", json.dumps({"schema_version": SCHEMA_VERSION} | run, indent=1, allow_nan=False) + "\n"
    )


def write_samples(path: Path, samples: "pd.DataFrame") -> None:
    """Write a samples.parquet atomically."""
    with whole_file(path) as temporary:
        samples.to_parquet(temporary, index=False)


def read_run(path: Path) -> dict[str, Any]:
    """Read a run.json.

    Raises:
        AdaptbenchError: it is missing, damaged, or from a newer version.
    """
    try:
        run = json.loads(path.read_text(), parse_constant=_refuse)
        version = int(run["schema_version"])
    except FileNotFoundError:
        raise AdaptbenchError(f"{path}: missing") from None
    except (ValueError, KeyError, TypeError):
        raise AdaptbenchError(f"{path}: damaged; delete it and run again") from None
    if version > SCHEMA_VERSION:
        raise AdaptbenchError(f"{path}: schema version {version} is newer than {SCHEMA_VERSION}; update adaptbench")
    _check(run, NEEDED, path)
    if run["status"] == "done":
        _check(run, dict.fromkeys(NEEDED_IF_DONE, dict), path)
    return run


def check_counted(run: Mapping[str, Any], path: Path) -> None:
    """Check that a finished run has all fields of its cost.

    Raises:
        AdaptbenchError: a field is missing or has another type.
    """
    if run["status"] == "done":
        _check(run, COUNTED, path)


def _check(run: Mapping[str, Any], needed: Mapping[str, type | tuple[type, ...]], path: Path) -> None:
    for name, kind in needed.items():
        found: Any = run
        for part in name.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        if not isinstance(found, kind):
            said = "has no" if found is None else f"{found!r} is no"
            raise AdaptbenchError(f"{path}: {said} {name!r}; delete it and run again")


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def read_samples(
    path: Path, metrics: Collection[str] | None = None, tasks: Collection[str] = (), *, strict: bool = True
) -> "pd.DataFrame":
    """Read a samples.parquet; with `metrics` only rows of these metrics, and of tasks other than `tasks`.

    Raises:
        AdaptbenchError: it is missing, damaged or lacks a column, or, if `strict`, a value is no finite number.
    """
    import numpy as np
    import pandas as pd
    from pyarrow import ArrowException

    # Most rows are of metrics beside the main one, each with the whole prompt: they are not read.
    wanted = None if metrics is None else [[("metric", "in", set(metrics))], [("task", "not in", set(tasks))]]
    try:
        samples = pd.read_parquet(path, filters=wanted)
    except FileNotFoundError:
        raise AdaptbenchError(f"{path}: missing") from None
    except (ArrowException, OSError):
        raise AdaptbenchError(f"{path}: damaged; delete its folder and run again") from None
    missing = [column for column in SAMPLE_COLUMNS if column not in samples]
    if missing:
        raise AdaptbenchError(f"{path}: no column {missing[0]!r}")
    for column, called in (("value", "metric"), ("weight", "weight")) if strict else ():
        numbers = pd.to_numeric(samples[column], errors="coerce").to_numpy(float)
        strange = samples[~np.isfinite(numbers)]
        if len(strange):
            one = strange.iloc[0]
            raise AdaptbenchError(f"{path}: {one['task']}, document {one['document']}: the {called} is {one[column]}")
    return samples


def finite(value: float, where: str) -> float:
    """Return `value`.

    Raises:
        AdaptbenchError: it is nan or infinite.
    """
    if not math.isfinite(value):
        raise AdaptbenchError(f"{where}: the metric is {value}")
    return float(value)
