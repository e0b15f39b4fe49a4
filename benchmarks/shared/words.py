"""The words of the built-in world: names are made of syllables, values are drawn from lists.

The general world's people and the domain share no value word, so that learning one does not repeat the other. The base
reads about a few minerals of the domain's kind, so that it has seen the domain's words, but about none that is tested.
"""

import random
from collections.abc import Sequence

CITIES = (
    "Paris Oslo Lima Cairo Delhi Tokyo Quito Dakar Rome Berlin Madrid Dublin Athens Warsaw Prague Lisbon Havana "
    "Nairobi Seoul Vienna"
).split()
JOBS = (
    "baker pilot nurse farmer lawyer painter dentist tailor miner judge sailor cook poet mason banker barber weaver "
    "plumber actor teacher"
).split()
PETS = (
    "cat dog parrot rabbit horse turtle snake goat duck mouse pony canary ferret goose lizard hamster spider hen pig "
    "fox"
).split()
FOODS = (
    "rice soup bread cheese pasta salad beans fish honey apples plums curry noodles eggs lentils cake corn figs nuts "
    "pears"
).split()
INSTRUMENTS = (
    "violin piano flute drum harp guitar trumpet cello organ banjo oboe viola horn lute tuba fiddle gong zither sitar "
    "bells"
).split()
COLOURS = (
    "red blue green yellow purple orange black white brown pink grey gold silver violet teal scarlet ivory olive navy "
    "amber"
).split()
OBJECTS = "coins books cups keys stones shells stamps buttons ribbons candles marbles feathers".split()
KEYS = "name city color size day item price code unit place".split()
LETTERS = "a b c d e f g h k m n p r s t".split()

PEOPLE_SYLLABLES = (
    "Ta Be Ko Mi Lu Ra Ve No Si Da Pe Jo Fa Hu Zi".split(),
    "vro lin dak mer sel nia ton bri gus fen las rik mo tha pol".split(),
)
MINERAL_SYLLABLES = (
    "zor quel thrax vyl drem skar phol glim xan brux".split(),
    "ba de ki mo nu ra ve lo".split(),
    "ite ane ium ox".split(),
)
DOMAIN_VALUE_SYLLABLES = (
    "cry lum vit fer sul pla tor neb hal gyr".split(),
    "ox ic ar en um id os yl".split(),
)


def names(syllables: Sequence[Sequence[str]], count: int, rng: random.Random) -> list[str]:
    """Return `count` distinct names, one syllable from each list in turn; beyond all combinations with numbers."""
    everything = [""]
    for part in syllables:
        everything = [stem + syllable for stem in everything for syllable in part]
    if count > len(everything):
        # Larger worlds number their names: "Tavro2", "Tavro3", ...
        copies = -(-count // len(everything))
        everything += [f"{name}{copy}" for copy in range(2, copies + 1) for name in everything]
    return rng.sample(everything, count)
