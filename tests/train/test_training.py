"""The training loop against plain torch: the same losses and weights, in one go, in parts, and killed and resumed.

The reference is a loop written out here: its own parameter groups, schedule formulas, clipping and cross-entropy.
Also: which parameters the optimizers hold, the count of FLOPs, and what is left behind by a kill or a half-written
checkpoint.

Run: python -m pytest tests/train/test_training.py
"""

import hashlib
import importlib
import json
import math
import os
import random
import re
import signal

import pytest
import safetensors.torch
import torch

from adaptbench import errors
from adaptbench.config.training import Training
from adaptbench.data.packing import Packed, collate, document
from adaptbench.errors import AdaptbenchError
from adaptbench.jobs import warm
from adaptbench.kernels import implementations
from adaptbench.train import attention, compiling, cost, loop, objectives
from adaptbench.train.optimizers import default_optimizers, total_steps
from tests.support.models import ARCHITECTURES, reset_accelerate, toy_model
from tests.support.project import COMPILES

LENGTH = 32


def _data(seed=0, count=40):
    rng = random.Random(f"alpha{seed}")
    sizes = [rng.choice((3, 5, 9, 14, 30)) for _ in range(count)]
    return Packed([document([rng.randrange(1, 300) for _ in range(size)]) for size in sizes], LENGTH, seed)


def _options(**changed):
    values = {"steps": 8, "batch_size": 2, "sequence_length": LENGTH, "precision": "float32", "warmup_ratio": 0.0}
    return Training(**values | changed)


def _model(**changed):
    return toy_model("qwen3", layers=2, **changed)


def _tied():
    return toy_model("gemma", layers=2)


def _lora():
    from peft import LoraConfig, get_peft_model

    model = _model()
    torch.manual_seed(5)
    options = LoraConfig(r=4, lora_dropout=0.3, target_modules="all-linear", init_lora_weights=False)
    return get_peft_model(model, options)


def _lora_without_dropout():
    model = _lora()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def _train(model, work, options, *, optimizers=None, **changed):
    settings = {"work": work, "pad_id": 0, "seed": 3, "compile_layers": options.compile} | changed
    data, objective = settings.pop("data", None) or _data(), settings.pop("objective", objectives.causal_lm)
    return loop.train(model, optimizers or default_optimizers(model, options), data, objective, options, **settings)


def _weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def _log(work):
    return [json.loads(line) for line in (work / "training.jsonl").read_text().splitlines()]


def _assert_same_bits(one, other):
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


# --- the loop against a plain one


def _factor(schedule, t, steps, warmup, decay):
    """The rate of update t (from 0) as a share of the full rate."""
    if t < warmup:
        return t / warmup
    if schedule == "constant":
        return 1.0
    if schedule == "linear":
        return (steps - t) / (steps - warmup)
    if schedule == "cosine":
        return (1 + math.cos(math.pi * (t - warmup) / (steps - warmup))) / 2
    left = steps - t
    return 1.0 if left >= decay else (1 - math.cos(math.pi * left / decay)) / 2


def _plain_loss(model, rows):
    """The mean of -log p over every token but each document's first, each document alone."""
    losses = []
    for row in rows:
        for example in row:
            ids = torch.tensor(example.input_ids)
            chances = model(input_ids=ids[None]).logits[0, :-1].log_softmax(-1)
            losses.append(-chances.gather(1, ids[1:, None]).flatten())
    return torch.cat(losses).mean()


def _plain_loop(model, data, *, steps, batch, rate, schedule, warmup, decay, betas, weight_decay, clip):
    matrices = [p for p in model.parameters() if p.ndim == 2]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    decayed = torch.optim.AdamW(matrices, lr=rate, betas=betas, eps=1e-8, weight_decay=weight_decay)
    free = torch.optim.AdamW(vectors, lr=rate, betas=betas, eps=1e-8, weight_decay=0.0)
    rows = (row for epoch in range(1000) for row in data.epoch(epoch))
    log = []
    for t in range(steps):
        loss = _plain_loss(model, [next(rows) for _ in range(batch)])
        loss.backward()
        norm = math.sqrt(sum(p.grad.double().pow(2).sum().item() for p in model.parameters()))
        for p in model.parameters():
            p.grad *= min(1.0, clip / norm)
        now = rate * _factor(schedule, t, steps, warmup, decay)
        for optimizer in (decayed, free):
            for group in optimizer.param_groups:
                group["lr"] = now
            optimizer.step()
            optimizer.zero_grad()
        log.append((loss.item(), norm, now))
    return log


