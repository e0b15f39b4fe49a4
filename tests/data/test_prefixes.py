"""Examples that begin alike: joined they lose nothing, and train exactly as they do apart.

The references are each example alone through the model, one after the other, and a mask written out token by token from
what a branch is. Random trees come from hypothesis; the models are toys of every architecture that sharing is for.

Run: python -m pytest tests/data/test_prefixes.py
"""

import random
from collections import Counter

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

from adaptbench.data.packing import IGNORED, Example, Packed, collate, document, pack
from adaptbench.data.prefixes import SHORTEST, share
from adaptbench.model.capabilities import sharing
from adaptbench.train.objectives import causal_lm
from tests.support.models import ARCHITECTURES, norms_in_float64, toy_model

THOROUGH = settings(
    max_examples=200, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
LENGTH = 128
SHARING = [a for a in ARCHITECTURES if not sharing(toy_model(a, layers=1))]
# transformers refuses sdpa for Gemma 2: torch's kernel has no soft-capping of attention scores.
ATTENTIONS = [(a, kind) for a in SHARING for kind in ("eager", "sdpa") if (a, kind) != ("gemma2", "sdpa")]
attentions = pytest.mark.parametrize(("architecture", "attention"), ATTENTIONS)


def _parts(example) -> list[tuple[list[int], list[int]]]:
    """Tokens and labels of the trunk, and of every branch behind what it shares (where it trains nothing itself)."""
    made = [(list(example.input_ids), list(example.labels))]
    for shared, rest in example.branches:
        made.append(([*example.input_ids[:shared], *rest.input_ids], [*[IGNORED] * shared, *rest.labels]))
    return made


def _predictions(examples) -> Counter:
    """Every prediction that is trained: all tokens before it, and the token. Two sets of examples with the same ones
    have the same loss.
    """
    made = Counter()
    for example in examples:
        for ids, labels in _parts(example):
            for place, label in enumerate(labels):
                if label != IGNORED:
                    assert label == ids[place]
                    made[tuple(ids[: place + 1])] += 1
    return made


def _key(example) -> tuple:
    branches = tuple((shared, tuple(rest.input_ids), tuple(rest.labels)) for shared, rest in example.branches)
    return tuple(example.input_ids), tuple(example.labels), branches


# --- joining


@st.composite
def _families(draw):
    """Examples of which many begin like one of a few texts; whatever follows is trained, context, or both in turn."""
    stems = [
        draw(st.lists(st.integers(1, 3), min_size=SHORTEST + 4, max_size=60)) for _ in range(draw(st.integers(1, 3)))
    ]
    made = []
    for _ in range(draw(st.integers(1, 8))):
        stem = draw(st.sampled_from(stems))
        context = stem[: draw(st.integers(SHORTEST - 2, len(stem)))] + draw(st.lists(st.integers(1, 9), max_size=3))
        rest = [
            *draw(st.lists(st.tuples(st.integers(1, 3), st.booleans()), max_size=12)),
            (draw(st.integers(1, 9)), True),
        ]
        ids = [*context, *(token for token, _ in rest)]
        made.append(Example(ids, [*[IGNORED] * len(context), *(t if trained else IGNORED for t, trained in rest)]))
    return made


@THOROUGH
@given(_families(), st.integers(0, 40))
def test_joining_keeps_every_prediction_and_the_length(examples, more):
    length = max(len(example.input_ids) for example in examples) + more
    joined = share(examples, length)
    assert _predictions(joined) == _predictions(examples)
    assert sum(example.size for example in joined) <= sum(example.size for example in examples)
    for example in joined:
        assert example.labels[0] == IGNORED
        assert example.size <= length
        assert example.size == len(example.input_ids) + sum(len(rest.input_ids) for _, rest in example.branches)
        for shared, rest in example.branches:
            assert SHORTEST <= shared <= len(example.input_ids)
            assert rest.labels[0] == IGNORED, "its first token has no predecessor in the row to be predicted from"
            assert any(label != IGNORED for label in rest.labels)
            assert not rest.branches


def test_joined_examples_leave_packing_whole():
    examples = [example for number in range(20) for example in share(_steps(number), LENGTH)]
    assert sum(len(example.branches) for example in examples) > 40
    for epoch in range(2):
        rows = Packed(examples, LENGTH, 0).epoch(epoch)
        assert Counter(_key(example) for row in rows for example in row) == Counter(map(_key, examples))
        assert all(sum(example.size for example in row) <= LENGTH for row in rows)


def _context(ids):
    return Example(ids, [IGNORED] * (len(ids) - 1) + ids[-1:])


@pytest.mark.parametrize(("alike", "joins"), [(SHORTEST - 1, False), (SHORTEST, True), (SHORTEST + 1, True)])
def test_only_beginnings_worth_it_are_shared(alike, joins):
    beginning = list(range(1, alike + 1))
    trunk, other = _context([*beginning, 50, 51, 52, 53]), _context([*beginning, 60, 61])
    joined = share([other, trunk], 100)
    if joins:
        assert joined == [Example(trunk.input_ids, trunk.labels, ((alike, Example([60, 61], [IGNORED, 61])),))]
    else:
        assert joined == [trunk, other]


@pytest.mark.parametrize(("more", "branches"), [(1, [0, 1]), (2, [1, 0]), (3, [1, 0]), (4, [2]), (9, [2])])
def test_as_many_are_joined_as_fit_together(more, branches):
    beginning = list(range(1, 31))
    examples = [_context([*beginning, first, first + 1]) for first in (50, 60)] + [
        _context([*beginning, *range(70, 75)])
    ]
    assert [len(example.branches) for example in share(examples, 35 + more)] == branches


def test_a_branch_keeps_one_context_token_that_its_first_target_is_predicted_from():
    """The row's token before a branch is another example's; from its logits nothing of the branch may be predicted."""
    beginning = list(range(1, 31))
    for target in ([31, 40], [70, 71]):  # as the trunk goes on, or otherwise
        other = Example([*beginning, *target], [IGNORED] * 30 + target)
        trunk = Example([*beginning, 31, 32, 33], [IGNORED] * 30 + [31, 32, 33])
        (joined,) = share([trunk, other], 100)
        assert joined.branches == ((29, Example([30, *target], [IGNORED, *target])),)


def test_a_step_that_is_history_to_the_next_is_trained_where_the_next_one_reads_it():
    end = 99
    prompt, said, seen, then = list(range(1, 21)), [31, 32, 33], [41, 42], [51, end]
    first = Example([*prompt, *said, end], [*[IGNORED] * 20, *said, end])
    second = Example([*prompt, *said, *seen, *then], [*[IGNORED] * 25, *then])
    assert share([first, second], 100) == [
        Example(
            second.input_ids,
            [*[IGNORED] * 20, *said, IGNORED, IGNORED, *then],
            ((22, Example([33, end], [IGNORED, end])),),
        )
    ]


def test_what_another_example_holds_whole_takes_no_room():
    written = _context(list(range(1, 31)))
    longer = Example([*written.input_ids, 31, 32], [IGNORED] * 31 + [32])
    assert share([written, longer], 32) == [Example(longer.input_ids, [*[IGNORED] * 29, 30, IGNORED, 32])]


def test_what_is_trained_twice_stays_twice():
    """Two examples with the same targets count double, as they do apart; so does a part of them."""
    one = Example(list(range(1, 31)), [IGNORED] * 25 + list(range(26, 31)))
    joined = share([one, one], 100)
    assert _predictions(joined) == _predictions([one, one])
    assert joined == [Example(one.input_ids, one.labels, ((24, Example(one.input_ids[24:], one.labels[24:])),))]


# --- the mask


@st.composite
def _rows(draw):
    """Rows of random trees and plain examples, of whatever room is left."""
    rows = []
    for _ in range(draw(st.integers(1, 3))):
        row, room = [], 40
        while room and draw(st.integers(0, 5)):
            size = draw(st.integers(1, room))
            room -= size
            branches = []
            for _ in range(draw(st.integers(0, 4))):
                if room:
                    rest = draw(st.integers(1, min(room, 6)))
                    room -= rest
                    branches.append((draw(st.integers(1, size)), Example([2] * rest, [IGNORED] * rest)))
            row.append(Example([1] * size, [IGNORED] * size, tuple(branches)))
        rows.append(row)
    return rows, 40 + draw(st.integers(0, 3))


def _places(row, length) -> list[tuple]:
    """Of every token in a row: its example, its part (0: the trunk), its position, and where its part leaves the
    trunk.
    """
    places = []
    for number, example in enumerate(row):
        places += [(number, 0, i, 0) for i in range(len(example.input_ids))]
        for part, (shared, rest) in enumerate(example.branches, 1):
            places += [(number, part, shared + i, shared) for i in range(len(rest.input_ids))]
    return places + [(len(row), 0, i, 0) for i in range(length - len(places))]


@THOROUGH
@given(_rows())
def test_each_token_sees_its_own_example_as_if_it_stood_alone(made):
    rows, length = made
    batch = collate(rows, length, 0)
    places = [_places(row, length) for row in rows]
    assert batch["position_ids"].tolist() == [[position for _, _, position, _ in row] for row in places]
    if not any(example.branches for row in rows for example in row):
        assert "attention_mask" not in batch
        return
    mask = batch["attention_mask"]
    assert mask.shape == (len(rows), 1, length, length)
    for row, of_row in zip(mask[:, 0], places, strict=True):
        for query, (mine, part, position, shared) in enumerate(of_row):
            seen = {
                key
                for key, (its, its_part, its_position, _) in enumerate(of_row)
                if its == mine
                and ((its_part == part and its_position <= position) or (its_part == 0 and its_position < shared))
            }
            values = row[query].tolist()
            assert {key for key, value in enumerate(values) if value == 0.0} == seen
            assert all(value == torch.finfo(torch.float32).min for key, value in enumerate(values) if key not in seen)
            # What it sees are its example's positions up to its own, each once: all that it would see alone.
            assert sorted(of_row[key][2] for key in seen) == list(range(position + 1))


# --- loss and gradients


def _steps(seed, begin=30, count=4):
    """Examples as a trajectory's steps make them: prompts that begin alike, each with a target of its own."""
    rng = random.Random(seed)

    def draw(least, most):
        return [rng.randrange(1, 300) for _ in range(rng.randrange(least, most))]

    whole, made = [rng.randrange(1, 300) for _ in range(begin)], []
    for _ in range(count):
        prompt, target = whole[: rng.randrange(SHORTEST + 2, begin)] + draw(1, 5), draw(1, 6)
        made.append(Example(prompt + target, [IGNORED] * len(prompt) + target))
    return made


@pytest.fixture(scope="module")
def mixed():
    """Separate examples, and rows of the same ones joined: several trees in a row, plain documents, padding."""
    trees = [_steps(seed) for seed in range(3)]
    rng = random.Random(9)
    plain = [document([rng.randrange(1, 300) for _ in range(size)]) for size in (9, 14, 40)]
    joined = [example for steps in trees for example in share(steps, LENGTH)] + plain
    rows = pack(joined, LENGTH, range(len(joined)))
    branched = [sum(bool(example.branches) for example in row) for row in rows]
    assert max(branched) >= 2, "no row with two trees"
    assert any(0 < trees < len(row) for trees, row in zip(branched, rows, strict=True)), "no row with both"
    assert any(sum(example.size for example in row) < LENGTH for row in rows), "no padding"
    return [example for steps in trees for example in steps] + plain, rows


def _loss_alone(model, examples):
    """The mean over all labels, each example by itself: no row, no mask, no positions."""
    losses = []
    for example in examples:
        logs = model(input_ids=torch.tensor([list(example.input_ids)])).logits[0].log_softmax(-1)
        losses += [-logs[i - 1, label] for i, label in enumerate(example.labels) if label != IGNORED]
    return torch.stack(losses).mean()


def _gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def _batch(model, rows):
    """A batch whose mask is of the model's type: stages train in float32, for which it is made.

    torch 2.13 reads a float32 mask beside float64 queries on the CPU as if it were float64, without a word.
    """
    batch = collate(rows, LENGTH, 0)
    return batch | {"attention_mask": batch["attention_mask"].to(model.dtype)}


def _both(model, mixed):
    examples, rows = mixed
    alone, together = _loss_alone(model, examples), causal_lm(model, _batch(model, rows))
    expected, found = _gradients(model, alone), _gradients(model, together)
    assert min(gradient.abs().max() for gradient in expected.values()) > 1e-4, "a parameter that does not matter here"
    return alone.item(), together.item(), expected, found


@attentions
def test_loss_and_gradients_are_those_of_the_examples_alone(architecture, attention, mixed):
    """In float64, of which transformers leaves some: norms, rotary angles and eager's softmax are computed in float32.

    With sdpa that rounds the same numbers in the same way on both sides, so the loss agrees to float64. Gradients add
    up over examples in another order before a norm rounds them, and eager's softmax sums over rows of other lengths:
    both leave an error of float32, 6e-8 of values below 1, a few of which add up.
    """
    model = toy_model(architecture).double()
    model.set_attn_implementation(attention)
    alone, together, expected, found = _both(model, mixed)
    assert together == pytest.approx(alone, abs=1e-13 if attention == "sdpa" else 2e-7)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=5e-7, msg=name)


