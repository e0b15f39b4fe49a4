"""ADEPT's stage 1: importance of layers against naive full passes, what probing costs, and which layers are chosen.

Run: python -m pytest tests/methods/test_adept_layers.py
"""

import json
import random
import statistics
import time

import pytest
import torch

from adaptbench.contracts import StageContext
from adaptbench.methods.tuners import adept, adept_layers
from adaptbench.model import expansion, storage
from adaptbench.train import objectives
from tests.support.adept_cases import (
    LENGTH,
    PARTS,
    ROWS,
    _batches,
    _differing,
    _labelled,
    _logits,
    _naive,
    _one_line,
    _token_losses,
    _traces,
    _weights,
)
from tests.support.models import ARCHITECTURES, toy_model
from tools import small_models


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_layers_importance_is_the_rise_of_the_mean_loss_of_all_tokens_without_it(architecture):
    """The reference sees each document alone and takes one mean over all tokens of all batches."""
    model = toy_model(architecture).double()
    base, rises = _naive(model, lambda model: _token_losses(model, ROWS).mean().item())
    assert min(abs(one - other) for i, one in enumerate(rises) for other in rises[:i]) > 1e-4
    loss, importance = adept_layers.layer_importance(model, _batches())
    assert loss == pytest.approx(base, abs=1e-6)
    assert importance == pytest.approx(rises, abs=1e-6)
    # The mean of the batches' means is something else.
    with torch.no_grad():
        means = [_token_losses(model, rows).mean().item() for rows in PARTS]
    assert len({_labelled(rows) for rows in PARTS}) == 3
    assert abs(sum(means) / 3 - base) > 1e-3


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_reusing_what_lies_below_the_bypassed_layer_changes_nothing(architecture):
    """In float32, as it is used, against whole forward passes on the same packed batches."""
    model = toy_model(architecture, layers=6)
    batches = _batches()

    def loss_of(model):
        found = [
            objectives.causal_lm(model, batch).item() * _labelled(rows)
            for batch, rows in zip(batches, PARTS, strict=True)
        ]
        return sum(found) / _labelled(ROWS)

    base, rises = _naive(model, loss_of)
    loss, importance = adept_layers.layer_importance(model, batches)
    assert loss == pytest.approx(base, abs=1e-6)
    assert importance == pytest.approx(rises, abs=1e-6)
    assert min(map(abs, rises)) > 1e-3


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_padding_never_counts_in_a_layers_importance(architecture):
    model = toy_model(architecture).double()
    loss, importance = adept_layers.layer_importance(model, _batches())
    for length, pad in ((LENGTH + 9, 0), (LENGTH, 77), (2 * LENGTH, 77)):
        other_loss, other = adept_layers.layer_importance(model, _batches(length, pad))
        assert other_loss == pytest.approx(loss, abs=1e-6)
        assert other == pytest.approx(importance, abs=1e-6)


def test_probing_leaves_the_model_as_it_was():
    model = toy_model("qwen3")
    logits, before, random_state = _logits(model), _weights(model), torch.get_rng_state()
    adept_layers.layer_importance(model, _batches())
    assert _traces(model) == []
    assert torch.equal(torch.get_rng_state(), random_state)
    assert _differing(_weights(model), before) == []
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert torch.equal(_logits(model), logits)
    # It can still be trained: nothing of the inference mode is left in it.
    objectives.causal_lm(model, _batches()[0]).backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("at", [1, 2, 4, 8], ids=["whole", "first-bypass", "third-bypass", "second-batch"])
def test_an_exception_in_the_middle_of_probing_leaves_the_model_as_it_was(at):
    model = toy_model("qwen3")
    logits = _logits(model)
    passes = []

    def failing(*_):
        passes.append(1)
        if len(passes) == at:
            raise MemoryError

    hook = model.lm_head.register_forward_pre_hook(failing)
    with pytest.raises(MemoryError):
        adept_layers.layer_importance(model, _batches())
    hook.remove()
    assert len(passes) == at
    assert _traces(model) == []
    assert torch.equal(_logits(model), logits)


@pytest.mark.parametrize("kind", ["falcon", "bloom", "mpt", "gptj", "falcon_h1", "zamba", "gpt2", "gpt_neox", "gemma3"])
def test_layers_that_return_more_than_hidden_states_are_bypassed_as_others_are(kind):
    """Against whole passes in which one layer does its work and its input is handed on all the same."""
    model = small_models.small_model(kind)
    ids = torch.randint(30, 60, (2, 12), generator=torch.Generator().manual_seed(0))
    batch = {"input_ids": ids, "labels": ids}
    base, importance = adept_layers.layer_importance(model, [batch])
    assert _traces(model) == []
    rises = []
    for layer in expansion.decoder_layers(model):
        hook = layer.register_forward_hook(
            lambda _, given, output: given[0] if isinstance(output, torch.Tensor) else (given[0], *output[1:])
        )
        with torch.no_grad():
            rises.append(objectives.causal_lm(model, batch).item() - base)
        hook.remove()
    assert importance == pytest.approx(rises, abs=1e-5)
    assert max(map(abs, importance)) > 1e-2


@pytest.mark.parametrize("kind", ["gemma3", "gpt2", "falcon"])
def test_layers_are_chosen_and_copied_whatever_the_architecture_calls_them(kind, tmp_path, tokenizer):
    base = small_models.small_model(kind)
    storage.save_model(base, tokenizer, tmp_path / "base")
    for cfg in (
        adept.Config(layers=2, placement="suffix"),
        adept.Config(layers=2, placement="suffix", expansion="none"),
    ):
        out = tmp_path / cfg.expansion
        out.mkdir()
        adept.expand(cfg, {"base": tmp_path / "base"}, out, StageContext(0, {}, tokenizer))
        layers = len(expansion.decoder_layers(base))
        assert json.loads((out / "chosen.json").read_text()) == [layers - 2, layers - 1]
        model = storage.load_model(out if cfg.expansion == "copy" else tmp_path / "base")
        adept.adapt(cfg, model, StageContext(0, {}, prepared={"expand": out}))
        trained = [layer for layer in expansion.decoder_layers(model) if next(layer.parameters()).requires_grad]
        assert len(trained) == 2


def _computed(model, monkeypatch, call):
    """How many layers are really computed in a call."""
    kind, count = type(model.model.layers[0]), []
    plain = kind.forward
    with monkeypatch.context() as patch:
        patch.setattr(kind, "forward", lambda self, *given, **named: (count.append(1), plain(self, *given, **named))[1])
        call()
    return len(count)


def _loss_of(batches):
    return lambda model: sum(objectives.causal_lm(model, batch).item() for batch in batches)


def test_probing_28_layers_computes_at_most_55_percent_of_the_naive_layers(monkeypatch):
    model, batches = toy_model("qwen3", layers=28), _batches(parts=(ROWS[:1], ROWS[1:3]))
    naive = _computed(model, monkeypatch, lambda: _naive(model, _loss_of(batches)))
    assert naive == 2 * (28 + 28 * 27)
    assert 2 * 28 < _computed(model, monkeypatch, lambda: adept_layers.layer_importance(model, batches)) <= 0.55 * naive


def test_probing_28_layers_takes_much_less_processor_time_than_the_naive_way():
    """Measured, in processor time of this one thread, medians of interleaved repeats. Embedding and output head count
    in both and weigh much in a toy: about 0.55 on a quiet machine.
    """
    model, batches = toy_model("qwen3", layers=28), _batches(parts=(ROWS[:4],))
    calls = {
        "naive": lambda: _naive(model, _loss_of(batches)),
        "ours": lambda: adept_layers.layer_importance(model, batches),
    }
    seconds = {name: [] for name in calls}
    for _ in range(6):
        for name, call in calls.items():
            started = time.process_time()
            call()
            seconds[name].append(time.process_time() - started)
    medians = {name: statistics.median(found[1:]) for name, found in seconds.items()}
    assert medians["ours"] <= 0.75 * medians["naive"]


IMPORTANCE = [0.5, -0.25, 3.0, 0.125, 0.5, -1.0, 2.0]


