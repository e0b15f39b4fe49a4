"""One-stage: three models, each tuned from the base for its role alone, without a global stage before.

Paper: GLPFT, arXiv 2401.07324, table 2, "Multi-LLM one-stage".
"""

from typing import Literal

from adaptbench.agent.dialogue import TEAM
from adaptbench.agent.options import TeamConfig
from adaptbench.config.training import Training
from adaptbench.contracts import Phase, StageContext

ROLES = TEAM


class Config(TeamConfig):
    kind: Literal["one_stage"] = "one_stage"


def phases(config: Config, track: str, training: Training) -> tuple[Phase, ...]:
    data = (track, "general") if config.replay else (track,)
    return tuple(Phase(role, data=data, training=config.of_role(role), merge=False) for role in TEAM)


def examples(config: Config, phase: str, model, context: StageContext):
    """Return the samples of the phase's role."""
    from adaptbench.agent.samples import examples
    from adaptbench.data.replay import with_replay

    return with_replay(examples(context, (phase,)), config.replay, context)


def assemble(config: Config, members, out, context: StageContext):
    from adaptbench.agent.team import assemble

    return assemble(members, out)
