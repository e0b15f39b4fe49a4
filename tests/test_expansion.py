"""Depth expansion: the expanded model computes the same, stays an ordinary model, and its copies can learn at once.

Every architecture of tests/conftest.py, two of them with sliding-window attention in some or all layers. The layer order
that is expected is written out by hand for four layers of which 1, 2 and 3 (or 0 and 2) are copied.

Run: python -m pytest tests/test_expansion.py
"""

import pytest
import torch
from conftest import ARCHITECTURES, toy_model
from transformers import AutoConfig, AutoModelForCausalLM

from adaptbench import expansion
from adaptbench.contracts import AdaptbenchError

KEY = "adaptbench_expanded_layers"
# sources -> the old index of each new layer, and the new indices of the copies
ORDERS = {
    (1, 2, 3): ([0, 1, 1, 2, 2, 3, 3], [2, 4, 6]),
    (0, 2): ([0, 0, 1, 2, 2, 3], [1, 4]),
}
every_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)


def _ids(rows=3, length=24, seed=1):
    return torch.randint(1, 300, (rows, length), generator=torch.Generator().manual_seed(seed))


def _logits(model, ids=None):
    with torch.no_grad():
        return model.eval()(_ids() if ids is None else ids).logits


@pytest.mark.parametrize("sources", ORDERS)
@every_architecture
def test_expansion_leaves_the_logits_as_they_were(architecture, sources):
    model = toy_model(architecture)
    before = _logits(model)
    expanded = expansion.expand(model, sources)
    after = _logits(expanded)
    torch.testing.assert_close(after, before, rtol=0, atol=1e-6)
    assert torch.equal(after.argmax(-1), before.argmax(-1))
    assert torch.equal(_logits(model), before), "the model that was expanded has changed"
    # The layers are not there for nothing: without the copies' zeros the outputs differ.
    with torch.no_grad():
        for layer in expansion.expanded_layers(expanded):
            layer.self_attn.o_proj.weight.normal_()
    assert (_logits(expanded) - before).abs().max() > 1e-2


@pytest.mark.parametrize("sources", ORDERS)
@every_architecture
def test_every_layer_is_its_source_and_knows_its_own_place(architecture, sources):
    model = toy_model(architecture)
    expanded = expansion.expand(model, sources)
    origin, copies = ORDERS[sources]
    layers, old = expanded.model.layers, model.model.layers
    assert expanded.config.num_hidden_layers == len(layers) == len(origin)
    assert getattr(expanded.config, KEY) == copies
    indexed = [[m.layer_idx for m in layer.modules() if hasattr(m, "layer_idx")] for layer in layers]
    assert indexed == [[i] * len(found) for i, found in enumerate(indexed)]
    assert all(indexed)
    for new, source in enumerate(origin):
        weights = dict(old[source].named_parameters())
        for name, p in layers[new].named_parameters():
            silent = new in copies and name.split(".")[-2] in ("o_proj", "down_proj")
            assert torch.equal(p, torch.zeros_like(p) if silent else weights[name]), f"layer {new}: {name}"
        window = getattr(layers[new].self_attn, "sliding_window", None)
        assert window == getattr(old[source].self_attn, "sliding_window", None)
    types = getattr(model.config, "layer_types", None)
    if types is not None:
        assert expanded.config.layer_types == [types[source] for source in origin]
    assert model.config.num_hidden_layers == 4


@every_architecture
def test_the_copies_share_no_memory_with_their_sources(architecture):
    expanded = expansion.expand(toy_model(architecture), [1, 2])
    addresses = [p.data_ptr() for p in expanded.parameters()]
    assert len(addresses) == len(set(addresses))


@every_architecture
def test_generation_with_a_cache_is_generation_without(architecture):
    """Beyond the sliding window of eight tokens, and what the unexpanded model generates."""
    model = toy_model(architecture)
    expanded = expansion.expand(model, [1, 2, 3]).eval()
    prompt = _ids(2, 5)
    options = {
        "do_sample": False,
        "max_new_tokens": 12,
        "min_new_tokens": 12,
        "attention_mask": torch.ones_like(prompt),
    }
    with_cache = expanded.generate(prompt, use_cache=True, **options)
    assert with_cache.shape == (2, 17)
    assert torch.equal(with_cache, expanded.generate(prompt, use_cache=False, **options))
    assert torch.equal(with_cache, model.generate(prompt, use_cache=False, **options))


@every_architecture
def test_a_saved_model_opens_with_plain_transformers_and_still_names_its_copies(architecture, tmp_path):
    model = toy_model(architecture)
    expanded = expansion.expand(model, [0, 2])
    expanded.save_pretrained(tmp_path)
    opened, report = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    assert type(opened) is type(model)
    assert getattr(opened.config, KEY) == [1, 4]
    assert [layer is opened.model.layers[i] for layer, i in zip(expansion.expanded_layers(opened), (1, 4), strict=True)]
    torch.testing.assert_close(_logits(opened), _logits(model), rtol=0, atol=1e-6)


@every_architecture
def test_the_gradient_reaches_the_copies_output_projections_at_the_first_step(architecture):
    expanded = expansion.expand(toy_model(architecture), [1, 3])
    ids = _ids()
    expanded(ids, labels=ids).loss.backward()
    for index in (2, 5):
        layer = expanded.model.layers[index]
        for projection in (layer.self_attn.o_proj, layer.mlp.down_proj):
            assert not projection.weight.any()
            assert projection.weight.grad.isfinite().all()
            assert projection.weight.grad.norm() > 1e-4


@every_architecture
def test_expanding_twice_names_all_copies_and_silences_only_the_new(architecture):
    model = toy_model(architecture)
    once = expansion.expand(model, [1, 3])  # 0 1 1' 2 3 3': copies 2 and 5
    with torch.no_grad():  # as if the first copies had been trained
        for layer in expansion.expanded_layers(once):
            layer.self_attn.o_proj.weight.normal_(std=0.2)
            layer.mlp.down_proj.weight.normal_(std=0.2)
    before = _logits(once)
    assert (before - _logits(model)).abs().max() > 1e-2
    twice = expansion.expand(once, [2, 4])  # 0 1 1' 1'' 2 3 3* 3': a copy of a copy, and one of a layer that has one
    assert getattr(twice.config, KEY) == [2, 3, 6, 7]
    torch.testing.assert_close(_logits(twice), before, rtol=0, atol=1e-6)
    silent = [i for i, layer in enumerate(twice.model.layers) if not layer.mlp.down_proj.weight.any()]
    assert silent == [3, 6]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_expanded_model_keeps_the_weights_type_and_the_generation_options(dtype, tmp_path):
    toy_model("qwen3").to(dtype).save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    model.generation_config.max_length = 77
    expanded = expansion.expand(model, [1])
    assert {p.dtype for p in expanded.parameters()} == {dtype}
    assert expanded.generation_config.max_length == 77
    assert torch.equal(_logits(expanded), _logits(model))


@pytest.mark.parametrize("layers", range(1, 41))
def test_evenly_spread_ends_groups_that_differ_by_one_layer_at_most(layers):
    for copies in range(1, layers + 1):
        ends = expansion.evenly_spread(layers, copies)
        assert len(ends) == copies
        assert ends[-1] == layers - 1
        sizes = [end - start for start, end in zip([-1, *ends], ends, strict=False)]
        assert min(sizes) >= 1, "not ascending or not unique"
        assert max(sizes) - min(sizes) <= (1 if layers % copies else 0)


def test_evenly_spread_is_the_papers_choice_where_it_divides():
    """LLaMA Pro, arXiv 2401.02415: 32 layers become 40, the top layer of each of eight groups copied."""
    assert expansion.evenly_spread(32, 8) == [3, 7, 11, 15, 19, 23, 27, 31]


def _one_line(call, *arguments):
    with pytest.raises(AdaptbenchError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_more_copies_than_layers_is_said_in_one_line():
    assert "5 copies of a model with 4 layers" in _one_line(expansion.evenly_spread, 4, 5)


@pytest.mark.parametrize("sources", [[4], [-1], [0, 9], []])
def test_a_layer_that_does_not_exist_is_said_in_one_line(sources):
    assert "must lie in 0..3" in _one_line(expansion.expand, toy_model("qwen3"), sources)


def test_a_model_that_was_not_expanded_has_no_copies_and_says_so():
    assert KEY in _one_line(expansion.expanded_layers, toy_model("qwen3"))


def _other(kind, **more):
    sizes = {
        "vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.2, "pad_token_id": 0,
        "bos_token_id": 0, "eos_token_id": 0,
    }  # fmt: skip
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes | more)).eval()


def test_a_model_that_keeps_its_layers_elsewhere_is_refused_in_one_line():
    model = _other("gpt2", n_embd=32, n_layer=2, n_head=2)
    assert "GPT2LMHeadModel: no list of decoder layers" in _one_line(expansion.expand, model, [0])


def test_a_block_without_the_known_projections_is_refused_in_one_line():
    assert "GPTNeoXLayer" in _one_line(expansion.expand, _other("gpt_neox"), [0])


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("mixtral", {"num_local_experts": 4}),
        ("qwen2_moe", {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16, "decoder_sparse_step": 1}),
        ("opt", {"ffn_dim": 48, "word_embed_proj_dim": 32}),
        ("starcoder2", {}),
        ("mamba", {}),
    ],
)  # fmt: skip
def test_an_architecture_that_cannot_be_silenced_is_refused_and_never_changed_quietly(kind, more):
    """Experts keep their projections as parameters, not modules; others name the MLP's differently or have biases.

    Silencing the attention alone, or one projection's weight and bias, is no identity.
    """
    model = _other(kind, **more)
    before = _logits(model)
    try:
        expanded = expansion.expand(model, [0])
    except AdaptbenchError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        torch.testing.assert_close(_logits(expanded), before, rtol=0, atol=1e-6)
