"""Examples to batches: several documents share a sequence, and none sees another.

Positions restart with every document; transformers makes the block-diagonal attention mask from them. A document longer
than a sequence is cut into pieces, each a document of its own. The order of examples depends on the seed and the epoch
alone, so that step k's batch is known without having taken the steps before it: resuming needs no saved data order.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptbench.contracts import AdaptbenchError

if TYPE_CHECKING:
    import torch

IGNORED = -100


@dataclass(frozen=True)
class Example:
    """Tokens and, for each, the label: the token itself where it is trained, IGNORED where it is context."""

    input_ids: Sequence[int]
    labels: Sequence[int]


def document(input_ids: Sequence[int]) -> Example:
    """An example that is trained on every token but its first, which nothing precedes."""
    return Example(input_ids, [IGNORED, *input_ids[1:]])


def cut(examples: Sequence[Example], length: int) -> list[Example]:
    """Examples of at most `length` tokens; longer ones in pieces, pieces without any trained token left out."""
    pieces = []
    for example in examples:
        for start in range(0, len(example.input_ids), length):
            labels = [IGNORED, *example.labels[start + 1 : start + length]]
            if any(label != IGNORED for label in labels):
                pieces.append(Example(example.input_ids[start : start + length], labels))
    return pieces


def pack(examples: Sequence[Example], length: int, order: Sequence[int]) -> list[list[Example]]:
    """Rows of at most `length` tokens, filled in the given order."""
    rows: list[list[Example]] = []
    room = 0
    for index in order:
        size = len(examples[index].input_ids)
        if size > room:
            rows.append([])
            room = length
        rows[-1].append(examples[index])
        room -= size
    return rows


class Packed:
    """An endless stream of packed rows, a new shuffle every epoch.

    Raises:
        AdaptbenchError: no example has a token to train on.
    """

    def __init__(self, examples: Sequence[Example], length: int, seed: int) -> None:
        self.examples = cut(examples, length)
        if not self.examples:
            raise AdaptbenchError("no example has a token to train on")
        self.length = length
        self.seed = seed

    def epoch(self, number: int) -> list[list[Example]]:
        order = list(range(len(self.examples)))
        random.Random(f"{self.seed}/epoch{number}").shuffle(order)
        return pack(self.examples, self.length, order)

    def batches(self, size: int, first: int = 0) -> Iterator[list[list[Example]]]:
        """Batches of `size` rows from batch number `first` on; a batch may span two epochs."""
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
    """Tensors of a batch, each (rows, length): input_ids, labels, position_ids.

    The padding at a row's end is a document of its own without labels.
    """
    import torch

    input_ids, labels, positions = [], [], []
    for row in rows:
        ids = [token for example in row for token in example.input_ids]
        padding = length - len(ids)
        input_ids.append(ids + [pad_id] * padding)
        labels.append([label for example in row for label in example.labels] + [IGNORED] * padding)
        places = [place for example in row for place in range(len(example.input_ids))]
        positions.append(places + list(range(padding)))
    return {
        "input_ids": torch.tensor(input_ids),
        "labels": torch.tensor(labels),
        "position_ids": torch.tensor(positions),
    }
