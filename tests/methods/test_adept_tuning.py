"""ADEPT's optimizer and refreshes in the training loop, against a plain loop with a parameter group for each unit.

Run: python -m pytest tests/methods/test_adept_tuning.py
"""

import json
import shutil
import statistics

import pytest
import torch
from adept_cases import (
    DECOUPLED,
    EMPTY,
    LENGTH,
    _adapted,
    _batches,
    _cuts,
    _data,
    _differing,
    _dropping,
    _flat,
    _hand_importance,
    _hand_loss,
    _hand_multipliers,
    _kind,
    _log,
    _odd_model,
    _options,
    _tune,
    _weights,
    every_unit,
    probed,
)
from conftest import toy_model
from torch import nn

from adaptbench import training as loop
from adaptbench.contracts import StageContext
from adaptbench.methods.tuners import adept
from adaptbench.packing import collate
from adaptbench.units import units


def _hand_tuning(model, options, unit, unit_lr, refresh_every):
    """The whole of stage 2 in plain torch: clipping, schedule, AdamW with one group a unit, importances, ranks.

    Returns the losses and the multipliers of every refresh.
    """
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    cuts = {name: _cuts(name, p.shape, unit) for name, p in named.items()}
    pieces = {(n, i): nn.Parameter(named[n].detach()[cut].clone()) for n in named for i, cut in enumerate(cuts[n])}
    adamw = torch.optim.AdamW(
        [
            {"params": [p], "weight_decay": options.weight_decay if named[key[0]].ndim == 2 else 0.0, "unit": key}
            for key, p in pieces.items()
        ],
        lr=options.learning_rate, betas=options.betas, eps=1e-8,
    )  # fmt: skip
    rates = dict.fromkeys(pieces, 1.0)
    rows = (row for epoch in range(99) for row in _data(1).epoch(epoch))
    losses, refreshed = [], {}
    model.train()
    for t in range(options.steps):
        model.zero_grad()
        loss = _hand_loss(model, collate([next(rows) for _ in range(options.batch_size)], LENGTH, 0))
        loss.backward()
        losses.append(loss.item())
        norm = sum(p.grad.pow(2).sum().item() for p in named.values()) ** 0.5
        for group in adamw.param_groups:
            (name, i), (piece,) = group["unit"], group["params"]
            piece.grad = named[name].grad[cuts[name][i]] * min(1.0, options.max_grad_norm / norm)
            group["lr"] = options.learning_rate * (options.steps - t) / options.steps * rates[name, i]
        adamw.step()
        with torch.no_grad():
            for (name, i), piece in pieces.items():
                named[name][cuts[name][i]] = piece
        if (t + 1) % refresh_every == 0:
            rates = _hand_multipliers(_hand_importance(model, _batches(), unit), unit_lr)
            refreshed[t + 1] = rates
    return losses, refreshed


@pytest.mark.parametrize("unit_lr", DECOUPLED)
@every_unit
@pytest.mark.parametrize("architecture", ["qwen2", "qwen3"])
def test_tuning_is_that_of_a_plain_loop_with_a_parameter_group_for_each_unit(
    architecture, unit, unit_lr, tmp_path, probed
):
    options = _options(schedule="linear", warmup_ratio=0.0, learning_rate=3e-3)
    plain, ours = (_adapted(_odd_model(architecture, layers=2).double(), (1,), moved=False) for _ in range(2))
    losses, refreshed = _hand_tuning(plain, options, unit, unit_lr, 3)
    cfg = adept.Config(layers=1, unit=unit, unit_lr=unit_lr, refresh_every=3)
    _, _, callback = _tune(ours, tmp_path, cfg, options)
    assert [row["loss"] for row in _log(tmp_path)] == pytest.approx(losses, abs=1e-6)
    assert list(refreshed) == [3, 6]
    # A gain is computed in float32 whatever the model's type, so that the two are not equal to the last bit.
    assert _flat(callback.current) == pytest.approx(refreshed[6], abs=1e-5)
    for (name, p), q in zip(ours.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-7, msg=lambda text, name=name: f"{name}: {text}")


