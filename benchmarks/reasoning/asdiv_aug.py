"""ASDiv-Aug's test: problems of ASDiv with other numbers, made for SoftCoT.

Source: SoftCoT, arXiv 2502.12134; data xuyige/ASDiv-Aug. The fields "question" and "answer" (equations between << and >>, then #### and
the number, as in GSM8K) and the splits "train" and "test" are what public code that reads the set relies on; the set itself could not be
looked at when this was written.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from adaptbench.benchmarks import hub
from adaptbench.benchmarks.reasoning import measures
from adaptbench.benchmarks.reasoning.word_problems import test_split, test_task
from adaptbench.benchmarks.shared.answers import marked_number
from adaptbench.contracts import BenchmarkConfig, Record

PUBLIC_DATA = {"asdiv_aug": "xuyige/ASDiv-Aug"}
READS = hub.patterns("test")
EVALUATION_ONLY = True
DECODE, TASK_FILES = measures.DECODE, measures.TASK_FILES
TASKS = (test_task("asdiv_aug", "ASDiv-Aug"),)


class Config(BenchmarkConfig):
    kind: Literal["asdiv_aug"] = "asdiv_aug"
    test_items: int | None = Field(None, gt=0, description="test problems, the first ones; default: all")


def build(config: Config, seed: int, public: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Record]]:
    """The split of ASDiv-Aug.

    Returns:
        asdiv_aug: {"prompt", "target"}.

    Raises:
        AdaptbenchError: the set cannot be had, or a record is not of its form.
    """
    return test_split("asdiv_aug", public["asdiv_aug"], config.test_items, _question_and_answer)


def _question_and_answer(record: Mapping[str, Any]) -> tuple[Any, Any]:
    return record["question"], marked_number(record["answer"])
