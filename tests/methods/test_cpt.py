"""Continual pre-training: which documents in which share, and the L2-SP penalty against its formula.

Run: python -m pytest tests/methods/test_cpt.py
"""

from collections import Counter

import pytest
import torch

from adaptbench.config import training
from adaptbench.config.training import Training
from adaptbench.contracts import StageContext
from adaptbench.data.packing import IGNORED, Packed, collate, document
from adaptbench.io.jsonl import write_jsonl
from adaptbench.methods.curricula import cpt
from adaptbench.train import loop, objectives
from tests.support.models import toy_model
from tests.support.presets import SENTENCES

CONTEXT = StageContext(0, {})

DOMAIN = [f"Domain text {i}: {' '.join(SENTENCES[: i % 4 + 1])}" for i in range(30)]
GENERAL = [f"General text {i} of the corpus." + " And more." * (i % 7) for i in range(400)]


def _examples(tmp_path, tokenizer, *, replay, general=GENERAL, seed=0):
    """The curriculum's examples as texts, read back with the tokenizer."""
    write_jsonl(tmp_path / "domain/splits/train.jsonl", ({"text": text} for text in DOMAIN))
    write_jsonl(tmp_path / "general/splits/replay.jsonl", ({"text": text} for text in general))
    cfg = cpt.Config(replay=replay)
    (phase,) = cpt.phases(cfg, "domain", Training(steps=1))
    context = StageContext(seed, {name: tmp_path / name for name in phase.data}, tokenizer, 32)
    return cpt.examples(cfg, phase.name, None, context)


def _texts(examples, tokenizer):
    return [tokenizer.decode(example.input_ids, skip_special_tokens=True) for example in examples]


def test_without_replay_it_is_every_document_once_and_the_general_data_are_not_asked_for(tmp_path, tokenizer):
    examples = _examples(tmp_path, tokenizer, replay=0.0)
    assert _texts(examples, tokenizer) == DOMAIN
    end = tokenizer.eos_token_id
    for example in examples:
        ids = list(example.input_ids)
        assert (ids[0], ids[-1], ids[1:-1].count(end)) == (end, end, 0)
        assert list(example.labels) == [IGNORED, *ids[1:]]
    assert cpt.phases(cpt.Config(), "domain", Training(steps=1))[0].data == ("domain",)
    assert cpt.phases(cpt.Config(replay=0.1), "domain", Training(steps=1))[0].data == ("domain", "general")


@pytest.mark.parametrize("corpus", [400, 3], ids=["large", "too-small"])
@pytest.mark.parametrize("replay", [0.1, 0.5, 0.9])
def test_the_share_of_replayed_tokens_is_the_asked_one_within_a_document(tmp_path, tokenizer, replay, corpus):
    general = GENERAL[:corpus]
    examples = _examples(tmp_path, tokenizer, replay=replay, general=general)
    texts = _texts(examples, tokenizer)
    assert Counter(text for text in texts if text in set(DOMAIN)) == Counter(DOMAIN), "the domain's text in full, once"
    told = Counter(text for text in texts if text in set(general))
    assert told.total() == len(texts) - len(DOMAIN)
    total = sum(len(example.input_ids) for example in examples)
    replayed = sum(len(e.input_ids) for e, text in zip(examples, texts, strict=True) if text in told)
    longest = max(len(example.input_ids) for example in examples)
    # One document more or less changes both the part and the whole.
    assert (replayed - longest) / (total - longest) < replay <= replayed / total
    # The corpus is told evenly: no document a second time before every other was told once.
    counts = [told[text] for text in general]
    assert max(counts) - min(counts) <= 1
    if corpus == 3 and replay >= 0.5:
        assert min(counts) > 1, "the corpus was not too small for its share"


def test_the_replayed_documents_depend_on_the_seed_alone(tmp_path, tokenizer):
    one, again, other = (_texts(_examples(tmp_path, tokenizer, replay=0.3, seed=seed), tokenizer) for seed in (0, 0, 1))
    assert one == again
    assert one != other


# --- L2-SP


def _batch():
    rows = [[document(list(range(3, 23)))], [document(list(range(100, 131)))]]
    return collate(rows, 32, 0)


def _moved(model, scale=0.05):
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(scale * torch.randn(p.shape, generator=generator))


