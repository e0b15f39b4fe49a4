"""Decoding with latents: the model writes words, and thinks where it was trained to; what each answer took is kept.

Log-likelihoods (and so the general tasks) are the plain model's, by lm-eval's own Hugging Face backend: no latent goes in, and the
latent token is one of the tokens that probability falls on.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lm_eval.models.huggingface import HFLM

from adaptbench import models
from adaptbench.contracts import AdaptbenchError
from adaptbench.decoding.agent import before_stop
from adaptbench.latent.decode import Alter, Thinking, Written, respond
from adaptbench.latent.fusion import Fusion
from adaptbench.latent.text import LATENT
from adaptbench.tokenizer import encode_prompts

if TYPE_CHECKING:
    import torch


def language_model(
    directory: Path,
    *,
    batch_size: int,
    tasks: Mapping[str, Path],
    thinks: bool = False,
    fusion: Mapping[str, Any] | None = None,
    trigger: Literal["token", "confidence"] = "token",
    tau: float = 0.3,
    in_a_row: int = 32,
    budget: int | None = None,
    lead: str = "",
    probe: Literal["", "zero", "noise", "shuffle"] = "",
):
    """An lm-eval `LM` over a model directory.

    With `thinks` the model has a latent token, read as `fusion` says (None: as any token); the other options are those of
    adaptbench/latent/decode.py. `lead` is what every response begins with, as text of tokens. `probe` replaces what latents hold:
    by zeros, by noise of the same length, or by the latents of another problem.

    Raises:
        AdaptbenchError: the directory's tokenizer has no latent token.
    """
    model = models.load_model(directory).eval().to(models.device())
    tokenizer = models.load_tokenizer(directory)
    latent_id = tokenizer.get_vocab().get(LATENT)
    if thinks and latent_id is None:
        raise AdaptbenchError(f"{directory}: decodes with latents, but its tokenizer has no token {LATENT!r}")
    thinking = Thinking(
        latent_id=latent_id if thinks else None,
        fusion=None if fusion is None else Fusion.model_validate(dict(fusion)),
        trigger=trigger,
        tau=tau,
        in_a_row=in_a_row,
        budget=budget,
        lead=tuple(tokenizer(lead, add_special_tokens=False).input_ids) if lead else (),
    )
    return LatentLM(model, tokenizer, thinking, batch_size, probe)


class LatentLM(HFLM):
    """`taken` maps (task, document) to what its answer took: tokens, latents, passes, milliseconds."""

    def __init__(self, model: Any, tokenizer: Any, thinking: Thinking, batch_size: int, probe: str = "") -> None:
        self.thinking, self.probe = thinking, probe
        self.taken: dict[tuple[str, int], dict[str, float]] = {}
        super().__init__(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, logits_cache=False)

    def generate_until(self, requests, disable_tqdm: bool = False) -> list[str]:
        """The answers in order; prompts of like length go side by side."""
        options = [request.args[1] for request in requests]
        prompts = [
            self._read(request.args[0], one["max_gen_toks"]) for request, one in zip(requests, options, strict=True)
        ]
        order = sorted(range(len(requests)), key=lambda i: (options[i]["max_gen_toks"], len(prompts[i])))
        answers = {}
        for first in range(0, len(order), self.batch_size):
            batch = order[first : first + self.batch_size]
            started = time.perf_counter()
            written = self._respond([prompts[i] for i in batch], max(options[i]["max_gen_toks"] for i in batch))
            milliseconds = 1000 * (time.perf_counter() - started) / len(batch)
            for i, one in zip(batch, written, strict=True):
                words = [token for token in one.tokens if token != self.thinking.latent_id]
                text = self.tokenizer.decode(words, skip_special_tokens=True, clean_up_tokenization_spaces=False)
                answers[i] = before_stop(text, options[i]["until"])
                self.taken[requests[i].task_name, requests[i].doc_id] = {
                    "visible_tokens": len(words),
                    "latent_tokens": len(one.tokens) - len(words),
                    "passes": one.passes,
                    "milliseconds": milliseconds,
                }
        return [answers[i] for i in range(len(requests))]

    def _respond(self, prompts: Sequence[Sequence[int]], limit: int) -> list[Written]:
        """The responses, their latents replaced as the probe says."""
        ends = {"end_id": self.tokenizer.eos_token_id, "pad_id": self.tokenizer.pad_token_id}
        if not self.probe:
            return respond(self.model, prompts, self.thinking, max_new_tokens=limit, **ends)
        others: list[list[torch.Tensor]] = []
        if self.probe == "shuffle":
            kept = respond(self.model, prompts, self.thinking, max_new_tokens=limit, keep=True, **ends)
            others = [one.latents for one in kept]
        alter = PROBES[self.probe](others)
        return respond(self.model, prompts, self.thinking, max_new_tokens=limit, alter=alter, **ends)

    def _read(self, prompt: str, room: int) -> list[int]:
        """The prompt's tokens as training has them; where it leaves no `room` for an answer, without its beginning."""
        (ids,) = encode_prompts(self.tokenizer, [prompt])
        return ids[max(0, len(ids) + room - self.max_length) :]


def _zero(others: Sequence[Sequence["torch.Tensor"]]) -> Alter:
    return lambda rows, numbers, latents: latents * 0


def _noise(others: Sequence[Sequence["torch.Tensor"]]) -> Alter:
    """Seeded by the row in the batch and the number."""
    import torch

    def alter(rows: Sequence[int], numbers: Sequence[int], latents: "torch.Tensor") -> "torch.Tensor":
        drawn = []
        for row, number in zip(rows, numbers, strict=True):
            generator = torch.Generator().manual_seed(1000 * row + number)
            drawn.append(torch.randn(latents.shape[-1], generator=generator))
        noise = torch.stack(drawn).to(latents)
        return noise * (latents.norm(dim=-1, keepdim=True) / noise.norm(dim=-1, keepdim=True))

    return alter


def _shuffle(others: Sequence[Sequence["torch.Tensor"]]) -> Alter:
    """The latent of the same number of the next problem that has any, its last where it has fewer."""
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
