"""Attention of pieces of rows that go through a model together, end to end without padding, each after its row's earlier ones.

A pass of the wavefront runs one piece of every row. Side by side they would be padded to the longest; here all that works on
single tokens (projections, norms, feed-forward) sees them one after another in one row, and only the attention between them lays
them out by row. Keys and values are written once, where they belong, and gradients of them are gathered there: nothing is copied
from pass to pass.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from adaptbench.contracts import AdaptbenchError

if TYPE_CHECKING:
    import torch

NAME = "adaptbench_pieces"
BAND, COPIED = 64, 6  # what another band of columns costs, and each of its rows, in places of the grid
UNKNOWN = ("softcap", "s_aux", "sliding_window", "position_bias")  # what some models ask of their attention


@dataclass(frozen=True)
class Band:
    """Columns of a grid in which tokens lie for attention: those of `rows`, or of the first so many, (rows, `width`).

    `mask` (rows, 1, width, seen) hides keys that come later; `seen` is how many places of a row any of its tokens may see.
    """

    rows: "torch.Tensor | slice"
    width: int
    seen: int
    mask: "torch.Tensor"


@dataclass(frozen=True)
class Pieces:
    """What one pass runs: n tokens of the first `active` rows, in order of rows and places.

    `rows`, `places` (n,) say where a token belongs; `first` and `last` (active,) where each row's piece begins and ends among
    the n; `grid` (n,) where a token lies in the grid, whose `bands` follow one another.
    """

    rows: "torch.Tensor"
    places: "torch.Tensor"
    first: "torch.Tensor"
    last: "torch.Tensor"
    grid: "torch.Tensor"
    active: int
    bands: tuple[Band, ...]


def cut(latent: "torch.Tensor", lengths: "torch.Tensor") -> tuple[list[int], list[Pieces]]:
    """The order of rows, those with most latents first, and the passes; pass j runs every row's tokens from its j-th latent on.

    Args:
        latent: (rows, length), where latents are; never at a row's first place.
        lengths: (rows,) of tokens, at least one each.

    Returns:
        The original number of each row, and passes whose rows count in this order.
    """
    cuts = [
        [0, *(place for place, one in enumerate(row[:length]) if one), length]
        for row, length in zip(latent.tolist(), lengths.tolist(), strict=True)
    ]
    order = sorted(range(len(cuts)), key=lambda row: -len(cuts[row]))
    spans = [list(pairwise(cuts[row])) for row in order]
    return order, [
        _pieces([row[number] for row in spans if number < len(row)], lengths.device) for number in range(len(spans[0]))
    ]


def _pieces(spans: Sequence[tuple[int, int]], device: Any) -> Pieces:
    """The pass over these places of the first rows: where each piece begins and ends."""
    import torch

    starts, ends = torch.tensor(spans).unbind(1)
    counts = ends - starts
    last = counts.cumsum(0) - 1
    rows = torch.arange(len(spans)).repeat_interleave(counts)
    columns = torch.arange(len(rows)) - (last - counts + 1)[rows]
    grid = torch.empty_like(rows)
    bands, size = [], 0
    for numbers, left, right in cut_columns(counts.tolist()):
        width, chosen = right - left, torch.tensor(numbers)
        seen = int((starts + counts.clamp(max=right))[chosen].max())
        later = torch.arange(seen) > (starts[chosen, None] + torch.arange(left, right))[..., None]
        # Finite in every dtype, and far below any score.
        mask = torch.zeros(later.shape).masked_fill(later, torch.finfo(torch.bfloat16).min)[:, None]
        inside = (left <= columns) & (columns < right)
        line = torch.zeros_like(counts).index_copy(0, chosen, torch.arange(len(numbers)))[rows]
        grid = torch.where(inside, size + line * width + columns - left, grid)
        size += len(numbers) * width
        which = slice(0, len(numbers)) if len(numbers) == len(spans) else chosen.to(device)
        bands.append(Band(which, width, seen, mask.to(device)))
    places = starts[rows] + columns
    rows, places, first, last, grid = (one.to(device) for one in (rows, places, last - counts + 1, last, grid))
    return Pieces(rows, places, first, last, grid, len(spans), tuple(bands))


def cut_columns(counts: Sequence[int]) -> list[tuple[list[int], int, int]]:
    """Rows of so many tokens, in bands of columns that leave few empty: the numbers of a band's rows, its columns from and to."""
    bands, rows, left = [], list(range(len(counts))), 0
    while rows:
        widest = max(counts[row] for row in rows)

        def places(right: int) -> int:
            rest = sum(counts[row] > right for row in rows)  # noqa: B023
            return len(rows) * (right - left) + bool(rest) * BAND + rest * (widest - right + COPIED)  # noqa: B023

        right = min(sorted({counts[row] for row in rows}), key=places)
        bands.append((rows, left, right))
        rows, left = [row for row in rows if counts[row] > right], right
    return bands


@dataclass
class Memory:
    """Keys and values (rows, heads, length, width of a head) of one layer, and room for the gradients of both.

    `turn` is a number that every pass takes and gives on, so that backward passes run in the opposite order.
    """

    keys: "torch.Tensor"
    values: "torch.Tensor"
    turn: "torch.Tensor"
    gradients: "tuple[torch.Tensor, torch.Tensor] | None" = None


@dataclass
class Rows:
    """What the layers remember of `shape` (rows, length), and the pieces that are under way."""

    shape: tuple[int, int]
    now: Pieces | None = None
    memories: dict[int, Memory] = field(default_factory=dict)


