"""Parameters of a model: counts, optimizer groups, rows of embeddings that train."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from adaptbench.errors import AdaptbenchError

if TYPE_CHECKING:
    import torch


def check_finite(model: "torch.nn.Module") -> None:
    """See that all weights are numbers.

    Raises:
        AdaptbenchError: one is infinite or not a number.
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
    """Parameters in all and those that train; tied weights count once, of embeddings only the rows that train."""
    parameters = list(model.parameters())
    trained = [p[list(p.trained_rows)] if hasattr(p, "trained_rows") else p for p in parameters if p.requires_grad]
    return {"total": sum(p.numel() for p in parameters), "trained": sum(p.numel() for p in trained)}


def decay_groups(parameters: "Sequence[torch.nn.Parameter]", weight_decay: float) -> list[dict[str, Any]]:
    """An optimizer's groups: weight decay is for matrices, but not for those of which only some rows train, as it would move the
    others. Groups without parameters are left out.
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
