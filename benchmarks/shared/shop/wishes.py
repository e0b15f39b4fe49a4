"""Wishes of users of the built-in agent world, and plans that fulfil them with its tools.

A plan is a generator: it yields the needed calls one after another, each with the thought before it, receives the
tool's answer, and returns the final answer. benchmarks/shared/shop/problems.py runs it.
"""

import random
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import date, timedelta

from adaptbench.benchmarks.shared.shop import tools
from adaptbench.benchmarks.shared.shop.tables import Tables

Plan = Generator[tuple[str, str, dict[str, object]], str, str]
"""Yields (thought, tool, arguments), is sent the observation, and returns the answer, which ends in the value."""


@dataclass(frozen=True)
class Draw:
    """Draws a problem's entities from one split; `nicknames` is the probability of an item's second name."""

    rng: random.Random
    tables: Tables
    split: str
    nicknames: float

    def items(self, count: int) -> list[str]:
        """Draw the user's names for different items; only the first may be a nickname."""
        items = self.rng.sample(self.tables.items[self.split], count)
        nickname = self.tables.nicknames.get(items[0])
        return [nickname, *items[1:]] if nickname and self.rng.random() < self.nicknames else items

    def people(self, count: int) -> list[str]:
        return self.rng.sample(self.tables.people[self.split], count)

    def day(self, first: int = 2024, last: int = 2039) -> date:
        return date(self.rng.randint(first, last), 1, 1) + timedelta(days=self.rng.randint(0, 364))


@dataclass(frozen=True)
class Wish:
    """A user's wish: the tools that it needs, the slots of its wordings, and the plan that fulfils it."""

    tools: tuple[str, ...]
    slots: dict[str, object]
    plan: Plan


def _one(tool: str, slot: str, thought: str, answer: str) -> Callable[[Draw], Wish]:
    """Return a function that draws a wish for one look-up."""

    def wish(draw: Draw) -> Wish:
        name = draw.items(1)[0] if slot == "item" else draw.people(1)[0]

        def plan() -> Plan:
            found = yield thought.format(name), tool, {slot: name}
            return answer.format(name, found)

        return Wish((tool,), {slot: name}, plan())

    return wish


def _sum(draw: Draw) -> Wish:
    a, b = draw.rng.randint(11, 99), draw.rng.randint(2, 60)
    return _calculation(draw, "add", "I add.", "Together that is {}", a=a, b=b)


def _rest(draw: Draw) -> Wish:
    a = draw.rng.randint(30, 99)
    return _calculation(draw, "subtract", "I subtract.", "What stays is {}", a=a, b=draw.rng.randint(3, a - 5))


def _calculation(draw: Draw, tool: str, thought: str, answer: str, *, a: int, b: int) -> Wish:
    def plan() -> Plan:
        found = yield thought, tool, {"a": a, "b": b}
        return answer.format(found)

    return Wish((tool,), {"a": a, "b": b, "person": draw.people(1)[0]}, plan())


def _unit(draw: Draw) -> Wish:
    (unit, to), value = draw.rng.choice(list(tools.FACTORS)), draw.rng.randint(2, 60)

    def plan() -> Plan:
        found = yield "I convert.", "convert", {"value": value, "unit": unit, "to": to}
        return f"In {to} it is {found}"

    return Wish(("convert",), {"value": value, "unit": unit, "to": to, "person": draw.people(1)[0]}, plan())


def _span(draw: Draw) -> Wish:
    start = draw.day()
    end = start + timedelta(days=draw.rng.randint(5, 400))

    def plan() -> Plan:
        found = yield "I count the days.", "days", {"start": str(start), "end": str(end)}
        return f"The number of days is {found}"

    return Wish(("days",), {"start": start, "end": end, "person": draw.people(1)[0]}, plan())


def _now(draw: Draw) -> Wish:
    def plan() -> Plan:
        found = yield "I find the date.", "today", {}
        return f"Today is {found}"

    return Wish(("today",), {"person": draw.people(1)[0]}, plan())


def _several(draw: Draw) -> Wish:
    (item,), n = draw.items(1), draw.rng.randint(2, 9)

    def plan() -> Plan:
        each = yield "I need the price.", "price", {"item": item}
        cost = yield "I multiply.", "multiply", {"a": n, "b": int(each)}
        return f"The cost is {cost}"

    return Wish(("price", "multiply"), {"n": n, "item": item}, plan())


def _unsold(draw: Draw) -> Wish:
    (item,), n = draw.items(1), draw.rng.randint(2, 11)

    def plan() -> Plan:
        stock = yield "I need the stock.", "stock", {"item": item}
        left = yield "I subtract.", "subtract", {"a": int(stock), "b": n}
        return f"What is left is {left}"

    return Wish(("stock", "subtract"), {"n": n, "item": item}, plan())


