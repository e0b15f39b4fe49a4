"""Explicit chain of thought in LT-Tuning's three stages, each with its own schedule: the stages without latents.

A control of ours for LT-Tuning, arXiv 2602.10229. The first stage, the steps and the learning rates are the same, but
no token is added.
"""

from typing import Literal

from pydantic import Field

from adaptbench.config.training import Training, TrainingOverrides
from adaptbench.contracts import Phase, StageContext
from adaptbench.latent import stage
from adaptbench.latent.stage import LaterConfig
from adaptbench.methods.curricula import cot

SWEPT = ("later_rate_ratio", stage.RATE_RATIOS)


class Config(LaterConfig):
    kind: Literal["cot_staged"] = "cot_staged"
    hidden_training: TrainingOverrides = Field(TrainingOverrides(), description="of LT-Tuning's second stage")
    fused_training: TrainingOverrides = Field(TrainingOverrides(), description="of LT-Tuning's third stage")


def phases(config: Config, track: str, training: Training) -> tuple[Phase, ...]:
    return (
        Phase("cot", data=(track,), curriculum=cot.Config()),
        Phase("second", "cot", (track,), config.later_training(training, config.hidden_training)),
        Phase("third", "second", (track,), config.later_training(training, config.fused_training)),
    )


def examples(config: Config, phase: str, model, context: StageContext):
    """Return every problem with its steps and its answer."""
    return cot.examples(cot.Config(), phase, model, context)


def decode(config: Config, phase: str):
    return cot.decode(cot.Config(), phase)
