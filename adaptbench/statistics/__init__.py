"""What results allow one to conclude: intervals, paired tests, corrections, detectable effects.

A score has two sources of chance: which documents were asked and which seed trained the model. All seeds answer the same
documents, so that both are crossed: the variance of a mean is that of the seeds' means plus that of the documents' means,
less what both count twice. Three seeds say little about the spread between seeds; Student's distribution, its degrees of freedom
after Satterthwaite, says how little (docs/statistics.md has what both do in simulation, beside a bootstrap).
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
