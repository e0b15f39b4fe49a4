"""What the parts of a training step are: the watch around the training loop counts each once and changes nothing.

Run: python -m pytest tests/tools/test_step_speed.py
"""

import itertools
import math
from pathlib import Path

import pandas as pd
import pytest
import torch

from adaptbench.config.training import Training
from adaptbench.data.packing import Packed, document
from adaptbench.errors import AdaptbenchError
from adaptbench.train import loop, objectives
from adaptbench.train.optimizers import default_optimizers
from tests.support.models import toy_model
from tests.support.project import COMPILES
from tools.speed import step_timer
from tools.speed import steps as step_speed
from tools.speed.step_timer import StepTimer

STEPS = step_timer.WARM_UP + step_timer.STEPS + step_timer.PROFILED + 1


def _train(folder, steps, callback=None):
    torch.manual_seed(0)
    model = toy_model("llama", layers=1)
    options = Training(steps=steps, batch_size=2, sequence_length=16, precision="float32")
    optimizers = default_optimizers(model, options)
    rows = Packed([document([5 + (i + k) % 200 for k in range(12)]) for i in range(40)], 16, 0)
    made = loop.train(
        model, optimizers, rows, objectives.causal_lm, options, work=folder, pad_id=0, seed=0, callback=callback
    )
    return model, made


def test_every_step_has_its_parts_and_training_is_as_without_the_watch(tmp_path):
    train, backward, clip = loop.train, torch.Tensor.backward, torch.nn.utils.clip_grad_norm_
    watch = StepTimer()
    with watch.installed():
        watched, made = _train(tmp_path / "watched", 3)  # the watch says how many steps
    assert made.steps == STEPS
    assert (loop.train, torch.Tensor.backward, torch.nn.utils.clip_grad_norm_) == (train, backward, clip)
    assert len(watch.steps) == STEPS
    for step in watch.steps[:-1]:
        parts = {part: step[part] for part in ("data", "forward", "backward", "clipping", "optimizer")}
        assert min(parts.values()) > 0
        assert sum(parts.values()) <= step["all"]
    assert 0 < watch.products < 1
    plain, _ = _train(tmp_path / "plain", STEPS)
    assert all(torch.equal(a, b) for a, b in zip(watched.parameters(), plain.parameters(), strict=True))


def test_what_is_done_after_a_step_is_counted_apart(tmp_path):
    class After:
        def after_step(self, step, run=None):
            return {"x": float(torch.randn(200, 200).sum())}

        def state(self):
            return {}

        def restore(self, state): ...

    watch = StepTimer()
    with watch.installed():
        _train(tmp_path / "after", 3, After())
    assert all(step["after the step"] > 0 for step in watch.steps[:-1])
    assert math.isfinite(watch.products)


def test_a_part_within_another_counts_once():
    """ADEPT's importances, after a step, take backward passes of their own."""
    watch = StepTimer()
    watch.steps.append({})
    now = itertools.count()
    watch.now = lambda: next(now)
    backward = watch.timed("backward", lambda: None)
    watch.timed("after the step", lambda: (backward(), backward()))()
    assert watch.steps == [{"after the step": 1}]
    backward()
    assert watch.steps == [{"after the step": 1, "backward": 1}]


@pytest.mark.graph
def test_stages_with_compiled_layers_are_timed_both_ways(smoke_run, monkeypatch, tmp_path):
    monkeypatch.chdir(smoke_run)
    for name, value in {"WARM_UP": 1, "STEPS": 3, "PROFILED": 1, "ROUNDS": 1, "RUNS": (("domain", "full"),)}.items():
        monkeypatch.setattr(step_timer if hasattr(step_timer, name) else step_speed, name, value)
    step_speed.measure(Path("results/smoke"), tmp_path)
    table = pd.read_csv(tmp_path / "steps_smoke_cpu.csv").set_index("stage")
    assert list(table.index) == ["base", "full, tune"]
    assert (table["milliseconds"] > 0).all()
    assert (table.loc["base", "compiled"] > 0) == COMPILES
    assert math.isnan(table.loc["full, tune", "compiled"])
    parts = table[[*step_speed.PARTS, "rest"]].sum(axis=1)
    assert parts.between(99, 101).all()
    floor = pd.read_csv(tmp_path / "floor_smoke_cpu.csv").set_index("what")
    assert floor.loc["all", "stages"] == floor["stages"].drop("all").sum()
    assert "GFLOP/s each" in (tmp_path / "floor_smoke_cpu.md").read_text()


@pytest.mark.parametrize(("cores", "threads", "jobs"), [(1, 1, 1), (2, 1, 2), (5, 2, 2), (2, 4, 1)])
def test_the_floor_is_of_as_many_jobs_at_once_as_the_graph_has(monkeypatch, cores, threads, jobs):
    monkeypatch.setattr(step_speed.provenance, "hardware", lambda: {"cores": cores})
    monkeypatch.setattr("torch.get_num_threads", lambda: threads)
    assert step_speed._jobs_at_once("cpu") == jobs
    assert step_speed._jobs_at_once("cuda") == 1


def test_products_that_run_at_once_are_each_timed(monkeypatch):
    monkeypatch.setattr(step_speed.tables, "in_turn", lambda ways, repeats: (ways[""](), {"": [2.0] * repeats}))
    assert step_speed._product_rate("cpu", 3) == 1024**3


def test_a_preset_that_has_not_run_is_said_so(tmp_path):
    with pytest.raises(AdaptbenchError, match=r"none of the runs .*; run `make`"):
        step_speed.measure(tmp_path, tmp_path / "out")
