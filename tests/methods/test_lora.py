"""LoRA: the merged model is the adapted one, and both are what the papers' formulas say.

The formulas are written out here on the matrices: LoRA W + alpha / r B A, rsLoRA W + alpha / sqrt(r) B A, and DoRA,
which gives every row of W + alpha / r B A (an output's weights) the learned length m.

Run: python -m pytest tests/methods/test_lora.py
"""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM

from adaptbench.agent import language_model
from adaptbench.contracts import StageContext
from adaptbench.errors import AdaptbenchError
from adaptbench.methods.posthoc import wise_ft
from adaptbench.methods.tuners import lora, osf
from adaptbench.model import storage
from tests.support.models import ARCHITECTURES, toy_model
from tools.small_models import small_model

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


# --- where the embeddings and the output head are one matrix

TIED = {"qwen3": ("embed_tokens", "lm_head"), "gemma": ("embed_tokens", "lm_head"),
    "gemma3": ("embed_tokens", "lm_head"), "gpt2": ("wte", "lm_head")}  # fmt: skip
TARGETS = {
    "embeddings": lambda embed, head: [embed],
    "head": lambda embed, head: (head,),
    "head by a pattern": lambda embed, head: head,
    "both": lambda embed, head: [embed, head],
    "all matrices": lambda embed, head: rf".*({embed}|{head}|proj|c_fc|c_attn)",
}


def _tied(kind, targets, **options):
    """An adapted small model with tied embeddings, away from its start."""
    base = small_model(kind, tie_word_embeddings=True)
    assert base.get_input_embeddings().weight is base.get_output_embeddings().weight
    torch.manual_seed(0)
    adapted = lora.adapt(
        lora.Config(rank=RANK, target_modules=TARGETS[targets](*TIED[kind]), **options), base, StageContext(0, {})
    )
    with torch.no_grad():
        for name, p in adapted.named_parameters():
            if "lora_B" in name or "embedding_A" in name:
                p.normal_(std=0.1)
    return adapted


@pytest.mark.parametrize("variant", ["plain", "dora"])
@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize("kind", TIED)
def test_merged_saved_and_opened_again_a_tied_model_is_the_trained_one(kind, targets, variant, tmp_path):
    adapted = _tied(kind, targets, **VARIANTS[variant])
    expected = _logits(adapted)
    merged = lora.merge(lora.Config(), adapted)
    torch.testing.assert_close(_logits(merged), expected, rtol=1e-5, atol=3e-5)
    merged.save_pretrained(tmp_path)
    opened, report = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    torch.testing.assert_close(_logits(opened), expected, rtol=1e-5, atol=3e-5)
    assert opened.get_input_embeddings().weight is not opened.get_output_embeddings().weight
    assert (expected - _logits(small_model(kind, tie_word_embeddings=True))).abs().max() > 1e-2


@pytest.mark.parametrize("kind", TIED)
def test_elsewhere_a_tied_model_stays_tied(kind, tmp_path):
    adapted = lora.adapt(lora.Config(rank=RANK), small_model(kind, tie_word_embeddings=True), StageContext(0, {}))
    lora.merge(lora.Config(), adapted).save_pretrained(tmp_path)
    opened = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert opened.get_input_embeddings().weight is opened.get_output_embeddings().weight


@pytest.mark.parametrize("targets", ["embeddings", "head", "both"])
@pytest.mark.parametrize("kind", ["qwen3", "gpt2"])
def test_adapters_kept_apart_answer_as_the_trained_models(kind, targets, tmp_path, tokenizer):
    """A team of adapters on one tied model: each role's logits, switching between them."""
    expected = {}
    for seed, role in enumerate(("planner", "caller", "summarizer")):
        adapted = _tied(kind, targets)
        with torch.no_grad():
            for p in adapted.parameters():
                if p.requires_grad:
                    p.mul_(1 + seed)
        expected[role] = _logits(adapted)
        adapted.save_pretrained(tmp_path / role)
    storage.save_model(small_model(kind, tie_word_embeddings=True), tokenizer, tmp_path / "base")
    members = language_model._adapted(tmp_path, {role: role for role in expected}, "base")
    for role in (*expected, "planner"):
        members[role].use()
        torch.testing.assert_close(_logits(members[role].model), expected[role], rtol=1e-5, atol=3e-5)
    assert (expected["planner"] - expected["caller"]).abs().max() > 1e-2


@pytest.mark.parametrize("kind", ["qwen3", "gemma3"])
def test_osf_of_a_tied_head_is_the_trained_model_when_merged_saved_and_opened(kind, tmp_path):
    adapted = osf.adapt(
        osf.Config(target_modules=r".*(lm_head|down_proj)"),
        small_model(kind, tie_word_embeddings=True),
        StageContext(0, {}),
    )
    torch.manual_seed(0)
    with torch.no_grad():
        for p in adapted.parameters():
            if p.requires_grad:
                p.add_(0.1 * torch.randn_like(p))
    expected = _logits(adapted)
    merged = osf.merge(osf.Config(), adapted)
    torch.testing.assert_close(_logits(merged), expected, rtol=1e-5, atol=3e-5)
    merged.save_pretrained(tmp_path)
    torch.testing.assert_close(_logits(AutoModelForCausalLM.from_pretrained(tmp_path)), expected, rtol=1e-5, atol=3e-5)
    assert (expected - _logits(small_model(kind, tie_word_embeddings=True))).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("kind", "targets", "said"),
    [
        ("qwen3", r".*(embed_tokens|lm_head)", "model.embed_tokens (Embedding) is no linear layer"),
        ("gpt2", "all-linear", "transformer.h.0.attn.c_attn (Conv1D) is no linear layer"),
        ("qwen3", "(", "missing ), unterminated subpattern"),
        ("qwen3", ".*", "(Qwen3Model) is no linear layer"),
    ],
)
def test_osf_refuses_what_it_would_pass_over(kind, targets, said):
    with pytest.raises(AdaptbenchError, match=r"^tuner\.target_modules: ") as caught:
        osf.adapt(osf.Config(target_modules=targets), small_model(kind), StageContext(0, {}))
    assert said in str(caught.value)


def test_the_line_to_a_model_that_was_untied_begins_at_the_tied_one(tmp_path, tokenizer):
    """WiSE-FT: half of the way from the base to the merged model, in the head as in the embeddings."""
    base, merged = small_model("qwen3", tie_word_embeddings=True), lora.merge(lora.Config(), _tied("qwen3", "head"))
    for name, model in (("start", base), ("end", merged)):
        storage.save_model(model, tokenizer, tmp_path / name)
    (tmp_path / "out").mkdir()
    wise_ft.apply(wise_ft.Config(alpha=0.5), tmp_path / "start", tmp_path / "end", tmp_path / "out")
    opened = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    shared, trained = base.lm_head.weight, merged.lm_head.weight
    assert torch.equal(opened.model.embed_tokens.weight, shared)
    torch.testing.assert_close(opened.lm_head.weight, (shared + trained) / 2)


@pytest.mark.parametrize(
    "targets", ["nothing", "(", ".*", ["nothing"], ["q_proj", "nothing"], ["input_layernorm"]], ids=str
)
def test_wrong_target_modules_are_one_line(targets):
    config = lora.Config(target_modules=targets)
    with pytest.raises(AdaptbenchError, match=r"^tuner\.target_modules: .+") as caught:
        lora.adapt(config, toy_model("qwen3"), StageContext(0, {}))
    assert "\n" not in str(caught.value)
