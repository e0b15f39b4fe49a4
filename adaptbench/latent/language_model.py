"""Latent decoding: the model writes words and latents; the cost of each answer is recorded.

An answer has the latent token where the model thought, for readers; scoring leaves it out
(benchmarks/shared/answers.py).

Log-likelihoods (and so the general tasks) are the plain model's, as in plain decoding: there are no latents, and the
latent token is one of the tokens that share the probability.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from adaptbench.data.tokenizer import encode_prompts
from adaptbench.errors import AdaptbenchError
from adaptbench.jobs import gpus
from adaptbench.latent.decode import Alter, Response, Thinking, respond
from adaptbench.latent.fusion import Fusion
from adaptbench.latent.stage import INSERTION
from adaptbench.latent.text import LATENT, response
from adaptbench.model import storage
from adaptbench.model.scoring import ScoringLM
from adaptbench.model.stops import before_stop

if TYPE_CHECKING:
    import torch


def language_model(
    directory: Path,
    *,
    batch_size: int,
    tasks: Mapping[str, Path],
    thinks: bool = False,
    fusion: Mapping[str, Any] | None = None,
    trigger: Literal["token", "confidence", "random"] = "token",
    tau: Annotated[float, Field(gt=0, lt=1)] = 0.3,
    in_a_row: Annotated[int, Field(ge=1)] = 32,
    budget: Annotated[int, Field(ge=0)] | None = None,
    lead: str = "",
    probe: Literal["", "zero", "noise", "shuffle"] = "",
):
    """Return an lm-eval `LM` over a model directory.

    With `thinks` the model has a latent token, computed as `fusion` says (None: embedded as any token). `lead` is the
    text that every response begins with. `probe` replaces latents: by zeros, by noise of the same norm, or by the
    latents of another problem. The other options are those of adaptbench/latent/decode.py.

    Raises:
        AdaptbenchError: the directory's tokenizer has no latent token.
    """
    rate = 0.0
    if trigger == "random":
        record = json.loads((directory / INSERTION).read_text())
        rate = record["latents"] / record["response_tokens"]
    model = storage.load_model(directory).eval().to(gpus.device())
    tokenizer = storage.load_tokenizer(directory)
    latent_id = tokenizer.get_vocab().get(LATENT)
    if thinks and latent_id is None:
        raise AdaptbenchError(f"{directory}: decodes with latents, but its tokenizer has no token {LATENT!r}")
    thinking = Thinking(
        latent_id=latent_id if thinks else None,
        fusion=None if fusion is None else Fusion.model_validate(dict(fusion)),
        trigger=trigger,
        tau=tau,
        rate=rate,
        in_a_row=in_a_row,
        budget=budget,
        lead=tuple(tokenizer(lead, add_special_tokens=False).input_ids) if lead else (),
    )
    return LatentLM(model, tokenizer, thinking, batch_size, probe)


ROOM = 32  # tokens for latents beyond twice the longest right response


class LatentLM(ScoringLM):
    """An LM that decodes with latents; `taken` has the tokens, latents, passes and time of each (task, document)."""

    def __init__(self, model: Any, tokenizer: Any, thinking: Thinking, batch_size: int, probe: str = "") -> None:
        self.thinking, self.probe = thinking, probe
        self.taken: dict[tuple[str, int], dict[str, float]] = {}
        super().__init__(model, tokenizer, batch_size)

    def generate_until(self, requests, disable_tqdm: bool = False) -> list[str]:
        """Return the answers in order; prompts of like length are batched.

        An answer is cut at twice the length of the longest right answer, plus ROOM.
        """
        limit = min(
            self._limit(requests),
            max((one.args[1].get("max_gen_toks", self.max_gen_toks) for one in requests), default=0),
        )
        limit = self.room(limit)
        self.note_prompts(requests, limit)
        prompts = [self._read(request.args[0], limit) for request in requests]
        order = sorted(range(len(requests)), key=lambda i: len(prompts[i]))
        batches = [order[first : first + self.batch_size] for first in range(0, len(order), self.batch_size)]
        alter = PROBES[self.probe](self._kept(prompts, batches, limit)) if self.probe else None
        answers = {}
        for batch in batches:
            started = time.perf_counter()
            read = [prompts[i] for i in batch]
            written = self.respond(read, limit, alter=_of_batch(alter, batch) if alter else None)
            milliseconds = 1000 * (time.perf_counter() - started) / len(batch)
            for i, one in zip(batch, written, strict=True):
                latents = sum(token == self.thinking.latent_id for token in one.tokens)
                words = [token for token in one.tokens[len(self.thinking.lead) :] if token != self.thinking.latent_id]
                answers[i] = self._answer(one.tokens, len(self.thinking.lead), requests[i].args[1].get("until", []))
                self.taken[requests[i].task_name, requests[i].doc_id] = {
                    "visible_tokens": len(words),
                    "latent_tokens": latents,
                    "passes": one.passes,
                    "milliseconds": milliseconds,
                }
        return [answers[i] for i in range(len(requests))]

    def _answer(self, tokens: Sequence[int], lead: int, stops: str | Sequence[str]) -> str:
        """Return the text of `tokens` after the lead, up to a stop, with the latent token at all latents.

        The latent token is left out where it would change the words: if the tokenizer decodes parts otherwise than the
        whole, or a stop text spans a latent.
        """

        def written(part: Sequence[int]) -> str:
            return self.tokenizer.decode(part, skip_special_tokens=True, clean_up_tokenization_spaces=False)

        latent = self.thinking.latent_id
        words = before_stop(written([token for token in tokens[lead:] if token != latent]), stops)
        parts: list[list[int]] = [[]]
        for token in tokens[lead:]:
            if token == latent:
                parts.append([])
            else:
                parts[-1].append(token)
        led = LATENT * sum(token == latent for token in tokens[:lead])
        shown = led + before_stop(LATENT.join(map(written, parts)), stops)
        return shown if shown.replace(LATENT, "") == words else words

    def _limit(self, requests: Sequence[Any]) -> int:
        """Return the most tokens of a response, latent ones and lead included; `max_length` without reference steps."""
        if any(not {"steps", "target"} <= request.doc.keys() for request in requests):
            return self.max_length
        right = [response(request.doc["steps"], request.doc["target"]) for request in requests]
        lengths = map(len, self.tokenizer(right, add_special_tokens=False).input_ids) if right else ()
        return 2 * max(lengths, default=0) + len(self.thinking.lead) + ROOM

    def respond(self, prompts: Sequence[Sequence[int]], limit: int, **options: Any) -> list[Response]:
        """Return the model's responses to tokenized prompts; options as in adaptbench/latent/decode.py."""
        ends = {"end_id": self.tokenizer.eos_token_id, "pad_id": self.tokenizer.pad_token_id}
        return respond(self.model, prompts, self.thinking, max_new_tokens=limit, **ends, **options)

    def _kept(
        self, prompts: Sequence[Sequence[int]], batches: Sequence[Sequence[int]], limit: int
    ) -> "list[list[torch.Tensor]]":
        """Return the model's latents of every problem, for a probe that exchanges them; else empty lists."""
        kept: list[list[torch.Tensor]] = [[] for _ in prompts]
        if self.probe == "shuffle":
            for batch in batches:
                for i, one in zip(batch, self.respond([prompts[i] for i in batch], limit, keep=True), strict=True):
                    kept[i] = one.latents
        return kept

    def _read(self, prompt: str, room: int) -> list[int]:
        """Return the prompt's tokens as in training, cut at its beginning if an answer of `room` tokens needs that."""
        (ids,) = encode_prompts(self.tokenizer, [prompt])
        return ids[min(max(0, len(ids) + room - self.max_length), len(ids) - 1) :]


