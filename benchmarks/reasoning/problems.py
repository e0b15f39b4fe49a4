"""Splits of problems that a generator draws: as many different questions as asked for, none twice."""

import random
from collections.abc import Callable

from pydantic import Field

from adaptbench.contracts import AdaptbenchError, BenchmarkConfig, Record


class DrawnConfig(BenchmarkConfig):
    """How many problems a generator draws."""

    train_items: int = Field(4000, ge=1)
    validation_items: int = Field(200, ge=1)
    test_items: int = Field(400, ge=1)


def draw_splits(config: DrawnConfig, problem: Callable[[random.Random], Record], seed: int) -> dict[str, list[Record]]:
    """Problems by split (train, <kind>_validation and <kind>); no question is in two splits or twice in one.

    Raises:
        AdaptbenchError: `problem` does not draw as many different ones.
    """
    sizes = {
        config.kind: config.test_items,
        f"{config.kind}_validation": config.validation_items,
        "train": config.train_items,
    }
    rng = random.Random(f"{seed}/{config.kind}")
    wanted = sum(sizes.values())
    found: dict[str, Record] = {}
    for _ in range(20 * wanted):
        made = problem(rng)
        found.setdefault(made["prompt"], made)
        if len(found) == wanted:
            break
    else:
        raise AdaptbenchError(
            f"data.reasoning: only {len(found)} different problems were found of {wanted}; "
            "make them longer or larger, or ask for fewer items"
        )
    problems = iter(found.values())
    return {name: [next(problems) for _ in range(size)] for name, size in sizes.items()}
