"""Keeps a measurement of speed: every number as CSV, and the columns that a document shows as Markdown beside it."""

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from adaptbench.io.files import write_text
from adaptbench.report.table_text import markdown
from adaptbench.train import provenance


def in_turn(ways: Mapping[Any, Callable[[], Any]], repeats: int) -> tuple[dict[Any, Any], dict[Any, list[float]]]:
    """What each way returned the last time, and its seconds each time; one way after another, `repeats` times."""
    found: dict[Any, Any] = {}
    seconds: dict[Any, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            started = time.perf_counter()
            found[name] = way()
            seconds[name].append(time.perf_counter() - started)
    return found, seconds


def profiled(**options: Any) -> Any:
    """torch's profiler of what runs on the processor, without the lines that it would print at each start and end."""
    import torch

    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    return torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], **options)


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Median, fastest and slowest."""
    return {
        "median_seconds": round(statistics.median(seconds), 4),
        "fastest_seconds": round(min(seconds), 4),
        "slowest_seconds": round(max(seconds), 4),
    }


def surroundings(device: Any) -> dict[str, Any]:
    """Where and with what it was measured."""
    import torch
    import transformers

    on_gpu = str(device).startswith("cuda")
    return {
        "device": torch.cuda.get_device_name() if on_gpu else provenance.processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def keep(rows: Sequence[Mapping[str, Any]], out: Path, shown: Mapping[str, str], caption: str) -> None:
    """Write `out` (a .csv) and the .md beside it, which has the columns of `shown` under its headings; print the latter."""
    import pandas as pd

    write_text(out, pd.DataFrame(rows).to_csv(index=False))
    cells = [["" if row[column] is None else str(row[column]) for column in shown] for row in rows]
    where = {f"{row['device']}, {row['threads']} thread(s), torch {row['torch']}" for row in rows}
    text = markdown([(list(shown.values()), cells)], f"{caption} {'; '.join(sorted(where))}.")
    write_text(out.with_suffix(".md"), text)
    print(text)
