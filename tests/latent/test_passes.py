"""Passes through latents: three ways to one result, against a reference of the definition that knows no cache.

Run: python -m pytest tests/latent/test_passes.py
"""

import gc
import weakref

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_layers import GradientCheckpointingLayer

from adaptbench.data.packing import IGNORED
from adaptbench.errors import AdaptbenchError
from adaptbench.latent import attention, passes, pieces
from adaptbench.latent.fusion import Fusion
from adaptbench.latent.objective import Forward, latent_loss
from tests.support.latent_models import small
from tests.support.models import norms_in_float64, toy_model

LATENT = 299
FUSIONS = {
    "hidden": Fusion(alpha=1.0),
    "fused": Fusion(alpha=0.6),
    "standard": Fusion(alpha=0.3, nucleus="standard", top_p=0.5),
    "top-k": Fusion(alpha=0.0, nucleus="top_k", top_k=3, temperature=0.7),
    "detached": Fusion(alpha=0.6, detach=True),
}
# Rows of text; "L" is a latent. Ragged counts, neighbours, at the first and the last place of a response, none at all.
LAYOUTS = {
    "ragged": ["aaaLaaLLaaaa", "aLa", "aaaaaaa", "aaLLLLaaaaL"],
    "one row": ["aaaaLaaaLa"],
    "none": ["aaaa", "aa"],
    "ends": ["aL", "aaaaaaL", "aLLL"],
    "uneven": ["a" * 90 + "La", "aaLaaa", "aLaL" + "a" * 60 + "L", "aaaL", "aaaaaLaaa", "aLaaaa"],
    "long and short": ["aL" + "a" * 20, "a" * 15 + "LaLaLaLaL", "a"],
}


def _rows(layout, seed=0):
    generator = torch.Generator().manual_seed(seed)
    longest = max(map(len, layout))
    ids = torch.randint(1, LATENT, (len(layout), longest), generator=generator)
    for row, text in enumerate(layout):
        for place, letter in enumerate(text):
            if letter == "L":
                ids[row, place] = LATENT
        ids[row, len(text) :] = 0
    return ids, torch.tensor([len(text) for text in layout])


def _random_layout(seed):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, 24, (5,), generator=generator).tolist()
    share = torch.rand(5, generator=generator) * 0.6
    return [
        "a" + "".join("L" if torch.rand(1, generator=generator) < share[row] else "a" for _ in range(length - 1))
        for row, length in enumerate(lengths)
    ]


def _model(architecture="qwen3", **options):
    """In float64 throughout; eager attention has a softmax in float32."""
    model = norms_in_float64(toy_model(architecture, layers=3, **options).double())
    model.get_input_embeddings().padding_idx = None  # it would keep gradients from a row that predictions mix
    model.set_attn_implementation("sdpa")
    return model


def _by_definition(model, ids, lengths, fusion):
    """Every latent from a fresh pass over all that is before it; no cache, no batch."""
    rows = []
    embedding = model.get_input_embeddings()(torch.arange(LATENT + 1))
    for row, length in zip(ids, lengths.tolist(), strict=True):
        vectors = []
        for place in range(length):
            if row[place] == LATENT:
                out = model(inputs_embeds=torch.stack(vectors)[None], output_hidden_states=True, use_cache=False)
                hidden, logits = out.hidden_states[-1][0, -1], out.logits[0, -1]
                vectors.append(_latent(fusion, hidden, logits, embedding))
            else:
                vectors.append(embedding[row[place]])
        out = model(inputs_embeds=torch.stack(vectors)[None], use_cache=False)
        rows.append(out.logits[0].to(embedding.dtype))
    return rows


def _latent(fusion, hidden, logits, embedding):
    """One latent, written down token by token."""
    scores = logits / fusion.temperature
    weights = [0.0 if token == LATENT else (scores[token] - scores.max()).exp() for token in range(len(scores))]
    total = sum(weights)
    likely = sorted(((weight / total, -token) for token, weight in enumerate(weights)), reverse=True)
    kept, mass = [], 0.0
    for rank, (probability, token) in enumerate(likely):
        if fusion.nucleus == "top_k":
            taken = rank < fusion.top_k
        elif fusion.nucleus == "standard":
            taken = mass <= fusion.top_p
        else:
            taken = mass + float(probability) <= fusion.top_p
        mass += float(probability)
        if rank == 0 or taken:
            kept.append((probability, -token))
    whole = sum(probability for probability, _ in kept)
    predicted = sum(probability / whole * embedding[token] for probability, token in kept)
    latent = fusion.alpha * hidden + (1 - fusion.alpha) * predicted
    return latent.detach() if fusion.detach else latent


