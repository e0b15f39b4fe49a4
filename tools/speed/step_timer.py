"""Time the parts of the training loop's steps by wrapping the functions that it calls."""

import math
import statistics
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from adaptbench.train import loop
from tools.speed import tables

WARM_UP, STEPS, PROFILED = 5, 50, 5  # ADEPT measures its units every 50 steps
PARTS = ("data", "forward", "backward", "clipping", "optimizer", "after the step")
PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::_scaled_dot_product")


class StepTimer:
    """Timer of the training loop: seconds of each part of a step, and the share of matrix products in some steps."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []
        self.products = math.nan
        self._within = False

    def _counted(self) -> list[dict[str, float]]:
        return self.steps[WARM_UP : WARM_UP + STEPS]

    def step_seconds(self) -> float:
        """Return the mean seconds of the counted steps."""
        return statistics.mean(step["all"] for step in self._counted())

    def shares(self) -> dict[str, float]:
        """Return the share of each part in the time of the counted steps."""
        whole = sum(step["all"] for step in self._counted())
        return {part: sum(step.get(part, 0.0) for step in self._counted()) / whole for part in PARTS}

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Time `loop.train` within the context."""
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
        """Wrap the function so that its time counts for the part, unless it is called within a timed part."""

        def call(*positional: Any, **named: Any) -> Any:
            if self._within:
                return function(*positional, **named)
            self._within, started = True, self.now()
            try:
                return function(*positional, **named)
            finally:
                self._within = False
                if self.steps:
                    self.steps[-1][part] = self.steps[-1].get(part, 0.0) + self.now() - started

        return call

    @staticmethod
    def now() -> float:
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()

    def _around(self, train: Callable[..., Any]) -> Callable[..., Any]:
        def timed_train(model: Any, optimizers: Any, data: Any, objective: Any, options: Any, **named: Any) -> Any:
            for optimizer in optimizers:
                optimizer.step = types.MethodType(self.timed("optimizer", type(optimizer).step), optimizer)
            callback = named["callback"]
            if callback is not None:
                callback.after_step = self.timed("after the step", callback.after_step)
            collate = named.get("collate_rows") or (lambda rows, length, pad_id: data.collate(rows, pad_id))
            named["collate_rows"] = self.timed("data", collate)
            options = options.model_copy(update={"steps": WARM_UP + STEPS + PROFILED + 1, "epochs": None})
            rows = _TimedRows(data, self)
            try:
                return train(model, optimizers, rows, self.timed("forward", objective), options, **named)
            finally:
                rows.stop()

        return timed_train


class _TimedRows:
    """Packed rows; reading those of a step begins the next step of the timer."""

    def __init__(self, data: Any, timer: StepTimer) -> None:
        self._data, self._timer = data, timer
        self._profile: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._data, name)

    def batches(self, size: int, first: int = 0) -> Iterator[Any]:
        rows = self._data.batches(size, first=first)
        began = None
        while True:
            now = self._timer.now()
            if began is not None:
                self._timer.steps[-1]["all"] = now - began
            began = now
            if len(self._timer.steps) == WARM_UP + STEPS:
                self._start()
            elif len(self._timer.steps) == WARM_UP + STEPS + PROFILED:
                self.stop()
            self._timer.steps.append({})
            found = next(rows)
            self._timer.steps[-1]["data"] = self._timer.now() - now
            yield found

    def _start(self) -> None:
        self._profile = tables.profiled()
        self._profile.start()

    def stop(self) -> None:
        """End the profile if it is running."""
        if self._profile is None:
            return
        self._profile.stop()
        operators = [one for one in self._profile.key_averages() if one.key.startswith("aten::")]
        of_products = sum(one.self_cpu_time_total for one in operators if one.key.startswith(PRODUCTS))
        self._timer.products = of_products / sum(one.self_cpu_time_total for one in operators)
        self._profile = None
