"""Shared parts of curricula with latents: options, the latent token, and the samples of a stage."""

import json
from collections.abc import Collection, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from adaptbench.config.training import Training, TrainingOverrides, merge_training
from adaptbench.contracts import CurriculumConfig, Real, StageContext
from adaptbench.data.packing import IGNORED
from adaptbench.errors import AdaptbenchError
from adaptbench.io.files import write_text
from adaptbench.latent.fusion import Fusion
from adaptbench.latent.insertion import Insertion
from adaptbench.latent.objective import Forward
from adaptbench.latent.text import LATENT

INSERTION = "insertion.json"
SHOWN = 6  # samples that are kept token by token


RATE_RATIOS = (0.3, 0.5, 0.7, 1.0, 2.0, 3.0)
"""Ratios of learning rates that a sweep tries; the first stage is that of `cot`, at its rate.

At a tenth of it, the latent token is hardly learned in few steps, and a sweep would choose a model that never thinks.
"""


TAKES_PLACE = ("latent_tokens", 1.0)
"""Metric, and its mean over answers below which a run says nothing about extra tokens."""


class LaterConfig(CurriculumConfig):
    """Options of the stages after the chain of thought."""

    tracks: ClassVar[tuple[str, ...]] = ("reasoning",)
    later_rate_ratio: Real = Field(1.0, gt=0, description="learning rate of later stages divided by the first stage's")

    def sharded_problem(self, run) -> str:
        if getattr(self, "adds_tokens", False) and not run.tuner.moves_base_weights:
            return (
                f"kind: under {run.tuner.kind} it trains new tokens' rows of frozen embeddings alone; "
                "use devices.strategy: ddp"
            )
        return super().sharded_problem(run)

    def longest_chain(self) -> int:
        """Return the most latents that a sample may have."""
        return 0

    def needs(self) -> tuple[str, ...]:
        return ("embeddings",)  # for latent decoding

    def later_training(self, training: Training, *own: TrainingOverrides) -> dict[str, Any]:
        """Return the training options of a later stage, which override the run's; the last of `own` has priority."""
        named: dict[str, Any] = {"learning_rate": self.later_rate_ratio * training.learning_rate}
        for one in own:
            options = one.model_dump(exclude_none=True)
            if options.keys() & {"steps", "epochs"}:
                named = {name: value for name, value in named.items() if name not in ("steps", "epochs")}
            named |= options
        return named


class InsertedConfig(LaterConfig):
    """Options of all stages with inserted tokens, and of the first such stage."""

    adds_tokens: ClassVar[bool] = True
    takes_place: ClassVar = TAKES_PLACE
    insertion: Literal["confidence", "random"] = Field(
        "confidence", description="latents before tokens that are hard for the model, or as many at random places"
    )
    latent_label: Literal["predict", "ignore"] = Field(
        "predict", description="whether the model is trained to write the latent token"
    )
    trigger: Literal["token", "confidence", "random"] = Field(
        "token",
        description="when the model thinks: where it writes the latent token, where it gives no token a probability of "
        "tau, or at random, as often as in training",
    )
    hidden: Insertion = Field(Insertion(), description="latents of the first stage that has them")
    hidden_training: TrainingOverrides = Field(TrainingOverrides(), description="of that stage")

    def longest_chain(self) -> int:
        return max(one.most for _, one in self if isinstance(one, Insertion))

    def problem(self, run, base_layers: int | None) -> str:
        if self.latent_label == "ignore" and self.trigger == "token":
            return "trigger: must not be token where latent_label is ignore; the model never learns to write it"
        return super().problem(run, base_layers)


class FusedConfig(InsertedConfig):
    """Options of the second stage with inserted tokens."""

    fused: Insertion = Field(
        Insertion(tau=0.2, budget=16, once=0.95, twice=0.2), description="latents of the third stage"
    )
    fused_training: TrainingOverrides = Field(TrainingOverrides(), description="of the third stage")


class LatentConfig(LaterConfig):
    """Options of training with latents."""

    adds_tokens: ClassVar[bool] = True
    takes_place: ClassVar = TAKES_PLACE
    detach: bool = Field(False, description="whether gradients stop at latents")
    forward: Forward = Field(Forward(), description="how training passes through latents")

    def needs(self) -> tuple[str, ...]:
        return (*super().needs(), "latents")

    def forward_passes(self, batch_size: int, longest: float, lacks: Collection[str]) -> tuple[float, float]:
        return self.forward.passes(batch_size, longest, lacks)

    def problem(self, run, base_layers: int | None) -> str:
        for name, own in self if self.forward.way == "wavefront" else ():
            if not isinstance(own, TrainingOverrides):
                continue
            if merge_training(run.training, own.model_dump(exclude_none=True)).gradient_checkpointing:
                return f"forward.way: must be jacobi under gradient_checkpointing (training or {name})"
        return self.forward.problem(self.longest_chain()) or super().problem(run, base_layers)

    def sharded_problem(self, run) -> str:
        if self.forward.way != "jacobi":  # processes would have different numbers of passes, and wait for each other
            return (
                "forward.way: must be jacobi under devices.strategy: fsdp, which needs as many passes in every process"
            )
        return super().sharded_problem(run)


