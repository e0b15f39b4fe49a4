"""Samples as arrays: the values of one run on the documents of a task, or the paired differences of two runs."""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from adaptbench.errors import AdaptbenchError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


@dataclass(frozen=True)
class Answers:
    """Values of one metric.

    Attributes:
        values: (seeds, documents).
        weights, groups: of the documents, (documents,). Documents of one group are not independent.
        seeds: the seed of each row of `values`.
        questions: number, document hash and prompt hash of each document.
        bound: the largest absolute value that a mean can have; 1 for differences of shares.
    """

    values: "np.ndarray"
    weights: "np.ndarray"
    groups: "np.ndarray"
    run: str = ""
    task: str = ""
    metric: str = ""
    seeds: tuple[int, ...] = (0,)
    questions: tuple[tuple[int, str, str], ...] = ()
    bound: float = math.inf

    @property
    def share(self) -> bool:
        """True if all values are between 0 and 1."""
        return bool(self.values.min() >= 0 and self.values.max() <= 1)


def answers(samples: "pd.DataFrame", value: str = "value") -> Answers:
    """Return the samples of one run, task and metric as arrays.

    Raises:
        AdaptbenchError: the documents or prompts differ between seeds.
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
    # As many rows as cells, and no empty cell: each document occurs once for each seed.
    complete = len(samples) == values.size and not np.isnan(values).any()
    if not complete or any((one != one[0]).any() for one in hashes):
        raise AdaptbenchError(f"{run}, {task}: the seeds did not answer the same documents; run them again")
    questions = zip(documents.tolist(), *(one[0].tolist() for one in hashes), strict=True)
    groups = table("group", float)[0].astype(int)
    return Answers(values, weights[0], groups, run, task, metric, tuple(seeds.tolist()), tuple(questions))


def paired(ours: Answers, theirs: Answers, *, whole: bool = True) -> Answers:
    """Return the differences `ours` - `theirs`, paired by document and seed.

    A run of one seed (a base that all seeds share, a policy without a model) is compared with every seed of the other
    run. `whole` is false if a run lacks planned seeds: then only the seeds that both runs have are compared.

    Raises:
        AdaptbenchError: documents or prompts differ, or the runs have no seed in common.
    """
    pair = f"{ours.task}: {ours.run} and {theirs.run}"
    if ours.questions != theirs.questions:
        raise AdaptbenchError(f"{pair} did not answer the same documents; run both again")
    differences = replace(ours, bound=1.0 if ours.share and theirs.share else math.inf)
    if whole and (len(ours.seeds) == 1 or len(theirs.seeds) == 1):
        seeds = max(ours.seeds, theirs.seeds, key=len)
        return replace(differences, values=ours.values - theirs.values, seeds=seeds)
    seeds = tuple(seed for seed in ours.seeds if seed in theirs.seeds)
    if not seeds:
        raise AdaptbenchError(f"{pair} have no seed in common; run both under the same ones")
    mine, other = (one.values[[one.seeds.index(seed) for seed in seeds]] for one in (ours, theirs))
    return replace(differences, values=mine - other, seeds=seeds)
