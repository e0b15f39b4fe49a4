"""Is one run better than another, on the same documents?

Right and wrong under one seed: McNemar's exact test. Everything else: Student's test on the mean paired difference over seeds
and documents. Many comparisons of one table are corrected after Holm, and a difference must show twice: against the spread that its
own seeds have, and against one that is drawn towards what is usual among the table's comparisons of that task. The detectable effect is the smallest true difference
that the test would have found four times in five. Two runs are as good as each other only where the interval of their difference
rules out one that matters; no difference found says nothing.
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
"""A tie says that the interval holds no difference of a tenth (of the scale for shares, else of the baseline's mean)."""

Verdict = Literal["better", "worse", "tie", "untestable"]


@dataclass(frozen=True)
class Comparison:
    """Ours less theirs: the mean difference with its 95 % interval, the p-value of no difference, the effect detectable.

    `too_few` says why the test cannot be trusted, empty where it can. Of one document there is no test: all but the effect is nan.
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
        return "tie" if -relevant < self.low and self.high < relevant else "untestable"


def compare(differences: Answers, comparisons: int = 1, usual: VariancePrior | None = None) -> Comparison:
    """Test the paired `differences`; `comparisons` is how many the table makes, for the detectable effect.

    With `usual`, the test is made with the seeds' own spread and with the moderated one, and the more careful answer given.
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
    errors = [error_of_mean(together)] + ([error_of_mean(together, usual)] if usual and seeds > 1 else [])
    level = LEVEL / comparisons
    reach = max(float(stats.t.ppf(1 - LEVEL / 2, freedom)) * error for error, freedom in errors)
    detectable = max(_found_at(level, freedom) * error for error, freedom in errors)
    of_rights = bool(np.isin(values, (-1, 0, 1)).all())
    if of_rights:
        # So many documents must change, all one way, before McNemar's test rejects at all.
        detectable = max(detectable, math.ceil(math.log2(2 / level)) / clusters)
    if of_rights and seeds == 1 and clusters == values.shape[1]:
        p, test = _mcnemar(values[0]), "McNemar, exact"
    else:
        p, test = max(_student(mean, error, freedom, clusters) for error, freedom in errors), "paired t"
    if seeds == 2 and not too_few:
        too_few = "2 seeds"  # of which the test rejects too often: one would have to believe in their spread
    low, high = max(mean - reach, -differences.bound), min(mean + reach, differences.bound)
    return Comparison(mean, low, high, p, detectable, test, seeds, values.shape[1], too_few)


def _found_at(level: float, freedom: float) -> float:
    """The true difference, in standard errors, that Student's test at `level` finds with probability POWER (noncentral t)."""
    from scipy import special, stats

    edge = float(stats.t.ppf(1 - level / 2, freedom))
    return float(special.nctdtrinc(freedom, 1 - POWER, edge))


def _by_group(differences: Answers) -> "tuple[float, np.ndarray]":
    """The weighted mean, and values (seeds, groups) with that mean and its spread."""
    import numpy as np

    values, weights = differences.values, differences.weights
    mean, effects = linearised(
        [values * weights, np.broadcast_to(weights, values.shape)], lambda total, weight: total / weight
    )
    return mean, grouped(effects, differences.groups)


def _student(mean: float, error: float, freedom: float, clusters: int) -> float:
    from scipy import stats

    if error == 0:
        return 1.0 if mean == 0 else 2.0 ** (1 - clusters)
    return float(2 * stats.t.sf(abs(mean) / error, freedom))


def family(differences: Sequence[Answers]) -> list[tuple[Comparison, float]]:
    """Each of the paired `differences` compared, with its p-value corrected (Holm) over all of them.

    Those of one task and metric learn from each other how much seeds usually differ.
    """
    of_task: dict[tuple[str, str], list[np.ndarray]] = {}
    for one in differences:
        if min(one.values.shape) > 1:
            of_task.setdefault((one.task, one.metric), []).append(_by_group(one)[1])
    known = {
        key: variance_prior(list(map(between_seeds, spread)), [len(one) - 1.0 for one in spread])
        for key, spread in of_task.items()
    }
    found = [compare(one, len(differences), known.get((one.task, one.metric))) for one in differences]
    return list(zip(found, holm([one.p for one in found]), strict=True))


def _mcnemar(differences) -> float:
    from statsmodels.stats.contingency_tables import mcnemar

    more, less = int((differences > 0).sum()), int((differences < 0).sum())
    return float(mcnemar([[0, more], [less, 0]], exact=True).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (Holm, 1979), in the same order; nan, where nothing was tested, stays and is not counted."""
    from statsmodels.stats.multitest import multipletests

    tested = [p for p in p_values if not math.isnan(p)]
    corrected = iter(multipletests(tested, method="holm")[1] if tested else ())
    return [p if math.isnan(p) else float(next(corrected)) for p in p_values]
