"""The built-in agent world: a shop, a few people, units and dates, and eleven tools that know about them.

Problems of one to four calls are asked in wordings that do not name the tools; more tools are offered than needed, and in
some problems one that is needed is not, nor any that could do its work: then the right end is to give up. Some items are called by a name that the shop
does not know: the tool answers with an error that says the right one. Names of items and people are split between
training, validation and test, and every wish has wordings of its own in each, so that a test asks about new names always
and in new words half of the time.
"""

import random
from collections.abc import Callable, Mapping
from typing import Literal

from pydantic import Field

from adaptbench.benchmarks.agent import baselines, figures, measures, tables, tools
from adaptbench.benchmarks.agent.measures import live_task, steps_task
from adaptbench.benchmarks.agent.problems import NICKNAMES, OFFERED, UNSOLVABLE, nth_problem, patient_toolbox
from adaptbench.benchmarks.agent.steps import live_documents, step_documents, training_records
from adaptbench.benchmarks.agent.wishes import Draw
from adaptbench.contracts import BenchmarkConfig, Real, Record
from adaptbench.errors import AdaptbenchError


class Config(BenchmarkConfig):
    kind: Literal["world"] = "world"
    train_problems: int = Field(2000, ge=20, description="trajectories to train on")
    validation_problems: int = Field(80, ge=4, description="trajectories whose steps choose hyper-parameters")
    test_problems: int = Field(160, ge=4, description="problems of the live test; their steps are the static test")
    offered_tools: int = Field(
        OFFERED, ge=4, le=len(tools.NAMES) - len(tools.ARITHMETIC), description="tools in every prompt"
    )
    unsolvable: Real = Field(UNSOLVABLE, ge=0, le=1, description="share of problems for which a tool is missing")
    nicknames: Real = Field(
        NICKNAMES, ge=0, le=1, description="how often an item that has a second name is called by it"
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
    """The splits of the world.

    Returns:
        train: trajectories with their "text"; agent_steps, agent_validation: a document a step; agent_live: a document a
        problem, the same problems as those of agent_steps.
    """
    world = tables.make(seed)
    toolbox = patient_toolbox(world)
    sizes = {"train": config.train_problems, "validation": config.validation_problems, "test": config.test_problems}
    made: dict[str, list[Record]] = {}
    asked: set[str] = set()
    for split, count in sizes.items():
        rng = random.Random(f"{seed}/agent/{split}")
        draw = Draw(rng, world, split, config.nicknames)
        made[split] = []
        repeats = 0
        while len(made[split]) < count:
            one = nth_problem(len(made[split]), draw, config.offered_tools, config.unsolvable, toolbox)
            if split == "train" or one["instruction"] not in asked:
                made[split].append(one)
                repeats = 0
            else:
                repeats += 1
            asked.add(one["instruction"])
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
    """The tools of the world of that seed."""
    return tools.functions(tables.make(seed))
