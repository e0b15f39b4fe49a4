"""Compare a training step of this project with the same step in other trainers, in tokens per second.

    python -m tools peer-speed results/reference/bench

All ways of one work train copies of one model on the same rows with the same AdamW, in turn in one process. A step
lasts from the end of the previous step to its end, which includes making the batch. Start-up, the first steps, logs and
checkpoints are excluded. The work must be the same: every step's loss, and the number of trained parameters.
"""

import gc
import io
import statistics
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from adaptbench.errors import AdaptbenchError
from adaptbench.jobs import gpus
from tools.speed import kernels, tables
from tools.speed.ways import OURS, Sizes, Trace, Way, version, works

CPU = Sizes()
GPU = Sizes(
    1024,
    8,
    16,
    128_000,
    8,
    1024,
    warm=4,
    timed=10,
    rounds=5,
    precision="bfloat16",
    tolerance=2e-3,
    rate=2e-4,
)
MOVED = 10  # training must change the loss by so many tolerances, or losses would not show different work
COLUMNS = {
    "work": "work",
    "way": "way",
    "tokens_a_second": "tokens a second",
    "low": "20th percentile",
    "high": "80th percentile",
    "times_ours": "times ours",
    "peak_megabytes": "peak MB",
}


def measure(out: Path) -> None:
    """Write peers_cpu.csv or peers_gpu.csv and its Markdown to the folder `out`.

    Raises:
        AdaptbenchError: trl is not installed, or ways do different work; nothing is written.
    """
    if not version("trl"):
        raise AdaptbenchError("trl is not installed: pip install 'adaptbench[peers]'")
    on_gpu = gpus.device() == "cuda"
    sizes = GPU if on_gpu else CPU
    rows = [row for work, ways in works(sizes).items() for row in compare(work, ways, sizes)]
    caption = (
        f"A training step in {sizes.precision} of a Qwen3 model ({rows[0]['shape']}), {sizes.masked:.0%} of the"
        f" positions without a label unless said; medians of {sizes.rounds * sizes.timed} steps in {sizes.rounds}"
        " rounds, ways in turn in one process. Peak: what a run takes, model and optimizer"
        f" included. " + ", ".join(f"{name} {version}" for name, version in _versions().items()) + ";"
    )
    tables.keep(rows, out / f"peers_{'gpu' if on_gpu else 'cpu'}.csv", COLUMNS, caption)


def compare(work: str, ways: Mapping[str, Way], sizes: Sizes) -> list[dict[str, Any]]:
    """Time the ways of one work and return a row for each.

    Raises:
        AdaptbenchError: ways do different work.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(sizes.rounds):
        traces = {name: _run(way, sizes.warm + sizes.timed) for name, way in ways.items()}
        apart = agreement(work, traces, sizes.tolerance)
        for name, trace in traces.items():
            seconds[name] += [end - start for start, end in pairwise(trace.ends[sizes.warm - 1 :])]
    tokens = sizes.rows * sizes.length
    ours = statistics.median(seconds[OURS])
    rows = []
    for name, way in ways.items():
        median = statistics.median(seconds[name])
        twentieth, *_, eightieth = statistics.quantiles([tokens / one for one in seconds[name]], n=5)
        rows.append(
            {
                "work": work,
                "way": name,
                "dtype": sizes.precision,
                "shape": _shape(sizes),
                "tokens_a_second": round(tokens / median),
                "low": round(twentieth),
                "high": round(eightieth),
                "times_ours": round(ours / median, 2),
                "median_milliseconds": round(1e3 * median, 2),
                "peak_megabytes": round(kernels.peak(partial(_run, way, 2), gpus.device()) / 1e6),
                "trained_parameters": traces[name].trained,
                "loss_difference": f"{apart[name]:.1e}",
                **_versions(),
                **tables.surroundings(gpus.device()),
            }
        )
    return rows


def agreement(work: str, traces: Mapping[str, Trace], tolerance: float) -> dict[str, float]:
    """Return the largest relative difference of each way's losses from ours.

    Raises:
        AdaptbenchError: more than `tolerance`, other counts of steps or trained parameters, or a loss that training
        hardly
            moves.
    """
    ours = traces[OURS]
    moved = abs(ours.losses[-1] / ours.losses[0] - 1)
    if not moved > MOVED * tolerance:
        raise AdaptbenchError(f"{work}: {len(ours.losses)} steps move the loss by {moved:.1e}: too little to compare")
    apart = {}
    for name, trace in traces.items():
        for what, here, there in (
            ("steps", len(ours.losses), len(trace.losses)),
            ("timed steps", len(ours.ends), len(trace.ends)),
            ("trained parameters", ours.trained, trace.trained),
        ):
            if here != there:
                raise AdaptbenchError(f"{work}: {there} {what} in {name}, {here} in {OURS}; not the same work")
        differences = [abs(there / here - 1) for here, there in zip(ours.losses, trace.losses, strict=True)]
        for step, difference in enumerate(differences):
            if not difference <= tolerance:
                raise AdaptbenchError(
                    f"{work}: the loss of step {step + 1} is {trace.losses[step]:.6f} in {name},"
                    f" {ours.losses[step]:.6f} in {OURS}; not the same work"
                )
        apart[name] = max(differences)
    return apart


def _run(way: Way, steps: int) -> Trace:
    trace = Trace()
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        way(steps, trace)
    gc.collect()  # reference cycles of a trainer keep its model in memory
    trace.losses = [float(loss) for loss in trace.losses]
    return trace


def _shape(sizes: Sizes) -> str:
    return (
        f"{sizes.rows} x {sizes.length} tokens, width {sizes.hidden}, {sizes.layers} layers,"
        f" vocabulary {sizes.vocabulary:,}"
    )


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("trl", "peft", "accelerate", "liger_kernel") if version(name)}
