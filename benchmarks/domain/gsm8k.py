"""GSM8K as the domain: grade-school problems, learned as text and tested by the number at the end of an answer.

Source: arXiv 2110.14168; data openai/gsm8k (MIT). Training text is the problem and its worked answer without the
calculator marks (<<48/2=24>>), since no calculator is called here. The test has the same form and compares the number
after ####. `validation_items` of the training problems are set aside for choosing hyper-parameters; by default none.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from adaptbench.benchmarks.shared import gsm8k as published
from adaptbench.benchmarks.shared.answers import marked_number
from adaptbench.benchmarks.shared.gsm8k import CALCULATOR_MARK, load, set_apart
from adaptbench.contracts import BenchmarkConfig, Record
from adaptbench.errors import AdaptbenchError
from adaptbench.tasks import Task

PUBLIC_DATA, READS = published.PUBLIC_DATA, published.READS
TASK_FILES = ("benchmarks/shared/answers.py",)


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
    """Return the splits of GSM8K.

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


def _item(problem: Record) -> Record:
    answer = CALCULATOR_MARK.sub("", problem["answer"])
    return {"prompt": f"Question: {problem['question'].strip()}\nAnswer:", "target": answer.strip()}
