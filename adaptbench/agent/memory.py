"""Keep keys and values of read tokens, so that the next prompt of a dialogue continues from them.

Every turn's prompt begins with the turns before it. The keys and values of a prompt and of the text written after it
are kept under the dialogue's key. The next prompt is computed from the first token that differs.
"""

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import DynamicCache

BYTES = 2**30  # the most that is kept; the oldest entries are dropped first


@dataclass(frozen=True)
class Kept:
    """The tokens that were read, and their keys and values of every layer: (heads, tokens, head width)."""

    ids: Sequence[int]
    layers: "list[tuple[torch.Tensor, torch.Tensor]]"

    @property
    def bytes(self) -> int:
        return sum(one.nbytes for layer in self.layers for one in layer)


class Memory:
    """Keys and values of one model, by dialogue."""

    def __init__(self, most: int = BYTES) -> None:
        self.most = most
        self.kept: OrderedDict[Hashable, Kept] = OrderedDict()
        self.bytes = 0

    def known(self, key: Hashable, ids: Sequence[int]) -> int:
        """Return how many of the first tokens need not be computed again; at most all but one."""
        kept = self.kept.get(key)
        count = 0
        for one, other in zip(kept.ids if kept else (), ids, strict=False):
            if one != other:
                break
            count += 1
        return min(count, len(ids) - 1)

    def keep(self, key: Hashable, kept: Kept) -> None:
        """Store an entry and drop the oldest ones that do not fit."""
        if key in self.kept:
            self.bytes -= self.kept.pop(key).bytes
        self.kept[key] = kept
        self.bytes += kept.bytes
        while self.bytes > self.most:
            self.bytes -= self.kept.popitem(last=False)[1].bytes

    def clear(self) -> None:
        self.kept.clear()
        self.bytes = 0

    def cache(self, keys: Sequence[Hashable], counts: Sequence[int]) -> "DynamicCache | None":
        """Return a cache of each dialogue's first `counts` tokens, padded on the left; None if all counts are 0."""
        from transformers import DynamicCache

        longest = max(counts)
        if not longest:
            return None
        shape = next(self.kept[key].layers for key, count in zip(keys, counts, strict=True) if count)
        joined = DynamicCache()
        for number, layer in enumerate(shape):
            both = [one.new_zeros(len(keys), one.shape[0], longest, one.shape[2]) for one in layer]
            for row, (key, count) in enumerate(zip(keys, counts, strict=True)):
                if count:
                    for whole, one in zip(both, self.kept[key].layers[number], strict=True):
                        whole[row, :, longest - count :] = one[:, :count]
            joined.update(both[0], both[1], number)
        return joined


def layers_of(cache: Any, number: int, first: int, last: int) -> "list[tuple[torch.Tensor, torch.Tensor]]":
    """Return the keys and values of row `number`'s tokens `first` to `last` - 1 in a batch's cache, for every layer."""
    return [
        (layer.keys[number, :, first:last].clone(), layer.values[number, :, first:last].clone())
        for layer in cache.layers
    ]
