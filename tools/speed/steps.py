"""Measure the parts of a training step of each method, on the stages of a finished preset.

    python -m tools step-speed results/tiny results/reference/bench

Every stage starts again from its inputs and is trained for a few dozen steps by the suite's loop, whose calls are
timed: data, forward, backward, clipping, the optimizer's step, the method's callback, and the rest. Stages with
compiled layers are timed with and without compiling in turn; the parts are those without. The preset is not changed.
"""

import json
import math
import statistics
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from adaptbench.errors import AdaptbenchError
from adaptbench.io import results
from adaptbench.jobs import gpus
from adaptbench.stages import job
from adaptbench.train import provenance
from tools.speed import step_timer, tables
from tools.speed.step_timer import PARTS, StepTimer

ROUNDS = 3  # of a stage that is timed both ways
RUNS = (
    ("domain", "full"),
    ("domain", "lora"),
    ("domain", "llama-pro"),
    ("domain", "adept"),
    ("agent", "glpft"),
    ("reasoning", "lt-tuning"),
    ("reasoning", "coconut"),
)
COLUMNS = {
    "stage": "stage",
    "milliseconds": "ms a step",
    "compiled": "compiled",
    "times_compiled": "times",
    **{part: f"{part} %" for part in PARTS},
    "rest": "rest %",
    "products": "of operators' time in matrix products %",
    "gflops": "GFLOP/s",
    "share_of_product": "of a large product's %",
}
FLOOR_COLUMNS = {
    "what": "stages of",
    "stages": "how many",
    "teraflop": "TFLOP",
    "seconds": "seconds of training",
    "gflops": "GFLOP/s",
    "floor_seconds": "floor in seconds",
    "times_floor": "times the floor",
}


def measure(root: Path, out: Path) -> None:
    """Write steps_<preset>_<device>.csv and its Markdown to the folder `out`.

    Raises:
        AdaptbenchError: the preset has not run, or has none of the runs that are measured.
    """
    found = dict(_stages(root))
    if not found:
        raise AdaptbenchError(
            f"{root}: none of the runs {', '.join('/'.join(one) for one in RUNS)} is done; run `make`"
        )
    device = gpus.device()
    fastest = _product_rate(device)
    rows = [{"stage": name, **_measured(plan, fastest), **tables.surroundings(device)} for name, plan in found.items()]
    caption = (
        f"Means of {step_timer.STEPS} steps of the preset {root.name}, shares of a step's time. Compiled: with"
        f" compiled layers, for stages that the preset trains so, medians of {ROUNDS} turns each; the first compiling"
        " is not in them. GFLOP/s: arithmetic as the cost table counts it; a product of two 1024 x 1024 matrices runs"
        f" at {fastest / 1e9:.0f} here."
    )
    kind = "gpu" if device == "cuda" else "cpu"
    tables.keep(rows, out / f"steps_{root.name}_{kind}.csv", COLUMNS, caption)
    jobs = _jobs_at_once(device)
    beside = _product_rate(device, jobs)
    whole = [row | tables.surroundings(device) for row in _floor(root, beside)]
    others = f" while {jobs} run at once, as the graph's jobs do" if jobs > 1 else ""
    caption = (
        f"All training stages of the preset {root.name}'s main part, each once, as they ran. Floor: their arithmetic"
        f" at the rate of a product of two 1024 x 1024 matrices{others} ({beside / 1e9:.0f} GFLOP/s each;"
        f" {fastest / 1e9:.0f} alone)."
    )
    tables.keep(whole, out / f"floor_{root.name}_{kind}.csv", FLOOR_COLUMNS, caption)