@pytest.mark.parametrize(
    ("schedule", "warmup_ratio", "warmup", "clip"),
    [
        ("cosine", 0.25, 3, 0.5),
        ("linear", 0.25, 3, 1e6),
        ("constant", 0.25, 3, 0.5),
        ("warmup_stable_decay", 0.25, 3, 0.5),
        ("cosine", 0.0, 0, 0.5),
    ],
)
def test_losses_rates_norms_and_weights_are_those_of_a_plain_loop(tmp_path, schedule, warmup_ratio, warmup, clip):
    """In float64: AdamW makes a full step of a gradient that is nothing but rounding, and rounding is the
    processor's.
    """
    steps, rate, betas, weight_decay = 12, 1e-3, (0.8, 0.9), 0.1
    options = _options(
        steps=steps, learning_rate=rate, betas=betas, weight_decay=weight_decay, max_grad_norm=clip,
        schedule=schedule, warmup_ratio=warmup_ratio, decay_ratio=0.5,
    )  # fmt: skip
    plain, ours = _model().double(), _model().double()
    # 12 steps, a quarter warm-up, half decay: the rate rises for 3 steps, stands for 3 and falls for 6.
    expected = _plain_loop(
        plain, _data(), steps=steps, batch=2, rate=rate, schedule=schedule, warmup=warmup, decay=6, betas=betas,
        weight_decay=weight_decay, clip=clip,
    )  # fmt: skip
    outcome = _train(ours, tmp_path, options)
    log = _log(tmp_path)
    assert [row["step"] for row in log] == list(range(1, steps + 1))
    for row, (loss, norm, now) in zip(log, expected, strict=True):
        assert row["loss"] == pytest.approx(loss, abs=2e-6)
        assert row["grad_norm"] == pytest.approx(norm, rel=1e-5)
        assert row["learning_rate"] == pytest.approx(now, rel=1e-9, abs=1e-15)
    for (name, p), q in zip(ours.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-7, msg=lambda text, name=name: f"{name}: {text}")
    assert outcome.final_loss == log[-1]["loss"]
    assert outcome.tokens == log[-1]["tokens"] == steps * 2 * LENGTH


def test_trained_tokens_are_the_labels_of_every_step(tmp_path):
    outcome = _train(_model(), tmp_path, _options(steps=5))
    rows = [row for epoch in range(5) for row in _data().epoch(epoch)][: 5 * 2]
    assert outcome.trained_tokens == sum(len(example.input_ids) - 1 for row in rows for example in row)


def test_a_frozen_models_forward_pass_costs_two_operations_a_weight_and_token():
    model = _model()
    matrices = [p.numel() for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    assert len(matrices) == 2 * 7 + 1  # seven a layer, and the head
    assert cost.forward_flops(model, 10) == 2 * 10 * sum(matrices)
    tied = _tied()
    inner = sum(p.numel() for name, p in tied.named_parameters() if p.ndim == 2 and "embed" not in name)
    assert cost.forward_flops(tied, 3) == 2 * 3 * (inner + tied.get_input_embeddings().weight.numel())


@pytest.mark.parametrize("make", [_model, _lora], ids=["plain", "lora"])
def test_an_objective_with_several_passes_counts_the_positions_of_each(tmp_path, make):
    def thrice(model, batch):
        embeds = model.get_input_embeddings()(batch["input_ids"])
        model(inputs_embeds=embeds[:, :7], use_cache=False)
        model(input_ids=batch["input_ids"][:, :5])
        return objectives.causal_lm(model, batch)

    outcome = _train(make(), tmp_path, _options(steps=3), objective=thrice)
    assert outcome.tokens == 3 * 2 * (7 + 5 + LENGTH)


def test_auto_is_bfloat16_where_the_processor_computes_in_it(monkeypatch):
    if torch.cuda.is_available():
        pytest.skip("of processors")
    assert Training(steps=1).precision == "auto"
    for avx512, amx in ((False, False), (True, False), (False, True)):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda avx512=avx512: avx512)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda amx=amx: amx)
        assert attention.precision(Training(steps=1)) == ("bfloat16" if avx512 or amx else "float32")
        for asked in ("float32", "bfloat16"):
            assert attention.precision(Training(steps=1, precision=asked)) == asked


def test_a_stage_trains_in_the_precision_that_auto_stands_for(tmp_path, monkeypatch):
    losses = {}
    for asked in ("float32", "bfloat16"):
        for name, option in ((asked, asked), (f"auto as {asked}", "auto")):
            monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda asked=asked: asked == "bfloat16")
            monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
            monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
            reset_accelerate()
            _train(_model(), tmp_path / name, _options(steps=2, precision=option))
            losses[name] = [row["loss"] for row in _log(tmp_path / name)]
    assert losses["float32"] == losses["auto as float32"] != losses["bfloat16"] == losses["auto as bfloat16"]


