"""The interval of a mean over seeds and documents.

Of values z (seeds, documents) whose mean is the estimate, with the mean squares of a two-way layout without repeats:

    variance of the mean = (MS seeds + MS documents - MS rest) / (seeds x documents)

Ratios of sums (bits per byte, F1) are brought into that form by their derivatives. Documents that belong together (the
steps of one problem) count as one. Means of rights and wrongs get Wilson's interval at the number of independent documents that
would have the same variance (after Korn and Graubard, 1998): it stays within 0 and 1 and is no point at either.
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
    """A mean and its 95 % interval; `seeds` and `documents` are what it rests on."""

    mean: float
    low: float
    high: float
    seeds: int
    documents: int
    standard_error: float

    @property
    def below(self) -> float:
        """From the mean down to the interval's end, as error bars want it."""
        return self.mean - self.low

    @property
    def above(self) -> float:
        """From the mean up to the interval's end."""
        return self.high - self.mean


def interval(
    values: "np.ndarray",
    weights: "np.ndarray | None" = None,
    groups: "np.ndarray | None" = None,
    *,
    share: bool = True,
    level: float = 0.95,
) -> Interval:
    """Of the weighted mean of `values` (seeds, documents).

    `weights` (documents,) makes the mean a ratio of sums, as for bits per byte. `groups` (documents,) says which documents
    belong together; by default each stands alone. With one seed the interval covers the documents alone. Values of 0 and 1 are
    wrong and right; where all are one number, only if the mean is a `share`, and not a count that happens to be so. The mean of what
    is never below zero is not either, nor is that of degrees of agreement above one (their most is one exactly).
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
        return _of_rights(of_sums, _clusters(groups, values.shape[1]), level)
    if values.min() < 0:
        return of_sums
    high = min(of_sums.high, 1.0) if values.max() == 1 else of_sums.high
    return replace(of_sums, low=max(of_sums.low, 0.0), high=high)


def mean_interval(of: Answers, *, share: bool = True) -> Interval:
    """Of the mean of one run's values, or of differences."""
    found = interval(of.values, of.weights, of.groups, share=share)
    return replace(found, low=max(found.low, -of.bound), high=min(found.high, of.bound))


def interval_of_sums(
    counts: "Sequence[np.ndarray]",
    combine: "Callable[..., np.ndarray]",
    groups: "np.ndarray | None" = None,
    *,
    level: float = 0.95,
) -> Interval:
    """Of `combine(*sums)`, the sums of each of `counts` (seeds, documents) over documents, averaged over seeds.

    All numbers are nan where `combine` gives nan for the whole.
    """
    import numpy as np
    from scipy import stats

    seeds, documents = counts[0].shape
    mean, values = linearised(counts, combine)
    if np.isnan(mean):
        return Interval(mean, mean, mean, seeds, documents, mean)
    error, freedom = error_of_mean(grouped(values, groups))
    reach = float(stats.t.ppf((1 + level) / 2, freedom)) * error if error else 0.0
    return Interval(mean, mean - reach, mean + reach, seeds, documents, error)


def linearised(counts: "Sequence[np.ndarray]", combine: "Callable[..., np.ndarray]") -> "tuple[float, np.ndarray]":
    """`combine` of the sums, and values (seeds, documents) with that mean whose spread is, to first order, its own."""
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
    """Values (seeds, groups) with the mean of `values` (seeds, documents): what a group's documents do together."""
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
    """The mean square between the seeds of `values` (seeds, documents)."""
    return float(values.shape[1] * values.mean(axis=1).var(ddof=1))


def error_of_mean(values: "np.ndarray", usual: "VariancePrior | None" = None) -> tuple[float, float]:
    """The standard error of the mean of `values` (seeds, documents), and its degrees of freedom (Satterthwaite).

    The seeds' spread is their own, or with `usual` moderated by what it is for others.
    """
    import numpy as np

    seeds, documents = values.shape
    if documents < 2:
        return float("nan"), 1.0  # one document tells nothing about others
    of_seed, of_document, mean = values.mean(axis=1), values.mean(axis=0), values.mean()
    if seeds == 1:
        return float(np.sqrt(values[0].var(ddof=1) / documents)), documents - 1.0
    rest = values - of_seed[:, None] - of_document + mean
    of_seeds, freedom = between_seeds(values), seeds - 1.0
    if usual:
        of_seeds, freedom = usual.moderated(of_seeds, freedom)
    of_documents = float(seeds * of_document.var(ddof=1))
    both = float((rest**2).sum()) / ((seeds - 1) * (documents - 1))
    # A source of chance never takes away from the other's: an estimate below zero is chance itself.
    whole = max(of_seeds, both) + max(of_documents, both) - both
    if whole <= 1e-24 * max(1.0, mean**2):
        return 0.0, seeds - 1.0
    parts = of_seeds**2 / freedom + of_documents**2 / (documents - 1) + both**2 / ((seeds - 1) * (documents - 1))
    return float(np.sqrt(whole / (seeds * documents))), max(whole**2 / parts, seeds - 1.0)


def _clusters(groups: "np.ndarray | None", documents: int) -> int:
    import numpy as np

    return documents if groups is None else len(np.unique(groups))


def _of_rights(found: Interval, clusters: int, level: float) -> Interval:
    """Wilson's interval of a share that has the symmetric interval `found`."""
    from scipy import stats
    from statsmodels.stats.proportion import proportion_confint

    share = found.mean
    reach = found.high - share
    normal = float(stats.norm.ppf((1 + level) / 2))
    independent = clusters if reach <= 0 else share * (1 - share) * (normal / reach) ** 2
    low, high = proportion_confint(share * independent, independent, alpha=1 - level, method="wilson")
    return replace(found, low=min(float(low), share), high=max(float(high), share))  # rounding, at 0 and at 1
