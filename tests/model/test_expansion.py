"""Depth expansion: the expanded model computes the same, stays an ordinary model, and its copies can learn at once.

Small random models of many architectures, with sliding windows of eight tokens where there are any, and with the
options that say which layer is of which kind. The layer order that is expected is written out by hand for four layers.

Run: python -m pytest tests/model/test_expansion.py
"""

import copy

import pytest
import torch
from transformers import AutoModelForCausalLM

from adaptbench.errors import AdaptbenchError
from adaptbench.model import expansion
from tests.support.models import ARCHITECTURES, toy_model
from tools.small_models import small_model

KEY = "adaptbench_expanded_layers"
# What is copied, the old index of each new layer, and the new indices of the copies.
SOURCES, ORIGIN, COPIES = (0, 2, 3), [0, 0, 1, 2, 2, 3, 3], [1, 4, 6]
# Four layers each. What writes to the residual stream has other names, biases, another axis, experts or a norm after
# it, or the config says by place which layer is of which kind.
EXPANDABLE = {
    "llama": {},
    "llama with biases": {"attention_bias": True, "mlp_bias": True},
    "qwen2": {"use_sliding_window": True, "max_window_layers": 2, "sliding_window": 8},
    "qwen3": {},
    "qwen3_moe": {},
    "qwen3_moe with dense layers": {"mlp_only_layers": [0, 2]},
    "qwen3_moe sparse at every second": {"decoder_sparse_step": 2},
    "qwen3_moe sparse at some": {"decoder_sparse_step": 2, "mlp_only_layers": [1]},
    "qwen2_moe": {"decoder_sparse_step": 2},
    "mistral": {},
    "mixtral": {},
    "gemma": {},
    "gemma2": {},
    "gemma3_text": {"layer_types": ["sliding_attention", "full_attention"] * 2, "num_hidden_layers": 4},
    "olmo2": {},
    "olmo3": {},
    "phi": {},
    "phi3": {},
    "gpt2": {},
    "gpt_neo": {"attention_types": [[["local"], 1], [["global", "local", "local"], 1]]},
    "gpt_neox": {},
    "gpt_neox serial": {"use_parallel_residual": False},
    "gptj": {},
    "falcon": {},
    "falcon of 40B": {"new_decoder_architecture": True},
    "falcon serial": {"parallel_attn": False, "bias": True, "alibi": True},
    "bloom": {},
    "mpt": {},
    "opt": {},
    "starcoder2": {},
    "stablelm": {"use_parallel_residual": True},
    "smollm3": {"no_rope_layers": [1, 1, 0, 1]},
    "cohere2": {},
    "granite": {"residual_multiplier": 0.3},
    "granitemoehybrid": {},
    "glm4": {},
    "exaone4": {},
    "deepseek_v2": {"first_k_dense_replace": 3},
    "deepseek_v3": {"first_k_dense_replace": 2},
    "glm4_moe": {"first_k_dense_replace": 2},
    "ernie4_5_moe": {"moe_layer_start_index": 1, "moe_layer_end_index": 2},
    "llama4_text": {"moe_layers": [1, 2]},
    "gpt_oss": {},
    "lfm2": {},
    "lfm2_moe": {"num_dense_layers": 2},
    "mamba": {},
    "bamba": {"attn_layer_indices": [1, 3]},
    "recurrent_gemma": {"block_types": ["recurrent", "attention"]},
    "recurrent_gemma whose pattern does not divide": {"block_types": ["recurrent", "attention", "recurrent"]},
}
REFUSED = {
    "jamba": "copies would change what other layers are",
    "ernie4_5_moe": "copies would change what other layers are",
    "gpt2": "copies would change what other layers are (attn.scaling)",
    "diffllama": "copies would change what other layers are (self_attn.lambda_init)",
    "minicpm3": "copies would change what other layers are (residual_scale)",
    "modernbert-decoder": "copies would change what other layers are (attn_norm)",
    "gemma4_text": "copies would change the shape of other weights (model.embed_tokens_per_layer.weight)",
    "gemma3n_text": "cannot work with more layers",
    "zamba": "layers have weights in common",
    "reformer": "cannot work with more layers",
    "opt": "copies are not identities",
    "bloom": "copies are not identities",
    "openai-gpt": "copies are not identities",
    "doge": "copies are not identities",
    "longcat_flash": "no list of 8 decoder layers to expand",
    "ctrl": "copies would learn nothing",
}
OPTIONS = {
    "ernie4_5_moe": {"moe_layer_interval": 2},
    "gpt2": {"scale_attn_by_inverse_layer_idx": True},
    "opt": {"do_layer_norm_before": False},
    "bloom": {"apply_residual_connection_post_layernorm": True},
}
# Where a norm follows a projection, its gain is silent: zero, or -1 where it is one plus the weight.
GAINS = {
    "gemma2": ("post_attention_layernorm", "post_feedforward_layernorm", -1.0),
    "gemma3_text": ("post_attention_layernorm", "post_feedforward_layernorm", -1.0),
    "olmo2": ("post_attention_layernorm", "post_feedforward_layernorm", 0.0),
    "olmo3": ("post_attention_layernorm", "post_feedforward_layernorm", 0.0),
    "exaone4": ("post_attention_layernorm", "post_feedforward_layernorm", 0.0),
    "glm4": ("post_self_attn_layernorm", "post_mlp_layernorm", 0.0),
}
# The last parts of attention, MLP, experts and recurrences elsewhere.
WRITERS = {
    "o_proj", "down_proj", "out_proj", "c_proj", "dense", "dense_4h_to_h", "fc2", "fc_out", "experts", "linear_out",
    "w2",
    "output_linear",
}  # fmt: skip
CACHED = (
    "qwen3",
    "qwen2",
    "gemma3_text",
    "gpt2",
    "falcon",
    "deepseek_v3",
    "gpt_oss",
    "lfm2",
    "mamba",
    "bamba",
    "smollm3",
    "llama4_text",
)
every_case = pytest.mark.parametrize("case", EXPANDABLE)


