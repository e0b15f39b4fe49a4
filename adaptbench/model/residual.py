"""Finds the parameters that write to the residual stream: the last ones on each path of a layer's autograd graph.

Their names differ between architectures: `o_proj` and `down_proj`, `c_proj` twice, `dense` and `dense_4h_to_h`, stacks
of experts. If a norm follows a projection, the last parameter is the norm's gain.
"""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from adaptbench.errors import AdaptbenchError
from adaptbench.model.temporary import evaluated

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel

# Autograd's nodes that scale, move or add the parts of a layer on their path into the residual stream.
_LINEAR = re.compile(
    "(Add|Sub|Mul|Div|View|UnsafeView|ReshapeAlias|ToCopy|Transpose|Permute|T|Squeeze|Unsqueeze|Expand|Clone|Index|IndexAdd"
    "|IndexPut|IndexSelect|Gather|Scatter|ScatterAdd|Sum|Cat|Stack|Split|SplitWithSizes|Slice|Select|AsStrided|MaskedFill"
    "|Where)Backward[0-9]+"
)
_NORMS = re.compile("(Rsqrt|NativeLayerNorm|FusedRmsNorm|NativeGroupNorm)Backward[0-9]+")


def silence(model: "PreTrainedModel", layers: "Sequence[nn.Module]") -> "list[nn.Parameter]":
    """Let these layers of the model write nothing to the residual stream; return the parameters that wrote there.

    They get new memory; the model's other tensors stay as they are.

    Raises:
        AdaptbenchError: none were found, or a norm without a gain follows them.
    """
    import torch

    silent = []
    for layer, writing in zip(layers, _writing(model, layers), strict=True):
        if not writing:
            raise AdaptbenchError(f"{type(layer).__name__}: no parameters found that write to the residual stream")
        # Of experts in separate modules only those that were routed to are in the graph; the others write alike.
        alike = {re.sub(r"\.\d+\.", ".#.", name): value for name, value in writing.items()}
        for name, p in layer.named_parameters():
            if (value := alike.get(re.sub(r"\.\d+\.", ".#.", name))) is not None:
                p.data = torch.full_like(p, value)
                silent += [p] if name in writing else []
    return silent


def _writing(model: "PreTrainedModel", layers: "Sequence[nn.Module]") -> list[dict[str, float]]:
    """Return for each layer the parameters that write to the residual stream, with values at which they write zeros."""
    import torch

    found: dict[int, dict[str, float]] = {}

    def enter(layer: "nn.Module", _: Any) -> None:
        layer.requires_grad_(True)

    def leave(layer: "nn.Module", _: Any, output: Any) -> Any:
        hidden, *rest = (output,) if isinstance(output, torch.Tensor) else output
        found[id(layer)] = _last(hidden.grad_fn, {p: name for name, p in layer.named_parameters()})
        layer.requires_grad_(False)
        return hidden.detach() if isinstance(output, torch.Tensor) else (hidden.detach(), *rest)

    model.requires_grad_(False)
    hooks = [layer.register_forward_pre_hook(enter) for layer in layers]
    hooks += [layer.register_forward_hook(leave) for layer in layers]
    try:
        with evaluated(model), torch.enable_grad():
            model(input_ids=some_tokens(model, 8), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
        model.requires_grad_(True)
    return [found[id(layer)] for layer in layers]


def _last(result: Any, names: "Mapping[torch.Tensor, str]") -> dict[str, float]:
    """Return the last parameters on each path to this node, with values at which the path carries zeros."""
    found: dict[str, float] = {}
    seen, todo = set(), [result]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        before = [one for one, _ in node.next_functions]
        own = dict(filter(None, (_parameter(one, names) for one in before)))
        found |= own
        if _NORMS.fullmatch(node.name()) and not own:
            raise AdaptbenchError("a norm without a gain follows what a layer writes")
        # Beside a bias the sum has another path; before a matrix or a gain nothing matters.
        if _LINEAR.fullmatch(node.name()) and (not own or node.name().startswith("Add")):
            todo += [one for one in before if not _parameter(one, names)]
    return found


def _parameter(node: Any, names: "Mapping[torch.Tensor, str]") -> tuple[str, float] | None:
    """Return the parameter that this node passes on, moved or with 1 added, and the value at which it passes zeros."""
    silent = 0.0
    while node is not None and not hasattr(node, "variable"):
        before = [one for one, _ in node.next_functions if one is not None]
        if len(before) != 1 or not _LINEAR.fullmatch(node.name()):
            return None
        silent = -1.0 if node.name().startswith("Add") else silent  # Gemma's gain is 1 + weight
        node = before[0]
    return (names[node.variable], silent) if node is not None and node.variable in names else None


def some_tokens(model: "PreTrainedModel", count: int) -> "torch.Tensor":
    """Return two rows of random tokens, without special ones (ends, images), whose numbers are lowest and highest."""
    import torch

    vocabulary = model.config.get_text_config(decoder=True).vocab_size
    generator = torch.Generator().manual_seed(0)
    low, high = vocabulary // 4, vocabulary // 2
    return torch.randint(low, max(low + 1, high), (2, count), generator=generator).to(model.device)
