"""GLPFT (α-UMi): one model learns whole trajectories, then three copies of it each learn their own part.

Global-to-local progressive fine-tuning; the parts are those of planner, caller and summarizer. Paper: arXiv 2401.07324,
section 3.3. Its values: global 5e-5 for 2 epochs; local 1e-5 for 1 (planner, caller) and 2
(summarizer) epochs, hence the default ratio of the rates. The global stage is the stage of `single` and runs once for both.
With `reuse` the local stages see the global one's instructions again (the paper's best); without, each has one half.
Where the tuner keeps adapters (LoRA), the team is the merged global model with three of them.
"""

from typing import ClassVar, Literal

from pydantic import Field, ValidationError

from adaptbench.config import Training, TrainingOverrides, merge_training
from adaptbench.contracts import CurriculumConfig, Phase, Real, StageContext
from adaptbench.mistakes import reason
from methods.curricula import single

SOURCES = (*single.SOURCES, "adaptbench/agent/team.py", "methods/curricula/single.py")
ROLES = ("planner", "caller", "summarizer")


class Config(CurriculumConfig):
    kind: Literal["glpft"] = "glpft"
    tracks: ClassVar[tuple[str, ...]] = ("agent",)
    reuse: bool = Field(
        True, description="whether local stages see the global stage's instructions; else each has half"
    )
    local_rate_ratio: Real = Field(0.2, gt=0, description="local learning rate over global learning rate")
    planner: TrainingOverrides = Field(TrainingOverrides(), description="of its local stage")
    caller: TrainingOverrides = Field(TrainingOverrides(), description="of its local stage")
    summarizer: TrainingOverrides = Field(TrainingOverrides(), description="of its local stage")
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
    first = single.Config(trajectories="all" if config.reuse else "first_half", replay=config.replay)
    local = {"learning_rate": config.local_rate_ratio * training.learning_rate}
    roles = {role: getattr(config, role).model_dump(exclude_none=True) for role in ROLES}
    return (
        Phase("global", data=data, curriculum=first),
        *(Phase(role, "global", data, local | own, merge=False) for role, own in roles.items()),
    )


def examples(config: Config, phase: str, model, context: StageContext):
    """The samples of the phase's role."""
    from adaptbench.agent.samples import examples
    from adaptbench.replay import with_replay

    chosen = examples(model, context, (phase,), "all" if config.reuse else "second_half")
    return with_replay(chosen, config.replay, context)


def assemble(config: Config, members, out, context: StageContext):
    from adaptbench.agent.team import assemble

    return assemble(members, out)
