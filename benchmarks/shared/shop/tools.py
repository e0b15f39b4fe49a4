"""The tools of the built-in agent world: their descriptions for a model, and their functions.

Every tool is deterministic and fast. An argument that it cannot handle raises a ToolError, which becomes an
observation.
"""

import json
from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal, InvalidOperation
from fractions import Fraction

from adaptbench.agent.toolbox import ToolError
from adaptbench.benchmarks.shared.shop.tables import Tables
from adaptbench.contracts import Record

_DESCRIPTIONS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "price": ("coins for an item", {"item": ""}),
    "stock": ("count of an item", {"item": ""}),
    "maker": ("person who made an item", {"item": ""}),
    "age": ("years of a person", {"person": ""}),
    "add": ("a plus b", {"a": "", "b": ""}),
    "subtract": ("a minus b", {"a": "", "b": ""}),
    "multiply": ("a times b", {"a": "", "b": ""}),
    "divide": ("a over b", {"a": "", "b": ""}),
    "convert": ("value in a unit", {"value": "", "unit": "", "to": ""}),
    "days": ("days between dates", {"start": "", "end": ""}),
    "today": ("date of this day", {}),
}
NAMES = tuple(_DESCRIPTIONS)
LOOK_UPS = ("price", "stock", "maker", "age")
ARITHMETIC = ("add", "subtract", "multiply", "divide")
"""Tools that can stand in for one another (a minus b is a plus -b), and for `convert` for one who knows the units."""

FACTORS = {
    ("km", "m"): 1000,
    ("m", "cm"): 100,
    ("kg", "g"): 1000,
    ("h", "min"): 60,
    ("min", "s"): 60,
    ("l", "ml"): 1000,
}
"""Number of the second unit in one of the first."""


def described(name: str) -> Record:
    """Return the tool as a trajectory offers it."""
    description, parameters = _DESCRIPTIONS[name]
    return {"name": name, "description": description, "parameters": json.dumps(parameters)}


def functions(tables: Tables) -> dict[str, Callable[..., object]]:
    """Return the functions of the tools by name, each called with keyword arguments."""

    known = {nickname: item for item, nickname in tables.nicknames.items()}

    def of_item(table: Mapping[str, object]) -> Callable[..., object]:
        def find(item: object) -> object:
            if isinstance(item, str) and item in table:
                return table[item]
            if isinstance(item, str) and item in known:
                raise ToolError(f"{item} is called {known[item]} here")
            raise ToolError(f"no {item} here")

        return find

    def age(person: object) -> object:
        if isinstance(person, str) and person in tables.age:
            return tables.age[person]
        raise ToolError(f"nobody is called {person}")

    return {
        "price": of_item(tables.price),
        "stock": of_item(tables.stock),
        "maker": of_item(tables.maker),
        "age": age,
        "add": lambda a, b: _number(a) + _number(b),
        "subtract": lambda a, b: _number(a) - _number(b),
        "multiply": lambda a, b: _number(a) * _number(b),
        "divide": _divide,
        "convert": _convert,
        "days": lambda start, end: (_date(end) - _date(start)).days,
        "today": lambda: tables.today,
    }


def _number(value: object) -> Fraction:
    """Return a JSON number, or a number as text, exactly.

    Raises:
        ToolError: the value is not a number, or is beyond 10**12.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ToolError(f"{value} is not a number")
    try:
        if len(str(value)) > 30:
            raise ValueError
        exact = Decimal(str(value))
        if not exact.is_finite():
            raise ValueError
    except (ValueError, InvalidOperation):
        raise ToolError(f"{value} is not a number") from None
    # Checked before the conversion to a fraction: 1e999999999 would fill the memory.
    if abs(exact.adjusted()) > 100:
        raise ToolError(f"{value} is too large or too small")
    found = Fraction(exact)
    if abs(found) > 10**12:
        raise ToolError(f"{value} is too large")
    return found


def _divide(a: object, b: object) -> Fraction:
    if not _number(b):
        raise ToolError("division by zero")
    return _number(a) / _number(b)


def _convert(value: object, unit: object, to: object) -> Fraction:
    if not isinstance(unit, str) or not isinstance(to, str):
        raise ToolError(f"no way from {unit} to {to}")
    if (unit, to) in FACTORS:
        return _number(value) * FACTORS[str(unit), str(to)]
    if (to, unit) in FACTORS:
        return _number(value) / FACTORS[str(to), str(unit)]
    raise ToolError(f"no way from {unit} to {to}")


def _date(value: object) -> date:
    try:
        return date.fromisoformat(str(value))
    except ValueError:
        raise ToolError(f"{value} is not a date such as 2031-05-14") from None