@pytest.mark.parametrize("architecture", [a for a, kind in ATTENTIONS if kind == "sdpa"])
def test_with_norms_in_float64_too_the_gradients_agree_to_float64(architecture, mixed):
    ids = torch.tensor([mixed[0][0].input_ids])
    model, plain = norms_in_float64(toy_model(architecture).double()), toy_model(architecture).double()
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, plain(ids).logits, rtol=0, atol=1e-4)  # still the same model
    model.set_attn_implementation("sdpa")
    alone, together, expected, found = _both(model, mixed)
    assert together == pytest.approx(alone, abs=1e-13)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-13, msg=name)


@attentions
def test_under_autocast_to_bfloat16_the_mask_still_masks(architecture, attention, mixed):
    """As stages train by default. The mask's smallest float32 is minus infinity in bfloat16, which must not end in
    nan.
    """
    model = toy_model(architecture)
    model.set_attn_implementation(attention)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        alone, together, expected, found = _both(model, mixed)
    assert together == pytest.approx(alone, abs=0.02)
    for name, gradient in expected.items():
        scale = gradient.abs().max().item()
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=0.05 * scale + 1e-3, msg=name)


# --- whom it is for


def _wrong_by(model, mixed) -> float:
    """How far the joined examples' loss is from theirs alone."""
    examples, rows = mixed
    with torch.no_grad():
        return abs(_loss_alone(model, examples).item() - causal_lm(model, _batch(model, rows)).item())


