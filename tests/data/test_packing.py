"""Packing: no document sees another, padding counts for nothing, and every epoch holds every token once.

The references are each document run alone through the model, and a mean over log-probabilities taken by hand.

Run: python -m pytest tests/data/test_packing.py
"""

import random
from itertools import islice

import pytest
import torch

from adaptbench.data.packing import IGNORED, Example, Packed, collate, cut, document, pack
from adaptbench.errors import AdaptbenchError
from adaptbench.train.objectives import causal_lm
from tests.support.models import ARCHITECTURES, toy_model

LENGTH = 32
LENGTHS = (20, 9, 3, 32, 5, 2, 17, 1, 11)  # rows: full with and without padding; documents beyond the window of 8


def _documents(lengths, seed=0):
    rng = random.Random(seed)
    return [[rng.randrange(1, 300) for _ in range(length)] for length in lengths]


def _rows(documents):
    return pack([document(ids) for ids in documents], LENGTH, range(len(documents)))


class _Recorder:
    """Stands between the objective and the model and keeps the logits, (positions, vocabulary)."""

    def __init__(self, model):
        self.model = model
        self.get_output_embeddings = model.get_output_embeddings

    def __call__(self, **inputs):
        output = self.model(**inputs)
        self.logits = output.logits.detach()
        return output


# transformers refuses sdpa for Gemma 2: torch's kernel has no soft-capping of attention scores.
ATTENTIONS = [(a, kind) for a in ARCHITECTURES for kind in ("eager", "sdpa") if (a, kind) != ("gemma2", "sdpa")]


@pytest.mark.parametrize(("architecture", "attention"), ATTENTIONS)
def test_packed_logits_are_those_of_each_document_alone(architecture, attention):
    model = toy_model(architecture)
    model.set_attn_implementation(attention)
    rows = _rows(_documents(LENGTHS))
    recorder = _Recorder(model)
    with torch.no_grad():
        causal_lm(recorder, collate(rows, LENGTH, 0))
        documents = [torch.tensor([list(example.input_ids)]) for row in rows for example in row]
        # The objective asks for what predicts a label: every position but a document's last.
        alone = torch.cat([model(input_ids=ids).logits[0, :-1] for ids in documents])
    assert len(documents) == len(LENGTHS)
    torch.testing.assert_close(recorder.logits, alone, rtol=0, atol=2e-5)


@pytest.mark.parametrize("architecture", ["mistral", "gemma2"])
def test_the_toy_documents_are_long_enough_for_the_sliding_window_to_matter(architecture):
    ids = torch.tensor(_documents([20]))
    windowed, whole = toy_model(architecture), toy_model(architecture)
    whole.config.sliding_window = 1000
    for module in whole.modules():
        if getattr(module, "sliding_window", None):
            module.sliding_window = 1000
    with torch.no_grad():
        difference = (windowed(ids).logits - whole(ids).logits).abs().amax(dim=(0, 2))
    assert difference[:8].max() < 1e-5
    assert difference[8:].max() > 1e-2


def _mean_alone(model, rows):
    """The mean loss in float64 over every labelled token, each document alone, labels shifted by hand."""
    losses = []
    for row in rows:
        for example in row:
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([list(example.input_ids)])).logits[0].double()
            chances = logits - logits.exp().sum(-1, keepdim=True).log()
            losses += [
                -chances[i - 1, example.labels[i]].item()
                for i in range(1, len(example.labels))
                if example.labels[i] != IGNORED
            ]
    return sum(losses) / len(losses), len(losses)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_loss_is_the_plain_mean_over_the_labels_whatever_the_padding(architecture):
    model = toy_model(architecture)
    rows = _rows(_documents([20, 9, 2, 13, 7]))
    expected, labels = _mean_alone(model, rows)
    assert labels == 19 + 8 + 1 + 12 + 6
    for length, pad_id in ((LENGTH, 0), (LENGTH, 299), (LENGTH + 13, 7)):
        with torch.no_grad():
            assert causal_lm(model, collate(rows, length, pad_id)).item() == pytest.approx(expected, abs=2e-6)


def test_tokens_that_are_only_context_are_not_trained():
    model = toy_model("qwen3")
    prompted = [Example(ids, [IGNORED] * 6 + ids[6:]) for ids in _documents([10, 15, 20])]
    rows = pack(prompted, LENGTH, range(3))
    expected, labels = _mean_alone(model, rows)
    assert labels == 4 + 9 + 14
    with torch.no_grad():
        assert causal_lm(model, collate(rows, LENGTH, 0)).item() == pytest.approx(expected, abs=2e-6)


