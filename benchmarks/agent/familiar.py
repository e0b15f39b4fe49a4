"""A few dialogues of the shop's tools, as a pre-training corpus holds a little of everything.

Without them a base has never read the words that an agent writes: a tuner that leaves embeddings alone then learns nothing.
They name the entities of training alone and use its wordings alone.
"""

import random

from adaptbench.benchmarks.agent import tables
from adaptbench.benchmarks.agent.problems import NICKNAMES, OFFERED, UNSOLVABLE, nth_problem, patient_toolbox
from adaptbench.benchmarks.agent.steps import whole_text
from adaptbench.benchmarks.agent.wishes import Draw


def familiar_dialogues(count: int, seed: int) -> list[str]:
    """The whole texts of `count` dialogues, drawn apart from those that agents are trained on."""
    world = tables.make(seed)
    draw = Draw(random.Random(f"{seed}/agent/familiar"), world, "train", NICKNAMES)
    toolbox = patient_toolbox(world)
    return [whole_text(nth_problem(i, draw, OFFERED, UNSOLVABLE, toolbox)) for i in range(count)]
