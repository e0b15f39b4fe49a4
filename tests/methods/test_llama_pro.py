"""LLaMA-Pro: the prepared model is the base, the copies are where the paper puts them, and they alone train.

Run: python -m pytest tests/methods/test_llama_pro.py
"""

import pytest
import torch
from transformers import AutoModelForCausalLM

from adaptbench.config import training
from adaptbench.contracts import StageContext
from adaptbench.data.packing import Packed, document
from adaptbench.errors import AdaptbenchError
from adaptbench.io.model_folder import check_folder
from adaptbench.methods.tuners import adept, llama_pro
from adaptbench.model import expansion, storage
from adaptbench.train import loop, objectives, optimizers
from tests.support.models import ARCHITECTURES
from tools.small_models import small_model

IDS = torch.arange(1, 61).reshape(2, 30)
# Of four layers: how many copies -> where they are in the expanded model.
PLACES = {1: [4], 2: [2, 5], 3: [1, 3, 6], 4: [1, 3, 5, 7]}


def _expanded(folder, out, tokenizer, copies):
    out.mkdir()
    llama_pro.expand(llama_pro.Config(layers=copies), {"base": folder}, out, StageContext(0, {}, tokenizer))
    return out


def _logits(folder):
    with torch.no_grad():
        return AutoModelForCausalLM.from_pretrained(folder)(IDS).logits


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_prepared_model_is_the_base_in_what_it_says(architecture, tmp_path, model_folder, tokenizer):
    base = model_folder(architecture)
    out = _expanded(base, tmp_path / "out", tokenizer, 3)
    check_folder(out)
    torch.testing.assert_close(_logits(out), _logits(base), rtol=0, atol=1e-6)


@pytest.mark.parametrize("copies", PLACES)
def test_only_the_copies_train_also_where_the_layers_do_not_divide(copies, tmp_path, model_folder, tokenizer):
    out = _expanded(model_folder("qwen3"), tmp_path / "out", tokenizer, copies)
    cfg = llama_pro.Config(layers=copies)
    model = llama_pro.adapt(cfg, storage.load_model(out, attention="eager"), StageContext(0, {}))
    of_copies = {name for name, _ in model.named_parameters() if any(f".layers.{i}." in name for i in PLACES[copies])}
    assert {name for name, p in model.named_parameters() if p.requires_grad} == of_copies
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    options = training.Training(steps=3, batch_size=2, sequence_length=32, precision="float32", weight_decay=0.1)
    data = Packed([document(list(range(i, i + 25))) for i in range(1, 40)], 32, 0)
    loop.train(
        model,
        optimizers.default_optimizers(model, options),
        data,
        objectives.causal_lm,
        options,
        work=tmp_path,
        pad_id=0,
        seed=0,
    )
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    # A copy's queries and keys get a gradient only once its output projections have left zero, at the second step.
    assert moved == of_copies


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("gemma3", {}),  # its layers are counted in a part of its config
        ("gpt2", {}),
        ("falcon", {}),
        ("olmo2", {}),
        ("qwen3_moe", {"decoder_sparse_step": 2}),
        ("deepseek_v3", {"first_k_dense_replace": 2}),
        ("mamba", {}),
    ],
)
def test_other_architectures_are_the_base_at_first_and_train_the_copies_alone(kind, options, tmp_path, tokenizer):
    base = small_model(kind, **options)
    storage.save_model(base, tokenizer, tmp_path / "base")
    out = _expanded(tmp_path / "base", tmp_path / "out", tokenizer, 2)
    ids = IDS % 60 + 30
    model = llama_pro.adapt(llama_pro.Config(layers=2), storage.load_model(out), StageContext(0, {}))
    logits = model(input_ids=ids, use_cache=False).logits
    with torch.no_grad():
        torch.testing.assert_close(logits, base(input_ids=ids, use_cache=False).logits, rtol=0, atol=1e-5)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trained = {id(p) for layer in expansion.expanded_layers(model) for p in layer.parameters()}
    for _ in range(3):
        torch.nn.functional.cross_entropy(
            model(input_ids=ids, use_cache=False).logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()
        ).backward()
    assert {id(p) for p in model.parameters() if p.grad is not None} <= trained
    assert {id(p) for p in model.parameters() if p.requires_grad} == trained
    torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2).step()
    moved = [p for name, p in model.named_parameters() if not torch.equal(p, before[name])]
    assert {id(p) for p in moved} <= trained
    assert len(moved) >= 2


def test_what_cannot_be_expanded_is_refused_by_its_stage_in_one_line_too(tmp_path, tokenizer):
    storage.save_model(small_model("jamba"), tokenizer, tmp_path / "base")
    with pytest.raises(AdaptbenchError, match=r"^JambaForCausalLM: copies would change what other layers are"):
        _expanded(tmp_path / "base", tmp_path / "out", tokenizer, 1)


def test_planning_is_told_that_the_base_must_be_able_to_hold_copies():
    assert llama_pro.Config().needs() == ("expansion",)
    assert adept.Config().needs() == ("expansion",)
    assert adept.Config(expansion="none").needs() == ()


def test_more_copies_than_layers_are_refused_in_the_preset_and_in_the_stage(tmp_path, model_folder, tokenizer):
    problem = llama_pro.Config(layers=5).problem(None, 4)
    assert problem == "layers: must be <= 4, the base's layers"
    assert llama_pro.Config(layers=4).problem(None, 4) == ""
    assert llama_pro.Config(layers=99).problem(None, None) == ""
    with pytest.raises(AdaptbenchError, match="5 copies of a model with 4 layers"):
        _expanded(model_folder("qwen3"), tmp_path / "out", tokenizer, 5)


def test_a_model_that_was_not_expanded_is_refused(model_folder):
    with pytest.raises(AdaptbenchError, match="it was not expanded"):
        llama_pro.adapt(llama_pro.Config(layers=2), storage.load_model(model_folder("qwen3")), StageContext(0, {}))
