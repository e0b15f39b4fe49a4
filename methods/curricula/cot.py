"""Explicit chain of thought: every step is written out, then the answer. LT-Tuning's first stage is this one.

Paper: LT-Tuning, arXiv 2602.10229, section 3.1.
"""

from typing import ClassVar, Literal

from adaptbench.config.training import Training
from adaptbench.contracts import CurriculumConfig, Phase, StageContext


class Config(CurriculumConfig):
    kind: Literal["cot"] = "cot"
    tracks: ClassVar[tuple[str, ...]] = ("reasoning",)

    def needs(self) -> tuple[str, ...]:
        return ("embeddings",)  # as it decodes


def phases(config: Config, track: str, training: Training) -> tuple[Phase, ...]:
    return (Phase("cot", data=(track,)),)


def examples(config: Config, phase: str, model, context: StageContext):
    """Every problem with its steps and its answer."""
    from adaptbench.latent.samples import examples

    return examples(context)


def decode(config: Config, phase: str):
    return {"kind": "latent"}
