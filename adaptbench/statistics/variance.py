"""A prior of the variance between seeds, estimated from all comparisons of one task and metric.

The three seeds of one comparison may agree by chance, which makes their variance far too small. The other comparisons
of the table correct it. Smyth (2004, "Linear models and empirical Bayes methods for assessing differential expression
in microarray experiments"): the mean square between the seeds of a comparison is a scaled chi-square around its true
value, and the true values follow a scaled inverse chi-square distribution. Its scale and degrees of freedom are those
that match the mean and the variance of the logarithms of the mean squares (his section 6.2).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class VariancePrior:
    """A scaled inverse chi-square prior of mean squares between seeds.

    Attributes:
        mean_square: its scale, the typical mean square.
        degrees_of_freedom: its weight against a comparison's own mean square; infinite if all comparisons share one
        variance. sample_degrees_of_freedom: those of all mean squares that it was estimated from.
    """

    mean_square: float
    degrees_of_freedom: float
    sample_degrees_of_freedom: float

    def posterior(self, mean_square: float, degrees_of_freedom: float) -> tuple[float, float]:
        """Return the posterior mean square of a comparison and its degrees of freedom, given the comparison's own ones.

        The degrees of freedom are at most those of the sample that the prior was estimated from.
        """
        if math.isinf(self.degrees_of_freedom):
            return self.mean_square, max(self.sample_degrees_of_freedom, degrees_of_freedom)
        total = self.degrees_of_freedom + degrees_of_freedom
        posterior = (self.degrees_of_freedom * self.mean_square + degrees_of_freedom * mean_square) / total
        return posterior, max(min(total, self.sample_degrees_of_freedom), degrees_of_freedom)


def variance_prior(mean_squares: Sequence[float], degrees_of_freedom: Sequence[float]) -> VariancePrior | None:
    """Estimate the prior of `mean_squares` with their degrees of freedom.

    Returns None for fewer than two, and where the seeds of at least half of the comparisons do not differ at all.
    """
    import numpy as np
    from scipy.special import digamma, polygamma

    if len(mean_squares) < 2 or (median := float(np.median(mean_squares))) <= 0:
        return None
    halves = np.asarray(degrees_of_freedom, float) / 2
    logs = np.log(np.maximum(mean_squares, 1e-5 * median))  # the logarithm of zero is infinite: all seeds agree
    unbiased = logs - digamma(halves) + np.log(halves)
    excess = float(unbiased.var(ddof=1) - polygamma(1, halves).mean())
    total = float(np.sum(degrees_of_freedom))
    if excess <= 0:  # the mean squares vary no more than by chance: all comparisons share one variance
        return VariancePrior(float(np.exp(unbiased.mean())), math.inf, total)
    half = _inverse_trigamma(excess)
    scale = float(np.exp(unbiased.mean() + digamma(half) - np.log(half)))
    return VariancePrior(scale, 2 * half, total)


def _inverse_trigamma(value: float) -> float:
    """Return the x at which the trigamma function is `value` > 0."""
    from scipy.optimize import brentq
    from scipy.special import polygamma

    return math.exp(float(brentq(lambda log: math.log(polygamma(1, math.exp(log)) / value), -30, 30)))