@pytest.mark.parametrize("architecture", ["mistral", "gemma2"])
def test_a_model_with_a_sliding_window_is_not_shared_and_would_learn_something_else_if_it_were(architecture, mixed):
    model = toy_model(architecture)
    assert model.config.sliding_window == 8
    assert sharing(model)
    assert _wrong_by(model, mixed) > 1e-3


TOY = {
    "vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": 256, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0,
    "initializer_range": 0.2,
}  # fmt: skip
WINDOW = 8
SEEING = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "image_size": 28, "patch_size": 14}  # fmt: skip
OTHERS = {
    "gpt2": ("gpt2", TOY),
    "gpt_neox": ("gpt_neox", TOY),
    "phi3": ("phi3", TOY | {"sliding_window": None}),
    "phi3 with a window": ("phi3", TOY | {"sliding_window": WINDOW}),
    "qwen3 with a window in some layers": (
        "qwen3",
        TOY | {"head_dim": 16, "use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 2},
    ),
    "gemma3, its window in the text's configuration": (
        "gemma3",
        {"text_config": TOY | {"head_dim": 16, "sliding_window": WINDOW}, "vision_config": SEEING},
    ),
    "llama4, attention in chunks": (
        "llama4_text",
        TOY | {"head_dim": 16, "attention_chunk_size": WINDOW, "num_local_experts": 2, "intermediate_size_mlp": 48},
    ),
    "gpt_neo, a window of another name": (
        "gpt_neo",
        TOY | {"attention_types": [[["global", "local"], 2]], "window_size": WINDOW, "num_layers": 4, "num_heads": 2},
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_whoever_may_share_computes_the_same_and_whoever_may_not_would_not(name, mixed):
    """Of models that packing is right for; each a kind of attention of its own."""
    kind, options = OTHERS[name]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **options)).eval()
    examples, _ = mixed
    packed = pack(examples, LENGTH, range(len(examples)))
    with torch.no_grad():
        alone = _loss_alone(model, examples).item()
        assert causal_lm(model, collate(packed, LENGTH, 0)).item() == pytest.approx(alone, abs=1e-5)
    wrong = _wrong_by(model, mixed)
    assert wrong < 1e-5 or wrong > 1e-4, "too close to tell"
    assert (not sharing(model)) == (wrong < 1e-5), f"shared, the loss differs by {wrong:.4f}"
