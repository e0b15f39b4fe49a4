"""Insert latents before the tokens of a response that are hard for the model.

LT-Tuning, arXiv 2602.10229, section 3.2: the model reads every training sample. Where the right next token has
probability below `tau`, latents are inserted before that token. Nothing is replaced. Scoring, insertion and training
use the same tokens.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from adaptbench.contracts import Real, StrictModel
from adaptbench.data.packing import IGNORED, Example
from adaptbench.data.padding import padded

if TYPE_CHECKING:
    import torch


class Insertion(StrictModel):
    """The positions of a sample that get latents, and their number."""

    tau: Real = Field(0.3, gt=0, lt=1, description="a token is hard if the model gives it a lower probability")
    budget: int = Field(10, ge=1, description="most positions of a sample that get latents")
    once: Real = Field(0.85, ge=0, le=1, description="probability of a latent before a chosen position")
    twice: Real = Field(0.15, ge=0, le=1, description="probability of a second latent after a first")

    @property
    def most(self) -> int:
        """Return the most latents of a sample."""
        return self.budget * (2 if self.once and self.twice else 1)


@dataclass(frozen=True)
class Inserted:
    """A sample with latents; `chosen` are positions in the sample without latents, `counts` the latents before each."""

    example: Example
    chosen: tuple[int, ...]
    counts: tuple[int, ...]


def confidences(
    model: Any, examples: Sequence[Example], pad_id: int, device: str, batch_size: int = 64
) -> "list[torch.Tensor]":
    """Return the model's probability of each token given those before it, (tokens,) per example; 1 for the first."""
    import torch

    order = sorted(range(len(examples)), key=lambda i: len(examples[i].input_ids))
    found: dict[int, torch.Tensor] = {}
    was_training, home = model.training, model.device
    model.eval().to(device)
    with torch.inference_mode():
        for first in range(0, len(order), batch_size):
            rows = order[first : first + batch_size]
            ids = padded([examples[i].input_ids for i in rows], pad_id).to(device)
            logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()
            given = logits.log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0].exp()
            given = torch.cat([torch.ones_like(given[:, :1]), given], 1).cpu()
            for i, row in zip(rows, given, strict=True):
                found[i] = row[: len(examples[i].input_ids)]
    model.train(was_training).to(home)
    return [found[i] for i in range(len(examples))]


def insert(
    examples: Sequence[Example],
    given: "Sequence[torch.Tensor | None]",
    options: Insertion,
    latent_id: int,
    *,
    where: Literal["confidence", "random"] = "confidence",
    labelled: bool,
    longest: int,
    seed: str,
) -> list[Inserted]:
    """Return the examples with latents before positions that have labels.

    Args:
        given: the result of `confidences`, and None for an example that stays as it is.
        where: "random" inserts as many latents before positions drawn at random.
        labelled: whether latent tokens have labels, so that the model learns to write them.
        longest: the most tokens of a sample; latents that do not fit are left out, the last ones first.
        seed: of the draws; each example has its own generator.
    """
    inserted = []
    for number, (example, scores) in enumerate(zip(examples, given, strict=True)):
        if scores is None:
            inserted.append(Inserted(example, (), ()))
            continue
        rng = random.Random(f"{seed}/latents{number}")
        response = [place for place, label in enumerate(example.labels) if label != IGNORED]
        chosen = [place for place in response if float(scores[place]) < options.tau]
        if where == "random":
            chosen = rng.sample(response, len(chosen))
        if len(chosen) > options.budget:
            chosen = rng.sample(chosen, options.budget)
        chosen.sort()
        counts = [int(rng.random() < options.once) for _ in chosen]
        counts = [count + int(rng.random() < options.twice) if count else 0 for count in counts]
        room = longest - len(example.input_ids)
        counts = [min(count, max(0, room - sum(counts[:i]))) for i, count in enumerate(counts)]
        inserted.append(_with_latents(example, chosen, counts, latent_id, labelled))
    return inserted


def _with_latents(
    example: Example, chosen: Sequence[int], counts: Sequence[int], latent_id: int, labelled: bool
) -> Inserted:
    wanted = dict(zip(chosen, counts, strict=True))
    ids: list[int] = []
    labels: list[int] = []
    for place, (token, label) in enumerate(zip(example.input_ids, example.labels, strict=True)):
        latents = wanted.get(place, 0)
        ids += [latent_id] * latents + [token]
        labels += [latent_id if labelled else IGNORED] * latents + [label]
    return Inserted(Example(ids, labels, extra=sum(counts)), tuple(chosen), tuple(counts))
