"""Splits of problems that a generator draws: as many different questions as asked for, none twice."""

import random
from collections.abc import Callable, Mapping

from adaptbench.contracts import AdaptbenchError, Record


def draw_splits(
    sizes: Mapping[str, int], problem: Callable[[random.Random], Record], seed: str
) -> dict[str, list[Record]]:
    """Problems by split; no question is in two splits or twice in one.

    Raises:
        AdaptbenchError: `problem` does not draw as many different ones.
    """
    rng = random.Random(seed)
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
