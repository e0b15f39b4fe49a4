"""Which example goes into which row: nothing too long, nothing lost, no worse filled than by taking them as they come.

The references are next-fit, written out here, and a count of the rows that can still be open.

Run: python -m pytest tests/data/test_packing_order.py
"""

import math
import random
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adaptbench.data.packing import IGNORED, OPEN_ROWS, Example, Packed, document, pack
from tests.support.project import PROJECT

THOROUGH = settings(
    max_examples=300, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
DISTRIBUTIONS = {
    "all short": lambda rng: rng.randrange(1, 20),
    "evenly": lambda rng: rng.randrange(1, 129),
    "halves": lambda rng: rng.randrange(55, 75),
    "many small, few long": lambda rng: min(128, int(rng.lognormvariate(3, 1)) + 1),
    "whole rows": lambda rng: rng.choice((128, 127, 1)),
}


def _examples(sizes):
    """Examples that can be told apart; every third with a branch, whose tokens count for the row as well."""
    made = []
    for number, size in enumerate(sizes):
        rest = size // 3 if number % 3 == 0 else 0
        ids = [number] * (size - rest)
        branches = ((1, Example([number] * rest, [IGNORED] * rest)),) if rest else ()
        made.append(Example(ids, [IGNORED] * len(ids), branches))
    return made


def _size(row) -> int:
    return sum(len(part.input_ids) for example in row for part in (example, *(rest for _, rest in example.branches)))


def _numbers(row) -> list[int]:
    return [example.input_ids[0] for example in row]


def _next_fit(sizes, length) -> int:
    """How many rows it takes to begin a new one whenever the next example does not fit."""
    rows, room = 0, 0
    for size in sizes:
        if size > room:
            rows, room = rows + 1, length
        room -= size
    return rows


@THOROUGH
@given(st.lists(st.integers(1, 30), max_size=120), st.randoms(use_true_random=False))
def test_no_row_is_too_long_and_every_example_is_in_one_of_them(sizes, rng):
    examples, order = _examples(sizes), list(range(len(sizes)))
    rng.shuffle(order)
    rows = pack(examples, 30, order)
    assert all(1 <= _size(row) <= 30 for row in rows)
    assert sorted(number for row in rows for number in _numbers(row)) == sorted(order)
    assert all(example is examples[example.input_ids[0]] for row in rows for example in row), "taken as they are"
    place = {number: i for i, number in enumerate(order)}
    for row in rows:
        places = [place[number] for number in _numbers(row)]
        assert places == sorted(places), "within a row, the given order"
    firsts = [place[_numbers(row)[0]] for row in rows]
    assert firsts == sorted(firsts), "rows stand in the order in which they were begun"


@pytest.mark.parametrize("smallest", [1, 8, 14])
@pytest.mark.parametrize("seed", range(10))
def test_an_example_begins_a_row_only_where_no_open_row_has_room(smallest, seed):
    """Replayed: with what was in the rows when it came, and which of them can have been open."""
    rng = random.Random(seed)
    sizes = [rng.randrange(smallest, 31) for _ in range(300)]
    closed = 0
    rows = pack(_examples(sizes), 30, range(len(sizes)))
    row_of = {number: i for i, row in enumerate(rows) for number in _numbers(row)}
    filled: list[int] = []
    still: set[int] = set()  # rows that are open, by the rule as it is told: the fullest closes when there are too many
    for number, size in enumerate(sizes):
        chosen = row_of[number]
        fitting = {row for row in still if filled[row] + size <= 30}
        if chosen == len(filled):
            assert not fitting, "an open row had room"
            filled.append(0)
            still.add(chosen)
        else:
            assert chosen in fitting
            assert filled[chosen] == max(filled[row] for row in fitting), "not the fullest"
        filled[chosen] += size
        if filled[chosen] == 30:
            still.discard(chosen)
        if len(still) > OPEN_ROWS:
            fullest = max(filled[row] for row in still)
            assert fullest < 30
            still.discard(min(row for row in still if filled[row] == fullest))
            closed += 1
    assert closed or smallest == 1, "never too many rows at a time"


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_it_fills_rows_no_worse_than_next_fit_and_near_the_least_possible(name):
    for seed in range(5):
        rng = random.Random(seed)
        sizes = [DISTRIBUTIONS[name](rng) for _ in range(1500)]
        rows = pack(_examples(sizes), 128, range(len(sizes)))
        least = math.ceil(sum(sizes) / 128)
        assert least <= len(rows) <= _next_fit(sizes, 128)
        if name in ("all short", "many small, few long", "whole rows"):
            # Where small ones can fill the gaps, only rows still open at the end are left with any.
            assert len(rows) <= least * 1.01 + OPEN_ROWS


def test_next_fit_would_be_worse_so_that_the_comparison_says_something():
    rng = random.Random(0)
    sizes = [DISTRIBUTIONS["evenly"](rng) for _ in range(1500)]
    rows = pack(_examples(sizes), 128, range(len(sizes)))
    assert len(rows) < 0.9 * _next_fit(sizes, 128)


def test_the_fullest_of_one_row_too_many_is_closed():
    """What comes later does not go back to it, so that rows stay near the given order."""
    big = [29 - i % 8 for i in range(OPEN_ROWS)]  # 29 to 22 tokens, twice: no two fit into a row of 30
    rows = pack(_examples([*big, 28, 1, 1]), 30, range(OPEN_ROWS + 3))
    # After the 17th example the first row of 29 tokens is closed and gets no more; the ones go to the fullest that is
    # open.
    assert _numbers(rows[0]) == [0]
    assert _numbers(rows[8]) == [8, OPEN_ROWS + 1]
    assert _size(next(row for row in rows if OPEN_ROWS + 2 in _numbers(row))) == 29


def test_the_rows_depend_on_the_order_alone():
    rng = random.Random(3)
    sizes = [rng.randrange(1, 129) for _ in range(400)]
    order = list(range(400))
    rng.shuffle(order)
    rows = [_numbers(row) for row in pack(_examples(sizes), 128, order)]
    assert [_numbers(row) for row in pack(_examples(sizes), 128, list(order))] == rows
    assert [_numbers(row) for row in pack(_examples(sizes), 128, order[::-1])] != rows


def test_an_epoch_is_the_same_in_another_process():
    """What resuming needs: no order of a set or a dictionary of another process."""
    code = (
        "from adaptbench.data.packing import Packed, document;"
        "packed = Packed([document([i] * (2 + i * 7 % 60)) for i in range(150)], 64, 5);"
        "print([[example.input_ids[0] for example in row] for row in packed.epoch(1)])"
    )
    packed = Packed([document([i] * (2 + i * 7 % 60)) for i in range(150)], 64, 5)
    here = [[example.input_ids[0] for example in row] for row in packed.epoch(1)]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True, timeout=120,
        env={"PYTHONHASHSEED": "77", "PYTHONPATH": str(PROJECT)},
    )  # fmt: skip
    assert done.stdout.strip() == str(here)


@pytest.mark.parametrize("count", [1, OPEN_ROWS, OPEN_ROWS + 1, 100])
def test_examples_as_long_as_a_row_have_one_each(count):
    rows = pack(_examples([30] * count), 30, range(count))
    assert [_numbers(row) for row in rows] == [[number] for number in range(count)]


def test_no_examples_are_no_rows():
    assert pack([], 30, []) == []
    assert pack(_examples([4, 5]), 30, []) == []