@pytest.mark.parametrize(
    ("changed", "device", "by"),
    [
        ({}, "cpu", "eager"),
        ({}, "cuda", "sdpa"),
        ({"precision": "float32"}, "cpu", "sdpa"),
        ({"attention": "sdpa"}, "cpu", "sdpa"),
        ({"sequence_length": 6000}, "cpu", "sdpa"),
        ({"sequence_length": 6000, "gradient_checkpointing": True}, "cpu", "eager"),
    ],
    ids=["bfloat16", "on a GPU", "float32", "as asked", "too much to keep", "a layer at a time"],
)
def test_attention_is_eager_where_a_processor_computes_in_bfloat16(changed, device, by):
    options = _options(**{"precision": "bfloat16"} | changed)
    model = _model()
    assert model.config._attn_implementation == "sdpa"
    assert attention.choose_attention(model, options, 2, torch.device(device)) == by


def test_how_a_stage_attended_is_said_and_the_model_is_left_as_it_was(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("of processors")
    losses = {}
    for name in ("auto", "eager", "sdpa"):
        reset_accelerate()
        model = _model()
        model.set_attn_implementation("sdpa" if name == "auto" else name)
        before = model.config._attn_implementation
        outcome = _train(model, tmp_path / name, _options(precision="bfloat16", attention=name))
        assert outcome.attention == ("eager" if name == "auto" else name)
        assert model.config._attn_implementation == before
        losses[name] = [row["loss"] for row in _log(tmp_path / name)]
    assert losses["auto"] == losses["eager"] != losses["sdpa"]
    assert losses["auto"] == pytest.approx(losses["sdpa"], rel=2e-2)


def test_models_that_a_loss_compares_attend_alike(tmp_path):
    """KL to the start would else begin with a difference that is the attention's."""
    other, seen = _model(), []

    def objective(model, batch):
        seen.append(other.config._attn_implementation)
        return objectives.causal_lm(model, batch)

    objective.forward_only = (other,)
    _train(_model(), tmp_path, _options(steps=1, precision="bfloat16"), objective=objective)
    assert seen == ["sdpa" if torch.cuda.is_available() else "eager"]
    assert other.config._attn_implementation == "sdpa"


def test_whole_epochs_are_counted_in_the_rows_of_the_first():
    data = _data()
    rows = len(data.epoch(0))
    assert rows % 3, "an even split would not test the rounding"
    assert total_steps(_options(steps=None, epochs=1.0, batch_size=3), data) == rows // 3 + 1
    assert total_steps(_options(steps=None, epochs=2.5, batch_size=1), data) == math.ceil(2.5 * rows)
    assert total_steps(_options(steps=None, epochs=0.01, batch_size=4), data) == 1
    assert total_steps(_options(steps=7), data) == 7


@pytest.mark.parametrize("micro", [1, 2])
def test_accumulation_over_ragged_micro_batches_is_one_big_batch(tmp_path, micro):
    """With plain gradient descent, so that a wrong weight of a micro-batch shows in the weights as it is."""
    rows = _data().epoch(0)[:4]
    counts = [sum(len(example.input_ids) - 1 for example in row) for row in rows]
    assert max(counts) > min(counts), "micro-batches of equal counts would hide a plain mean"
    results = []
    for name, size in (("whole", None), ("parts", micro)):
        model = _model()
        options = _options(steps=3, batch_size=4, micro_batch_size=size, schedule="constant", max_grad_norm=1e6)
        _train(model, tmp_path / name, options, optimizers=[torch.optim.SGD(model.parameters(), lr=0.1)])
        results.append((_weights(model), _log(tmp_path / name)))
    (weights, log), (other_weights, other_log) = results
    for row, other in zip(log, other_log, strict=True):
        assert other == pytest.approx(row, rel=2e-6)
    for name, weight in weights.items():
        torch.testing.assert_close(
            other_weights[name], weight, rtol=0, atol=2e-6, msg=lambda text, name=name: f"{name}: {text}"
        )
    # What the plain mean over micro-batches would have given is not within that tolerance.
    first = [_plain_loss(_model(), [row]).item() for row in rows]
    assert abs(sum(first) / 4 - log[0]["loss"]) > 1e-3


@pytest.mark.parametrize("make", [_model, _lora], ids=["all", "lora"])
def test_gradient_checkpointing_changes_nothing(tmp_path, make):
    results = []
    for name, on in (("off", False), ("on", True)):
        model = make()
        _train(model, tmp_path / name, _options(steps=4, gradient_checkpointing=on))
        results.append(_weights(model))
    for name, weight in results[0].items():
        torch.testing.assert_close(
            results[1][name], weight, rtol=0, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )


# --- compiled layers


def _frozen_below():
    model = _model()
    for part in (model.get_input_embeddings(), model.get_decoder().layers[0]):
        part.requires_grad_(False)
    return model


WITH_A_COMPILER = pytest.mark.skipif(not COMPILES, reason="there is no C++ compiler")


@WITH_A_COMPILER
@pytest.mark.parametrize(
    ("make", "changed"),
    [
        (_frozen_below, {"micro_batch_size": 1}),
        (_lora_without_dropout, {"gradient_checkpointing": True}),
        (_model, {"precision": "bfloat16", "optimizer": "muon"}),
    ],
    ids=["some-frozen", "lora-checkpointed", "bfloat16"],
)
def test_compiled_layers_train_as_others_do(tmp_path, make, changed):
    plain, compiled = make(), make()
    _train(plain, tmp_path / "plain", _options(**changed))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    outcome = _train(compiled, tmp_path / "compiled", _options(compile=True, **changed))
    assert outcome.compiled
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert 1 <= graphs <= 2, "a graph for each kind of layer, not for each layer"
    close = 2e-2 if changed.get("precision") == "bfloat16" else 1e-5
    pairs = list(zip(_log(tmp_path / "plain"), _log(tmp_path / "compiled"), strict=True))
    assert [row["loss"] for _, row in pairs] == pytest.approx([row["loss"] for row, _ in pairs], rel=close)
    assert [row["tokens"] for _, row in pairs] == [row["tokens"] for row, _ in pairs]
    torch.testing.assert_close(  # afterwards it is a plain model, also for other shapes
        compiled(torch.arange(5)[None]).logits, plain(torch.arange(5)[None]).logits, rtol=0.1, atol=close * 1e3
    )
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs


@WITH_A_COMPILER
def test_passes_between_steps_are_not_compiled(tmp_path):
    """A tuner's own passes have shapes of their own, which would be compiled each."""
    seen = []

    class Passing(_Callback):
        def after_step(self, step, run=None):
            frames = torch._dynamo.utils.counters["frames"]["total"]
            batch = {"input_ids": torch.arange(2 + step)[None], "labels": torch.arange(2 + step)[None]}
            run(objectives.causal_lm, batch)
            seen.append(torch._dynamo.utils.counters["frames"]["total"] - frames)
            return {}

    assert _train(_model(), tmp_path, _options(compile=True), callback=Passing()).compiled
    assert seen == [0] * 8


@WITH_A_COMPILER
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

    plain, other = _model(), _model()
    _train(plain, tmp_path / "plain", _options())
    torch._dynamo.reset()
    with torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",), "force_disable_caches": True}):
        outcome = _train(other, tmp_path / "other", _options(compile=True))
    torch._dynamo.reset()
    assert not outcome.compiled
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "compile" in line]
    assert line.startswith("training.compile: InvalidCxxCompiler: No working C++ compiler found")
    assert line.endswith("; going on uncompiled")
    _assert_same_bits(_weights(plain), _weights(other))


