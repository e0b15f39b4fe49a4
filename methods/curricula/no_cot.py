"""No chain of thought: the answer at once, which is what explicit steps are measured against.

Source: the standard prompting that chain of thought is held against, arXiv 2201.11903, and "No-CoT" of arXiv 2412.06769.
"""

from typing import ClassVar, Literal

from adaptbench.config.training import Training
from adaptbench.contracts import CurriculumConfig, Phase, StageContext


class Config(CurriculumConfig):
    kind: Literal["no_cot"] = "no_cot"
    tracks: ClassVar[tuple[str, ...]] = ("reasoning",)

    def needs(self) -> tuple[str, ...]:
        return ("embeddings",)  # as it decodes


def phases(config: Config, track: str, training: Training) -> tuple[Phase, ...]:
    return (Phase("answer", data=(track,)),)


def examples(config: Config, phase: str, model, context: StageContext):
    """Every problem with its answer alone."""
    from adaptbench.latent.samples import examples

    return examples(context, worked=False)


def decode(config: Config, phase: str):
    return {"kind": "latent"}
