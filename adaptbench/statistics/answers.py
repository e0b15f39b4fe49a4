"""Samples as arrays: one run's values on a task's documents, or the differences of two runs' on the same ones."""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from adaptbench.errors import AdaptbenchError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


@dataclass(frozen=True)
class Answers:
    """Values (seeds, documents) of one metric; the documents' weights and groups (documents,).

    `run`, `task` and `metric` say whose they are, `seeds` which, and `asked` what: number, document hash and prompt hash of each document.
    `bound` is what no mean can pass, 1 for differences of shares.
    """

    values: "np.ndarray"
    weights: "np.ndarray"
    groups: "np.ndarray"
    run: str = ""
    task: str = ""
    metric: str = ""
    seeds: tuple[int, ...] = (0,)
    asked: tuple[tuple[int, str, str], ...] = ()
    bound: float = math.inf

    @property
    def share(self) -> bool:
        """Whether these are shares: rights and wrongs, or what lies between."""
        return bool(self.values.min() >= 0 and self.values.max() <= 1)


def answers(samples: "pd.DataFrame", value: str = "value") -> Answers:
    """One run's and task's samples of one metric as arrays.

    Raises:
        AdaptbenchError: the seeds did not answer the same documents, or were asked them in other words.
    """
    import numpy as np

    run, task, metric = (str(samples[column].iloc[0]) for column in ("run", "task", "metric"))
    seeds, of_seed = np.unique(samples["seed"].to_numpy(), return_inverse=True)
    documents, of_document = np.unique(samples["document"].to_numpy(), return_inverse=True)

    def table(column: str, kind: Any) -> "np.ndarray":
        found = np.full((len(seeds), len(documents)), np.nan if kind is float else None, kind)
        found[of_seed, of_document] = samples[column].to_numpy(kind)
        return found

    values, weights = table(value, float), table("weight", float)
    hashes = [table(column, object) for column in ("document_hash", "prompt_hash")]
    # So many rows and none left empty: no document twice, none missing.
    whole = len(samples) == values.size and not np.isnan(values).any()
    if not whole or any((one != one[0]).any() for one in hashes):
        raise AdaptbenchError(f"{run}, {task}: the seeds did not answer the same documents; run them again")
    asked = zip(documents.tolist(), *(one[0].tolist() for one in hashes), strict=True)
    groups = table("group", float)[0].astype(int)
    return Answers(values, weights[0], groups, run, task, metric, tuple(seeds.tolist()), tuple(asked))


def paired(ours: Answers, theirs: Answers, *, whole: bool = True) -> Answers:
    """Our values less theirs, document by document and seed by seed.

    A run of one seed (a base that all seeds share, a rule without a model) is held against every seed of the other, unless it was to
    have more (`whole` is false): then the seeds in common are compared.

    Raises:
        AdaptbenchError: both did not answer the same documents in the same words, or have no seed in common.
    """
    pair = f"{ours.task}: {ours.run} and {theirs.run}"
    if ours.asked != theirs.asked:
        raise AdaptbenchError(f"{pair} did not answer the same documents; run both again")
    made = replace(ours, bound=1.0 if ours.share and theirs.share else math.inf)
    if whole and (len(ours.seeds) == 1 or len(theirs.seeds) == 1):
        seeds = max(ours.seeds, theirs.seeds, key=len)
        return replace(made, values=ours.values - theirs.values, seeds=seeds)
    seeds = tuple(seed for seed in ours.seeds if seed in theirs.seeds)
    if not seeds:
        raise AdaptbenchError(f"{pair} have no seed in common; run both under the same ones")
    mine, other = (one.values[[one.seeds.index(seed) for seed in seeds]] for one in (ours, theirs))
    return replace(made, values=mine - other, seeds=seeds)
