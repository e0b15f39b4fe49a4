"""ADEPT: the probe, the choice of layers, the units' importance and rates, each against a plain reference written here.

The references are loops over layers, documents, units and parameter groups: one full forward pass a bypassed layer, AdamW
with one group a unit, |w * dL/dw| averaged slice by slice, ranks by counting. Odd shapes with grouped queries; float64 where
two ways of adding must agree.

Run: python -m pytest tests/methods/test_adept.py
"""

import copy
import json
import random
import re
import shutil
import statistics
import time
import weakref
from contextlib import chdir

import matplotlib as mpl
import pytest
import torch
from conftest import ARCHITECTURES, preset_values, toy_model
from matplotlib.colors import to_hex
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM

from adaptbench import config, expansion, graph, plan, stages
from adaptbench import training as loop
from adaptbench.config import Training
from adaptbench.contracts import AdaptbenchError, RunFiles, StageContext
from adaptbench.documents import write_jsonl
from adaptbench.packing import Packed, collate, document
from adaptbench.units import units
from methods.tuners import adept, adept_figures

LENGTH = 32
FIVE = ("llama", "qwen2", "qwen3", "mistral", "gemma")
UNITS = ("tensor", "row", "head")
DECOUPLED = ("decoupled_rank", "decoupled_minmax")
HEADS, KEY_HEADS, HEAD_WIDTH = 6, 3, 10  # of _odd_model
EMPTY = StageContext(0, {})
every_unit = pytest.mark.parametrize("unit", UNITS)


@pytest.fixture(autouse=True)
def _fresh_accelerate():
    """Accelerate keeps its precision and device in class attributes; each test starts without them."""
    from accelerate.state import AcceleratorState, GradientState

    AcceleratorState._reset_state(True)
    GradientState._reset_state()
    yield
    AcceleratorState._reset_state(True)
    GradientState._reset_state()


# --- what the tests share


def _data(seed=0, count=40):
    rng = random.Random(f"adept{seed}")
    sizes = [rng.choice((3, 5, 9, 14, 30)) for _ in range(count)]
    return Packed([document([rng.randrange(1, 300) for _ in range(size)]) for size in sizes], LENGTH, seed)


ROWS = _data().epoch(0)[:7]
PARTS = (ROWS[:3], ROWS[3:4], ROWS[4:7])


def _batches(length=LENGTH, pad=0, parts=PARTS):
    """Three batches of unequal numbers of labelled tokens, several documents a row, with padding."""
    return [collate(rows, length, pad) for rows in parts]


def _labelled(rows):
    return sum(len(example.input_ids) - 1 for row in rows for example in row)


def _odd_model(architecture, layers=4):
    """Widths that no power of two divides, and two query heads to a key-value head."""
    shapes = AutoConfig.for_model(
        architecture, vocab_size=300, hidden_size=36, intermediate_size=50, num_hidden_layers=layers,
        num_attention_heads=HEADS, num_key_value_heads=KEY_HEADS, head_dim=HEAD_WIDTH, max_position_embeddings=256,
        pad_token_id=0, bos_token_id=0, eos_token_id=0, initializer_range=0.2,
    )  # fmt: skip
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(shapes)
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim == 1:
                p.add_(torch.rand_like(p) * 0.2)
    return model.eval()


def _adapted(model, sources=(1, 3), *, moved=True, **options):
    """The model with copies of `sources` that train; with `moved` they are away from their zero start."""
    expanded = expansion.expand(model, list(sources))
    if moved:
        torch.manual_seed(4)
        with torch.no_grad():
            for layer in expansion.expanded_layers(expanded):
                for projection in (layer.self_attn.o_proj, layer.mlp.down_proj):
                    projection.weight.normal_(std=0.1)
    return adept.adapt(adept.Config(layers=len(sources), **options), expanded, EMPTY)


def _options(**changed):
    values = {"steps": 8, "batch_size": 2, "sequence_length": LENGTH, "precision": "float32", "weight_decay": 0.1}
    return Training(**values | changed)


def _weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def _differing(one, other):
    assert one.keys() == other.keys()
    return [name for name in one if not torch.equal(one[name], other[name])]


def _log(work):
    return [json.loads(line) for line in (work / "training.jsonl").read_text().splitlines()]


def _one_line(call, *arguments):
    with pytest.raises(AdaptbenchError) as caught:
        call(*arguments)
    assert str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- stage 1: the importance of layers


class _Through(nn.Module):
    """A layer whose output is its input."""

    def forward(self, hidden_states, *_, **__):
        return hidden_states


def _without(model, index):
    """The model (not a copy) with layer `index` replaced by `_Through`; None: as it is. To be put back by the caller."""
    bypassed = copy.copy(model.model.layers[index])
    model.model.layers[index] = _Through()
    return bypassed


def _token_losses(model, rows):
    """-log p of every token but each document's first, every document alone: nothing packed, nothing padded."""
    losses = []
    for row in rows:
        for example in row:
            ids = torch.tensor(example.input_ids)
            chances = model(input_ids=ids[None], use_cache=False).logits[0, :-1].double().log_softmax(-1)
            losses.append(-chances.gather(1, ids[1:, None]).flatten())
    return torch.cat(losses)


@torch.no_grad()
def _naive(model, loss_of):
    """The loss of the whole model and its rise for each layer in turn, by a whole forward pass each."""
    base = loss_of(model)
    rises = []
    for index in range(len(model.model.layers)):
        bypassed = _without(model, index)
        rises.append(loss_of(model) - base)
        model.model.layers[index] = bypassed
    return base, rises


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_layers_importance_is_the_rise_of_the_mean_loss_of_all_tokens_without_it(architecture):
    """The reference sees each document alone and takes one mean over all tokens of all batches."""
    model = toy_model(architecture).double()
    base, rises = _naive(model, lambda model: _token_losses(model, ROWS).mean().item())
    assert min(abs(one - other) for i, one in enumerate(rises) for other in rises[:i]) > 1e-4
    loss, importance = adept.layer_importance(model, _batches())
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
            loop.causal_lm(model, batch).item() * _labelled(rows) for batch, rows in zip(batches, PARTS, strict=True)
        ]
        return sum(found) / _labelled(ROWS)

    base, rises = _naive(model, loss_of)
    loss, importance = adept.layer_importance(model, batches)
    assert loss == pytest.approx(base, abs=1e-6)
    assert importance == pytest.approx(rises, abs=1e-6)
    assert min(map(abs, rises)) > 1e-3


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_padding_never_counts_in_a_layers_importance(architecture):
    model = toy_model(architecture).double()
    loss, importance = adept.layer_importance(model, _batches())
    for length, pad in ((LENGTH + 9, 0), (LENGTH, 77), (2 * LENGTH, 77)):
        other_loss, other = adept.layer_importance(model, _batches(length, pad))
        assert other_loss == pytest.approx(loss, abs=1e-6)
        assert other == pytest.approx(importance, abs=1e-6)


