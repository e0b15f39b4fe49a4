"""Single-LLM, trained as long as all stages of GLPFT together: a control that the paper lacks.

A control of ours for GLPFT, arXiv 2401.07324, whose team takes more optimizer steps than its global stage alone. Here
one model takes as many steps, under one schedule. Its options are those of the `glpft` run it is compared with.
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
    """Return a sample for every step of every trajectory, with the whole step as target."""
    return single.examples(single.Config(replay=config.replay), phase, model, context)


def steps(config: Config, phase: str, training: Training, model, context: StageContext) -> int:
    """Return the optimizer steps of GLPFT's four stages on the same data."""
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
