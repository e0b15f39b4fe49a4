"""What a training step of each method is made of, on the stages of a preset that has run.

    python -m tools step-speed results/tiny results/reference/bench

Every stage is begun again on its own inputs and trained for a few dozen steps by the suite's own loop, whose calls are
timed: data, forward, backward, clipping, the optimizer's step, what a method does after it, and the rest. Stages whose
layers are compiled are timed both ways in turn; the parts are those without. Nothing of the preset is changed.
"""

import json
import math
import statistics
import tempfile
import threading
import time
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adaptbench.errors import AdaptbenchError
from adaptbench.io import results
from adaptbench.jobs import gpus
from adaptbench.stages import job
from adaptbench.train import loop, provenance
from tools.speed import tables

WARM_UP, STEPS, PROFILED = 5, 50, 5  # ADEPT measures its units every 50 steps
ROUNDS = 3  # of a stage that is timed both ways
RUNS = (
    ("domain", "full"), ("domain", "lora"), ("domain", "llama-pro"), ("domain", "adept"), ("agent", "glpft"), ("reasoning", "lt-tuning"),
    ("reasoning", "coconut"),
)  # fmt: skip
PARTS = ("data", "forward", "backward", "clipping", "optimizer", "after the step")
PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::_scaled_dot_product")
COLUMNS = {
    "stage": "stage", "milliseconds": "ms a step", "compiled": "compiled", "times_compiled": "times", **{part: f"{part} %" for part in PARTS}, "rest": "rest %",
    "products": "of operators' time in matrix products %", "gflops": "GFLOP/s", "share_of_product": "of a large product's %",
}  # fmt: skip
FLOOR_COLUMNS = {
    "what": "stages of", "stages": "how many", "teraflop": "TFLOP", "seconds": "seconds of training", "gflops": "GFLOP/s", "floor_seconds": "floor in seconds",
    "times_floor": "times the floor",
}  # fmt: skip


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
        f"Means of {STEPS} steps of the preset {root.name}, shares of a step's time. Compiled: with compiled layers, for stages that the preset trains so,"
        f" medians of {ROUNDS} turns each; the first compiling is not in them. GFLOP/s: arithmetic as the cost table counts it; a product of two"
        f" 1024 x 1024 matrices runs at {fastest / 1e9:.0f} here."
    )
    kind = "gpu" if device == "cuda" else "cpu"
    tables.keep(rows, out / f"steps_{root.name}_{kind}.csv", COLUMNS, caption)
    jobs = _jobs_at_once(device)
    beside = _product_rate(device, jobs)
    whole = [row | tables.surroundings(device) for row in _floor(root, beside)]
    others = f" while {jobs} run at once, as the graph's jobs do" if jobs > 1 else ""
    caption = (
        f"All training stages of the preset {root.name}'s main part, each once, as they ran. Floor: their arithmetic at the rate of a product of two 1024 x 1024"
        f" matrices{others} ({beside / 1e9:.0f} GFLOP/s each; {fastest / 1e9:.0f} alone)."
    )
    tables.keep(whole, out / f"floor_{root.name}_{kind}.csv", FLOOR_COLUMNS, caption)


