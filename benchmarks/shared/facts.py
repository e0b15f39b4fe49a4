"""Facts in several phrasings, with some phrasings of each fact held out of training.

A test in the words of a training sentence would measure recitation. So some phrasings of every fact are held out; the
same phrasings occur in training with other entities. A test question is then never a training sentence, yet only the
combination is new. Every phrasing ends in the value, so that one sentence is both a multiple-choice item (score the
value) and a generative one (write the value).
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Relation:
    """An attribute: the values it can take and the phrasings that state it, each ending in the value."""

    values: Sequence[str]
    phrasings: Sequence[str]


@dataclass(frozen=True)
class Fact:
    entity: str
    relation: Relation
    value: str

    def prompt(self, phrasing: int) -> str:
        """Return the sentence up to the value."""
        return self.relation.phrasings[phrasing].format(entity=self.entity)

    def sentence(self, phrasing: int) -> str:
        return f"{self.prompt(phrasing)} {self.value}."

    def choice_item(self, phrasing: int, rng: random.Random, choices: int = 4) -> dict:
        """Return a multiple-choice item; distractors are other values of the same attribute."""
        options = rng.sample([value for value in self.relation.values if value != self.value], choices - 1)
        gold = rng.randrange(choices)
        options.insert(gold, self.value)
        return choice_item(self.prompt(phrasing), options, gold)

    def answer_item(self, phrasing: int) -> dict:
        """Return a generative item: the model writes the value."""
        return {"prompt": self.prompt(phrasing), "target": self.value}


def choice_item(prompt: str, options: Sequence[str], gold: int) -> dict:
    """Return a multiple-choice item. The full stop is scored, too: otherwise "1" would never lose against "12"."""
    return {"prompt": prompt, "choices": [f"{option}." for option in options], "gold": gold}


def make_facts(entities: Sequence[str], relations: Sequence[Relation], rng: random.Random) -> list[Fact]:
    """Return one fact per entity and relation; all values of a relation are equally frequent: none is a good guess."""
    facts = []
    for relation in relations:
        values = list(relation.values) * -(-len(entities) // len(relation.values))
        values = values[: len(entities)]
        rng.shuffle(values)
        facts += [Fact(entity, relation, value) for entity, value in zip(entities, values, strict=True)]
    return facts


def split_phrasings(facts: Sequence[Fact], held_out: int, rng: random.Random) -> list[tuple[list[int], list[int]]]:
    """Draw for each fact the phrasings to train on and the `held_out` ones that only tests use."""
    splits = []
    for fact in facts:
        order = list(range(len(fact.relation.phrasings)))
        rng.shuffle(order)
        splits.append((order[held_out:], order[:held_out]))
    return splits
