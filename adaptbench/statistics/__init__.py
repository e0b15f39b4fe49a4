"""Statistical inference from results: intervals, paired tests, corrections, detectable effects.

A score varies for two reasons: the sample of documents and the seed of training. All seeds answer the same documents,
so both factors are crossed: the variance of a mean is the variance of the seeds' means plus that of the documents'
means, minus the part that both contain. Three seeds estimate the variance between seeds poorly. Student's t
distribution with Satterthwaite's degrees of freedom accounts for that (docs/statistics.md compares it with a bootstrap
in simulations).
"""

from adaptbench.statistics.answers import Answers, answers, paired
from adaptbench.statistics.comparisons import Comparison, compare, family, holm
from adaptbench.statistics.intervals import Interval, interval, interval_of_sums, mean_interval

__all__ = [
    "Answers",
    "Comparison",
    "Interval",
    "answers",
    "compare",
    "family",
    "holm",
    "interval",
    "interval_of_sums",
    "mean_interval",
    "paired",
]
