"""Attention for the pieces of a wavefront, each after its row's earlier pieces.

A pass of the wavefront runs one piece of every row. As a batch of rows they would be padded to the longest. Here all
layers that work on single tokens (projections, norms, feed-forward) see the pieces one after another in one row, and
only attention lays them out by row. Keys and values are written once, at their places in the row, and their gradients
are summed there: nothing is copied from pass to pass.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from adaptbench.errors import AdaptbenchError
from adaptbench.latent.pieces import Band, Pieces
from adaptbench.model.forward import attention_implementation

if TYPE_CHECKING:
    import torch

NAME = "adaptbench_pieces"
UNKNOWN = ("softcap", "s_aux", "sliding_window", "position_bias")  # arguments of some models' attention


@dataclass
class Memory:
    """Keys and values (rows, heads, length, head width) of one layer, and the gradients of both."""

    keys: "torch.Tensor"
    values: "torch.Tensor"
    gradients: "tuple[torch.Tensor, torch.Tensor] | None" = None


@dataclass
class Rows:
    """The layers' memories of rows of `shape` (rows, length), and the pieces of the current pass.

    A layer's turn is a scalar tensor that every pass takes and returns, so that the backward passes run in the opposite
    order. It is stored apart from the memory: the passes' graph nodes refer to the memory, and a memory that referred
    to their outputs would never be freed.
    """

    shape: tuple[int, int]
    now: Pieces | None = None
    memories: dict[int, Memory] = field(default_factory=dict)
    turns: "dict[int, torch.Tensor]" = field(default_factory=dict)


@contextmanager
def wavefront_attention(model: Any) -> Iterator[None]:
    """Make the model attend by `attend` in this context; its calls need a `Rows` as `pieces`.

    Raises:
        AdaptbenchError: the model's attention cannot be replaced.
    """
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)
    with attention_implementation((model,), NAME):
        if model.config._attn_implementation != NAME:
            raise unknown_attention(model)
        yield


def attend(  # transformers calls it by these parameters: see its AttentionInterface
    module: Any,
    query: "torch.Tensor",
    key: "torch.Tensor",
    value: "torch.Tensor",
    attention_mask: Any = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    pieces: Rows | None = None,
    **more: Any,
) -> "tuple[torch.Tensor, None]":
    """Return the scaled dot-product attention of the pieces' tokens (1, heads, n, head width), in transformers' form.

    Raises:
        AdaptbenchError: the model's attention has features that this function lacks.
    """
    import torch

    if pieces is None or pieces.now is None or dropout or any(more.get(name) is not None for name in UNKNOWN):
        raise unknown_attention(module)
    device = query.device.type
    # As autocast does for matrix products; it does not reach into an autograd function.
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else query.dtype
    query, key, value = (states[0].transpose(0, 1).to(dtype) for states in (query, key, value))
    layer = module.layer_idx
    if layer not in pieces.memories:
        rows, length = pieces.shape
        keys, values = (states.new_zeros(rows, states.shape[1], length, states.shape[2]) for states in (key, value))
        pieces.memories[layer] = Memory(keys, values)
        pieces.turns[layer] = torch.zeros((), device=query.device, requires_grad=True)
    scale = module.head_dim**-0.5 if scaling is None else scaling
    out, pieces.turns[layer] = _attention()(
        query, key, value, pieces.turns[layer], pieces.memories[layer], pieces.now, scale
    )
    return out[None], None


def unknown_attention(model: Any) -> AdaptbenchError:
    """Return the error for a model, or a layer, whose attention a wavefront cannot compute."""
    name = type(model).__name__
    return AdaptbenchError(
        f"forward.way: must be jacobi; {name} attends in a way (dropout, capped scores) that a wavefront does not know"
    )


@cache
def _attention() -> Any:
    """Return the attention as an autograd function, defined here so that this module does not import torch."""
    import torch

    class Attention(torch.autograd.Function):
        """Attention with scores in the grid of `now` and keys and values in `memory`; softmax in at least float32."""

        @staticmethod
        # Function.apply takes its arguments by position; query, key and value are (n, heads, width).
        def forward(ctx, query, key, value, turn, memory, now, scale):
            memory.keys[now.rows, :, now.places] = key
            memory.values[now.rows, :, now.places] = value
            saved, outs = [], []
            for band, laid in _to_bands(query * scale, now, key.shape[1]):
                keys, values = (states[band.rows, :, : band.seen] for states in (memory.keys, memory.values))
                scores = (laid @ keys.mT).view(len(laid), -1, band.width, band.seen)
                scores = scores.to(torch.promote_types(scores.dtype, torch.float32)).add_(band.mask)
                weights = scores.softmax(-1).to(query.dtype).view(*laid.shape[:-1], band.seen)
                saved += [laid, weights]
                outs.append(weights @ values)
            ctx.save_for_backward(*saved)
            ctx.memory, ctx.now, ctx.scale = memory, now, scale
            return _from_bands(outs, now), turn.clone()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, gradient, turn):
            memory, now = ctx.memory, ctx.now
            if memory.gradients is None:
                memory.gradients = (torch.zeros_like(memory.keys), torch.zeros_like(memory.values))
            to_queries = []
            saved = zip(ctx.saved_tensors[::2], ctx.saved_tensors[1::2], strict=True)
            for (band, out), (laid, weights) in zip(_to_bands(gradient, now, memory.keys.shape[1]), saved, strict=True):
                keys, values = (states[band.rows, :, : band.seen] for states in (memory.keys, memory.values))
                wide = torch.promote_types(weights.dtype, torch.float32)
                to_weights = (out @ values.mT).to(wide)
                to_scores = torch.ops.aten._softmax_backward_data(to_weights, weights.to(wide), -1, wide).to(
                    weights.dtype
                )
                to_queries.append(to_scores @ keys)
                for whole, part in zip(memory.gradients, (to_scores.mT @ laid, weights.mT @ out), strict=True):
                    whole[band.rows, :, : band.seen] += part
            # The backward passes of all later passes are done, so the gradients of these keys and values are complete.
            to_key, to_value = (whole[now.rows, :, now.places] for whole in memory.gradients)
            for whole in memory.gradients:  # for a second backward pass through the same graph
                whole[now.rows, :, now.places] = 0
            return _from_bands(to_queries, now) * ctx.scale, to_key, to_value, turn, None, None, None

    return Attention.apply


def _to_bands(tokens: "torch.Tensor", now: Pieces, heads: int) -> "Iterator[tuple[Band, torch.Tensor]]":
    """Yield each band with its part of the tokens (n, query heads, width).

    The part is laid out as (rows, key heads, query heads of each key head x band width, width).
    """
    count, width = tokens.shape[1:]
    sizes = [len(band.mask) * band.width for band in now.bands]
    grid = tokens.new_zeros(sum(sizes), count, width).index_copy_(0, now.grid, tokens)
    for band, part in zip(now.bands, grid.split(sizes), strict=True):
        laid = part.view(-1, band.width, heads, count // heads, width).permute(0, 2, 3, 1, 4)
        yield band, laid.reshape(len(band.mask), heads, -1, width)


def _from_bands(laid: "Sequence[torch.Tensor]", now: Pieces) -> "torch.Tensor":
    """Return the tokens (n, query heads, width) of the bands, the inverse of `_to_bands`."""
    import torch

    parts = []
    for band, part in zip(now.bands, laid, strict=True):
        rows, heads, _, width = part.shape
        tokens = part.view(rows, heads, -1, band.width, width).permute(0, 3, 1, 2, 4)
        parts.append(tokens.reshape(rows * band.width, -1, width))
    return (torch.cat(parts) if len(parts) > 1 else parts[0])[now.grid]