def test_the_optimizer_holds_what_trains_and_decays_matrices_alone():
    model = _adapted(_odd_model("qwen2"))
    optimizer = adept.optimizer(adept.Config(), model, _options(learning_rate=0.02, betas=(0.7, 0.8)))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    expected = {id(p): 0.1 if p.ndim == 2 else 0.0 for p in model.parameters() if p.requires_grad}
    assert decay == expected
    assert {(group["lr"], group["betas"], group["eps"]) for group in optimizer.param_groups} == {
        (0.02, (0.7, 0.8), 1e-8)
    }


def test_the_uniform_rate_is_adamw_bit_for_bit_and_asks_for_no_general_text(tmp_path):
    ours, plain = _adapted(toy_model("qwen3")), _adapted(toy_model("qwen3"))
    cfg = adept.Config(layers=2, unit_lr="uniform")
    assert adept.data(cfg) == ()
    _, _, callback = _tune(ours, tmp_path / "ours", cfg)
    assert callback is None
    loop.train(
        plain, loop.default_optimizers(plain, _options()), _data(1), loop.causal_lm, _options(), work=tmp_path / "plain",
        pad_id=0, seed=3,
    )  # fmt: skip
    assert _differing(_weights(ours), _weights(plain)) == []


def test_twice_the_uniform_rate_is_adamw_at_twice_the_rate(tmp_path):
    """Up to float64's rounding, and different from the single rate by much more."""
    results = {}
    for name, unit_lr, rate in (("2x", "uniform_2x", 1e-3), ("two", "uniform", 2e-3), ("one", "uniform", 1e-3)):
        model = _adapted(toy_model("qwen3").double())
        cfg = adept.Config(layers=2, unit_lr=unit_lr)
        assert adept.data(cfg) == ()
        _tune(model, tmp_path / name, cfg, _options(learning_rate=rate))
        results[name] = _weights(model)
    for name, weight in results["2x"].items():
        torch.testing.assert_close(weight, results["two"][name], rtol=0, atol=1e-8, msg=name)
    name = "model.layers.2.mlp.up_proj.weight"
    assert (results["2x"][name] - results["one"][name]).abs().max() > 1e-4


def _ones(importance, split, unit_lr):
    return {name: torch.ones_like(values) for name, values in importance.items()}


@every_unit
def test_a_probe_that_changes_no_rate_changes_no_bit_of_the_training(unit, tmp_path, probed, monkeypatch):
    """With dropout, whose random numbers a probe must not take: measured after every step, or never at all, rates of one."""
    monkeypatch.setattr(adept, "multipliers", _ones)
    results = {}
    for name, every in (("often", 1), ("never", 99)):
        model = _dropping(_adapted(toy_model("qwen3")))
        cfg = adept.Config(layers=2, unit=unit, refresh_every=every)
        optimizer = adept.optimizer(cfg, model, _options())
        callback = adept.callback(cfg, model, [optimizer], EMPTY)
        callback._set(_ones(adept.unit_importance(model, _batches(), callback.units), None, ""))
        probed.clear()
        loop.train(
            model, [optimizer], _data(1), loop.causal_lm, _options(), work=tmp_path / name, pad_id=0, seed=3,
            callback=callback,
        )  # fmt: skip
        rows = [[row[key] for key in ("step", "loss", "grad_norm", "learning_rate")] for row in _log(tmp_path / name)]
        results[name] = (_weights(model), rows, len(probed))
    assert results["often"][2] == 8
    assert results["never"][2] == 0
    assert results["often"][1] == results["never"][1]
    assert _differing(results["often"][0], results["never"][0]) == []
    without = _adapted(toy_model("qwen3"))
    _tune(without, tmp_path / "without", adept.Config(layers=2, unit_lr="uniform"))
    assert _differing(_weights(without), results["never"][0]), "dropout did nothing"


