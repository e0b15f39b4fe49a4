"""Small models and data to train, and ways to train them and to kill the training."""

import json
import os
import random
import signal

import pytest
import torch

from adaptbench.config.training import Training
from adaptbench.data.packing import Packed, document
from adaptbench.train import loop, objectives
from adaptbench.train.optimizers import default_optimizers
from tests.support.models import toy_model
from tests.support.project import COMPILES

LENGTH = 32
WITH_A_COMPILER = pytest.mark.skipif(not COMPILES, reason="there is no C++ compiler")


def some_data(seed=0, count=40):
    rng = random.Random(f"alpha{seed}")
    sizes = [rng.choice((3, 5, 9, 14, 30)) for _ in range(count)]
    return Packed([document([rng.randrange(1, 300) for _ in range(size)]) for size in sizes], LENGTH, seed)


def training_options(**changed):
    values = {"steps": 8, "batch_size": 2, "sequence_length": LENGTH, "precision": "float32", "warmup_ratio": 0.0}
    return Training(**values | changed)


def small_model(**changed):
    return toy_model("qwen3", layers=2, **changed)


def tied_model():
    return toy_model("gemma", layers=2)


def lora_model():
    from peft import LoraConfig, get_peft_model

    model = small_model()
    torch.manual_seed(5)
    options = LoraConfig(r=4, lora_dropout=0.3, target_modules="all-linear", init_lora_weights=False)
    return get_peft_model(model, options)


def lora_without_dropout():
    model = lora_model()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def train(model, work, options, *, optimizers=None, **changed):
    settings = {"work": work, "pad_id": 0, "seed": 3, "compile_layers": options.compile} | changed
    data, objective = settings.pop("data", None) or some_data(), settings.pop("objective", objectives.causal_lm)
    return loop.train(model, optimizers or default_optimizers(model, options), data, objective, options, **settings)


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def log(work):
    return [json.loads(line) for line in (work / "training.jsonl").read_text().splitlines()]


def assert_same_bits(one, other):
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


class Killed(Exception):
    pass


def kill_at(monkeypatch, step):
    """The process dies in step `step`, after its log row is written and before its checkpoint is."""
    write = loop.Log.write

    def dying(self, now, **values):
        write(self, now, **values)
        if now == step:
            raise Killed

    monkeypatch.setattr(loop.Log, "write", dying)


class Callback:
    """A tuner's callback with a state of its own; sends this process a signal after the step `stop_at`."""

    def __init__(self, stop_at=0, number=signal.SIGTERM):
        self.stop_at, self.number, self.seen = stop_at, number, []

    def after_step(self, step, run=None):
        self.seen.append(step)
        if step == self.stop_at:
            os.kill(os.getpid(), self.number)
        return {"steps_seen": len(self.seen)}

    def state(self):
        return {"seen": self.seen}

    def restore(self, state):
        self.seen = list(state["seen"])
