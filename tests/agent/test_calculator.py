"""The calculator: Python's own arithmetic where it is defined, one plain line where it is not, and never anything else.

Run: python -m pytest tests/agent/test_calculator.py
"""

import random
import re
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptbench.agent.calculator import MAX_DEPTH, MAX_DIGITS, MAX_LENGTH, CalculationError, calculate, number_text
from tests.support.expressions import GIANTS, THOROUGH, cpu_seconds, trees, variants, words


def _problem(call, value):
    with pytest.raises(CalculationError) as caught:
        call(value)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert len(message) < 100
    return message


# --- values


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("80/100*10", "8"),
        ("2*20*.01", "0.4"),
        ("1/3", "0.333333"),
        ("0.1+0.2", "0.3"),
        (" 5.\t-\r\n.5 ", "4.5"),
        ("007", "7"),
        ("-2**2", "-4"),
        ("2**-1", "0.5"),
        ("2**3**2", "512"),
        ("2**-1*4", "2"),
        ("-7%3", "2"),
        ("7.5 % -2", "-0.5"),
        ("--+-3", "-3"),
        ("8-3-2", "3"),
        ("0**0", "1"),
        ("(-1)**" + "9" * (MAX_DIGITS - 1), "-1"),
    ],
)
def test_a_value_is_exact_and_shown_as_people_write_it(expression, text):
    assert number_text(calculate(expression)) == text


def _reference(text):
    """Python's value of `text` with each number as a Fraction; None where that is not a fraction."""
    code = re.sub(r"[0-9.]+", lambda number: f"Fraction({number[0]!r})", text)
    try:
        value = eval(code.strip(), {"Fraction": Fraction})  # noqa: S307  # text that this file made
    except (ZeroDivisionError, OverflowError):  # the latter from a float on the way
        return None
    return value if isinstance(value, Fraction) else None


def test_random_expressions_have_the_value_that_python_gives_them():
    checked = 0

    @settings(THOROUGH, max_examples=2000)
    @given(trees)
    def check(text):
        nonlocal checked
        try:
            value, problem = calculate(text), ""
        except CalculationError as error:
            value, problem = None, str(error)
        if "digits" not in problem:  # else Python's value might not be had in the age of the universe
            assert value == _reference(text), text
            checked += value is not None

    check()
    assert checked > 1000


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (8, "8"),
        (Fraction(-16, 2), "-8"),
        (0.1 + 0.2, "0.3"),
        (-0.0, "0"),
        (1e22, "1" + "0" * 22),
        (Decimal("1.50"), "1.5"),
        (Fraction(-2, 3), "-0.666667"),
        (Fraction(10, 3), "3.333333"),
        (Fraction(12345678912345, 10000), "1234567891.2345"),
        (Fraction(1, 30000), "0.0000333333"),
        (Fraction("1.0000005"), "1"),  # a tie, to even
        (Fraction("1.0000015"), "1.000002"),
        (Fraction("99.9999999"), "100"),
        (Fraction("0.99999999"), "1"),
    ],
)
def test_a_number_has_six_decimals_at_most_and_more_zeros_only_where_it_is_small(value, text):
    assert number_text(value) == text


@THOROUGH
@given(st.fractions(max_denominator=10**40) | st.floats(1e-100, 1e100) | st.floats(-1e100, -1e-100))
def test_a_number_s_text_is_near_it_and_is_read_back_as_what_it_says(value):
    text = number_text(value)
    assert re.fullmatch(r"-?(0|[1-9][0-9]*)(\.[0-9]*[1-9])?", text)
    assert number_text(calculate(text)) == text
    exact = Fraction(str(value))
    assert abs(Fraction(text) - exact) <= (Fraction(1, 10**6) if abs(exact) >= 1 else abs(exact) / 10**5) / 2


@pytest.mark.parametrize("value", [float("nan"), float("inf"), Decimal("-inf"), Decimal("nan"), Decimal("sNaN")])
def test_a_number_that_is_not_finite_has_no_text(value):
    assert _problem(number_text, value) == "the result is not a finite number"


@pytest.mark.parametrize("value", [10**MAX_DIGITS, Fraction(1, 10**MAX_DIGITS), 1e301, Decimal("1e-999999999999")])
def test_a_number_that_is_too_long_has_no_text(value):
    assert _problem(number_text, value) == f"a number has more than {MAX_DIGITS} digits"


# --- problems


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("", "expected a number, not the end"),
        ("2+", "expected a number, not the end"),
        ("2***3", "expected a number, not '*'"),
        ("()", "expected a number, not ')'"),
        ("1 2", "expected an operator, not '2'"),
        ("1.2.3", "expected an operator, not '.3'"),
        ("1)", "expected an operator, not ')'"),
        ("1 " + "2" * 99, "expected an operator, not '222222222222...2222222222222'"),
        ("(1", "a parenthesis is not closed"),
        ("1,000", "unexpected character ','"),
        ("1e3", "unexpected character 'e'"),
        ("1_0", "unexpected character '_'"),
        ("7//2", "expected a number, not '/'"),
        ("\u0663", "unexpected character '\u0663'"),
        ("1\u00a0", "unexpected character '\\xa0'"),
        ("\ud800", "unexpected character '\\ud800'"),
        ("1\0", "unexpected character '\\x00'"),
        ("__import__('os')", "unexpected character '_'"),
        (5, "the expression must be text"),
        ("1/(2-2)", "division by zero"),
        ("1%0", "division by zero"),
        ("0**-1", "division by zero"),
        ("2**.5", "an exponent must be a whole number"),
    ],
)
def test_what_has_no_value_is_told_in_one_short_line(expression, said):
    assert _problem(calculate, expression) == said


def test_each_bound_is_where_it_is_said_to_be():
    assert calculate("1" + " " * (MAX_LENGTH - 1)) == 1
    assert _problem(calculate, "1" + " " * MAX_LENGTH) == f"the expression is longer than {MAX_LENGTH} characters"
    for opening, closing in (("(", ")"), ("-", ""), ("2*3+5*(", ")"), ("1**", "")):
        assert calculate(opening * MAX_DEPTH + "1" + closing * MAX_DEPTH)
        deeper = opening * (MAX_DEPTH + 1) + "1" + closing * (MAX_DEPTH + 1)
        assert _problem(calculate, deeper) == f"nested more than {MAX_DEPTH} deep"
    most = 10**MAX_DIGITS - 1
    assert calculate(f"{most}") == calculate(f"{most - 1}+1") == most
    for text in (f"{most}+1", f"{most}0", f"1/({most}*2)", "9**9**9**9", f"10**{MAX_DIGITS}", f"10**-{MAX_DIGITS}"):
        assert _problem(calculate, text) == f"a number has more than {MAX_DIGITS} digits"


# --- any text whatever


def test_any_text_gives_a_number_or_a_calculation_error_in_less_than_a_tenth_of_a_second():
    count = values = 0

    def outcome(text):
        nonlocal values
        try:
            said = number_text(calculate(text))
            values += 1
        except CalculationError as error:
            said = str(error)
        assert len(said.splitlines()) == 1

    @THOROUGH
    @given(words, words, trees, trees, st.sampled_from(GIANTS), st.integers(0, 2**32))
    def check(word, other, tree, tree_too, giant, seed):
        nonlocal count
        for text in variants(random.Random(seed), [word, other, tree, tree_too, giant]):
            assert cpu_seconds(lambda text=text: outcome(text)) < 0.1, ascii(text[:200])
            count += 1

    check()
    assert count >= 100_000
    assert values > 10_000
