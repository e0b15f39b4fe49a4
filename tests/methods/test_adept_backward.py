"""ADEPT's backward pass: it stops below the lowest trained layer, and what is frozen stays bit-identical.

Run: python -m pytest tests/methods/test_adept_backward.py
"""

import json
import statistics
import time

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM

from adaptbench.contracts import StageContext
from adaptbench.data.packing import IGNORED, collate
from adaptbench.methods.tuners import adept
from adaptbench.train import objectives, optimizers
from tests.support.adept_cases import (
    LENGTH,
    ROWS,
    _adapted,
    _batches,
    _differing,
    _options,
    _tune,
    _weights,
)
from tests.support.models import toy_model


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
        objectives.causal_lm(model.train(), batch).backward()
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
    trained = int((batch["labels"][:, 1:] != IGNORED).sum())
    assert trained < 4 * LENGTH
    layer, head = _flops_of_a_layer(4, LENGTH), 2 * trained * 32 * 300
    full, ours = toy_model("qwen3", layers=8), _adapted(toy_model("qwen3", layers=8), (7,), moved=False)
    for model, forward, backward in ((full, 8 * layer, 2 * (8 * layer + head)), (ours, 9 * layer, 2 * layer + head)):
        model.set_attn_implementation("eager")
        with FlopCounterMode(display=False) as counter:
            loss = objectives.causal_lm(model.train(), batch)
        # Besides: the rotary angles, one number each.
        assert counter.get_total_flops() == pytest.approx(forward + head, rel=2e-3)
        with FlopCounterMode(display=False) as counter:
            loss.backward()
        assert counter.get_total_flops() == backward


def test_a_step_with_one_copy_at_the_end_takes_its_arithmetic_share_of_a_full_one():
    """Measured, in processor time of this one thread, medians of interleaved steps, on 8 layers that are wide enough
    for arithmetic to be most of the time. About 6 points below the share on a quiet machine: the optimizer has less to
    do.
    """
    shapes = AutoConfig.for_model(
        "qwen3", vocab_size=300, hidden_size=256, intermediate_size=768, num_hidden_layers=8, num_attention_heads=4,
        num_key_value_heads=2, head_dim=64, tie_word_embeddings=False, use_cache=False,
    )  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(shapes)
    batch = collate(ROWS[:4], LENGTH, 0)
    layer = _flops_of_a_layer(4, LENGTH, 256, 768, 4, 2, 64)
    head = 2 * int((batch["labels"][:, 1:] != IGNORED).sum()) * 256 * 300
    share = (9 * layer + head + 2 * layer + head) / (3 * (8 * layer + head))
    ours = _adapted(model, (7,), moved=False)
    runs = {
        "full": (model, optimizers.default_optimizers(model, _options())[0]),
        "ours": (ours, adept.optimizer(adept.Config(layers=1, unit_lr="uniform"), ours, _options())),
    }
    ratio = 9.0
    for _ in range(3):  # a machine that is busy for a moment gets two more chances
        seconds = {name: [] for name in runs}
        for _ in range(6):
            for name, (tuned, optimizer) in runs.items():
                started = time.process_time()
                objectives.causal_lm(tuned.train(), batch).backward()
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
    assert probed == [1, 3, 3, 3] * 2
