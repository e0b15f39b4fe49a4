"""Multi-task: one model learns the three roles' parts together, and plays each role.

Paper: GLPFT, arXiv 2401.07324, table 2, "Single-LLM multi-task".
"""

from typing import ClassVar, Literal

from pydantic import Field

from adaptbench.agent.dialogue import TEAM
from adaptbench.config.training import Training
from adaptbench.contracts import CurriculumConfig, Phase, Real, StageContext

ROLES = TEAM


class Config(CurriculumConfig):
    kind: Literal["multi_task"] = "multi_task"
    tracks: ClassVar[tuple[str, ...]] = ("agent",)
    replay: Real = Field(0.0, ge=0, lt=1, description="share of the training tokens that is general text")


def phases(config: Config, track: str, training: Training) -> tuple[Phase, ...]:
    return (Phase("roles", data=(track, "general") if config.replay else (track,)),)


def examples(config: Config, phase: str, model, context: StageContext):
    """Return the samples of all three roles."""
    from adaptbench.agent.samples import examples
    from adaptbench.data.replay import with_replay

    return with_replay(examples(context, TEAM), config.replay, context)


def decode(config: Config, phase: str):
    from adaptbench.agent.team import decode

    return decode({role: "." for role in TEAM})
