"""Makes batches of examples: several documents share a row, and none sees another.

Positions restart with every document; transformers makes the block-diagonal attention mask from them. If a model's
layers ignore that mask, each document has a row for itself. A document longer than a row is cut into pieces, each a
separate document. The order of examples depends on the seed and the epoch alone, so that step k's batch is known
without the steps before it: resuming needs no saved data order.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptbench.data.padding import padded
from adaptbench.errors import AdaptbenchError

if TYPE_CHECKING:
    import torch

IGNORED = -100


@dataclass(frozen=True)
class Example:
    """Tokens and, for each, the label: the token itself where it is trained, IGNORED where it is context.

    Attributes:
        branches: further examples that begin as this one does (adaptbench/data/prefixes.py), each as the length of the
            shared beginning and the rest, whose first token is context.
        extra: the number of tokens that take no room in a packed row, so that samples with and without them are batched
            alike. Such rows hold one sample each.
    """

    input_ids: Sequence[int]
    labels: Sequence[int]
    branches: "tuple[tuple[int, Example], ...]" = ()
    extra: int = 0

    @property
    def size(self) -> int:
        """Return the tokens that it takes in a row."""
        return len(self.input_ids) - self.extra + sum(len(rest.input_ids) for _, rest in self.branches)


def document(input_ids: Sequence[int]) -> Example:
    """Return an example that trains on every token but its first, which nothing precedes."""
    return Example(input_ids, [IGNORED, *input_ids[1:]])


def cut(examples: Sequence[Example], length: int) -> list[Example]:
    """Cut examples into pieces of at most `length` tokens; leave out pieces without a trained token."""
    pieces = []
    for example in examples:
        if example.branches or example.extra:
            assert example.size <= length
            pieces.append(example)
            continue
        for start in range(0, len(example.input_ids), length):
            labels = [IGNORED, *example.labels[start + 1 : start + length]]
            if labels.count(IGNORED) < len(labels):
                pieces.append(Example(example.input_ids[start : start + length], labels))
    return pieces


OPEN_ROWS = 16


def pack(examples: Sequence[Example], length: int, order: Sequence[int]) -> list[list[Example]]:
    """Pack examples, in the given order, into rows of at most `length` tokens.

    Each goes into the fullest of the open rows that has room for it. If there are too many open rows the fullest is
    closed, so that rows stay near the given order.
    """
    rows: list[list[Example]] = []
    room: dict[int, int] = {}  # open row -> free tokens
    for index in order:
        size = examples[index].size
        fitting = [row for row in room if room[row] >= size]
        row = min(fitting, key=lambda one: room[one], default=len(rows))
        if row == len(rows):
            rows.append([])
            room[row] = length
        rows[row].append(examples[index])
        room[row] -= size
        if not room[row] or len(room) > OPEN_ROWS:
            del room[min(room, key=lambda one: room[one])]
    return rows


class Packed:
    """An endless stream of rows of examples, a new shuffle every epoch; without `together` each row holds one example.

    Raises:
        AdaptbenchError: no example has a token to train on.
    """

    def __init__(self, examples: Sequence[Example], length: int, seed: int, *, together: bool = True) -> None:
        self.examples = cut(examples, length)
        if not self.examples:
            raise AdaptbenchError("no example has a token to train on")
        self.length = length
        self.seed = seed
        self.together = together

    def epoch(self, number: int) -> list[list[Example]]:
        """Return the rows of an epoch, numbered from 0."""
        order = list(range(len(self.examples)))
        random.Random(f"{self.seed}/epoch{number}").shuffle(order)
        return pack(self.examples, self.length, order) if self.together else [[self.examples[i]] for i in order]

    def collate(self, rows: Sequence[Sequence[Example]], pad_id: int) -> "dict[str, torch.Tensor]":
        """Return the tensors of a batch of these rows."""
        return collate(rows, self.length, pad_id) if self.together else separate(rows, pad_id)

    def read(self, rows: int) -> set[int]:
        """Return the indices of the (cut) examples that the first `rows` rows hold."""
        places = {id(example): place for place, example in enumerate(self.examples)}
        found: set[int] = set()
        number = 0
        while rows > 0 and len(found) < len(places):
            epoch = self.epoch(number)
            found |= {places[id(example)] for row in epoch[:rows] for example in row}
            rows -= len(epoch)
            number += 1
        return found

    def batches(self, size: int, first: int = 0) -> Iterator[list[list[Example]]]:
        """Yield batches of `size` rows from batch number `first` on; a batch may span two epochs."""
        skip = first * size
        number = 0
        rows = self.epoch(0)
        while skip >= len(rows):
            skip -= len(rows)
            number += 1
            rows = self.epoch(number)
        rows = rows[skip:]
        while True:
            while len(rows) < size:
                number += 1
                rows = rows + self.epoch(number)
            yield rows[:size]
            rows = rows[size:]


def collate(rows: Sequence[Sequence[Example]], length: int, pad_id: int) -> "dict[str, torch.Tensor]":
    """Return the tensors of a batch, each (rows, length): input_ids, labels, position_ids.

    The padding at a row's end is a separate document without labels. If examples have branches, attention_mask (rows,
    1, length, length) is added, 0 where a token is seen and the smallest float32 elsewhere; otherwise transformers
    makes the mask from the positions.
    """
    import torch

    columns: dict[str, list[list[int]]] = {"input_ids": [], "labels": [], "position_ids": []}
    owners, starts = [], []
    for row in rows:
        parts = [part for example in row for part in ((0, example), *example.branches)]
        padding = length - sum(len(part.input_ids) for _, part in parts)
        parts.append((0, Example([pad_id] * padding, [IGNORED] * padding)))
        columns["input_ids"].append([token for _, part in parts for token in part.input_ids])
        columns["labels"].append([label for _, part in parts for label in part.labels])
        columns["position_ids"].append([first + place for first, part in parts for place in range(len(part.input_ids))])
        # For the mask: each token's example, and (in a branch) how much of the trunk it sees.
        numbers = [n for n, example in enumerate(row) for _ in range(1 + len(example.branches))] + [len(row)]
        owners.append([n for n, (_, part) in zip(numbers, parts, strict=True) for _ in part.input_ids])
        starts.append([first for first, part in parts for _ in part.input_ids])
    batch = {name: torch.tensor(values) for name, values in columns.items()}
    if any(example.branches for row in rows for example in row):
        batch["attention_mask"] = _tree_mask(torch.tensor(owners), torch.tensor(starts), batch["position_ids"])
    return batch


def separate(rows: Sequence[Sequence[Example]], pad_id: int) -> "dict[str, torch.Tensor]":
    """Return a batch of one example a row, tensors (rows, longest): input_ids, labels, attention_mask (1 at tokens).

    There are no positions, as some models accept none.
    """
    examples = [example for (example,) in rows]
    return {
        "input_ids": padded([one.input_ids for one in examples], pad_id),
        "labels": padded([one.labels for one in examples], IGNORED),
        "attention_mask": padded([[1] * len(one.input_ids) for one in examples], 0),
    }


def _tree_mask(owners: "torch.Tensor", starts: "torch.Tensor", positions: "torch.Tensor") -> "torch.Tensor":
    """Return the mask by which a token sees earlier tokens of its part and, in a branch, the trunk up to the fork."""
    import torch

    parts = (positions == starts).cumsum(dim=1)  # numbers a row's parts: a part begins where its position is its start
    trunk = starts == 0
    same_part = parts[:, :, None] == parts[:, None, :]
    same_example = owners[:, :, None] == owners[:, None, :]
    of_trunk = same_example & trunk[:, None, :] & (positions[:, None, :] < starts[:, :, None])
    earlier = torch.ones(positions.shape[1], positions.shape[1]).tril().bool()
    seen = (same_part | of_trunk) & earlier
    mask = torch.full(seen.shape, torch.finfo(torch.float32).min)
    return mask.masked_fill(seen, 0.0)[:, None]
