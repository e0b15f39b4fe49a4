"""GLPFT (α-UMi): one model learns whole trajectories, then three copies of it each learn their own part.

Global-to-local progressive fine-tuning; the parts are those of planner, caller and summarizer. Paper: arXiv 2401.07324,
section 3.3. Its values: global 5e-5 for 2 epochs; local 1e-5 for 1 (planner, caller) and 2
(summarizer) epochs, hence the default ratio of the rates. The global stage is the stage of `single` and runs once for both.
With `reuse` the local stages see the global one's instructions again (the paper's best); without, each has one half.
Where the tuner keeps adapters (LoRA), the team is the merged global model with three of them.
"""

from typing import Literal

from pydantic import Field

from adaptbench.agent.dialogue import TEAM
from adaptbench.agent.options import TeamConfig
from adaptbench.config.training import Training
from adaptbench.contracts import Phase, Real, StageContext
from adaptbench.methods.curricula import single

ROLES = TEAM
# The global stage is `single`'s, at single's learning rate; what is left to choose is how much gentler the local ones are.
SWEPT = ("local_rate_ratio", (0.02, 0.05, 0.1, 0.2, 0.5, 1.0))


class Config(TeamConfig):
    kind: Literal["glpft"] = "glpft"
    reuse: bool = Field(
        True, description="whether local stages see the global stage's instructions; else each has half"
    )
    local_rate_ratio: Real = Field(0.2, gt=0, description="local learning rate over global learning rate")


def phases(config: Config, track: str, training: Training) -> tuple[Phase, ...]:
    data = (track, "general") if config.replay else (track,)
    first = single.Config(trajectories="all" if config.reuse else "first_half", replay=config.replay)
    local = {"learning_rate": config.local_rate_ratio * training.learning_rate}
    return (
        Phase("global", data=data, curriculum=first),
        *(Phase(role, "global", data, local | config.of_role(role), merge=False) for role in TEAM),
    )


def examples(config: Config, phase: str, model, context: StageContext):
    """The samples of the phase's role."""
    from adaptbench.agent.samples import examples
    from adaptbench.data.replay import with_replay

    chosen = examples(context, (phase,), "all" if config.reuse else "second_half")
    return with_replay(chosen, config.replay, context)


def assemble(config: Config, members, out, context: StageContext):
    from adaptbench.agent.team import assemble

    return assemble(members, out)
