"""The interval of a mean over seeds and documents.

The estimate is the mean of values (seeds, documents). With the mean squares of a two-way layout without replication:

    variance of the mean = (MS seeds + MS documents - MS residual) / (seeds x documents)

Ratios of sums (bits per byte, F1) are linearised by their derivatives. Documents of one group (the steps of one
problem) count as one document. Shares of right answers get Wilson's interval at the effective sample size, the number
of independent documents with the same variance (Korn and Graubard, 1998): it stays within 0 and 1 and has a positive
width at both.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from adaptbench.statistics.answers import Answers
from adaptbench.statistics.variance import VariancePrior

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Interval:
    """A mean with its interval and standard error, from so many seeds and documents."""

    mean: float
    low: float
    high: float
    seeds: int
    documents: int
    standard_error: float

    @property
    def below(self) -> float:
        """Return the distance from the mean to the lower end, as error bars need it."""
        return self.mean - self.low

    @property
    def above(self) -> float:
        """Return the distance from the mean to the upper end."""
        return self.high - self.mean


def interval(
    values: "np.ndarray",
    weights: "np.ndarray | None" = None,
    groups: "np.ndarray | None" = None,
    *,
    share: bool = True,
    level: float = 0.95,
) -> Interval:
    """Return the interval of the weighted mean of `values` (seeds, documents).

    `weights` (documents,) makes the mean a ratio of sums, as for bits per byte. `groups` (documents,) says which
    documents are dependent; by default all are independent. With one seed the interval covers the sampling of documents
    only.

    Values of 0 and 1 are taken as wrong and right, and get Wilson's interval. If all values are equal, that holds only
    for a `share`: a count may be 0 or 1 everywhere by chance. The interval is clipped at 0 if no value is negative, and
    at 1 if the largest value is exactly 1, as for degrees of agreement.
    """
    import numpy as np

    weights = np.ones(values.shape[1]) if weights is None else weights
    of_sums = interval_of_sums(
        [values * weights, np.broadcast_to(weights, values.shape)],
        lambda total, weight: total / weight,
        groups,
        level=level,
    )
    if np.isin(values, (0, 1)).all() and (weights == weights[0]).all() and (share or np.ptp(values) > 0):
        return _wilson(of_sums, _clusters(groups, values.shape[1]), level)
    if values.min() < 0:
        return of_sums
    high = min(of_sums.high, 1.0) if values.max() == 1 else of_sums.high
    return replace(of_sums, low=max(of_sums.low, 0.0), high=high)


def mean_interval(of: Answers, *, share: bool = True) -> Interval:
    """Return the interval of the mean of one run's values or of differences, clipped at their bound."""
    found = interval(of.values, of.weights, of.groups, share=share)
    return replace(found, low=max(found.low, -of.bound), high=min(found.high, of.bound))


def interval_of_sums(
    counts: "Sequence[np.ndarray]",
    combine: "Callable[..., np.ndarray]",
    groups: "np.ndarray | None" = None,
    *,
    level: float = 0.95,
) -> Interval:
    """Return the interval of `combine(*sums)`.

    `sums` are the sums of each of `counts` (seeds, documents) over documents, averaged over seeds. All numbers are nan
    if `combine` returns nan.
    """
    import numpy as np
    from scipy import stats

    seeds, documents = counts[0].shape
    mean, values = linearised(counts, combine)
    if np.isnan(mean):
        return Interval(mean, mean, mean, seeds, documents, mean)
    error, degrees_of_freedom = error_of_mean(grouped(values, groups))
    half_width = float(stats.t.ppf((1 + level) / 2, degrees_of_freedom)) * error if error else 0.0
    return Interval(mean, mean - half_width, mean + half_width, seeds, documents, error)


