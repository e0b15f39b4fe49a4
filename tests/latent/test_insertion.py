"""Where latents go: before the very tokens that were scored, as many as the options say.

Run: python -m pytest tests/latent/test_insertion.py
"""

import random
from collections import Counter

import pytest
import torch
from pydantic import ValidationError

from adaptbench.data.packing import IGNORED, Example
from adaptbench.latent.insertion import Insertion, confidences, insert
from tests.support.models import toy_model

LATENT = 299
ALWAYS = {"once": 1.0, "twice": 0.0}


def _examples(count=40, seed=0):
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        ids = [0] + [rng.randrange(1, LATENT) for _ in range(rng.randrange(4, 30))]
        question = rng.randrange(1, len(ids))
        made.append(Example(ids, [IGNORED] * question + ids[question:]))
    return made


@pytest.fixture(scope="module")
def scored():
    model = toy_model("qwen3")
    examples = _examples()
    return model, examples, confidences(model, examples, 0, "cpu", batch_size=7)


def _insert(examples, given, options, **more):
    return insert(examples, given, options, LATENT, **({"labelled": True, "longest": 1000, "seed": "0"} | more))


def _without(example):
    kept = [place for place, token in enumerate(example.input_ids) if token != LATENT]
    return Example([example.input_ids[i] for i in kept], [example.labels[i] for i in kept])


def test_confidences_are_those_of_each_sample_alone(scored):
    model, examples, given = scored
    for example, scores in zip(examples, given, strict=True):
        with torch.no_grad():
            chances = model(input_ids=torch.tensor([example.input_ids])).logits[0].softmax(-1)
        alone = [1.0] + [float(chances[i - 1, token]) for i, token in enumerate(example.input_ids) if i]
        torch.testing.assert_close(scores, torch.tensor(alone), rtol=1e-4, atol=1e-7)


def test_scoring_leaves_the_model_as_it_was():
    model = toy_model("llama").train()
    confidences(model, _examples(3), 0, "cpu")
    assert model.training
    assert all(p.grad is None for p in model.parameters())


def test_latents_stand_before_exactly_the_tokens_that_were_scored_low(scored):
    _, examples, given = scored
    tau = float(torch.cat(given).median())
    inserted = _insert(examples, given, Insertion(tau=tau, budget=1000, **ALWAYS))
    low = 0
    for example, scores, one in zip(examples, given, inserted, strict=True):
        assert _without(one.example) == Example(list(example.input_ids), list(example.labels))
        before = [i for i, token in enumerate(one.example.input_ids[:-1]) if token == LATENT]
        # The token after the k-th latent is at its place, less the k latents up to there, in the sample that was
        # scored.
        hard = [place + 1 - number for number, place in enumerate(before, 1)]
        wanted = [i for i, label in enumerate(example.labels) if label != IGNORED and float(scores[i]) < tau]
        assert hard == list(one.chosen) == wanted
        assert [one.example.input_ids[i + 1] for i in before] == [example.input_ids[i] for i in wanted]
        low += len(wanted)
    assert low > 100


@pytest.mark.parametrize("labelled", [True, False])
def test_labels_are_the_token_itself_or_none(scored, labelled):
    _, examples, given = scored
    options = Insertion(tau=0.5, budget=1000, once=1.0, twice=1.0)
    for example, one in zip(examples, _insert(examples, given, options, labelled=labelled), strict=True):
        latents = [
            label for token, label in zip(one.example.input_ids, one.example.labels, strict=True) if token == LATENT
        ]
        assert set(latents) <= {LATENT if labelled else IGNORED}
        assert len(latents) == 2 * len(one.chosen)
        kept = [
            label for token, label in zip(one.example.input_ids, one.example.labels, strict=True) if token != LATENT
        ]
        assert kept == list(example.labels)


def test_the_budget_bounds_positions_by_a_seeded_draw(scored):
    _, examples, given = scored
    options = Insertion(tau=0.99, budget=3, **ALWAYS)
    inserted = _insert(examples, given, options)
    assert max(len(one.chosen) for one in inserted) == 3
    assert inserted == _insert(examples, given, options)
    assert inserted != _insert(examples, given, options, seed="1")
    everything = _insert(examples, given, Insertion(tau=0.99, budget=1000, **ALWAYS))
    assert all(set(one.chosen) <= set(whole.chosen) for one, whole in zip(inserted, everything, strict=True))


def test_one_and_two_latents_come_as_often_as_said():
    examples = [Example([0, *range(1, 200)], [IGNORED, *range(1, 200)]) for _ in range(30)]
    given = [torch.full((200,), 0.01) for _ in examples]
    counts = Counter(
        count
        for one in _insert(examples, given, Insertion(tau=0.3, budget=1000, once=0.85, twice=0.15))
        for count in one.counts
    )
    total = counts.total()
    assert total == 30 * 199
    # 0.15, 0.85 * 0.85 and 0.85 * 0.15; six standard deviations of a share of 5,970 draws are below 0.04.
    assert counts[0] / total == pytest.approx(0.15, abs=0.03)
    assert counts[1] / total == pytest.approx(0.7225, abs=0.04)
    assert counts[2] / total == pytest.approx(0.1275, abs=0.03)


def test_random_insertion_puts_as_many_elsewhere(scored):
    _, examples, given = scored
    options = Insertion(tau=float(torch.cat(given).median()), budget=5, **ALWAYS)
    hard, anywhere = _insert(examples, given, options), _insert(examples, given, options, where="random")
    assert [len(one.chosen) for one in hard] == [len(one.chosen) for one in anywhere]
    assert [one.chosen for one in hard] != [one.chosen for one in anywhere]
    for example, one in zip(examples, anywhere, strict=True):
        assert all(example.labels[place] != IGNORED for place in one.chosen)


def test_latents_without_room_are_left_out(scored):
    _, examples, given = scored
    options = Insertion(tau=0.99, budget=1000, once=1.0, twice=1.0)
    longest = max(len(one.input_ids) for one in examples)
    for example, one in zip(examples, _insert(examples, given, options, longest=longest), strict=True):
        free = longest - len(example.input_ids)
        assert len(one.example.input_ids) == len(example.input_ids) + min(free, 2 * len(one.chosen))


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"tau": 0.0}, "tau"),
        ({"tau": 1.0}, "tau"),
        ({"tau": -1.0}, "tau"),
        ({"budget": 0}, "budget"),
        ({"once": 1.5}, "once"),
    ],
)
def test_impossible_options_are_refused(options, key):
    with pytest.raises(ValidationError) as caught:
        Insertion(**options)
    assert caught.value.errors()[0]["loc"] == (key,)