def _until(draw: Draw) -> Wish:
    end = draw.day(2040, 2049)

    def plan() -> Plan:
        today = yield "I find the date.", "today", {}
        days = yield "I count the days.", "days", {"start": today, "end": str(end)}
        return f"The number of days is {days}"

    return Wish(("today", "days"), {"end": end, "person": draw.people(1)[0]}, plan())


def _makers_age(draw: Draw) -> Wish:
    (item,) = draw.items(1)

    def plan() -> Plan:
        person = yield "I need the maker.", "maker", {"item": item}
        age = yield "Now I need the age.", "age", {"person": person}
        return f"The age is {age}"

    return Wish(("maker", "age"), {"item": item}, plan())


def _both(draw: Draw) -> Wish:
    item, other = draw.items(2)

    def plan() -> Plan:
        first = yield "I need the price.", "price", {"item": item}
        second = yield "Now I need the other price.", "price", {"item": other}
        total = yield "I add.", "add", {"a": int(first), "b": int(second)}
        return f"The cost is {total}"

    return Wish(("price", "add"), {"item": item, "other": other}, plan())


def _gap(draw: Draw) -> Wish:
    ages = draw.tables.age
    younger, older = sorted(draw.people(2), key=lambda person: ages[person])
    if ages[younger] == ages[older]:
        return _gap(draw)

    def plan() -> Plan:
        first = yield "I need the age.", "age", {"person": older}
        second = yield "Now I need the other age.", "age", {"person": younger}
        years = yield "I subtract.", "subtract", {"a": int(first), "b": int(second)}
        return f"The number of years is {years}"

    return Wish(("age", "subtract"), {"person": older, "second": younger}, plan())


def _change(draw: Draw) -> Wish:
    (item, other), n = draw.items(2), draw.rng.randint(81, 199)

    def plan() -> Plan:
        first = yield "I need the price.", "price", {"item": item}
        second = yield "Now I need the other price.", "price", {"item": other}
        total = yield "I add.", "add", {"a": int(first), "b": int(second)}
        left = yield "I subtract.", "subtract", {"a": n, "b": int(total)}
        return f"What is left is {left}"

    return Wish(("price", "add", "subtract"), {"n": n, "item": item, "other": other}, plan())


def _supply(draw: Draw) -> Wish:
    item, other = draw.items(2)

    def plan() -> Plan:
        first = yield "I need the stock.", "stock", {"item": item}
        second = yield "Now I need the other stock.", "stock", {"item": other}
        total = yield "I add.", "add", {"a": int(first), "b": int(second)}
        return f"What is left is {total}"

    return Wish(("stock", "add"), {"item": item, "other": other}, plan())


def _stores(draw: Draw) -> Wish:
    (item, other), n = draw.items(2), draw.rng.randint(2, 20)

    def plan() -> Plan:
        first = yield "I need the stock.", "stock", {"item": item}
        second = yield "Now I need the other stock.", "stock", {"item": other}
        total = yield "I add.", "add", {"a": int(first), "b": int(second)}
        left = yield "I subtract.", "subtract", {"a": int(total), "b": n}
        return f"What is left is {left}"

    return Wish(("stock", "add", "subtract"), {"n": n, "item": item, "other": other}, plan())


def _makers_gap(draw: Draw) -> Wish:
    (item,) = draw.items(1)
    known = {nickname: name for name, nickname in draw.tables.nicknames.items()}
    maker = draw.tables.maker[known.get(item, item)]
    younger = min(draw.people(8), key=lambda person: draw.tables.age[person])
    if draw.tables.age[younger] >= draw.tables.age[maker]:
        return _makers_gap(draw)

    def plan() -> Plan:
        person = yield "I need the maker.", "maker", {"item": item}
        first = yield "Now I need the age.", "age", {"person": person}
        second = yield "Now I need the other age.", "age", {"person": younger}
        years = yield "I subtract.", "subtract", {"a": int(first), "b": int(second)}
        return f"The number of years is {years}"

    return Wish(("maker", "age", "subtract"), {"item": item, "second": younger}, plan())


WISHES: dict[int, dict[str, Callable[[Draw], Wish]]] = {
    1: {
        "price": _one("price", "item", "I need the price.", "The price is {1}"),
        "stock": _one("stock", "item", "I need the stock.", "The stock is {1}"),
        "maker": _one("maker", "item", "I need the maker.", "The maker is {1}"),
        "age": _one("age", "person", "I need the age.", "The age is {1}"),
        "sum": _sum,
        "rest": _rest,
        "unit": _unit,
        "span": _span,
        "now": _now,
    },
    2: {"several": _several, "unsold": _unsold, "makers_age": _makers_age, "until": _until},
    3: {"both": _both, "gap": _gap, "supply": _supply},
    4: {"change": _change, "stores": _stores, "makers_gap": _makers_gap},
}
"""Wishes by their number of calls."""
