"""The lm-eval `LM` with latents: what it answers, what it counts, what a probe puts in their place.

Run: python -m pytest tests/latent/test_latent_lm.py
"""

import copy
import json
from types import SimpleNamespace

import pytest
import torch

from adaptbench.errors import AdaptbenchError
from adaptbench.latent import stage
from adaptbench.latent.decode import respond
from adaptbench.latent.language_model import PROBES, ROOM, language_model
from adaptbench.latent.text import LATENT, prompt, response
from adaptbench.model import storage
from tests.support.models import toy_model

QUESTIONS = ["2 + 3", "number 4", "The red cup", "7", "blue key number 9 is kept", "1 - 1 + 5"]
STEPS, TARGET = ["2 + 3 = 5"], "5"


@pytest.fixture(scope="module")
def directory(tmp_path_factory, tokenizer):
    """A toy's directory, as a stage leaves it, whose model writes the latent token now and then."""
    folder = tmp_path_factory.mktemp("latent")
    own = copy.deepcopy(tokenizer)
    model = toy_model("llama", layers=2, vocabulary=len(own))
    (row,) = stage.add_tokens(model, own)
    with torch.no_grad():
        torch.manual_seed(1)
        output = model.get_output_embeddings().weight
        output[row] = torch.randn(output.shape[1]) * output[:row].norm(dim=1).mean() / output.shape[1] ** 0.5 * 3.0
    storage.save_model(model, own, folder, {"decode": {"kind": "latent", "thinks": True}})
    (folder / stage.INSERTION).write_text(json.dumps({"latents": 30, "response_tokens": 100}))
    return folder


def _requests(questions=QUESTIONS):
    return [
        SimpleNamespace(
            args=(prompt(question), {"until": ["\nQuestion:"], "max_gen_toks": 1000}),
            doc={"steps": STEPS, "target": TARGET},
            task_name="chains",
            doc_id=number,
        )
        for number, question in enumerate(questions)
    ]


def _lm(directory, **options):
    chosen = {"thinks": True, "fusion": {"alpha": 0.6}, "in_a_row": 3} | options
    return language_model(directory, batch_size=4, tasks={}, **chosen)


def _alone(lm, request, **options):
    """One problem by the decoder itself."""
    tokenizer = lm.tokenizer
    limit = (
        2 * len(tokenizer(response(STEPS, TARGET), add_special_tokens=False).input_ids) + ROOM + len(lm.thinking.lead)
    )
    ends = {"end_id": tokenizer.eos_token_id, "pad_id": tokenizer.pad_token_id}
    ids = tokenizer(request.args[0]).input_ids
    return respond(lm.model, [ids], lm.thinking, max_new_tokens=limit, **ends, **options)[0]


def test_answers_and_counts_are_those_of_every_problem_alone(directory):
    lm = _lm(directory)
    requests = _requests()
    answers = lm.generate_until(requests)
    thought = marked = 0
    for request, answer in zip(requests, answers, strict=True):
        one = _alone(lm, request)
        latents = one.tokens.count(lm.thinking.latent_id)
        words = [token for token in one.tokens if token != lm.thinking.latent_id]
        assert (
            answer.replace(LATENT, "") == lm.tokenizer.decode(words, skip_special_tokens=True).split("\nQuestion:")[0]
        )
        marked += answer.count(LATENT)
        taken = lm.taken["chains", request.doc_id]
        assert taken["visible_tokens"] == len(words)
        assert taken["latent_tokens"] == latents
        assert taken["passes"] == one.passes >= len(one.tokens)
        assert taken["milliseconds"] > 0
        thought += latents
    assert thought > 5
    # A letter of several bytes with a thought between them is decoded as a whole alone; a toy writes such now and then.
    assert 0 < marked <= thought


def test_an_answer_says_where_the_model_thought(directory):
    lm = _lm(directory)
    latent, ends = lm.thinking.latent_id, ["\nQuestion:"]
    text = lm.tokenizer("The red cup", add_special_tokens=False).input_ids
    assert lm._answer([text[0], latent, latent, *text[1:]], 0, ends).count(LATENT) == 2
    assert lm._answer([*text, latent], 0, ends) == f"The red cup{LATENT}"
    assert lm._answer([latent, latent, *text], 2, ends) == f"{LATENT}{LATENT}The red cup"
    stop = lm.tokenizer("\nQuestion:", add_special_tokens=False).input_ids
    assert lm._answer([*text, *stop[:1], latent, *stop[1:], *text], 0, ends) == "The red cup"


def test_a_lead_is_read_and_not_counted_as_words(directory):
    lm = _lm(directory, fusion={"alpha": 1.0}, budget=0, lead=f"The{LATENT}{LATENT}")
    without = _lm(directory, fusion={"alpha": 1.0}, budget=0)
    requests = _requests()
    answers, plain = lm.generate_until(requests), without.generate_until(requests)
    assert answers != plain, "the lead changes what follows"
    for request in requests:
        assert lm.taken["chains", request.doc_id]["latent_tokens"] == 2
        words = _alone(lm, request).tokens[len(lm.thinking.lead) :]
        assert lm.taken["chains", request.doc_id]["visible_tokens"] == len(words)


