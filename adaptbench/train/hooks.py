"""Defines the hooks by which a method takes part in a training stage."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from adaptbench.train.objectives import Batch, Objective

if TYPE_CHECKING:
    import torch

    from adaptbench.data.packing import Example


Run = Callable[[Objective, Batch], "torch.Tensor"]
"""Compute an objective with the model in training, wherever its weights are. Gradients flow from the result."""

Collate = Callable[["Sequence[Sequence[Example]]", int, int], Batch]
"""Make a batch of rows of examples, a row length in tokens, and the id of the padding token."""


class Callback(Protocol):
    """A tuner's work between steps, such as changing learning rates. Its state is part of the checkpoint.

    It may also have `start(step, steps, run)`, called before the first step of this process: `step` steps were made
    before an interruption, of `steps` in all. The values that it returns are logged with the next step.
    """

    def after_step(self, step: int, run: Run) -> dict[str, float]:
        """Act after optimizer step `step` (from 1), in every process. Return values to log."""

    def state(self) -> dict[str, Any]:
        """Return the JSON that `restore` needs."""

    def restore(self, state: dict[str, Any]) -> None:
        """Take over the state of an interrupted training."""


@dataclass(frozen=True)
class Hooks:
    """The hooks of a tuner and a curriculum; None stands for the suite's default.

    Attributes:
        objective: the loss of a batch. Default: the next token's cross-entropy. An objective that also runs other
            models forward on the same batches names them in its attribute `forward_only`.
        collate_rows: makes a batch. Default: rows packed with examples.
        optimizer: steps everything that trains. Default: the one of the training options.
        make_callback: makes the callback from the stage's optimizers, right before training. It may return None.
    """

    objective: Objective | None = None
    collate_rows: Collate | None = None
    optimizer: "torch.optim.Optimizer | None" = None
    make_callback: "Callable[[Sequence[torch.optim.Optimizer]], Callback | None] | None" = None
