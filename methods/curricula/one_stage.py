"""One-stage: three models tuned from the base for their roles alone, without a global stage before.

Paper: GLPFT, arXiv 2401.07324, table 2, "Multi-LLM one-stage".
"""

from typing import ClassVar, Literal

from pydantic import Field, ValidationError

from adaptbench.config import Training, TrainingOverrides, merge_training
from adaptbench.contracts import CurriculumConfig, Phase, Real, StageContext
from adaptbench.mistakes import reason
from methods.curricula import single

SOURCES = (*single.SOURCES, "adaptbench/agent/team.py")
ROLES = ("planner", "caller", "summarizer")


class Config(CurriculumConfig):
    kind: Literal["one_stage"] = "one_stage"
    tracks: ClassVar[tuple[str, ...]] = ("agent",)
    planner: TrainingOverrides = Field(TrainingOverrides(), description="of its stage")
    caller: TrainingOverrides = Field(TrainingOverrides(), description="of its stage")
    summarizer: TrainingOverrides = Field(TrainingOverrides(), description="of its stage")
    replay: Real = Field(0.0, ge=0, lt=1, description="share of each stage's training tokens that is general text")

    def problem(self, run, base_layers: int | None) -> str:
        """A role's own settings must fit together with the run's."""
        for phase in phases(self, run.track, run.training):
            try:
                merge_training(run.training, phase.training)
            except ValidationError as error:
                return f"{phase.name}: {reason(error)}"
        return ""


def phases(config: Config, track: str, training: Training) -> tuple[Phase, ...]:
    data = (track, "general") if config.replay else (track,)
    roles = {role: getattr(config, role).model_dump(exclude_none=True) for role in ROLES}
    return tuple(Phase(role, data=data, training=own, merge=False) for role, own in roles.items())


def examples(config: Config, phase: str, model, context: StageContext):
    """The samples of the phase's role."""
    from adaptbench.agent.samples import examples
    from adaptbench.replay import with_replay

    return with_replay(examples(model, context, (phase,)), config.replay, context)


def assemble(config: Config, members, out, context: StageContext):
    from adaptbench.agent.team import assemble

    return assemble(members, out)
