"""Dialogues with the shop's tools for the pre-training corpus.

Without them a base would never have read the words that an agent writes, and a tuner that freezes embeddings could not
learn them. They have the entities and the wordings of the training split only.
"""

import random

from adaptbench.agent.trajectory import whole_text
from adaptbench.benchmarks.shared.shop import tables
from adaptbench.benchmarks.shared.shop.problems import NICKNAMES, OFFERED, UNSOLVABLE, make_toolbox, nth_problem
from adaptbench.benchmarks.shared.shop.wishes import Draw


def familiar_dialogues(count: int, seed: int) -> list[str]:
    """Return the whole texts of `count` dialogues, drawn independently of the agents' training dialogues."""
    world = tables.make(seed)
    draw = Draw(random.Random(f"{seed}/agent/familiar"), world, "train", NICKNAMES)
    toolbox = make_toolbox(world)
    return [whole_text(nth_problem(i, draw, OFFERED, UNSOLVABLE, toolbox)) for i in range(count)]