@contextmanager
def attending(model: Any) -> Iterator[None]:
    """In this context the model attends by `attend`; calls need a `Rows` as `pieces`.

    Raises:
        AdaptbenchError: its attention cannot be replaced.
    """
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)
    before = model.config._attn_implementation
    model.set_attn_implementation(NAME)
    if model.config._attn_implementation != NAME:
        raise unknown_attention(model)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def attend(
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
    """Scaled dot-product attention of the pieces' tokens (1, heads, n, width of a head), in transformers' form.

    Raises:
        AdaptbenchError: the model attends in a way that this function does not know.
    """
    import torch

    if pieces is None or pieces.now is None or dropout or any(more.get(name) is not None for name in UNKNOWN):
        raise unknown_attention(module)
    device = query.device.type
    # As matrix products do it; in a function of its own, autocast has no part.
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else query.dtype
    query, key, value = (states[0].transpose(0, 1).to(dtype) for states in (query, key, value))
    memory = pieces.memories.get(module.layer_idx)
    if memory is None:
        rows, length = pieces.shape
        keys, values = (states.new_zeros(rows, states.shape[1], length, states.shape[2]) for states in (key, value))
        memory = Memory(keys, values, torch.zeros((), device=query.device, requires_grad=True))
        pieces.memories[module.layer_idx] = memory
    scale = module.head_dim**-0.5 if scaling is None else scaling
    out, memory.turn = _attention()(query, key, value, memory.turn, memory, pieces.now, scale)
    return out[None], None


def unknown_attention(model: Any) -> AdaptbenchError:
    """What is said of a model, or a layer, that attends in its own way."""
    name = type(model).__name__
    return AdaptbenchError(
        f"forward.way: must be jacobi; {name} attends in a way (dropout, capped scores) that a wavefront does not know"
    )


@cache
def _attention() -> Any:
    """The attention with its gradients, made once torch is needed."""
    import torch

    class Attention(torch.autograd.Function):
        """Scores in the grid of `now`, keys and values in `memory`; softmax in float32 at least."""

        @staticmethod
        def forward(ctx, query, key, value, turn, memory, now, scale):  # (n, heads, width)
            memory.keys[now.rows, :, now.places] = key
            memory.values[now.rows, :, now.places] = value
            saved, outs = [], []
            for band, laid in _lay(query * scale, now, key.shape[1]):
                keys, values = (states[band.rows, :, : band.seen] for states in (memory.keys, memory.values))
                scores = (laid @ keys.mT).view(len(laid), -1, band.width, band.seen)
                scores = scores.to(torch.promote_types(scores.dtype, torch.float32)).add_(band.mask)
                weights = scores.softmax(-1).to(query.dtype).view(*laid.shape[:-1], band.seen)
                saved += [laid, weights]
                outs.append(weights @ values)
            ctx.save_for_backward(*saved)
            ctx.memory, ctx.now, ctx.scale = memory, now, scale
            return _take(outs, now), turn.clone()

        @staticmethod
        def backward(ctx, gradient, turn):
            memory, now = ctx.memory, ctx.now
            if memory.gradients is None:
                memory.gradients = (torch.zeros_like(memory.keys), torch.zeros_like(memory.values))
            to_queries = []
            saved = zip(ctx.saved_tensors[::2], ctx.saved_tensors[1::2], strict=True)
            for (band, out), (laid, weights) in zip(_lay(gradient, now, memory.keys.shape[1]), saved, strict=True):
                keys, values = (states[band.rows, :, : band.seen] for states in (memory.keys, memory.values))
                wide = torch.promote_types(weights.dtype, torch.float32)
                to_weights = (out @ values.mT).to(wide)
                to_scores = torch.ops.aten._softmax_backward_data(to_weights, weights.to(wide), -1, wide).to(
                    weights.dtype
                )
                to_queries.append(to_scores @ keys)
                for whole, part in zip(memory.gradients, (to_scores.mT @ laid, weights.mT @ out), strict=True):
                    whole[band.rows, :, : band.seen] += part
            # All later passes have been here: what these tokens' keys and values owe is complete.
            to_key, to_value = (whole[now.rows, :, now.places] for whole in memory.gradients)
            for whole in memory.gradients:  # another backward pass begins anew
                whole[now.rows, :, now.places] = 0
            return _take(to_queries, now) * ctx.scale, to_key, to_value, turn, None, None, None

    return Attention.apply


def _lay(tokens: "torch.Tensor", now: Pieces, heads: int) -> "Iterator[tuple[Band, torch.Tensor]]":
    """Tokens (n, query heads, width) in each band: (rows, key heads, query heads of each x band width, width)."""
    count, width = tokens.shape[1:]
    sizes = [len(band.mask) * band.width for band in now.bands]
    grid = tokens.new_zeros(sum(sizes), count, width).index_copy_(0, now.grid, tokens)
    for band, part in zip(now.bands, grid.split(sizes), strict=True):
        laid = part.view(-1, band.width, heads, count // heads, width).permute(0, 2, 3, 1, 4)
        yield band, laid.reshape(len(band.mask), heads, -1, width)


def _take(laid: "Sequence[torch.Tensor]", now: Pieces) -> "torch.Tensor":
    """Tokens (n, query heads, width) out of the bands."""
    import torch

    parts = []
    for band, part in zip(now.bands, laid, strict=True):
        rows, heads, _, width = part.shape
        tokens = part.view(rows, heads, -1, band.width, width).permute(0, 3, 1, 2, 4)
        parts.append(tokens.reshape(rows * band.width, -1, width))
    return (torch.cat(parts) if len(parts) > 1 else parts[0])[now.grid]
