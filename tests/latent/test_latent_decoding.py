"""Decoding with latents: every row as it would be alone, by a reference without batch and without cache.

Run: python -m pytest tests/latent/test_latent_decoding.py
"""

import random

import pytest
import torch

from adaptbench.latent import cached, decode
from adaptbench.latent.decode import Thinking, respond
from adaptbench.latent.fusion import Fusion
from tests.support.latent_models import latent_by_definition, small
from tests.support.models import norms_in_float64, toy_model

END, PAD, LATENT = 0, 0, 299
PROMPTS = [[5], [7, 8, 9, 10, 11, 12, 13], [20, 21], [30, 31, 32, 33], [40, 41, 42], [50] * 11]
FUSED, HIDDEN = Fusion(alpha=0.6), Fusion(alpha=1.0)
WAYS = {
    "plain": Thinking(),
    "pause": Thinking(latent_id=LATENT),
    "hidden": Thinking(latent_id=LATENT, fusion=HIDDEN),
    "fused": Thinking(latent_id=LATENT, fusion=FUSED),
    "budget": Thinking(latent_id=LATENT, fusion=FUSED, budget=3),
    "two in a row": Thinking(latent_id=LATENT, fusion=FUSED, in_a_row=2),
    "none": Thinking(latent_id=LATENT, fusion=FUSED, budget=0),
    "unsure": Thinking(latent_id=LATENT, fusion=FUSED, trigger="confidence", tau=0.05, in_a_row=1),
    "by chance": Thinking(latent_id=LATENT, fusion=FUSED, trigger="random", rate=0.3),
    "lead": Thinking(latent_id=LATENT, fusion=HIDDEN, budget=0, lead=(3, LATENT, LATENT, 4)),
    "words first": Thinking(latent_id=LATENT, fusion=FUSED, lead=(3, 4, 5)),
    "latents first": Thinking(latent_id=LATENT, fusion=FUSED, budget=4, lead=(LATENT, 6, 7, LATENT)),
    "a led pause": Thinking(latent_id=LATENT, lead=(3, LATENT, LATENT, 4)),
}


@pytest.fixture(scope="module")
def model():
    """A toy that writes the latent token now and then, and ends now and then."""
    model = norms_in_float64(toy_model("qwen3", layers=2).double())
    model.set_attn_implementation("sdpa")
    with torch.no_grad():
        output = model.get_output_embeddings().weight
        output[LATENT] *= 4.0
        output[END] *= 2.2
    return model


def _alone(model, prompt, thinking, limit):
    """One row by the definition: the whole sequence goes through the model again for every token."""
    embed = model.get_input_embeddings()
    vectors = list(embed(torch.tensor(prompt)))
    tokens, passes, streak, total = [], 0, 0, 0
    chance = random.Random(" ".join(map(str, prompt)))
    while True:
        with torch.no_grad():
            out = model(inputs_embeds=torch.stack(vectors)[None], output_hidden_states=True, use_cache=False)
        hidden, logits = out.hidden_states[-1][0, -1], out.logits[0, -1]
        passes += 1
        if len(tokens) < len(thinking.lead):
            token = thinking.lead[len(tokens)]
            passes -= token != thinking.latent_id or thinking.fusion is None  # nothing of the pass is needed
        else:
            words = logits.clone()
            if thinking.latent_id is not None:
                words[thinking.latent_id] = -torch.inf
            token = int(words.argmax())
            if thinking.trigger == "token":
                wants = thinking.latent_id is not None and int(logits.argmax()) == thinking.latent_id
            elif thinking.trigger == "random":
                wants = streak == 0 and chance.random() < thinking.rate
            else:
                wants = float(words.softmax(-1).max()) < thinking.tau
            if wants and streak < thinking.in_a_row and (thinking.budget is None or total < thinking.budget):
                token = thinking.latent_id
        if token == END:
            return tokens, passes
        tokens.append(token)
        streak = streak + 1 if token == thinking.latent_id else 0
        total += token == thinking.latent_id
        if len(tokens) == limit:
            return tokens, passes
        if token == thinking.latent_id and thinking.fusion is not None:
            vectors.append(latent_by_definition(thinking.fusion, model, hidden, logits, thinking.latent_id))
        else:
            vectors.append(embed(torch.tensor(token)))


def _respond(model, prompts, thinking, limit=40, **more):
    return respond(model, prompts, thinking, max_new_tokens=limit, end_id=END, pad_id=PAD, **more)


@pytest.mark.parametrize("name", WAYS)
def test_every_row_is_what_it_is_alone(model, name):
    written = _respond(model, PROMPTS, WAYS[name])
    for prompt, one in zip(PROMPTS, written, strict=True):
        tokens, passes = _alone(model, prompt, WAYS[name], 40)
        assert one.tokens == tokens
        assert one.passes == passes
    apart = [_respond(model, [prompt], WAYS[name])[0] for prompt in PROMPTS]
    assert [one.tokens for one in apart] == [one.tokens for one in written]


