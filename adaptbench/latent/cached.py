"""Rows that a model reads from embeddings, a few places at a time, with the cache that it makes itself.

Recurrent layers, convolutions and layers that see a window keep what they need in their own way, which a cache of keys and values
lacks. So the model's first pass makes the cache. Layers of it that keep every key and value get room for more.
"""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from adaptbench.data.padding import padded_left
from adaptbench.errors import AdaptbenchError
from adaptbench.latent.embeddings import read, takes

if TYPE_CHECKING:
    import torch

ROOM = 64  # places by which a cache grows


class Cached:
    """Rows in flight, padded at their beginnings. `hidden` (rows, width) is the state after the final norm at their last places."""

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]], pad_id: int) -> None:
        """Read the prompts.

        Raises:
            AdaptbenchError: the model returns no cache.
        """
        ids, self.seen = (one.to(model.device) for one in padded_left(prompts, pad_id))
        self.model = model
        self.cache: Any = None
        # Pure state-space models take what they remember under another name, and a mask with the first tokens alone.
        self.name = "past_key_values" if takes(model, "past_key_values") else "cache_params"
        self.places = self.seen.sum(1)  # of the next token
        self._pass(model.get_input_embeddings()(ids), (self.seen.cumsum(1) - 1).clamp(min=0), self.seen)
        if self.cache is None:
            raise AdaptbenchError(f"{type(model).__name__} returns no cache")
        layers, (plain, roomy, recurrent) = getattr(self.cache, "layers", []), _kinds()
        layers[:] = [roomy(layer) if type(layer) is plain else layer for layer in layers]
        # Some recurrent layers begin again with nothing when they are given several tokens.
        self.takes_several: bool = bool(layers) and not any(isinstance(layer, recurrent) for layer in layers)

    def read(self, vectors: "torch.Tensor") -> None:
        """Read vectors (rows, n, width) that follow what the rows have read."""
        import torch

        count = vectors.shape[1]
        self.seen = torch.cat([self.seen, self.seen.new_ones(len(vectors), count)], 1)
        places = self.places[:, None] + torch.arange(count, device=self.places.device)
        self.places = self.places + count
        self._pass(vectors, places, self.seen if self.name == "past_key_values" else None)

    def _pass(self, vectors: "torch.Tensor", places: "torch.Tensor", seen: "torch.Tensor | None") -> None:
        cached = {self.name: self.cache, "use_cache": True}
        out = read(self.model, vectors, attention_mask=seen, position_ids=places, **cached)
        self.hidden, self.cache = out.last_hidden_state[:, -1], getattr(out, self.name, None)

    def keep(self, rows: Sequence[int]) -> bool:
        """Let go of all rows but these. False where the model's cache cannot."""
        import torch

        if not hasattr(self.cache, "reorder_cache"):
            return False
        kept = torch.tensor(rows, device=self.places.device, dtype=torch.long)
        self.cache.reorder_cache(kept)
        self.seen, self.places, self.hidden = self.seen[kept], self.places[kept], self.hidden[kept]
        return True


@cache
def _kinds() -> tuple[type, Any, type]:
    """Layers of caches: one that keeps every key and value, one with room for more, and what all recurrent ones are."""
    from transformers.cache_utils import DynamicLayer, LinearAttentionCacheLayerMixin

    class RoomyLayer(DynamicLayer):
        """Keys and values (rows, heads, places, width) with room for more: a step writes its own and copies no others."""

        keys: Any
        values: Any
        room: "tuple[torch.Tensor, ...] | None" = None

        def __init__(self, filled: DynamicLayer) -> None:
            super().__init__()
            self.__dict__.update(vars(filled))

        def update(self, key_states, value_states, *args, **kwargs):
            before = self.get_seq_length()
            end = before + key_states.shape[-2]
            room = self.room
            # What other methods leave in `keys` is no view of the room.
            if room is None or end > room[0].shape[-2] or self.keys.data_ptr() != room[0].data_ptr():
                room = tuple(
                    new.new_empty(*new.shape[:2], end + ROOM, new.shape[-1]) for new in (key_states, value_states)
                )
                room[0][:, :, :before], room[1][:, :, :before] = self.keys, self.values
                self.room = room
            self.keys, self.values = (whole[:, :, :end] for whole in room)
            self.keys[:, :, before:], self.values[:, :, before:] = key_states, value_states
            return self.keys, self.values

    return DynamicLayer, RoomyLayer, LinearAttentionCacheLayerMixin
