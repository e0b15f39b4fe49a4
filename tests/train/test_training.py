"""The training loop against plain torch: the same losses and weights, in one go and in parts.

The reference is a loop written out here: its own parameter groups, schedule formulas, clipping and cross-entropy.

Run: python -m pytest tests/train/test_training.py
"""

import math

import pytest
import torch

from adaptbench.config.training import Training
from adaptbench.contracts import StageContext
from adaptbench.errors import AdaptbenchError
from adaptbench.stages.train import fit
from adaptbench.train import attention, cost, objectives
from adaptbench.train.hooks import Hooks
from adaptbench.train.optimizers import total_steps
from tests.support import training_cases as cases
from tests.support.models import reset_accelerate, toy_model

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
    options = cases.training_options(
        steps=steps, learning_rate=rate, betas=betas, weight_decay=weight_decay, max_grad_norm=clip,
        schedule=schedule, warmup_ratio=warmup_ratio, decay_ratio=0.5,
    )  # fmt: skip
    plain, ours = cases.small_model().double(), cases.small_model().double()
    # 12 steps, a quarter warm-up, half decay: the rate rises for 3 steps, stands for 3 and falls for 6.
    expected = _plain_loop(
        plain, cases.some_data(), steps=steps, batch=2, rate=rate, schedule=schedule, warmup=warmup, decay=6,
        betas=betas, weight_decay=weight_decay, clip=clip,
    )  # fmt: skip
    outcome = cases.train(ours, tmp_path, options)
    log = cases.log(tmp_path)
    assert [row["step"] for row in log] == list(range(1, steps + 1))
    for row, (loss, norm, now) in zip(log, expected, strict=True):
        assert row["loss"] == pytest.approx(loss, abs=2e-6)
        assert row["grad_norm"] == pytest.approx(norm, rel=1e-5)
        assert row["learning_rate"] == pytest.approx(now, rel=1e-9, abs=1e-15)
    for (name, p), q in zip(ours.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-7, msg=lambda text, name=name: f"{name}: {text}")
    assert outcome.final_loss == log[-1]["loss"]
    assert outcome.tokens == log[-1]["tokens"] == steps * 2 * cases.LENGTH


def test_trained_tokens_are_the_labels_of_every_step(tmp_path):
    outcome = cases.train(cases.small_model(), tmp_path, cases.training_options(steps=5))
    rows = [row for epoch in range(5) for row in cases.some_data().epoch(epoch)][: 5 * 2]
    assert outcome.trained_tokens == sum(len(example.input_ids) - 1 for row in rows for example in row)


