"""Draw splits of different problems from a generator."""

import random
from collections.abc import Callable, Hashable

from pydantic import Field

from adaptbench.contracts import BenchmarkConfig, Record
from adaptbench.errors import AdaptbenchError


class DrawnConfig(BenchmarkConfig):
    """The numbers of problems that a generator draws."""

    train_items: int = Field(4000, ge=1, description="training problems")
    validation_items: int = Field(200, ge=1, description="problems for choosing hyper-parameters")
    test_items: int = Field(400, ge=1, description="test problems")


def _question(problem: Record) -> Hashable:
    return problem["prompt"]


def draw_splits(
    config: DrawnConfig,
    problem: Callable[[random.Random], Record],
    seed: int,
    what: Callable[[Record], Hashable] = _question,
) -> dict[str, list[Record]]:
    """Return problems by split (train, <kind>_validation and <kind>); no two are the same, also in different splits.

    Args:
        problem: draws a problem.
        what: the identity of a problem; two with the same identity are one problem in two wordings.

    Raises:
        AdaptbenchError: `problem` does not draw enough different ones.
    """
    sizes = {
        config.kind: config.test_items,
        f"{config.kind}_validation": config.validation_items,
        "train": config.train_items,
    }
    rng = random.Random(f"{seed}/{config.kind}")
    wanted = sum(sizes.values())
    found: dict[Hashable, Record] = {}
    for _ in range(20 * wanted):
        made = problem(rng)
        found.setdefault(what(made), made)
        if len(found) == wanted:
            break
    else:
        raise AdaptbenchError(
            f"data.reasoning: only {len(found)} different problems were found of {wanted}; "
            "make them longer or larger, or ask for fewer items"
        )
    problems = iter(found.values())
    return {name: [next(problems) for _ in range(size)] for name, size in sizes.items()}
