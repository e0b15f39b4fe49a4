"""Graph reachability in the form of ProsQA: which of two kinds a person is, by a chain of "every ... is a ...".

Source of the form: Coconut, arXiv 2412.06769, data of https://github.com/facebookresearch/coconut (MIT). Facts are the
edges of an acyclic graph from people and made-up kinds to kinds. The right one of two kinds can be reached from the
person in the question, the other only from other people. The worked steps are a shortest path.

The in-degrees of the two kinds correlate with the right answer, so a model may guess without following a path. Of the
300 published validation problems the right kind has the lower in-degree in 151 and the higher in 51; in these graphs it
has the higher more often. The baseline `in-degree` is the accuracy of such a guess.
"""

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from adaptbench.benchmarks.reasoning import measures
from adaptbench.benchmarks.reasoning.measures import answers_tasks
from adaptbench.benchmarks.reasoning.problems import DrawnConfig, draw_splits
from adaptbench.contracts import Record
from adaptbench.errors import AdaptbenchError
from adaptbench.latent.text import MARK, prompt

DECODE, TASK_FILES = measures.DECODE, measures.TASK_FILES
FIGURES = measures.FIGURES
TASKS = answers_tasks("prosqa", "graphs")
PEOPLE = "Alex Bob Carol Davis Eva Fae Gabe Jack Max Oliver Polly Rex Sally Sam Stella Tom Wren".split()
_BEGINNINGS = ("b", "br", "d", "f", "g", "gr", "h", "j", "l", "n", "r", "scr", "st", "t", "v", "w", "y", "z")
_ENDINGS = ("ampus", "empus", "impus", "ompus", "umpus", "erpus", "orpus", "ilpus")
KINDS = tuple(first + last for first in _BEGINNINGS for last in _ENDINGS)

RETRIES = 1000

Edge = tuple[int, int]


class Config(DrawnConfig):
    kind: Literal["prosqa"] = "prosqa"
    nodes: int = Field(14, ge=8, le=40, description="people and kinds of a graph")
    people: int = Field(3, ge=2, le=8, description="people of a graph")
    shortest: int = Field(3, ge=2, description="fewest steps of a path")
    longest: int = Field(4, ge=2, description="most steps of a path")

    @model_validator(mode="after")
    def _fits(self) -> "Config":
        if self.longest < self.shortest:
            raise ValueError("longest must be >= shortest")
        if self.nodes < self.people + 2 * self.shortest:
            raise ValueError("nodes must be >= people + 2 * shortest")
        return self


def build(config: Config, seed: int, public: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Record]]:
    """Return the splits; no question occurs twice.

    Returns:
        train, prosqa_validation, prosqa: {"prompt", "steps", "target", "length" (steps)}.

    Raises:
        AdaptbenchError: there are too few different problems.
    """
    return draw_splits(config, lambda rng: problem(config, rng), seed)


def problem(config: Config, rng: random.Random) -> Record:
    """Return a graph as facts, and a question about it.

    Raises:
        AdaptbenchError: none of RETRIES graphs has a path of the wanted length.
    """
    for _ in range(RETRIES):
        edges = graph(config, rng)
        root = rng.randrange(config.people)
        kinds = range(config.people, config.nodes)
        reached = {node: path for node in kinds if (path := shortest_path(edges, root, node))}
        right = [node for node, path in reached.items() if config.shortest <= len(path) <= config.longest]
        others = [node for node in range(config.people, config.nodes) if node not in reached]
        if right and others:
            break
    else:
        raise AdaptbenchError(
            f"data.reasoning.shortest: of {RETRIES} graphs none had a path of {config.shortest} to {config.longest} "
            "steps; give them more nodes or ask for shorter paths"
        )
    target, other = rng.choice(right), rng.choice(others)
    names = [*rng.sample(PEOPLE, config.people), *rng.sample(KINDS, config.nodes - config.people)]
    facts = [sentence(names, edge) for edge in rng.sample(edges, len(edges))]
    options = rng.sample([names[target], names[other]], 2)
    return {
        "prompt": prompt(question(facts, names[root], options)),
        "steps": [sentence(names, edge) for edge in reached[target]],
        "target": f"{names[root]} is a {names[target]}.",
        "length": len(reached[target]),
    }


def graph(config: Config, rng: random.Random) -> list[Edge]:
    """Return edges from earlier nodes to later ones: one to three to every kind, none to people, who come first."""
    edges = set()
    for node in range(config.people, config.nodes):
        for _ in range(rng.choice((1, 1, 2, 2, 3))):
            edges.add((rng.randrange(node), node))
    return sorted(edges)


def shortest_path(edges: Iterable[Edge], start: int, end: int) -> list[Edge]:
    """Return the edges of a shortest path, the same one for the same edges; empty if there is no path."""
    after: dict[int, list[int]] = {}
    for a, b in edges:
        after.setdefault(a, []).append(b)
    came: dict[int, int] = {start: start}
    waiting = [start]
    for node in waiting:
        for following in after.get(node, ()):
            if following not in came:
                came[following] = node
                waiting.append(following)
    path: list[Edge] = []
    while end in came and end != start:
        path.insert(0, (came[end], end))
        end = came[end]
    return path


def sentence(names: Sequence[str], edge: Edge) -> str:
    """Return an edge in words."""
    first, last = (names[node] for node in edge)
    return f"{first} is a {last}." if first[0].isupper() else f"Every {first} is a {last}."


def question(facts: Sequence[str], name: str, options: Sequence[str]) -> str:
    return f"{' '.join(facts)} Is {name} a {options[0]} or {options[1]}?"


def in_degree(train: Sequence[Record]) -> Callable[[Record], str]:
    """Return a policy that always answers the kind of higher in-degree, or always that of lower in-degree.

    It is the rule that is right more often in training. Of equal in-degrees it answers the first kind.
    """

    def guess(asked: Record, sign: int) -> str:
        name, first, second = re.findall(r"Is (\w+) a (\w+) or (\w+)\?", asked["prompt"])[-1]
        pointed = Counter(re.findall(r" is a (\w+)\.", asked["prompt"]))
        return f"{name} is a {first if sign * pointed[first] >= sign * pointed[second] else second}."

    sign = max((1, -1), key=lambda one: sum(guess(problem, one) == problem["target"] for problem in train))
    return lambda asked: f" {MARK} {guess(asked, sign)}"


BASELINES = {"in-degree": in_degree}
