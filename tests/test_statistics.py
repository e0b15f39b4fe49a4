"""The two-level bootstrap: the right mean, intervals that cover what they say, and the same every time.

What is measured: how often the 95 % interval covers the true mean in simulated tests of 200 documents. With chance in the
documents alone it must be 95 % within Monte-Carlo error. Where the seeds differ as well, a bootstrap over a handful of
seeds is too narrow, because drawing n seeds with replacement gives (n - 1) / n of their variance; the tests hold it to the
coverage that this leaves, no less and no more.

Run: python -m pytest tests/test_statistics.py
"""

import math

import numpy as np
import pandas as pd
import pytest

from adaptbench.contracts import AdaptbenchError
from adaptbench.statistics import matrix, two_level_bootstrap

SIMULATIONS = 300


def _values(seeds=3, documents=50, seed=0):
    return np.random.default_rng(seed).normal(size=(seeds, documents))


def test_the_mean_is_the_mean_and_lies_in_its_interval():
    values = _values()
    interval = two_level_bootstrap(values)
    assert interval.mean == pytest.approx(sum(values.flatten().tolist()) / 150, abs=1e-12)
    assert interval.low < interval.mean < interval.high
    assert (interval.seeds, interval.documents) == (3, 50)


def test_the_weighted_mean_is_the_ratio_of_sums():
    """Bits per byte: bits of all documents over bytes of all documents, here with sizes from 1 to 1000."""
    rng = np.random.default_rng(1)
    size = rng.integers(1, 1000, 40).astype(float)
    bits = rng.uniform(0, 8, (3, 40)) * size
    interval = two_level_bootstrap(bits / size, size)
    ratios = [sum(bits[s].tolist()) / sum(size.tolist()) for s in range(3)]
    assert interval.mean == pytest.approx(sum(ratios) / 3, abs=1e-12)
    assert abs(interval.mean - (bits / size).mean()) > 1e-3, "an unweighted mean would pass"
    assert interval.low < interval.mean < interval.high


def test_a_resample_is_a_ratio_of_sums_over_the_same_documents_for_every_seed():
    """One seed, plain loops with another random generator: the interval's ends agree within their own chance."""
    rng = np.random.default_rng(2)
    size = rng.integers(1, 100, 60).astype(float)
    values = rng.normal(size=(1, 60))
    drawn = [rng.integers(0, 60, 60) for _ in range(4000)]
    means = sorted((values[0, d] * size[d]).sum() / size[d].sum() for d in drawn)
    interval = two_level_bootstrap(values, size, resamples=4000)
    spread = means[3900] - means[100]
    assert interval.low == pytest.approx(means[100], abs=0.06 * spread)
    assert interval.high == pytest.approx(means[3900], abs=0.06 * spread)


def test_seeds_that_agree_are_as_sure_as_one_and_not_more():
    """The seeds answer the same documents: three equal rows are not three tests."""
    values = _values(1)
    one = two_level_bootstrap(values)
    three = two_level_bootstrap(np.repeat(values, 3, axis=0))
    assert three.mean == pytest.approx(one.mean, abs=1e-12)
    assert three.high - three.low == pytest.approx(one.high - one.low, rel=0.1)


def test_documents_that_agree_leave_the_seeds_spread():
    """Every document the same, seeds 0, 1 and 2: of 27 draws, (0,0,0) and (2,2,2) are 1 each, more than 2.5 % of all."""
    values = np.repeat(np.array([[0.0], [1.0], [2.0]]), 30, axis=1)
    interval = two_level_bootstrap(values)
    assert (interval.low, interval.mean, interval.high) == pytest.approx((0.0, 1.0, 2.0))


def test_a_higher_level_is_wider_and_the_interval_is_the_same_every_time():
    values = _values()
    assert two_level_bootstrap(values) == two_level_bootstrap(values.copy())
    assert two_level_bootstrap(values, seed=1) != two_level_bootstrap(values)
    narrow, wide = two_level_bootstrap(values, level=0.5), two_level_bootstrap(values, level=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


def _coverage(seeds, *, seed_spread, documents=200):
    """How often the interval covers the true mean 0 of scores that are a seed's effect plus a document's."""
    rng = np.random.default_rng(seeds)
    covered = 0
    for _ in range(SIMULATIONS):
        of_seed = rng.normal(size=(seeds, 1)) * seed_spread
        values = of_seed + rng.normal(size=(1, documents))
        interval = two_level_bootstrap(values, resamples=300)
        covered += interval.low <= 0 <= interval.high
    return covered / SIMULATIONS


@pytest.mark.parametrize("seeds", [1, 3, 8])
def test_with_chance_in_the_documents_alone_95_percent_of_intervals_cover_the_truth(seeds):
    three_errors = 3 * (0.95 * 0.05 / SIMULATIONS) ** 0.5
    assert abs(_coverage(seeds, seed_spread=0.0) - 0.95) < three_errors


@pytest.mark.parametrize("seeds", [1, 3, 8])
def test_with_seeds_that_differ_the_coverage_is_what_so_few_seeds_allow(seeds):
    """One seed differs from another by as much as a mean over 200 documents does.

    In units of that spread the mean's variance is 1 + 1 / n, the bootstrap's 1 + (n - 1) / n^2: with one seed the seeds'
    part is missing (83 % of intervals cover), with three 94 % do, with eight 95 %.
    """
    variance, bootstrap = 1 + 1 / seeds, 1 + (seeds - 1) / seeds**2
    expected = math.erf(1.96 * (bootstrap / variance) ** 0.5 / 2**0.5)
    three_errors = 3 * (expected * (1 - expected) / SIMULATIONS) ** 0.5
    assert abs(_coverage(seeds, seed_spread=200**-0.5) - expected) < three_errors


def _samples():
    return pd.DataFrame(
        [
            {"run": "full", "task": "facts", "seed": seed, "document": document, "group": 0, "document_hash": f"h{document}", "prompt_hash": f"p{document}", "value": 10.0 * seed + document, "weight": w}
            for seed in (1, 0)
            for document, w in ((2, 5.0), (0, 3.0), (1, 4.0))
        ]
    )  # fmt: skip


def test_the_matrix_is_seeds_by_documents_with_each_documents_weight():
    values, weights, _ = matrix(_samples())
    assert values.tolist() == [[0.0, 1.0, 2.0], [10.0, 11.0, 12.0]]
    assert weights.tolist() == [3.0, 4.0, 5.0]


def test_the_matrix_can_be_of_another_column():
    values, *_ = matrix(_samples().assign(other=lambda t: -t["value"]), "other")
    assert values.tolist() == [[0.0, -1.0, -2.0], [-10.0, -11.0, -12.0]]


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda t: t.drop(index=1), id="missing"),
        pytest.param(lambda t: t.assign(document_hash=["other", *t["document_hash"][1:]]), id="other-hash"),
        pytest.param(lambda t: t.assign(prompt_hash=["other", *t["prompt_hash"][1:]]), id="other-prompt"),
        pytest.param(lambda t: t.assign(value=[float("nan"), *t["value"][1:]]), id="no-value"),
        pytest.param(lambda t: pd.concat([t, t.iloc[:1]]), id="twice"),
    ],
)
def test_seeds_that_did_not_answer_the_same_documents_are_refused(spoil):
    with pytest.raises(AdaptbenchError, match="full, facts: the seeds did not answer the same documents"):
        matrix(spoil(_samples()))
