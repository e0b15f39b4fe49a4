"""SVAMP's test: problems of one arithmetic operation, worded so that superficial patterns mislead.

Source: arXiv 2103.07191; data ChilleD/SVAMP (MIT), whose card says 700 training and 300 test problems of the published
1,000. LT-Tuning (arXiv 2602.10229) reports the 300. Fields: ID, Body, Question, Equation, Answer, Type,
question_concat.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from adaptbench.benchmarks.reasoning import measures
from adaptbench.benchmarks.reasoning.word_problems import test_split, test_task
from adaptbench.benchmarks.shared import hub
from adaptbench.contracts import BenchmarkConfig, Record

PUBLIC_DATA = {"svamp": "ChilleD/SVAMP"}
READS = hub.patterns("test")
EVALUATION_ONLY = True
DECODE, TASK_FILES = measures.DECODE, measures.TASK_FILES
TASKS = (test_task("svamp", "SVAMP"),)


class Config(BenchmarkConfig):
    kind: Literal["svamp"] = "svamp"
    test_items: int | None = Field(None, gt=0, description="test problems, the first ones; default: all 300")


def build(config: Config, seed: int, public: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Record]]:
    """Return the split of SVAMP.

    Returns:
        svamp: {"prompt", "target"}.

    Raises:
        AdaptbenchError: the set cannot be loaded, or a record is not of its form.
    """
    return test_split("svamp", public["svamp"], config.test_items, _question_and_answer)


def _question_and_answer(record: Mapping[str, Any]) -> tuple[Any, Any]:
    return f"{record['Body'].strip()} {record['Question'].strip()}", record["Answer"]