def _stages(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield the name and the plan of each training stage of the measured runs under their first seed, once."""
    seen = set()
    for track, run in RUNS:
        paths = sorted((root / "runs" / track / run).glob("seed*/run.json"))
        done = [one for one in map(results.read_run, paths) if one["status"] == "done"]
        for node, stage in done[0]["cost"]["stages"].items() if done else ():
            if stage["kind"] in ("base", "train") and node not in seen:
                seen.add(node)
                name = f"{run}, {stage['name']}" if stage["name"] else "base"
                yield name, root / "plan" / f"{node}.json"


def _jobs_at_once(device: str) -> int:
    """Return the number of jobs that a graph runs at once here: cores by threads per job, or one on a GPU."""
    import torch

    return 1 if device == "cuda" else max(1, provenance.hardware()["cores"] // torch.get_num_threads())


def _floor(root: Path, fastest: float) -> list[dict[str, Any]]:
    """Return a row for each track: FLOPs and seconds of its training stages, and their time at the rate `fastest`.

    The bases have a separate row.
    """
    counted: dict[str, list[tuple[float, float]]] = {}
    seen = set()
    for path in map(Path, json.loads((root / "plan/report-main.json").read_text())["runs"]):
        run = results.read_run(root.joinpath(*path.parts[2:]))
        for node, stage in run["cost"]["stages"].items() if run["status"] == "done" else ():
            if stage["kind"] not in ("base", "train") or node in seen:
                continue
            seen.add(node)
            cost = stage["cost"]
            name = "base" if stage["kind"] == "base" else run["key"]["track"]
            counted.setdefault(name, []).append((cost["flops"], cost["train_seconds"]))
    counted["all"] = [one for stages_of in counted.values() for one in stages_of]
    rows = []
    for name, costs in counted.items():
        flops, seconds = (sum(column) for column in zip(*costs, strict=True))
        rows.append(
            {
                "what": name,
                "stages": len(costs),
                "teraflop": round(flops / 1e12, 2),
                "seconds": round(seconds),
                "gflops": round(flops / seconds / 1e9, 1),
                "floor_seconds": round(flops / fastest),
                "times_floor": round(seconds / (flops / fastest), 2),
            }
        )
    return rows


def _product_rate(device: str, at_once: int = 1) -> float:
    """Return the FLOP/s of a large float32 matrix product, of each while `at_once` of them run."""
    import torch

    matrix = torch.randn(1024, 1024, device=device)

    def product() -> None:
        matrix @ matrix
        if device == "cuda":
            torch.cuda.synchronize()

    def seconds(_: int) -> list[float]:
        product()
        together.wait()
        return tables.in_turn({"": product}, 15)[1][""]

    together = threading.Barrier(at_once)
    with ThreadPoolExecutor(at_once) as threads:
        found = [one for each in threads.map(seconds, range(at_once)) for one in each]
    return 2 * 1024**3 / statistics.median(found)


def _measured(plan: Path, fastest: float) -> dict[str, Any]:
    """Return the row of a stage: the parts of its step, and its time with compiled layers if it has them."""
    spec = json.loads(plan.read_text()) | {"checkpoint_seconds": math.inf}
    turns = [(False, *_timed(spec, compile_layers=False))]
    if spec["options"]["training"].get("compile"):
        turns.append((True, *_timed(spec, compile_layers=True)))
    if turns[-1][1]["compiled"]:  # layers that cannot be compiled are timed once
        for _ in range(ROUNDS - 1):
            turns += [(way, *_timed(spec, compile_layers=way)) for way in (False, True)]
    _, manifest, timer = turns[0]
    whole = statistics.median(one.step_seconds() for compile_layers, _, one in turns if not compile_layers)
    compiled = [one.step_seconds() for _, made, one in turns if made["compiled"]]
    shares = timer.shares()
    rate = manifest["cost"]["flops"] / manifest["cost"]["steps"] / whole
    return {
        "milliseconds": round(1e3 * whole, 2),
        "compiled": round(1e3 * statistics.median(compiled), 2) if compiled else "",
        "times_compiled": round(whole / statistics.median(compiled), 2) if compiled else "",
        **{part: round(100 * share, 1) for part, share in shares.items()},
        "rest": round(100 * (1 - sum(shares.values())), 1),
        "products": round(100 * timer.products, 1),
        "gflops": round(rate / 1e9, 1),
        "share_of_product": round(100 * rate / fastest, 1),
    }


def _timed(spec: dict[str, Any], *, compile_layers: bool) -> tuple[dict[str, Any], StepTimer]:
    options = spec["options"] | {"training": spec["options"]["training"] | {"compile": compile_layers}}
    timer = StepTimer()
    with tempfile.TemporaryDirectory() as folder, timer.installed():
        made = job.KINDS[spec["kind"]](
            spec | {"options": options}, _made(Path(folder) / "out"), _made(Path(folder) / "work")
        )
    return made, timer


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
