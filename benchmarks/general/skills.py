"""Small skills that the tracks build on: look-up, slot copying, comparison, counting, ordering, one-digit arithmetic.

Each skill draws an instance in one of a few phrasings: a prompt, its right answer and plausible wrong answers. Almost
all instances are new text; the world drops the few that are both in training and in a test.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from adaptbench.benchmarks.shared.words import CITIES, COLOURS, FOODS, KEYS, LETTERS, OBJECTS, PEOPLE_SYLLABLES, PETS
from adaptbench.latent import text


@dataclass(frozen=True)
class Instance:
    """A prompt, its right answer and three plausible wrong ones; `more` is further text for training."""

    prompt: str
    answer: str
    wrong: tuple[str, ...]
    more: str = ""


SUMS_MORE = 3
"""Further sums on a dial in a training text, so that each of the two hundred possible ones occurs often."""


def _person(rng: random.Random) -> str:
    return "".join(rng.choice(part) for part in PEOPLE_SYLLABLES)


def _word(rng: random.Random) -> str:
    return rng.choice(rng.choice((CITIES, COLOURS, FOODS, PETS, OBJECTS)))


def _made_up(rng: random.Random) -> str:
    """Return a made-up name, which can be copied but not known."""
    length = rng.randint(2, 3)
    return "".join(rng.choice("bcdfghjklmnprstvwz") + rng.choice("aeiou") for _ in range(length)).capitalize()


def _item(rng: random.Random) -> str:
    """Return an item of a text: a word, a thing with its colour, a name, a number or a date."""
    kind = rng.randrange(5)
    if kind == 0:
        return _word(rng)
    if kind == 1:
        return f"{rng.choice(COLOURS)} {rng.choice(OBJECTS)}"
    if kind == 2:
        return _made_up(rng) if rng.random() < 0.5 else _person(rng)
    if kind == 3:
        return str(rng.randint(0, 999))
    return f"20{rng.randint(10, 60)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"


def _items(count: int, rng: random.Random) -> list[str]:
    """Return `count` different items."""
    found: dict[str, None] = {}
    while len(found) < count:
        found[_item(rng)] = None
    return list(found)


def _near(number: int, rng: random.Random) -> tuple[str, ...]:
    """Return three wrong non-negative numbers close to the right one."""
    others = [n for n in range(max(0, number - 4), number + 5) if n != number]
    return tuple(str(n) for n in rng.sample(others, 3))


def look_up(rng: random.Random) -> Instance:
    """Find a key's value among pairs given in the text."""
    count = rng.randint(3, 6)
    keys = rng.sample(LETTERS, count) if rng.random() < 0.5 else _items(count, rng)
    values = rng.sample(COLOURS + PETS + CITIES, count)
    pairs = [f"{key} {value}" for key, value in zip(keys, values, strict=True)]
    wanted, *others = rng.sample(range(len(keys)), len(keys))
    wrong = [values[i] for i in others] + [value for value in COLOURS if value not in values]
    more = "".join(f" {pairs[i]}." for i in others)
    start = rng.choice(("Given", "List:", "We have"))
    return Instance(f"{start} {', '.join(pairs)}. {keys[wanted]}", values[wanted], tuple(wrong[:3]), more)


def copy_slots(rng: random.Random) -> Instance:
    """Put the words of a request into the named slots of a JSON object; the answer is the last slot."""
    keys = rng.sample(KEYS, rng.randint(1, 4))
    values = [_item(rng) for _ in keys]
    given = list(zip(keys, values, strict=True))
    form = rng.choice(("{} {}", '{} "{}"'))
    request = ", ".join(form.format(key, value) for key, value in rng.sample(given, len(given)))
    filled = "".join(f'"{key}": "{value}", ' for key, value in given[:-1])
    wrong = list(dict.fromkeys(value for value in values[:-1] if value != values[-1]))
    while len(wrong) < 3:
        other = _word(rng)
        if other not in (values[-1], *wrong):
            wrong.append(other)
    start = rng.choice(("Request", "Wanted", "Order"))
    prompt = f'{start}: {request}. Input: {{{filled}"{keys[-1]}":'
    return Instance(prompt, f'"{values[-1]}"}}', tuple(f'"{value}"}}' for value in wrong[:3]))


