"""Single-LLM: one model writes whole steps, a thought and a call or an answer.

Paper: GLPFT, arXiv 2401.07324, section 3.3, whose stage 1 (global) this is, and the baseline of its table 2. In the
authors' code, samples that give up have the previous step's prompt, which harms this baseline; here every sample has
its own prompt.
"""

from typing import ClassVar, Literal

from pydantic import Field

from adaptbench.config.training import Training
from adaptbench.contracts import CurriculumConfig, Phase, Real, StageContext

ROLES = ("assistant",)


class Config(CurriculumConfig):
    kind: Literal["single"] = "single"
    tracks: ClassVar[tuple[str, ...]] = ("agent",)
    trajectories: Literal["all", "first_half", "second_half"] = Field("all", description="which ones it is trained on")
    replay: Real = Field(0.0, ge=0, lt=1, description="share of the training tokens that is general text")


def phases(config: Config, track: str, training: Training) -> tuple[Phase, ...]:
    return (Phase("global", data=(track, "general") if config.replay else (track,)),)


def examples(config: Config, phase: str, model, context: StageContext):
    """Return a sample for every step of every trajectory, with the whole step as target."""
    from adaptbench.agent.samples import examples
    from adaptbench.data.replay import with_replay

    return with_replay(examples(context, ("assistant",), config.trajectories), config.replay, context)


def decode(config: Config, phase: str):
    from adaptbench.agent.team import decode

    return decode({"assistant": "."})