@WITH_A_COMPILER
def test_a_training_goes_on_as_it_began(tmp_path, monkeypatch):
    """What began with compiled layers goes on with them or not at all, and what began without them does without."""
    plain = _model()
    _train(plain, tmp_path / "plain", _options())
    for begins in (False, True):
        work = tmp_path / str(begins)
        with monkeypatch.context() as patch, torch._dynamo.config.patch(disable=not begins):
            _kill_at(patch, 3)
            with pytest.raises(_Killed):
                _train(_model(), work, _options(compile=True), checkpoint_seconds=0)
        resumed = _model()
        with torch._dynamo.config.patch(disable=begins):
            if begins:
                with pytest.raises(AdaptbenchError, match=r"^training.compile: .* is set; this training began with"):
                    _train(resumed, work, _options(compile=True), checkpoint_seconds=0)
            else:
                assert not _train(resumed, work, _options(compile=True), checkpoint_seconds=0).compiled
                _assert_same_bits(_weights(plain), _weights(resumed))


def test_what_cannot_be_compiled_later_is_one_line(tmp_path, monkeypatch):
    class Failing(_Callback):
        def after_step(self, step, run=None):
            raise torch._dynamo.exc.InternalTorchDynamoError("broken\nin two lines")

    monkeypatch.setattr(compiling, "decoder_layers", lambda model: [])
    with pytest.raises(AdaptbenchError, match=r"^training.compile: broken; set it to false$"):
        _train(_model(), tmp_path, _options(compile=True), callback=Failing())


# --- killed and resumed


class _Killed(Exception):
    pass


def _kill_at(monkeypatch, step):
    """The process dies in step `step`, after its log row is written and before its checkpoint is."""
    write = loop.Log.write

    def dying(self, now, **values):
        write(self, now, **values)
        if now == step:
            raise _Killed

    monkeypatch.setattr(loop.Log, "write", dying)


CASES = {
    "adamw": (_model, {"weight_decay": 0.1}),
    "muon": (_model, {"optimizer": "muon", "muon_learning_rate": 0.01, "weight_decay": 0.1}),
    "muon-tied-head": (_tied, {"optimizer": "muon", "muon_learning_rate": 0.01}),
    "dropout": (_lora, {"learning_rate": 1e-2}),
    "accumulated": (_model, {"micro_batch_size": 1}),
    "bfloat16": (_model, {"precision": "bfloat16"}),
    "compiled-dropout": (_lora, {"compile": True, "learning_rate": 1e-2, "gradient_checkpointing": True}),
}
CASES_HERE = [pytest.param(name, marks=WITH_A_COMPILER if "compiled" in name else ()) for name in CASES]


