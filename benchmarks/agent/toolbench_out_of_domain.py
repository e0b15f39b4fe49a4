"""GLPFT's out-of-domain test: ToolBench's conversations with tools of domains that training does not have.

Only for evaluation. Source: GLPFT/dataset/toolbench/test/out_of_domain.json of
https://github.com/X-PLUG/Multi-LLM-Agent, read as the in-domain test (benchmarks/agent/toolbench.py). 41 % of its right
calls have no arguments, so that a policy that always calls does well: compare with the baselines' rows.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from adaptbench.benchmarks.agent import measures, toolbench
from adaptbench.benchmarks.agent.measures import steps_task
from adaptbench.benchmarks.agent.steps import step_documents
from adaptbench.contracts import BenchmarkConfig, Record
from adaptbench.errors import AdaptbenchError
from adaptbench.tasks import Splits

PUBLIC_DATA = toolbench.PUBLIC_DATA
EVALUATION_ONLY = True
FILE = "out_of_domain.json"


class Config(BenchmarkConfig):
    kind: Literal["toolbench_out_of_domain"] = "toolbench_out_of_domain"


DECODE, TASK_FILES = measures.DECODE, measures.TASK_FILES

TASKS = (steps_task("toolbench_out_of_domain_steps", "ToolBench out of domain"),)


def build(config: Config, seed: int, public: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Record]]:
    """Return the split of the test.

    Returns:
        toolbench_out_of_domain_steps: a document for each step.

    Raises:
        AdaptbenchError: no folder is named, its file is missing or not a list, or none of its records can be read.
    """
    if public["toolbench"]["path"] is None:
        raise AdaptbenchError(f"data.toolbench.path: must name a folder with {FILE}")
    records = toolbench.file_of(Path(public["toolbench"]["path"]), FILE)
    trajectories, left_out = toolbench.read(FILE, records)
    documents = step_documents(list(trajectories.values()), f"data.toolbench: {FILE}", whole_answer=True)
    return Splits({"toolbench_out_of_domain_steps": documents}, {FILE: left_out})
