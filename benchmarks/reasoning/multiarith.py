"""MultiArith's test: problems of two steps of arithmetic.

Source: Roy and Roth, 2015 (https://aclanthology.org/D15-1202); data ChilleD/MultiArith, 420 training and 180 test
problems of the published 600. LT-Tuning (arXiv 2602.10229) reports the 180. Fields: question, final_ans.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from adaptbench.benchmarks.reasoning import measures
from adaptbench.benchmarks.reasoning.word_problems import test_split, test_task
from adaptbench.benchmarks.shared import hub
from adaptbench.contracts import BenchmarkConfig, Record

PUBLIC_DATA = {"multiarith": "ChilleD/MultiArith"}
READS = hub.patterns("test")
EVALUATION_ONLY = True
DECODE, TASK_FILES = measures.DECODE, measures.TASK_FILES
TASKS = (test_task("multiarith", "MultiArith"),)


class Config(BenchmarkConfig):
    kind: Literal["multiarith"] = "multiarith"
    test_items: int | None = Field(None, gt=0, description="test problems, the first ones; default: all 180")


def build(config: Config, seed: int, public: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Record]]:
    """Return the split of MultiArith.

    Returns:
        multiarith: {"prompt", "target"}.

    Raises:
        AdaptbenchError: the set cannot be loaded, or a record is not of its form.
    """
    return test_split("multiarith", public["multiarith"], config.test_items, _question_and_answer)


def _question_and_answer(record: Mapping[str, Any]) -> tuple[Any, Any]:
    return record["question"], record["final_ans"]