def test_a_resumed_run_attends_as_it_began(tmp_path, monkeypatch):
    """Though the process that goes on would not have: another processor, more processes."""
    options = _options(precision="bfloat16")
    with monkeypatch.context() as patch:
        _kill_at(patch, 3)
        patch.setattr(attention, "choose_attention", lambda *_: "eager")
        with pytest.raises(_Killed):
            _train(_model(), tmp_path, options, checkpoint_seconds=0)
    monkeypatch.setattr(attention, "choose_attention", lambda *_: "sdpa")
    assert _train(_model(), tmp_path, options).attention == "eager"


@pytest.mark.parametrize("case", CASES_HERE)
def test_a_killed_run_ends_in_the_same_bits_and_the_same_log(tmp_path, monkeypatch, case):
    make, changed = CASES[case]
    options = _options(schedule="linear", warmup_ratio=0.3, **changed)
    whole, interrupted, resumed = make(), make(), make()
    start = _weights(whole)
    _train(whole, tmp_path / "whole", options, checkpoint_seconds=0)
    assert any(not torch.equal(start[name], p) for name, p in _weights(whole).items())
    for step in (3, 6):  # killed twice, so that a resumed run is itself resumed
        with monkeypatch.context() as patch:
            _kill_at(patch, step)
            with pytest.raises(_Killed):
                _train(interrupted, tmp_path / "killed", options, checkpoint_seconds=0)
        assert [row["step"] for row in _log(tmp_path / "killed")] == list(range(1, step + 1))
        interrupted = make()
        torch.manual_seed(99)  # another process has another random state
        torch._dynamo.reset()  # and has compiled nothing: its code comes from torch's cache
    steps_taken = []
    with monkeypatch.context() as patch:
        write = loop.Log.write
        patch.setattr(
            loop.Log, "write", lambda self, now, **values: (steps_taken.append(now), write(self, now, **values))
        )
        outcome = _train(resumed, tmp_path / "killed", options, checkpoint_seconds=0)
    assert steps_taken == [6, 7, 8], "the steps before the last checkpoint were taken again"
    _assert_same_bits(_weights(resumed), _weights(whole))
    assert (tmp_path / "killed/training.jsonl").read_text() == (tmp_path / "whole/training.jsonl").read_text()
    assert outcome.tokens == _log(tmp_path / "whole")[-1]["tokens"]
    assert outcome.compiled == options.compile


def test_dropout_depends_on_the_random_state_that_the_checkpoint_restores(tmp_path, monkeypatch):
    """Without the restored state the resumed run differs: the test above would notice."""
    whole, killed = _lora(), _lora()
    _train(whole, tmp_path / "whole", _options(), checkpoint_seconds=0)
    with monkeypatch.context() as patch:
        _kill_at(patch, 3)
        with pytest.raises(_Killed):
            _train(killed, tmp_path / "killed", _options(), checkpoint_seconds=0)
    resumed = _lora()
    with monkeypatch.context() as patch:
        patch.setattr(torch, "set_rng_state", lambda state: None)
        _train(resumed, tmp_path / "killed", _options(), checkpoint_seconds=0)
    assert any(not torch.equal(p, q) for p, q in zip(whole.parameters(), resumed.parameters(), strict=True))


class _Callback:
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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_ends_the_step_saves_and_the_rerun_gives_the_same_bits(tmp_path, number):
    whole, stopped, resumed = _model(), _model(), _model()
    _train(whole, tmp_path / "whole", _options(), callback=_Callback())
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(
        errors.Interrupted, match=f"^stopped by {number.name} after step 3 of 8; run again to go on from there$"
    ):
        _train(stopped, tmp_path / "stopped", _options(), callback=_Callback(3, number), checkpoint_seconds=1e9)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert sorted(path.name for path in (tmp_path / "stopped").iterdir()) == ["checkpoint", "training.jsonl"]
    callback = _Callback()
    _train(resumed, tmp_path / "stopped", _options(), callback=callback, checkpoint_seconds=1e9)
    assert callback.seen == list(range(1, 9))
    _assert_same_bits(_weights(resumed), _weights(whole))
    assert (tmp_path / "stopped/training.jsonl").read_text() == (tmp_path / "whole/training.jsonl").read_text()


class _Starting(_Callback):
    """A callback that is also called before the first step."""

    def __init__(self, stop_at=0):
        super().__init__(stop_at)
        self.started = []

    def start(self, step, steps, run):
        assert float(run(objectives.causal_lm, collate(_data().epoch(0)[:1], LENGTH, 0)).detach()) > 0
        self.started.append((step, steps, len(self.seen)))
        return {} if step else {"at_start": 0.5}


