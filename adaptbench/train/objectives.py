"""The next-token objective, and what a model reads of a batch."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from adaptbench.data.packing import IGNORED
from adaptbench.model import forward

if TYPE_CHECKING:
    import torch


Batch = Mapping[str, "torch.Tensor"]


Objective = Callable[["torch.nn.Module", Batch], "torch.Tensor"]


MANY_LOGITS = 1 << 28  # bytes in float32; fewer are faster made at once


def inputs_of(batch: Batch) -> "dict[str, torch.Tensor]":
    """What the model reads of a batch: tokens, and positions or a mask, as packing gives them."""
    return {name: batch[name] for name in ("input_ids", "position_ids", "attention_mask") if name in batch}


def next_tokens(batch: Batch) -> "tuple[torch.Tensor, torch.Tensor]":
    """Which positions (rows, length) are trained to predict the token after them, and those tokens (positions,)."""
    targets = batch["labels"].roll(-1, 1)
    targets[:, -1] = IGNORED
    kept = targets != IGNORED
    return kept, targets[kept]


def causal_lm(model: "torch.nn.Module", batch: Batch) -> "torch.Tensor":
    """Mean next-token cross-entropy (nats) over the labelled tokens."""
    import torch

    kept, targets = next_tokens(batch)
    head = model.get_output_embeddings()
    if 4 * len(targets) * len(head.weight) > MANY_LOGITS and forward.has_plain_head(model):
        from adaptbench.kernels.masked_linear_cross_entropy import masked_linear_cross_entropy

        hidden = forward.before_head_at(model, kept, inputs_of(batch))
        return masked_linear_cross_entropy(hidden, head.weight, targets)
    return torch.nn.functional.cross_entropy(forward.logits_at(model, kept, inputs_of(batch)), targets)
