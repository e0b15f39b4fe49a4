"""Minerals: the built-in domain's entities, attributes and phrasings.

Two worlds use them. The domain has new minerals, and the general world has a few familiar ones, so that a base model
has read the domain's words without knowing its facts.
"""

import random

from adaptbench.benchmarks.shared import words
from adaptbench.benchmarks.shared.facts import Fact, Relation, make_facts

_ATTRIBUTES = ("lustre", "solvent", "lattice", "glow")
_FORMS = (
    "Assay of {{entity}}: {attribute}",
    "{{entity}} sample, {attribute} found to be",
    "The {attribute} of {{entity}} is",
    "Query {{entity}} {attribute}? Reply:",
    "{attribute} table, row {{entity}}:",
)
VALUES_PER_ATTRIBUTE = 20


def relations(seed: int) -> tuple[Relation, ...]:
    """Return the four attributes, each with its value words and the five phrasings that state it."""
    rng = random.Random(f"{seed}/minerals/values")
    values = words.names(words.DOMAIN_VALUE_SYLLABLES, VALUES_PER_ATTRIBUTE * len(_ATTRIBUTES), rng)
    return tuple(
        Relation(
            tuple(values[i * VALUES_PER_ATTRIBUTE : (i + 1) * VALUES_PER_ATTRIBUTE]),
            tuple(form.format(attribute=attribute) for form in _FORMS),
        )
        for i, attribute in enumerate(_ATTRIBUTES)
    )


def mineral_facts(count: int, seed: int, familiar: bool) -> list[Fact]:
    """Return the facts of `count` minerals; familiar and new minerals never share a name."""
    rng = random.Random(f"{seed}/minerals/{'familiar' if familiar else 'new'}")
    return make_facts(_names(count, seed, familiar), relations(seed), rng)


def _names(count: int, seed: int, familiar: bool) -> list[str]:
    """Return `count` names of one half of all that the syllables make, then the same with numbers: "zorbaite2", ..."""
    everything = 1
    for part in words.MINERAL_SYLLABLES:
        everything *= len(part)
    shuffled = words.names(words.MINERAL_SYLLABLES, everything, random.Random(f"{seed}/minerals/names"))
    half = shuffled[: everything // 2] if familiar else shuffled[everything // 2 :]
    numbers = [""] + [str(copy) for copy in range(2, 2 + count // len(half))]
    return [name + number for number in numbers for name in half][:count]


def familiar_sentences(count: int, seed: int) -> list[str]:
    """Return all facts about `count` familiar minerals in all phrasings."""
    facts = mineral_facts(count, seed, familiar=True)
    return [fact.sentence(i) for fact in facts for i in range(len(fact.relation.phrasings))]
