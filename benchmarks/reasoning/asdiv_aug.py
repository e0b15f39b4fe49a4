"""ASDiv-Aug's test: problems of ASDiv with other numbers, made for SoftCoT.

Source: SoftCoT, arXiv 2502.12134; data xuyige/ASDiv-Aug. The set itself was not available when this was written. Public
code that reads it relies on the fields "question" and "answer" (equations between << and >>, then #### and the number,
as in GSM8K) and on the splits "train" and "test".
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from adaptbench.benchmarks.reasoning import measures
from adaptbench.benchmarks.reasoning.word_problems import test_split, test_task
from adaptbench.benchmarks.shared import hub
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
    """Return the split of ASDiv-Aug.

    Returns:
        asdiv_aug: {"prompt", "target"}.

    Raises:
        AdaptbenchError: the set cannot be loaded, or a record is not of its form.
    """
    return test_split("asdiv_aug", public["asdiv_aug"], config.test_items, _question_and_answer)


def _question_and_answer(record: Mapping[str, Any]) -> tuple[Any, Any]:
    return record["question"], marked_number(record["answer"])
