"""Paired tests, their correction and what they could have seen, against scipy's, statsmodels' and plain formulas.

Run: python -m pytest tests/statistics/test_comparisons.py
"""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from adaptbench.statistics import Answers, compare, comparisons, holm, mean_interval, paired
from adaptbench.statistics.comparisons import Comparison


def _differences(values, groups=None):
    values = np.atleast_2d(np.asarray(values, float))
    documents = values.shape[1]
    return Answers(values, np.ones(documents), np.arange(documents) if groups is None else np.asarray(groups))


def _flips(more, less, same):
    return _differences([1] * more + [-1] * less + [0] * same)


@pytest.mark.parametrize(("more", "less"), [(0, 0), (1, 0), (5, 0), (6, 0), (9, 2), (20, 30), (3, 3)])
def test_right_and_wrong_under_one_seed_is_mcnemars_exact_test(more, less):
    found = compare(_flips(more, less, 100))
    wanted = stats.binomtest(more, more + less, 0.5).pvalue if more + less else 1.0
    assert found.p == pytest.approx(wanted, abs=1e-12)
    assert found.test == "McNemar, exact"
    assert found.effect == pytest.approx((more - less) / (more + less + 100))


def test_other_values_under_one_seed_are_students_paired_test():
    before, after = np.random.default_rng(0).normal(size=(2, 40))
    found = compare(_differences(after - before))
    wanted = stats.ttest_rel(after, before)
    assert found.p == pytest.approx(wanted.pvalue, rel=1e-9)
    assert (found.low, found.high) == pytest.approx(tuple(wanted.confidence_interval()), rel=1e-9)


def test_where_documents_do_not_matter_it_is_students_test_on_the_seeds():
    values = np.repeat([[0.1], [0.3], [0.2]], 50, axis=1)
    assert compare(_differences(values)).p == pytest.approx(stats.ttest_1samp([0.1, 0.3, 0.2], 0).pvalue, rel=1e-6)


def test_a_difference_of_shares_is_no_more_than_one():
    """Three seeds that disagree make a wide interval; what no share can be is none of it."""
    right = np.array([[1.0] * 30, [1.0] * 24 + [0.0] * 6, [1.0] * 26 + [0.0] * 4])
    wrong = np.array([[0.0] * 29 + [1.0]])
    ours, theirs = replace(_differences(right), seeds=(0, 1, 2)), _differences(wrong)
    differences = paired(ours, theirs)
    found = compare(differences)
    assert found.effect == pytest.approx(77 / 90)
    assert 0.5 < found.low < found.effect < found.high == 1.0
    assert mean_interval(differences, share=False).high == 1.0
    other = compare(paired(theirs, ours))
    assert (other.low, other.high) == (-1.0, pytest.approx(-found.low))
    # Of anything else no such thing is known.
    doubled = compare(paired(replace(ours, values=2 * right), replace(theirs, values=2 * wrong)))
    assert doubled.high > 2.0
    assert doubled.p == pytest.approx(found.p)


def test_grouped_documents_count_as_one():
    values = np.random.default_rng(1).normal(0.3, 1, 30)
    copies = compare(_differences(np.repeat(values, 4), np.repeat(np.arange(30), 4)))
    assert copies.p == pytest.approx(compare(_differences(values)).p, rel=1e-9)


def test_every_document_changed_under_every_seed_is_no_chance():
    found = compare(_differences(np.ones((3, 60))))
    assert found.p < 1e-12
    assert compare(_differences(np.zeros((3, 60)))).p == 1.0


def test_the_detectable_effect_is_seen_four_times_in_five():
    rng = np.random.default_rng(2)
    detectable = compare(_differences(rng.normal(size=(1, 200)))).detectable
    seen = np.mean([compare(_differences(rng.normal(detectable, 1, (1, 200)))).p < 0.05 for _ in range(400)])
    assert 0.72 < seen < 0.88


@pytest.mark.parametrize(
    ("level", "freedom"), [(0.05, 2.0), (0.05 / 18, 2.0), (0.05 / 18, 3.7), (0.05, 40.0), (0.01, 5000.0)]
)
def test_with_few_degrees_of_freedom_too(level, freedom):
    """Against drawn t statistics of that true difference."""
    rng = np.random.default_rng(5)
    difference = comparisons._detectable(level, freedom)
    t = (rng.normal(size=400_000) + difference) / np.sqrt(rng.chisquare(freedom, 400_000) / freedom)
    edge = stats.t.ppf(1 - level / 2, freedom)
    assert np.mean(np.abs(t) > edge) == pytest.approx(0.8, abs=0.004)


def test_the_detectable_effect_knows_how_many_comparisons_there_are():
    values = _differences(np.random.default_rng(3).normal(size=(3, 100)))
    assert compare(values, 20).detectable > 1.2 * compare(values, 1).detectable


def test_identical_answers_do_not_promise_that_any_change_would_be_seen():
    """With 100 documents six must change one way before McNemar's p is below 0.05: 2 / 2**6 = 0.03."""
    assert compare(_flips(0, 0, 100)).detectable == pytest.approx(0.06)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        pytest.param(np.ones((3, 19)), "fewer than 20 documents", id="documents"),
        pytest.param(np.ones((2, 100)), "2 seeds", id="seeds"),
        pytest.param(np.ones((3, 20)), "", id="enough"),
        pytest.param(np.ones((1, 20)), "", id="one-seed"),
    ],
)
def test_too_few_seeds_or_documents_are_untestable_whatever_p_is(values, why):
    found = compare(_differences(values))
    assert found.too_few == why
    assert found.verdict(0.0, True, 0.1) == ("untestable" if why else "better")


@pytest.mark.parametrize(
    ("effect", "p", "detectable", "higher", "verdict"),
    [
        (0.2, 0.01, 0.1, True, "better"),
        (0.2, 0.01, 0.1, False, "worse"),
        (-0.2, 0.01, 0.1, True, "worse"),
        (-0.2, 0.01, 9.0, False, "better"),
        (0.05, 0.05, 9.0, True, "tie"),
        (0.06, 0.9, 0.0, True, "untestable"),
    ],
)
def test_a_tie_is_claimed_only_where_the_interval_rules_a_relevant_difference_out(
    effect, p, detectable, higher, verdict
):
    found = Comparison(effect, effect - 0.045, effect + 0.045, p, detectable, "paired t", 3, 100)
    assert found.verdict(p, higher, 0.1) == verdict


def test_holm_multiplies_the_smallest_most_and_keeps_the_order():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []
