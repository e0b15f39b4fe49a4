"""ADEPT's optimizer and refreshes in the training loop, against a plain loop with a parameter group for each unit.

Run: python -m pytest tests/methods/test_adept_tuning.py
"""

import json
import shutil
import statistics

import pytest
import torch
from torch import nn

from adaptbench.contracts import StageContext
from adaptbench.data.packing import collate
from adaptbench.methods.tuners import adept, adept_units
from adaptbench.model import parameters
from adaptbench.model.units import units
from adaptbench.train import loop, objectives, optimizers
from tests.support.adept_cases import (
    DECOUPLED,
    EMPTY,
    LENGTH,
    _adapted,
    _batches,
    _by,
    _cuts,
    _data,
    _differing,
    _dropping,
    _flat,
    _hand_importance,
    _hand_loss,
    _hand_multipliers,
    _log,
    _odd_model,
    _one_line,
    _options,
    _sort,
    _tune,
    _weights,
    every_unit,
)
from tests.support.models import toy_model


def _hand_tuning(model, options, unit, unit_lr, refresh_every):
    """The whole of stage 2 in plain torch: clipping, schedule, AdamW with one group a unit, importances, ranks.
    Measured before the first step where every importance is there, and after every `refresh_every` steps but the last.

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
    rates, refreshed = dict.fromkeys(pieces, 1.0), {}
    if all((at_start := _hand_importance(model, _batches(), unit)).values()):
        rates = refreshed[0] = _hand_multipliers(at_start, unit_lr)
    rows = (row for epoch in range(99) for row in _data(1).epoch(epoch))
    losses = []
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
        if (t + 1) % refresh_every == 0 and t + 1 < options.steps:
            rates = _hand_multipliers(_hand_importance(model, _batches(), unit), unit_lr)
            refreshed[t + 1] = rates
    return losses, refreshed


@pytest.mark.parametrize("moved", [False, True], ids=["zero-start", "trained-start"])
@pytest.mark.parametrize("unit_lr", DECOUPLED)
@every_unit
@pytest.mark.parametrize("architecture", ["qwen2", "qwen3"])
def test_tuning_is_that_of_a_plain_loop_with_a_parameter_group_for_each_unit(
    architecture, unit, unit_lr, moved, tmp_path, probed
):
    options = _options(steps=6, schedule="linear", warmup_ratio=0.0, learning_rate=3e-3)
    plain, ours = (_adapted(_odd_model(architecture, layers=2).double(), (1,), moved=moved) for _ in range(2))
    losses, refreshed = _hand_tuning(plain, options, unit, unit_lr, 3)
    cfg = adept.Config(layers=1, unit=unit, unit_lr=unit_lr, refresh_every=3)
    _, _, callback = _tune(ours, tmp_path, cfg, options)
    assert [row["loss"] for row in _log(tmp_path)] == pytest.approx(losses, abs=1e-6)
    assert list(refreshed) == ([0, 3] if moved else [3])
    assert probed == ([1, 3, 3] if moved else [1, 3])
    # A gain is computed in float32 whatever the model's type, so that the two are not equal to the last bit.
    assert _flat(callback.current) == pytest.approx(refreshed[3], abs=1e-5)
    assert len(set(refreshed[3].values())) > 1, "nothing is decoupled"
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
        plain, optimizers.default_optimizers(plain, _options()), _data(1), objectives.causal_lm, _options(),
            work=tmp_path / "plain",
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
    """With dropout, whose random numbers a probe must not take: measured before and after every step, once, or
    never.
    """
    monkeypatch.setattr(adept_units, "multipliers", _ones)
    results = {}
    for name, changed in (
        ("often", {"refresh_every": 1}),
        ("once", {"refresh_every": 99}),
        ("never", {"unit_lr": "uniform"}),
    ):
        probed.clear()
        model = _dropping(_adapted(toy_model("qwen3")))
        _tune(model, tmp_path / name, adept.Config(layers=2, unit=unit, **changed))
        rows = [[row[key] for key in ("step", "loss", "grad_norm", "learning_rate")] for row in _log(tmp_path / name)]
        results[name] = (_weights(model), rows, list(probed))
    assert [measured for *_, measured in results.values()] == [[1, 3] + [3] * 7, [1, 3], []]
    for weights, rows, _ in results.values():
        assert rows == results["never"][1]
        assert _differing(weights, results["never"][0]) == []
    without = _adapted(toy_model("qwen3"))
    _tune(without, tmp_path / "without", adept.Config(layers=2, unit_lr="uniform"))
    assert _differing(_weights(without), results["never"][0]), "dropout did nothing"


@every_unit
def test_rates_of_one_are_the_uniform_rate_bit_for_bit(unit, tmp_path, probed, monkeypatch):
    monkeypatch.setattr(adept_units, "multipliers", _ones)
    results = []
    for unit_lr in ("uniform", "decoupled_rank"):
        model = _adapted(toy_model("qwen3"), moved=False)
        _tune(model, tmp_path / unit_lr, adept.Config(layers=2, unit=unit, unit_lr=unit_lr, refresh_every=1))
        results.append(_weights(model))
    assert probed == [1] + [3] * 7
    assert _differing(*results) == []


def _watch(callback, seen):
    """Calls `seen(step)` before what the callback does after a step."""
    after_step = callback.after_step
    callback.after_step = lambda step, run: (seen(step), after_step(step, run))[1]
    return callback


def _tune_watched(model, work, cfg, options, seen):
    optimizer = adept.optimizer(cfg, model, options)
    callback = _watch(adept.callback(cfg, model, [optimizer], EMPTY), seen)
    loop.train(
        model, [optimizer], _data(1), objectives.causal_lm, options, work=work, pad_id=0, seed=3, callback=callback
    )
    return optimizer, callback


@every_unit
def test_importance_is_measured_at_multiples_of_refresh_every_but_after_the_last_step_and_logged(
    unit, tmp_path, probed
):
    model = _adapted(toy_model("qwen3"), moved=False)
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    expected = {}
    cfg = adept.Config(layers=2, unit=unit, refresh_every=4)
    optimizer, callback = _tune_watched(
        model,
        tmp_path,
        cfg,
        _options(),
        lambda step: expected.update({step: _hand_importance(model, _batches(), "tensor")}),
    )
    rows = _log(tmp_path)
    plain = {"step", "loss", "learning_rate", "grad_norm", "tokens"}
    assert [row["step"] for row in rows if row.keys() != plain] == [4]
    assert probed == [1, 3]
    units_logged = {f"{what}/{name}" for what in ("importance", "multiplier") for name in trained}
    assert rows[3].keys() == plain | units_logged | {"mean_multiplier"}
    whole = 0.0
    for name in trained:
        assert rows[3][f"importance/{name}"] == pytest.approx(expected[4][name, 0], rel=1e-4)
        assert rows[3][f"multiplier/{name}"] == pytest.approx(callback.current[name].mean().item(), abs=1e-6)
        p = model.get_parameter(name)
        values = torch.broadcast_to(optimizer.multipliers[p], p.shape)
        assert values.dtype == p.dtype
        # Units are of equal size, so that the mean over entries is the mean over units.
        assert values.double().mean().item() == pytest.approx(rows[3][f"multiplier/{name}"], abs=1e-6)
        whole += values.double().sum().item()
    entries = sum(model.get_parameter(name).numel() for name in trained)
    assert rows[3]["mean_multiplier"] == pytest.approx(whole / entries, abs=1e-6)
    by_sort = _by(_flat(callback.current), _sort)
    means = [statistics.fmean(members.values()) for members in by_sort.values()]
    assert means == pytest.approx([1.0] * len(by_sort), abs=1e-6)


@every_unit
def test_copies_at_their_zero_start_have_no_importance_and_keep_the_base_rate(unit, tmp_path, probed):
    """The first step of a warm-up has rate 0: after it the copies are still where they began."""
    model = _adapted(toy_model("qwen3"), moved=False)
    start, at_start = _weights(model), {}
    cfg = adept.Config(layers=2, unit=unit, refresh_every=1)
    options = _options(warmup_ratio=0.25, steps=5)
    optimizer, _ = _tune_watched(
        model, tmp_path, cfg, options, lambda step: at_start.update({step: not _differing(_weights(model), start)})
    )
    assert at_start == {1: True, 2: False, 3: False, 4: False, 5: False}
    assert probed == [1, 3, 3, 3, 3]
    rows = _log(tmp_path)
    assert rows[0]["learning_rate"] == 0
    assert ["multiplier/model.layers.2.mlp.up_proj.weight" in row for row in rows] == [False, True, True, True, False]
    assert optimizer.multipliers


def test_one_copy_at_its_zero_start_keeps_the_base_rate_of_all(tmp_path, probed):
    """As where a model that was expanded and trained before is expanded once more."""
    model = _adapted(toy_model("qwen3"))
    with torch.no_grad():
        model.model.layers[5].self_attn.o_proj.weight.zero_()
        model.model.layers[5].mlp.down_proj.weight.zero_()
    _tune(model, tmp_path, adept.Config(layers=2, refresh_every=2), _options(steps=4))
    assert probed == [1, 3]
    assert ["mean_multiplier" in row for row in _log(tmp_path)] == [False, True, False, False]


def test_a_part_that_no_general_token_reaches_does_not_hold_up_the_rates_of_the_rest(tmp_path, probed):
    """One matrix of a trained layer without any gradient: it is the least important, for all of the run."""
    model = _adapted(toy_model("qwen3"))
    name = "model.layers.2.mlp.gate_proj.weight"
    model.get_parameter(name).register_hook(torch.zeros_like)
    _tune(model, tmp_path, adept.Config(layers=2), _options(steps=4))
    row = _log(tmp_path)[0]
    assert row[f"start/importance/{name}"] == 0
    matrices = [value for key, value in row.items() if key.startswith("start/multiplier/") and "norm" not in key]
    assert row[f"start/multiplier/{name}"] == max(matrices) > 1.9


def _chosen_layers_of(model, folder):
    prepared = folder / "expand"
    prepared.mkdir()
    (prepared / "chosen.json").write_text("[1, 3]")
    cfg = adept.Config(layers=2, expansion="none")
    return adept.adapt(cfg, model, StageContext(0, {}, prepared={"expand": prepared}))


@pytest.mark.parametrize("refresh_every", [None, 2, 99])
@pytest.mark.parametrize("start", ["trained copies", "chosen layers"])
def test_what_can_be_measured_before_the_first_step_is(start, refresh_every, tmp_path, probed):
    """Stages that go on from copies that another one trained, and layers that train themselves."""
    copies = start == "trained copies"
    model = _adapted(toy_model("qwen3")) if copies else _chosen_layers_of(toy_model("qwen3"), tmp_path)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {
        n for n, _ in model.named_parameters() if n.startswith(_layers(2, 5) if copies else _layers(1, 3))
    }
    expected = _hand_importance(model, _batches(), "tensor")
    cfg = adept.Config(layers=2, expansion="copy" if copies else "none", refresh_every=refresh_every)
    _, optimizer, _ = _tune(model, tmp_path, cfg, _options(warmup_ratio=0.25, steps=3))
    assert probed == {None: [1, 3, 3, 3], 2: [1, 3, 3], 99: [1, 3]}[refresh_every]
    row = _log(tmp_path)[0]
    rates = _hand_multipliers(expected, "decoupled_rank")
    for name in trained:
        assert row[f"start/importance/{name}"] == pytest.approx(expected[name, 0], rel=1e-4)
        assert row[f"start/multiplier/{name}"] == pytest.approx(rates[name, 0], abs=1e-6)
    if refresh_every == 99:
        for name in trained:
            values = optimizer.multipliers[model.get_parameter(name)]
            assert values.double().mean().item() == pytest.approx(rates[name, 0], abs=1e-6)


def _layers(*indices):
    return tuple(f"model.layers.{index}." for index in indices)


@pytest.mark.parametrize("epochs", [0.3, 1.0])
def test_a_stage_of_epochs_that_measures_nothing_is_refused_before_its_first_step(epochs, tmp_path, probed):
    options = _options(steps=None, epochs=epochs)
    steps = optimizers.total_steps(options, _data(1))
    model = _adapted(toy_model("qwen3"), moved=False)
    before = _weights(model)
    message = _one_line(_tune, model, tmp_path, adept.Config(layers=2, refresh_every=steps), options)
    assert message.startswith(f"tuner.refresh_every: importance is first measured after {steps} steps, ")
    assert f"this stage has {steps}" in message
    assert probed == [1]
    assert (tmp_path / "training.jsonl").read_text() == ""
    assert _differing(_weights(model), before) == []
    _tune(model, tmp_path, adept.Config(layers=2, refresh_every=steps - 1), options)
    assert probed == [1, 1, 3]


def test_copies_that_have_not_moved_at_the_last_measurement_end_the_run_there(tmp_path, probed):
    model = _adapted(toy_model("qwen3"), moved=False)
    options = _options(steps=2, warmup_ratio=0.5)
    message = _one_line(_tune, model, tmp_path, adept.Config(layers=2, refresh_every=1), options)
    assert message.startswith("tuner.refresh_every: after step 1 of 2 the copies have not moved")


@pytest.mark.parametrize(("steps", "every"), [(2, 1), (9, 1), (10, 1), (25, 2), (350, 35), (5000, 500), (90000, 500)])
def test_without_a_number_importance_is_measured_ten_times_or_every_500_steps(steps, every):
    assert adept.Config().steps_between_refreshes(steps) == every
    assert adept.Config(refresh_every=7).steps_between_refreshes(steps) == 7


@pytest.mark.parametrize("unit_lr", ["uniform", "uniform_2x"])
def test_one_rate_for_all_measures_nothing_however_few_the_steps(unit_lr, tmp_path, probed):
    model = _adapted(toy_model("qwen3"), moved=False)
    _tune(model, tmp_path, adept.Config(layers=2, unit_lr=unit_lr, refresh_every=99), _options(steps=1))
    assert probed == []


@pytest.mark.parametrize("moved", [False, True])
def test_an_importance_that_is_no_number_is_one_line(moved, tmp_path, probed):
    model = _adapted(toy_model("qwen3"), moved=moved)

    def damaged(step):
        if step:
            with torch.no_grad():
                model.lm_head.weight[5, 3] = torch.nan

    if moved:
        damaged(1)
    options = _options(steps=5, warmup_ratio=0)
    message = _one_line(_tune_watched, model, tmp_path, adept.Config(layers=2, refresh_every=1), options, damaged)
    assert message.startswith(f"step {0 if moved else 1}: the importance of model.layers.2.")
    assert "is no finite number" in message


@every_unit
def test_rows_of_new_tokens_train_at_the_base_rate_and_are_no_units(unit, tmp_path, probed):
    """What trains beside the layers is in no ranking: the same rates with and without."""
    rates = []
    for rows in ((), (5, 9)):
        model = _adapted(toy_model("qwen3"))
        parameters.train_rows(model, rows)
        assert model.get_input_embeddings().weight.requires_grad == bool(rows)
        _, optimizer, callback = _tune(
            model, tmp_path / str(len(rows)), adept.Config(layers=2, unit=unit), _options(steps=1)
        )
        assert {p.shape[0] for p in optimizer.multipliers}.isdisjoint({300})
        rates.append(callback.current)
    assert len(rates[0]) == 22
    assert _differing(*rates) == []


@every_unit
@pytest.mark.parametrize("architecture", ["qwen2", "qwen3"])
def test_the_rates_come_back_from_a_checkpoints_json_as_they_were(architecture, unit, tmp_path, probed):
    cfg = adept.Config(layers=2, unit=unit, refresh_every=2)
    model = _adapted(_odd_model(architecture), moved=False)
    _, optimizer, callback = _tune(model, tmp_path, cfg, _options(steps=3))
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
        patch.setattr(adept_units.Refresh, "restore", lambda self, state: None)
        _tune(forgetful, copied.parent, cfg)
    assert _differing(_weights(forgetful), _weights(whole))


@pytest.mark.parametrize("expansion", ["copy", "none"])
def test_a_resumed_stage_does_not_measure_again_what_it_measured_before_its_first_step(
    expansion, tmp_path, probed, monkeypatch
):
    cfg = adept.Config(layers=2, expansion=expansion, refresh_every=5)

    def begun():
        if expansion == "copy":
            return _adapted(toy_model("qwen3"))
        return _chosen_layers_of(toy_model("qwen3"), _made(tmp_path / f"start{len(list(tmp_path.iterdir()))}"))

    whole, killed, resumed = begun(), begun(), begun()
    _tune(whole, tmp_path / "whole", cfg)
    assert probed == [1, 3, 3]
    with monkeypatch.context() as patch:
        _kill_at(patch, 3)  # the last checkpoint is that of step 2
        with pytest.raises(_Killed):
            _tune(killed, tmp_path / "killed", cfg, checkpoint_seconds=0)
    probed.clear()
    torch.manual_seed(99)
    _tune(resumed, tmp_path / "killed", cfg)
    assert probed == [3], "that of step 5 alone"
    assert _differing(_weights(resumed), _weights(whole)) == []
    assert (tmp_path / "killed/training.jsonl").read_text() == (tmp_path / "whole/training.jsonl").read_text()


def test_a_stage_killed_in_its_first_step_begins_with_the_measurement_again(tmp_path, probed, monkeypatch):
    cfg = adept.Config(layers=2)
    whole, killed, again = (_adapted(toy_model("qwen3")) for _ in range(3))
    _tune(whole, tmp_path / "whole", cfg, _options(steps=4))
    with monkeypatch.context() as patch:
        _kill_at(patch, 1)
        with pytest.raises(_Killed):
            _tune(killed, tmp_path / "killed", cfg, _options(steps=4), checkpoint_seconds=0)
    _tune(again, tmp_path / "killed", cfg, _options(steps=4))
    assert _differing(_weights(again), _weights(whole)) == []
    assert (tmp_path / "killed/training.jsonl").read_text() == (tmp_path / "whole/training.jsonl").read_text()


def _made(folder):
    folder.mkdir()
    return folder