def test_an_answer_ends_at_twice_the_longest_right_one(directory):
    lm = _lm(directory, thinks=False, fusion=None)
    requests = _requests()
    lm.generate_until(requests)
    longest = len(lm.tokenizer(response(STEPS, TARGET), add_special_tokens=False).input_ids)
    counts = [lm.taken["chains", request.doc_id]["visible_tokens"] for request in requests]
    assert max(counts) == 2 * longest + ROOM, "a random toy hardly ever ends"
    requests[0].doc["steps"] = STEPS * 5
    longer = len(lm.tokenizer(response(STEPS * 5, TARGET), add_special_tokens=False).input_ids)
    lm.generate_until(requests)
    assert max(lm.taken["chains", one.doc_id]["visible_tokens"] for one in requests) == 2 * longer + ROOM


def test_a_prompt_that_leaves_no_room_keeps_its_end(directory):
    lm = _lm(directory)
    assert lm._read("The red cup", 10**6) == lm.tokenizer("The red cup").input_ids[-1:]
    assert lm._read("The red cup", 5) == lm.tokenizer("The red cup").input_ids


def test_thinking_by_chance_is_as_frequent_as_in_training(directory):
    lm = _lm(directory, trigger="random")
    assert lm.thinking.rate == 0.3
    lm.generate_until(_requests())
    latents = sum(taken["latent_tokens"] for taken in lm.taken.values())
    words = sum(taken["visible_tokens"] for taken in lm.taken.values())
    assert 0.15 < latents / words < 0.45


def test_a_tokenizer_without_the_token_is_refused(tmp_path, tokenizer):
    storage.save_model(toy_model("llama", vocabulary=len(tokenizer)), tokenizer, tmp_path)
    with pytest.raises(AdaptbenchError, match="has no token '<thinking>'"):
        _lm(tmp_path)


def test_zeros_go_in_for_latents(directory):
    requests = _requests()
    probed, lm = _lm(directory, probe="zero"), _lm(directory)
    answers = probed.generate_until(requests)
    assert answers != lm.generate_until(requests)
    for request, answer in zip(requests, answers, strict=True):
        words = _alone(lm, request, alter=lambda rows, numbers, latents: latents * 0).tokens
        text = lm.tokenizer.decode([t for t in words if t != lm.thinking.latent_id], skip_special_tokens=True)
        assert answer.replace(LATENT, "") == text.split("\nQuestion:")[0]


def test_noise_is_as_long_as_the_latent_and_depends_on_problem_and_number_alone(directory):
    alter = PROBES["noise"]([])
    latents = torch.randn(3, 32, generator=torch.Generator().manual_seed(0)) * torch.tensor([[1.0], [5.0], [0.2]])
    made = alter([4, 9, 4], [0, 0, 1], latents)
    assert torch.allclose(made.norm(dim=1), latents.norm(dim=1), rtol=1e-5)
    assert (torch.nn.functional.cosine_similarity(made, latents).abs() < 0.9).all()
    assert torch.equal(alter([9], [0], latents[1:2]), made[1:2])
    assert not torch.allclose(made[0] / made[0].norm(), made[2] / made[2].norm())
    requests = _requests()
    assert _lm(directory, probe="noise").generate_until(requests) != _lm(directory).generate_until(requests)


def test_shuffling_takes_the_next_problem_s_latents():
    kept = [
        [torch.full((2,), 10.0 * row + number) for number in range(count)] for row, count in enumerate((2, 0, 3, 1))
    ]
    alter = PROBES["shuffle"](kept)
    old = torch.zeros(5, 2)
    made = alter([0, 0, 1, 2, 3], [0, 1, 0, 2, 0], old)
    assert made[:, 0].tolist() == [20.0, 21.0, 20.0, 30.0, 0.0]
    alone = PROBES["shuffle"]([[], [torch.ones(2)], []])
    assert alone([1], [0], torch.full((1, 2), 7.0)).tolist() == [[1.0, 1.0]], "its own: no other problem has any"


def test_shuffled_latents_come_from_other_batches_too(directory):
    requests = _requests()
    few = language_model(
        directory, batch_size=1, tasks={}, thinks=True, fusion={"alpha": 0.6}, in_a_row=3, probe="shuffle"
    )
    many = _lm(directory, probe="shuffle")
    assert few.generate_until(requests) == many.generate_until(requests)
    assert many.generate_until(requests) != _lm(directory).generate_until(requests)


def test_a_task_that_shows_no_steps_has_the_room_it_asks_for(directory):
    lm = _lm(directory)
    requests = _requests()
    for request in requests:
        request.doc.clear()
        request.args = (request.args[0], {"max_gen_toks": 7})
    lm.generate_until(requests)
    taken = [lm.taken["chains", number] for number in range(len(requests))]
    assert max(one["visible_tokens"] + one["latent_tokens"] for one in taken) == 7
    for request in requests:
        request.args = (request.args[0], {})
    answers = lm.generate_until(requests[:2])
    assert len(answers) == 2
    assert max(one["passes"] for one in lm.taken.values()) <= lm.max_gen_toks + 1