def _outputs(way, model, layout, fusion, **options):
    ids, lengths = _rows(layout)
    passed = way(model, ids, lengths, LATENT, fusion, **options)
    logits = passes.logits_of(model, passed.hidden)
    return [row[:length] for row, length in zip(logits, lengths.tolist(), strict=True)], passed.passes


def _gradients(model, logits):
    generator = torch.Generator().manual_seed(1)
    loss = sum((row * torch.randn(row.shape, generator=generator, dtype=row.dtype)).sum() for row in logits)
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def _longest(layout):
    return max(text.count("L") for text in layout)


def _assert_same(ours, theirs, tolerance=1e-10):
    for one, other in zip(ours, theirs, strict=True):
        assert (one - other).abs().max() < tolerance


def _assert_same_gradients(ours, theirs, tolerance=1e-10):
    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        scale = max(1.0, float(theirs[name].abs().max()))
        assert float((gradient - theirs[name]).abs().max()) / scale < tolerance, name


@pytest.mark.parametrize("fusion", FUSIONS.values(), ids=FUSIONS)
@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma"])
def test_naive_is_the_definition(architecture, fusion):
    model = _model(architecture)
    for layout in (LAYOUTS["ragged"], LAYOUTS["ends"]):
        ids, lengths = _rows(layout)
        wanted = _by_definition(model, ids, lengths, fusion)
        found, count = _outputs(passes.naive, model, layout, fusion)
        assert count == sum(text.count("L") + 1 for text in layout)
        _assert_same(found, wanted)
        _assert_same_gradients(_gradients(model, found), _gradients(model, wanted))


@pytest.mark.parametrize(
    ("architecture", "fusion", "layout"),
    [("qwen3", fusion, layout) for fusion in FUSIONS for layout in LAYOUTS]
    + [(one, "fused", layout) for one in ("llama", "mistral-full", "qwen2", "gemma") for layout in ("ragged", "ends")],
)
def test_the_wavefront_equals_the_naive_way(architecture, fusion, layout):
    model, fusion, layout = _full(architecture), FUSIONS[fusion], LAYOUTS[layout]
    wanted, _ = _outputs(passes.naive, model, layout, fusion)
    wanted_gradients = _gradients(model, wanted)
    found, count = _outputs(passes.wavefront, model, layout, fusion)
    assert count == _longest(layout) + 1
    _assert_same(found, wanted)
    _assert_same_gradients(_gradients(model, found), wanted_gradients)


def _full(architecture):
    model = _model(architecture.removesuffix("-full"))
    if architecture.endswith("-full"):
        model.config.sliding_window = None
    return model


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_random_layouts(seed, attention):
    model = _model("qwen3" if seed % 2 else "llama", seed=seed)
    model.set_attn_implementation(attention)
    layout, fusion = _random_layout(seed), FUSIONS["fused"]
    wanted, _ = _outputs(passes.naive, model, layout, fusion)
    wanted_gradients = _gradients(model, wanted)
    tolerance = 1e-10 if attention == "sdpa" else 1e-5
    for way, options, count in (
        (passes.wavefront, {}, _longest(layout) + 1),
        (passes.jacobi, {}, _longest(layout) + 1),
    ):
        found, made = _outputs(way, model, layout, fusion, **options)
        assert made == count
        _assert_same(found, wanted, tolerance)
        _assert_same_gradients(_gradients(model, found), wanted_gradients, tolerance)


def test_jacobi_comes_nearer_with_every_iteration_and_is_exact_at_last():
    model, layout = _model(), ["aaLaLaLaaLaLaLa", "aLLLLaaa"]
    wanted, _ = _outputs(passes.naive, model, layout, FUSIONS["fused"])
    residuals = []
    for iterations in range(1, _longest(layout) + 1):
        found, count = _outputs(passes.jacobi, model, layout, FUSIONS["fused"], iterations=iterations)
        assert count == iterations + 1
        residuals.append(max(float((a - b).abs().max()) for a, b in zip(found, wanted, strict=True)))
        firsts = [[i for i, letter in enumerate(text) if letter == "L"][iterations:][:1] for text in layout]
        for row, first in enumerate(firsts):
            end = first[0] if first else len(layout[row])
            assert (found[row][:end] - wanted[row][:end]).abs().max() < 1e-10, "exact up to the next latent"
    assert residuals[-1] < 1e-10
    assert residuals[0] > 1e-3, "the toy must be one where iterating matters"


