"""WiSE-FT: every weight lies on the straight line, rounded once; the line's ends are the two models bit for bit.

The reference is numpy in float64. The models are toys: the base and the same architecture with other weights, and for
LLaMA-Pro the expanded base and one whose copies have moved.

Run: python -m pytest tests/methods/test_wise_ft.py
"""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from adaptbench.errors import AdaptbenchError
from adaptbench.io import model_folder
from adaptbench.methods.posthoc import wise_ft
from adaptbench.model import expansion
from tests.support.models import toy_model

IDS = torch.arange(1, 61).reshape(2, 30)


def _ends(tuner):
    if tuner == "full":
        return toy_model("qwen3"), toy_model("qwen3", seed=1)
    base = toy_model("qwen3")
    start, end = expansion.expand(base, [1, 3]), expansion.expand(base, [1, 3])
    torch.manual_seed(2)
    with torch.no_grad():
        for layer in expansion.expanded_layers(end):
            for p in layer.parameters():
                p.add_(0.1 * torch.randn_like(p))
    return start, end


@pytest.fixture
def folders(tmp_path, tokenizer):
    """Makes the directories of both ends as stages do."""

    def make(tuner="full", dtype=torch.float32, **saving):
        ends = []
        for name, model in zip(("start", "end"), _ends(tuner), strict=True):
            folder = tmp_path / name
            model.to(dtype).save_pretrained(folder, **(saving if name == "end" else {}))
            tokenizer.save_pretrained(folder)
            model_folder.write_manifest(folder, {"made": name})
            (folder / "training.jsonl").write_text("{}\n")
            ends.append(folder)
        return (*ends, tmp_path / "out")

    return make


def _apply(start, end, out, alpha):
    out.mkdir()
    wise_ft.apply(wise_ft.Config(alpha=alpha), start, end, out)
    return out


def _weights(folder):
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def _logits(folder):
    with torch.no_grad():
        return AutoModelForCausalLM.from_pretrained(folder)(IDS).logits


@pytest.mark.parametrize("saving", [{}, {"max_shard_size": "30KB"}], ids=["one-file", "shards"])
@pytest.mark.parametrize("tuner", ["full", "llama_pro"])
def test_every_weight_is_on_the_line(folders, tuner, saving):
    start, end, out = folders(tuner, **saving)
    assert (len(list(end.glob("*.safetensors"))) > 1) == bool(saving)
    _apply(start, end, out, 0.3)
    before, after, mixed = _weights(start), _weights(end), _weights(out)
    assert mixed.keys() == before.keys() == after.keys()
    for name, tensor in mixed.items():
        expected = 0.7 * before[name].numpy().astype(np.float64) + 0.3 * after[name].numpy().astype(np.float64)
        # Rounded once: within half a unit in the last place of float32 (and a hair for float64's own rounding).
        wrong = np.abs(tensor.numpy().astype(np.float64) - expected)
        assert (wrong <= np.spacing(np.abs(expected).astype(np.float32)) * 0.501).all(), name
    assert any(not torch.equal(mixed[n], before[n]) and not torch.equal(mixed[n], after[n]) for n in mixed)
    assert _logits(out).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("tuner", ["full", "llama_pro"])
@pytest.mark.parametrize(("alpha", "like"), [(0.0, "start"), (1.0, "end")])
def test_the_lines_ends_are_the_two_models_byte_for_byte(folders, tuner, alpha, like, dtype):
    start, end, out = folders(tuner, dtype)
    _apply(start, end, out, alpha)
    expected = start if like == "start" else end
    assert (out / "model.safetensors").read_bytes() == (expected / "model.safetensors").read_bytes()
    assert (start / "model.safetensors").read_bytes() != (end / "model.safetensors").read_bytes()


@pytest.mark.parametrize(("alpha", "like"), [(0.0, "start"), (1.0, "end")])
def test_the_ends_keep_the_sign_of_zero(folders, alpha, like):
    start, end, out = folders()
    for folder in (start, end):
        weights = load_file(folder / "model.safetensors")
        weights["model.norm.weight"][:4] = torch.tensor(
            [-0.0, 0.0, -0.0, 1.0] if folder == start else [0.0, -0.0, -0.0, 2.0]
        )
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    _apply(start, end, out, alpha)
    expected = start if like == "start" else end
    assert (out / "model.safetensors").read_bytes() == (expected / "model.safetensors").read_bytes()


def test_with_llama_pro_the_line_starts_at_what_the_base_says(folders):
    start, end, out = folders("llama_pro")
    with torch.no_grad():
        base = toy_model("qwen3")(IDS).logits
    torch.testing.assert_close(_logits(_apply(start, end, out, 0.0)), base, rtol=0, atol=1e-6)
    assert (_logits(end) - base).abs().max() > 1e-2
    kept = json.loads((out / "config.json").read_text())["adaptbench_expanded_layers"]
    assert kept == [2, 5]


def test_the_directory_is_the_tuned_ones_without_its_log(folders):
    start, end, out = folders()
    _apply(start, end, out, 0.5)
    assert {p.name for p in out.iterdir()} == {p.name for p in end.iterdir()} - {"training.jsonl"}
    assert (out / "config.json").read_bytes() == (end / "config.json").read_bytes()
    assert (out / "tokenizer.json").read_bytes() == (end / "tokenizer.json").read_bytes()


@pytest.mark.parametrize("order", ["fewer-before", "fewer-after", "other-shape"])
def test_models_with_other_weights_are_refused_in_one_line(tmp_path, order):
    """An expanded model's layer 2 is not the base's layer 2, though both are there and of one shape."""
    small, large = toy_model("qwen3"), expansion.expand(toy_model("qwen3"), [1, 3])
    if order == "other-shape":
        large = toy_model("qwen3", vocabulary=310)
    first, second = (large, small) if order == "fewer-after" else (small, large)
    for name, model in (("start", first), ("end", second)):
        model.save_pretrained(tmp_path / name)
    with pytest.raises(AdaptbenchError, match=r"^wise_ft: .* not the same weight") as caught:
        _apply(tmp_path / "start", tmp_path / "end", tmp_path / "out", 0.5)
    assert "\n" not in str(caught.value)
