"""Load GSM8K as published; the tracks make their own forms of its problems.

Source: arXiv 2110.14168; data openai/gsm8k (MIT).
"""

import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adaptbench.benchmarks.shared import hub
from adaptbench.contracts import Record
from adaptbench.data.leakage import normalise
from adaptbench.errors import AdaptbenchError
from adaptbench.io.jsonl import read_jsonl

PUBLIC_DATA = {"gsm8k": "openai/gsm8k"}
READS = ("train.jsonl", "test.jsonl")
CALCULATOR_MARK = re.compile(r"<<[^>]*>>")


def set_apart(
    problems: Sequence[Record], test: Sequence[Record], count: int, seed: int, *, track: str, field: str = "question"
) -> tuple[list[Record], list[Record]]:
    """Shuffle the training problems and set `count` of them aside for validation; return these and the others.

    Problems that are in the test or occur twice are left out. The published sets have none; a user's folder may.

    Args:
        track: the track that the message of an error names.
        field: the one with the question.

    Raises:
        AdaptbenchError: there are too few problems.
    """
    tested = {normalise(problem[field]) for problem in test}
    unique = {normalise(problem[field]): problem for problem in problems}
    kept = [problem for question, problem in unique.items() if question not in tested]
    random.Random(f"{seed}/gsm8k").shuffle(kept)
    if not kept:
        raise AdaptbenchError(f"data.{track}: no training problem is left; all are test problems, too")
    if count >= len(kept):
        raise AdaptbenchError(f"data.{track}.validation_items: must be < {len(kept)}, the training problems")
    return kept[:count], kept[count:]


def load(source: Mapping[str, Any]) -> tuple[list[Record], list[Record]]:
    """Return the published training and test problems, from the folder if one is named, else from the hub."""
    if source["path"] is not None:
        folder = Path(source["path"])
        train, test = (read_jsonl(folder / name, require=("question", "answer")) for name in READS)
        return train, test
    published = hub.load("gsm8k", source, "main", splits=("train", "test"))
    return list(published[0]), list(published[1])