def linearised(counts: "Sequence[np.ndarray]", combine: "Callable[..., np.ndarray]") -> "tuple[float, np.ndarray]":
    """Linearise `combine` around the sums of `counts` (seeds, documents).

    Returns:
        `combine` of the sums, and values (seeds, documents) whose mean is that number and whose variance is its
        variance to first order (delta method; derivatives by central differences).
    """
    import numpy as np

    documents = counts[0].shape[1]
    sums = [float(one.mean(axis=0).sum()) for one in counts]
    with np.errstate(divide="ignore", invalid="ignore"):
        whole = float(combine(*map(np.asarray, sums)))
        values = np.full(counts[0].shape, whole)
        for place, (one, total) in enumerate(zip(counts, sums, strict=True)):
            step = 1e-5 * max(abs(total), 1.0)
            ends = [[*sums[:place], total + sign * step, *sums[place + 1 :]] for sign in (1, -1)]
            above, below = (float(combine(*map(np.asarray, end))) for end in ends)
            values = values + (above - below) / (2 * step) * (documents * one - total)
    return whole, values


def grouped(values: "np.ndarray", groups: "np.ndarray | None") -> "np.ndarray":
    """Return values (seeds, groups) with the mean of `values` (seeds, documents), one for each group of documents."""
    import numpy as np

    if groups is None:
        return values
    names, of_group = np.unique(groups, return_inverse=True)
    if len(names) == values.shape[1]:
        return values
    mean = values.mean()
    together = np.zeros((values.shape[0], len(names)))
    np.add.at(together.T, of_group, (values - mean).T)
    return mean + together * len(names) / values.shape[1]


def between_seeds(values: "np.ndarray") -> float:
    """Return the mean square between the seeds of `values` (seeds, documents)."""
    return float(values.shape[1] * values.mean(axis=1).var(ddof=1))


def error_of_mean(values: "np.ndarray", prior: "VariancePrior | None" = None) -> tuple[float, float]:
    """Return the standard error of the mean of `values` (seeds, documents) and its degrees of freedom (Satterthwaite).

    The mean square between seeds is that of `values`, or with a `prior` the posterior one. Of one document the error is
    nan.
    """
    import numpy as np

    seeds, documents = values.shape
    if documents < 2:
        return float("nan"), 1.0
    of_seed, of_document, mean = values.mean(axis=1), values.mean(axis=0), values.mean()
    if seeds == 1:
        return float(np.sqrt(values[0].var(ddof=1) / documents)), documents - 1.0
    residuals = values - of_seed[:, None] - of_document + mean
    of_seeds, seed_freedom = between_seeds(values), seeds - 1.0
    if prior:
        of_seeds, seed_freedom = prior.posterior(of_seeds, seed_freedom)
    of_documents = float(seeds * of_document.var(ddof=1))
    residual_freedom = (seeds - 1) * (documents - 1)
    residual = float((residuals**2).sum()) / residual_freedom
    # A variance component is never negative: where its estimate is, the mean square only estimates the residual.
    total = max(of_seeds, residual) + max(of_documents, residual) - residual
    if total <= 1e-24 * max(1.0, mean**2):
        return 0.0, seeds - 1.0
    parts = of_seeds**2 / seed_freedom + of_documents**2 / (documents - 1) + residual**2 / residual_freedom
    return float(np.sqrt(total / (seeds * documents))), max(total**2 / parts, seeds - 1.0)


def _clusters(groups: "np.ndarray | None", documents: int) -> int:
    import numpy as np

    return documents if groups is None else len(np.unique(groups))


def _wilson(found: Interval, clusters: int, level: float) -> Interval:
    """Return Wilson's interval of a share with the symmetric interval `found`, at its effective sample size."""
    from scipy import stats
    from statsmodels.stats.proportion import proportion_confint

    share = found.mean
    half_width = found.high - share
    normal = float(stats.norm.ppf((1 + level) / 2))
    size = clusters if half_width <= 0 else share * (1 - share) * (normal / half_width) ** 2
    low, high = proportion_confint(share * size, size, alpha=1 - level, method="wilson")
    return replace(found, low=min(float(low), share), high=max(float(high), share))  # rounding errors at 0 and 1
