"""Joins examples with a common beginning, which is then computed once.

The steps of a trajectory are samples whose prompts begin with the same tools, task and history. As separate examples
they would compute that beginning again for every step. Here the longest is the trunk, and each other one becomes a
branch: its tokens after the shared beginning, at their usual positions, seeing the shared beginning and themselves. A
step that a model is trained to write is history to the next one: such tokens are computed once as well. Loss and
gradients are exactly those of the separate examples.
"""

from collections.abc import Sequence

from adaptbench.data.packing import IGNORED, Example

SHORTEST = 16  # shared tokens; with fewer a branch saves nothing


def share(examples: Sequence[Example], length: int) -> list[Example]:
    """Join the common beginnings of examples into results of at most `length` tokens; the order may change.

    Tokens that one example trains on and another only reads (a step, then the same step as history) train in the trunk.
    """
    left = sorted(examples, key=lambda example: len(example.input_ids), reverse=True)
    joined = []
    while left:
        trunk, *others = left
        labels, size, branches, left = list(trunk.labels), len(trunk.input_ids), [], []
        for other in others:
            alike = _alike(trunk.input_ids, labels, other)
            ends = alike == len(other.input_ids)
            # A branch needs a token that its first target is predicted from.
            start = alike if ends or other.labels[alike] == IGNORED else alike - 1
            rest = len(other.input_ids) - start
            if start >= SHORTEST and size + rest <= length:
                labels[:alike] = [
                    mine if its == IGNORED else its for mine, its in zip(labels[:alike], other.labels, strict=False)
                ]
                if not ends:
                    branches.append((start, Example(other.input_ids[start:], [IGNORED, *other.labels[start + 1 :]])))
                size += rest
            else:
                left.append(other)
        joined.append(Example(trunk.input_ids, labels, tuple(branches)))
    return joined


def _alike(input_ids: Sequence[int], labels: Sequence[int], other: Example) -> int:
    """Count the tokens with which both begin, up to the first that both would train."""
    count = 0
    for mine, trained, its, label in zip(input_ids, labels, other.input_ids, other.labels, strict=False):
        if mine != its or (trained != IGNORED and label != IGNORED):
            break
        count += 1
    return count
