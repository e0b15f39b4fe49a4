"""Makes a stage's optimizers and learning-rate schedules, and counts its steps."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from adaptbench.config.training import Training
from adaptbench.contracts import StageContext
from adaptbench.data.packing import Example, Packed
from adaptbench.model import parameters
from adaptbench.train.attention import precision

if TYPE_CHECKING:
    import torch


def default_optimizers(model: "torch.nn.Module", training: Training) -> "list[torch.optim.Optimizer]":
    """Return AdamW for everything that trains, with weight decay on matrices only.

    With `optimizer: muon`, Muon steps the matrices between embedding and output head instead (not experts stacked in
    one tensor), with updates scaled to AdamW's size (arXiv 2502.16982).
    """
    import torch

    from adaptbench.train.muon import Muon

    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    ends = {id(module.weight) for module in (model.get_input_embeddings(), model.get_output_embeddings())}
    muon = [p for p in trained.values() if training.optimizer == "muon" and p.ndim == 2 and id(p) not in ends]
    taken = {id(p) for p in muon}
    rest = [p for p in trained.values() if id(p) not in taken]
    groups = parameters.decay_groups(rest, training.weight_decay)
    optimizers: list[torch.optim.Optimizer] = []
    if groups:
        optimizers.append(
            torch.optim.AdamW(groups, lr=training.learning_rate, betas=training.betas, eps=1e-8, fused=True)
        )
    if muon:
        rate, decay = training.muon_learning_rate, training.weight_decay
        dtype = torch.bfloat16 if precision(training) == "bfloat16" else None
        optimizers.append(Muon(muon, dtype=dtype, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"))
    return optimizers


def total_steps(training: Training, data: Packed) -> int:
    """Count the optimizer steps of a stage; epochs are counted in the rows of the first one."""
    if training.steps is not None:
        return training.steps
    assert training.epochs is not None
    return max(1, math.ceil(training.epochs * len(data.epoch(0)) / training.batch_size))


def counted_steps(training: Training, examples: Callable[[], Sequence[Example]], context: StageContext) -> int:
    """Count the optimizer steps of a stage on `examples()`, which are made only if epochs must be counted."""
    if training.steps is not None:
        return training.steps
    return total_steps(
        training, Packed(examples(), training.sequence_length, context.seed, together=context.can("packing"))
    )


def schedule_of(
    optimizer: "torch.optim.Optimizer", training: Training, steps: int
) -> "torch.optim.lr_scheduler.LRScheduler":
    """Return transformers' schedule of the learning rate over `steps` steps."""
    from transformers import get_scheduler

    name = "constant_with_warmup" if training.schedule == "constant" else training.schedule
    specific = {"num_decay_steps": round(training.decay_ratio * steps)} if name == "warmup_stable_decay" else None
    warmup = round(training.warmup_ratio * steps)
    return get_scheduler(name, optimizer, warmup, steps, scheduler_specific_kwargs=specific)
