"""Intervals of means over seeds and documents: equal to textbook formulas, and to plain loops on odd shapes.

How often they cover the truth is in test_calibration.py.

Run: python -m pytest tests/statistics/test_intervals.py
"""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from adaptbench.errors import AdaptbenchError
from adaptbench.statistics import answers, interval, interval_of_sums, paired
from adaptbench.statistics.intervals import error_of_mean, grouped


def _values(seeds=3, documents=50, seed=0):
    return np.random.default_rng(seed).normal(size=(seeds, documents))


def test_with_one_seed_it_is_students_interval_of_a_mean():
    values = _values(1, 37)
    found = interval(values)
    wanted = stats.t.interval(0.95, 36, loc=values.mean(), scale=stats.sem(values[0]))
    assert (found.low, found.high) == pytest.approx(wanted, abs=1e-12)
    assert found.standard_error == pytest.approx(stats.sem(values[0]), abs=1e-12)
    assert (found.seeds, found.documents) == (1, 37)


@pytest.mark.parametrize(("seeds", "documents"), [(2, 3), (3, 50), (7, 5)])
def test_the_error_is_that_of_a_two_way_layout(seeds, documents):
    """Mean squares by plain loops; both sources here vary more than the rest, so that nothing is cut off."""
    rng = np.random.default_rng(seeds)
    values = rng.normal(size=(seeds, 1)) * 9 + rng.normal(size=(1, documents)) * 9 + rng.normal(size=(seeds, documents))
    mean = sum(values.flatten().tolist()) / values.size
    rows = [sum(row) / documents for row in values.tolist()]
    columns = [sum(column) / seeds for column in values.T.tolist()]
    of_seeds = documents * sum((row - mean) ** 2 for row in rows) / (seeds - 1)
    of_documents = seeds * sum((column - mean) ** 2 for column in columns) / (documents - 1)
    places = itertools.product(range(seeds), range(documents))
    rest = sum((values[s, d] - rows[s] - columns[d] + mean) ** 2 for s, d in places) / ((seeds - 1) * (documents - 1))
    whole = of_seeds + of_documents - rest
    freedom = whole**2 / (
        of_seeds**2 / (seeds - 1) + of_documents**2 / (documents - 1) + rest**2 / (seeds - 1) / (documents - 1)
    )
    assert error_of_mean(values) == pytest.approx((math.sqrt(whole / values.size), max(freedom, seeds - 1)), rel=1e-9)


def test_seeds_that_agree_are_as_sure_as_one_and_not_more():
    """The seeds answer the same documents: three equal rows are not three tests."""
    values = _values(1)
    assert error_of_mean(np.repeat(values, 3, axis=0))[0] == pytest.approx(error_of_mean(values)[0], rel=1e-9)


def test_documents_that_agree_leave_the_seeds_spread():
    values = np.repeat(np.array([[0.0], [1.0], [2.0]]), 30, axis=1)
    found = interval(values - 1)
    wanted = stats.t.interval(0.95, 2, loc=0, scale=1 / math.sqrt(3))
    assert (found.low, found.high) == pytest.approx(wanted, rel=1e-9)


def test_a_source_that_seems_to_vary_less_than_chance_takes_nothing_from_the_other():
    """Two seeds that err in opposite directions: their means agree better than chance allows."""
    rest = _values(1, 40)[0]
    values = np.stack([rest, -rest]) + _values(1, 40, seed=1)
    assert error_of_mean(values)[0] >= values.mean(axis=0).std(ddof=1) / math.sqrt(40) * 0.999


def test_the_weighted_mean_is_the_ratio_of_sums():
    """Bits per byte: bits of all documents over bytes of all documents, here with sizes from 1 to 1000."""
    rng = np.random.default_rng(1)
    size = rng.integers(1, 1000, 40).astype(float)
    bits = rng.uniform(0, 8, (3, 40)) * size
    found = interval(bits / size, size)
    ratios = [sum(bits[s].tolist()) / sum(size.tolist()) for s in range(3)]
    assert found.mean == pytest.approx(sum(ratios) / 3, abs=1e-12)
    assert abs(found.mean - (bits / size).mean()) > 1e-3, "an unweighted mean would pass"
    assert found.low < found.mean < found.high


