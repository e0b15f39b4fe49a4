"""LoRA: the merged model is the adapted one, and both are what the papers' formulas say.

The formulas are written out here on the matrices: LoRA W + alpha / r B A, rsLoRA W + alpha / sqrt(r) B A, and DoRA, which
gives every row of W + alpha / r B A (an output's weights) the learned length m.

Run: python -m pytest tests/methods/test_lora.py
"""

import json

import pytest
import torch
from conftest import ARCHITECTURES, toy_model

from adaptbench.contracts import AdaptbenchError, StageContext
from adaptbench.methods.tuners import lora

RANK, ALPHA = 4, 12.0
VARIANTS = {"plain": {}, "rslora": {"use_rslora": True}, "dora": {"use_dora": True}}
IDS = torch.arange(1, 61).reshape(2, 30)
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def _adapted(architecture="qwen3", **options):
    """An adapted toy model whose adapters are away from their start, where they do nothing."""
    torch.manual_seed(0)
    model = lora.adapt(lora.Config(rank=RANK, alpha=ALPHA, **options), toy_model(architecture), StageContext(0, {}))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_B" in name:
                p.normal_(std=0.1)
            if "magnitude" in name:
                p.mul_(1 + 0.2 * torch.rand_like(p))
    return model.eval()


def _logits(model):
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_merged_model_computes_what_the_adapted_one_does(architecture, options):
    base = toy_model(architecture)
    adapted = _adapted(architecture, **options)
    before = _logits(adapted)
    merged = lora.merge(lora.Config(), adapted)
    assert type(merged) is type(base)
    assert merged.state_dict().keys() == base.state_dict().keys()
    torch.testing.assert_close(_logits(merged), before, rtol=1e-5, atol=3e-5)
    assert (before - _logits(base)).abs().max() > 0.1


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_merged_matrices_are_the_papers_formulas(variant):
    adapted = _adapted(**VARIANTS[variant])
    factors = {name: p.detach().double() for name, p in adapted.named_parameters()}
    base = {name: p.detach().double() for name, p in toy_model("qwen3").named_parameters()}
    merged = dict(lora.merge(lora.Config(), adapted).named_parameters())
    scale = ALPHA / RANK**0.5 if variant == "rslora" else ALPHA / RANK
    changed = 0
    for name, weight in base.items():
        prefix = f"base_model.model.{name.removesuffix('.weight')}"
        expected = weight
        if f"{prefix}.lora_A.default.weight" in factors:
            a, b = factors[f"{prefix}.lora_A.default.weight"], factors[f"{prefix}.lora_B.default.weight"]
            expected = weight + scale * b @ a
            if variant == "dora":
                length = factors[f"{prefix}.lora_magnitude_vector.default.weight"]
                expected = expected * (length / expected.pow(2).sum(1).sqrt())[:, None]
            changed += 1
        torch.testing.assert_close(merged[name].double(), expected, rtol=0, atol=1e-6, msg=name)
    assert changed == 4 * len(PROJECTIONS)


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_before_training_the_adapted_model_is_the_base_and_only_adapters_train(options):
    base = toy_model("qwen3")
    adapted = lora.adapt(lora.Config(rank=RANK, dropout=0.5, **options), toy_model("qwen3"), StageContext(0, {}))
    torch.testing.assert_close(_logits(adapted), _logits(base), rtol=1e-5, atol=3e-5)
    trained = [name for name, p in adapted.named_parameters() if p.requires_grad]
    assert all("lora_" in name for name in trained)
    assert len(trained) == 4 * len(PROJECTIONS) * (3 if options.get("use_dora") else 2)
    assert {name.split(".")[-4 if "lora_" in name else -2] for name in trained} == set(PROJECTIONS)


@pytest.mark.parametrize("targets", ["all-linear", r".*\.(q|v)_proj", ["q_proj", "v_proj"], ("q_proj", "v_proj")])
def test_target_modules_may_be_a_pattern_or_a_list(targets):
    config = lora.Config(target_modules=targets)
    config = lora.Config.model_validate(json.loads(config.model_dump_json()))  # as it comes back from the plan
    adapted = lora.adapt(config, toy_model("qwen3"), StageContext(0, {}))
    names = {name.split(".")[-4] for name, p in adapted.named_parameters() if p.requires_grad}
    assert names == (set(PROJECTIONS) if targets == "all-linear" else {"q_proj", "v_proj"})


@pytest.mark.parametrize("targets", ["nothing", "(", ["nothing"], ["q_proj", "nothing"], ["input_layernorm"]], ids=str)
def test_wrong_target_modules_are_one_line(targets):
    config = lora.Config(target_modules=targets)
    with pytest.raises(AdaptbenchError, match=r"^tuner\.target_modules: .+") as caught:
        lora.adapt(config, toy_model("qwen3"), StageContext(0, {}))
    assert "\n" not in str(caught.value)
