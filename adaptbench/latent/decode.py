"""Decode greedily, where any row may think at any step: its input is then a latent instead of a token's embedding.

All rows share one forward pass and one cache, the model's; each reads its own token or latent. The tokens that every
response begins with are known before, and are read in the pass of the prompt or of the latent before them.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from adaptbench.latent.cached import Cached
from adaptbench.latent.fusion import Fusion
from adaptbench.latent.passes import latents_after, logits_of

if TYPE_CHECKING:
    import torch

PART = 16  # steps between two checks for rows that have ended
Alter = Callable[[Sequence[int], Sequence[int], "torch.Tensor"], "torch.Tensor"]


@dataclass(frozen=True)
class Thinking:
    """Options of thinking: when a model thinks, and how its latents are computed.

    Attributes:
        latent_id: the latent token; None for a model without latents.
        fusion: how a latent is computed; None feeds the latent token's embedding (a pause).
        trigger: think where the latent token is the likeliest ("token"), where no other token has probability `tau`
            ("confidence"), or with probability `rate` before each word ("random").
        in_a_row: the most latents without a word between.
        budget: the most latents of a response; None for any number.
        lead: tokens that every response begins with; latent tokens may be among them.
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
class Response:
    """A response: its tokens with the latent ones and without the end of text, and its sequential forward passes.

    `latents` are the vectors of the latent tokens, in order, if the call asked to keep them.
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
) -> list[Response]:
    """Return the model's response to each prompt, with at most `max_new_tokens` tokens, latent ones and lead included.

    Args:
        alter: a function (rows, numbers, latents) that returns other latents (n, width): latent number `numbers[i]`,
            from 0, of prompt `rows[i]`.
        keep: whether the responses hold their latents.
    """
    import torch

    with torch.inference_mode():
        batch = _Batch(
            model, prompts, thinking, limit=max_new_tokens, end_id=end_id, pad_id=pad_id, alter=alter, keep=keep
        )
        while not all(batch.ended):
            batch.step()
    return batch.written


class _Batch:
    """A batch of responses in progress; `rows` are the numbers of the prompts that its rows belong to."""

    def __init__(
        self,
        model: Any,
        prompts: Sequence[Sequence[int]],
        thinking: Thinking,
        *,
        limit: int,
        end_id: int,
        pad_id: int,
        alter: Alter | None,
        keep: bool,
    ) -> None:
        self.model, self.thinking, self.limit, self.end_id = model, thinking, limit, end_id
        self.alter, self.keep = alter, keep
        self.written = [Response() for _ in prompts]
        self.rows = list(range(len(prompts)))
        self.streaks, self.totals = [0] * len(prompts), [0] * len(prompts)
        # One generator for each row, so that it thinks in the same places in any batch.
        self.chance = [random.Random(" ".join(map(str, one))) for one in prompts]
        self.ended = [limit < 1] * len(prompts)
        self.steps = 0
        first, *parts = _parts(thinking, limit)
        self.read = Cached(model, [[*one, *first] for one in prompts], pad_id)
        self._count()
        for token in first:
            self._write([token] * len(prompts))
        for part in parts:
            self._lead(part)

    def _lead(self, part: Sequence[int]) -> None:
        """Write a part of the lead, a latent and words, to every row, and read it in one pass."""
        import torch

        for token in part:
            self._write([token] * len(self.rows))
        if all(self.ended):
            return
        vectors = self.model.get_input_embeddings()(torch.tensor([part], device=self.model.device))
        vectors = vectors.repeat(len(self.rows), 1, 1)
        first = self._latents(range(len(self.rows)), [total - 1 for total in self.totals])
        vectors[:, 0] = first.to(vectors.dtype)
        for some in [vectors] if self.read.takes_several else vectors.split(1, 1):
            self.read.read(some)
            self._count()

    def _count(self) -> None:
        for row, ended in zip(self.rows, self.ended, strict=True):
            self.written[row].passes += not ended

    def _write(self, tokens: Sequence[int]) -> None:
        for i, (row, token) in enumerate(zip(self.rows, tokens, strict=True)):
            if self.ended[i]:
                continue
            if token == self.end_id:
                self.ended[i] = True
                continue
            latent = token == self.thinking.latent_id
            self.written[row].tokens.append(token)
            self.streaks[i] = self.streaks[i] + 1 if latent else 0
            self.totals[i] += latent
            self.ended[i] = len(self.written[row].tokens) >= self.limit

    def step(self) -> None:
        """Choose and write every row's next token, and read it in one pass."""
        import torch

        tokens = self._choose()
        self._write(tokens)
        self.steps += 1
        if all(self.ended):
            return
        if self.steps % PART == 0 and any(self.ended):
            tokens = self._leave(tokens)
        vectors = self.model.get_input_embeddings()(torch.tensor(tokens, device=self.model.device))
        thinks = [i for i, one in enumerate(tokens) if one == self.thinking.latent_id and not self.ended[i]]
        if thinks and self.thinking.fusion is not None:
            vectors = vectors.clone()
            vectors[thinks] = self._latents(thinks, [self.totals[i] - 1 for i in thinks]).to(vectors.dtype)
        self.read.read(vectors[:, None])
        self._count()

    def _choose(self) -> list[int]:
        """Return the next token of each row: the likeliest one that it may write."""
        import torch

        thinking = self.thinking
        scores = logits_of(self.model, self.read.hidden).float()
        if thinking.latent_id is None:
            best: list[int] = scores.argmax(-1).tolist()
            return best
        wordy = scores.clone()
        wordy[:, thinking.latent_id] = -torch.inf
        words = wordy.argmax(-1).tolist()
        if thinking.trigger == "token":
            wants = (scores.argmax(-1) == thinking.latent_id).tolist()
        elif thinking.trigger == "confidence":
            wants = (wordy.softmax(-1).amax(-1) < thinking.tau).tolist()
        else:
            wants = [
                self.streaks[i] == 0 and self.chance[row].random() < thinking.rate for i, row in enumerate(self.rows)
            ]
        return [
            thinking.latent_id if want and self._may_think(i) else word
            for i, (want, word) in enumerate(zip(wants, words, strict=True))
        ]

    def _may_think(self, i: int) -> bool:
        budget = self.thinking.budget
        return self.streaks[i] < self.thinking.in_a_row and (budget is None or self.totals[i] < budget)

    def _latents(self, thinks: Sequence[int], numbers: Sequence[int]) -> "torch.Tensor":
        """Return the latents that follow these rows; `numbers` count the latents of each row."""
        thinking = self.thinking
        assert thinking.fusion is not None
        assert thinking.latent_id is not None
        vectors = latents_after(self.model, self.read.hidden[list(thinks)], thinking.latent_id, thinking.fusion)
        if self.alter is not None:
            vectors = self.alter([self.rows[i] for i in thinks], numbers, vectors)
        if self.keep:
            for i, vector in zip(thinks, vectors, strict=True):
                self.written[self.rows[i]].latents.append(vector.cpu())
        return vectors

    def _leave(self, tokens: list[int]) -> list[int]:
        """Drop the rows that have ended from the batch, if the model's cache can; return the remaining rows' tokens."""
        going = [i for i, ended in enumerate(self.ended) if not ended]
        if not self.read.keep(going):
            return tokens
        self.rows, self.streaks, self.totals, tokens = (
            [values[i] for i in going] for values in (self.rows, self.streaks, self.totals, tokens)
        )
        self.ended = [False] * len(going)
        return tokens


def _parts(thinking: Thinking, limit: int) -> list[list[int]]:
    """Return the lead in parts, one for each pass: words before the first latent, then each latent and its words."""
    parts: list[list[int]] = [[]]
    for token in thinking.lead[: max(limit, 0)]:
        if token == thinking.latent_id and thinking.fusion is not None:
            parts.append([])
        parts[-1].append(token)
    return parts
