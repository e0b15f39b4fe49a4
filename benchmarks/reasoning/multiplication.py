"""Products of two numbers, digits reversed, by partial products: the form of the published 4 x 4 and 5 x 5 sets.

Source of the form: implicit chain of thought, arXiv 2405.14838, data of
https://github.com/da03/Internalize_CoT_Step_by_Step (MIT):
`5 6 3 2 * 7 4 3 4||5 5 5 6 1 + 0 0 6 4 9 0 ( 5 5 1 1 1 1 ) + ... #### 5 5 6 0 8 2 0 1`. Every number is written from
its lowest digit on. There is one term for each digit of the second factor, shifted and with room for the carry. The sum
so far is in brackets, except after the first term and after the last, where it is the answer.
"""

import random
import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from adaptbench.benchmarks.reasoning import measures
from adaptbench.benchmarks.reasoning.measures import answers_tasks
from adaptbench.benchmarks.reasoning.problems import DrawnConfig, draw_splits
from adaptbench.contracts import Record
from adaptbench.latent.text import prompt

DECODE, TASK_FILES = measures.DECODE, measures.TASK_FILES
FIGURES = measures.FIGURES
TASKS = answers_tasks("multiplication", "multiplication")


class Config(DrawnConfig):
    kind: Literal["multiplication"] = "multiplication"
    digits: int = Field(2, ge=2, le=20, description="digits of the first factor")
    other_digits: int = Field(2, ge=2, le=20, description="digits of the second factor")
    train_items: int = Field(3400, ge=1, description="training problems; there are 4,050 products of two digits by two")


def build(config: Config, seed: int, public: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Record]]:
    """Return the splits; a product occurs once, in one order of its factors.

    Returns:
        train, multiplication_validation, multiplication: {"prompt", "steps", "target", "length" (terms)}.

    Raises:
        AdaptbenchError: there are too few different problems.
    """

    def draw(rng: random.Random) -> Record:
        return problem(*(rng.randrange(10 ** (size - 1), 10**size) for size in (config.digits, config.other_digits)))

    return draw_splits(config, draw, seed, what=factors)


def factors(problem: Record) -> frozenset[str]:
    """Return the two factors as they are written, without order."""
    found = re.search(r"((?:\d )+)\*((?: \d)+)", problem["prompt"])
    assert found
    return frozenset(factor.strip() for factor in found.groups())


def problem(a: int, b: int) -> Record:
    """Return the worked product of two numbers."""
    size, terms = len(str(a)), str(b)[::-1]
    steps, total = [], 0
    for place, digit in enumerate(terms):
        term = a * int(digit) * 10**place
        total += term
        width = size + 1 + place
        step = _reversed(term, width) if place == 0 else f"+ {_reversed(term, width)}"
        between = 0 < place < len(terms) - 1
        steps.append(f"{step} ( {_reversed(total, width)} )" if between else step)
    target = _reversed(total, size + len(terms))
    question = f"{_reversed(a, size)} * {_reversed(b, len(terms))}"
    return {"prompt": prompt(question), "steps": steps, "target": target, "length": len(terms)}


def _reversed(number: int, width: int) -> str:
    """Return the digits from the lowest on, with zeros up to the width."""
    return " ".join(str(number).zfill(width)[::-1])
