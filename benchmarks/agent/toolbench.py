"""ToolBench as GLPFT trains and tests on it: recorded calls of 16,000 web APIs, evaluated step by step.

Source: arXiv 2307.16789 (https://github.com/OpenBMB/ToolBench, Apache-2.0) and GLPFT, arXiv 2401.07324. Two forms:

form: toolbench    toolllama_G123_dfs_train.json and toolllama_G123_dfs_eval.json, ToolBench's processed data: from the
                   hub, where a user has put them, or from a folder
form: glpft        from a folder: raw_data_stage_2.json, the output of process_data/toolbench in
                   https://github.com/X-PLUG/Multi-LLM-Agent for ToolBench's answers, and in_domain.json, the paper's
                   test, of GLPFT/dataset/toolbench/test there

benchmarks/agent/conversations.py reads them. The published `prepro_raw_stage_1.py` writes the first 20 conversations
only: remove the slice in its last line.

Differs from the paper's data in three points. A conversation is left out as a whole if it has a call of a tool that is
not offered, a call whose input is not JSON, or an end without an answer; the authors use its other steps. Training
conversations whose instruction is in a test are left out. Every sample has its own prompt; the authors' global samples
that give up have that of the step before. The manifest of the data's directory lists what was left out, by reason and
number, and the job's log counts it. Samples whose tools and instruction alone are too long are left out of training and
counted in the stage's log (the authors cut off the tools' beginning), and are wrong in the test.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from adaptbench.benchmarks.agent import baselines, conversations, measures
from adaptbench.benchmarks.agent.measures import steps_task
from adaptbench.benchmarks.agent.steps import step_documents, training_records
from adaptbench.benchmarks.shared import hub
from adaptbench.benchmarks.shared.gsm8k import set_apart
from adaptbench.contracts import BenchmarkConfig, Record
from adaptbench.data.leakage import normalise
from adaptbench.errors import AdaptbenchError
from adaptbench.io.jsonl import read_json
from adaptbench.tasks import Splits

PUBLIC_DATA = {"toolbench": "Yhyu13/ToolBench_toolllama_G123_dfs"}
FILES = {
    "toolbench": ("toolllama_G123_dfs_train.json", "toolllama_G123_dfs_eval.json"),
    "glpft": ("raw_data_stage_2.json", "in_domain.json"),
}


class Config(BenchmarkConfig):
    kind: Literal["toolbench"] = "toolbench"
    form: Literal["toolbench", "glpft"] = Field("toolbench", description="ToolBench's own conversations, or GLPFT's")
    validation_items: int = Field(0, ge=0, description="training conversations set aside for choosing hyper-parameters")
    train_items: int | None = Field(None, gt=0, description="training conversations; default: all that are left")
    test_items: int | None = Field(None, gt=0, description="test conversations, the first ones; default: all")


BASELINES = baselines.BASELINES
DECODE, TASK_FILES = measures.DECODE, measures.TASK_FILES

TASKS = (
    steps_task("toolbench_steps", "ToolBench steps"),
    steps_task("toolbench_validation", "ToolBench validation", split="validation", primary=True),
)


def build(config: Config, seed: int, public: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Record]]:
    """Return the splits of ToolBench.

    Returns:
        train: trajectories with their "text", all "optional", so that samples that do not fit are left out;
        toolbench_steps (in-domain), toolbench_validation: a document for each step.

    Raises:
        AdaptbenchError: the hub or the folder lacks a file, a file is not a list, or none of its records can be read.
    """
    (name, records), (test_name, test_records) = _published(config.form, public["toolbench"])
    test_trajectories, test_left_out = read(test_name, test_records)
    trajectories, left_out = read(name, records)
    tested = {normalise(one["question"]) for one in test_trajectories.values()}
    kept: dict[str, Record] = {}
    for number, one in trajectories.items():
        question = normalise(one["question"])
        if question in tested or question in kept:
            reason = "its instruction is asked by the test" if question in tested else "its instruction a second time"
            left_out.setdefault(reason, []).append(number)
        else:
            kept[question] = one
    test = list(test_trajectories.values())[: config.test_items]
    validation, train = set_apart(
        [*kept.values()], test, config.validation_items, seed, track="agent", field="question"
    )
    splits = {
        "train": training_records(
            [{**one, "optional": True} for one in train[: config.train_items]], f"data.toolbench: {name}"
        ),
        "toolbench_steps": step_documents(test, f"data.toolbench: {test_name}", whole_answer=True),
    }
    if validation:
        splits["toolbench_validation"] = step_documents(validation, f"data.toolbench: {name}", whole_answer=True)
    return Splits(splits, {name: left_out, test_name: test_left_out})


def _published(form: str, source: Mapping[str, Any]) -> list[tuple[str, Iterable[Any]]]:
    """Return the records of training and test, each with the name of their source."""
    if source["path"] is not None:
        return [(name, file_of(Path(source["path"]), name)) for name in FILES[form]]
    if form == "glpft":
        raise AdaptbenchError(f"data.toolbench.path: must name a folder with {' and '.join(FILES[form])}")
    train, test = hub.load("toolbench", source, splits=("train", "test"))
    return [(f"{source['hub_id']} train", train), (f"{source['hub_id']} test", test)]


def file_of(folder: Path, name: str) -> list[Any]:
    """Return the records of a file.

    Raises:
        AdaptbenchError: the file does not exist, or is not a list.
    """
    records = read_json(folder / name, strict=False)  # a broken record is left out, and no other
    if not isinstance(records, list):
        raise AdaptbenchError(f"{folder / name}: must be a list of conversations")
    return records


def read(name: str, records: Iterable[Any]) -> tuple[dict[int, Record], dict[str, list[int]]]:
    """Convert records to trajectories; see benchmarks/agent/conversations.py.

    Raises:
        AdaptbenchError: none of the records can be read; the message has the reasons.
    """
    made, left_out = conversations.trajectories(records)
    if not made:
        reasons = "; ".join(f"{len(numbers)} times {reason}" for reason, numbers in left_out.items())
        raise AdaptbenchError(f"data.toolbench: {name}: no conversation can be read: {reasons or 'it is empty'}")
    return made, left_out
