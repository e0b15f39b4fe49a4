"""Read rows from embeddings, a few places at a time, with the cache that the model makes.

Recurrent layers, convolutions and sliding windows store other states than keys and values. So the model's first forward
pass makes the cache. Layers of the cache that hold every key and value get room for more.
"""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from adaptbench.data.padding import padded_left
from adaptbench.errors import AdaptbenchError
from adaptbench.latent.embeddings import decoder_takes, run_decoder

if TYPE_CHECKING:
    import torch

ROOM = 64  # places by which a cache grows


class Cached:
    """Rows that a model reads, padded on the left; `hidden` (rows, width) are the last places' final-norm states."""

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]], pad_id: int) -> None:
        """Read the prompts.

        Raises:
            AdaptbenchError: the model returns no cache.
        """
        ids, self.seen = (one.to(model.device) for one in padded_left(prompts, pad_id))
        self.model = model
        self.cache: Any = None
        # Pure state-space models have another name for their cache, and take a mask with the first tokens only.
        self.name = "past_key_values" if decoder_takes(model, "past_key_values") else "cache_params"
        self.places = self.seen.sum(1)  # of the next token
        self._pass(model.get_input_embeddings()(ids), (self.seen.cumsum(1) - 1).clamp(min=0), self.seen)
        if self.cache is None:
            raise AdaptbenchError(f"{type(model).__name__} returns no cache")
        layers, (plain, roomy, recurrent) = getattr(self.cache, "layers", []), _kinds()
        layers[:] = [roomy(layer) if type(layer) is plain else layer for layer in layers]
        # Some recurrent layers reset their state when they are given several tokens.
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
        out = run_decoder(self.model, vectors, attention_mask=seen, position_ids=places, **cached)
        self.hidden, self.cache = out.last_hidden_state[:, -1], getattr(out, self.name, None)

    def keep(self, rows: Sequence[int]) -> bool:
        """Drop all rows but these; return False if the model's cache cannot."""
        import torch

        if not hasattr(self.cache, "reorder_cache"):
            return False
        kept = torch.tensor(rows, device=self.places.device, dtype=torch.long)
        self.cache.reorder_cache(kept)
        self.seen, self.places, self.hidden = self.seen[kept], self.places[kept], self.hidden[kept]
        return True


@cache
def _kinds() -> tuple[type, Any, type]:
    """Return classes of cache layers: one that holds every key and value, one with room for more, a recurrent one."""
    from transformers.cache_utils import DynamicLayer, LinearAttentionCacheLayerMixin

    class RoomyLayer(DynamicLayer):
        """Keys and values (rows, heads, places, width) with room for more, so that a step copies no earlier ones."""

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
            # Other methods of the layer may have replaced `keys` by a tensor that is not a view of the room.
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
