"""GLPFT (α-UMi): one model learns whole trajectories, then three copies of it each learn their own part.

Global-to-local progressive fine-tuning; the parts are those of planner, caller and summarizer. Paper: arXiv 2401.07324,
section 3.3. The paper trains globally at a learning rate of 5e-5 for 2 epochs, and locally at 1e-5 for 1 epoch
(planner, caller) or 2 (summarizer), hence the default ratio of the rates. With `reuse` the local stages see the global
stage's instructions again (the paper's best); without, both see one half each.

The global stage is the stage of `single`, so that it runs once for both methods. If the tuner keeps adapters (LoRA),
the team is the merged global model with three adapters.

Differs from the authors' code (X-PLUG/Multi-LLM-Agent) in two points. Global samples that give up have their own prompt
here, there the previous step's. Static evaluation uses the text of training and greedy decoding here; there it names
the speaker differently and samples without a seed.
"""

from typing import Literal

from pydantic import Field

from adaptbench.agent.dialogue import TEAM
from adaptbench.agent.options import TeamConfig
from adaptbench.config.training import Training
from adaptbench.contracts import Phase, Real, StageContext
from adaptbench.methods.curricula import single

ROLES = TEAM
# The global stage is that of `single`, at its learning rate; only the ratio of the local rates is left to choose.
SWEPT = ("local_rate_ratio", (0.02, 0.05, 0.1, 0.2, 0.5, 1.0))


class Config(TeamConfig):
    kind: Literal["glpft"] = "glpft"
    reuse: bool = Field(
        True, description="whether local stages see the global stage's instructions again; else each has half of them"
    )
    local_rate_ratio: Real = Field(0.2, gt=0, description="local learning rate divided by the global one")


def phases(config: Config, track: str, training: Training) -> tuple[Phase, ...]:
    data = (track, "general") if config.replay else (track,)
    first = single.Config(trajectories="all" if config.reuse else "first_half", replay=config.replay)
    local = {"learning_rate": config.local_rate_ratio * training.learning_rate}
    return (
        Phase("global", data=data, curriculum=first),
        *(Phase(role, "global", data, local | config.of_role(role), merge=False) for role in TEAM),
    )


def examples(config: Config, phase: str, model, context: StageContext):
    """Return the samples of the phase's role."""
    from adaptbench.agent.samples import examples
    from adaptbench.data.replay import with_replay

    chosen = examples(context, (phase,), "all" if config.reuse else "second_half")
    return with_replay(chosen, config.replay, context)


def assemble(config: Config, members, out, context: StageContext):
    from adaptbench.agent.team import assemble

    return assemble(members, out)
