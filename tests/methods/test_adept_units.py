"""ADEPT's stage 2: importance of units against slices by hand, and the rates that follow from it.

Run: python -m pytest tests/methods/test_adept_units.py
"""

import math
import weakref

import pytest
import torch
from torch import nn

from adaptbench.methods.tuners import adept_units
from adaptbench.model.units import units
from tests.support.adept_cases import (
    DECOUPLED,
    LENGTH,
    PARTS,
    RANKED,
    ROWS,
    UNITS,
    _adapted,
    _batches,
    _by,
    _cuts,
    _differing,
    _dropping,
    _flat,
    _hand_importance,
    _hand_multipliers,
    _kind,
    _labelled,
    _odd_model,
    _projection,
    _sort,
    _traces,
    _weights,
    every_unit,
)


@every_unit
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3", "mistral"])
def test_a_units_importance_is_the_mean_of_weight_times_gradient_over_its_entries(architecture, unit):
    model = _adapted(_odd_model(architecture).double())
    batches = _batches()
    expected = _hand_importance(model, batches, unit)
    found = _flat(adept_units.unit_importance(model, batches, units(model, unit)))
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected, rel=1e-11, abs=0)
    names = {name for name, _ in found}
    assert names == {
        name for name, _ in model.named_parameters() if name.startswith(("model.layers.2.", "model.layers.5."))
    }
    assert ("model.layers.2.self_attn.q_proj.bias" in names) == (architecture == "qwen2")
    assert ("model.layers.2.self_attn.k_norm.weight" in names) == (architecture == "qwen3")


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3"])
def test_heads_are_counted_by_their_own_kind_under_grouped_queries(architecture):
    model = _adapted(_odd_model(architecture))
    counts = {
        name.removeprefix("model.layers.2."): values.numel()
        for name, values in adept_units.unit_importance(model, _batches(), units(model, "head")).items()
        if ".2." in name
    }
    expected = {"self_attn.q_proj.weight": 6, "self_attn.k_proj.weight": 3, "self_attn.v_proj.weight": 3}
    expected |= {"self_attn.o_proj.weight": 6, "mlp.gate_proj.weight": 1, "mlp.up_proj.weight": 1}
    expected |= {"mlp.down_proj.weight": 1, "input_layernorm.weight": 1, "post_attention_layernorm.weight": 1}
    if architecture == "qwen3":
        expected |= {"self_attn.q_norm.weight": 1, "self_attn.k_norm.weight": 1}
    else:
        expected |= {"self_attn.q_proj.bias": 6, "self_attn.k_proj.bias": 3, "self_attn.v_proj.bias": 3}
    assert counts == expected


@every_unit
@pytest.mark.parametrize("architecture", ["qwen2", "qwen3"])
def test_a_units_value_is_spread_over_that_unit_alone(architecture, unit):
    """The way back: values in the order of the units reach exactly the entries that were averaged."""
    model = _adapted(_odd_model(architecture))
    for name, split in units(model, unit).items():
        p = model.get_parameter(name).detach()
        cuts = _cuts(name, p.shape, unit)
        assert math.prod(split.shape) == len(cuts), name
        by_unit = torch.arange(1.0, len(cuts) + 1).reshape(split.shape)
        expected = torch.zeros_like(p)
        for i, cut in enumerate(cuts):
            expected[cut] = i + 1
        spread = split.spread(by_unit, p)
        assert torch.equal(spread.expand(p.shape), expected), name
        assert spread.numel() <= max(p.shape), "not smaller than the parameter"


def test_padding_and_the_cut_into_batches_weigh_as_tokens_in_a_units_importance():
    model = _adapted(_odd_model("qwen3").double())
    split = units(model, "row")
    parts = [adept_units.unit_importance(model, [batch], split) for batch in _batches()]
    weights = [_labelled(rows) / _labelled(ROWS) for rows in PARTS]
    for length, pad in ((LENGTH, 0), (LENGTH + 9, 77)):
        found = adept_units.unit_importance(model, _batches(length, pad), split)
        for name, values in found.items():
            mean = sum(weight * part[name] for weight, part in zip(weights, parts, strict=True))
            torch.testing.assert_close(values, mean, rtol=1e-5, atol=0, msg=name)


