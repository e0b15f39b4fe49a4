"""Makes one optimizer step: micro-batches, forward and backward passes, clipping and the update."""

from collections.abc import Sequence
from contextlib import nullcontext
from itertools import chain
from typing import TYPE_CHECKING, Any

from adaptbench.config.training import Training
from adaptbench.data.packing import IGNORED, Example, Packed
from adaptbench.train import distributed
from adaptbench.train.hooks import Collate
from adaptbench.train.objectives import Batch, Objective
from adaptbench.train.setup import Setup

if TYPE_CHECKING:
    import torch


class Batches:
    """The micro-batches of every step from `first` on. They depend on the data's seed and the step alone."""

    def __init__(self, data: Packed, training: Training, collate: Collate | None, *, pad_id: int, first: int) -> None:
        self._data, self._collate, self._pad_id = data, collate, pad_id
        self._size = training.micro_batch_size
        self._rows = data.batches(training.batch_size, first=first)

    def take(self, process: int, processes: int) -> list[Batch]:
        """Return the micro-batches of the next step that this one of several processes computes."""
        return self._micro_batches(next(self._rows)[process::processes])

    def peek(self) -> Batch:
        """Return the first micro-batch of the next step, which `take` still returns."""
        rows = next(self._rows)
        self._rows = chain([rows], self._rows)
        return self._micro_batches(rows)[0]

    def _micro_batches(self, rows: Sequence[Sequence[Example]]) -> list[Batch]:
        size = self._size or len(rows)
        parts = [rows[i : i + size] for i in range(0, len(rows), size)]
        if self._collate:
            return [self._collate(part, self._data.length, self._pad_id) for part in parts]
        return [self._data.collate(part, self._pad_id) for part in parts]


def on_device(batch: Batch, setup: Setup) -> Batch:
    """Return the batch on the accelerator."""
    return {name: tensor.to(setup.accelerator.device) for name, tensor in batch.items()}


def backward(setup: Setup, objective: Objective, batches: Sequence[Batch]) -> "tuple[torch.Tensor, int]":
    """Run the forward and backward passes of a step's micro-batches.

    Each one's loss is weighted by its share of the step's labelled tokens, over all processes.

    Returns:
        The sum of this process's weighted losses (its mean over processes is the step's loss), and the step's labelled
        tokens.
    """
    import torch

    accelerator = setup.accelerator
    labelled = [int((batch["labels"][:, 1:] != IGNORED).sum()) for batch in batches]
    step_labelled = int(accelerator.reduce(torch.tensor(sum(labelled), device=accelerator.device), "sum"))
    loss_sum = torch.zeros((), device=accelerator.device)
    for i, (batch, count) in enumerate(zip(batches, labelled, strict=True)):
        last = i == len(batches) - 1
        # Sharded gradients are reduced after each micro-batch: until the last one they would be whole on every device.
        unreduced = nullcontext() if last or setup.devices.sharded else accelerator.no_sync(setup.module)
        with unreduced, accelerator.autocast():
            # Gradients are averaged over processes, so each one's share counts num_processes times.
            loss = setup.module(objective, on_device(batch, setup)) * (
                count * accelerator.num_processes / step_labelled
            )
            accelerator.backward(loss)
        loss_sum += loss.detach()
    return loss_sum, step_labelled


def update(setup: Setup, max_norm: float) -> tuple[Any, float]:
    """Clip gradients, step optimizers and schedules; return the norm before clipping and the step's learning rate."""
    norm = distributed.full_tensor(setup.accelerator.clip_grad_norm_(setup.trained, max_norm))
    rate = setup.optimizers[0].param_groups[0]["lr"]
    for optimizer, schedule in zip(setup.wrapped, setup.schedules, strict=True):
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
    return norm, rate


def warm_up(setup: Setup, objective: Objective, batches: Batches) -> None:
    """Run one forward and one backward pass, and leave neither gradients nor another random state."""
    import torch

    try:
        with torch.random.fork_rng(), setup.accelerator.autocast():
            setup.accelerator.backward(setup.module(objective, on_device(batches.peek(), setup)))
    finally:
        setup.module.zero_grad(set_to_none=True)