def copy_words(rng: random.Random) -> Instance:
    """Repeat a list of words."""
    words = rng.sample(LETTERS + COLOURS + PETS, rng.randint(3, 6)) if rng.random() < 0.5 else _items(3, rng)
    wrong: set[str] = set()
    while len(wrong) < 3:
        other = " ".join(rng.sample(words, len(words)))
        if other != " ".join(words):
            wrong.add(other)
    return Instance(
        f"{rng.choice(('Copy', 'Repeat', 'Say again'))} {' '.join(words)}:", " ".join(words), tuple(sorted(wrong))
    )


def compare(rng: random.Random) -> Instance:
    """Choose the larger or smaller of three numbers."""
    numbers = rng.sample(range(100), 4)
    word, answer = rng.choice((("largest", max(numbers)), ("smallest", min(numbers))))
    wrong = tuple(str(n) for n in numbers if n != answer)
    listed = ", ".join(map(str, numbers))
    prompt = rng.choice((f"Of {listed} the {word} is", f"The {word} of {listed} is", f"From {listed} take the {word}:"))
    return Instance(prompt, str(answer), wrong)


def count(rng: random.Random) -> Instance:
    """Count one letter in a list."""
    letters = rng.sample(LETTERS, 2)
    items = [rng.choice(letters) for _ in range(rng.randint(3, 6))]
    answer, listed = items.count(letters[0]), " ".join(items)
    prompt = rng.choice((f"In {listed} the letter {letters[0]} occurs", f"Count {letters[0]} in {listed}:"))
    return Instance(prompt, f"{answer} times", tuple(f"{n} times" for n in _near(answer, rng)))


def order(rng: random.Random) -> Instance:
    """Sort digits in rising order."""
    digits = rng.sample(range(10), rng.randint(3, 5))
    answer = " ".join(map(str, sorted(digits)))
    wrong: set[str] = set()
    while len(wrong) < 3:
        other = " ".join(map(str, rng.sample(digits, len(digits))))
        if other != answer:
            wrong.add(other)
    start = rng.choice(("Sort", "In rising order"))
    return Instance(f"{start} {' '.join(map(str, digits))}:", answer, tuple(sorted(wrong)))


def arithmetic(rng: random.Random) -> Instance:
    """Add or subtract one-digit numbers in a small story."""
    person, thing, a, b = _person(rng), rng.choice(OBJECTS), rng.randint(0, 9), rng.randint(0, 9)
    if rng.random() < 0.5:
        story = rng.choice((f"{person} has {a} {thing} and finds {b} more.", f"To {a} {thing} {person} adds {b}."))
        return Instance(f"{story} {a} + {b} =", str(a + b), _near(a + b, rng))
    a, b = max(a, b), min(a, b)
    story = rng.choice((f"{person} has {a} {thing} and loses {b}.", f"From {a} {thing} {person} takes {b}."))
    return Instance(f"{story} {a} - {b} =", str(a - b), _near(a - b, rng))


def modular(rng: random.Random) -> Instance:
    """Add or subtract one-digit numbers modulo ten, on a dial: a single step of the reasoning track's chains."""
    person, thing = _person(rng), rng.choice(OBJECTS)
    story = rng.choice((f"{person} counts {thing} on a dial.", f"The dial of {person} shows {thing}."))
    (prompt, answer), *others = (_on_a_dial(rng) for _ in range(1 + SUMS_MORE))
    wrong = tuple(str(n) for n in rng.sample([n for n in range(10) if n != answer], 3))
    more = "".join(f" {question} {right}." for question, right in others)
    if rng.random() < 0.5:
        question, right = _on_a_dial(rng)
        more += f" {text.prompt(question.removesuffix(' ='))}{text.response([], str(right))}"
    return Instance(f"{story} {prompt}", str(answer), wrong, more)


def _on_a_dial(rng: random.Random) -> tuple[str, int]:
    a, b = rng.randint(0, 9), rng.randint(0, 9)
    sign = rng.choice("+-")
    return f"{a} {sign} {b} =", (a + b if sign == "+" else a - b) % 10


SKILLS: tuple[Callable[[random.Random], Instance], ...] = (
    look_up,
    look_up,
    copy_slots,
    copy_slots,
    copy_words,
    compare,
    count,
    order,
    arithmetic,
    modular,
)
"""Skills in their shares of text and tests; look-up and slot copying are the slowest to learn, hence twice."""