class _Drawing(nn.Module):
    """Draws random numbers in every mode, as no layer here does but a router with noise may."""

    def forward(self, hidden_states, *_, **__):
        torch.rand(3)
        return hidden_states


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_measuring_importance_leaves_no_gradient_no_mode_and_no_random_state_behind(training):
    model = _dropping(_adapted(_odd_model("qwen3")))
    split = units(model, "head")
    expected = adept_units.unit_importance(model.eval(), _batches(), split)
    model.model.layers[0] = _Drawing()
    drawing = adept_units.unit_importance(model, _batches(), split)
    torch.manual_seed(8)
    model.train(training)
    kept = torch.full_like(model.lm_head.weight, 7.0)
    model.lm_head.weight.grad = kept
    before, random_state = _weights(model), torch.get_rng_state()
    again = adept_units.unit_importance(model, _batches(), split)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert {module.training for module in model.modules()} == {training}
    assert [name for name, p in model.named_parameters() if p.grad is not None] == ["lm_head.weight"]
    assert model.lm_head.weight.grad is kept
    assert kept.eq(7.0).all()
    assert _differing(_weights(model), before) == []
    assert _traces(model) == []
    # What is measured does not depend on the mode: dropout is off in both.
    assert _differing(again, drawing) == []
    assert _differing(expected, drawing) == sorted(expected, key=list(expected).index), "the first layer had no effect"


def test_gradients_are_let_go_batch_by_batch(monkeypatch):
    model = _adapted(_odd_model("qwen3"))
    backward, alive = torch.Tensor.backward, []

    def watched(loss):
        assert not any(ref() is not None for refs in alive[:-1] for ref in refs), (
            "gradients of earlier batches are kept"
        )
        backward(loss)
        alive.append([weakref.ref(p.grad) for p in model.parameters() if p.grad is not None])

    monkeypatch.setattr(torch.Tensor, "backward", watched)
    adept_units.unit_importance(model, _batches() * 2, units(model, "tensor"))
    assert len(alive) == 6
    assert all(alive)
    assert not any(ref() is not None for refs in alive for ref in refs)


def _drawn(model, unit, seed=0):
    """Importances of a model's units of very different size by kind, with ties."""
    generator = torch.Generator().manual_seed(seed)
    drawn = {}
    for name, split in units(model, unit).items():
        values = torch.randint(1, 9, split.shape, generator=generator).double()
        drawn[name] = values * (1000.0 if "norm" in name else 1e-3)
    return drawn


@pytest.mark.parametrize("unit_lr", DECOUPLED)
@every_unit
@pytest.mark.parametrize("architecture", ["qwen2", "qwen3", "gemma2"])
def test_the_multipliers_are_the_formulas(architecture, unit, unit_lr):
    model = _adapted(_odd_model(architecture))
    split, importance = units(model, unit), _drawn(model, unit)
    found = adept_units.multipliers(importance, split, unit_lr)
    assert {name: values.shape for name, values in found.items()} == {n: v.shape for n, v in importance.items()}
    assert _flat(found) == pytest.approx(_hand_multipliers(_flat(importance), unit_lr), rel=0, abs=1e-12)


@pytest.mark.parametrize("unit_lr", RANKED)
@every_unit
@pytest.mark.parametrize("architecture", ["qwen2", "qwen3", "gemma2"])
def test_ranked_rates_fall_with_importance_and_are_one_in_the_mean_of_every_ranking(architecture, unit, unit_lr):
    model = _adapted(_odd_model(architecture))
    split, importance = units(model, unit), _drawn(model, unit)
    rates = _flat(adept_units.multipliers(importance, split, unit_lr))
    rankings = _by(_flat(importance), _kind if unit_lr == "decoupled_rank_by_name" else _sort)
    matrices = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    others = {"norm"} | ({"bias"} if architecture == "qwen2" else set())
    assert set(rankings) == others | (matrices if unit_lr == "decoupled_rank_by_name" else {"matrix"})
    if architecture == "qwen3":
        assert {_projection(name) for name, _ in rankings["norm"]} >= {"q_norm", "k_norm", "input_layernorm"}
    for members in rankings.values():
        assert sum(rates[key] for key in members) / len(members) == pytest.approx(1.0, abs=1e-12)
        for one, value in members.items():
            assert 0 < rates[one] < 2
            for other, other_value in members.items():
                if value < other_value:
                    assert rates[one] > rates[other]
                elif value == other_value:
                    assert rates[one] == rates[other]


