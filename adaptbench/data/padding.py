"""Pads rows of different lengths to one tensor."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def padded(rows: Sequence[Sequence[int]], filler: int) -> "torch.Tensor":
    """Return the rows as (rows, longest), shorter ones padded at their ends."""
    import torch

    return torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=filler)


def padded_left(rows: Sequence[Sequence[int]], filler: int) -> "tuple[torch.Tensor, torch.Tensor]":
    """Return the rows and their mask (1 at tokens), both (rows, longest), padded on the left."""
    import torch

    longest = max(map(len, rows))
    ids = torch.tensor([[filler] * (longest - len(row)) + list(row) for row in rows])
    seen = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    return ids, seen
