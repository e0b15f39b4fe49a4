"""Compiled layers: they train as others do, and go on as they began.

Run: python -m pytest tests/train/test_compiled_layers.py
"""

import hashlib
import importlib

import pytest
import torch

from adaptbench.errors import AdaptbenchError
from adaptbench.jobs import warm
from adaptbench.train import compiling, objectives
from tests.support import training_cases as cases


def _frozen_below():
    model = cases.small_model()
    for part in (model.get_input_embeddings(), model.get_decoder().layers[0]):
        part.requires_grad_(False)
    return model


@cases.WITH_A_COMPILER
@pytest.mark.parametrize(
    ("make", "changed"),
    [
        (_frozen_below, {"micro_batch_size": 1}),
        (cases.lora_without_dropout, {"gradient_checkpointing": True}),
        (cases.small_model, {"precision": "bfloat16", "optimizer": "muon"}),
    ],
    ids=["some-frozen", "lora-checkpointed", "bfloat16"],
)
def test_compiled_layers_train_as_others_do(tmp_path, make, changed):
    plain, compiled = make(), make()
    cases.train(plain, tmp_path / "plain", cases.training_options(**changed))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    outcome = cases.train(compiled, tmp_path / "compiled", cases.training_options(compile=True, **changed))
    assert outcome.compiled
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert 1 <= graphs <= 2, "a graph for each kind of layer, not for each layer"
    close = 2e-2 if changed.get("precision") == "bfloat16" else 1e-5
    pairs = list(zip(cases.log(tmp_path / "plain"), cases.log(tmp_path / "compiled"), strict=True))
    assert [row["loss"] for _, row in pairs] == pytest.approx([row["loss"] for row, _ in pairs], rel=close)
    assert [row["tokens"] for _, row in pairs] == [row["tokens"] for row, _ in pairs]
    torch.testing.assert_close(  # afterwards it is a plain model, also for other shapes
        compiled(torch.arange(5)[None]).logits, plain(torch.arange(5)[None]).logits, rtol=0.1, atol=close * 1e3
    )
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs


@cases.WITH_A_COMPILER
def test_passes_between_steps_are_not_compiled(tmp_path):
    """A tuner's own passes have shapes of their own, which would be compiled each."""
    seen = []

    class Passing(cases.Callback):
        def after_step(self, step, run=None):
            frames = torch._dynamo.utils.counters["frames"]["total"]
            batch = {"input_ids": torch.arange(2 + step)[None], "labels": torch.arange(2 + step)[None]}
            run(objectives.causal_lm, batch)
            seen.append(torch._dynamo.utils.counters["frames"]["total"] - frames)
            return {}

    assert cases.train(cases.small_model(), tmp_path, cases.training_options(compile=True), callback=Passing()).compiled
    assert seen == [0] * 8


@cases.WITH_A_COMPILER
def test_what_is_done_once_for_all_jobs_is_not_done_again(monkeypatch):
    """Else every job would ask about the processor again, for two seconds, and read all of torch's and Triton's
    files.
    """
    import subprocess

    for module, _, function in (name.partition(":") for name in warm.PRELOAD_COMPILER):
        found = importlib.import_module(module)
        if function:
            assert getattr(found, function)() or (function == "triton_key" and not importlib.util.find_spec("triton"))
    monkeypatch.setattr(subprocess, "run", None)
    monkeypatch.setattr(subprocess, "Popen", None)
    monkeypatch.setattr(hashlib, "sha256", None)
    from torch._inductor.codecache import torch_key, triton_key
    from torch._inductor.cpu_vec_isa import pick_vec_isa

    assert torch_key()
    assert triton_key() or importlib.util.find_spec("triton") is None
    assert pick_vec_isa()


def test_without_a_compiler_layers_run_as_they_are(tmp_path, capsys):
    import torch._inductor.config

    plain, other = cases.small_model(), cases.small_model()
    cases.train(plain, tmp_path / "plain", cases.training_options())
    torch._dynamo.reset()
    with torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",), "force_disable_caches": True}):
        outcome = cases.train(other, tmp_path / "other", cases.training_options(compile=True))
    torch._dynamo.reset()
    assert not outcome.compiled
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "compile" in line]
    assert line.startswith("training.compile: InvalidCxxCompiler: No working C++ compiler found")
    assert line.endswith("; going on uncompiled")
    cases.assert_same_bits(cases.weights(plain), cases.weights(other))


@cases.WITH_A_COMPILER
def test_a_training_goes_on_as_it_began(tmp_path, monkeypatch):
    """What began with compiled layers goes on with them or not at all, and what began without them does without."""
    plain = cases.small_model()
    cases.train(plain, tmp_path / "plain", cases.training_options())
    for begins in (False, True):
        work = tmp_path / str(begins)
        with monkeypatch.context() as patch, torch._dynamo.config.patch(disable=not begins):
            cases.kill_at(patch, 3)
            with pytest.raises(cases.Killed):
                cases.train(cases.small_model(), work, cases.training_options(compile=True), checkpoint_seconds=0)
        resumed = cases.small_model()
        with torch._dynamo.config.patch(disable=begins):
            if begins:
                with pytest.raises(AdaptbenchError, match=r"^training.compile: .* is set; this training began with"):
                    cases.train(resumed, work, cases.training_options(compile=True), checkpoint_seconds=0)
            else:
                assert not cases.train(
                    resumed, work, cases.training_options(compile=True), checkpoint_seconds=0
                ).compiled
                cases.assert_same_bits(cases.weights(plain), cases.weights(resumed))


def test_what_cannot_be_compiled_later_is_one_line(tmp_path, monkeypatch):
    class Failing(cases.Callback):
        def after_step(self, step, run=None):
            raise torch._dynamo.exc.InternalTorchDynamoError("broken\nin two lines")

    monkeypatch.setattr(compiling, "decoder_layers", lambda model: [])
    with pytest.raises(AdaptbenchError, match=r"^training.compile: broken; set it to false$"):
        cases.train(cases.small_model(), tmp_path, cases.training_options(compile=True), callback=Failing())