def test_a_frozen_models_forward_pass_costs_two_operations_a_weight_and_token():
    model = cases.small_model()
    matrices = [p.numel() for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    assert len(matrices) == 2 * 7 + 1  # seven a layer, and the head
    assert cost.forward_flops(model, 10) == 2 * 10 * sum(matrices)
    tied = cases.tied_model()
    inner = sum(p.numel() for name, p in tied.named_parameters() if p.ndim == 2 and "embed" not in name)
    assert cost.forward_flops(tied, 3) == 2 * 3 * (inner + tied.get_input_embeddings().weight.numel())


@pytest.mark.parametrize("make", [cases.small_model, cases.lora_model], ids=["plain", "lora"])
def test_an_objective_with_several_passes_counts_the_positions_of_each(tmp_path, make):
    def thrice(model, batch):
        embeds = model.get_input_embeddings()(batch["input_ids"])
        model(inputs_embeds=embeds[:, :7], use_cache=False)
        model(input_ids=batch["input_ids"][:, :5])
        return objectives.causal_lm(model, batch)

    outcome = cases.train(make(), tmp_path, cases.training_options(steps=3), objective=thrice)
    assert outcome.tokens == 3 * 2 * (7 + 5 + cases.LENGTH)


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
            cases.train(cases.small_model(), tmp_path / name, cases.training_options(steps=2, precision=option))
            losses[name] = [row["loss"] for row in cases.log(tmp_path / name)]
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
    options = cases.training_options(**{"precision": "bfloat16"} | changed)
    model = cases.small_model()
    assert model.config._attn_implementation == "sdpa"
    assert attention.choose_attention(model, options, 2, torch.device(device)) == by


def test_how_a_stage_attended_is_said_and_the_model_is_left_as_it_was(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("of processors")
    losses = {}
    for name in ("auto", "eager", "sdpa"):
        reset_accelerate()
        model = cases.small_model()
        model.set_attn_implementation("sdpa" if name == "auto" else name)
        before = model.config._attn_implementation
        outcome = cases.train(model, tmp_path / name, cases.training_options(precision="bfloat16", attention=name))
        assert outcome.attention == ("eager" if name == "auto" else name)
        assert model.config._attn_implementation == before
        losses[name] = [row["loss"] for row in cases.log(tmp_path / name)]
    assert losses["auto"] == losses["eager"] != losses["sdpa"]
    assert losses["auto"] == pytest.approx(losses["sdpa"], rel=2e-2)


def test_models_that_a_loss_compares_attend_alike(tmp_path):
    """KL to the start would else begin with a difference that is the attention's."""
    other, seen = cases.small_model(), []

    def objective(model, batch):
        seen.append(other.config._attn_implementation)
        return objectives.causal_lm(model, batch)

    objective.forward_only = (other,)
    cases.train(
        cases.small_model(), tmp_path, cases.training_options(steps=1, precision="bfloat16"), objective=objective
    )
    assert seen == ["sdpa" if torch.cuda.is_available() else "eager"]
    assert other.config._attn_implementation == "sdpa"


def test_whole_epochs_are_counted_in_the_rows_of_the_first():
    data = cases.some_data()
    rows = len(data.epoch(0))
    assert rows % 3, "an even split would not test the rounding"
    assert total_steps(cases.training_options(steps=None, epochs=1.0, batch_size=3), data) == rows // 3 + 1
    assert total_steps(cases.training_options(steps=None, epochs=2.5, batch_size=1), data) == math.ceil(2.5 * rows)
    assert total_steps(cases.training_options(steps=None, epochs=0.01, batch_size=4), data) == 1
    assert total_steps(cases.training_options(steps=7), data) == 7


@pytest.mark.parametrize("micro", [1, 2])
def test_accumulation_over_ragged_micro_batches_is_one_big_batch(tmp_path, micro):
    """With plain gradient descent, so that a wrong weight of a micro-batch shows in the weights as it is."""
    rows = cases.some_data().epoch(0)[:4]
    counts = [sum(len(example.input_ids) - 1 for example in row) for row in rows]
    assert max(counts) > min(counts), "micro-batches of equal counts would hide a plain mean"
    results = []
    for name, size in (("whole", None), ("parts", micro)):
        model = cases.small_model()
        options = cases.training_options(
            steps=3, batch_size=4, micro_batch_size=size, schedule="constant", max_grad_norm=1e6
        )
        cases.train(model, tmp_path / name, options, optimizers=[torch.optim.SGD(model.parameters(), lr=0.1)])
        results.append((cases.weights(model), cases.log(tmp_path / name)))
    (weights, log), (other_weights, other_log) = results
    for row, other in zip(log, other_log, strict=True):
        assert other == pytest.approx(row, rel=2e-6)
    for name, weight in weights.items():
        torch.testing.assert_close(
            other_weights[name], weight, rtol=0, atol=2e-6, msg=lambda text, name=name: f"{name}: {text}"
        )
    # What the plain mean over micro-batches would have given is not within that tolerance.
    first = [_plain_loss(cases.small_model(), [row]).item() for row in rows]
    assert abs(sum(first) / 4 - log[0]["loss"]) > 1e-3


@pytest.mark.parametrize("make", [cases.small_model, cases.lora_model], ids=["all", "lora"])
def test_gradient_checkpointing_changes_nothing(tmp_path, make):
    results = []
    for name, on in (("off", False), ("on", True)):
        model = make()
        cases.train(model, tmp_path / name, cases.training_options(steps=4, gradient_checkpointing=on))
        results.append(cases.weights(model))
    for name, weight in results[0].items():
        torch.testing.assert_close(
            results[1][name], weight, rtol=0, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )


# --- a stage


def test_a_model_without_anything_to_train_is_refused_before_its_optimizer_is_made(tmp_path):
    """An optimizer of no parameters would fail with a message of torch."""
    model = toy_model("qwen3").requires_grad_(False)

    def make_hooks():
        return Hooks(optimizer=torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3))

    with pytest.raises(AdaptbenchError, match="the tuner left nothing to train"):
        fit({}, model, StageContext(0, {}), [], Training(steps=1), result=lambda: model, make_hooks=make_hooks,
            out=tmp_path, work=tmp_path)  # fmt: skip
