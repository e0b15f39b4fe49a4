"""Greedy decoding where any row may think at any step: a latent goes in instead of a token's embedding.

All rows go forward together with one cache, the model's own, each at its own token, latent or explicit. What a response begins with is
known before: words of it are read in the pass of the prompt, or of the latent before them.
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
        while not all(batch.ended):
            batch.step()
    return batch.written


class _Batch:
    """Responses in the making. `rows` are the prompts that its rows belong to."""

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
        self.model, self.thinking, self.limit, self.end_id = model, thinking, limit, end_id
        self.alter, self.keep = alter, keep
        self.written = [Written() for _ in prompts]
        self.rows = list(range(len(prompts)))
        self.streaks, self.totals = [0] * len(prompts), [0] * len(prompts)
        # A row's own, so that it thinks in the same places whatever is beside it.
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
        """Every row's next tokens, which are known before, and the pass that reads them: a latent and words."""
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
        """Every row's next token, and the pass that reads it."""
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
        """The next token of each row: the likeliest that it may write."""
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
        """The latents that follow these rows, each the row's latent of this number."""
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
        """Take the rows that have ended out of the batch, if the model's cache can let go of rows."""
        going = [i for i, ended in enumerate(self.ended) if not ended]
        if not self.read.keep(going):
            return tokens
        self.rows, self.streaks, self.totals, tokens = (
            [values[i] for i in going] for values in (self.rows, self.streaks, self.totals, tokens)
        )
        self.ended = [False] * len(going)
        return tokens


def _parts(thinking: Thinking, limit: int) -> list[list[int]]:
    """The lead in the parts that one pass each can read: what comes before its first latent, then each latent with what follows it."""
    parts: list[list[int]] = [[]]
    for token in thinking.lead[: max(limit, 0)]:
        if token == thinking.latent_id and thinking.fusion is not None:
            parts.append([])
        parts[-1].append(token)
    return parts