def _model(case):
    return small_model(case.split(" ")[0], **EXPANDABLE[case])


def _ids(rows=3, length=24, seed=1):
    return torch.randint(30, 60, (rows, length), generator=torch.Generator().manual_seed(seed))


def _logits(model, ids=None):
    with torch.no_grad():
        return model.eval()(input_ids=_ids() if ids is None else ids, use_cache=False).logits


def _silent(source, layer):
    """The names of a copy's parameters that are not its source's."""
    weights = dict(source.named_parameters())
    return {name for name, p in layer.named_parameters() if not torch.equal(p, weights[name])}


def _wake(layer, silent):
    with torch.no_grad():
        for name in silent:
            layer.get_parameter(name).normal_(std=0.2)


@every_case
def test_the_expanded_model_computes_the_same_and_every_layer_is_its_source_and_knows_its_place(case):
    model = _model(case)
    before = _logits(model)
    expanded = expansion.expand(model, SOURCES)
    assert torch.equal(_logits(expanded), before)
    assert torch.equal(_logits(model), before), "the model that was expanded has changed"
    layers, old = expansion.decoder_layers(expanded), expansion.decoder_layers(model)
    assert expanded.config.num_hidden_layers == len(layers) == len(ORIGIN)
    assert getattr(expanded.config, KEY) == COPIES
    indexed = [[m.layer_idx for m in layer.modules() if hasattr(m, "layer_idx")] for layer in layers]
    assert indexed == [[i] * len(found) for i, found in enumerate(indexed)]
    for new, source in enumerate(ORIGIN):
        shapes = [{name: p.shape for name, p in one[i].named_parameters()} for one, i in ((layers, new), (old, source))]
        assert shapes[0] == shapes[1]
        assert bool(_silent(old[source], layers[new])) == (new in COPIES)
        for name, part in layers[new].named_modules():
            for key in ("sliding_window", "use_rope", "attention_type", "layer_type", "is_local_attention"):
                assert getattr(part, key, None) == getattr(old[source].get_submodule(name), key, None)
    types = getattr(model.config, "layer_types", None)
    if types is not None:
        assert list(expanded.config.layer_types) == [types[source] for source in ORIGIN]
    assert model.config.num_hidden_layers == 4
    # Copies alone take memory, and share none.
    taken = {p.data_ptr() for p in model.parameters()}
    own = [p.data_ptr() for layer in expansion.expanded_layers(expanded) for p in layer.parameters()]
    assert {p.data_ptr() for p in expanded.parameters()} - taken == set(own)
    assert len(own) == len(set(own))
    # They are not there for nothing: without their silence the outputs differ.
    for source, inserted in zip(SOURCES, expansion.expanded_layers(expanded), strict=True):
        _wake(inserted, _silent(old[source], inserted))
    assert (_logits(expanded) - before).abs().max() > 1e-3


