"""The built-in agent world: a shop, a few people, units and dates, and eleven tools for them (shared/shop/).

Problems of one to four calls are worded without naming the tools. More tools are offered than needed. In some problems
a needed tool and all its substitutes are missing; the right end is then to give up. Some items are called by a name
that the shop does not know; the tool's error has the right name. Names of items and people are split between training,
validation and test, and each split has its own wordings of every wish. So a test always has new names, and new wordings
half of the time.
"""

import random
from collections.abc import Callable, Mapping
from typing import Literal

from pydantic import Field

from adaptbench.benchmarks.agent import baselines, figures, measures
from adaptbench.benchmarks.agent.measures import live_task, steps_task
from adaptbench.benchmarks.agent.steps import live_documents, step_documents, training_records
from adaptbench.benchmarks.shared.shop import tables, tools
from adaptbench.benchmarks.shared.shop.problems import NICKNAMES, OFFERED, UNSOLVABLE, make_toolbox, nth_problem
from adaptbench.benchmarks.shared.shop.wishes import Draw
from adaptbench.contracts import BenchmarkConfig, Real, Record
from adaptbench.errors import AdaptbenchError


class Config(BenchmarkConfig):
    kind: Literal["world"] = "world"
    train_problems: int = Field(2000, ge=20, description="trajectories to train on")
    validation_problems: int = Field(80, ge=4, description="trajectories whose steps are for choosing hyper-parameters")
    test_problems: int = Field(160, ge=4, description="problems of the live test; their steps are the static test")
    offered_tools: int = Field(
        OFFERED, ge=4, le=len(tools.NAMES) - len(tools.ARITHMETIC), description="tools in every prompt"
    )
    unsolvable: Real = Field(UNSOLVABLE, ge=0, le=1, description="share of problems for which a tool is missing")
    nicknames: Real = Field(
        NICKNAMES, ge=0, le=1, description="probability that an item with a second name is called by it"
    )


RETRIES = 300

BASELINES, FIGURES = baselines.BASELINES, figures.FIGURES
DECODE, TASK_FILES = measures.DECODE, measures.TASK_FILES

TASKS = (
    steps_task("agent_steps", "agent steps"),
    live_task("agent_live", "live agent"),
    steps_task("agent_validation", "agent validation", split="validation", primary=True),
)


def build(config: Config, seed: int, public: Mapping[str, Mapping[str, object]]) -> dict[str, list[Record]]:
    """Return the splits of the world.

    Returns:
        train: trajectories with their "text"; agent_steps, agent_validation: a document for each step; agent_live: a
        document for each problem, the same problems as those of agent_steps.

    Raises:
        AdaptbenchError: validation or test asks for more different problems than there are.
    """
    world = tables.make(seed)
    toolbox = make_toolbox(world)
    sizes = {"train": config.train_problems, "validation": config.validation_problems, "test": config.test_problems}
    made: dict[str, list[Record]] = {}
    instructions: set[str] = set()
    for split, count in sizes.items():
        rng = random.Random(f"{seed}/agent/{split}")
        draw = Draw(rng, world, split, config.nicknames)
        made[split] = []
        repeats = 0
        while len(made[split]) < count:
            one = nth_problem(len(made[split]), draw, config.offered_tools, config.unsolvable, toolbox)
            if split == "train" or one["instruction"] not in instructions:
                made[split].append(one)
                repeats = 0
            else:
                repeats += 1
            instructions.add(one["instruction"])
            if repeats > RETRIES:
                raise AdaptbenchError(f"data.agent.{split}_problems: about {len(made[split])} differ; ask for fewer")
        rng.shuffle(made[split])
    return {
        "train": training_records(made["train"], "train"),
        "agent_validation": step_documents(made["validation"], "validation"),
        "agent_steps": step_documents(made["test"], "test"),
        "agent_live": live_documents(made["test"]),
    }


def functions(config: Config, seed: int) -> dict[str, Callable[..., object]]:
    """Return the tools of the world of that seed."""
    return tools.functions(tables.make(seed))
