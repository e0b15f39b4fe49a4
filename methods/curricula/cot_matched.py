"""Explicit chain of thought, trained as long as all stages of LT-Tuning together: the baseline for the extra stages.

A control of ours for LT-Tuning, arXiv 2602.10229. Its options are those of the `lt_tuning` run it is compared with.
"""

from functools import partial
from typing import ClassVar, Literal

from pydantic import Field

from adaptbench.config.training import Training, TrainingOverrides, merge_training
from adaptbench.contracts import CurriculumConfig, Phase, StageContext
from adaptbench.methods.curricula import cot


class Config(CurriculumConfig):
    kind: Literal["cot_matched"] = "cot_matched"
    tracks: ClassVar[tuple[str, ...]] = ("reasoning",)
    hidden_training: TrainingOverrides = Field(TrainingOverrides(), description="of LT-Tuning's second stage")
    fused_training: TrainingOverrides = Field(TrainingOverrides(), description="of LT-Tuning's third stage")

    def needs(self) -> tuple[str, ...]:
        return ("embeddings",)  # for latent decoding


def phases(config: Config, track: str, training: Training) -> tuple[Phase, ...]:
    return cot.phases(cot.Config(), track, training)


def examples(config: Config, phase: str, model, context: StageContext):
    """Return every problem with its steps and its answer."""
    return cot.examples(cot.Config(), phase, model, context)


def steps(config: Config, phase: str, training: Training, model, context: StageContext) -> int:
    """Return the optimizer steps of LT-Tuning's three stages on the same samples without latents."""
    from adaptbench.train.optimizers import counted_steps

    overrides = [one.model_dump(exclude_none=True) for one in (config.hidden_training, config.fused_training)]
    samples = partial(examples, config, phase, model, context)
    return sum(counted_steps(merge_training(training, one), samples, context) for one in ({}, *overrides))


def decode(config: Config, phase: str):
    return cot.decode(cot.Config(), phase)