@pytest.mark.parametrize("room", [1, 3])
def test_a_cache_that_runs_out_of_room_grows(model, monkeypatch, room):
    options = {"max_new_tokens": 40, "end_id": END, "pad_id": PAD}
    wanted = respond(model, PROMPTS, WAYS["fused"], **options)
    assert max(len(one.tokens) for one in wanted) > 16
    monkeypatch.setattr(cached, "ROOM", room)
    found = respond(model, PROMPTS, WAYS["fused"], **options)
    assert [one.tokens for one in found] == [one.tokens for one in wanted]


def test_the_toy_thinks_and_ends_at_different_places(model):
    written = _respond(model, PROMPTS, WAYS["fused"])
    latents = [one.tokens.count(LATENT) for one in written]
    assert len(set(map(len, [one.tokens for one in written]))) > 1
    assert max(latents) > 2
    assert len(set(latents)) > 1


def _longest_run(tokens):
    best = run = 0
    for token in tokens:
        run = run + 1 if token == LATENT else 0
        best = max(best, run)
    return best


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_it_thinks_no_longer_than_it_may(model, limit):
    always = Thinking(latent_id=LATENT, fusion=FUSED, trigger="confidence", tau=1.1, in_a_row=limit)
    for one in _respond(model, PROMPTS, always, limit=30):
        assert _longest_run(one.tokens) == min(limit, len(one.tokens))
    bounded = Thinking(latent_id=LATENT, fusion=FUSED, trigger="confidence", tau=1.1, budget=limit)
    assert all(one.tokens.count(LATENT) <= limit for one in _respond(model, PROMPTS, bounded, limit=30))


def test_latents_can_be_kept_and_replaced(model):
    kept = _respond(model, PROMPTS, WAYS["fused"], keep=True)
    for one in kept:
        last = one.tokens[-1:] == [LATENT]  # the last token is not read any more
        assert len(one.latents) == one.tokens.count(LATENT) - last
    seen = []

    def same(rows, numbers, vectors):
        seen.extend(zip(rows, numbers, strict=True))
        return vectors

    assert [one.tokens for one in _respond(model, PROMPTS, WAYS["fused"], alter=same)] == [one.tokens for one in kept]
    assert sorted(seen) == [(row, n) for row, one in enumerate(kept) for n in range(len(one.latents))]
    zeros = _respond(model, PROMPTS, WAYS["fused"], alter=lambda rows, numbers, vectors: torch.zeros_like(vectors))
    assert [one.tokens for one in zeros] != [one.tokens for one in kept]


def test_nothing_may_be_written(model):
    assert [one.tokens for one in _respond(model, PROMPTS, WAYS["fused"], limit=0)] == [[]] * len(PROMPTS)


@pytest.mark.parametrize("limit", [1, 2, 3, 4])
def test_a_lead_may_be_all_that_is_written(model, limit):
    for name in ("lead", "latents first", "a led pause"):
        for one in _respond(model, PROMPTS, WAYS[name], limit=limit):
            assert one.tokens == list(WAYS[name].lead[:limit])


def test_coconuts_markers_are_read_without_a_pass_of_their_own(model):
    """16 passes for 4 latents and 11 words, as no more than 12 for the words alone."""
    coconut = Thinking(latent_id=LATENT, fusion=HIDDEN, budget=0, lead=(3, LATENT, LATENT, LATENT, LATENT, 4))
    for thinking, passes in ((coconut, 16), (Thinking(), 12)):
        limit = len(thinking.lead) + 11
        written = [one for one in _respond(model, PROMPTS, thinking, limit=limit + 1) if len(one.tokens) > limit]
        assert written
        assert {one.passes for one in written} == {passes}


CACHES = (
    "gemma",
    "gemma2",
    "mistral",
    "granite",
    "cohere",
    "biogpt",
    "gpt2",
    "opt",
    "qwen3_next",
    "qwen3_5_text",
    "lfm2",
    "mamba",
    "zamba",
)


@pytest.mark.parametrize("name", ["plain", "by chance", "lead"])
@pytest.mark.parametrize("kind", CACHES)
def test_a_model_s_own_cache_writes_what_each_row_writes_alone(kind, name, monkeypatch):
    """Windows, convolutions and recurrent states: rows padded on the left, that leave the batch as they end."""
    monkeypatch.setattr(decode, "PART", 3)
    model = small(kind)
    with torch.no_grad():
        output = model.get_output_embeddings().weight
        output[END] = torch.randn(output.shape[1], generator=torch.Generator().manual_seed(3)) * output.std() * 2
    written = _respond(model, PROMPTS, WAYS[name], limit=14)
    for prompt, one in zip(PROMPTS, written, strict=True):
        assert one.tokens == _alone(model, prompt, WAYS[name], 14)[0]
    apart = [_respond(model, [prompt], WAYS[name], limit=14)[0].tokens for prompt in PROMPTS]
    assert apart == [one.tokens for one in written]
    assert name == "plain" or sum(one.tokens.count(LATENT) for one in written) > 3
