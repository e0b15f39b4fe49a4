"""What a method may bring to a training stage."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from adaptbench.train.objectives import Batch, Objective

if TYPE_CHECKING:
    import torch


Run = Callable[[Objective, Batch], "torch.Tensor"]
"""An objective of the model in training, wherever its weights are; gradients go on from it."""


class Callback(Protocol):
    """A tuner's own work between steps, such as changing rates. Its state is part of the checkpoint.

    It may have `start(step, steps, run)` too, called before the first step that is made here: `step` were made before an
    interruption, and `steps` are made in the end. What it returns is logged with that step.
    """

    def after_step(self, step: int, run: Run) -> dict[str, float]:
        """Called after optimizer step `step` (from 1), in every process; what it returns is logged."""

    def state(self) -> dict[str, Any]:
        """JSON that `restore` needs."""

    def restore(self, state: dict[str, Any]) -> None: ...
