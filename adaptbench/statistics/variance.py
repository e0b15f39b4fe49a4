"""How much seeds usually differ, learned from all comparisons of one task and metric.

Three seeds of one comparison may agree by chance, and would then be taken for seeds that never differ. The others of the table know
better. Smyth (2004, "Linear models and empirical Bayes methods for assessing differential expression in microarray experiments"):
mean squares between seeds are scaled chi-squares around values of their own, which are spread around a usual one as an inverse
chi-square is. Its place and freedom are those that give the logarithms the mean and the variance that they have (his section 6.2).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class VariancePrior:
    """The usual mean square between seeds, the degrees of freedom it is worth, and those of all that it was learned from."""

    mean_square: float
    freedom: float
    learned_from: float

    def moderated(self, mean_square: float, freedom: float) -> tuple[float, float]:
        """A comparison's own mean square drawn towards the usual one, by the freedom of both, and the freedom of the two."""
        if math.isinf(self.freedom):
            return self.mean_square, max(self.learned_from, freedom)
        together = self.freedom + freedom
        drawn = (self.freedom * self.mean_square + freedom * mean_square) / together
        return drawn, max(min(together, self.learned_from), freedom)


def variance_prior(mean_squares: Sequence[float], freedoms: Sequence[float]) -> VariancePrior | None:
    """What `mean_squares` with their degrees of freedom have in common; None of fewer than two, or where seeds seldom differ at all."""
    import numpy as np
    from scipy.special import digamma, polygamma

    if len(mean_squares) < 2 or (middle := float(np.median(mean_squares))) <= 0:
        return None
    halves = np.asarray(freedoms, float) / 2
    logs = np.log(np.maximum(mean_squares, 1e-5 * middle))  # seeds that agree to the last answer have no logarithm
    expected = logs - digamma(halves) + np.log(halves)
    more = float(expected.var(ddof=1) - polygamma(1, halves).mean())
    if more <= 0:  # no more spread than chance gives: all have the usual one
        return VariancePrior(float(np.exp(expected.mean())), math.inf, float(np.sum(freedoms)))
    half = _inverse_trigamma(more)
    place = float(np.exp(expected.mean() + digamma(half) - np.log(half)))
    return VariancePrior(place, 2 * half, float(np.sum(freedoms)))


def _inverse_trigamma(value: float) -> float:
    """The x whose trigamma is `value` > 0."""
    from scipy.optimize import brentq
    from scipy.special import polygamma

    return math.exp(float(brentq(lambda log: math.log(polygamma(1, math.exp(log)) / value), -30, 30)))