@pytest.mark.parametrize("unit_lr", DECOUPLED)
@pytest.mark.parametrize("sources", [(2,), (1, 3), (0, 1, 3)], ids=["one-copy", "two", "three"])
@pytest.mark.parametrize("architecture", ["qwen2", "qwen3"])
def test_measured_importances_give_the_rates_of_a_plain_reference_in_float64(architecture, sources, unit_lr):
    """From the gradients to the rates, on odd shapes: nothing of the code under test in the reference."""
    model = _adapted(_odd_model(architecture).double(), sources)
    for unit in UNITS:
        split = units(model, unit)
        found = _flat(adept_units.multipliers(adept_units.unit_importance(model, _batches(), split), split, unit_lr))
        expected = _hand_multipliers(_hand_importance(model, _batches(), unit), unit_lr)
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_tensors_of_a_layer_are_compared_with_each_other_also_where_it_is_the_only_one():
    """Seven matrices and four gains have a rate each; by name there is nothing to compare them with, or one other."""
    model = _adapted(_odd_model("qwen3"), sources=(2,))
    split = units(model, "tensor")
    importance = {name: torch.full((), i + 1.0) for i, name in enumerate(split)}
    rates = _flat(adept_units.multipliers(importance, split, "decoupled_rank"))
    by_sort = {sort: sorted(members.values()) for sort, members in _by(rates, _sort).items()}
    assert by_sort["matrix"] == pytest.approx([(2 * i + 1) / 7 for i in range(7)])
    assert by_sort["norm"] == pytest.approx([0.25, 0.75, 1.25, 1.75])
    by_name = _flat(adept_units.multipliers(importance, split, "decoupled_rank_by_name"))
    assert {value for (name, _), value in by_name.items() if "norm" not in name} == {1.0}
    two = _adapted(_odd_model("qwen3"))
    rates = _flat(adept_units.multipliers(_shuffled(two), units(two, "tensor"), "decoupled_rank"))
    assert len({value for (name, _), value in rates.items() if "norm" not in name}) == 14
    rates = _flat(adept_units.multipliers(_shuffled(two), units(two, "tensor"), "decoupled_rank_by_name"))
    assert {value for (name, _), value in rates.items() if "norm" not in name} == {0.5, 1.5}


def _shuffled(model):
    """Importances of a model's tensors that all differ."""
    names = list(units(model, "tensor"))
    return dict(zip(names, torch.randperm(len(names), generator=torch.Generator().manual_seed(2)) + 1.0, strict=True))


class _OddParts(nn.Module):
    """Parameters that architectures hold besides: experts' biases, gains and biases of layer norms, gains by head."""

    def __init__(self):
        super().__init__()
        self.config = None
        self.experts = nn.Module()
        self.experts.gate_up_proj = nn.Parameter(torch.ones(3, 5, 7))
        self.experts.gate_up_proj_bias = nn.Parameter(torch.ones(3, 7))
        self.q_norm = nn.Module()
        self.q_norm.weight = nn.Parameter(torch.ones(2, 5))
        self.input_layernorm = nn.LayerNorm(5)
        self.dense = nn.Linear(5, 5)


def test_gains_and_biases_are_known_whatever_their_shape():
    split = units(_OddParts(), "tensor")
    importance = {name: torch.full((), i + 1.0) for i, name in enumerate(split)}
    rates = {name: value.item() for name, value in adept_units.multipliers(importance, split, "decoupled_rank").items()}
    assert rates == pytest.approx(
        {"experts.gate_up_proj": 1.5, "dense.weight": 0.5}
        | {"q_norm.weight": 1.5, "input_layernorm.weight": 0.5}
        | {"experts.gate_up_proj_bias": 5 / 3, "input_layernorm.bias": 1.0, "dense.bias": 1 / 3}
    )