@pytest.mark.parametrize("epochs", [None, 0.5])
def test_a_callback_is_called_before_the_first_step_here_and_hears_of_how_many(tmp_path, epochs):
    options = _options() if epochs is None else _options(steps=None, epochs=epochs)
    steps = total_steps(options, _data())
    assert steps >= 5
    whole, stopped, resumed = _Starting(), _Starting(3), _Starting()
    _train(_model(), tmp_path / "whole", options, callback=whole)
    assert whole.started == [(0, steps, 0)]
    with pytest.raises(errors.Interrupted):
        _train(_model(), tmp_path / "stopped", options, callback=stopped, checkpoint_seconds=1e9)
    _train(_model(), tmp_path / "stopped", options, callback=resumed)
    assert stopped.started == [(0, steps, 0)]
    assert resumed.started == [(3, steps, 3)], "after its state is restored"
    assert [row.get("at_start") for row in _log(tmp_path / "whole")] == [0.5] + [None] * (steps - 1)
    kept = [(path / "training.jsonl").read_text().splitlines() for path in (tmp_path / "whole", tmp_path / "stopped")]
    without = [[{k: v for k, v in json.loads(line).items() if k != "tokens"} for line in one] for one in kept]
    assert without[0] == without[1]


def test_a_signal_in_the_last_step_lets_the_finished_run_finish(tmp_path):
    assert _train(_model(), tmp_path, _options(), callback=_Callback(8)).steps == 8
    assert len(_log(tmp_path)) == 8


def _of_infinite_slope(loss):
    """The loss, with a gradient that is no number."""
    return loss + (loss - loss.detach()).sqrt()


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        (lambda loss: loss * math.nan, "the loss is nan"),
        (lambda loss: loss * math.inf, "the loss is inf"),
        (_of_infinite_slope, "the norm of the gradient is (nan|inf)"),
    ],
)
def test_a_loss_or_gradient_that_is_no_number_is_said_in_one_line_with_its_step(tmp_path, spoilt, said):
    calls = []

    def objective(model, batch):
        calls.append(1)
        loss = objectives.causal_lm(model, batch)
        return spoilt(loss) if len(calls) == 3 else loss

    with pytest.raises(AdaptbenchError, match=f"^step 3: {said}; lower training.learning_rate$"):
        _train(_model(), tmp_path, _options(), objective=objective, checkpoint_seconds=0)
    assert [row["step"] for row in _log(tmp_path)] == [1, 2]
    # The checkpoint is from before: with a sound objective the run goes on from step 2 and ends well.
    model = _model()
    assert math.isfinite(_train(model, tmp_path, _options()).final_loss)
    assert all(p.isfinite().all() for p in model.parameters())
    assert [row["step"] for row in _log(tmp_path)] == list(range(1, 9))


def test_a_half_written_checkpoint_is_not_taken(tmp_path):
    """A process killed while it wrote its first checkpoint leaves a folder with another name."""
    whole, again = _model(), _model()
    _train(whole, tmp_path / "whole", _options())
    leftover = tmp_path / "again" / ".checkpoint.12345.tmp"
    leftover.mkdir(parents=True)
    (leftover / "tensors.safetensors").write_bytes(b"\x10\x00\x00\x00")
    (leftover / "state.json").write_text('{"state": {"counts": {"step": 5')
    _train(again, tmp_path / "again", _options(), checkpoint_seconds=0)
    _assert_same_bits(_weights(again), _weights(whole))
    assert [row["step"] for row in _log(tmp_path / "again")] == list(range(1, 9))


def _killed_after(step, work, monkeypatch):
    with monkeypatch.context() as patch:
        _kill_at(patch, step + 1)
        with pytest.raises(_Killed):
            _train(_model(), work, _options(), checkpoint_seconds=0)


def test_a_kill_between_two_checkpoints_goes_on_from_the_earlier(tmp_path, monkeypatch):
    """Just after the earlier one was moved aside and before the new one took its place."""
    whole, resumed = _model(), _model()
    _train(whole, tmp_path / "whole", _options())
    _killed_after(4, tmp_path / "killed", monkeypatch)
    (tmp_path / "killed/checkpoint").rename(tmp_path / "killed/.checkpoint.old")
    callback = _Callback()
    callback.restore = lambda state: None
    _train(resumed, tmp_path / "killed", _options(), callback=callback)
    assert callback.seen == [5, 6, 7, 8]
    _assert_same_bits(_weights(resumed), _weights(whole))


@pytest.mark.parametrize("file", ["state.json", "tensors.safetensors"])
@pytest.mark.parametrize("cut", [0, 100, None], ids=["empty", "cut", "gone"])
def test_a_damaged_checkpoint_is_one_line(tmp_path, monkeypatch, file, cut):
    _killed_after(2, tmp_path, monkeypatch)
    path = tmp_path / "checkpoint" / file
    content = path.read_bytes()
    path.unlink() if cut is None else path.write_bytes(content[:cut])
    with pytest.raises(AdaptbenchError, match=r"/checkpoint: damaged; delete it and run again$"):
        _train(_model(), tmp_path, _options())


