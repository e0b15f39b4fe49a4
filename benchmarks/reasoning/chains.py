"""Chains of arithmetic from left to right modulo a number, worked in written steps: "3 + 4 = 7 7 - 5 = 2".

Every operation needs the result of the one before, so that a model that answers at once must do all of them in one
pass. A step may do several operations at once: then the written chain leaves some work between its tokens.
"""

import random
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from adaptbench.benchmarks.reasoning import measures
from adaptbench.benchmarks.reasoning.measures import answers_tasks
from adaptbench.benchmarks.reasoning.problems import DrawnConfig, draw_splits
from adaptbench.contracts import Record
from adaptbench.latent.text import prompt

DECODE, TASK_FILES = measures.DECODE, measures.TASK_FILES
FIGURES = measures.FIGURES
TASKS = answers_tasks("chains", "chains")


class Config(DrawnConfig):
    kind: Literal["chains"] = "chains"
    modulus: int = Field(10, ge=2, le=1000, description="numbers are below it")
    operations: str = Field("+-", pattern=r"^[-+*]+$", description="operations that occur, of + - *")
    shortest: int = Field(4, ge=1, description="fewest operations of a problem")
    longest: int = Field(6, ge=1, description="most operations of a problem")
    operations_per_step: int = Field(1, ge=1, description="operations that a written step does at once")

    @model_validator(mode="after")
    def _lengths(self) -> "Config":
        if self.longest < self.shortest:
            raise ValueError("longest must be >= shortest")
        return self


def build(config: Config, seed: int, public: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Record]]:
    """Return the splits; no question occurs twice.

    Returns:
        train, chains_validation, chains: {"prompt", "steps", "target", "length" (operations)}.

    Raises:
        AdaptbenchError: there are too few different problems.
    """
    return draw_splits(config, lambda rng: problem(config, rng), seed)


def problem(config: Config, rng: random.Random) -> Record:
    length = rng.randint(config.shortest, config.longest)
    value = rng.randrange(config.modulus)
    question, steps = str(value), []
    for first in range(0, length, config.operations_per_step):
        step = str(value)
        for _ in range(min(config.operations_per_step, length - first)):
            sign, other = rng.choice(config.operations), rng.randrange(config.modulus)
            value = {"+": value + other, "-": value - other, "*": value * other}[sign] % config.modulus
            step += f" {sign} {other}"
            question += f" {sign} {other}"
        steps.append(f"{step} = {value}")
    return {"prompt": prompt(question), "steps": steps, "target": str(value), "length": length}