def add_tokens(model: Any, tokenizer: Any, tokens: Sequence[str] = (LATENT,)) -> tuple[int, ...]:
    """Add tokens to tokenizer and model, their rows the mean of the others; return the rows, which must be trained.

    Raises:
        AdaptbenchError: the tokenizer already has one of the tokens.
    """
    import torch

    for token in tokens:
        if token in tokenizer.get_vocab():
            raise AdaptbenchError(
                f"base.model: its tokenizer has the token {token!r} already; latents need one that means nothing yet"
            )
    known = len(tokenizer)
    tokenizer.add_special_tokens({"extra_special_tokens": list(tokens)}, replace_extra_special_tokens=False)
    rows = added_rows(tokenizer, tokens)
    if model.get_input_embeddings().num_embeddings < len(tokenizer):
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        for module in (model.get_input_embeddings(), model.get_output_embeddings()):
            module.weight[list(rows)] = module.weight[:known].mean(0)
    return rows


def added_rows(tokenizer: Any, tokens: Sequence[str] = (LATENT,)) -> tuple[int, ...]:
    """Return the rows of tokens that an earlier stage has added."""
    return tuple(tokenizer.convert_tokens_to_ids(list(tokens)))


def latent_examples(
    config: InsertedConfig, options: Insertion, phase: str, model: Any, context: StageContext
) -> list[Any]:
    """Return the training samples with latents before tokens that are hard for this model, as it is before the stage.

    Only samples that the stage will read are scored. Latents take no room in a row, so that rows are known before.
    """
    from adaptbench.data.packing import Packed
    from adaptbench.latent import samples
    from adaptbench.latent.insertion import confidences, insert

    plain = samples.examples(context)
    tokenizer = context.tokenizer
    assert tokenizer is not None
    read: Sequence[int] = range(len(plain))
    if context.rows is not None:
        stream = Packed(plain, context.sequence_length, context.seed, together=context.can("packing"))
        assert len(stream.examples) == len(plain)  # every sample fits and has labels
        read = sorted(stream.read(context.rows))
    found = confidences(model, [plain[place] for place in read], tokenizer.pad_token_id, context.device)
    given = dict(zip(read, found, strict=True))
    inserted = insert(
        plain,
        [given.get(place) for place in range(len(plain))],
        options,
        tokenizer.convert_tokens_to_ids(LATENT),
        where=config.insertion,
        labelled=config.latent_label == "predict",
        longest=context.sequence_length,
        seed=f"{context.seed}/{phase}",
    )
    if context.out is not None:
        write_text(context.out / INSERTION, json.dumps(_record(plain, given, inserted, tokenizer, options)) + "\n")
    return [one.example for one in inserted]


def _record(plain: Any, given: Any, inserted: Any, tokenizer: Any, options: Insertion) -> dict[str, Any]:
    """Return a record of the inserted latents: their number, and a few samples by token, those with latents first.

    `given` is the result of `confidences`, by the places of the samples that the stage will read.
    """
    chosen = sorted(given, key=lambda number: not any(inserted[number].counts))[:SHOWN]
    shown = [
        {
            "tokens": [tokenizer.decode([token]) for token in example.input_ids],
            "trained": [label != IGNORED for label in example.labels],
            "confidence": [round(float(score), 5) for score in scores],
            "latents": {str(place): count for place, count in zip(one.chosen, one.counts, strict=True)},
        }
        for example, scores, one in ((plain[number], given[number], inserted[number]) for number in chosen)
    ]
    return {
        "options": options.model_dump(mode="json"),
        "samples": len(given),
        "with_latents": sum(any(one.counts) for one in inserted),
        "latents": sum(sum(one.counts) for one in inserted),
        "response_tokens": sum(label != IGNORED for place in given for label in plain[place].labels),
        "shown": shown,
    }


def objective(config: LatentConfig, fusion: Fusion, model: Any, context: StageContext) -> Any:
    """Return the loss of samples with latents, by Jacobi where such a model cannot run pieces of rows.

    Raises:
        AdaptbenchError: latents cannot pass through such a model.
    """
    from adaptbench.latent.measure import check_supported
    from adaptbench.latent.objective import latent_loss

    assert context.tokenizer is not None
    forward = config.forward
    lacking = check_supported(model, ("latents",), ("wavefront",) if forward.way == "wavefront" else ())
    context.instead.update(lacking)
    if lacking:
        forward = Forward(way="jacobi")
    return latent_loss(forward, fusion, context.tokenizer.convert_tokens_to_ids(LATENT))


def collate(rows: Any, length: int, pad_id: int) -> Any:
    """Return a batch of the samples of packed rows, one in a row."""
    from adaptbench.latent.samples import one_sample_per_row

    return one_sample_per_row(rows, pad_id)


def decoding(config: InsertedConfig, options: Insertion, fusion: Fusion | None) -> dict[str, Any]:
    """Return the manifest's entry for decoding of a stage with latents inserted by `options`.

    Without `fusion` the latent token is embedded as any other (a pause).
    """
    made = None if fusion is None else fusion.model_dump(mode="json", exclude={"detach"})
    tau = {"tau": options.tau} if config.trigger == "confidence" else {}
    return {"kind": "latent", "thinks": True, "fusion": made, "trigger": config.trigger} | tau
