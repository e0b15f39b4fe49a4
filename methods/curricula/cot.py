"""Explicit chain of thought: the model writes every step, then the answer.

Paper: LT-Tuning, arXiv 2602.10229, section 3.1, whose first stage this is.
"""

from typing import ClassVar, Literal

from adaptbench.config.training import Training
from adaptbench.contracts import CurriculumConfig, Phase, StageContext


class Config(CurriculumConfig):
    kind: Literal["cot"] = "cot"
    tracks: ClassVar[tuple[str, ...]] = ("reasoning",)

    def needs(self) -> tuple[str, ...]:
        return ("embeddings",)  # for latent decoding


def phases(config: Config, track: str, training: Training) -> tuple[Phase, ...]:
    return (Phase("cot", data=(track,)),)


def examples(config: Config, phase: str, model, context: StageContext):
    """Return every problem with its steps and its answer."""
    from adaptbench.latent.samples import examples

    return examples(context)


def decode(config: Config, phase: str):
    return {"kind": "latent"}
