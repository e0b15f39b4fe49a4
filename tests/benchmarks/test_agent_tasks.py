"""Every task of the agent track, asked through lm-eval as a run asks it.

Run: python -m pytest tests/benchmarks/test_agent_tasks.py
"""

import json
from pathlib import Path

import pytest
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

from adaptbench import registry
from adaptbench.benchmarks.agent import baselines, world
from adaptbench.contracts import StageContext
from adaptbench.data import benchmark_data
from adaptbench.evaluate.policy import PolicyLM
from tests.support.project import PROJECT

SIZES = {
    "world": {"train_problems": 40, "validation_problems": 4, "test_problems": 8},
    "gsm8k": {"train_items": 20, "validation_items": 3, "test_items": 3},
    "toolalpaca": {},
    "api_bank": {},
}
LIMIT = 6


@pytest.fixture(scope="module")
def always_call():
    return baselines.always_call(
        world.build(world.Config(train_problems=40, test_problems=4, validation_problems=4), 0, {})["train"]
    )


def _public(kind):
    if kind == "world":
        return {}
    folder = PROJECT.parent / "shared" / "data" / kind
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here")
    return {kind: {"path": str(folder), "hub_id": "", "revision": "main"}}


def _laid(kind, out: Path) -> Path:
    module = registry.benchmark("agent", kind)
    config = module.Config(**SIZES[kind]).model_dump(mode="json")
    spec = {"track": "agent", "config": config, "seed": 0, "public": _public(kind)}
    (out / "data").mkdir()
    benchmark_data.build(spec, StageContext(0, {}), out / "data")
    (out / "laid").mkdir()
    names = [task.name for task in module.TASKS]
    files = ["benchmarks/splits.py", *module.TASK_FILES]
    benchmark_data.lay_tasks({"track": "agent", "tasks": names, "files": files}, out / "data", out / "laid")
    return out / "laid"


@pytest.mark.parametrize("kind", SIZES)
def test_every_task_is_asked_and_scored(kind, always_call, tmp_path):
    laid = _laid(kind, tmp_path)
    module = registry.benchmark("agent", kind)
    found = simple_evaluate(
        model=PolicyLM(always_call, {"agent": laid}),
        tasks=[task.name for task in module.TASKS],
        task_manager=TaskManager(include_path=[str(laid / "tasks")], include_defaults=False),
        limit=LIMIT,
        bootstrap_iters=0,
    )
    for task in module.TASKS:
        split = [json.loads(line) for line in (laid / "splits" / f"{task.name}.jsonl").read_text().splitlines()]
        samples = found["samples"][task.name]
        assert len(samples) == min(LIMIT, len(split))
        for sample, document in zip(sorted(samples, key=lambda one: one["doc_id"]), split, strict=False):
            assert 0 <= sample[task.metric] <= 1
            assert {name for name in task.more if sample.get(name) is not None}, "its further metrics are there"
            if task.episodes:
                played = json.loads(sample["filtered_resps"][0])
                offered = {tool["name"] for tool in document["tools"]}
                assert played["stopped"] == "repeat"
                assert [one["action"] in offered for one in played["steps"]] == [True] * 3
            else:
                assert sample["plan_acc"] == float(document["step"]["decision"] == "caller")
                assert sample["hallucination"] == 0