@every_case
def test_what_is_silent_is_what_writes_last_and_measuring_says_yes(case):
    model = _model(case)
    source = expansion.decoder_layers(model)[2]
    (inserted,) = expansion.expanded_layers(expansion.expand(model, [2]))
    silent = {name: inserted.get_parameter(name) for name in _silent(source, inserted)}
    if case in GAINS:
        *norms, value = GAINS[case]
        assert silent.keys() == {f"{norm}.weight" for norm in norms}
        assert all(p.eq(value).all() for p in silent.values())
    else:
        # Queries, keys, values, what opens an MLP, routers and the norms before them are the source's.
        assert {name.rpartition(".")[0].rpartition(".")[2] for name in silent} <= WRITERS
        assert all(p.eq(0).all() for p in silent.values())
    assert expansion.measure(model) == ""


@pytest.mark.parametrize("case", CACHED)
def test_generation_with_a_cache_is_generation_without(case):
    """Beyond the sliding window of eight tokens, and what the unexpanded model generates."""
    model = _model(case)
    expanded = expansion.expand(model, [1, 2, 3]).eval()
    prompt = _ids(2, 5)
    options = {
        "do_sample": False,
        "max_new_tokens": 8,
        "min_new_tokens": 8,
        "attention_mask": torch.ones_like(prompt),
    }
    with_cache = expanded.generate(prompt, use_cache=True, **options)
    assert with_cache.shape == (2, 13)
    assert torch.equal(with_cache, expanded.generate(prompt, use_cache=False, **options))
    assert torch.equal(with_cache, model.generate(prompt, use_cache=False, **options))


@every_case
def test_a_saved_model_opens_with_plain_transformers_and_still_names_its_copies(case, tmp_path):
    model = _model(case)
    expansion.expand(model, [0, 2]).save_pretrained(tmp_path)
    opened, report = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    assert type(opened) is type(model)
    assert getattr(opened.config, KEY) == [1, 4]
    layers = expansion.decoder_layers(opened)
    assert all(one is layers[i] for one, i in zip(expansion.expanded_layers(opened), (1, 4), strict=True))
    torch.testing.assert_close(_logits(opened), _logits(model), rtol=0, atol=1e-6)


def test_a_composite_model_is_expanded_in_its_text_and_opens_again(tmp_path):
    model = small_model("gemma3")
    layers = len(expansion.decoder_layers(model))
    expanded = expansion.expand(model, [0, layers - 1])
    expansion.check_identity(model, expanded)
    expanded.save_pretrained(tmp_path)
    opened = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(opened) is type(model)
    assert opened.config.text_config.num_hidden_layers == len(expansion.decoder_layers(opened)) == layers + 2
    assert opened.config.vision_config.num_hidden_layers == model.config.vision_config.num_hidden_layers
    assert getattr(opened.config, KEY) == [1, layers + 1]
    torch.testing.assert_close(_logits(opened), _logits(model), rtol=0, atol=1e-6)


# --- an identity in practice

TRAINED = (
    "llama", "qwen2", "qwen3", "qwen3_moe", "mistral", "gemma", "gemma2", "gemma3_text", "olmo2", "phi3", "gpt2",
    "gpt_neox", "falcon",
    "smollm3", "granite", "glm4", "exaone4", "deepseek_v3", "opt",
)  # fmt: skip


def _loss(model, ids):
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())


def _train(parameters, ids, model, steps, rate):
    """Returns the norms of the first step's gradients."""
    optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.95))
    norms = {}
    for _ in range(steps):
        _loss(model, ids).backward()
        norms = norms or {p: p.grad.norm().item() for p in parameters if p.grad is not None}
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return norms