def test_the_error_of_a_ratio_is_that_of_its_linear_part():
    """One seed: the survey sampler's formula, written out."""
    rng = np.random.default_rng(2)
    size, value = rng.uniform(1, 9, 60), rng.uniform(1, 5, 60)
    ratio = (value * size).sum() / size.sum()
    wanted = math.sqrt(60 / 59 * sum((size * (value - ratio)) ** 2)) / size.sum()
    assert interval(value[None], size).standard_error == pytest.approx(wanted, rel=1e-6)


def test_an_f_score_has_the_error_that_leaving_documents_out_gives():
    """The jackknife, another way to the same first order."""
    rng = np.random.default_rng(3)
    hit, said, there = (rng.integers(0, 4, (1, 200)).astype(float) for _ in range(3))

    def f_score(hit, said, there):
        return 2 * hit / (said + there)

    found = interval_of_sums([hit, said, there], f_score)
    left_out = [f_score(*(np.delete(one[0], d).sum() for one in (hit, said, there))) for d in range(200)]
    jackknife = math.sqrt(199 / 200 * ((np.array(left_out) - np.mean(left_out)) ** 2).sum())
    assert found.mean == pytest.approx(f_score(hit.sum(), said.sum(), there.sum()), abs=1e-12)
    assert found.standard_error == pytest.approx(jackknife, rel=0.02)


def test_nothing_to_count_is_no_number():
    nothing = np.zeros((2, 5))
    found = interval_of_sums([nothing, nothing], lambda a, b: a / b)
    assert math.isnan(found.mean)
    assert math.isnan(found.low)


def test_documents_of_a_group_count_as_one():
    """Each document five times over is no more than once; and groups of many sizes leave the mean as it is."""
    values = _values(3, 20)
    once, copies = interval(values), interval(np.repeat(values, 5, axis=1), groups=np.repeat(np.arange(20), 5))
    assert (copies.mean, copies.low, copies.high) == pytest.approx((once.mean, once.low, once.high), rel=1e-9)
    sizes = np.repeat(np.arange(6), [1, 2, 3, 4, 5, 5])
    assert grouped(values, sizes).mean() == pytest.approx(values.mean(), abs=1e-12)
    assert grouped(values, sizes).shape == (3, 6)


def test_rights_of_one_seed_have_wilsons_interval_nearly():
    """Student's quantile for the normal one, and n - 1 for n, are all that differs."""
    values = (np.arange(400) < 300).astype(float)[None]
    found = interval(values)
    assert (found.low, found.high) == pytest.approx(proportion_confint(300, 400, method="wilson"), abs=1e-3)


@pytest.mark.parametrize("documents", [7, 100, 123])
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_all_right_or_all_wrong_is_no_certainty(share, documents):
    found = interval(np.full((3, documents), share))
    wanted = proportion_confint(documents * share, documents, method="wilson")
    assert (found.low, found.high) == pytest.approx(wanted, abs=1e-12)
    assert found.high - found.low > 0.03
    assert found.low <= found.mean <= found.high


def test_a_count_that_is_never_one_is_no_share_of_rights():
    found = interval(np.zeros((3, 100)), share=False)
    assert (found.low, found.high) == (0.0, 0.0)


def test_shares_stay_within_0_and_1_and_times_above_0():
    rng = np.random.default_rng(0)
    rights = (rng.random((3, 30)) < np.array([[0.99], [0.9], [0.7]])).astype(float)
    assert 0 <= interval(rights).low <= interval(rights).high <= 1
    times = np.array([[0.1], [0.2], [9.0]]) * rng.uniform(0.9, 1.1, (3, 30))
    assert interval(times).low == 0.0
    assert interval(times - 5).low < 0


