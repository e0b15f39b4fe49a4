"""Intervals over documents and seeds.

A score has two sources of chance: which documents were asked and which seed trained the model. The two-level bootstrap
draws both: seeds with replacement, then documents with replacement, the same documents for every drawn seed, because
the seeds answered the same test. Documents that belong together (the steps of one problem) are drawn together. Three seeds say little about the spread between seeds: where that is what dominates, the
interval is too narrow (at three seeds it covers 85 to 93 % in simulation, not 95).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from adaptbench.contracts import AdaptbenchError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A mean and its interval; `seeds` and `documents` are what it rests on."""

    mean: float
    low: float
    high: float
    seeds: int
    documents: int

    @property
    def below(self) -> float:
        """From the mean down to the interval's end, as error bars want it."""
        return self.mean - self.low

    @property
    def above(self) -> float:
        """From the mean up to the interval's end."""
        return self.high - self.mean


def two_level_bootstrap(
    values: "np.ndarray",
    weights: "np.ndarray | None" = None,
    groups: "np.ndarray | None" = None,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Percentile interval of the weighted mean of `values`, shape (seeds, documents).

    `weights` (documents,) makes the mean a ratio of sums, as for bits per byte. `groups` (documents,) says which documents
    belong together; by default each stands alone. With one seed the interval covers the documents alone.
    """
    import numpy as np

    weights = np.ones(values.shape[1]) if weights is None else weights
    counts = [values * weights, np.broadcast_to(weights, values.shape)]
    return bootstrap_of_sums(
        counts, lambda total, weight: total / weight, groups, level=level, resamples=resamples, seed=seed
    )


def bootstrap_of_sums(
    counts: "Sequence[np.ndarray]",
    combine: "Callable[..., np.ndarray]",
    groups: "np.ndarray | None" = None,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Percentile interval of `combine(*sums)`, the sums of each of `counts` (seeds, documents) over documents, averaged
    over seeds. Resamples in which it is not defined (nan) are left out.
    """
    import numpy as np

    seeds, documents = counts[0].shape
    names, of_group = np.unique(np.arange(documents) if groups is None else groups, return_inverse=True)
    rng = np.random.default_rng(seed)
    by_seed = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds
    by_document = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)[:, of_group]
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = combine(*(((by_seed @ one) * by_document).sum(axis=1) for one in counts))
        mean = float(combine(*(one.mean(axis=0).sum() for one in counts)))
    drawn = drawn[~np.isnan(drawn)]
    tail = (1 - level) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail]) if len(drawn) else (np.nan, np.nan)
    return Interval(mean, float(low), float(high), seeds, documents)


class Answers(NamedTuple):
    """One run's values on a task's documents, (seeds, documents); their weights and groups, (documents,)."""

    values: "np.ndarray"
    weights: "np.ndarray"
    groups: "np.ndarray"


def matrix(samples: "pd.DataFrame", value: str = "value") -> Answers:
    """One run's and task's samples of one metric as arrays.

    Raises:
        AdaptbenchError: the seeds did not answer the same documents, or were asked them in other words.
    """
    twice = samples.duplicated(["seed", "document"]).any()
    table = samples.pivot_table(index="seed", columns="document", values=value, dropna=False)
    hashes = samples.groupby("document")[["document_hash", "prompt_hash"]].nunique()
    if twice or table.isna().any(axis=None) or (hashes > 1).any(axis=None):
        one = samples.iloc[0]
        raise AdaptbenchError(
            f"{one['run']}, {one['task']}: the seeds did not answer the same documents; run them again"
        )
    documents = samples.drop_duplicates("document").set_index("document").loc[table.columns]
    return Answers(table.to_numpy(), documents["weight"].to_numpy(), documents["group"].to_numpy())
