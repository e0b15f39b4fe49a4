"""What is measured of a model before latents are trained: every kind of model that lacks something is told apart from
those that do not.

Run: python -m pytest tests/latent/test_measure.py
"""

import copy

import pytest
import torch

from adaptbench.contracts import StageContext
from adaptbench.errors import AdaptbenchError
from adaptbench.latent import embeddings, passes, stage
from adaptbench.latent.fusion import Fusion
from adaptbench.latent.measure import check_supported, measure
from adaptbench.methods.curricula import coconut, cot, cot_matched, cot_staged, lt_hidden, lt_tuning, no_cot, pause
from tests.support.latent_models import small
from tests.support.models import toy_model

WHOLE = ("gemma", "granite", "cohere", "biogpt", "gpt2", "opt")
"""Of tests/support/latent_models.py, those that can do everything."""
JACOBI = ("gemma2", "mistral", "qwen3_next", "qwen3_5_text", "lfm2", "mamba", "zamba")
"""Those that need another way than by pieces."""
READS = "it makes other logits of embeddings than of their tokens"
PADS = "rows padded on the left make other logits than alone"


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_the_usual_ones_can_do_everything(architecture):
    assert measure(toy_model(architecture)) == {"embeddings": "", "latents": "", "wavefront": ""}


@pytest.mark.parametrize("kind", WHOLE + JACOBI)
def test_kinds_that_can(kind):
    found = measure(small(kind))
    assert (found["embeddings"], found["latents"]) == ("", "")
    assert (found["wavefront"] == "") == (kind in WHOLE)


@pytest.mark.parametrize(
    ("kind", "lacks"),
    [
        ("falcon_h1", {"embeddings": READS, "latents": READS}),  # multiplies the embeddings of tokens alone
        ("gemma3n_text", {"embeddings": READS, "latents": READS}),  # reads every token a second time in every layer
        ("bart", {"embeddings": PADS, "latents": ""}),  # counts positions by places
    ],
)
def test_kinds_that_cannot(kind, lacks):
    assert measure(small(kind), list(lacks)) == lacks


def test_logits_of_an_unknown_form():
    model = toy_model("llama")
    model.config.final_logit_softcapping = 0.5
    assert measure(model, ["embeddings", "latents"]) == {"embeddings": READS, "latents": READS}


def _without(model, **changes):
    """The model's decoder called without, or with another, of its inputs."""
    decoder = model.get_decoder()
    forward = decoder.forward
    decoder.forward = lambda *ids, **given: forward(
        *ids, **{name: one for name, one in (given | changes).items() if one is not ...}
    )
    return model


@pytest.mark.parametrize(
    ("change", "lack"),
    [
        ({"attention_mask": ...}, PADS),
        ({"past_key_values": ...}, "with its cache it makes other logits than without"),
        ({"use_cache": False}, "AdaptbenchError: LlamaForCausalLM returns no cache"),
        ({"inputs_embeds": ...}, "ValueError: You must specify exactly one of input_ids or inputs_embeds"),
    ],
    ids=lambda one: next(iter(one)) if isinstance(one, dict) else "",
)
def test_what_a_decoder_leaves_out_of_account_is_seen(change, lack):
    assert measure(_without(toy_model("llama"), **change), ["embeddings"]) == {"embeddings": lack}


def test_positions_that_padding_moves_are_seen():
    """Rotary ones do not show it: only distances count."""
    assert measure(_without(small("gpt2"), position_ids=...), ["embeddings"]) == {"embeddings": PADS}


def test_a_cache_that_forgets_other_rows_is_seen(monkeypatch):
    from transformers.cache_utils import DynamicLayer

    def first(layer, kept):
        layer.keys, layer.values = (one[: len(kept)].contiguous() for one in (layer.keys, layer.values))

    monkeypatch.setattr(DynamicLayer, "reorder_cache", first)
    lack = "it makes other logits after a row has left its cache"
    assert measure(toy_model("llama"), ["embeddings"]) == {"embeddings": lack}


class _Moved(torch.nn.Embedding):
    """More than its rows times a number."""

    def forward(self, ids):
        return super().forward(ids) * 2 + 0.5


class _Scaled(torch.nn.Embedding):
    def forward(self, ids):
        return super().forward(ids) * 0.7


