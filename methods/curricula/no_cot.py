"""No chain of thought: the model writes the answer at once. The baseline for written steps.

Source: standard prompting in arXiv 2201.11903, and "No-CoT" in arXiv 2412.06769.
"""

from typing import ClassVar, Literal

from adaptbench.config.training import Training
from adaptbench.contracts import CurriculumConfig, Phase, StageContext


class Config(CurriculumConfig):
    kind: Literal["no_cot"] = "no_cot"
    tracks: ClassVar[tuple[str, ...]] = ("reasoning",)

    def needs(self) -> tuple[str, ...]:
        return ("embeddings",)  # for latent decoding


def phases(config: Config, track: str, training: Training) -> tuple[Phase, ...]:
    return (Phase("answer", data=(track,)),)


def examples(config: Config, phase: str, model, context: StageContext):
    """Return every problem with its answer alone."""
    from adaptbench.latent.samples import examples

    return examples(context, worked=False)


def decode(config: Config, phase: str):
    return {"kind": "latent"}