def test_what_ran_before_a_kill_is_counted_with_what_runs_after_it(tmp_path, monkeypatch):
    """The implementations of kernels/, and the peak of memory."""
    with implementations.recording():
        implementations.merge_record({"unitwise_adamw": ["reference"]})
        _killed_after(4, tmp_path, monkeypatch)
    path = tmp_path / "checkpoint/state.json"
    path.write_text(re.sub(r'"peak_bytes": \d+', f'"peak_bytes": {10**15}', path.read_text()))
    with implementations.recording() as ran:
        implementations.merge_record({"unitwise_adamw": ["triton"]})
        outcome = _train(_model(), tmp_path, _options())
    assert ran["unitwise_adamw"] == ["reference", "triton"]
    assert outcome.peak_bytes == 10**15


def test_a_checkpoint_that_fails_halfway_leaves_the_earlier_one(tmp_path, monkeypatch):
    """As on a full disk. The rerun goes on from the earlier checkpoint and ends in the same bits."""
    whole, resumed = _model(), _model()
    _train(whole, tmp_path / "whole", _options())
    write, saved = safetensors.torch.save_file, []

    def failing(tensors, path, *more, **named):
        saved.append(path)
        if len(saved) == 3:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        write(tensors, path, *more, **named)

    with monkeypatch.context() as patch:
        patch.setattr(safetensors.torch, "save_file", failing)
        with pytest.raises(OSError, match="No space left"):
            _train(_model(), tmp_path / "full", _options(), checkpoint_seconds=0)
    assert sorted(path.name for path in (tmp_path / "full").iterdir()) == ["checkpoint", "training.jsonl"]
    state = json.loads((tmp_path / "full/checkpoint/state.json").read_text())
    assert state["state"]["counts"]["step"] == 2
    _train(resumed, tmp_path / "full", _options())
    _assert_same_bits(_weights(resumed), _weights(whole))


def test_a_checkpoint_is_safetensors_and_json_and_leaves_frozen_weights_out(tmp_path):
    model = _model()
    model.requires_grad_(False)
    model.model.layers[1].requires_grad_(True)
    with pytest.raises(errors.Interrupted):
        _train(model, tmp_path, _options(), callback=_Callback(2))
    folder = tmp_path / "checkpoint"
    assert sorted(path.name for path in folder.iterdir()) == ["state.json", "tensors.safetensors"]
    stored = {name for name in safetensors.torch.load_file(folder / "tensors.safetensors") if name.startswith("model/")}
    assert stored == {f"model/{name}" for name, p in model.named_parameters() if p.requires_grad}


def test_a_checkpoint_is_written_without_a_second_copy_in_memory(tmp_path, monkeypatch):
    """A copy would double what the largest models ask of the host; only tied weights are copied, which safetensors does
    not take twice.
    """
    model, held = _model(), {}
    monkeypatch.setattr(
        safetensors.torch,
        "save_file",
        lambda tensors, path: held.update({name: value.data_ptr() for name, value in tensors.items()}),
    )
    with pytest.raises(errors.Interrupted):
        _train(model, tmp_path, _options(), callback=_Callback(2))
    tied = model.lm_head.weight is model.model.embed_tokens.weight
    here = {f"model/{name}": value.data_ptr() for name, value in model.state_dict().items()}
    copied = {name for name, place in here.items() if held[name] != place}
    assert len(copied) == int(tied)
    assert any(name.startswith("optimizer/") for name in held)
    assert len(set(held.values())) == len(held)


# --- optimizers and cost


@pytest.mark.parametrize("frozen", [False, True], ids=["all", "some-frozen"])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_optimizers_hold_every_trained_parameter_exactly_once(architecture, optimizer, frozen):
    model = toy_model(architecture, layers=2)
    if frozen:
        model.model.layers[0].requires_grad_(False)
        model.get_input_embeddings().requires_grad_(False)
    optimizers = default_optimizers(model, _options(optimizer=optimizer, weight_decay=0.1))
    groups = [(o, group) for o in optimizers for group in o.param_groups]
    held = sorted(id(p) for _, group in groups for p in group["params"])
    assert held == sorted({id(p) for p in model.parameters() if p.requires_grad})
    for held_by, group in groups:
        assert {p.ndim >= 2 for p in group["params"]} == {group["weight_decay"] == 0.1}
        if isinstance(held_by, torch.optim.Muon):
            assert group["lr"] == 0.02
    in_muon = {id(p) for o, group in groups if isinstance(o, torch.optim.Muon) for p in group["params"]}
    blocks = {id(p) for p in model.model.layers.parameters() if p.requires_grad and p.ndim == 2}
    assert in_muon == (blocks if optimizer == "muon" else set())


