"""What the tests of ADEPT share: odd models and batches, losses without the code under test, and a way to tune.

The references are loops over layers, documents, units and parameter groups. Odd shapes with grouped queries; float64
where two ways of adding must agree.
"""

import copy
import json
import random

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from adaptbench.config import load
from adaptbench.config.training import Training
from adaptbench.contracts import StageContext
from adaptbench.data.packing import Packed, collate, document
from adaptbench.errors import AdaptbenchError
from adaptbench.graph import unfolding
from adaptbench.methods.tuners import adept
from adaptbench.model import expansion
from adaptbench.train import loop, objectives
from tests.support.presets import SMALL_GENERAL, preset_values

LENGTH = 32
UNITS = ("tensor", "row", "head")
RANKED = ("decoupled_rank", "decoupled_rank_by_name")
DECOUPLED = (*RANKED, "decoupled_calibrated", "decoupled_minmax")
HEADS, KEY_HEADS, HEAD_WIDTH = 6, 3, 10  # of _odd_model
EMPTY = StageContext(0, {})
every_unit = pytest.mark.parametrize("unit", UNITS)


def _data(seed=0, count=40):
    rng = random.Random(f"rows{seed}")
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


class _Through(nn.Module):
    """A layer whose output is its input."""

    def forward(self, hidden_states, *_, **__):
        return hidden_states


def _without(model, index):
    """The model (not a copy) with layer `index` replaced by `_Through`; None: as it is. To be put back by the
    caller.
    """
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
    """Of every unit, in the order of _cuts: the mean of |w * dL/dw| in each batch, averaged over the batches'
    tokens.
    """
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


def _dropping(model, chance=0.4):
    """The model with dropout in its attention, as its config may have it."""
    model.config.attention_dropout = chance
    for module in model.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = chance
    return model


def _sort(name):
    """With which units a parameter's are compared, where it is not by name."""
    return _kind(name) if _kind(name) in ("bias", "norm") else "matrix"


def _by(flat, kind):
    kinds = {}
    for key, value in flat.items():
        kinds.setdefault(kind(key[0]), {})[key] = value
    return kinds


def _hand_multipliers(flat, unit_lr):
    """decoupled_rank: 2 * (1 - (less + equal / 2) / n), by counting, among matrices, gains or biases, or by name;
    decoupled_minmax over everything, decoupled_calibrated with matrices apart."""
    found = {}
    kinds = _by(flat, _kind if unit_lr == "decoupled_rank_by_name" else _sort)
    for kind, members in kinds.items():
        for key, value in members.items():
            if unit_lr in RANKED:
                less = sum(other < value for other in members.values())
                equal = sum(other == value for other in members.values())
                found[key] = 2 * (1 - (less + equal / 2) / len(members))
                continue
            among = members if unit_lr == "decoupled_calibrated" and kind == "matrix" else flat
            low, high = min(among.values()), max(among.values())
            found[key] = 2 * (high - value) / (high - low) if high > low else 1.0
    return found


def _tune(model, work, cfg, options=None, **settings):
    """Train as the stage does: the method's optimizer and callback, the loop's everything else."""
    options = options or _options()
    optimizer = adept.optimizer(cfg, model, options)
    settings = {"work": work, "pad_id": 0, "seed": 3} | settings
    context = settings.pop("context", EMPTY)
    callback = adept.callback(cfg, model, [optimizer], context)
    outcome = loop.train(model, [optimizer], _data(1), objectives.causal_lm, options, callback=callback, **settings)
    return outcome, optimizer, callback


def _unfold(*tuners, **changed):
    """A preset with a run for each tuner; the runs are named by their places."""
    values = preset_values() | changed
    values["runs"] = [
        {"name": str(i), "track": "domain", "curriculum": {"kind": "cpt"}, "tuner": {"kind": "adept", "layers": 2} | t}
        for i, t in enumerate(tuners)
    ]
    return unfolding.unfold(load.validate(values, "toy.yaml"))


def _lineage(unfolded, run, seed=0):
    """A run's preparations by function, and its trained node."""
    evaluated = unfolded.evaluation(f"domain/{run}/seed{seed}")
    nodes = [unfolded.nodes[node] for node in unfolded.ancestors(evaluated.model)]
    return {n.options["function"]: n for n in nodes if n.kind == "prepare"}, unfolded.nodes[evaluated.model]


VARIANTS = {
    "adept": {},
    "highest-minmax-row": {"placement": "highest", "unit_lr": "decoupled_minmax", "unit": "row"},
    "spread-head": {"placement": "uniform", "unit": "head"},
    "random-2x": {"placement": "random", "unit_lr": "uniform_2x"},
    "suffix-uniform": {"placement": "suffix", "unit_lr": "uniform"},
    "lowest-none-head": {"expansion": "none", "unit": "head"},
    "suffix-none-minmax": {"placement": "suffix", "expansion": "none", "unit_lr": "decoupled_minmax"},
    "random-none-row": {"placement": "random", "expansion": "none", "unit": "row"},
    "listed-by-name": {"placement": [0, 2], "unit_lr": "decoupled_rank_by_name"},
    "suffix-calibrated": {"placement": "suffix", "unit_lr": "decoupled_calibrated"},
    "spread-none-2x": {"placement": "uniform", "expansion": "none", "unit_lr": "uniform_2x"},
}
IN_EVERY_ARCHITECTURE = ("adept", "spread-head", "suffix-none-minmax")


def variants_of(architecture):
    """All of VARIANTS for one architecture; for others one of each expansion, unit and kind of rates."""
    return {name: one for name, one in VARIANTS.items() if architecture == "qwen3" or name in IN_EVERY_ARCHITECTURE}


DATA = {
    "general": SMALL_GENERAL | {"test_items": 8},
    "domain": {"kind": "world", "entities": 20, "test_items": 8},
}


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
    return load.validate(values, "toy.yaml")
