"""On simulated answers intervals cover the truth and tests keep their level, as far as so few seeds allow.

The kept table (results/reference/statistics) has more settings and simulations: `make calibration`.

Run: python -m pytest tests/tools/test_calibration.py
"""

import pytest

from adaptbench.statistics import comparisons
from tools import calibration

SIMULATIONS = 600
ERROR = 3 * (0.05 * 0.95 / SIMULATIONS) ** 0.5  # three standard errors of a share that is 5 %


def test_one_seed_is_exact_within_monte_carlo_error():
    """McNemar's exact test rejects a little less than 5 %, because answers can only be counted in whole numbers."""
    found = calibration.simulate(1, 200, 0.0, SIMULATIONS)
    assert abs(found["covered"] - 0.95) < ERROR
    assert 0.02 < found["rejected"] < 0.05 + ERROR


@pytest.mark.parametrize("seed_sd", [0.0, 0.3, 1.0])
def test_three_seeds_keep_their_level_whatever_they_differ_by(seed_sd):
    """Never above it by more than Satterthwaite's approximation errs (7 %); cautious where the seeds do not differ."""
    found = calibration.simulate(3, 100, seed_sd, SIMULATIONS)
    assert found["rejected"] < 0.07 + ERROR
    assert found["covered"] > 0.93 - ERROR


def test_a_bootstrap_over_three_seeds_does_not():
    found = calibration.simulate(3, 100, 1.0, 300)
    assert found["bootstrap_rejected"] > 0.15
    assert found["bootstrap_covered"] < 0.85


def test_power_grows_with_documents_and_seeds():
    few, more = (calibration.simulate(1, documents, 0.0, 200)["found"] for documents in (50, 400))
    assert few + 0.3 < more
    few, more = (calibration.simulate(seeds, 100, 0.1, 200)["found"] for seeds in (3, 10))
    assert few + 0.15 < more


def test_a_table_of_one_seed_has_a_wrong_verdict_in_one_of_twenty():
    found = calibration.simulate_family(1, 0.0, 100)
    assert found["any"] < 0.05 + 3 * (0.05 * 0.95 / 100) ** 0.5
    assert found["found"] > 0.15


@pytest.mark.parametrize("uneven", [False, True])
def test_seeds_that_agree_by_chance_are_not_taken_for_knowledge(monkeypatch, uneven):
    """The table's other comparisons say how much seeds differ; without them this setting has three times as many wrong
    verdicts.
    """
    found = calibration.simulate_family(3, 0.3, 80, uneven=uneven)["any"]
    assert found < 0.05 + 3 * (0.05 * 0.95 / 80) ** 0.5
    monkeypatch.setattr(comparisons, "variance_prior", lambda *_: None)
    assert calibration.simulate_family(3, 0.3, 80, uneven=uneven)["any"] > (found if uneven else 3 * max(found, 0.03))
