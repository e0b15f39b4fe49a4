"""Minerals: the built-in domain's entities, attributes and forms of speech.

They stand apart from both worlds that use them: the domain tells new minerals, and the general world tells a few
familiar ones, so that a base model has met the domain's words without knowing its facts.
"""

import random

from adaptbench.benchmarks import words
from adaptbench.benchmarks.facts import Fact, Relation, make_facts

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
    """The four attributes, each with its own value words and the five forms that state it."""
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
    """The facts of `count` minerals. Familiar and new minerals never share a name, whatever the counts."""
    rng = random.Random(f"{seed}/minerals/{'familiar' if familiar else 'new'}")
    return make_facts(_names(count, seed, familiar), relations(seed), rng)


def _names(count: int, seed: int, familiar: bool) -> list[str]:
    """One half of all names that the syllables make; beyond those the same half with numbers: "zorbaite2", ..."""
    everything = 1
    for part in words.MINERAL_SYLLABLES:
        everything *= len(part)
    shuffled = words.names(words.MINERAL_SYLLABLES, everything, random.Random(f"{seed}/minerals/names"))
    half = shuffled[: everything // 2] if familiar else shuffled[everything // 2 :]
    numbers = [""] + [str(copy) for copy in range(2, 2 + count // len(half))]
    return [name + number for number in numbers for name in half][:count]


def familiar_sentences(count: int, seed: int) -> list[str]:
    """Everything about `count` familiar minerals, in every form."""
    facts = mineral_facts(count, seed, familiar=True)
    return [fact.sentence(i) for fact in facts for i in range(len(fact.relation.phrasings))]
