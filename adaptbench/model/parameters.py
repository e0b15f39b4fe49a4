"""Counts and groups a model's parameters, and lets rows of embeddings train."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from adaptbench.errors import AdaptbenchError

if TYPE_CHECKING:
    import torch


def check_finite(model: "torch.nn.Module") -> None:
    """Check that all weights are finite.

    Raises:
        AdaptbenchError: one is not.
    """
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise AdaptbenchError(f"{name} holds values that are infinite or not a number; the weights are damaged")


def tensors(model: "torch.nn.Module") -> "Iterator[tuple[str, torch.Tensor]]":
    """Yield the names and values of a model's floating-point parameters and buffers."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point():
            yield name, tensor


def parameter_counts(model: "torch.nn.Module") -> dict[str, int]:
    """Count all parameters and the trained ones; tied weights count once, embeddings only by their trained rows."""
    parameters = list(model.parameters())
    trained = [p[list(p.trained_rows)] if hasattr(p, "trained_rows") else p for p in parameters if p.requires_grad]
    return {"total": sum(p.numel() for p in parameters), "trained": sum(p.numel() for p in trained)}


def decay_groups(parameters: "Sequence[torch.nn.Parameter]", weight_decay: float) -> list[dict[str, Any]]:
    """Return an optimizer's groups: matrices with weight decay, the rest without; empty groups are left out.

    Matrices of which only some rows train have none, as it would move the other rows.
    """
    decaying = [p for p in parameters if p.ndim >= 2 and not hasattr(p, "trained_rows")]
    taken = set(map(id, decaying))
    groups = [
        {"params": decaying, "weight_decay": weight_decay},
        {"params": [p for p in parameters if id(p) not in taken], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def train_rows(model: "torch.nn.Module", rows: Sequence[int]) -> None:
    """Let these tokens' rows of the embeddings train where a tuner has frozen them; the other rows get no gradient."""
    if not rows:
        return
    for module in (model.get_input_embeddings(), model.get_output_embeddings()):
        weight = module.weight
        if not weight.requires_grad:
            weight.requires_grad_(True)
            kept = weight.new_zeros(len(weight), 1)
            kept[list(rows)] = 1.0
            weight.register_hook(lambda gradient, kept=kept: gradient * kept.to(gradient))
            weight.trained_rows = tuple(rows)
