"""Is one run better than another, on the same documents?

Right and wrong under one seed: McNemar's exact test. Everything else: Student's test on the mean paired difference over seeds
and documents. Many comparisons of one table are corrected after Holm. The detectable effect is the smallest true difference
that the test would have found four times in five: without it, "no difference" says nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from adaptbench.statistics.answers import Answers
from adaptbench.statistics.intervals import error_of_mean, grouped, linearised

LEVEL = 0.05
POWER = 0.8
FEWEST_DOCUMENTS = 20
RELEVANT = 0.1
"""A tie says that a difference of a tenth (of the scale for shares, else of the baseline's mean) would have been seen."""

Verdict = Literal["better", "worse", "tie", "untestable"]


@dataclass(frozen=True)
class Comparison:
    """Ours less theirs: the mean difference with its 95 % interval, the p-value of no difference, the effect detectable.

    `too_few` says why the test cannot be trusted, empty where it can.
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
        """What the corrected `p` says; `relevant` is the difference that a tie rules out."""
        if self.too_few:
            return "untestable"
        if p < LEVEL:
            return "better" if (self.effect > 0) == higher_is_better else "worse"
        return "tie" if self.detectable <= relevant else "untestable"


def compare(differences: Answers, comparisons: int = 1) -> Comparison:
    """Test the paired `differences`; `comparisons` is how many the table makes, for the detectable effect."""
    import numpy as np
    from scipy import stats

    values, weights = differences.values, differences.weights
    mean, effects = linearised(
        [values * weights, np.broadcast_to(weights, values.shape)], lambda total, weight: total / weight
    )
    together = grouped(effects, differences.groups)
    seeds, clusters = together.shape
    error, freedom = error_of_mean(together)
    reach = float(stats.t.ppf(1 - LEVEL / 2, freedom)) * error
    level = LEVEL / comparisons
    detectable = float(stats.t.ppf(1 - level / 2, freedom) + stats.t.ppf(POWER, freedom)) * error
    of_rights = bool(np.isin(values, (-1, 0, 1)).all())
    if of_rights:
        # So many documents must change, all one way, before McNemar's test rejects at all.
        detectable = max(detectable, math.ceil(math.log2(2 / level)) / clusters)
    if of_rights and seeds == 1 and clusters == values.shape[1]:
        p, test = _mcnemar(values[0]), "McNemar, exact"
    elif error == 0:
        p, test = (1.0 if mean == 0 else 2.0 ** (1 - clusters)), "paired t"
    else:
        p, test = float(2 * stats.t.sf(abs(mean) / error, freedom)), "paired t"
    too_few = ""
    if clusters < FEWEST_DOCUMENTS:
        too_few = f"fewer than {FEWEST_DOCUMENTS} documents"
    elif seeds == 2:
        too_few = "2 seeds"  # of which the test rejects too often: one would have to believe in their spread
    return Comparison(mean, mean - reach, mean + reach, p, detectable, test, seeds, values.shape[1], too_few)


def family(differences: Sequence[Answers]) -> list[tuple[Comparison, float]]:
    """Each of the paired `differences` compared, with its p-value corrected (Holm) over all of them."""
    found = [compare(one, len(differences)) for one in differences]
    return list(zip(found, holm([one.p for one in found]), strict=True))


def _mcnemar(differences) -> float:
    from statsmodels.stats.contingency_tables import mcnemar

    more, less = int((differences > 0).sum()), int((differences < 0).sum())
    return float(mcnemar([[0, more], [less, 0]], exact=True).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number, in the same order (Holm, 1979)."""
    from statsmodels.stats.multitest import multipletests

    return [float(p) for p in multipletests(p_values, method="holm")[1]] if len(p_values) else []
