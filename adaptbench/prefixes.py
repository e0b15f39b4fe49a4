"""Examples that begin alike, in one: what they share is computed once.

The steps of a trajectory are samples whose prompts begin with the same tools, task and history. Side by side they would
compute that beginning again for every step. Here the longest is the trunk, and each other one becomes a branch: the tokens
after what it shares, at the positions that they would have, seeing the shared beginning and themselves. Loss and gradients
are those of the separate examples, exactly.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from adaptbench.packing import IGNORED, Example

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SHORTEST = 16  # tokens that must be shared for a branch to be worth it


def can_share(model: "PreTrainedModel") -> bool:
    """Whether the mask that sharing needs means the same to the model: not where layers see a window or chunk alone."""
    config = model.config.get_text_config()
    everywhere = set(getattr(config, "layer_types", None) or ["full_attention"]) == {"full_attention"}
    limits = ("sliding_window", "attention_chunk_size", "window_size")
    return everywhere and all(getattr(config, name, None) is None for name in limits)


def share(examples: Sequence[Example], length: int) -> list[Example]:
    """The examples with their common beginnings joined, each result at most `length` tokens; the order may change."""
    left = sorted(examples, key=lambda example: len(example.input_ids), reverse=True)
    joined = []
    while left:
        trunk, *others = left
        size, branches, left = len(trunk.input_ids), [], []
        for other in others:
            shared = _shared(trunk, other)
            rest = len(other.input_ids) - shared
            if shared >= SHORTEST and size + rest <= length:
                branches.append((shared, Example(other.input_ids[shared:], other.labels[shared:])))
                size += rest
            else:
                left.append(other)
        joined.append(Example(trunk.input_ids, trunk.labels, tuple(branches)))
    return joined


def _shared(trunk: Example, other: Example) -> int:
    """How many tokens both begin with that are context in `other`, one of whose context tokens must remain."""
    count = 0
    for mine, its, label in zip(trunk.input_ids, other.input_ids, other.labels, strict=False):
        if mine != its or label != IGNORED:
            break
        count += 1
    if count < len(other.labels) and other.labels[count] != IGNORED:
        count -= 1
    return count
