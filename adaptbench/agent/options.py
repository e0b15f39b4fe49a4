"""The options of curricula that train each role of a team in a stage of its own."""

from typing import Any, ClassVar

from pydantic import Field

from adaptbench.agent.dialogue import TEAM
from adaptbench.config import TrainingOverrides, override_problem
from adaptbench.contracts import CurriculumConfig, Real


class TeamConfig(CurriculumConfig):
    """Training options of each role's stage, over the run's."""

    tracks: ClassVar[tuple[str, ...]] = ("agent",)
    planner: TrainingOverrides = Field(TrainingOverrides(), description="of its stage")
    caller: TrainingOverrides = Field(TrainingOverrides(), description="of its stage")
    summarizer: TrainingOverrides = Field(TrainingOverrides(), description="of its stage")
    replay: Real = Field(0.0, ge=0, lt=1, description="share of each stage's training tokens that is general text")

    def of_role(self, role: str) -> dict[str, Any]:
        return getattr(self, role).model_dump(exclude_none=True)

    def problem(self, run, base_layers: int | None) -> str:
        """A role's own settings must fit together with the run's."""
        return override_problem(run.training, {role: getattr(self, role) for role in TEAM})
