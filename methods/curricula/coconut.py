"""Coconut: stage by stage, latents of hidden states replace the first written steps.

Paper: arXiv 2412.06769, section 3. After a stage of explicit chain of thought, stage s leaves out the first s steps and
has s * latents_per_step latents between two markers in their place. The last stage leaves out all steps and keeps the
latents of the stage before. Question and latents have no labels. Every response begins with all latents of its stage.

Differs from the released code (facebookresearch/coconut) in its schedule of passes: that code cuts the whole batch at
every column in which any row has a latent, here every row is cut at its own latents (adaptbench/latent/passes.py). The
result is the same.
"""

from itertools import pairwise
from typing import Literal

from pydantic import Field

from adaptbench.config.training import Training, TrainingOverrides
from adaptbench.contracts import Phase, StageContext
from adaptbench.latent import stage
from adaptbench.latent.fusion import Fusion
from adaptbench.latent.stage import LatentConfig
from adaptbench.latent.text import LATENT
from adaptbench.methods.curricula import cot, lt_figures

FIGURES = {"geometry": lt_figures.geometry}
SWEPT = ("later_rate_ratio", stage.RATE_RATIOS)
EXAMPLE = {"stages": 1}
BEGIN, END = "<|start-latent|>", "<|end-latent|>"
EVERY = 10_000  # more steps than any problem has


class Config(LatentConfig):
    kind: Literal["coconut"] = "coconut"
    latents_per_step: int = Field(2, ge=1, le=100, description="latents in place of a step")
    stages: int = Field(3, ge=1, le=100, description="steps that latents replace, one stage for each")
    latent_training: TrainingOverrides = Field(TrainingOverrides(), description="of every stage with latents")
    last_training: TrainingOverrides = Field(
        TrainingOverrides(), description="of the last stage, over latent_training: the paper's is several times as long"
    )

    def longest_chain(self) -> int:
        return self.latents_per_step * self.stages


def phases(config: Config, track: str, training: Training) -> tuple[Phase, ...]:
    names = ["cot", *(f"latent{number}" for number in range(1, config.stages + 1)), "all"]
    each = config.later_training(training, config.latent_training)
    last = config.later_training(training, config.latent_training, config.last_training)
    return (
        Phase("cot", data=(track,), curriculum=cot.Config()),
        *(Phase(name, before, (track,), last if name == "all" else each) for before, name in pairwise(names)),
    )


def _replaced(config: Config, phase: str) -> int:
    """Return the number of steps that latents replace in a phase."""
    return config.stages if phase == "all" else int(phase.removeprefix("latent"))


def _lead(config: Config, phase: str) -> str:
    return BEGIN + LATENT * (config.latents_per_step * _replaced(config, phase)) + END


def extend(config: Config, phase: str, model, tokenizer) -> tuple[int, ...]:
    tokens = (LATENT, BEGIN, END)
    return stage.add_tokens(model, tokenizer, tokens) if phase == "latent1" else stage.added_rows(tokenizer, tokens)


def examples(config: Config, phase: str, model, context: StageContext):
    """Return every problem with latents in place of its first steps."""
    from adaptbench.latent.samples import examples

    assert context.tokenizer is not None
    lead = context.tokenizer(_lead(config, phase), add_special_tokens=False).input_ids
    return examples(context, skipped=EVERY if phase == "all" else _replaced(config, phase), lead=lead)


def objective(config: Config, phase: str, model, context: StageContext):
    return stage.objective(config, Fusion(alpha=1.0, detach=config.detach), model, context)


def collate(config: Config, phase: str, context: StageContext):
    return stage.collate


def decode(config: Config, phase: str):
    fusion = Fusion(alpha=1.0).model_dump(mode="json")
    return {"kind": "latent", "thinks": True, "fusion": fusion, "budget": 0, "lead": _lead(config, phase)}
