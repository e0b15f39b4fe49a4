"""Paired tests between two runs on the same documents.

Right and wrong answers of one seed get McNemar's exact test, everything else Student's t test of the mean paired
difference over seeds and documents. The p-values of one table are corrected by Holm's method. A difference must be
significant twice: with the variance between the comparison's own seeds, and with the posterior variance, given the
table's other comparisons of that task (variance.py). The detectable effect is the smallest true difference that the
test finds with a probability of 80 %. Two runs tie only if the interval of their difference excludes every relevant
one; a test that is not significant does not show a tie.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from adaptbench.statistics.answers import Answers
from adaptbench.statistics.intervals import between_seeds, error_of_mean, grouped, linearised
from adaptbench.statistics.variance import VariancePrior, variance_prior

if TYPE_CHECKING:
    import numpy as np

LEVEL = 0.05
POWER = 0.8
FEWEST_DOCUMENTS = 20
RELEVANT = 0.1
"""The smallest relevant difference: a tenth, of the scale for shares, else of the baseline's mean."""

Verdict = Literal["better", "worse", "tie", "untestable"]


@dataclass(frozen=True)
class Comparison:
    """A mean paired difference with its 95 % interval, the p-value of no difference, and the detectable effect.

    `too_few` is the reason why the test cannot be trusted, or empty. Of one document there is no test: all numbers but
    the effect are nan.
    """

    effect: float
    low: float
    high: float
    p: float
    detectable: float
    test: str
    seeds: int
    documents: int
    too_few: str = ""

    def verdict(self, p: float, higher_is_better: bool, relevant: float) -> Verdict:
        """Return the verdict given the corrected `p`; `relevant` is the smallest difference that a tie excludes."""
        if self.too_few:
            return "untestable"
        if p < LEVEL:
            return "better" if (self.effect > 0) == higher_is_better else "worse"
        return "tie" if -relevant < self.low and self.high < relevant else "untestable"


def compare(differences: Answers, comparisons: int = 1, prior: VariancePrior | None = None) -> Comparison:
    """Test the paired `differences`; `comparisons` is the number of tests in the table, for the detectable effect.

    With a `prior`, the test uses both the variance between the seeds and the posterior variance, and returns the larger
    p-value, interval and detectable effect.
    """
    import numpy as np
    from scipy import stats

    mean, together = _by_group(differences)
    seeds, clusters = together.shape
    values = differences.values
    too_few = f"fewer than {FEWEST_DOCUMENTS} documents" if clusters < FEWEST_DOCUMENTS else ""
    if clusters < 2:
        none = dict.fromkeys(("low", "high", "p", "detectable"), math.nan)
        return Comparison(mean, **none, test="none", seeds=seeds, documents=values.shape[1], too_few=too_few)
    errors = [error_of_mean(together)] + ([error_of_mean(together, prior)] if prior and seeds > 1 else [])
    level = LEVEL / comparisons
    half_width = max(float(stats.t.ppf(1 - LEVEL / 2, freedom)) * error for error, freedom in errors)
    detectable = max(_detectable(level, freedom) * error for error, freedom in errors)
    of_rights = bool(np.isin(values, (-1, 0, 1)).all())
    if of_rights:
        # McNemar's test cannot reject if fewer documents than these change, all in one direction.
        detectable = max(detectable, math.ceil(math.log2(2 / level)) / clusters)
    if of_rights and seeds == 1 and clusters == values.shape[1]:
        p, test = _mcnemar(values[0]), "McNemar, exact"
    else:
        p, test = max(_student(mean, error, freedom, clusters) for error, freedom in errors), "paired t"
    if seeds == 2 and not too_few:
        too_few = "2 seeds"  # the test rejects too often: one degree of freedom does not estimate the variance
    low, high = max(mean - half_width, -differences.bound), min(mean + half_width, differences.bound)
    return Comparison(mean, low, high, p, detectable, test, seeds, values.shape[1], too_few)


def _detectable(level: float, degrees_of_freedom: float) -> float:
    """Return the true difference, in standard errors, that a t test finds with probability POWER (noncentral t)."""
    from scipy import special, stats

    critical = float(stats.t.ppf(1 - level / 2, degrees_of_freedom))
    return float(special.nctdtrinc(degrees_of_freedom, 1 - POWER, critical))


def _by_group(differences: Answers) -> "tuple[float, np.ndarray]":
    """Return the weighted mean, and values (seeds, groups) with that mean and its variance."""
    import numpy as np

    values, weights = differences.values, differences.weights
    mean, effects = linearised(
        [values * weights, np.broadcast_to(weights, values.shape)], lambda total, weight: total / weight
    )
    return mean, grouped(effects, differences.groups)


def _student(mean: float, error: float, degrees_of_freedom: float, clusters: int) -> float:
    """Return the two-sided p-value of a t test; without any variance, that of a sign test of the clusters."""
    from scipy import stats

    if error == 0:
        return 1.0 if mean == 0 else 2.0 ** (1 - clusters)
    return float(2 * stats.t.sf(abs(mean) / error, degrees_of_freedom))


def family(differences: Sequence[Answers]) -> list[tuple[Comparison, float]]:
    """Compare each of the paired `differences`; return the comparisons with p-values corrected (Holm) over all of them.

    The comparisons of one task and metric share a prior of the variance between seeds.
    """
    of_task: dict[tuple[str, str], list[np.ndarray]] = {}
    for one in differences:
        if min(one.values.shape) > 1:
            of_task.setdefault((one.task, one.metric), []).append(_by_group(one)[1])
    priors = {
        key: variance_prior(list(map(between_seeds, values)), [len(one) - 1.0 for one in values])
        for key, values in of_task.items()
    }
    found = [compare(one, len(differences), priors.get((one.task, one.metric))) for one in differences]
    return list(zip(found, holm([one.p for one in found]), strict=True))


def _mcnemar(differences) -> float:
    from statsmodels.stats.contingency_tables import mcnemar

    more, less = int((differences > 0).sum()), int((differences < 0).sum())
    return float(mcnemar([[0, more], [less, 0]], exact=True).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (Holm, 1979), in the same order.

    Comparisons that were not tested (nan) stay nan and are not counted.
    """
    from statsmodels.stats.multitest import multipletests

    tested = [p for p in p_values if not math.isnan(p)]
    corrected = iter(multipletests(tested, method="holm")[1] if tested else ())
    return [p if math.isnan(p) else float(next(corrected)) for p in p_values]