@pytest.mark.parametrize(
    ("placement", "count", "expected"),
    [
        ("lowest", 1, [5]),
        ("lowest", 3, [1, 3, 5]),
        ("highest", 1, [2]),
        ("highest", 2, [2, 6]),
        ("suffix", 3, [4, 5, 6]),
        ("uniform", 3, [1, 3, 6]),
        ((4, 2, 6), 3, [2, 4, 6]),
        ([0], 1, [0]),
        *[(placement, 7, list(range(7))) for placement in ("lowest", "highest", "suffix", "uniform", "random")],
    ],
)
def test_the_chosen_layers_are_those_of_the_placement_in_order(placement, count, expected):
    cfg = adept.Config(layers=count, placement=placement)
    assert adept_layers.choose_layers(cfg, 7, IMPORTANCE, 0) == expected


def test_listed_layers_are_counted_and_asked_for_no_importance():
    cfg = adept.Config(placement=[22, 23, 25, 27])
    assert cfg.layers == 4
    assert cfg.share(28) == (4, 4)
    assert [step.name for step in adept.preparations(cfg)] == ["expand"]
    assert not adept.preparations(cfg)[0].seeded
    assert adept_layers.choose_layers(cfg, 28, None, 0) == [22, 23, 25, 27]
    assert adept.Config(placement=[27, 22, 25, 23], layers=4) == cfg
    assert adept.Config.model_validate(json.loads(cfg.model_dump_json())) == cfg


@pytest.mark.parametrize("placement", ["lowest", "highest"])
def test_an_importance_without_an_order_is_refused_and_an_infinite_rise_is_the_highest(placement):
    cfg = adept.Config(layers=2, placement=placement)
    for value in (float("nan"), float("-inf")):
        message = _one_line(adept_layers.choose_layers, cfg, 4, [0.5, value, 0.1, 0.2], 0)
        assert message == f"layer 1 of the base: its importance is {value}, which has no order"
    found = adept_layers.choose_layers(cfg, 4, [0.5, float("inf"), 0.1, 0.2], 0)
    assert found == ([2, 3] if placement == "lowest" else [0, 1])


def test_of_equally_important_layers_the_first_are_taken():
    tied = [1.0, 0.0, 1.0, 0.0, 0.0, 1.0]
    for count, lowest, highest in ((1, [1], [0]), (2, [1, 3], [0, 2]), (4, [0, 1, 3, 4], [0, 1, 2, 5])):
        for placement, expected in (("lowest", lowest), ("highest", highest)):
            assert adept_layers.choose_layers(adept.Config(layers=count, placement=placement), 6, tied, 0) == expected


def test_lowest_is_the_k_smallest_whatever_the_numbers():
    rng = random.Random(0)
    for _ in range(200):
        layers = rng.randrange(1, 12)
        importance = [rng.choice((-1.0, 0.0, 0.5, rng.random())) for _ in range(layers)]
        count = rng.randrange(1, layers + 1)
        for placement, sign in (("lowest", 1), ("highest", -1)):
            chosen = adept_layers.choose_layers(adept.Config(layers=count, placement=placement), layers, importance, 0)
            assert chosen == sorted(set(chosen))
            assert len(chosen) == count
            left = [sign * importance[i] for i in range(layers) if i not in chosen]
            assert max(sign * importance[i] for i in chosen) <= min(left, default=9e9)


def test_uniform_is_llama_pros_choice():
    for layers in range(1, 13):
        for count in range(1, layers + 1):
            cfg = adept.Config(layers=count, placement="uniform")
            assert adept_layers.choose_layers(cfg, layers, None, 0) == expansion.evenly_spread(layers, count)


def test_random_layers_depend_on_the_seed_and_on_nothing_else():
    cfg = adept.Config(layers=3, placement="random")
    first = [adept_layers.choose_layers(cfg, 8, None, seed) for seed in range(40)]
    random.seed(99)
    torch.manual_seed(99)
    assert [adept_layers.choose_layers(cfg, 8, IMPORTANCE, seed) for seed in range(40)] == first
    assert all(chosen == sorted(set(chosen)) and len(chosen) == 3 for chosen in first)
    assert {layer for chosen in first for layer in chosen} == set(range(8))
    assert len({tuple(chosen) for chosen in first}) > 20


@pytest.mark.parametrize("placement", ["lowest", "highest", "suffix", "uniform", "random"])
def test_more_layers_than_the_model_has_are_refused_in_the_stage(placement):
    cfg = adept.Config(layers=8, placement=placement)
    assert (
        _one_line(adept_layers.choose_layers, cfg, 7, IMPORTANCE, 0) == "tuner.layers: must be <= 7, the base's layers"
    )