def _traces(model):
    """Hooks and replaced methods on any part of a model."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_forward_hooks_with_kwargs")
    return [
        (name, kind)
        for name, module in model.named_modules()
        for kind in (*hooks, "forward")
        if (kind in module.__dict__ if kind == "forward" else getattr(module, kind))
    ]


def _logits(model):
    with torch.no_grad():
        return model(torch.arange(1, 61).reshape(2, 30)).logits


def test_probing_leaves_the_model_as_it_was():
    model = toy_model("qwen3")
    logits, before, random_state = _logits(model), _weights(model), torch.get_rng_state()
    adept.layer_importance(model, _batches())
    assert _traces(model) == []
    assert torch.equal(torch.get_rng_state(), random_state)
    assert _differing(_weights(model), before) == []
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert torch.equal(_logits(model), logits)
    # It can still be trained: nothing of the inference mode is left in it.
    loop.causal_lm(model, _batches()[0]).backward()
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
        adept.layer_importance(model, _batches())
    hook.remove()
    assert len(passes) == at
    assert _traces(model) == []
    assert torch.equal(_logits(model), logits)


def test_a_layer_that_returns_more_than_hidden_states_is_refused_and_the_model_left_as_it_was(monkeypatch):
    model = toy_model("llama")
    kind = type(model.model.layers[0])
    plain = kind.forward
    monkeypatch.setattr(kind, "forward", lambda self, *given, **named: (plain(self, *given, **named), None))
    assert "LlamaDecoderLayer" in _one_line(adept.layer_importance, model, _batches())
    monkeypatch.setattr(kind, "forward", plain)
    assert _traces(model) == []


# --- what probing layers costs


def _computed(model, monkeypatch, call):
    """How many layers are really computed in a call."""
    kind, count = type(model.model.layers[0]), []
    plain = kind.forward
    with monkeypatch.context() as patch:
        patch.setattr(kind, "forward", lambda self, *given, **named: (count.append(1), plain(self, *given, **named))[1])
        call()
    return len(count)


def _loss_of(batches):
    return lambda model: sum(loop.causal_lm(model, batch).item() for batch in batches)


def test_probing_28_layers_computes_at_most_55_percent_of_the_naive_layers(monkeypatch):
    model, batches = toy_model("qwen3", layers=28), _batches(parts=(ROWS[:1], ROWS[1:3]))
    naive = _computed(model, monkeypatch, lambda: _naive(model, _loss_of(batches)))
    assert naive == 2 * (28 + 28 * 27)
    assert 2 * 28 < _computed(model, monkeypatch, lambda: adept.layer_importance(model, batches)) <= 0.55 * naive


def test_probing_28_layers_takes_much_less_processor_time_than_the_naive_way():
    """Measured, in processor time of this one thread, medians of interleaved repeats. Embedding and output head count in
    both and weigh much in a toy: about 0.55 on a quiet machine."""
    model, batches = toy_model("qwen3", layers=28), _batches(parts=(ROWS[:4],))
    calls = {"naive": lambda: _naive(model, _loss_of(batches)), "ours": lambda: adept.layer_importance(model, batches)}
    seconds = {name: [] for name in calls}
    for _ in range(6):
        for name, call in calls.items():
            started = time.process_time()
            call()
            seconds[name].append(time.process_time() - started)
    medians = {name: statistics.median(found[1:]) for name, found in seconds.items()}
    assert medians["ours"] <= 0.75 * medians["naive"]


# --- which layers


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
        *[(placement, 7, list(range(7))) for placement in ("lowest", "highest", "suffix", "uniform", "random")],
    ],
)
def test_the_chosen_layers_are_those_of_the_placement_in_order(placement, count, expected):
    cfg = adept.Config(layers=count, placement=placement)
    assert adept.chosen_layers(cfg, 7, IMPORTANCE, 0) == expected


def test_of_equally_important_layers_the_first_are_taken():
    tied = [1.0, 0.0, 1.0, 0.0, 0.0, 1.0]
    for count, lowest, highest in ((1, [1], [0]), (2, [1, 3], [0, 2]), (4, [0, 1, 3, 4], [0, 1, 2, 5])):
        for placement, expected in (("lowest", lowest), ("highest", highest)):
            assert adept.chosen_layers(adept.Config(layers=count, placement=placement), 6, tied, 0) == expected


def test_lowest_is_the_k_smallest_whatever_the_numbers():
    rng = random.Random(0)
    for _ in range(200):
        layers = rng.randrange(1, 12)
        importance = [rng.choice((-1.0, 0.0, 0.5, rng.random())) for _ in range(layers)]
        count = rng.randrange(1, layers + 1)
        for placement, sign in (("lowest", 1), ("highest", -1)):
            chosen = adept.chosen_layers(adept.Config(layers=count, placement=placement), layers, importance, 0)
            assert chosen == sorted(set(chosen))
            assert len(chosen) == count
            left = [sign * importance[i] for i in range(layers) if i not in chosen]
            assert max(sign * importance[i] for i in chosen) <= min(left, default=9e9)


def test_uniform_is_llama_pros_choice():
    for layers in range(1, 13):
        for count in range(1, layers + 1):
            cfg = adept.Config(layers=count, placement="uniform")
            assert adept.chosen_layers(cfg, layers, None, 0) == expansion.evenly_spread(layers, count)


def test_random_layers_depend_on_the_seed_and_on_nothing_else():
    cfg = adept.Config(layers=3, placement="random")
    first = [adept.chosen_layers(cfg, 8, None, seed) for seed in range(40)]
    random.seed(99)
    torch.manual_seed(99)
    assert [adept.chosen_layers(cfg, 8, IMPORTANCE, seed) for seed in range(40)] == first
    assert all(chosen == sorted(set(chosen)) and len(chosen) == 3 for chosen in first)
    assert {layer for chosen in first for layer in chosen} == set(range(8))
    assert len({tuple(chosen) for chosen in first}) > 20


@pytest.mark.parametrize("placement", ["lowest", "highest", "suffix", "uniform", "random"])
def test_more_layers_than_the_model_has_are_refused_in_the_stage(placement):
    cfg = adept.Config(layers=8, placement=placement)
    assert _one_line(adept.chosen_layers, cfg, 7, IMPORTANCE, 0) == "tuner.layers: must be <= 7, the base's layers"


# --- stage 2: the importance of units


def _projection(name):
    return name.split(".")[-2]


def _cuts(name, shape, unit):
    """Where a parameter's units lie in it, in order: written out for the shapes of _odd_model."""
    every, width = slice(None), HEAD_WIDTH
    if unit == "row":
        return [(i,) for i in range(shape[0])]
    if unit == "head":
        projection, weight = _projection(name), name.endswith("weight")
        if projection == "q_proj":
            return [(slice(h * width, (h + 1) * width),) for h in range(HEADS)]
        if projection in ("k_proj", "v_proj"):
            return [(slice(h * width, (h + 1) * width),) for h in range(KEY_HEADS)]
        if projection == "o_proj" and weight:
            return [(every, slice(h * width, (h + 1) * width)) for h in range(HEADS)]
    return [(every,)]


def _kind(name):
    return "bias" if name.endswith("bias") else "norm" if "norm" in _projection(name) else _projection(name)


