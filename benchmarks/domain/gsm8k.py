"""GSM8K as the domain: grade-school problems, learned as text, tested by the number that an answer ends in.

Source: arXiv 2110.14168; data openai/gsm8k (MIT). Training text is the problem and its worked answer with the calculator
marks (<<48/2=24>>) taken out, since no calculator is called here. The test asks the same form and compares the number
after ####. For choosing hyper-parameters `validation_items` of the training problems are set aside;
by default all of them are trained on.
"""

import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from adaptbench.benchmarks import hub
from adaptbench.benchmarks.shared.answers import marked_number
from adaptbench.contracts import BenchmarkConfig, Record
from adaptbench.data.leakage import normalise
from adaptbench.errors import AdaptbenchError
from adaptbench.io.jsonl import read_jsonl
from adaptbench.tasks import Task

PUBLIC_DATA = {"gsm8k": "openai/gsm8k"}
READS = ("train.jsonl", "test.jsonl")
TASK_FILES = ("benchmarks/shared/answers.py",)
CALCULATOR_MARK = re.compile(r"<<[^>]*>>")


class Config(BenchmarkConfig):
    kind: Literal["gsm8k"] = "gsm8k"
    validation_items: int = Field(0, ge=0, description="training problems set aside for choosing hyper-parameters")
    train_items: int | None = Field(None, gt=0, description="training problems; default: all that are left")
    test_items: int | None = Field(None, gt=0, description="test problems, the first ones; default: all 1,319")


TASKS = (
    Task("gsm8k_answers", metric="exact_match", label="GSM8K answers", unit="exact match", primary=True),
    Task(
        "gsm8k_text",
        metric="bits_per_byte",
        label="GSM8K solutions",
        unit="bits per byte",
        higher_is_better=False,
        weight="bytes",
    ),
    Task(
        "gsm8k_validation",
        metric="bits_per_byte",
        label="GSM8K validation",
        unit="bits per byte",
        higher_is_better=False,
        weight="bytes",
        split="validation",
        primary=True,
    ),
)


def build(config: Config, seed: int, public: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Record]]:
    """The splits of GSM8K.

    Returns:
        train: {"text"}; gsm8k_answers, gsm8k_text, gsm8k_validation: {"prompt", "target"}.

    Raises:
        AdaptbenchError: the folder lacks a file, or a line is not a problem.
    """
    problems, test = load(public["gsm8k"])
    validation, train = set_apart(problems, test, config.validation_items, seed, track="domain")
    for number, problem in enumerate(test, 1):
        if marked_number(problem["answer"]) is None:
            raise AdaptbenchError(f"data.gsm8k: test problem {number}: no number after #### in its answer")
    items = [_item(problem) for problem in test[: config.test_items]]
    return {
        "train": [{"text": f"{item['prompt']} {item['target']}"} for item in map(_item, train[: config.train_items])],
        "gsm8k_answers": items,
        "gsm8k_text": items,
    } | ({"gsm8k_validation": [_item(problem) for problem in validation]} if validation else {})


def set_apart(
    problems: Sequence[Record], test: Sequence[Record], count: int, seed: int, *, track: str, asked: str = "question"
) -> tuple[list[Record], list[Record]]:
    """`count` training problems for validation and the others, in an order of the seed's; none that is in the test or twice.

    Nothing is shared or repeated in the published sets; in a folder of the user's it may be. `asked` names the field.

    Raises:
        AdaptbenchError: there are not as many.
    """
    tested = {normalise(problem[asked]) for problem in test}
    unique = {normalise(problem[asked]): problem for problem in problems}
    kept = [problem for question, problem in unique.items() if question not in tested]
    random.Random(f"{seed}/gsm8k").shuffle(kept)
    if not kept:
        raise AdaptbenchError(f"data.{track}: no training problem is left; all are test problems, too")
    if count >= len(kept):
        raise AdaptbenchError(f"data.{track}.validation_items: must be < {len(kept)}, the training problems")
    return kept[:count], kept[count:]


def load(source: Mapping[str, Any]) -> tuple[list[Record], list[Record]]:
    """The published training and test problems, from the folder if one is named, else from the hub."""
    if source["path"] is not None:
        folder = Path(source["path"])
        train, test = (read_jsonl(folder / name, require=("question", "answer")) for name in READS)
        return train, test
    published = hub.load("gsm8k", source, "main", splits=("train", "test"))
    return list(published[0]), list(published[1])


def _item(problem: Record) -> Record:
    answer = CALCULATOR_MARK.sub("", problem["answer"])
    return {"prompt": f"Question: {problem['question'].strip()}\nAnswer:", "target": answer.strip()}
