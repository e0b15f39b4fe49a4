"""Coconut: stage by stage, latents of hidden states take the place of the first written steps.

Paper: arXiv 2412.06769, section 3. After explicit chain of thought, stage s leaves out the first s steps and puts
s * latents_per_step latents between two markers in their place; the last stage leaves out all steps and keeps the latents.
Neither question nor latents are trained. The response begins with the latents, however many the stage has.
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
SWEPT = ("later_rate_ratio", stage.RATIOS)
EXAMPLE = {"stages": 1}
BEGIN, END = "<|start-latent|>", "<|end-latent|>"
EVERY = 10_000  # steps that no problem has


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
    each = config.later(training, config.latent_training)
    last = config.later(training, config.latent_training, config.last_training)
    return (
        Phase("cot", data=(track,), curriculum=cot.Config()),
        *(Phase(name, before, (track,), last if name == "all" else each) for before, name in pairwise(names)),
    )


def _replaced(config: Config, phase: str) -> int:
    """Steps that latents stand for in a phase."""
    return config.stages if phase == "all" else int(phase.removeprefix("latent"))


def _lead(config: Config, phase: str) -> str:
    return BEGIN + LATENT * (config.latents_per_step * _replaced(config, phase)) + END


def extend(config: Config, phase: str, model, tokenizer) -> tuple[int, ...]:
    tokens = (LATENT, BEGIN, END)
    return stage.add_tokens(model, tokenizer, tokens) if phase == "latent1" else stage.added(tokenizer, tokens)


def examples(config: Config, phase: str, model, context: StageContext):
    """Every problem, its first steps left out, with latents in their place."""
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
