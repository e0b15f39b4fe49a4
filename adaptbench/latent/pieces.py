"""Cut rows of tokens into the pieces that a wavefront's passes run, one after another without padding."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

BAND, COPIED = 64, 6  # cost of another band of columns, and of each of its rows, in places of the grid


@dataclass(frozen=True)
class Band:
    """A band of columns of the grid that lays out tokens for attention: (rows, `width`), for the pass's rows `rows`.

    `mask` (rows, 1, width, seen) hides later keys; `seen` is the most places of a row that a token of it attends to.
    """

    rows: "torch.Tensor | slice"
    width: int
    seen: int
    mask: "torch.Tensor"


@dataclass(frozen=True)
class Pieces:
    """The tokens of one pass: n tokens of the first `active` rows, in order of rows and places.

    `rows` and `places` (n,) are a token's place in the input. `first` and `last` (active,) are where each row's piece
    begins and ends among the n. `grid` (n,) is a token's place in the grid, the concatenation of `bands`.
    """

    rows: "torch.Tensor"
    places: "torch.Tensor"
    first: "torch.Tensor"
    last: "torch.Tensor"
    grid: "torch.Tensor"
    active: int
    bands: tuple[Band, ...]


def cut(latent: "torch.Tensor", lengths: "torch.Tensor") -> tuple[list[int], list[Pieces]]:
    """Cut rows before their latents: pass j runs every row's tokens from its j-th latent to the next one.

    Args:
        latent: (rows, length), true at latents; never at a row's first place.
        lengths: (rows,) in tokens, at least one each.

    Returns:
        The rows' original numbers in descending order of latents, and the passes, whose rows are in this order.

    Raises:
        ValueError: a row begins with a latent.
    """
    if latent[:, 0].any():
        raise ValueError("a row begins with a latent, which nothing makes")
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
    """Return the pass over these places of the first rows, the begin and end of each piece."""
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
        # Finite in every dtype, and far below any attention score.
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
    """Divide rows of `counts` tokens into bands of columns with few empty places.

    Returns:
        For each band the numbers of its rows, its first column and its end.
    """
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