def _of_batch(alter: Alter, batch: Sequence[int]) -> Alter:
    """Return `alter` for a batch: its rows are numbered in the batch, `alter` numbers all problems."""
    return lambda rows, numbers, latents: alter([batch[row] for row in rows], numbers, latents)


def _zero(others: Sequence[Sequence["torch.Tensor"]]) -> Alter:
    return lambda rows, numbers, latents: latents * 0


def _noise(others: Sequence[Sequence["torch.Tensor"]]) -> Alter:
    """Return noise of the latents' norm, seeded by the problem's and the latent's number."""
    import torch

    def alter(rows: Sequence[int], numbers: Sequence[int], latents: "torch.Tensor") -> "torch.Tensor":
        drawn = []
        for row, number in zip(rows, numbers, strict=True):
            generator = torch.Generator().manual_seed((row << 16) + number)
            drawn.append(torch.randn(latents.shape[-1], generator=generator))
        noise = torch.stack(drawn).to(latents)
        return noise * (latents.norm(dim=-1, keepdim=True) / noise.norm(dim=-1, keepdim=True))

    return alter


def _shuffle(others: Sequence[Sequence["torch.Tensor"]]) -> Alter:
    """Exchange latents for those of the next problem that has any: of the same number, or its last if it has fewer.

    If no other problem has latents, they stay.
    """
    import torch

    def donor(row: int) -> Sequence["torch.Tensor"]:
        following = [*others[row + 1 :], *others[:row]]
        return next((latents for latents in following if latents), others[row])

    def alter(rows: Sequence[int], numbers: Sequence[int], latents: "torch.Tensor") -> "torch.Tensor":
        given = [donor(row) for row in rows]
        taken = [
            its[min(number, len(its) - 1)] if its else old
            for its, number, old in zip(given, numbers, latents.cpu(), strict=True)
        ]
        return torch.stack(taken).to(latents)

    return alter


PROBES: Mapping[str, Callable[[Sequence[Sequence["torch.Tensor"]]], Alter]] = {
    "zero": _zero,
    "noise": _noise,
    "shuffle": _shuffle,
}