@every_unit
def test_rates_of_one_are_the_uniform_rate_bit_for_bit(unit, tmp_path, probed, monkeypatch):
    monkeypatch.setattr(adept, "multipliers", _ones)
    results = []
    for unit_lr in ("uniform", "decoupled_rank"):
        model = _adapted(toy_model("qwen3"), moved=False)
        _tune(model, tmp_path / unit_lr, adept.Config(layers=2, unit=unit, unit_lr=unit_lr, refresh_every=1))
        results.append(_weights(model))
    assert len(probed) == 8
    assert _differing(*results) == []


@every_unit
def test_importance_is_measured_at_multiples_of_refresh_every_and_logged(unit, tmp_path, probed):
    model = _adapted(toy_model("qwen3"), moved=False)
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    cfg = adept.Config(layers=2, unit=unit, refresh_every=4)
    _, optimizer, callback = _tune(model, tmp_path, cfg)
    rows = _log(tmp_path)
    plain = {"step", "loss", "learning_rate", "grad_norm", "tokens"}
    assert [row["step"] for row in rows if row.keys() != plain] == [4, 8]
    assert len(probed) == 2
    expected = plain | {f"importance/{name}" for name in trained} | {f"multiplier/{name}" for name in trained}
    assert all(row.keys() == expected for row in (rows[3], rows[7]))
    # After the last step nothing moves any more: what was logged and set can be computed again.
    importance = _hand_importance(model, _batches(), "tensor")
    for name in trained:
        assert rows[7][f"importance/{name}"] == pytest.approx(importance[name, 0], rel=1e-4)
        assert rows[7][f"multiplier/{name}"] == pytest.approx(callback.current[name].mean().item(), abs=1e-6)
        p = model.get_parameter(name)
        values = torch.broadcast_to(optimizer.multipliers[p], p.shape)
        assert values.dtype == p.dtype
        # Units are of equal size, so that the mean over entries is the mean over units.
        assert values.double().mean().item() == pytest.approx(rows[7][f"multiplier/{name}"], abs=1e-6)
    assert any(rows[3][key] != rows[7][key] for key in expected if key.startswith("multiplier/"))
    by_kind = {}
    for (name, _), value in _flat(callback.current).items():
        by_kind.setdefault(_kind(name), []).append(value)
    assert [statistics.fmean(values) for values in by_kind.values()] == pytest.approx([1.0] * len(by_kind), abs=1e-6)


@every_unit
def test_copies_at_their_zero_start_have_no_importance_and_keep_the_base_rate(unit, tmp_path, probed):
    """The first step of a warm-up has rate 0: after it the copies are still where they began."""
    model = _adapted(toy_model("qwen3"), moved=False)
    start = _weights(model)
    cfg = adept.Config(layers=2, unit=unit, refresh_every=1)
    optimizer = adept.optimizer(cfg, model, _options())
    callback = adept.callback(cfg, model, [optimizer], EMPTY)
    sets = []
    after_step, plain = callback.after_step, callback._set
    callback._set = lambda rates: (sets.append(rates), plain(rates))

    def watched(step, run):
        at_start = not _differing(_weights(model), start)
        found = after_step(step, run)
        assert at_start == (step == 1)
        assert bool(found) == (step > 1)
        assert bool(optimizer.multipliers) == (step > 1)
        return found

    callback.after_step = watched
    options = _options(warmup_ratio=0.25, steps=5)
    loop.train(
        model, [optimizer], _data(1), loop.causal_lm, options, work=tmp_path, pad_id=0, seed=3, callback=callback
    )
    assert len(probed) == 5
    assert len(sets) == 4
    rows = _log(tmp_path)
    assert rows[0]["learning_rate"] == 0
    assert ["multiplier/model.layers.2.mlp.up_proj.weight" in row for row in rows] == [False, True, True, True, True]