def _stages(root: Path) -> Iterator[tuple[str, Path]]:
    """The training stages of the measured runs under their first seed, each once."""
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
    """How many jobs of this many threads a graph runs on this machine: on as many cores as it may use, or one on a GPU."""
    import torch

    return 1 if device == "cuda" else max(1, provenance.hardware()["cores"] // torch.get_num_threads())


def _floor(root: Path, fastest: float) -> list[dict[str, Any]]:
    """A row a track: arithmetic and seconds of its training stages, bases apart, and what a large product would need for it."""
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
        rows.append({
            "what": name, "stages": len(costs), "teraflop": round(flops / 1e12, 2), "seconds": round(seconds), "gflops": round(flops / seconds / 1e9, 1),
            "floor_seconds": round(flops / fastest), "times_floor": round(seconds / (flops / fastest), 2),
        })  # fmt: skip
    return rows


def _product_rate(device: str, at_once: int = 1) -> float:
    """Floating-point operations a second of a large matrix product in float32, of each while `at_once` of them run."""
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
    """One row: the parts of a step of this stage, and how long it takes with compiled layers if they are."""
    spec = json.loads(plan.read_text()) | {"checkpoint_seconds": math.inf}
    turns = [(False, *_watched(spec, compile_layers=False))]
    if spec["options"]["training"].get("compile"):
        turns.append((True, *_watched(spec, compile_layers=True)))
    if turns[-1][1]["compiled"]:  # what cannot be compiled is timed once
        for _ in range(ROUNDS - 1):
            turns += [(way, *_watched(spec, compile_layers=way)) for way in (False, True)]
    _, manifest, watch = turns[0]
    whole = statistics.median(one.step_seconds() for compile_layers, _, one in turns if not compile_layers)
    compiled = [one.step_seconds() for _, made, one in turns if made["compiled"]]
    shares = watch.shares()
    rate = manifest["cost"]["flops"] / manifest["cost"]["steps"] / whole
    return {
        "milliseconds": round(1e3 * whole, 2),
        "compiled": round(1e3 * statistics.median(compiled), 2) if compiled else "",
        "times_compiled": round(whole / statistics.median(compiled), 2) if compiled else "",
        **{part: round(100 * share, 1) for part, share in shares.items()},
        "rest": round(100 * (1 - sum(shares.values())), 1),
        "products": round(100 * watch.products, 1),
        "gflops": round(rate / 1e9, 1),
        "share_of_product": round(100 * rate / fastest, 1),
    }


def _watched(spec: dict[str, Any], *, compile_layers: bool) -> "tuple[dict[str, Any], _Watch]":
    options = spec["options"] | {"training": spec["options"]["training"] | {"compile": compile_layers}}
    watch = _Watch()
    with tempfile.TemporaryDirectory() as folder, watch.installed():
        made = job.KINDS[spec["kind"]](
            spec | {"options": options}, _made(Path(folder) / "out"), _made(Path(folder) / "work")
        )
    return made, watch


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


class _Watch:
    """Times the calls of the training loop: seconds by part for every step, and the share of matrix products in a few more."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []
        self.products = math.nan
        self._within = False

    def _counted(self) -> list[dict[str, float]]:
        return self.steps[WARM_UP : WARM_UP + STEPS]

    def step_seconds(self) -> float:
        """The mean of the steps that count."""
        return statistics.mean(step["all"] for step in self._counted())

    def shares(self) -> dict[str, float]:
        """Of those steps' time, by part."""
        whole = sum(step["all"] for step in self._counted())
        return {part: sum(step.get(part, 0.0) for step in self._counted()) / whole for part in PARTS}

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Put the watch around `training.train`."""
        import torch

        train, backward, clip = loop.train, torch.Tensor.backward, torch.nn.utils.clip_grad_norm_
        try:
            loop.train = self._around(train)
            torch.Tensor.backward = self.timed("backward", backward)
            torch.nn.utils.clip_grad_norm_ = self.timed("clipping", clip)
            yield
        finally:
            loop.train, torch.Tensor.backward = train, backward
            torch.nn.utils.clip_grad_norm_ = clip

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, whose time counts for the part, unless a part that is being timed calls it."""

        def call(*positional: Any, **named: Any) -> Any:
            if self._within:
                return function(*positional, **named)
            self._within, started = True, self._now()
            try:
                return function(*positional, **named)
            finally:
                self._within = False
                if self.steps:
                    self.steps[-1][part] = self.steps[-1].get(part, 0.0) + self._now() - started

        return call

    @staticmethod
    def _now() -> float:
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()

    def _around(self, train: Callable[..., Any]) -> Callable[..., Any]:
        def watched(model: Any, optimizers: Any, data: Any, objective: Any, options: Any, **named: Any) -> Any:
            for optimizer in optimizers:
                optimizer.step = types.MethodType(self.timed("optimizer", type(optimizer).step), optimizer)
            callback = named["callback"]
            if callback is not None:
                callback.after_step = self.timed("after the step", callback.after_step)
            collate = named.get("collate_rows") or (lambda rows, length, pad_id: data.collate(rows, pad_id))
            named["collate_rows"] = self.timed("data", collate)
            options = options.model_copy(update={"steps": WARM_UP + STEPS + PROFILED + 1, "epochs": None})
            rows = _Rows(data, self)
            try:
                return train(model, optimizers, rows, self.timed("forward", objective), options, **named)
            finally:
                rows.stop()

        return watched


class _Rows:
    """Packed rows; asking for a step's begins the next step of the watch."""

    def __init__(self, data: Any, watch: _Watch) -> None:
        self._data, self._watch = data, watch
        self._profile: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._data, name)

    def batches(self, size: int, first: int = 0) -> Iterator[Any]:
        rows = self._data.batches(size, first=first)
        began = None
        while True:
            now = self._watch._now()
            if began is not None:
                self._watch.steps[-1]["all"] = now - began
            began = now
            if len(self._watch.steps) == WARM_UP + STEPS:
                self._start()
            elif len(self._watch.steps) == WARM_UP + STEPS + PROFILED:
                self.stop()
            self._watch.steps.append({})
            found = next(rows)
            self._watch.steps[-1]["data"] = self._watch._now() - now
            yield found

    def _start(self) -> None:
        self._profile = tables.profiled()
        self._profile.start()

    def stop(self) -> None:
        """End the profile, if one was begun."""
        if self._profile is None:
            return
        self._profile.stop()
        operators = [one for one in self._profile.key_averages() if one.key.startswith("aten::")]
        of_products = sum(one.self_cpu_time_total for one in operators if one.key.startswith(PRODUCTS))
        self._watch.products = of_products / sum(one.self_cpu_time_total for one in operators)
        self._profile = None
