"""Pause tokens: a learned filler token where LT-Tuning has latents, so extra tokens without recurrence.

A control for LT-Tuning, arXiv 2602.10229, with the same stages, labels and rule for positions, but the token has a
learned embedding. The second stage has LT-Tuning's positions. The third stage is scored by the model of the second, as
in LT-Tuning. Source of the filler: pause tokens, arXiv 2310.02226.
"""

from typing import Literal

from adaptbench.config.training import Training
from adaptbench.contracts import Phase, StageContext
from adaptbench.latent import stage
from adaptbench.latent.stage import FusedConfig
from adaptbench.methods.curricula import cot, lt_tuning

SWEPT = lt_tuning.SWEPT


class Config(FusedConfig):
    kind: Literal["pause"] = "pause"


def phases(config: Config, track: str, training: Training) -> tuple[Phase, ...]:
    return (
        Phase("cot", data=(track,), curriculum=cot.Config()),
        Phase("hidden", "cot", (track,), config.later_training(training, config.hidden_training)),
        Phase("fused", "hidden", (track,), config.later_training(training, config.fused_training)),
    )


def extend(config: Config, phase: str, model, tokenizer) -> tuple[int, ...]:
    return stage.add_tokens(model, tokenizer) if phase == "hidden" else stage.added_rows(tokenizer)


def examples(config: Config, phase: str, model, context: StageContext):
    """Return every worked problem with fillers where LT-Tuning's stage of that name has latents."""
    return stage.latent_examples(config, getattr(config, phase), phase, model, context)


def collate(config: Config, phase: str, context: StageContext):
    return stage.collate


def decode(config: Config, phase: str):
    return stage.decoding(config, getattr(config, phase), None)
