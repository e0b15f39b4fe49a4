"""Options of curricula that train each role of a team in a separate stage."""

from typing import Any, ClassVar

from pydantic import Field

from adaptbench.config.training import TrainingOverrides
from adaptbench.contracts import CurriculumConfig, Real


class TeamConfig(CurriculumConfig):
    """Training options of each role's stage, which override the run's."""

    tracks: ClassVar[tuple[str, ...]] = ("agent",)
    planner: TrainingOverrides = Field(TrainingOverrides(), description="of its stage")
    caller: TrainingOverrides = Field(TrainingOverrides(), description="of its stage")
    summarizer: TrainingOverrides = Field(TrainingOverrides(), description="of its stage")
    replay: Real = Field(0.0, ge=0, lt=1, description="share of each stage's training tokens that is general text")

    def of_role(self, role: str) -> dict[str, Any]:
        return getattr(self, role).model_dump(exclude_none=True)
