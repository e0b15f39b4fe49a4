"""Greedy decoding where any row may think at any step: a latent goes in instead of a token's embedding.

All rows go forward together with one cache of keys and values, each at its own token, latent or explicit.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from adaptbench.latent.fusion import Fusion
from adaptbench.latent.passes import latents_after, logits_of

if TYPE_CHECKING:
    import torch

ROOM = 64  # places by which a cache grows
PART = 16  # steps after which rows that have ended leave the batch
Alter = Callable[[Sequence[int], Sequence[int], "torch.Tensor"], "torch.Tensor"]


@dataclass(frozen=True)
class Thinking:
    """When and how a model thinks.

    `fusion` None feeds the latent token's own embedding (a pause). `trigger`: the model writes the latent token itself, it
    thinks wherever it gives no token `tau`, or by chance, with probability `rate` before each word. It thinks at most `in_a_row`
    times without a word between, and at most `budget` times in all. `lead` are tokens that every response begins with, latent ones among them.
    """

    latent_id: int | None = None
    fusion: Fusion | None = None
    trigger: Literal["token", "confidence", "random"] = "token"
    tau: float = 0.3
    rate: float = 0.0
    in_a_row: int = 32
    budget: int | None = None
    lead: tuple[int, ...] = ()


@dataclass
class Written:
    """A response: its tokens, latent ones included, the end of text left out; the sequential passes it took.

    `latents` are the vectors that went in for the latent tokens, one after another, if they were to be kept.
    """

    tokens: list[int] = field(default_factory=list)
    passes: int = 0
    latents: "list[torch.Tensor]" = field(default_factory=list)


def respond(
    model: Any,
    prompts: Sequence[Sequence[int]],
    thinking: Thinking,
    *,
    max_new_tokens: int,
    end_id: int,
    pad_id: int,
    alter: Alter | None = None,
    keep: bool = False,
) -> list[Written]:
    """What the model writes after each prompt, at most `max_new_tokens` tokens, latent ones and the lead included.

    `alter(rows, numbers, latents)` may replace latents (n, width): of these prompts, each the row's latent of this number,
    from 0.
    """
    import torch

    with torch.inference_mode():
        batch = _Batch(model, prompts, thinking, max_new_tokens, end_id, pad_id, alter, keep)
        while batch.rows:
            batch.step()
    return batch.written


@cache
def _roomy_layer() -> Any:
    """A cache layer, made once transformers is needed."""
    from transformers.cache_utils import DynamicLayer

    class RoomyLayer(DynamicLayer):
        """Keys and values (rows, heads, places, width) with room for more: a step writes its own and copies no others."""

        keys: Any
        values: Any
        room: "tuple[torch.Tensor, ...] | None" = None

        def update(self, key_states, value_states, *args, **kwargs):
            before = self.get_seq_length()
            end = before + key_states.shape[-2]
            room = self.room
            # What other methods leave in `keys` is no view of the room.
            if (
                room is None
                or end > room[0].shape[-2]
                or self.keys is None
                or self.keys.data_ptr() != room[0].data_ptr()
            ):
                room = tuple(
                    new.new_empty(*new.shape[:2], end + ROOM, new.shape[-1]) for new in (key_states, value_states)
                )
                if before:
                    room[0][:, :, :before], room[1][:, :, :before] = self.keys, self.values
                self.room, self.is_initialized = room, True
            self.keys, self.values = (whole[:, :, :end] for whole in room)
            self.keys[:, :, before:], self.values[:, :, before:] = key_states, value_states
            return self.keys, self.values

    return RoomyLayer


class _Batch:
    """Rows in flight. `rows` are the prompts that its rows belong to."""

    def __init__(
        self,
        model: Any,
        prompts: Sequence[Sequence[int]],
        thinking: Thinking,
        limit: int,
        end_id: int,
        pad_id: int,
        alter: Alter | None,
        keep: bool,
    ) -> None:
        import torch
        from transformers.cache_utils import Cache

        self.model, self.thinking, self.limit, self.end_id = model, thinking, limit, end_id
        self.alter, self.keep = alter, keep
        self.written = [Written() for _ in prompts]
        self.rows = list(range(len(prompts)))
        self.streaks, self.totals = [0] * len(prompts), [0] * len(prompts)
        # A row's own, so that it thinks in the same places whatever is beside it.
        self.chance = [random.Random(" ".join(map(str, one))) for one in prompts]
        self.ended = [limit < 1] * len(prompts)
        self.cache = Cache(layer_class_to_replicate=_roomy_layer())
        longest = max(map(len, prompts))
        device = model.device
        ids = torch.tensor([[pad_id] * (longest - len(one)) + list(one) for one in prompts], device=device)
        self.seen = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in prompts], device=device)
        self.places = torch.tensor([len(one) for one in prompts], device=device)  # of the next token
        places = (self.seen.cumsum(1) - 1).clamp(min=0)
        self._forward(model.get_input_embeddings()(ids), places)
        self.steps = 0

    def _forward(self, vectors: "torch.Tensor", places: "torch.Tensor") -> None:
        out = self.model.get_decoder()(
            inputs_embeds=vectors,
            attention_mask=self.seen,
            position_ids=places,
            past_key_values=self.cache,
            use_cache=True,
        )
        self.hidden = out.last_hidden_state[:, -1]
        for row, ended in zip(self.rows, self.ended, strict=True):
            self.written[row].passes += not ended

    def step(self) -> None:
        """Every row's next token, and the pass that reads it."""
        import torch

        tokens = self._choose()
        latent = [token == self.thinking.latent_id for token in tokens]
        for i, (row, token) in enumerate(zip(self.rows, tokens, strict=True)):
            if self.ended[i]:
                continue
            if token == self.end_id:
                self.ended[i] = True
                continue
            self.written[row].tokens.append(token)
            self.streaks[i] = self.streaks[i] + 1 if latent[i] else 0
            self.totals[i] += latent[i]
            self.ended[i] = len(self.written[row].tokens) >= self.limit
        self.steps += 1
        if all(self.ended) or (self.steps % PART == 0 and any(self.ended)):
            tokens, latent = self._leave(tokens, latent)
        if not self.rows:
            return
        vectors = self.model.get_input_embeddings()(torch.tensor(tokens, device=self.model.device))
        thinks = [i for i, one in enumerate(latent) if one and not self.ended[i]]
        if thinks and self.thinking.fusion is not None:
            vectors = vectors.clone()
            vectors[thinks] = self._latents(thinks).to(vectors.dtype)
        self.seen = torch.cat([self.seen, torch.ones_like(self.seen[:, :1])], 1)
        places, self.places = self.places[:, None], self.places + 1
        self._forward(vectors[:, None], places)

    def _choose(self) -> list[int]:
        """The next token of each row: what the lead says, else the likeliest that it may write."""
        import torch

        thinking = self.thinking
        scores = logits_of(self.model, self.hidden).float()
        if thinking.latent_id is None:
            best = scores.argmax(-1).tolist()
        else:
            wordy = scores.clone()
            wordy[:, thinking.latent_id] = -torch.inf
            words = wordy.argmax(-1).tolist()
            if thinking.trigger == "token":
                wants = (scores.argmax(-1) == thinking.latent_id).tolist()
            elif thinking.trigger == "confidence":
                wants = (wordy.softmax(-1).amax(-1) < thinking.tau).tolist()
            else:
                wants = [
                    self.streaks[i] == 0 and self.chance[row].random() < thinking.rate
                    for i, row in enumerate(self.rows)
                ]
            best = [
                thinking.latent_id if want and self._may_think(i) else word
                for i, (want, word) in enumerate(zip(wants, words, strict=True))
            ]
        done = [len(self.written[row].tokens) for row in self.rows]
        return [
            thinking.lead[count] if count < len(thinking.lead) else token
            for count, token in zip(done, best, strict=True)
        ]

    def _may_think(self, i: int) -> bool:
        budget = self.thinking.budget
        return self.streaks[i] < self.thinking.in_a_row and (budget is None or self.totals[i] < budget)

    def _latents(self, thinks: list[int]) -> "torch.Tensor":
        thinking = self.thinking
        assert thinking.fusion is not None
        assert thinking.latent_id is not None
        vectors = latents_after(self.model, self.hidden[thinks], thinking.latent_id, thinking.fusion)
        if self.alter is not None:
            rows = [self.rows[i] for i in thinks]
            vectors = self.alter(rows, [self.totals[i] - 1 for i in thinks], vectors)
        if self.keep:
            for i, vector in zip(thinks, vectors, strict=True):
                self.written[self.rows[i]].latents.append(vector.cpu())
        return vectors

    def _leave(self, tokens: list[int], latent: list[bool]) -> tuple[list[int], list[bool]]:
        """Take the rows that have ended out of the batch."""
        import torch

        going = [i for i, ended in enumerate(self.ended) if not ended]
        kept = torch.tensor(going, device=self.model.device, dtype=torch.long)
        if going:
            self.cache.batch_select_indices(kept)
        self.seen, self.places, self.hidden = self.seen[kept], self.places[kept], self.hidden[kept]
        self.rows, self.streaks, self.totals = (
            [values[i] for i in going] for values in (self.rows, self.streaks, self.totals)
        )
        self.ended = [False] * len(going)
        return [tokens[i] for i in going], [latent[i] for i in going]
