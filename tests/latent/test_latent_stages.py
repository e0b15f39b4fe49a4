"""What the curricula of the reasoning track hand to their stages, and how rows of frozen embeddings train.

Run: python -m pytest tests/latent/test_latent_stages.py
"""

import copy
import itertools
import json
import random
from dataclasses import replace

import pytest
import torch

from adaptbench.config.training import Training, TrainingOverrides, merge_training
from adaptbench.contracts import StageContext
from adaptbench.data.packing import Packed
from adaptbench.latent import geometry, insertion, stage
from adaptbench.latent.insertion import Insertion, confidences
from adaptbench.methods.curricula import coconut, cot, cot_matched, cot_staged, lt_hidden, lt_tuning, pause
from adaptbench.model import parameters
from adaptbench.train.optimizers import counted_steps, default_optimizers
from tests.support.models import toy_model

RUN = Training(steps=100, learning_rate=0.01, batch_size=2, sequence_length=64)
LATER = {
    "hidden_training": TrainingOverrides(steps=7),
    "fused_training": TrainingOverrides(steps=11, learning_rate=0.5),
}


@pytest.fixture
def context(tmp_path, tokenizer):
    """A stage's context with forty problems."""
    (tmp_path / "data/splits").mkdir(parents=True)
    rng = random.Random(0)
    lines = [
        {"prompt": f"Question: {i}\nAnswer:", "steps": ["1 + 1 = 2"] * rng.randint(1, 3), "target": str(i % 7)}
        for i in range(40)
    ]
    (tmp_path / "data/splits/train.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    return StageContext(3, {"reasoning": tmp_path / "data"}, copy.deepcopy(tokenizer), 64, out=tmp_path)


@pytest.mark.parametrize(
    ("method", "names"),
    [
        (lt_hidden, ["cot", "hidden"]),
        (lt_tuning, ["cot", "hidden", "fused"]),
        (pause, ["cot", "hidden", "fused"]),
        (cot_staged, ["cot", "second", "third"]),
    ],
)
def test_later_stages_have_the_ratio_s_rate_and_their_own_options(method, names):
    own = {name: value for name, value in LATER.items() if name in method.Config.model_fields}
    made = method.phases(method.Config(later_rate_ratio=0.1, **own), "reasoning", RUN)
    assert [one.name for one in made] == names
    assert [one.parent for one in made[1:]] == names[:-1]
    assert made[0].training == {}
    assert made[0].curriculum == cot.Config()
    assert made[1].training == {"learning_rate": pytest.approx(0.001), "steps": 7}
    if len(made) > 2:
        assert made[2].training == {"learning_rate": 0.5, "steps": 11}


def test_coconut_has_a_stage_for_each_replaced_step_and_one_without_steps():
    made = coconut.phases(coconut.Config(stages=2, later_rate_ratio=0.1), "reasoning", RUN)
    assert [one.name for one in made] == ["cot", "latent1", "latent2", "all"]
    assert all(one.training == {"learning_rate": pytest.approx(0.001)} for one in made[1:])


@pytest.mark.parametrize(
    ("each", "last", "first", "end"),
    [
        ({"epochs": 3.0}, {"epochs": 13.0}, {"epochs": 3.0}, {"epochs": 13.0}),
        ({"epochs": 3.0}, {"steps": 90}, {"epochs": 3.0}, {"steps": 90}),
        ({"steps": 7, "warmup_ratio": 0.1}, {"epochs": 2.0}, {"steps": 7, "warmup_ratio": 0.1},
         {"epochs": 2.0, "warmup_ratio": 0.1}),
        ({"steps": 7, "learning_rate": 0.5}, {"learning_rate": 0.2}, {"steps": 7, "learning_rate": 0.5},
         {"steps": 7, "learning_rate": 0.2}),
        ({}, {"steps": 90}, {}, {"steps": 90}),
    ],
)  # fmt: skip
def test_coconuts_last_stage_has_its_own_options_over_those_of_all(each, last, first, end):
    own = {"latent_training": TrainingOverrides(**each), "last_training": TrainingOverrides(**last)}
    made = coconut.phases(coconut.Config(stages=2, **own), "reasoning", RUN)
    assert [one.training for one in made] == [{}] + [
        {"learning_rate": 0.01, **options} for options in (first, first, end)
    ]
    for one in made:
        merge_training(RUN, one.training)


def test_the_matched_run_takes_all_three_stages_steps(context):
    config = cot_matched.Config(**LATER)
    assert cot_matched.steps(config, "cot", RUN, None, context) == 100 + 7 + 11
    by_epochs = cot_matched.Config(
        hidden_training=TrainingOverrides(epochs=2), fused_training=TrainingOverrides(epochs=3)
    )
    once = counted_steps(
        RUN.model_copy(update={"steps": None, "epochs": 1.0}),
        lambda: cot.examples(cot.Config(), "cot", None, context),
        context,
    )
    found = cot_matched.steps(by_epochs, "cot", RUN, None, context)
    assert abs(found - (100 + 5 * once)) <= 2


@pytest.mark.parametrize(("method", "phase"), [(lt_hidden, "hidden"), (lt_tuning, "fused"), (pause, "fused")])
def test_batches_hold_the_same_problems_with_and_without_latents(context, method, phase):
    model = toy_model("llama", vocabulary=len(context.tokenizer))
    (latent,) = lt_hidden.extend(lt_hidden.Config(), "hidden", model, context.tokenizer)
    always = Insertion(tau=0.99, budget=16, once=1.0, twice=0.5)
    config = method.Config(**{phase: always})
    with_latents = method.examples(config, phase, model, context)
    plain = cot.examples(cot.Config(), "cot", None, context)
    assert any(latent in one.input_ids for one in with_latents)
    streams = (Packed(examples, 64, 3).batches(4) for examples in (with_latents, plain))
    for rows, others in itertools.islice(zip(*streams, strict=False), 8):
        without = [[[t for t in one.input_ids if t != latent] for one in row] for row in rows]
        assert without == [[list(one.input_ids) for one in row] for row in others]
    batch = method.collate(config, phase, context)(rows, 64, context.tokenizer.pad_token_id)
    assert batch["input_ids"].shape[0] == sum(map(len, rows)), "a sample a row"


@pytest.mark.parametrize(("method", "phase"), [(lt_hidden, "hidden"), (lt_tuning, "fused"), (pause, "fused")])
@pytest.mark.parametrize("rows", [1, 5, 1000])
def test_only_what_a_stage_reads_is_looked_at(context, method, phase, rows, monkeypatch):
    """The rows that it reads are those that it would read if every sample had been looked at."""
    looked = []

    def seen(model, examples, *others):
        looked.append(len(examples))
        return confidences(model, examples, *others)

    monkeypatch.setattr(insertion, "confidences", seen)
    model = toy_model("llama", vocabulary=len(context.tokenizer))
    (latent,) = lt_hidden.extend(lt_hidden.Config(), "hidden", model, context.tokenizer)
    config = method.Config(**{phase: Insertion(tau=0.99, budget=16, once=0.7, twice=0.5)})
    every, some = (
        method.examples(config, phase, model, replace(context, rows=count, out=context.out / str(count)))
        for count in (None, rows)
    )
    streams = [
        itertools.islice(itertools.chain.from_iterable(Packed(one, 64, 3).batches(1)), rows) for one in (every, some)
    ]
    (expected, ours) = (list(stream) for stream in streams)
    assert ours == expected
    read = sum({tuple(one.input_ids): 1 for row in ours for one in row}.values())
    assert looked == [40, read]
    record = json.loads((context.out / str(rows) / stage.INSERTION).read_text())
    assert record["samples"] == read
    assert record["latents"] == sum(one.input_ids.count(latent) for one in some) > 0
    assert (read < 40) == (rows < 40)


def test_what_decodes_is_what_was_trained():
    fused = lt_tuning.decode(lt_tuning.Config(alpha=0.3, nucleus="top_k"), "fused")
    assert fused["thinks"]
    assert (fused["fusion"]["alpha"], fused["fusion"]["nucleus"]) == (0.3, "top_k")
    assert lt_hidden.decode(lt_hidden.Config(), "hidden")["fusion"]["alpha"] == 1.0
    assert pause.decode(pause.Config(), "fused")["fusion"] is None
    assert "thinks" not in cot_staged.decode(cot_staged.Config(), "third")
    unsure = {"latent_label": "ignore", "trigger": "confidence"}
    assert lt_tuning.decode(lt_tuning.Config(**unsure), "fused")["tau"] == lt_tuning.Config().fused.tau
    assert lt_hidden.decode(lt_hidden.Config(**unsure), "hidden")["tau"] == lt_hidden.Config().hidden.tau


def test_the_third_stage_trains_through_fused_latents_and_the_second_through_hidden_ones(context, monkeypatch):
    seen = {}
    monkeypatch.setattr(
        "adaptbench.latent.objective.latent_loss", lambda forward, fusion, latent_id: seen.setdefault("f", fusion)
    )
    model = toy_model("llama", vocabulary=len(context.tokenizer))
    lt_tuning.objective(lt_tuning.Config(alpha=0.3, detach=True), "fused", model, context)
    assert (seen["f"].alpha, seen.pop("f").detach) == (0.3, True)
    lt_hidden.objective(lt_hidden.Config(), "hidden", model, context)
    assert (seen["f"].alpha, seen.pop("f").detach) == (1.0, False)


@pytest.mark.parametrize("tied", [True, False])
def test_of_frozen_embeddings_only_new_rows_move_even_under_weight_decay(tied):
    model = toy_model("qwen3")
    if tied:
        model.config.tie_word_embeddings = True
        model.tie_weights()
    model.requires_grad_(False)
    model.model.layers[0].requires_grad_(True)
    layer = sum(p.numel() for p in model.model.layers[0].parameters())
    parameters.train_rows(model, (5, 299))
    assert parameters.parameter_counts(model)["trained"] == layer + (1 if tied else 2) * 2 * 32
    tables = {
        id(module.weight): module.weight for module in (model.get_input_embeddings(), model.get_output_embeddings())
    }
    before = {key: table.detach().clone() for key, table in tables.items()}
    (optimizer,) = default_optimizers(model, Training(steps=3, learning_rate=0.1, weight_decay=0.5))
    for _ in range(3):
        logits = model(input_ids=torch.tensor([[1, 5, 299, 7, 299]])).logits
        torch.nn.functional.cross_entropy(logits[0, :-1], torch.tensor([5, 299, 7, 299])).backward()
        optimizer.step()
        optimizer.zero_grad()
    for key, table in tables.items():
        moved = (table != before[key]).any(1).nonzero()[:, 0].tolist()
        assert moved == [5, 299]


def test_cosine_rank_and_axes_are_the_textbook_s():
    vectors = torch.randn(7, 4, generator=torch.Generator().manual_seed(0)).double()
    pairs = [(i, j) for i in range(7) for j in range(i)]
    cosines = [torch.nn.functional.cosine_similarity(vectors[i], vectors[j], dim=0) for i, j in pairs]
    assert geometry.mean_cosine(vectors) == pytest.approx(float(sum(cosines)) / len(pairs))
    values = torch.linalg.svdvals(vectors)
    shares = values / values.sum()
    assert geometry.effective_rank(vectors) == pytest.approx(float(torch.exp(-(shares * shares.log()).sum())))
    assert geometry.effective_rank(torch.ones(5, 3).double()) == pytest.approx(1.0)
    assert geometry.effective_rank(torch.eye(4).double()) == pytest.approx(4.0)
    points, variance = geometry.principal_axes(vectors)
    values, axes = torch.linalg.eigh(torch.cov(vectors.T))
    by_hand = (vectors - vectors.mean(0)) @ axes[:, [-1, -2]]
    assert torch.allclose(points.abs(), by_hand.abs(), atol=1e-9)
    assert variance == pytest.approx((values[[-1, -2]] / values.sum()).tolist())
