"""Computes the next-token objective, and selects a model's inputs from a batch."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from adaptbench.data.packing import IGNORED
from adaptbench.model import forward

if TYPE_CHECKING:
    import torch


Batch = Mapping[str, "torch.Tensor"]


Objective = Callable[["torch.nn.Module", Batch], "torch.Tensor"]


MANY_LOGITS = 1 << 28  # bytes in float32; fewer are faster without chunks


def inputs_of(batch: Batch) -> "dict[str, torch.Tensor]":
    """Return the model's inputs: tokens, and positions or a mask, as packing makes them."""
    return {name: batch[name] for name in ("input_ids", "position_ids", "attention_mask") if name in batch}


def next_tokens(batch: Batch) -> "tuple[torch.Tensor, torch.Tensor]":
    """Return a mask (rows, length) of the positions that predict a trained token, and those tokens (positions,)."""
    targets = batch["labels"].roll(-1, 1)
    targets[:, -1] = IGNORED
    kept = targets != IGNORED
    return kept, targets[kept]


def causal_lm(model: "torch.nn.Module", batch: Batch) -> "torch.Tensor":
    """Return the mean next-token cross-entropy (nats) over the labelled tokens."""
    import torch

    kept, targets = next_tokens(batch)
    head = model.get_output_embeddings()
    if 4 * len(targets) * len(head.weight) > MANY_LOGITS and forward.has_plain_head(model):
        from adaptbench.kernels.masked_linear_cross_entropy import masked_linear_cross_entropy

        hidden = forward.before_head_at(model, kept, inputs_of(batch))
        return masked_linear_cross_entropy(hidden, head.weight, targets)
    return torch.nn.functional.cross_entropy(forward.logits_at(model, kept, inputs_of(batch)), targets)