@pytest.mark.parametrize("kind", TRAINED)
def test_one_step_changes_little_of_what_the_model_knows_and_more_learn(kind):
    """A base that knows one text by heart, and copies that are trained on another, under AdamW as every run here."""
    model = small_model(kind, num_hidden_layers=4)
    known, new = _ids(2, 16, seed=2), _ids(2, 16, seed=3)
    _train(list(model.parameters()), known, model, 25, 5e-3)
    expanded = expansion.expand(model, [0, 3])
    before, untaught = _loss(expanded, known).item(), _loss(expanded, new).item()
    assert before < 0.3
    expanded.requires_grad_(False)
    inserted = expansion.expanded_layers(expanded)
    copies = [p.requires_grad_(True) for layer in inserted for p in layer.parameters()]
    silent = [
        layer.get_parameter(name)
        for source, layer in zip((0, 3), inserted, strict=True)
        for name in _silent(expansion.decoder_layers(model)[source], layer)
    ]
    gradients = _train(copies, new, expanded, 1, 2e-4)
    assert all(gradients[p] > 1e-3 for p in silent)
    assert sum(norm**2 for norm in gradients.values()) ** 0.5 < 10, "Qwen3's is 3"
    assert _loss(expanded, known).item() == pytest.approx(before, rel=0.05)
    _train(copies, new, expanded, 50, 1e-3)
    assert _loss(expanded, new).item() < untaught - 0.5


# --- what cannot be, and the measuring of it


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_expanded_is_measured_and_said_in_one_line(kind):
    model = small_model(kind, **OPTIONS.get(kind, {}))
    reason = expansion.measure(model)
    assert reason.startswith(REFUSED[kind])
    assert "\n" not in reason
    assert len(reason) < 200


@pytest.mark.parametrize("kind", ["qwen3", "gemma3", "deepseek_v3", "gpt2", "jamba", "mamba", "zamba2", "doge"])
def test_measuring_leaves_the_model_as_it_was(kind):
    model = small_model(kind)
    model.requires_grad_(False)
    model.get_output_embeddings().weight.requires_grad_(True)
    model.train()
    expansion.decoder_layers(model)[1].eval()
    modes = [module.training for module in model.modules()]
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    generation, config, random_state = model.generation_config, model.config.to_dict(), torch.get_rng_state()
    expansion.measure(model)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())
    trained = {id(p) for p in model.parameters() if p.requires_grad}
    assert trained == {id(model.get_output_embeddings().weight)}
    assert all(p.grad is None for p in model.parameters())
    assert model.generation_config is generation
    assert model.config.to_dict() == config
    assert torch.equal(torch.get_rng_state(), random_state)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_measuring_takes_memory_for_what_is_silent_alone(monkeypatch):
    seen = []
    monkeypatch.setattr(expansion, "check_identity", lambda base, expanded: seen.append((base, expanded)))
    assert expansion.measure(small_model("qwen3")) == ""
    ((base, expanded),) = seen
    taken = {p.data_ptr() for p in base.parameters()}
    new = {name.split(".", 3)[-1] for name, p in expanded.named_parameters() if p.data_ptr() not in taken}
    assert new == {"self_attn.o_proj.weight", "mlp.down_proj.weight"}


def test_both_sides_of_a_change_of_kind_are_measured(monkeypatch):
    copied = []
    monkeypatch.setattr(
        expansion, "check_identity", lambda _, expanded: copied.append(getattr(expanded.config, expansion.CONFIG_KEY))
    )
    dense = {"mlp_layer_types": None, "first_k_dense_replace": 3, "num_hidden_layers": 8}
    assert expansion.measure(small_model("deepseek_v3", **dense)) == ""
    assert expansion.measure(small_model("llama", num_hidden_layers=8)) == ""
    assert copied == [[1, 4, 6, 11], [1, 9]]  # each copy is behind its layer: 0, 2, 3 and 7; 0 and 7