def test_the_objective_is_cross_entropy_plus_lambda_times_the_divergence_from_the_start():
    weight = 0.7
    model, start = toy_model("qwen3", layers=2), toy_model("qwen3", layers=2)
    objective = cpt.objective(cpt.Config(kl=weight), "tune", model, CONTEXT)
    batch = _batch()
    assert objective(model, batch).item() == pytest.approx(objectives.causal_lm(model, batch).item(), rel=1e-6)
    _moved(model)
    inputs = {"input_ids": batch["input_ids"], "position_ids": batch["position_ids"]}
    p, q = (one(**inputs).logits.double().softmax(-1) for one in (start, model))
    total, count = 0.0, 0
    for row, column in zip(*torch.where(batch["labels"][:, 1:] >= 0), strict=True):
        total += float((p[row, column] * (p[row, column] / q[row, column]).log()).sum())
        count += 1
    assert total / count > 0.01
    assert objective(model, batch).item() == pytest.approx(
        objectives.causal_lm(model, batch).item() + weight * total / count, rel=1e-5
    )
    # The start stays where it was while the model moves, and receives no gradient.
    before = objective(model, batch).item()
    objective(model, batch).backward()
    assert objective(model, batch).item() == before
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("options", [{"kl": 0.5}, {"kl": 0.5, "l2_sp": 0.1}], ids=["kl", "both"])
def test_the_copy_that_the_divergence_is_from_is_named_for_its_cost(options):
    objective = cpt.objective(cpt.Config(**options), "tune", toy_model("qwen3", layers=2), CONTEXT)
    (start,) = objective.forward_only
    assert start.num_parameters() == toy_model("qwen3", layers=2).num_parameters()
    assert not any(p.requires_grad for p in start.parameters())


@pytest.mark.parametrize("frozen", [False, True], ids=["all", "some-frozen"])
@pytest.mark.parametrize("architecture", ["qwen3", "gemma"], ids=["untied", "tied"])
def test_the_objective_is_cross_entropy_plus_lambda_times_the_squared_distance(architecture, frozen):
    weight = 0.03
    model = toy_model(architecture, layers=2)
    if frozen:
        model.model.layers[0].requires_grad_(False)
    start = {name: p.detach().double().clone() for name, p in model.named_parameters()}
    objective = cpt.objective(cpt.Config(l2_sp=weight), "tune", model, CONTEXT)
    batch = _batch()
    assert objective(model, batch).item() == objectives.causal_lm(model, batch).item(), "no distance at the start"
    _moved(model)
    distance = {
        name: p.detach().double() - start[name] for name, p in model.named_parameters() if p.requires_grad
    }  # frozen weights are not pulled
    penalty = weight * sum(float((d * d).sum()) for d in distance.values())
    assert penalty > 0.1
    loss, plain = objective(model, batch), objectives.causal_lm(model, batch)
    assert loss.item() == pytest.approx(plain.item() + penalty, rel=1e-5)

    plain.backward()
    of_plain = {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}
    model.zero_grad()
    loss.backward()
    for name, p in model.named_parameters():
        if not p.requires_grad:
            assert p.grad is None
            continue
        expected = of_plain[name].double() + 2 * weight * distance[name]
        torch.testing.assert_close(p.grad.double(), expected, rtol=1e-5, atol=1e-7, msg=name)
        assert (p.grad - of_plain[name]).abs().max() > 1e-3


def test_without_the_penalty_the_objective_is_the_loops_own():
    assert cpt.objective(cpt.Config(), "tune", toy_model("qwen3", layers=1), CONTEXT) is objectives.causal_lm


def test_the_penalty_counts_once_a_step_however_the_batch_is_cut(tmp_path):
    data = Packed([document(list(range(i, i + 5 + 3 * (i % 8)))) for i in range(1, 60)], 32, 0)
    losses = []
    for micro in (None, 1):
        model = toy_model("qwen3", layers=2)
        objective = cpt.objective(cpt.Config(l2_sp=0.5), "tune", model, CONTEXT)
        _moved(model)
        options = training.Training(
            steps=2, batch_size=4, micro_batch_size=micro, sequence_length=32, precision="float32", schedule="constant"
        )
        optimizers = [torch.optim.SGD(model.parameters(), lr=0.01)]
        out = tmp_path / str(micro)
        losses.append(loop.train(model, optimizers, data, objective, options, work=out, pad_id=0, seed=0).final_loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_the_penalty_needs_a_tuner_that_moves_the_base():
    class Run:
        track = "domain"

        class tuner:
            kind, moves_base_weights = "lora", False

    assert cpt.Config(l2_sp=0.1).problem(Run, None).startswith("l2_sp: needs a tuner that moves the base's own weights")
    assert cpt.Config().problem(Run, None) == ""
    Run.tuner.moves_base_weights = True
    assert cpt.Config(l2_sp=0.1).problem(Run, None) == ""
