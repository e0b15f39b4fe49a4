"""The results contract: run.json with metrics, cost and provenance, samples.parquet with one row per document.

Both carry a schema version and are written whole. Readers refuse what they do not understand, in one line.
"""

import json
import math
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptbench.contracts import AdaptbenchError
from adaptbench.files import write_text

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 2
SAMPLE_COLUMNS = (
    "track", "run", "seed", "task", "document", "group", "document_hash", "prompt_hash", "metric", "value", "weight",
    "prompt", "prediction", "target",
)  # fmt: skip


NEEDED = ("key", "status", "evaluation")
NEEDED_IF_DONE = ("metrics", "model", "cost")


def write_run(folder: Path, run: dict[str, Any], samples: "pd.DataFrame") -> None:
    """Write samples.parquet, then run.json: where run.json is, the run is complete."""
    write_samples(folder / "samples.parquet", samples[list(SAMPLE_COLUMNS)])
    write_text(
        folder / "run.json", json.dumps({"schema_version": SCHEMA_VERSION} | run, indent=1, allow_nan=False) + "\n"
    )


def write_samples(path: Path, samples: "pd.DataFrame") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        samples.to_parquet(temporary, index=False)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_run(path: Path) -> dict[str, Any]:
    """A run.json.

    Raises:
        AdaptbenchError: missing, damaged, or from a newer version.
    """
    try:
        run = json.loads(path.read_text())
        version = int(run["schema_version"])
    except FileNotFoundError:
        raise AdaptbenchError(f"{path}: missing") from None
    except (ValueError, KeyError, TypeError):
        raise AdaptbenchError(f"{path}: damaged; delete it and run again") from None
    if version > SCHEMA_VERSION:
        raise AdaptbenchError(f"{path}: schema version {version} is newer than {SCHEMA_VERSION}; update adaptbench")
    needed = (*NEEDED, *NEEDED_IF_DONE) if run.get("status") == "done" else NEEDED
    lacking = [name for name in needed if name not in run]
    if lacking:
        raise AdaptbenchError(f"{path}: has no {lacking[0]!r}; delete it and run again")
    return run


def read_samples(
    path: Path, metrics: Collection[str] | None = None, tasks: Collection[str] = (), *, strict: bool = True
) -> "pd.DataFrame":
    """A samples.parquet; with `metrics` only the rows of these, and of tasks other than `tasks`.

    Raises:
        AdaptbenchError: missing, damaged, with other columns, or, if `strict`, with a value that is no number.
    """
    import numpy as np
    import pandas as pd
    from pyarrow import ArrowException

    # Most rows are of metrics beside the main one, each with the whole prompt: they are left on disk.
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
    strange = samples[~np.isfinite(samples["value"].to_numpy(float))]
    if strict and len(strange):
        one = strange.iloc[0]
        raise AdaptbenchError(f"{path}: {one['task']}, document {one['document']}: the metric is {one['value']}")
    return samples


def finite(value: float, where: str) -> float:
    """`value`, if it is a number.

    Raises:
        AdaptbenchError: not a number or infinite.
    """
    if not math.isfinite(value):
        raise AdaptbenchError(f"{where}: the metric is {value}")
    return float(value)