def test_a_batch_ends_in_padding_without_labels_and_restarts_positions_with_every_document():
    batch = collate(_rows(_documents([5, 3])), 12, 299)
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 4, 0, 1, 2, 0, 1, 2, 3]]
    assert batch["input_ids"][0, 8:].tolist() == [299] * 4
    assert batch["labels"][0, [0, 5, 8, 9, 10, 11]].tolist() == [IGNORED] * 6
    assert batch["labels"][0, 1:5].tolist() == batch["input_ids"][0, 1:5].tolist()


@pytest.mark.parametrize("length", [8, 10, 33])
def test_every_token_but_each_pieces_first_is_trained_exactly_once_an_epoch(length):
    # Every token is a number of its own, so that it can be found again.
    sizes, numbers = (
        [1, 2, length - 1, length, length + 1, 2 * length, 3 * length + 1, 3 * length + 5],
        iter(range(10**6)),
    )
    documents = [list(islice(numbers, size)) for size in sizes]
    first_of_piece = {ids[i] for ids in documents for i in range(0, len(ids), length)}
    expected = sorted(token for ids in documents for token in ids if token not in first_of_piece)
    packed = Packed([document(ids) for ids in documents], length, seed=0)
    for epoch in range(3):
        rows = packed.epoch(epoch)
        batch = collate(rows, length, 0)
        assert batch["input_ids"].shape == (len(rows), length)
        labels = batch["labels"][batch["labels"] != IGNORED]
        assert sorted(labels.tolist()) == expected
        # A label stands at its own token, and the token before it is its document's.
        places = (batch["labels"] != IGNORED).nonzero().tolist()
        assert all(batch["input_ids"][r, i] == batch["labels"][r, i] for r, i in places)
        assert all(batch["input_ids"][r, i - 1] == batch["labels"][r, i] - 1 for r, i in places)


def test_pieces_of_a_document_keep_its_order_and_its_context_labels():
    ids = list(range(100, 123))
    example = Example(ids, [IGNORED] * 12 + ids[12:])
    pieces = cut([example], 10)
    # The first ten tokens are context alone, so there is nothing to train on in them.
    assert [list(piece.input_ids) for piece in pieces] == [ids[10:20], ids[20:]]
    assert [list(piece.labels) for piece in pieces] == [
        [IGNORED, IGNORED, *ids[12:20]],
        [IGNORED, *ids[21:]],
    ]


def _packed(seed=0, count=23):
    rng = random.Random(f"sizes{seed}")
    return Packed([document([i] * rng.randrange(2, 14)) for i in range(count)], 16, seed)


def test_each_epoch_holds_every_example_exactly_once_in_an_order_of_its_own():
    packed = _packed()
    orders = []
    for epoch in range(4):
        rows = packed.epoch(epoch)
        assert all(sum(len(example.input_ids) for example in row) <= 16 for row in rows)
        orders.append([example.input_ids[0] for row in rows for example in row])
        assert sorted(orders[-1]) == list(range(23))
    assert len({tuple(order) for order in orders}) == 4
    assert orders[0] != [example.input_ids[0] for row in _packed(seed=1).epoch(0) for example in row]
    assert packed.epoch(2) == _packed().epoch(2)


@pytest.mark.parametrize("size", [1, 3, 5, 40])
def test_batches_from_k_on_are_the_batches_after_skipping_k(size):
    """Also at and across the ends of epochs, and where one batch is longer than an epoch."""
    packed = _packed()
    rows_in_three_epochs = sum(len(packed.epoch(epoch)) for epoch in range(3))
    skips = rows_in_three_epochs // size + 2
    whole = list(islice(packed.batches(size), skips + 3))
    in_turn = [row for epoch in range(200) for row in packed.epoch(epoch)][: (skips + 3) * size]
    assert [row for batch in whole for row in batch] == in_turn
    assert all(len(batch) == size for batch in whole)
    for first in range(skips + 1):
        assert list(islice(packed.batches(size, first=first), 3)) == whole[first : first + 3], first


@pytest.mark.parametrize(
    "examples", [[], [document([5])], [Example([1, 2, 3], [IGNORED] * 3)]], ids=["none", "one-token", "only-context"]
)
def test_nothing_to_train_on_is_said_in_one_line(examples):
    with pytest.raises(AdaptbenchError, match=r"^no example has a token to train on$"):
        Packed(examples, 16, 0)