def test_padding_changes_nothing():
    model = _model()
    ids, lengths = _rows(["aaLaLa", "aLaaaaaaaaLLaa"])
    for way in (passes.wavefront, passes.jacobi):
        before = way(model, ids, lengths, LATENT, FUSIONS["fused"]).hidden
        other = ids.clone()
        other[0, 6:] = 7
        after = way(model, other, lengths, LATENT, FUSIONS["fused"]).hidden
        assert torch.equal(before, after)
        assert (before[0, 6:] == 0).all()


@pytest.mark.parametrize("way", [passes.naive, passes.jacobi], ids=["naive", "jacobi"])
def test_what_keeps_nothing_between_passes_can_checkpoint(way):
    model, layout = _model().train(), LAYOUTS["ragged"]
    wanted = _gradients(model, _outputs(way, model, layout, FUSIONS["fused"])[0])
    model.gradient_checkpointing_enable()
    found = _gradients(model, _outputs(way, model, layout, FUSIONS["fused"])[0])
    _assert_same_gradients(found, wanted)


def test_the_wavefront_refuses_to_compute_pieces_twice():
    model, layout = _model().train(), LAYOUTS["ragged"]
    model.gradient_checkpointing_enable()
    with pytest.raises(AdaptbenchError, match="must be jacobi under gradient_checkpointing"):
        _outputs(passes.wavefront, model, layout, FUSIONS["fused"])


KINDS = ("gemma", "gemma2", "mistral", "granite", "cohere", "biogpt", "gpt2", "opt", "qwen3_5_text", "lfm2", "mamba")
PIECES = ("gemma", "granite", "cohere", "biogpt", "gpt2", "opt")