def _one_line(call, *arguments):
    with pytest.raises(AdaptbenchError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_copies_that_write_something_are_no_identity_and_the_architecture_is_named():
    model = small_model("qwen3")
    expanded = expansion.expand(model, [1])
    with torch.no_grad():
        expansion.expanded_layers(expanded)[0].mlp.down_proj.weight[0, 0] = 1e-2
    assert _one_line(expansion.check_identity, model, expanded).startswith(
        "Qwen3ForCausalLM: copies are not identities"
    )


def test_what_only_longer_texts_show_is_seen():
    model = small_model("mistral")  # a window of eight tokens
    other = copy.deepcopy(model.config)
    other.sliding_window = 12
    wider = type(model)(other).eval()
    wider.load_state_dict(model.state_dict())
    assert torch.equal(_logits(wider, _ids(length=8)), _logits(model, _ids(length=8)))
    assert "copies are not identities" in _one_line(expansion.check_identity, model, wider)


def test_what_only_generation_with_a_cache_shows_is_seen():
    model = small_model("qwen3")
    expanded = expansion.expand(model, [1])
    attention = expansion.decoder_layers(expanded)[2].self_attn
    attention.layer_idx = 1  # as if it kept its keys and values where its source does
    assert torch.equal(_logits(expanded), _logits(model))
    assert "generating with a cache" in _one_line(expansion.check_identity, model, expanded)


def test_a_base_that_recommends_penalties_hides_no_difference_and_makes_none():
    model = small_model("qwen3")
    model.generation_config.repetition_penalty = 3.0
    expanded = expansion.expand(model, [1])
    assert expanded.generation_config.repetition_penalty == 3.0
    expansion.check_identity(model, expanded)
    assert model.generation_config.repetition_penalty == 3.0


# --- which layers, and how often


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_expanding_twice_names_all_copies_and_silences_only_the_new(architecture):
    model = toy_model(architecture)
    once = expansion.expand(model, [1, 3])  # 0 1 1' 2 3 3': copies 2 and 5
    silent = _silent(model.model.layers[1], once.model.layers[2])
    for inserted in expansion.expanded_layers(once):
        _wake(inserted, silent)  # as if the first copies had been trained
    before = _logits(once)
    assert (before - _logits(model)).abs().max() > 1e-2
    twice = expansion.expand(once, [2, 4])  # 0 1 1' 1'' 2 3 3* 3': a copy of a copy, and one of a layer that has one
    assert getattr(twice.config, KEY) == [2, 3, 6, 7]
    torch.testing.assert_close(_logits(twice), before, rtol=0, atol=1e-6)
    origin = [0, 1, 2, 2, 3, 4, 4, 5]
    changed = [i for i, layer in enumerate(twice.model.layers) if _silent(once.model.layers[origin[i]], layer)]
    assert changed == [3, 6]


@pytest.mark.parametrize("kind", ["qwen3", "gemma3", "gpt2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_expanded_model_keeps_the_weights_type_and_the_generation_options(kind, dtype, tmp_path):
    small_model(kind).to(dtype).save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    model.generation_config.max_length = 77
    expanded = expansion.expand(model, [1])
    assert {p.dtype for p in expanded.parameters()} == {dtype}
    assert expanded.generation_config.max_length == 77
    assert torch.equal(_logits(expanded), _logits(model))
    # In another type than it was opened in, too: what is computed from the configuration has been rounded then.
    assert torch.equal(_logits(expansion.expand(model.float(), [1])), _logits(model))


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


def test_more_copies_than_layers_is_said_in_one_line():
    assert "5 copies of a model with 4 layers" in _one_line(expansion.evenly_spread, 4, 5)


@pytest.mark.parametrize("sources", [[4], [-1], [0, 9], []])
def test_a_layer_that_does_not_exist_is_said_in_one_line(sources):
    assert "must lie in 0..3" in _one_line(expansion.expand, toy_model("qwen3"), sources)


def test_a_model_that_was_not_expanded_has_no_copies_and_says_so():
    assert KEY in _one_line(expansion.expanded_layers, toy_model("qwen3"))


@pytest.mark.parametrize("kind", ["jamba", "gemma4_text", "zamba2", "longcat_flash"])
def test_what_cannot_be_expanded_is_refused_with_its_name_and_not_changed(kind):
    model = small_model(kind)
    before = _logits(model)
    message = _one_line(expansion.expand, model, [0, 1])
    assert message.startswith(f"{type(model).__name__}: ")
    assert torch.equal(_logits(model), before)
    assert all(p.requires_grad for p in model.parameters())