@pytest.mark.parametrize(("kind", "factor"), [(_Moved, None), (_Scaled, 0.7), (torch.nn.Embedding, 1.0)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_an_embedding_module_is_a_matrix_times_a_number_or_all_that_it_returns(kind, factor, dtype):
    model = toy_model("llama")
    model.set_input_embeddings(kind(300, 32))
    model = model.to(dtype)
    matrix, found = embeddings.embedding_table(model)
    if factor is not None:
        assert matrix is model.get_input_embeddings().weight
        assert found == pytest.approx(factor, rel=max(1e-9, torch.finfo(dtype).eps))
    torch.testing.assert_close(matrix * found, model.get_input_embeddings()(torch.arange(300)))
    assert measure(model) == {"embeddings": "", "latents": "", "wavefront": ""}


def test_an_embedding_that_the_prediction_does_not_follow_is_seen(monkeypatch):
    monkeypatch.setattr(passes, "embedding_table", lambda model: (model.get_input_embeddings().weight, 1.0))
    assert measure(small("gemma"), ["latents"]) == {"latents": "it embeds a prediction in a way that is not known"}


def test_the_model_is_left_as_it_was():
    model = toy_model("qwen3").to(torch.bfloat16).train()
    model.model.layers[1].eval()
    before = {name: (one.dtype, one.clone()) for name, one in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    assert measure(model) == {"embeddings": "", "latents": "", "wavefront": ""}
    for name, one in model.state_dict().items():
        assert (one.dtype, torch.equal(one, before[name][1])) == (before[name][0], True)
    assert [module.training for module in model.modules()] == modes
    assert all(p.grad is None for p in model.parameters())
    assert model.config._attn_implementation == toy_model("qwen3").config._attn_implementation


def test_low_precision_and_routers_are_no_reason():
    """A router of a model in 16 bits may choose another expert for a row in a batch, by rounding alone."""
    model = small("qwen3_next").to(torch.bfloat16)
    assert measure(model, ["embeddings", "latents"]) == {"embeddings": "", "latents": ""}


@pytest.mark.parametrize(("method", "phase"), [(coconut, "latent1"), (lt_hidden, "hidden"), (lt_tuning, "fused")])
def test_a_stage_takes_an_exact_way_or_is_refused_before_it_trains(method, phase, tokenizer, tmp_path):
    tokenizer = copy.deepcopy(tokenizer)
    model = small("gemma2", vocab_size=300)
    (latent,) = stage.add_tokens(model, tokenizer)
    contexts = [StageContext(0, {}, tokenizer, 64, out=tmp_path) for _ in range(3)]
    ids = torch.randint(5, 200, (2, 12), generator=torch.Generator().manual_seed(0))
    ids[:, 4:6] = latent
    batch = {"input_ids": ids, "labels": ids, "lengths": torch.tensor([12, 12])}
    ways = ("wavefront", "jacobi", "naive")
    losses = [
        float(method.objective(method.Config(forward={"way": way}), phase, model, context)(model, batch))
        for way, context in zip(ways, contexts, strict=True)
    ]
    assert losses[0] == losses[1] == pytest.approx(losses[2], rel=1e-5)
    assert [context.instead for context in contexts] == [
        {"wavefront": "it attends in a way that pieces cannot"},
        {},
        {},
    ]
    with pytest.raises(AdaptbenchError, match=f"lacks latents, which this method needs: {READS}$"):
        method.objective(method.Config(), phase, small("gemma3n_text"), contexts[0])
    check_supported(small("mamba"), ["embeddings", "latents"])


@pytest.mark.parametrize("method", [cot, no_cot, cot_matched, cot_staged, pause])
def test_who_only_decodes_from_embeddings_needs_that(method):
    assert method.Config().needs() == ("embeddings",)


@pytest.mark.parametrize("method", [coconut, lt_hidden, lt_tuning])
def test_who_trains_through_latents_needs_their_way(method):
    assert method.Config().needs() == ("embeddings", "latents")


def test_the_latent_itself_is_as_the_definition_has_it():
    """With what the module returns, not with its matrix: of width 64 an eighth."""
    model = small("gemma")
    embed, hidden = model.get_input_embeddings(), torch.randn(3, 32)
    made = passes.latents_after(model, hidden, 299, Fusion(alpha=0.25, nucleus="top_k", top_k=2))
    scores = passes.logits_of(model, hidden)[:, :299]
    likely, tokens = scores.topk(2)
    mean = (likely.softmax(-1)[..., None] * embed(tokens)).sum(1)
    torch.testing.assert_close(made, 0.25 * hidden + 0.75 * mean)