def _hand_loss(model, batch):
    """The mean of -log p over the labelled tokens of a packed batch."""
    logits = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits
    chances, losses = logits.log_softmax(-1), []
    for row, place in (batch["labels"] >= 0).nonzero().tolist():
        losses.append(-chances[row, place - 1, batch["labels"][row, place]])
    return torch.stack(losses).mean()


def _hand_importance(model, batches, unit):
    """Of every unit, in the order of _cuts: the mean of |w * dL/dw| in each batch, averaged over the batches' tokens."""
    model = copy.deepcopy(model).eval()
    found, tokens = {}, 0
    for batch in batches:
        model.zero_grad()
        _hand_loss(model, batch).backward()
        count = int((batch["labels"] >= 0).sum())
        tokens += count
        for name, p in model.named_parameters():
            if p.requires_grad:
                sizes = (p.detach() * p.grad).abs()
                for i, cut in enumerate(_cuts(name, p.shape, unit)):
                    found[name, i] = found.get((name, i), 0.0) + sizes[cut].mean().item() * count
    return {key: value / tokens for key, value in found.items()}


def _flat(by_name):
    return {(name, i): value for name, values in by_name.items() for i, value in enumerate(values.flatten().tolist())}


@every_unit
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3", "mistral"])
def test_a_units_importance_is_the_mean_of_weight_times_gradient_over_its_entries(architecture, unit):
    model = _adapted(_odd_model(architecture).double())
    batches = _batches()
    expected = _hand_importance(model, batches, unit)
    found = _flat(adept.unit_importance(model, batches, units(model, unit)))
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
        for name, values in adept.unit_importance(model, _batches(), units(model, "head")).items()
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
        means = split.means(p)
        assert means.numel() == len(cuts), name
        by_unit = torch.arange(1.0, len(cuts) + 1).reshape(means.shape)
        expected = torch.zeros_like(p)
        for i, cut in enumerate(cuts):
            expected[cut] = i + 1
        spread = split.spread(by_unit, p)
        assert torch.equal(spread.expand(p.shape), expected), name
        assert spread.numel() <= max(p.shape), "not smaller than the parameter"


def test_padding_and_the_cut_into_batches_weigh_as_tokens_in_a_units_importance():
    model = _adapted(_odd_model("qwen3").double())
    split = units(model, "row")
    parts = [adept.unit_importance(model, [batch], split) for batch in _batches()]
    weights = [_labelled(rows) / _labelled(ROWS) for rows in PARTS]
    for length, pad in ((LENGTH, 0), (LENGTH + 9, 77)):
        found = adept.unit_importance(model, _batches(length, pad), split)
        for name, values in found.items():
            mean = sum(weight * part[name] for weight, part in zip(weights, parts, strict=True))
            torch.testing.assert_close(values, mean, rtol=1e-5, atol=0, msg=name)


def _dropping(model, chance=0.4):
    """The model with dropout in its attention, as its config may have it."""
    model.config.attention_dropout = chance
    for module in model.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = chance
    return model


class _Drawing(nn.Module):
    """Draws random numbers in every mode, as no layer here does but a router with noise may."""

    def forward(self, hidden_states, *_, **__):
        torch.rand(3)
        return hidden_states


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_measuring_importance_leaves_no_gradient_no_mode_and_no_random_state_behind(training):
    model = _dropping(_adapted(_odd_model("qwen3")))
    split = units(model, "head")
    expected = adept.unit_importance(model.eval(), _batches(), split)
    model.model.layers[0] = _Drawing()
    drawing = adept.unit_importance(model, _batches(), split)
    torch.manual_seed(8)
    model.train(training)
    kept = torch.full_like(model.lm_head.weight, 7.0)
    model.lm_head.weight.grad = kept
    before, random_state = _weights(model), torch.get_rng_state()
    again = adept.unit_importance(model, _batches(), split)
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
    grad, alive = torch.autograd.grad, []

    def watched(*given, **named):
        assert not any(ref() is not None for refs in alive[:-1] for ref in refs), (
            "gradients of earlier batches are kept"
        )
        found = grad(*given, **named)
        alive.append([weakref.ref(one) for one in found])
        return found

    monkeypatch.setattr(torch.autograd, "grad", watched)
    adept.unit_importance(model, _batches() * 2, units(model, "tensor"))
    assert len(alive) == 6
    assert not any(ref() is not None for refs in alive for ref in refs)


# --- importances to rates


def _drawn(model, unit, seed=0):
    """Importances of a model's units of very different size by kind, with ties."""
    generator = torch.Generator().manual_seed(seed)
    drawn = {}
    for name, split in units(model, unit).items():
        shape = split.means(model.get_parameter(name).detach()).shape
        values = torch.randint(1, 9, shape, generator=generator).double()
        drawn[name] = values * (1000.0 if "norm" in name else 1e-3)
    return drawn


def _by_kind(flat):
    kinds = {}
    for key, value in flat.items():
        kinds.setdefault(_kind(key[0]), {})[key] = value
    return kinds


def _hand_multipliers(flat, unit_lr):
    """decoupled_rank: 2 * (1 - (less + equal / 2) / n), by counting, within a kind; decoupled_minmax over everything."""
    found = {}
    if unit_lr == "decoupled_minmax":
        low, high = min(flat.values()), max(flat.values())
        return {key: 2 * (1 - (value - low) / (high - low)) for key, value in flat.items()}
    for members in _by_kind(flat).values():
        for key, value in members.items():
            less = sum(other < value for other in members.values())
            equal = sum(other == value for other in members.values())
            found[key] = 2 * (1 - (less + equal / 2) / len(members))
    return found


@pytest.mark.parametrize("unit_lr", DECOUPLED)
@every_unit
@pytest.mark.parametrize("architecture", ["qwen2", "qwen3", "gemma2"])
def test_the_multipliers_are_the_formulas(architecture, unit, unit_lr):
    model = _adapted(_odd_model(architecture))
    split, importance = units(model, unit), _drawn(model, unit)
    found = adept.multipliers(importance, split, unit_lr)
    assert {name: values.shape for name, values in found.items()} == {n: v.shape for n, v in importance.items()}
    assert _flat(found) == pytest.approx(_hand_multipliers(_flat(importance), unit_lr), rel=0, abs=1e-12)


@every_unit
@pytest.mark.parametrize("architecture", ["qwen2", "qwen3", "gemma2"])
def test_ranked_rates_fall_with_importance_and_are_one_in_the_mean_of_every_kind(architecture, unit):
    model = _adapted(_odd_model(architecture))
    split, importance = units(model, unit), _drawn(model, unit)
    rates, kinds = _flat(adept.multipliers(importance, split, "decoupled_rank")), _by_kind(_flat(importance))
    matrices = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert set(kinds) == matrices | {"norm"} | ({"bias"} if architecture == "qwen2" else set())
    if architecture == "qwen3":
        assert {_projection(name) for name, _ in kinds["norm"]} >= {"q_norm", "k_norm", "input_layernorm"}
    for members in kinds.values():
        assert sum(rates[key] for key in members) / len(members) == pytest.approx(1.0, abs=1e-12)
        for one, value in members.items():
            assert 0 < rates[one] < 2
            for other, other_value in members.items():
                if value < other_value:
                    assert rates[one] > rates[other]
                elif value == other_value:
                    assert rates[one] == rates[other]