def test_calibrated_rates_of_matrices_span_two_to_nothing_and_gains_are_held_against_everything():
    """As the released callback_deepspeed.py does; there the gains of queries and keys and biases count as matrices."""
    model = _adapted(_odd_model("qwen2"))
    importance = _shuffled(model)
    for name in importance:
        importance[name] = importance[name] * (100.0 if _sort(name) != "matrix" else 1.0)
    rates = _by(_flat(adept_units.multipliers(importance, units(model, "tensor"), "decoupled_calibrated")), _sort)
    assert (min(rates["matrix"].values()), max(rates["matrix"].values())) == (0.0, 2.0)
    assert len(set(rates["matrix"].values())) == 14
    everything = _flat(adept_units.multipliers(importance, units(model, "tensor"), "decoupled_minmax"))
    for sort in ("norm", "bias"):
        assert rates[sort] == {key: everything[key] for key in rates[sort]}
    assert min(everything[key] for key in rates["matrix"]) > 1.9


def test_ranked_rates_of_matrices_do_not_depend_on_the_size_of_norms():
    """As released, where norm gains outweigh every matrix, all matrices get the double rate; here none does."""
    model = _adapted(_odd_model("qwen3"))
    split, importance = units(model, "tensor"), _drawn(model, "tensor")
    larger = {name: values * (1e6 if "norm" in name else 1) for name, values in importance.items()}
    rank, again = (_flat(adept_units.multipliers(given, split, "decoupled_rank")) for given in (importance, larger))
    assert rank == again
    released = _flat(adept_units.multipliers(importance, split, "decoupled_minmax"))
    assert all(value > 1.999 for (name, _), value in released.items() if "norm" not in name)
    assert any(value < 1.5 for (name, _), value in rank.items() if "norm" not in name)


def test_by_name_a_kind_of_one_unit_has_the_base_rate():
    model = _adapted(_odd_model("qwen3"), sources=(2,))
    split = units(model, "tensor")
    rates = adept_units.multipliers(_drawn(model, "tensor"), split, "decoupled_rank_by_name")
    alone = [name for name in rates if "norm" not in name]
    assert len(alone) == 7
    assert [rates[name].item() for name in alone] == [1.0] * 7


@every_unit
def test_the_released_normalisation_gives_the_extremes_two_and_nothing_over_all_units(unit):
    model = _adapted(_odd_model("qwen3"))
    importance = {name: torch.rand_like(values) + 1 for name, values in _drawn(model, unit).items()}
    low, high = list(importance)[3], list(importance)[-1]
    importance[low].view(-1)[0], importance[high].view(-1)[-1] = 0.25, 3.5
    rates = adept_units.multipliers(importance, units(model, unit), "decoupled_minmax")
    assert rates[low].view(-1)[0] == 2.0
    assert rates[high].view(-1)[-1] == 0.0
    others = [value for value in _flat(rates).values() if value not in (0.0, 2.0)]
    assert len(others) == len(_flat(rates)) - 2
    assert all(0 < value < 2 for value in others)


@pytest.mark.parametrize("value", [0.3, 0.0])
@pytest.mark.parametrize("unit_lr", DECOUPLED)
def test_equally_important_units_have_the_base_rate(unit_lr, value):
    model = _adapted(_odd_model("qwen3"))
    importance = {name: torch.full_like(values, value) for name, values in _drawn(model, "row").items()}
    rates = set(_flat(adept_units.multipliers(importance, units(model, "row"), unit_lr)).values())
    assert rates == {1.0}


@pytest.mark.parametrize("unit_lr", DECOUPLED)
def test_units_without_importance_are_the_least_important_of_their_ranking(unit_lr):
    """Such as an expert that no general token reaches; all of them share the highest rate there is."""
    model = _adapted(_odd_model("qwen3"))
    importance = _drawn(model, "row")
    name = "model.layers.2.mlp.up_proj.weight"
    importance[name].view(-1)[:5] = 0.0
    rates = _flat(adept_units.multipliers(importance, units(model, "row"), unit_lr))
    assert len({rates[name, i] for i in range(5)}) == 1
    kind = _kind if unit_lr == "decoupled_rank_by_name" else _sort
    assert rates[name, 0] == max(_by(rates, kind)[kind(name)].values())
