"""Units: rows are outputs and heads are heads in every architecture, or it is said in one line.

Importances are compared with means over slices that are cut by hand.

Run: python -m pytest tests/model/test_units.py
"""

import pytest
import torch

from adaptbench.errors import AdaptbenchError
from adaptbench.model import expansion
from adaptbench.model.units import units
from tools.small_models import small_model

HEADED = {
    "llama": {},
    "qwen3": {},
    "qwen3_moe": {},
    "gemma2": {},
    "gemma3": {},
    "olmo2": {},
    "granite": {},
    "smollm3": {},
}
OTHERWISE = {
    "gpt2": {},  # c_attn: queries, keys and values in one
    "gpt_neox": {},
    "falcon": {},
    "bloom": {},
    "mpt": {},
    "phi3": {},
    "gptj": {},  # out_proj
    "opt": {},
    "deepseek_v3": {},  # through a narrower space
    "mamba": {},
    "qwen3_next": {},  # some layers have no heads of this kind
    "lfm2": {},
    "laguna": {"num_attention_heads_per_layer": [4, 8, 4, 8]},
}


def _training(kind, layer=1, **options):
    """A small model of which one layer trains."""
    model = small_model(kind, **options).requires_grad_(False)
    trained = expansion.decoder_layers(model)[layer].requires_grad_(True)
    prefix = next(name for name, module in model.named_modules() if module is trained)
    return model, f"{prefix}."


def _means(split, p):
    torch.manual_seed(0)
    gradient = torch.randn_like(p)
    return split.means(p.detach(), gradient), (p.detach() * gradient).abs()


@pytest.mark.parametrize(
    ("kind", "options", "name", "outputs"),
    [
        ("gpt2", {}, "attn.c_attn.weight", [1]),  # kept as (inputs, outputs)
        ("gpt2", {}, "mlp.c_proj.weight", [1]),
        ("gpt_neox", {}, "attention.dense.weight", [0]),
        ("llama", {}, "mlp.up_proj.weight", [0]),
        ("qwen3_moe", {}, "mlp.experts.down_proj", [0, 1]),  # (experts, outputs, inputs)
        ("qwen3_moe", {}, "mlp.experts.gate_up_proj", [0, 1]),
        ("qwen3_moe", {}, "mlp.gate.weight", [0]),
        ("lfm2", {"layer_types": ["conv", "conv", "full_attention", "conv"]}, "conv.conv.weight", [0]),
        ("bloom", {}, "mlp.dense_4h_to_h.bias", [0]),
        ("gemma3", {}, "self_attn.q_norm.weight", [0]),
    ],
)
def test_a_row_is_what_makes_one_output(kind, options, name, outputs):
    model, prefix = _training(kind, **options)
    p = model.get_parameter(prefix + name)
    split = units(model, "row")[prefix + name]
    found, product = _means(split, p)
    inputs = [i for i in range(p.ndim) if i not in outputs]
    expected = product.mean(inputs) if inputs else product
    torch.testing.assert_close(found.flatten(), expected.flatten())
    spread = split.spread(found, p).expand(p.shape)
    torch.testing.assert_close(spread, (product.mean(inputs, keepdim=True) if inputs else product).expand(p.shape))


@pytest.mark.parametrize("kind", HEADED)
def test_a_head_is_a_head(kind):
    model, prefix = _training(kind)
    config = model.config.get_text_config()
    heads, keys = config.num_attention_heads, config.num_key_value_heads
    found = units(model, "head")
    for projection, count in (("q_proj", heads), ("k_proj", keys), ("v_proj", keys), ("o_proj", heads)):
        name = f"{prefix}self_attn.{projection}.weight"
        p = model.get_parameter(name)
        values, product = _means(found[name], p)
        parts = product.chunk(count, dim=int(projection == "o_proj"))
        assert len(parts) == count
        torch.testing.assert_close(values.flatten(), torch.stack([part.mean() for part in parts]))


@pytest.mark.parametrize("kind", OTHERWISE)
def test_heads_that_are_not_known_are_one_line_and_never_whole_matrices(kind):
    model, _ = _training(kind, **OTHERWISE[kind])
    with pytest.raises(AdaptbenchError, match=r"^tuner\.unit: head, but ") as caught:
        units(model, "head")
    assert "\n" not in str(caught.value)
    assert type(expansion.decoder_layers(model)[1]).__name__ in str(caught.value)
    assert len(units(model, "tensor")) == sum(p.requires_grad for p in model.parameters())


def test_layers_that_do_not_train_are_not_asked_for_heads():
    types = small_model("qwen3_next").config.layer_types
    model, _ = _training("qwen3_next", layer=types.index("full_attention"))
    assert any(split.shape[0] == 4 for name, split in units(model, "head").items() if "q_proj" in name)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("gpt_oss", r"mlp\.experts\.gate_up_proj"),  # (experts, inputs, outputs)
        ("mamba", r"mixer\.A_log"),
        ("jetmoe", r"\S+weight"),
    ],
)
def test_a_matrix_whose_outputs_are_not_known_is_one_line(kind, name):
    model, prefix = _training(kind)
    with pytest.raises(AdaptbenchError, match=rf"^tuner\.unit: row, but .+ of {prefix}{name} ") as caught:
        units(model, "row")
    assert "\n" not in str(caught.value)
    units(model, "tensor")