def test_the_optimizers_of_an_adapted_model_hold_the_adapters_alone():
    model = _lora()
    for optimizer in ("adamw", "muon"):
        optimizers = default_optimizers(model, _options(optimizer=optimizer))
        held = sorted(id(p) for o in optimizers for group in o.param_groups for p in group["params"])
        assert held == sorted(id(p) for name, p in model.named_parameters() if "lora_" in name)


# Weights of one toy layer and of the output head, by hand: hidden 32, two heads of 16, one key-value head, MLP 48.
LAYER = 32 * 32 + 32 * 16 + 32 * 16 + 32 * 32 + 3 * 32 * 48
HEAD = 300 * 32
TOKENS = 7


def _flops_model(tied, trains):
    model = toy_model("gemma" if tied else "qwen3", layers=3)
    assert model.config.tie_word_embeddings is tied
    for name, p in model.named_parameters():
        p.requires_grad_(trains(name))
    return cost.estimated_flops(model, TOKENS, TOKENS)


@pytest.mark.parametrize("many", [objectives.MANY_LOGITS, 0], ids=["at once", "in chunks"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_loss_and_its_gradients_are_those_of_all_logits(architecture, many, monkeypatch):
    """In float64, with context, padding and a label at the first and the last place; gemma2's logits are capped."""
    monkeypatch.setattr(objectives, "MANY_LOGITS", many)
    model = toy_model(architecture, layers=2).double()
    ids = torch.randint(1, 300, (3, 11), generator=torch.Generator().manual_seed(0))
    labels = ids.masked_fill(torch.rand(3, 11, generator=torch.Generator().manual_seed(1)) < 0.5, -100)
    labels[0, 0] = ids[0, 0]  # nothing comes before it
    labels[1, -1] = ids[1, -1]
    given = labels.clone()
    logits = model(input_ids=ids).logits[:, :-1]
    plain = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
    wanted = torch.autograd.grad(plain, list(model.parameters()), materialize_grads=True)
    with implementations.recording() as ran:
        loss = objectives.causal_lm(model, {"input_ids": ids, "labels": labels})
    assert bool(ran) == (many == 0 and architecture != "gemma2")
    found = torch.autograd.grad(loss, list(model.parameters()), materialize_grads=True)
    torch.testing.assert_close(loss, plain, rtol=1e-12, atol=0)
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    assert torch.equal(labels, given)
    assert not model.get_output_embeddings()._forward_pre_hooks


@pytest.mark.parametrize("tied", [False, True], ids=["head", "tied-head"])
def test_flops_of_training_everything_are_six_per_weight_and_token(tied):
    assert _flops_model(tied, lambda name: True) == 6 * TOKENS * (3 * LAYER + HEAD)


@pytest.mark.parametrize("tied", [False, True], ids=["head", "tied-head"])
def test_flops_of_the_output_head_are_those_of_the_trained_positions(tied):
    model = toy_model("gemma" if tied else "qwen3", layers=3)
    assert cost.estimated_flops(model, TOKENS, 3) == 6 * (TOKENS * 3 * LAYER + 3 * HEAD)


@pytest.mark.parametrize("tied", [False, True], ids=["head", "tied-head"])
def test_flops_of_training_the_last_layer_leave_out_what_no_gradient_passes(tied):
    forward, through, own = 3 * LAYER + HEAD, LAYER + HEAD, LAYER
    assert _flops_model(tied, lambda name: "layers.2." in name) == 2 * TOKENS * (forward + through + own)


def test_flops_of_training_the_embedding_alone_pass_through_every_layer():
    assert _flops_model(False, lambda name: "embed" in name) == 2 * TOKENS * 2 * (3 * LAYER + HEAD)


@pytest.mark.parametrize("norm", ["input_layernorm", "post_attention_layernorm", "self_attn.q_norm"])
def test_flops_of_training_norm_gains_alone_still_pass_through_the_layers_above(norm):
    """A gain costs nothing itself. Exact but for the matrices beside it in its own layer, of which some are passed."""
    flops = _flops_model(False, lambda name: name.startswith("model.layers.1.") and norm in name)
    forward, above = 3 * LAYER + HEAD, LAYER + HEAD
    assert 2 * TOKENS * (forward + above) <= flops <= 2 * TOKENS * (forward + above + LAYER)


def test_flops_of_adapters_count_the_frozen_matrices_that_gradients_pass():
    """Rank-4 adapters on every o_proj: all above the first o_proj is passed, what lies below it is not."""
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(toy_model("qwen3", layers=3), LoraConfig(r=4, target_modules=["o_proj"]))
    adapters = 3 * (4 * 32 + 32 * 4)
    forward = 3 * LAYER + HEAD + adapters
    below = 32 * 32 + 2 * 32 * 16  # q, k, v of the first layer
    first_base = 32 * 32  # the frozen o_proj beside the first adapter
    assert cost.estimated_flops(model, TOKENS, TOKENS) == 2 * TOKENS * (
        forward + forward - below - first_base + adapters
    )
