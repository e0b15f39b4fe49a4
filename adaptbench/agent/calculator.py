"""Exact arithmetic on text that a model wrote.

The text is untrusted, so it is never run as code: the parser knows numbers, parentheses and six operators only. Numbers
are fractions, so that 0.1 + 0.2 is 0.3 and 80 / 100 * 10 is 8. Text, nesting and numbers are bounded: any text gives a
number or a CalculationError within milliseconds.
"""

import operator
import re
import reprlib
from collections.abc import Callable
from decimal import Context, Decimal
from fractions import Fraction

MAX_LENGTH = 500  # characters of text; also keeps every number below Python's limit on int("...")
MAX_DEPTH = 50  # parentheses, signs and powers inside one another
MAX_DIGITS = 300  # of a numerator or a denominator
DECIMALS = 6

_LIMIT = 10**MAX_DIGITS
# ASCII digits only: \d and int() would also take other scripts' digits.
_TOKEN = re.compile(r"(?P<token>[0-9]+\.?[0-9]*|\.[0-9]+|\*\*|[-+*/%()])|[ \t\r\n]+|(?P<other>.)", re.DOTALL)
_RANK = {"+": 1, "-": 1, "*": 2, "/": 2, "%": 2, "**": 4}
_SIGN_RANK = 3  # as in Python: -2**2 is -4, and 2**-1 is a half


class CalculationError(ValueError):
    """An expression without a value; the message says why in one short line."""


def calculate(expression: str) -> Fraction:
    """Return the value of e.g. "2 * (3 + .5) % 4 ** -1"; precedence and the sign of % are Python's.

    There are no thousands commas, no names and no exponents like 1e3. A power's exponent must be a whole number.

    Raises:
        CalculationError: the text is not an expression, or exceeds a bound.
    """
    if not isinstance(expression, str):
        raise CalculationError("the expression must be text")
    if len(expression) > MAX_LENGTH:
        raise CalculationError(f"the expression is longer than {MAX_LENGTH} characters")
    parser = _Parser(_tokens(expression))
    value = parser.expression(1, 0)
    if parser.token:
        raise CalculationError(f"expected an operator, not {reprlib.repr(parser.token)}")
    return value


def number_text(value: int | float | Decimal | Fraction) -> str:
    """Return a whole number in full, any other number with at most six decimals: 8, 0.4, 0.333333, 1234567.891.

    Below 1 the six count from the first digit that is not 0, so that a small number never becomes 0: 0.00000012. Ties
    round to even. Zeros at the end are left out. There is no exponent, since `calculate` does not read one.

    Raises:
        CalculationError: the number is not finite or has more than MAX_DIGITS digits.
    """
    if isinstance(value, float):
        value = Decimal(repr(float(value)))  # 0.1 as it is written, not as its nearest binary fraction
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise CalculationError("the result is not a finite number")
        if abs(value.adjusted()) > MAX_DIGITS:
            raise _too_large()
    exact = _bounded(Fraction(value))
    whole = abs(exact.numerator) // exact.denominator
    if exact.denominator == 1:
        return str(exact.numerator)
    digits = DECIMALS + (len(str(whole)) if whole else 0)
    rounded = Context(prec=digits).divide(Decimal(exact.numerator), Decimal(exact.denominator))
    return f"{rounded:f}".rstrip("0").rstrip(".")


def _tokens(text: str) -> list[str]:
    tokens = []
    for found in _TOKEN.finditer(text):
        if found["other"]:
            raise CalculationError(f"unexpected character {found['other']!r}")
        if found["token"]:
            tokens.append(found["token"])
    return tokens


class _Parser:
    """A parser by precedence climbing: an operator's right side is all that binds more tightly than the operator."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = iter(tokens)
        self.token = next(self.tokens, "")  # the next one to read; "" at the end

    def take(self) -> str:
        taken, self.token = self.token, next(self.tokens, "")
        return taken

    def expression(self, lowest: int, depth: int) -> Fraction:
        """Return the value of the longest expression from here whose operators have at least the rank `lowest`."""
        value = self.operand(depth)
        while (rank := _RANK.get(self.token, 0)) >= lowest:
            sign = self.take()
            # The right side of ** may hold another one: 2**3**2 is 2**9.
            right = self.expression(rank, depth + 1) if sign == "**" else self.expression(rank + 1, depth)
            try:
                value = _bounded(_OPERATIONS[sign](value, right))
            except ZeroDivisionError:
                raise CalculationError("division by zero") from None
        return value

    def operand(self, depth: int) -> Fraction:
        if depth > MAX_DEPTH:
            raise CalculationError(f"nested more than {MAX_DEPTH} deep")
        token = self.take()
        if token in ("+", "-"):
            value = self.expression(_SIGN_RANK, depth + 1)
            return -value if token == "-" else value
        if token == "(":
            value = self.expression(1, depth + 1)
            if self.take() != ")":
                raise CalculationError("a parenthesis is not closed")
            return value
        if token in _RANK or token in (")", ""):
            raise CalculationError(f"expected a number, not {repr(token) if token else 'the end'}")
        whole, _, decimals = token.partition(".")
        return _bounded(Fraction(int(whole + decimals), 10 ** len(decimals)))


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        raise CalculationError("an exponent must be a whole number")
    # Each unit of the exponent adds at least this many bits: refuse before computing.
    bits = max(base.numerator.bit_length(), base.denominator.bit_length()) - 1
    if bits * abs(exponent.numerator) > _LIMIT.bit_length():
        raise _too_large()
    return base**exponent.numerator


def _bounded(value: Fraction) -> Fraction:
    if max(abs(value.numerator), value.denominator) >= _LIMIT:
        raise _too_large()
    return value


def _too_large() -> CalculationError:
    return CalculationError(f"a number has more than {MAX_DIGITS} digits")


_OPERATIONS: dict[str, Callable[[Fraction, Fraction], Fraction]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "%": operator.mod,
    "**": _power,
}
