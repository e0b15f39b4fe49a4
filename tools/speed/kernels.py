"""Time the operations of kernels/ and the stacked Muon against plain implementations, and both attentions of torch.

    python -m tools kernel-speed results/reference/bench

All ways of one operation run in turn in one process, several times each. The table has medians, the memory bandwidth
relative to a copy on the same machine, and the peak memory of the tensors that the operation makes, as torch counts
them.
"""

import importlib.metadata
import statistics
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

from adaptbench.jobs import gpus
from tools.speed import kernel_figure, operations, tables
from tools.speed.operations import Case, Way

REPEATS = 15
COLUMNS = {
    "operation": "operation",
    "shape": "shape",
    "dtype": "dtype",
    "implementation": "way",
    "median_milliseconds": "ms",
    "times_faster": "times faster",
    "share_of_copy": "share of a copy's speed",
    "peak_megabytes": "peak MB",
}


def measure(out: Path) -> None:
    """Write kernels_cpu.csv or kernels_gpu.csv, its Markdown and its figure to the folder `out`."""
    import torch

    device = gpus.device()
    speed = _copy_speed(device)
    rows = [
        row
        for operation, cases in operations.CASES.items()
        for case in cases(device)
        for row in _rows(operation, case, copy_speed=speed, device=device)
    ]
    caption = (
        f"Medians of {REPEATS} repeats in one process, ways in turn; a copy here reads and writes {speed / 1e9:.1f}"
        " GB/s. Peak: tensors made beyond the operands."
    )
    stem = out / f"kernels_{'gpu' if torch.cuda.is_available() else 'cpu'}"
    tables.keep(rows, stem.with_suffix(".csv"), COLUMNS, caption)
    kernel_figure.draw(rows, stem)


def _rows(operation: str, case: Case, *, copy_speed: float, device: str) -> list[dict[str, Any]]:
    """Time the ways of a case and return a row for each; `copy_speed` is in bytes per second."""
    for way in case.ways.values():
        way()
        way()
    _, seconds = tables.in_turn({name: partial(_finished, way, device) for name, way in case.ways.items()}, REPEATS)
    first = statistics.median(next(iter(seconds.values())))
    moved = case.bytes_moved
    rows = []
    for name, way in case.ways.items():
        median = statistics.median(seconds[name])
        twentieth, *_, eightieth = statistics.quantiles(seconds[name], n=5)
        rows.append(
            {
                "operation": operation,
                "implementation": name,
                "dtype": case.dtype,
                "shape": case.shape,
                "median_milliseconds": round(1e3 * median, 3),
                "low_milliseconds": round(1e3 * twentieth, 3),
                "high_milliseconds": round(1e3 * eightieth, 3),
                "times_faster": round(first / median, 2),
                "bytes": moved,
                "share_of_copy": None if moved is None else round(moved / median / copy_speed, 2),
                "peak_megabytes": round(peak(way, device) / 1e6, 1),
                **tables.surroundings(device),
                **_versions(device),
            }
        )
    return rows


def _versions(device: str) -> dict[str, str]:
    """Return the versions of the packages that are used only on a GPU."""
    if device != "cuda":
        return {}
    names = ("triton", "liger-kernel", "cut-cross-entropy")
    return {name: importlib.metadata.version(name) for name in names if operations.installed(name.replace("-", "_"))}


def _finished(way: Way, device: str) -> None:
    import torch

    way()
    if device == "cuda":
        torch.cuda.synchronize()


def _copy_speed(device: str) -> float:
    """Return the bytes per second that a copy of 256 MB reads and writes."""
    import torch

    source = torch.ones(1 << 26, device=device)
    target = torch.empty_like(source)
    copy = partial(target.copy_, source)
    copy()
    _, seconds = tables.in_turn({"": partial(_finished, copy, device)}, REPEATS)
    return 2 * source.numel() * source.element_size() / statistics.median(seconds[""])


def peak(way: Way, device: str) -> int:
    """Return the peak memory of the operation in bytes, beyond what was allocated before."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        _finished(way, device)
        return torch.cuda.max_memory_allocated() - before
    with tables.profiled(profile_memory=True) as seen:
        way()
    recorded = seen.profiler.kineto_results.events() if seen.profiler else []
    taken = sorted((one.start_ns(), one.nbytes()) for one in recorded if one.name() == "[memory]")
    return max(accumulate((count for _, count in taken), initial=0))
