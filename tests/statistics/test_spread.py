"""How much seeds usually differ, learned from many comparisons of few seeds.

Run: python -m pytest tests/statistics/test_spread.py
"""

import math

import numpy as np
import pytest

from adaptbench.statistics import Answers, compare, family
from adaptbench.statistics.variance import VariancePrior, variance_prior


@pytest.mark.parametrize("freedom", [2, 4])
def test_place_and_freedom_are_those_that_the_mean_squares_were_drawn_with(freedom):
    """Own values 1 / (chi-squared of d0 / (d0 s0)), their estimates scaled chi-squares around them."""
    rng = np.random.default_rng(0)
    d0, s0 = 6.0, 0.3
    own = s0 * d0 / rng.chisquare(d0, 40_000)
    found = variance_prior((own * rng.chisquare(freedom, own.size) / freedom).tolist(), [float(freedom)] * own.size)
    assert found is not None
    assert found.degrees_of_freedom == pytest.approx(d0, rel=0.1)
    assert found.mean_square == pytest.approx(s0, rel=0.03)


def test_where_all_have_one_spread_it_is_all_that_counts():
    even = variance_prior([1.0, 1.1, 0.9], [2.0] * 3)
    assert even is not None
    assert math.isinf(even.degrees_of_freedom)
    assert even.posterior(1e-9, 2.0) == (even.mean_square, 6.0)


def test_a_mean_square_is_drawn_by_the_freedom_of_both():
    assert VariancePrior(0.4, 6.0, 100.0).posterior(0.1, 2.0) == pytest.approx(((6 * 0.4 + 2 * 0.1) / 8, 8.0))
    assert VariancePrior(0.4, 6.0, 4.0).posterior(0.1, 2.0)[1] == 4.0  # never worth more than what it was learned from


@pytest.mark.parametrize("squares", [[], [0.3], [0.0, 0.0, 0.2]])
def test_there_is_nothing_to_learn_from_one_or_from_seeds_that_do_not_differ(squares):
    assert variance_prior(squares, [2.0] * len(squares)) is None


def test_seeds_that_agree_to_the_last_answer_have_a_place_too():
    found = variance_prior([0.0, 0.2, 0.4, 0.3], [2.0] * 4)
    assert found is not None
    assert math.isfinite(found.mean_square)


def _answers(rng, spread, *, gain=0.05, task="t", metric="m", seeds=3):
    seed_sd = rng.normal(0, spread, (seeds, 1))
    values = rng.normal(gain, 1, (seeds, 400)) + seed_sd - seed_sd.mean()
    return Answers(values, np.ones(400), np.arange(400), "r", task, metric, tuple(range(seeds)))


def test_a_table_only_makes_its_comparisons_more_careful():
    rng = np.random.default_rng(2)
    table = [_answers(rng, spread, gain=0.15) for spread in (0.0, 0.3, 0.3, 1.0, 0.3)]
    for one, (together, _) in zip(table, family(table), strict=True):
        alone = compare(one, len(table))
        assert together.effect == alone.effect
        assert together.p >= alone.p
        assert together.low <= alone.low
        assert together.high >= alone.high
        assert together.detectable >= alone.detectable
    calm = family(table)[0][0]
    assert calm.p > 2 * compare(table[0], len(table)).p  # its seeds happen to agree, and others of the table do not


def test_other_tasks_metrics_and_single_seeds_teach_nothing():
    rng = np.random.default_rng(3)
    mine = _answers(rng, 0.0)
    others = [_answers(rng, 2.0, task="u"), _answers(rng, 2.0, metric="n"), _answers(rng, 0.0, seeds=1)]
    alone = compare(mine, 4)
    assert family([mine, *others])[0][0] == alone
