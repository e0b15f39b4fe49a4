"""The tables of the built-in agent world's tools: a shop's items, their makers, and people's ages.

Every item and person belongs to one of train, validation and test, so that a test has names that no training problem
has. Some items have a second name that the shop does not know, which gives errors to recover from.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adaptbench.benchmarks.shared import words

SPLITS = ("train", "validation", "test")
SHARES = (0.6, 0.15, 0.25)
NICKNAMED = 0.5  # share of the items that have a second name
_NOUNS = (*words.FOODS, *words.INSTRUMENTS, *(thing for thing in words.OBJECTS if thing != "coins"))
_BRAND_SYLLABLES = ("bo di fa gu ki le mu no pa ri se to".split(), "ba de ko lu mi na po ru sa ve zi".split())
_NICKNAME_SYLLABLES = ("al bre cor dan el fin gar hol ist jun kar lor".split(), "dor mi wen lo ses vin".split())
PEOPLE, BRANDS = 200, 100


@dataclass(frozen=True)
class Tables:
    """The tables of a world.

    By item: `price` (coins), `stock` (pieces), `maker`, `nicknames`. By person: `age` (years). By split: `items`,
    `people`. `today` is a date.
    """

    price: Mapping[str, int]
    stock: Mapping[str, int]
    maker: Mapping[str, str]
    age: Mapping[str, int]
    nicknames: Mapping[str, str]
    items: Mapping[str, Sequence[str]]
    people: Mapping[str, Sequence[str]]
    today: str


def make(seed: int) -> Tables:
    """Return the tables of the world of that seed."""
    rng = random.Random(f"{seed}/agent/tables")
    items = [*_NOUNS, *words.names(_BRAND_SYLLABLES, BRANDS, rng)]
    people = words.names(words.PEOPLE_SYLLABLES, PEOPLE, rng)
    rng.shuffle(items)
    by_split = {"items": _shared_out(items), "people": _shared_out(people)}
    nicknames = words.names(_NICKNAME_SYLLABLES, len(items), rng)
    return Tables(
        price={item: rng.randint(2, 40) for item in items},
        stock={item: rng.randint(12, 99) for item in items},
        maker={item: rng.choice(by_split["people"][split]) for split in SPLITS for item in by_split["items"][split]},
        age={person: rng.randint(18, 79) for person in people},
        nicknames={item: name for item, name in zip(items, nicknames, strict=True) if rng.random() < NICKNAMED},
        today=f"20{rng.randint(24, 39)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}",
        **by_split,
    )


def _shared_out(names: Sequence[str]) -> dict[str, Sequence[str]]:
    first = round(SHARES[0] * len(names))
    second = first + round(SHARES[1] * len(names))
    return dict(zip(SPLITS, (names[:first], names[first:second], names[second:]), strict=True))