def test_degrees_of_agreement_stay_within_one_and_times_do_not():
    overlaps = np.array([[1.0] * 10, [1.0] * 9 + [0.2], [1.0] * 5 + [0.5] * 5])
    found = interval(overlaps)
    assert found.high == 1.0 > found.mean
    assert interval(overlaps * 1.5).high > 1.5


def test_a_higher_level_is_wider():
    values = _values()
    narrow, wide = interval(values, level=0.5), interval(values, level=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


def _samples(run="full"):
    return pd.DataFrame(
        [
            {"run": run, "task": "facts", "metric": "acc", "seed": seed, "document": document, "group": 7 * document,
             "document_hash": f"h{document}", "prompt_hash": f"p{document}", "value": 10.0 * seed + document,
             "weight": w}
            for seed in (1, 0)
            for document, w in ((2, 5.0), (0, 3.0), (1, 4.0))
        ]
    )  # fmt: skip


def test_answers_are_seeds_by_documents_with_each_documents_weight_and_group():
    found = answers(_samples())
    assert found.values.tolist() == [[0.0, 1.0, 2.0], [10.0, 11.0, 12.0]]
    assert found.weights.tolist() == [3.0, 4.0, 5.0]
    assert found.groups.tolist() == [0, 7, 14]
    assert (found.run, found.task, found.seeds) == ("full", "facts", (0, 1))
    assert found.questions == ((0, "h0", "p0"), (1, "h1", "p1"), (2, "h2", "p2"))


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda t: t.drop(index=1), id="missing"),
        pytest.param(lambda t: t.assign(document_hash=["other", *t["document_hash"][1:]]), id="other-hash"),
        pytest.param(lambda t: t.assign(prompt_hash=["other", *t["prompt_hash"][1:]]), id="other-prompt"),
        pytest.param(lambda t: t.assign(value=[float("nan"), *t["value"][1:]]), id="no-value"),
        pytest.param(lambda t: pd.concat([t, t.iloc[:1]]), id="twice"),
        pytest.param(lambda t: pd.concat([t.iloc[1:], t.iloc[1:2]]), id="one-twice-one-missing"),
    ],
)
def test_seeds_that_did_not_answer_the_same_documents_are_refused(spoil):
    with pytest.raises(AdaptbenchError, match="full, facts: the seeds did not answer the same documents"):
        answers(spoil(_samples()))


def test_pairs_are_differences_of_the_same_document_and_seed():
    ours, theirs = answers(_samples()), answers(_samples("other").assign(value=lambda t: 2 * t["value"]))
    assert paired(ours, theirs).values.tolist() == [[-0.0, -1.0, -2.0], [-10.0, -11.0, -12.0]]


def test_a_run_of_one_seed_is_held_against_every_seed():
    one = answers(_samples("base").query("seed == 1"))
    found = paired(answers(_samples()), one)
    assert found.values.tolist() == [[-10.0] * 3, [0.0] * 3]
    assert found.seeds == (0, 1)


def test_only_common_seeds_are_paired():
    more = pd.concat([_samples("other"), _samples("other").query("seed == 1").assign(seed=5)])
    found = paired(answers(more), answers(_samples()))
    assert (found.seeds, found.values.shape) == ((0, 1), (2, 3))
    apart = _samples("other").assign(seed=lambda t: t["seed"] + 10)
    with pytest.raises(AdaptbenchError, match="facts: other and full have no seed in common"):
        paired(answers(apart), answers(_samples()))


@pytest.mark.parametrize("column", ["document_hash", "prompt_hash"])
def test_other_documents_are_never_paired(column):
    other = _samples("other").assign(**{column: lambda t: t[column] + "'"})
    with pytest.raises(AdaptbenchError, match="facts: full and other did not answer the same documents"):
        paired(answers(_samples()), answers(other))
