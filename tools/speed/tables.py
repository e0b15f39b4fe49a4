"""Repeat timings, and write measurements of speed: all numbers as CSV, the shown columns as Markdown."""

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
    """Run the ways one after another, `repeats` times; return the last results and the seconds of each repeat."""
    found: dict[Any, Any] = {}
    seconds: dict[Any, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            started = time.perf_counter()
            found[name] = way()
            seconds[name].append(time.perf_counter() - started)
    return found, seconds


def profiled(**options: Any) -> Any:
    """Return torch's CPU profiler, without the lines that it prints at each start and end."""
    import torch

    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    return torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], **options)


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Return median, fastest and slowest, in seconds."""
    return {
        "median_seconds": round(statistics.median(seconds), 4),
        "fastest_seconds": round(min(seconds), 4),
        "slowest_seconds": round(max(seconds), 4),
    }


def surroundings(device: Any) -> dict[str, Any]:
    """Return the device and the versions of a measurement."""
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
    """Write all columns to `out` (.csv) and those of `shown`, with its headings, to the .md beside it; print it."""
    import pandas as pd

    write_text(out, pd.DataFrame(rows).to_csv(index=False))
    cells = [["" if row[column] is None else str(row[column]) for column in shown] for row in rows]
    where = {f"{row['device']}, {row['threads']} thread(s), torch {row['torch']}" for row in rows}
    text = markdown([(list(shown.values()), cells)], f"{caption} {'; '.join(sorted(where))}.")
    write_text(out.with_suffix(".md"), text)
    print(text)