@pytest.mark.parametrize("fusion", ["fused", "top-k"])
@pytest.mark.parametrize("kind", KINDS)
def test_all_ways_are_the_definition_whatever_a_model_scales_or_remembers(kind, fusion):
    model, layout = small(kind).double(), ["aaaLaaLLaaaaaaaaaa", "aLa", "aaaaaaa", "aaLLaaaaL"]
    tolerance = 1e-5  # parts of some layers are in float32 whatever the weights are
    ids, lengths = _rows(layout)
    wanted = _by_definition(model, ids, lengths, FUSIONS[fusion])
    gradients = _gradients(model, wanted)
    ways = [passes.naive, passes.jacobi, *([passes.wavefront] if kind in PIECES else [])]
    for way in ways:
        found, _ = _outputs(way, model, layout, FUSIONS[fusion])
        _assert_same(found, wanted, tolerance)
        _assert_same_gradients(_gradients(model, found), gradients, 10 * tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_without_latents_are_the_plain_models(kind):
    model = small(kind)
    ids, lengths = _rows(["a" * 15, "aaaa", "aaaaaaaaa"])
    for way in [passes.naive, passes.jacobi, *([passes.wavefront] if kind in PIECES else [])]:
        with torch.no_grad():
            logits = passes.logits_of(model, way(model, ids, lengths, LATENT, FUSIONS["fused"]).hidden)
            for row, its, length in zip(ids, logits, lengths.tolist(), strict=True):
                plain = model(input_ids=row[None, :length], use_cache=False).logits[0]
                torch.testing.assert_close(its[:length], plain, rtol=0, atol=1e-4)


def test_a_prediction_is_what_an_adapted_embedding_returns():
    """The weight alone lacks what LoRA adds, which is nothing at the start."""
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(toy_model("qwen3"), LoraConfig(r=4, target_modules=["embed_tokens"]))
    for moved in (0.0, 0.5):
        with torch.no_grad():
            model.get_input_embeddings().lora_embedding_B["default"].fill_(moved)
            hidden = torch.randn(5, 32)
            likeliest = passes.logits_of(model, hidden)[:, :LATENT].argmax(-1)
            one = passes.latents_after(model, hidden, LATENT, Fusion(alpha=0.0, nucleus="top_k", top_k=1))
            torch.testing.assert_close(one, model.get_input_embeddings()(likeliest))


def _batch(layout):
    ids, lengths = _rows(layout)
    real = torch.arange(ids.shape[1]) < lengths[:, None]
    return {"input_ids": ids, "lengths": lengths, "labels": ids.masked_fill(~real | (ids == LATENT), IGNORED)}


def _loss_and_gradients(model, forward):
    model.train()
    model.zero_grad()
    loss = latent_loss(forward, FUSIONS["fused"], LATENT)(model, _batch(LAYOUTS["ragged"]))
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", ["gpt2", "opt", "biogpt"])
@pytest.mark.parametrize("way", ["wavefront", "jacobi"])
def test_dropout_is_off_and_gradients_are_the_naive_ways(kind, way):
    model = small(kind).double()
    assert 0.1 in (model.config.to_dict().get(name) for name in ("attn_pdrop", "dropout", "hidden_dropout_prob"))
    exact, wanted = _loss_and_gradients(model, Forward(way="naive"))
    for _ in range(2):
        loss, gradients = _loss_and_gradients(model, Forward(way=way))
        assert loss == pytest.approx(exact, abs=1e-10)
        _assert_same_gradients(gradients, wanted)


@pytest.mark.parametrize("kind", ["gpt2", "opt", "gemma2", "qwen3_5_text"])
def test_recomputed_layers_drop_nothing_either(kind):
    model = small(kind).double()
    exact, wanted = _loss_and_gradients(model, Forward(way="jacobi"))
    model.gradient_checkpointing_enable()
    counted = []
    for layer in (one for one in model.modules() if isinstance(one, GradientCheckpointingLayer)):
        kept = layer._gradient_checkpointing_func
        layer._gradient_checkpointing_func = lambda *given, kept=kept: counted.append(1) or kept(*given)
    for _ in range(2):
        loss, gradients = _loss_and_gradients(model, Forward(way="jacobi"))
        assert loss == pytest.approx(exact, abs=1e-10)
        _assert_same_gradients(gradients, wanted)
    every = (_longest(LAYOUTS["ragged"]) + 1) * model.config.num_hidden_layers
    assert len(counted) == 2 * every, "of every layer in every pass"


def test_a_second_backward_pass_gives_the_same_gradients_again():
    model, layout = _model(), LAYOUTS["ragged"]
    ids, lengths = _rows(layout)
    loss = passes.wavefront(model, ids, lengths, LATENT, FUSIONS["fused"]).hidden.pow(2).sum()
    parameters = list(model.model.parameters())
    first = torch.autograd.grad(loss, parameters, retain_graph=True)
    embedding = torch.autograd.grad(loss, parameters[0], retain_graph=True)
    second = torch.autograd.grad(loss, parameters)
    assert torch.equal(first[0], embedding[0])
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)
        assert one.abs().max() > 0


@pytest.mark.parametrize("backward", [True, False])
def test_nothing_is_left_of_a_pass(backward):
    model = _model()
    ids, lengths = _rows(LAYOUTS["ragged"])
    gc.collect()
    gc.disable()
    try:
        hidden = passes.wavefront(model, ids, lengths, LATENT, FUSIONS["fused"]).hidden
        if backward:
            hidden.sum().backward()
        memories = [weakref.ref(one) for one in gc.get_objects() if type(one) is attention.Memory]
        assert len(memories) == 3, "one a layer"
        del hidden
        assert all(one() is None for one in memories)
    finally:
        gc.enable()


