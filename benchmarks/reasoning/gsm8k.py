"""GSM8K with worked steps, in sentences or in equations alone.

Source: arXiv 2110.14168; data openai/gsm8k (MIT). `natural` keeps the sentences without calculator marks; `equations`
keeps the content of the marks (48/2=24), the form of arXiv 2405.14838, where a problem without marks has no steps.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from adaptbench.benchmarks.reasoning import measures
from adaptbench.benchmarks.reasoning.measures import answers_tasks
from adaptbench.benchmarks.shared import gsm8k as published
from adaptbench.benchmarks.shared.answers import marked_number, written
from adaptbench.benchmarks.shared.gsm8k import CALCULATOR_MARK, load, set_apart
from adaptbench.contracts import BenchmarkConfig, Record
from adaptbench.errors import AdaptbenchError
from adaptbench.latent.text import prompt

PUBLIC_DATA, READS = published.PUBLIC_DATA, published.READS
DECODE, FIGURES, TASK_FILES = measures.DECODE, measures.FIGURES, measures.TASK_FILES
TASKS = answers_tasks("gsm8k_reasoning", "GSM8K")


class Config(BenchmarkConfig):
    kind: Literal["gsm8k"] = "gsm8k"
    form: Literal["natural", "equations"] = Field("natural", description="steps as sentences, or as equations alone")
    validation_items: int = Field(0, ge=0, description="training problems set aside for choosing hyper-parameters")
    train_items: int | None = Field(None, gt=0, description="training problems; default: all that are left")
    test_items: int | None = Field(None, gt=0, description="test problems, the first ones; default: all 1,319")


def build(config: Config, seed: int, public: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Record]]:
    """Return the splits of GSM8K.

    Returns:
        train, gsm8k_reasoning, gsm8k_reasoning_validation: {"prompt", "steps", "target"}.

    Raises:
        AdaptbenchError: the folder lacks a file, or a line is not a problem.
    """
    problems, test = load(public["gsm8k"])
    validation, train = set_apart(problems, test, config.validation_items, seed, track="reasoning")
    made = {
        "train": _problems(train[: config.train_items], config.form, "training"),
        "gsm8k_reasoning": _problems(test[: config.test_items], config.form, "test"),
    }
    return made | ({"gsm8k_reasoning_validation": _problems(validation, config.form, "training")} if validation else {})


def _problems(published: list[Record], form: str, where: str) -> list[Record]:
    found = []
    for one in published:
        answer = marked_number(one["answer"])
        if answer is None:
            raise AdaptbenchError(
                f"data.gsm8k: {where}: no number after #### in the answer to {one['question'][:60]!r}"
            )
        found.append(
            {"prompt": prompt(one["question"].strip()), "steps": steps(one["answer"], form), "target": written(answer)}
        )
    return found


def steps(answer: str, form: str) -> list[str]:
    """Return the worked steps of a published answer."""
    worked = answer.rpartition("####")[0]
    if form == "equations":
        return re.findall(r"<<([^<>]*)>>", worked)
    return [line for raw in worked.splitlines() if (line := CALCULATOR_MARK.sub("", raw).strip())]
