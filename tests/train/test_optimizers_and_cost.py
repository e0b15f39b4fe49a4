"""Which parameters the optimizers hold, and the count of FLOPs.

Run: python -m pytest tests/train/test_optimizers_and_cost.py
"""

import pytest
import torch

from adaptbench.kernels import implementations
from adaptbench.train import cost, objectives
from adaptbench.train.optimizers import default_optimizers
from tests.support import training_cases as cases
from tests.support.models import ARCHITECTURES, toy_model


@pytest.mark.parametrize("frozen", [False, True], ids=["all", "some-frozen"])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_optimizers_hold_every_trained_parameter_exactly_once(architecture, optimizer, frozen):
    model = toy_model(architecture, layers=2)
    if frozen:
        model.model.layers[0].requires_grad_(False)
        model.get_input_embeddings().requires_grad_(False)
    optimizers = default_optimizers(model, cases.training_options(optimizer=optimizer, weight_decay=0.1))
    groups = [(o, group) for o in optimizers for group in o.param_groups]
    held = sorted(id(p) for _, group in groups for p in group["params"])
    assert held == sorted({id(p) for p in model.parameters() if p.requires_grad})
    for held_by, group in groups:
        assert {p.ndim >= 2 for p in group["params"]} == {group["weight_decay"] == 0.1}
        if isinstance(held_by, torch.optim.Muon):
            assert group["lr"] == 0.02
    in_muon = {id(p) for o, group in groups if isinstance(o, torch.optim.Muon) for p in group["params"]}
    blocks = {id(p) for p in model.model.layers.parameters() if p.requires_grad and p.ndim == 2}
    assert in_muon == (blocks if optimizer == "muon" else set())


def test_the_optimizers_of_an_adapted_model_hold_the_adapters_alone():
    model = cases.lora_model()
    for optimizer in ("adamw", "muon"):
        optimizers = default_optimizers(model, cases.training_options(optimizer=optimizer))
        held = sorted(id(p) for o in optimizers for group in o.param_groups for p in group["params"])
        assert held == sorted(id(p) for name, p in model.named_parameters() if "lora_" in name)


# Weights of one toy layer and of the output head, by hand: hidden 32, two heads of 16, one key-value head, MLP 48.
LAYER = 32 * 32 + 32 * 16 + 32 * 16 + 32 * 32 + 3 * 32 * 48
HEAD = 300 * 32
TOKENS = 7


def _flops_model(tied, trains):
    model = toy_model("gemma" if tied else "qwen3", layers=3)
    assert model.config.tie_word_embeddings is tied
    for name, p in model.named_parameters():
        p.requires_grad_(trains(name))
    return cost.estimated_flops(model, TOKENS, TOKENS)


@pytest.mark.parametrize("many", [objectives.MANY_LOGITS, 0], ids=["at once", "in chunks"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_loss_and_its_gradients_are_those_of_all_logits(architecture, many, monkeypatch):
    """In float64, with context, padding and a label at the first and the last place; gemma2's logits are capped."""
    monkeypatch.setattr(objectives, "MANY_LOGITS", many)
    model = toy_model(architecture, layers=2).double()
    ids = torch.randint(1, 300, (3, 11), generator=torch.Generator().manual_seed(0))
    labels = ids.masked_fill(torch.rand(3, 11, generator=torch.Generator().manual_seed(1)) < 0.5, -100)
    labels[0, 0] = ids[0, 0]  # nothing comes before it
    labels[1, -1] = ids[1, -1]
    given = labels.clone()
    logits = model(input_ids=ids).logits[:, :-1]
    plain = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
    wanted = torch.autograd.grad(plain, list(model.parameters()), materialize_grads=True)
    with implementations.recording() as ran:
        loss = objectives.causal_lm(model, {"input_ids": ids, "labels": labels})
    assert bool(ran) == (many == 0 and architecture != "gemma2")
    found = torch.autograd.grad(loss, list(model.parameters()), materialize_grads=True)
    torch.testing.assert_close(loss, plain, rtol=1e-12, atol=0)
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    assert torch.equal(labels, given)
    assert not model.get_output_embeddings()._forward_pre_hooks


@pytest.mark.parametrize("tied", [False, True], ids=["head", "tied-head"])
def test_flops_of_training_everything_are_six_per_weight_and_token(tied):
    assert _flops_model(tied, lambda name: True) == 6 * TOKENS * (3 * LAYER + HEAD)


@pytest.mark.parametrize("tied", [False, True], ids=["head", "tied-head"])
def test_flops_of_the_output_head_are_those_of_the_trained_positions(tied):
    model = toy_model("gemma" if tied else "qwen3", layers=3)
    assert cost.estimated_flops(model, TOKENS, 3) == 6 * (TOKENS * 3 * LAYER + 3 * HEAD)


@pytest.mark.parametrize("tied", [False, True], ids=["head", "tied-head"])
def test_flops_of_training_the_last_layer_leave_out_what_no_gradient_passes(tied):
    forward, through, own = 3 * LAYER + HEAD, LAYER + HEAD, LAYER
    assert _flops_model(tied, lambda name: "layers.2." in name) == 2 * TOKENS * (forward + through + own)


def test_flops_of_training_the_embedding_alone_pass_through_every_layer():
    assert _flops_model(False, lambda name: "embed" in name) == 2 * TOKENS * 2 * (3 * LAYER + HEAD)


@pytest.mark.parametrize("norm", ["input_layernorm", "post_attention_layernorm", "self_attn.q_norm"])
def test_flops_of_training_norm_gains_alone_still_pass_through_the_layers_above(norm):
    """A gain costs nothing itself. Exact but for the matrices beside it in its own layer, of which some are passed."""
    flops = _flops_model(False, lambda name: name.startswith("model.layers.1.") and norm in name)
    forward, above = 3 * LAYER + HEAD, LAYER + HEAD
    assert 2 * TOKENS * (forward + above) <= flops <= 2 * TOKENS * (forward + above + LAYER)


def test_flops_of_adapters_count_the_frozen_matrices_that_gradients_pass():
    """Rank-4 adapters on every o_proj: all above the first o_proj is passed, what lies below it is not."""
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(toy_model("qwen3", layers=3), LoraConfig(r=4, target_modules=["o_proj"]))
    adapters = 3 * (4 * 32 + 32 * 4)
    forward = 3 * LAYER + HEAD + adapters
    below = 32 * 32 + 2 * 32 * 16  # q, k, v of the first layer
    first_base = 32 * 32  # the frozen o_proj beside the first adapter
    assert cost.estimated_flops(model, TOKENS, TOKENS) == 2 * TOKENS * (
        forward + forward - below - first_base + adapters
    )