def test_ranked_rates_of_matrices_do_not_depend_on_the_size_of_norms():
    """As released, where norm gains outweigh every matrix, all matrices get the double rate; here none does."""
    model = _adapted(_odd_model("qwen3"))
    split, importance = units(model, "tensor"), _drawn(model, "tensor")
    larger = {name: values * (1e6 if "norm" in name else 1) for name, values in importance.items()}
    rank, again = (_flat(adept.multipliers(given, split, "decoupled_rank")) for given in (importance, larger))
    assert rank == again
    released = _flat(adept.multipliers(importance, split, "decoupled_minmax"))
    assert all(value > 1.999 for (name, _), value in released.items() if "norm" not in name)
    assert any(value < 1.5 for (name, _), value in rank.items() if "norm" not in name)


def test_a_kind_of_one_unit_has_the_base_rate():
    model = _adapted(_odd_model("qwen3"), sources=(2,))
    split = units(model, "tensor")
    rates = adept.multipliers(_drawn(model, "tensor"), split, "decoupled_rank")
    alone = [name for name in rates if "norm" not in name]
    assert len(alone) == 7
    assert [rates[name].item() for name in alone] == [1.0] * 7


@every_unit
def test_the_released_normalisation_gives_the_extremes_two_and_nothing_over_all_units(unit):
    model = _adapted(_odd_model("qwen3"))
    importance = {name: torch.rand_like(values) + 1 for name, values in _drawn(model, unit).items()}
    low, high = list(importance)[3], list(importance)[-1]
    importance[low].view(-1)[0], importance[high].view(-1)[-1] = 0.25, 3.5
    rates = adept.multipliers(importance, units(model, unit), "decoupled_minmax")
    assert rates[low].view(-1)[0] == 2.0
    assert rates[high].view(-1)[-1] == 0.0
    others = [value for value in _flat(rates).values() if value not in (0.0, 2.0)]
    assert len(others) == len(_flat(rates)) - 2
    assert all(0 < value < 2 for value in others)


@pytest.mark.parametrize("unit_lr", DECOUPLED)
def test_equally_important_units_share_a_finite_rate(unit_lr):
    model = _adapted(_odd_model("qwen3"))
    importance = {name: torch.full_like(values, 0.3) for name, values in _drawn(model, "row").items()}
    rates = set(_flat(adept.multipliers(importance, units(model, "row"), unit_lr)).values())
    assert len(rates) == 1
    assert 0 <= rates.pop() <= 2


# --- the optimizer and its refreshes in the training loop


@pytest.fixture
def probed(monkeypatch):
    """The probe corpus is the rows above; returns the steps after which importance was measured."""
    measured = []
    plain = adept.unit_importance
    monkeypatch.setattr(adept, "probe_batches", lambda config, context: _batches())
    monkeypatch.setattr(adept, "unit_importance", lambda *given: (measured.append(1), plain(*given))[1])
    return measured


def _tune(model, work, cfg, options=None, **settings):
    """Train as the stage does: the method's optimizer and callback, the loop's everything else."""
    options = options or _options()
    optimizer = adept.optimizer(cfg, model, options)
    settings = {"work": work, "pad_id": 0, "seed": 3} | settings
    context = settings.pop("context", EMPTY)
    callback = adept.callback(cfg, model, [optimizer], context)
    outcome = loop.train(model, [optimizer], _data(1), loop.causal_lm, options, callback=callback, **settings)
    return outcome, optimizer, callback


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

    def watched(step):
        at_start = not _differing(_weights(model), start)
        found = after_step(step)
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


# --- the backward pass


def _chosen(model, folder, sources, expanded):
    """The model as adapt leaves it, and the indices of its trained layers."""
    if expanded:
        adapted = _adapted(model, sources, moved=False)
        return adapted, adapted.config.adaptbench_expanded_layers
    (folder / "chosen.json").write_text(json.dumps(list(sources)))
    cfg = adept.Config(layers=len(sources), expansion="none")
    return adept.adapt(cfg, model, StageContext(0, {}, prepared={"expand": folder})), list(sources)


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")  # as it should, at the lowest trained layer
@pytest.mark.parametrize(("sources", "expanded"), [((3,), True), ((1, 3), True), ((0,), True), ((2, 3), False)])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma2"])
def test_nothing_is_differentiated_below_the_lowest_trained_layer(architecture, sources, expanded, tmp_path):
    model, trained = _chosen(toy_model(architecture), tmp_path, sources, expanded)
    layers, fired, entered = model.model.layers, set(), {}
    for index, layer in enumerate(layers):
        for module in layer.modules():
            module.register_full_backward_hook(lambda *_, index=index: fired.add(index))
        layer.register_forward_pre_hook(lambda _, given, index=index: entered.update({index: given[0].requires_grad}))
    embedded = []
    model.get_input_embeddings().register_forward_hook(lambda *given: embedded.append(given[-1].requires_grad))
    before = _weights(model)
    optimizer = adept.optimizer(adept.Config(unit_lr="uniform"), model, _options())
    for batch in _batches():
        loop.causal_lm(model.train(), batch).backward()
        assert {n for n, p in model.named_parameters() if p.grad is not None} == {
            n for n, p in model.named_parameters() if p.requires_grad
        }
        optimizer.step()
        optimizer.zero_grad()
    lowest = min(trained)
    assert fired == set(range(lowest, len(layers)))
    assert entered == {index: index > lowest for index in range(len(layers))}
    assert embedded == [False] * 3
    moved = set(_differing(_weights(model), before))
    assert moved == {
        n for n, _ in model.named_parameters() if n.startswith(tuple(f"model.layers.{i}." for i in trained))
    }