def test_chosen_layers_that_train_themselves_have_an_importance_at_once(tmp_path, probed):
    prepared = tmp_path / "expand"
    prepared.mkdir()
    (prepared / "chosen.json").write_text("[1, 3]")
    cfg = adept.Config(layers=2, expansion="none", refresh_every=1)
    model = adept.adapt(cfg, toy_model("qwen3"), StageContext(0, {}, prepared={"expand": prepared}))
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {n for n, _ in model.named_parameters() if n.startswith(("model.layers.1.", "model.layers.3."))}
    _tune(model, tmp_path, cfg, _options(warmup_ratio=0.25, steps=2))
    assert "multiplier/model.layers.3.mlp.up_proj.weight" in _log(tmp_path)[0]


@every_unit
@pytest.mark.parametrize("architecture", ["qwen2", "qwen3"])
def test_the_rates_come_back_from_a_checkpoints_json_as_they_were(architecture, unit, tmp_path, probed):
    cfg = adept.Config(layers=2, unit=unit, refresh_every=2)
    model = _adapted(_odd_model(architecture), moved=False)
    _, optimizer, callback = _tune(model, tmp_path, cfg, _options(steps=2))
    stored = json.loads(json.dumps(callback.state()))
    other = _adapted(_odd_model(architecture), moved=False)
    resumed = adept.optimizer(cfg, other, _options())
    restored = adept.callback(cfg, other, [resumed], EMPTY)
    restored.restore(stored)
    assert {n: v.shape for n, v in restored.current.items()} == {n: v.shape for n, v in callback.current.items()}
    assert _differing(restored.current, callback.current) == []
    assert restored.state() == stored
    assert len(resumed.multipliers) == len(optimizer.multipliers) == len(units(model, unit))
    for name, p in model.named_parameters():
        if p.requires_grad:
            ours, theirs = resumed.multipliers[other.get_parameter(name)], optimizer.multipliers[p]
            assert torch.equal(ours, theirs), name
            assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)


def test_before_the_first_refresh_there_is_nothing_to_restore():
    cfg = adept.Config(layers=2)
    model = _adapted(toy_model("qwen3"))
    optimizer = adept.optimizer(cfg, model, _options())
    callback = adept.callback(cfg, model, [optimizer], EMPTY)
    assert json.loads(json.dumps(callback.state())) == {}
    callback.restore({})
    assert dict(optimizer.multipliers) == {}


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


@pytest.mark.parametrize("unit_lr", DECOUPLED)
@every_unit
def test_a_run_killed_after_a_refresh_ends_in_the_same_bits_and_the_same_log(
    unit, unit_lr, tmp_path, probed, monkeypatch
):
    cfg = adept.Config(layers=2, unit=unit, unit_lr=unit_lr, refresh_every=3)
    whole, resumed, forgetful = (_adapted(toy_model("qwen3"), moved=False) for _ in range(3))
    _tune(whole, tmp_path / "whole", cfg)
    with monkeypatch.context() as patch:
        _kill_at(patch, 5)  # the last checkpoint is that of step 4, the last refresh that of step 3
        killed = _adapted(toy_model("qwen3"), moved=False)
        with pytest.raises(_Killed):
            _tune(killed, tmp_path / "killed", cfg, checkpoint_seconds=0)
    state = json.loads((tmp_path / "killed/checkpoint/state.json").read_text())["state"]
    assert state["counts"]["step"] == 4
    assert state["callback"]
    copied = tmp_path / "copied/checkpoint"
    shutil.copytree(tmp_path / "killed/checkpoint", copied)
    torch.manual_seed(99)  # another process has another random state
    _tune(resumed, tmp_path / "killed", cfg)
    assert _differing(_weights(resumed), _weights(whole)) == []
    assert (tmp_path / "killed/training.jsonl").read_text() == (tmp_path / "whole/training.jsonl").read_text()
    # Without the restored rates the steps to the next refresh are others.
    with monkeypatch.context() as patch:
        patch.setattr(adept.Refresh, "restore", lambda self, state: None)
        _tune(forgetful, copied.parent, cfg)
    assert _differing(_weights(forgetful), _weights(whole))
