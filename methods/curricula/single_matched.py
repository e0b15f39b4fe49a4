"""Single-LLM trained as long as all of GLPFT's stages together: the control that the paper lacks.

A control of ours for GLPFT, arXiv 2401.07324, whose team sees more optimizer steps than its global stage alone. This is what one model makes of that many steps, under
one schedule. The options are those of the `glpft` run that it is held against.
"""

from dataclasses import replace
from functools import partial
from typing import Literal

from adaptbench.config.training import Training, merge_training
from adaptbench.contracts import Phase, StageContext
from adaptbench.methods.curricula import glpft, single

ROLES = single.ROLES


class Config(glpft.Config):
    kind: Literal["single_matched"] = "single_matched"  # type: ignore[assignment]


def phases(config: Config, track: str, training: Training) -> tuple[Phase, ...]:
    return single.phases(single.Config(replay=config.replay), track, training)


def examples(config: Config, phase: str, model, context: StageContext):
    """Every step of every trajectory, to be written whole."""
    return single.examples(single.Config(replay=config.replay), phase, model, context)


def steps(config: Config, phase: str, training: Training, model, context: StageContext) -> int:
    """The optimizer steps of GLPFT's four stages on the same data."""
    from adaptbench.train.optimizers import counted_steps

    total = 0
    for one in glpft.phases(config, "agent", training):
        module, options = (single, one.curriculum) if one.curriculum else (glpft, config)
        of_phase = merge_training(training, one.training)
        of_length = replace(context, sequence_length=of_phase.sequence_length)
        samples = partial(module.examples, options, one.name, model, of_length)
        total += counted_steps(of_phase, samples, context)
    return total


def decode(config: Config, phase: str):
    return single.decode(single.Config(), phase)