def test_what_is_frozen_is_bit_for_bit_the_base_after_tuning(tmp_path, probed):
    base = toy_model("qwen3")
    model = _adapted(toy_model("qwen3"), (1, 2), moved=False)
    _tune(model, tmp_path, adept.Config(layers=2, refresh_every=2), _options(learning_rate=0.05))
    origin = {0: 0, 1: 1, 3: 2, 5: 3}
    tuned, compared = model.state_dict(), 0
    for name, weight in base.state_dict().items():
        for new, old in origin.items():
            if name.startswith(f"model.layers.{old}."):
                name = name.replace(f".{old}.", f".{new}.", 1)
                break
        assert torch.equal(tuned[name], weight), name
        compared += 1
    assert compared == len(base.state_dict())
    for index in (2, 4):
        for name, p in model.model.layers[index].named_parameters():
            assert not torch.equal(p, dict(base.model.layers[(index + 1) // 2].named_parameters())[name]), name


def _flops_of_a_layer(rows, length, hidden=32, middle=48, heads=2, key_heads=1, width=16):
    weights = 2 * hidden * heads * width + 2 * hidden * key_heads * width + 3 * hidden * middle
    return 2 * rows * length * weights + 2 * 2 * rows * heads * length * length * width


def test_the_backward_pass_of_a_copy_of_the_last_layer_costs_that_layer_and_the_head():
    """Counted, by hand and by torch, for 8 layers: full tuning goes back through all of them twice over."""
    batch = collate(ROWS[:4], LENGTH, 0)
    layer, head = _flops_of_a_layer(4, LENGTH), 2 * 4 * LENGTH * 32 * 300
    full, ours = toy_model("qwen3", layers=8), _adapted(toy_model("qwen3", layers=8), (7,), moved=False)
    for model, forward, backward in ((full, 8 * layer, 2 * (8 * layer + head)), (ours, 9 * layer, 2 * layer + head)):
        model.set_attn_implementation("eager")
        with FlopCounterMode(display=False) as counter:
            loss = loop.causal_lm(model.train(), batch)
        # Besides: the rotary angles, one number each.
        assert counter.get_total_flops() == pytest.approx(forward + head, rel=2e-3)
        with FlopCounterMode(display=False) as counter:
            loss.backward()
        assert counter.get_total_flops() == backward


def test_a_step_with_one_copy_at_the_end_takes_its_arithmetic_share_of_a_full_one():
    """Measured, in processor time of this one thread, medians of interleaved steps, on 8 layers that are wide enough for
    arithmetic to be most of the time. About 6 points below the share on a quiet machine: the optimizer has less to do."""
    shapes = AutoConfig.for_model(
        "qwen3", vocab_size=300, hidden_size=256, intermediate_size=768, num_hidden_layers=8, num_attention_heads=4,
        num_key_value_heads=2, head_dim=64, tie_word_embeddings=False, use_cache=False,
    )  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(shapes)
    batch = collate(ROWS[:4], LENGTH, 0)
    layer = _flops_of_a_layer(4, LENGTH, 256, 768, 4, 2, 64)
    head = 2 * 4 * LENGTH * 256 * 300
    share = (9 * layer + head + 2 * layer + head) / (3 * (8 * layer + head))
    ours = _adapted(model, (7,), moved=False)
    runs = {
        "full": (model, loop.default_optimizers(model, _options())[0]),
        "ours": (ours, adept.optimizer(adept.Config(layers=1, unit_lr="uniform"), ours, _options())),
    }
    ratio = 9.0
    for _ in range(3):  # a machine that is busy for a moment gets two more chances
        seconds = {name: [] for name in runs}
        for _ in range(6):
            for name, (tuned, optimizer) in runs.items():
                started = time.process_time()
                loop.causal_lm(tuned.train(), batch).backward()
                optimizer.step()
                optimizer.zero_grad()
                seconds[name].append(time.process_time() - started)
        medians = {name: statistics.median(found[1:]) for name, found in seconds.items()}
        ratio = min(ratio, medians["ours"] / medians["full"])
        if ratio <= share + 0.05:
            break
    assert ratio <= share + 0.05


def test_gradient_checkpointing_changes_nothing(tmp_path, probed):
    results = []
    for name, on in (("off", False), ("on", True)):
        model = _adapted(toy_model("qwen3"), moved=False)
        options = _options(gradient_checkpointing=on)
        _tune(model, tmp_path / name, adept.Config(layers=2, refresh_every=2), options)
        results.append(_weights(model))
    for name, weight in results[0].items():
        torch.testing.assert_close(results[1][name], weight, rtol=0, atol=1e-6, msg=name)
    assert len(probed) == 8


# --- the probe corpus


def _corpus(folder, records):
    write_jsonl(folder / "splits" / "probe.jsonl", records)
    return folder


def test_the_probe_reads_every_document_of_its_corpus_once_and_cuts_long_ones(tmp_path, tokenizer, benchmark_data):
    context = StageContext(5, {"general": benchmark_data["general"]}, tokenizer)
    lines = (benchmark_data["general"] / "splits/probe.jsonl").read_text().splitlines()
    length = 24
    for wanted in (None, 5):
        expected = []
        for line in lines[:wanted]:
            ids = [*tokenizer(json.loads(line)["text"]).input_ids, tokenizer.eos_token_id]
            pieces = [ids[start : start + length] for start in range(0, len(ids), length)]
            expected += [piece for piece in pieces if len(piece) > 1]
        assert any(len(piece) == length for piece in expected), "no document was long enough to be cut"
        cfg = adept.Config(probe_batch_size=3, probe_length=length, probe_documents=wanted)
        found = []
        batches = adept.probe_batches(cfg, context)
        assert {tuple(batch["input_ids"].shape) for batch in batches[:-1]} == {(3, length)}
        for batch in batches:
            for ids, labels, places in zip(
                *(batch[k].tolist() for k in ("input_ids", "labels", "position_ids")), strict=True
            ):
                starts = [i for i, place in enumerate(places) if place == 0]
                for start, end in zip(starts, [*starts[1:], length], strict=True):
                    if any(label >= 0 for label in labels[start:end]):
                        assert labels[start:end] == [-100, *ids[start + 1 : end]]
                        found.append(ids[start:end])
        assert sorted(found) == sorted(expected)


def test_the_probe_stage_writes_each_layers_importance_on_the_corpus(tmp_path, tokenizer, benchmark_data, model_folder):
    """Against every document alone, tokenized here."""
    folder = model_folder("qwen2")
    cfg = adept.Config(probe_batch_size=3, probe_length=40)
    out = tmp_path / "out"
    out.mkdir()
    context = StageContext(0, {"general": benchmark_data["general"]}, tokenizer)
    adept.probe(cfg, {"base": folder}, out, context)
    pieces = []
    for line in (benchmark_data["general"] / "splits/probe.jsonl").read_text().splitlines():
        ids = [*tokenizer(json.loads(line)["text"]).input_ids, tokenizer.eos_token_id]
        pieces += [document(ids[start : start + 40]) for start in range(0, len(ids), 40) if len(ids) - start > 1]
    base, rises = _naive(
        AutoModelForCausalLM.from_pretrained(folder), lambda m: _token_losses(m, [pieces]).mean().item()
    )
    found = json.loads((out / "importance.json").read_text())
    assert found["base_loss"] == pytest.approx(base, abs=1e-5)
    assert found["importance"] == pytest.approx(rises, abs=1e-5)


# --- the graph


def _unfold(*tuners, **changed):
    """A preset with a run for each tuner; the runs are named by their places."""
    values = preset_values() | changed
    values["runs"] = [
        {"name": str(i), "track": "domain", "curriculum": {"kind": "cpt"}, "tuner": {"kind": "adept", "layers": 2} | t}
        for i, t in enumerate(tuners)
    ]
    return graph.unfold(config.validate(values, "toy.yaml"))


def _lineage(unfolded, run, seed=0):
    """A run's preparations by function, and its trained node."""
    evaluated = unfolded.evaluation(f"domain/{run}/seed{seed}")
    nodes = [unfolded.nodes[node] for node in unfolded.ancestors(evaluated.model)]
    return {n.options["function"]: n for n in nodes if n.kind == "prepare"}, unfolded.nodes[evaluated.model]


def test_runs_that_differ_in_their_rates_alone_share_probe_and_expansion():
    tuners = [{}, *({"unit_lr": value} for value in ("decoupled_minmax", "uniform", "uniform_2x"))]
    tuners += [{"unit": "row"}, {"unit": "head"}, {"refresh_every": 7}]
    unfolded = _unfold(*tuners, seeds=[0, 1])
    found = [_lineage(unfolded, run, seed) for run in range(len(tuners)) for seed in (0, 1)]
    assert {tuple(sorted(prepared)) for prepared, _ in found} == {("expand", "probe")}
    assert len({prepared["probe"].id for prepared, _ in found}) == 1
    assert len({prepared["expand"].id for prepared, _ in found}) == 1
    assert len({trained.id for _, trained in found}) == len(found)
    assert all(trained.parents["model"] == prepared["expand"].id for prepared, trained in found)


def test_runs_that_choose_other_layers_share_the_probe_alone():
    tuners = [{}, {"layers": 3}, {"placement": "highest"}, {"expansion": "none"}]
    unfolded = _unfold(*tuners)
    found = [_lineage(unfolded, run)[0] for run in range(len(tuners))]
    assert len({prepared["probe"].id for prepared in found}) == 1
    assert len({prepared["expand"].id for prepared in found}) == len(tuners)


@pytest.mark.parametrize("option", ["probe_documents", "probe_batch_size", "probe_length"])
def test_another_probe_is_another_stage(option):
    unfolded = _unfold({}, {option: 17})
    assert len({_lineage(unfolded, run)[0]["probe"].id for run in (0, 1)}) == 2


@pytest.mark.parametrize("placement", ["uniform", "suffix", "random"])
def test_a_placement_that_looks_at_no_importance_is_not_probed(placement):
    unfolded = _unfold({"placement": placement, "unit_lr": "uniform"})
    prepared, trained = _lineage(unfolded, 0)
    assert list(prepared) == ["expand"]
    assert "data.general" not in trained.parents
    assert not any("probe" in node for node in unfolded.nodes)


def test_random_layers_are_drawn_for_each_seed_and_all_others_chosen_once():
    seeds = [3, 5]
    unfolded = _unfold({"placement": "random"}, {"placement": "uniform"}, {}, seeds=seeds)
    expands = [[_lineage(unfolded, run, seed)[0]["expand"] for seed in seeds] for run in range(3)]
    assert [len({node.id for node in nodes}) for nodes in expands] == [2, 1, 1]
    assert [node.options["seed"] for node in expands[0]] == seeds
    assert [expands[i][0].options["seed"] for i in (1, 2)] == [None, None]


@pytest.mark.parametrize("placement", ["lowest", "random"])
def test_without_copies_training_starts_from_the_base(placement):
    unfolded = _unfold({"placement": placement, "expansion": "none"}, {"placement": placement})
    (prepared, trained), (copying, expanded) = _lineage(unfolded, 0), _lineage(unfolded, 1)
    base = prepared["expand"].parents["base"]
    assert unfolded.nodes[base].kind == "base"
    assert trained.parents["model"] == base
    assert trained.parents["prepared.expand"] == prepared["expand"].id
    assert expanded.parents["model"] == copying["expand"].id


@pytest.mark.parametrize("unit_lr", ["decoupled_rank", "decoupled_minmax", "uniform", "uniform_2x"])
def test_training_reads_the_general_corpus_where_it_measures_importance(unit_lr):
    _, trained = _lineage(_unfold({"unit_lr": unit_lr}), 0)
    assert ("data.general" in trained.parents) == (unit_lr in DECOUPLED)


# --- every variant from the import to the tuned model

VARIANTS = {
    "adept": {},
    "highest-minmax-row": {"placement": "highest", "unit_lr": "decoupled_minmax", "unit": "row"},
    "spread-head": {"placement": "uniform", "unit": "head"},
    "random-2x": {"placement": "random", "unit_lr": "uniform_2x"},
    "suffix-uniform": {"placement": "suffix", "unit_lr": "uniform"},
    "lowest-none-head": {"expansion": "none", "unit": "head"},
    "suffix-none-minmax": {"placement": "suffix", "expansion": "none", "unit_lr": "decoupled_minmax"},
    "random-none-row": {"placement": "random", "expansion": "none", "unit": "row"},
    "spread-none-2x": {"placement": "uniform", "expansion": "none", "unit_lr": "uniform_2x"},
}
DATA = {
    "general": {"kind": "world", "entities": 50, "familiar_minerals": 5, "fact_repeats": 1, "skill_instances": 100,
                "probe_documents": 16, "replay_documents": 64, "test_items": 8},
    "domain": {"kind": "world", "entities": 20, "test_items": 8},
}  # fmt: skip


def _preset(base, tuners=VARIANTS, **changed):
    fixed = {"kind": "adept", "layers": 2, "refresh_every": 2, "probe_batch_size": 4, "probe_length": 64}
    values = {
        "name": "toy",
        "seeds": [0],
        "base": {"model": str(base)},
        "data": DATA,
        "training": {"steps": 4, "batch_size": 2, "sequence_length": 32, "precision": "float32", "learning_rate": 1e-2},
        "runs": [
            {"name": name, "track": "domain", "curriculum": {"kind": "cpt"}, "tuner": fixed | options}
            for name, options in tuners.items()
        ],
    } | changed
    return config.validate(values, "toy.yaml")


@pytest.fixture(scope="module")
def made(tmp_path_factory, model_folder):
    """Makes all stages of every variant for an architecture; returns the folder, the graph and each run's stages."""
    root = tmp_path_factory.mktemp("adept")
    done = {}

    def make(architecture):
        if architecture not in done:
            unfolded = graph.unfold(_preset(model_folder(architecture)))
            found = {}
            with chdir(root):
                plans = plan.write(unfolded)
                for evaluated in unfolded.evaluations:
                    for node in unfolded.ancestors(evaluated.model):
                        if not unfolded.directory(node).exists():
                            stages.run(plans / f"{node}.json", unfolded.directory(node))
                    if evaluated.run != "base":
                        prepared, trained = _lineage(unfolded, evaluated.run)
                        nodes = {name: node.id for name, node in prepared.items()} | {"tune": trained.id}
                        found[evaluated.run] = {n: root / unfolded.directory(node) for n, node in nodes.items()}
            done[architecture] = (root, unfolded, found)
        return done[architecture]

    return make


every_variant = pytest.mark.parametrize("variant", VARIANTS)
every_base = pytest.mark.parametrize("architecture", FIVE)


def _expected_choice(options, stages_made):
    """Two of four layers, written out where nothing is measured or drawn."""
    placement = options.get("placement", "lowest")
    if placement == "random":
        return None
    if placement in ("uniform", "suffix"):
        return {"uniform": [1, 3], "suffix": [2, 3]}[placement]
    importance = json.loads((stages_made["probe"] / "importance.json").read_text())["importance"]
    ordered = sorted((value, layer) for layer, value in enumerate(importance))
    return sorted(layer for _, layer in (ordered[:2] if placement == "lowest" else ordered[2:]))


@every_variant
@every_base
def test_every_variant_makes_a_plain_model_in_which_the_chosen_layers_have_moved(
    architecture, variant, made, model_folder
):
    _, _, found = made(architecture)
    stages_made, options = found[variant], VARIANTS[variant]
    chosen = json.loads((stages_made["expand"] / "chosen.json").read_text())
    expected = _expected_choice(options, stages_made)
    assert chosen == expected if expected else len(set(chosen)) == 2
    base = AutoModelForCausalLM.from_pretrained(model_folder(architecture))
    model, report = AutoModelForCausalLM.from_pretrained(stages_made["tune"], output_loading_info=True)
    assert not any(report.values()), report
    assert type(model) is type(base)
    copied = options.get("expansion") != "none"
    # For each layer of the result: the base's layer that it was.
    origin = [layer for layer in range(4) for _ in range(2 if copied and layer in chosen else 1)]
    trained = [i for i, old in enumerate(origin) if old in chosen and (not copied or (origin[i - 1] == old and i > 0))]
    assert len(trained) == 2
    assert model.config.num_hidden_layers == len(model.model.layers) == len(origin) == (6 if copied else 4)
    assert getattr(model.config, "adaptbench_expanded_layers", None) == (trained if copied else None)
    assert [layer.self_attn.layer_idx for layer in model.model.layers] == list(range(len(origin)))
    if getattr(base.config, "layer_types", None):
        assert model.config.layer_types == [base.config.layer_types[old] for old in origin]
    weights = base.state_dict()
    for name, tensor in model.state_dict().items():
        parts = name.split(".")
        layer = int(parts[2]) if parts[1] == "layers" else None
        if layer is not None:
            parts[2] = str(origin[layer])
        assert torch.equal(tensor, weights[".".join(parts)]) == (layer not in trained), name
        assert tensor.isfinite().all()


@every_variant
@every_base
def test_every_variants_model_generates_with_a_cache_what_it_does_without_and_can_be_saved_again(
    architecture, variant, made, tmp_path
):
    """The prompt and what follows are longer than the sliding window of eight tokens."""
    model = AutoModelForCausalLM.from_pretrained(made(architecture)[2][variant]["tune"]).eval()
    prompt = torch.randint(1, 200, (2, 7), generator=torch.Generator().manual_seed(0))
    options = {"do_sample": False, "max_new_tokens": 6, "min_new_tokens": 6, "attention_mask": torch.ones_like(prompt)}
    cached = model.generate(prompt, use_cache=True, **options)
    assert cached.shape == (2, 13)
    assert torch.equal(cached, model.generate(prompt, use_cache=False, **options))
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert torch.equal(_logits(again), _logits(model))


@every_base
def test_the_copies_are_made_as_identities_of_the_base(architecture, made, model_folder):
    base = AutoModelForCausalLM.from_pretrained(model_folder(architecture))
    start = AutoModelForCausalLM.from_pretrained(made(architecture)[2]["adept"]["expand"])
    assert start.config.num_hidden_layers == 6
    torch.testing.assert_close(_logits(start), _logits(base), rtol=0, atol=1e-6)


@every_variant
def test_every_variant_logs_its_refreshes(variant, made):
    stages_made, options = made("qwen3")[2][variant], VARIANTS[variant]
    decoupled = options.get("unit_lr", "decoupled_rank") in DECOUPLED
    refreshed = [row["step"] for row in _log(stages_made["tune"]) if any(key.startswith("multiplier/") for key in row)]
    assert refreshed == ([2, 4] if decoupled else [])


# --- bad input


def test_more_layers_than_the_base_has_are_refused_when_the_preset_is_read(model_folder):
    message = _one_line(_unfold, {"layers": 7})
    assert message == "toy.yaml: runs.0.tuner.layers: must be <= 6, the base's layers"
    message = _one_line(_preset, model_folder("qwen3"), {"deep": {"layers": 5}})
    assert message == "toy.yaml: runs.0.tuner.layers: must be <= 4, the base's layers"
    assert _unfold({"layers": 6})


@pytest.mark.parametrize("unit_lr", ["decoupled_rank", "uniform"])
def test_muon_in_a_run_is_refused_when_the_preset_is_read(unit_lr):
    values = preset_values()
    values["runs"] = [
        values["runs"][0] | {"tuner": {"kind": "adept", "unit_lr": unit_lr}, "training": {"optimizer": "muon"}}
    ]
    message = _one_line(config.validate, values, "toy.yaml")
    assert message.startswith("toy.yaml: runs.0.tuner.unit_lr: ")
    assert "training.optimizer is muon" in message


def test_muon_in_the_whole_preset_is_refused_when_the_preset_is_read():
    values = preset_values() | {"training": {"steps": 10, "optimizer": "muon"}}
    values["runs"] = [values["runs"][0] | {"tuner": {"kind": "adept"}}]
    message = _one_line(config.validate, values, "toy.yaml")
    assert "runs.0.tuner" in message
    assert "muon" in message


def test_muon_is_refused_before_the_first_step_too():
    message = _one_line(adept.optimizer, adept.Config(), _adapted(toy_model("qwen3")), _options(optimizer="muon"))
    assert message.startswith("tuner.unit_lr: ")
    assert "training.optimizer" in message


@pytest.mark.parametrize("wrong", [{"layers": 0}, {"refresh_every": 0}, {"placement": "middle"}, {"probe_length": 4}])
def test_options_that_mean_nothing_are_refused(wrong):
    assert re.match(rf"toy\.yaml: runs\.0\.tuner\.(adept\.)?{next(iter(wrong))}: must be ", _one_line(_unfold, wrong))


def test_a_general_benchmark_without_a_probe_corpus_is_one_line(tmp_path, tokenizer, model_folder):
    (tmp_path / "splits").mkdir()
    context = StageContext(0, {"general": tmp_path}, tokenizer)
    message = _one_line(adept.probe, adept.Config(), {"base": model_folder("qwen3")}, tmp_path, context)
    assert message == "data.general: this benchmark has no probe corpus, which adept measures importance on"


@pytest.mark.parametrize("records", [[], [{"text": ""}]], ids=["no-document", "no-text"])
def test_an_empty_probe_corpus_is_one_line(records, tmp_path, tokenizer):
    """A document without text still has a start and an end, and is a document of one trained token."""
    context = StageContext(0, {"general": _corpus(tmp_path, records)}, tokenizer)
    if records:
        (batch,) = adept.probe_batches(adept.Config(), context)
        assert (batch["labels"] >= 0).sum() == 1
    else:
        assert "probe" in _one_line(adept.probe_batches, adept.Config(), context)


def _gpt2():
    shapes = AutoConfig.for_model("gpt2", vocab_size=300, n_embd=32, n_layer=2, n_head=2, n_positions=64)
    return AutoModelForCausalLM.from_config(shapes).eval()


def test_a_model_without_a_list_of_layers_is_one_line(tmp_path, tokenizer, benchmark_data):
    assert "GPT2LMHeadModel: no list of decoder layers" in _one_line(adept.layer_importance, _gpt2(), _batches())
    _gpt2().save_pretrained(tmp_path / "base")
    (tmp_path / "out").mkdir()
    cfg = adept.Config(layers=1, placement="suffix")
    message = _one_line(
        adept.expand, cfg, {"base": tmp_path / "base"}, tmp_path / "out", StageContext(0, {}, tokenizer)
    )
    assert "GPT2LMHeadModel: no list of decoder layers" in message


def test_heads_of_a_config_that_does_not_count_them_are_one_line():
    model = _adapted(toy_model("qwen3"))

    class Shapes:
        model_type = "strange"

    object.__setattr__(model, "config", Shapes())
    assert _one_line(units, model, "head").startswith("tuner.unit: head, but the config of strange ")
    assert len(units(model, "row")) == len(units(model, "tensor")) == 22


def test_copies_of_a_model_that_was_not_expanded_are_one_line():
    assert "it was not expanded" in _one_line(adept.adapt, adept.Config(), toy_model("qwen3"), EMPTY)


# --- the figures


@pytest.fixture
def drawing():
    import matplotlib.pyplot as plt

    mpl.use("Agg")
    yield plt
    plt.close("all")


def _probed_run(folder, name, placement, importance, chosen, seed=0):
    for stage in ("probe", "expand"):
        (folder / stage).mkdir(parents=True)
    (folder / "probe/importance.json").write_text(json.dumps({"importance": importance}))
    (folder / "expand/chosen.json").write_text(json.dumps(chosen))
    stages_made = {"probe": folder / "probe", "expand": folder / "expand"}
    return RunFiles(name, seed, {"tuner": {"kind": "adept", "placement": placement}}, stages_made, folder)


def test_the_layers_figure_has_every_importance_and_another_colour_for_the_chosen(tmp_path, drawing):
    low = _probed_run(tmp_path / "a", "low", "lowest", [0.5, -0.1, 2.0, 0.2], [1, 3])
    high = _probed_run(tmp_path / "b", "high", "highest", [0.5, -0.1, 2.0, 0.25], [2])
    again = _probed_run(tmp_path / "c", "low", "lowest", [0.5, -0.1, 2.0, 0.2], [1, 3], seed=1)
    blind = RunFiles("suffix", 0, {"tuner": {"kind": "adept", "placement": "suffix"}}, {"expand": tmp_path}, tmp_path)
    figure = adept_figures.layer_importance([blind, low, again, high])
    assert len(figure.axes) == 2
    panels = zip(figure.axes, ("lowest", "highest"), ([0.5, -0.1, 2.0, 0.2], [0.5, -0.1, 2.0, 0.25]), strict=True)
    for (axes, placement, heights), chosen in zip(panels, ({1, 3}, {2}), strict=True):
        assert placement in axes.get_title(loc="left")
        assert [bar.get_height() for bar in axes.patches] == heights
        assert [round(bar.get_x() + bar.get_width() / 2, 9) for bar in axes.patches] == [0, 1, 2, 3]
        colours = {layer: to_hex(bar.get_facecolor()) for layer, bar in enumerate(axes.patches)}
        assert len({colours[layer] for layer in chosen}) == 1
        assert len({colours[layer] for layer in set(range(4)) - chosen}) == 1
        assert len(set(colours.values())) == 2
    figure.savefig(tmp_path / "figure.svg")


def _tuned_run(folder, name, rates, seed=0):
    """A log of eight steps; `rates` by step and unit."""
    folder.mkdir()
    rows = [{"step": step, "loss": 1.0, "learning_rate": 0.1, "grad_norm": 1.0} for step in range(1, 9)]
    for step, by_unit in rates.items():
        rows[step - 1] |= {f"importance/{unit}": 5.0 for unit in by_unit}
        rows[step - 1] |= {f"multiplier/{unit}": value for unit, value in by_unit.items()}
    (folder / "training.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return RunFiles(name, seed, {"tuner": {"kind": "adept"}}, {"tune": folder}, folder)


def test_the_rates_figure_has_a_row_for_each_unit_and_a_column_for_each_refresh(tmp_path, drawing):
    names = ["model.layers.12.self_attn.q_proj.weight", "model.layers.12.self_attn.q_proj.bias"]
    names += ["model.layers.12.self_attn.q_norm.weight"]
    values = {3: [0.0, 1.5, 1.0], 6: [2.0, 0.5, 1.25]}
    rates = {step: dict(zip(names, row, strict=True)) for step, row in values.items()}
    run = _tuned_run(tmp_path / "a", "ranked", rates)
    later = _tuned_run(tmp_path / "b", "ranked", {2: dict.fromkeys(names, 1.0)}, seed=1)
    fixed = _tuned_run(tmp_path / "c", "uniform", {})
    short = _tuned_run(tmp_path / "d", "short", {8: dict.fromkeys(names[:2], 2.0)})
    figure = adept_figures.unit_rates([run, later, fixed, short])
    panels = {axes.get_title(): axes for axes in figure.axes if axes.images}
    assert list(panels) == ["ranked", "short"]
    (image,) = panels["ranked"].images
    assert image.get_array().tolist() == [[0.0, 2.0], [1.5, 0.5], [1.0, 1.25]]
    assert [label.get_text() for label in panels["ranked"].get_yticklabels()] == [
        "12 q_proj",
        "12 q_proj.bias",
        "12 q_norm",
    ]
    assert [label.get_text() for label in panels["ranked"].get_xticklabels()] == ["3", "6"]
    assert panels["short"].images[0].get_array().tolist() == [[2.0], [2.0]]
    for axes in panels.values():
        assert axes.images[0].get_clim() == (0, 2)
    figure.savefig(tmp_path / "figure.svg")


def test_the_figures_of_real_runs_show_what_their_stages_left(made, drawing, tmp_path):
    root, unfolded, found = made("qwen3")
    runs = [
        RunFiles(evaluated.run, 0, unfolded.run(evaluated).model_dump(mode="json"), found[evaluated.run], root)
        for evaluated in unfolded.evaluations
        if evaluated.run != "base"
    ]
    assert set(adept.FIGURES) == {"layer_importance", "unit_rates"}
    layers = adept.FIGURES["layer_importance"](runs)
    assert len(layers.axes) == 2
    importance = json.loads((found["adept"]["probe"] / "importance.json").read_text())["importance"]
    for axes in layers.axes:
        assert [bar.get_height() for bar in axes.patches] == importance
    rates = adept.FIGURES["unit_rates"](runs)
    panels = {axes.get_title(): axes.images[0].get_array() for axes in rates.axes if axes.images}
    decoupled = [name for name, options in VARIANTS.items() if options.get("unit_lr", "decoupled_rank") in DECOUPLED]
    assert list(panels) == decoupled
    for values in panels.values():
        assert values.shape == (22, 2)
        assert 0 <= values.min() < values.max() <= 2
    for figure in (layers, rates):
        figure.savefig(tmp_path / "figure.svg")


def test_the_figures_of_runs_that_measured_nothing_are_empty_and_no_mistake(tmp_path, drawing):
    run = _tuned_run(tmp_path / "a", "uniform", {})
    for draw in (adept_figures.layer_importance, adept_figures.unit_rates):
        figure = draw([run])
        assert not any(axes.images or axes.patches for axes in figure.axes)
        figure.savefig(tmp_path / "figure.svg")