def test_gradients_of_gradients_are_refused():
    model = _model()
    ids, lengths = _rows(LAYOUTS["ragged"])
    loss = passes.wavefront(model, ids, lengths, LATENT, FUSIONS["fused"]).hidden.pow(2).sum()
    (gradient,) = torch.autograd.grad(loss, model.get_input_embeddings().weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_several_key_heads_of_several_queries_each():
    config = AutoConfig.for_model(
        "qwen3", vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=6,
        num_key_value_heads=3, head_dim=8, initializer_range=0.3,
    )  # fmt: skip
    torch.manual_seed(0)
    model = norms_in_float64(AutoModelForCausalLM.from_config(config).double())
    model.set_attn_implementation("sdpa")
    for layout in (LAYOUTS["ragged"], LAYOUTS["uneven"]):
        wanted, _ = _outputs(passes.naive, model, layout, FUSIONS["fused"])
        wanted_gradients = _gradients(model, wanted)
        found, _ = _outputs(passes.wavefront, model, layout, FUSIONS["fused"])
        _assert_same(found, wanted)
        _assert_same_gradients(_gradients(model, found), wanted_gradients)


def test_a_row_that_begins_with_a_latent_is_an_error():
    ids, lengths = _rows(["aaLa", "Laaa"])
    with pytest.raises(ValueError, match="begins with a latent"):
        passes.wavefront(_model(), ids, lengths, LATENT, FUSIONS["fused"])


def test_frozen_keys_take_no_gradient():
    model, layout = _model(), LAYOUTS["ragged"]
    frozen = [p for name, p in model.named_parameters() if "k_proj" in name or "v_proj" in name]
    for parameter in frozen:
        parameter.requires_grad_(False)
    wanted = _gradients(model, _outputs(passes.naive, model, layout, FUSIONS["fused"])[0])
    found = _gradients(model, _outputs(passes.wavefront, model, layout, FUSIONS["fused"])[0])
    assert len(found) == len(list(model.parameters())) - len(frozen)
    _assert_same_gradients(found, wanted)


def test_low_precision_is_as_near_as_the_naive_way():
    model, layout = toy_model("qwen3"), LAYOUTS["uneven"]
    model.set_attn_implementation("eager")
    exact = _gradients(model, _outputs(passes.naive, model, layout, FUSIONS["hidden"])[0])
    apart = {}
    for way in (passes.naive, passes.wavefront):
        with torch.autocast("cpu", torch.bfloat16):
            logits, _ = _outputs(way, model, layout, FUSIONS["hidden"])
        gradients = _gradients(model, [row.float() for row in logits])
        apart[way] = max(float((gradients[n] - g).norm() / g.norm()) for n, g in exact.items())
    assert 0 < apart[passes.wavefront] < 1.5 * apart[passes.naive]


def test_another_attention_stays_as_it_was():
    model = _model()
    _outputs(passes.wavefront, model, LAYOUTS["ends"], FUSIONS["fused"])
    assert model.config._attn_implementation == "sdpa"
    with pytest.raises(ZeroDivisionError), attention.wavefront_attention(model):
        1 / 0  # noqa: B018
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("seed", range(20))
def test_bands_hold_every_token_once(seed):
    generator = torch.Generator().manual_seed(seed)
    counts = (torch.rand(1 + seed, generator=generator).pow(4) * 200 + 1).int().tolist()
    bands = pieces.cut_columns(counts)
    held = [
        (row, column) for rows, left, right in bands for row in rows for column in range(left, min(right, counts[row]))
    ]
    assert sorted(held) == [(row, column) for row, count in enumerate(counts) for column in range(count)]
    area = sum(len(rows) * (right - left) for rows, left, right in bands)
    assert sum(counts) <= area <= len(counts) * max(counts)
    assert seed < 9 or area < 0.7 * len(counts) * max(counts), "uneven rows are not padded to the longest"


def test_uneven_rows_lie_in_several_bands():
    ids, lengths = _rows(LAYOUTS["uneven"])
    order, cut = pieces.cut(ids == LATENT, lengths)
    assert order[0] == 2
    assert [now.active for now in cut] == [6, 6, 1, 1]
    assert len(cut[0].bands) > 1


def test_an_attention_with_dropout_or_capped_scores_is_unknown():
    layer = toy_model("qwen3").model.layers[0].self_attn
    rows = attention.Rows((1, 4), pieces.cut(torch.zeros(1, 4, dtype=torch.bool), torch.tensor([4]))[1][0])
    for more in ({"softcap": 50.0}, {"dropout": 0.1}, {"sliding_window": 4}):
        with pytest.raises(AdaptbenchError, match=r"^forward\.way: must be jacobi; Qwen3Attention attends"):
            attention.attend(layer, *torch.zeros(3, 1, 2, 4, 16), pieces=rows, **more)


def test_a_row_that_begins_with_a_latent_has_nothing_to_make_it_of():
    ids, lengths = _rows(["aaLa", "Laaa"])
    with pytest.raises(ValueError, match="begins with a latent"):
        passes.jacobi(_model(), ids, lengths, LATENT, FUSIONS["fused"])
