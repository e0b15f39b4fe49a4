"""Graph reachability in the form of ProsQA: which of two things somebody is, by a chain of "every ... is a ...".

Source of the form: Coconut, arXiv 2412.06769, data of https://github.com/facebookresearch/coconut (MIT). Facts are the edges
of a graph without cycles from people over made-up kinds to kinds; the right one of two kinds can be reached from the person
asked about, the other from somebody else alone. The worked steps are a shortest way.

How many facts point to each of the two kinds tells something of which is right, so a model may guess without following any way: of
the 300 published validation problems the right one has fewer in 151 and more in 51; in these graphs it has more. The row `in-degree`
says what such a guess is worth.
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
PEOPLE = (
    "Alex",
    "Bob",
    "Carol",
    "Davis",
    "Eva",
    "Fae",
    "Gabe",
    "Jack",
    "Max",
    "Oliver",
    "Polly",
    "Rex",
    "Sally",
    "Sam",
    "Stella",
    "Tom",
    "Wren",
)
_BEGINNINGS = ("b", "br", "d", "f", "g", "gr", "h", "j", "l", "n", "r", "scr", "st", "t", "v", "w", "y", "z")
_ENDINGS = ("ampus", "empus", "impus", "ompus", "umpus", "erpus", "orpus", "ilpus")
KINDS = tuple(first + last for first in _BEGINNINGS for last in _ENDINGS)

RETRIES = 1000

Edge = tuple[int, int]


class Config(DrawnConfig):
    kind: Literal["prosqa"] = "prosqa"
    nodes: int = Field(14, ge=8, le=40, description="people and kinds of a graph")
    people: int = Field(3, ge=2, le=8, description="people of a graph")
    shortest: int = Field(3, ge=2, description="fewest steps of a way")
    longest: int = Field(4, ge=2, description="most steps of a way")

    @model_validator(mode="after")
    def _fits(self) -> "Config":
        if self.longest < self.shortest:
            raise ValueError("longest must be >= shortest")
        if self.nodes < self.people + 2 * self.shortest:
            raise ValueError("nodes must be >= people + 2 * shortest")
        return self


def build(config: Config, seed: int, public: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Record]]:
    """The splits, no question twice.

    Returns:
        train, prosqa_validation, prosqa: {"prompt", "steps", "target", "length" (steps)}.
    """
    return draw_splits(config, lambda rng: problem(config, rng), seed)


def problem(config: Config, rng: random.Random) -> Record:
    """A graph and a question about it.

    Raises:
        AdaptbenchError: hardly any graph of that size has a way so long.
    """
    for _ in range(RETRIES):
        edges = graph(config, rng)
        root = rng.randrange(config.people)
        reached = {node: way for node in range(config.people, config.nodes) if (way := shortest_way(edges, root, node))}
        right = [node for node, way in reached.items() if config.shortest <= len(way) <= config.longest]
        others = [node for node in range(config.people, config.nodes) if node not in reached]
        if right and others:
            break
    else:
        raise AdaptbenchError(
            f"data.reasoning.shortest: of {RETRIES} graphs none had a way of {config.shortest} to {config.longest} steps; "
            "give them more nodes or ask for shorter ways"
        )
    target, other = rng.choice(right), rng.choice(others)
    names = [*rng.sample(PEOPLE, config.people), *rng.sample(KINDS, config.nodes - config.people)]
    facts = [sentence(names, edge) for edge in rng.sample(edges, len(edges))]
    asked = rng.sample([names[target], names[other]], 2)
    return {
        "prompt": prompt(question(facts, names[root], asked)),
        "steps": [sentence(names, edge) for edge in reached[target]],
        "target": f"{names[root]} is a {names[target]}.",
        "length": len(reached[target]),
    }


def graph(config: Config, rng: random.Random) -> list[Edge]:
    """Edges from earlier nodes to later ones; people come first and nothing leads to them. Every kind has one to three."""
    edges = set()
    for node in range(config.people, config.nodes):
        for _ in range(rng.choice((1, 1, 2, 2, 3))):
            edges.add((rng.randrange(node), node))
    return sorted(edges)


def shortest_way(edges: Iterable[Edge], start: int, end: int) -> list[Edge]:
    """The edges of a shortest way, the same one for the same edges; none if there is no way."""
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
    way: list[Edge] = []
    while end in came and end != start:
        way.insert(0, (came[end], end))
        end = came[end]
    return way


def sentence(names: Sequence[str], edge: Edge) -> str:
    """An edge in words."""
    first, last = (names[node] for node in edge)
    return f"{first} is a {last}." if first[0].isupper() else f"Every {first} is a {last}."


def question(facts: Sequence[str], name: str, asked: Sequence[str]) -> str:
    return f"{' '.join(facts)} Is {name} a {asked[0]} or {asked[1]}?"


def in_degree(train: Sequence[Record]) -> Callable[[Record], str]:
    """Of the two kinds always the one to which more facts point, or always the other, whichever is right more often in training; the
    first if as many point to both.
    """

    def guess(asked: Record, sign: int) -> str:
        name, first, second = re.findall(r"Is (\w+) a (\w+) or (\w+)\?", asked["prompt"])[-1]
        pointed = Counter(re.findall(r" is a (\w+)\.", asked["prompt"]))
        return f"{name} is a {first if sign * pointed[first] >= sign * pointed[second] else second}."

    sign = max((1, -1), key=lambda one: sum(guess(problem, one) == problem["target"] for problem in train))
    return lambda asked: f" {MARK} {guess(asked, sign)}"


BASELINES = {"in-degree": in_degree}
