"""Samples and stages of the reasoning track: what is learned, what is refused, what a stage leaves behind.

Run: python -m pytest tests/latent/test_reasoning_samples.py
"""

import copy
import json

import pytest

from adaptbench.config import load
from adaptbench.contracts import StageContext
from adaptbench.data.packing import IGNORED
from adaptbench.errors import AdaptbenchError
from adaptbench.latent import samples, stage, text
from adaptbench.methods.curricula import coconut, lt_hidden, lt_tuning, no_cot, pause
from adaptbench.model import storage
from tests.support.models import toy_model

GOOD = {"prompt": text.prompt("2 + 3 - 1"), "steps": ["2 + 3 = 5", "5 - 1 = 4"], "target": "4"}
LONGEST = 120


@pytest.fixture
def context(tmp_path, tokenizer):
    """Makes a stage's context whose training problems are those given."""

    def make(*problems, length=LONGEST):
        (tmp_path / "data/splits").mkdir(parents=True, exist_ok=True)
        lines = "".join(json.dumps({**GOOD, **one}) + "\n" for one in problems)
        (tmp_path / "data/splits/train.jsonl").write_text(lines)
        (tmp_path / "out").mkdir(exist_ok=True)
        own = copy.deepcopy(tokenizer)
        return StageContext(0, {"reasoning": tmp_path / "data"}, own, length, out=tmp_path / "out")

    return make


def test_the_response_and_the_end_are_learned_and_nothing_else(context):
    made = context({})
    (example,) = samples.examples(made)
    learned = [label for label in example.labels if label != IGNORED]
    assert learned[-1] == made.tokenizer.eos_token_id
    assert made.tokenizer.decode(learned[:-1]) == " 2 + 3 = 5 5 - 1 = 4 #### 4"
    read = example.input_ids[: -len(learned)]
    assert made.tokenizer.decode(read[1:]) == GOOD["prompt"]


def test_answering_at_once_learns_the_answer_alone(context):
    made = context({})
    (example,) = no_cot.examples(no_cot.Config(), "answer", None, made)
    assert made.tokenizer.decode([i for i in example.labels if i != IGNORED][:-1]) == " #### 4"


@pytest.mark.parametrize(
    ("problem", "line"),
    [
        ({"target": " "}, "train.jsonl:2: field 'target' is empty"),
        ({"steps": "2 + 3"}, "train.jsonl:2: field 'steps' must be a list of text"),
        ({"steps": ["2 + 3", 5]}, "train.jsonl:2: field 'steps' must be a list of text"),
        ({"steps": ["2 <thinking> 3"]}, "train.jsonl:2: holds '<thinking>', which is the latent token"),
        ({"steps": ["1 + 1 = 2"] * 40}, "train.jsonl:2: takes"),
    ],
)
def test_a_sample_that_cannot_be_learned_is_one_line(context, problem, line):
    with pytest.raises(AdaptbenchError) as caught:
        samples.examples(context({}, problem))
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_sample_without_steps_answers_at_once(context):
    made = context({"steps": []})
    (example,) = samples.examples(made)
    assert made.tokenizer.decode([i for i in example.labels if i != IGNORED][:-1]) == " #### 4"


def test_a_tokenizer_that_has_the_token_is_refused(context):
    made = context({})
    model = toy_model("llama", vocabulary=len(made.tokenizer))
    made.tokenizer.add_tokens([text.LATENT])
    with pytest.raises(AdaptbenchError, match="has the token '<thinking>' already"):
        lt_hidden.extend(lt_hidden.Config(), "hidden", model, made.tokenizer)


@pytest.mark.parametrize("tied", [True, False])
def test_new_tokens_begin_as_the_mean_of_the_others(context, tied):
    made = context({})
    model = toy_model("qwen3", vocabulary=len(made.tokenizer))
    if tied:
        model.config.tie_word_embeddings = True
        model.tie_weights()
    known = len(made.tokenizer)
    before = model.get_output_embeddings().weight[:known].detach().clone()
    rows = stage.add_tokens(model, made.tokenizer)
    assert rows == (known,) == stage.added_rows(made.tokenizer)
    for table in (model.get_input_embeddings(), model.get_output_embeddings()):
        assert table.weight.shape[0] >= len(made.tokenizer)
        assert (table.weight[known] - table.weight[:known].mean(0)).abs().max() < 1e-6
    assert (model.get_output_embeddings().weight[:known] == before).all()


@pytest.mark.parametrize(
    ("method", "phase"), [(lt_hidden, "hidden"), (lt_tuning, "fused"), (pause, "hidden"), (pause, "fused")]
)
def test_a_stage_says_where_it_put_latents(context, method, phase):
    made = context({}, {"steps": ["1 + 1 = 2"] * 4})
    model = toy_model("llama", vocabulary=len(made.tokenizer))
    stage.add_tokens(model, made.tokenizer)
    latent = made.tokenizer.convert_tokens_to_ids(text.LATENT)
    inserted = method.examples(method.Config(), phase, model, made)
    plain = samples.examples(made)
    kept = json.loads((made.out / stage.INSERTION).read_text())
    assert sum(one.input_ids.count(latent) for one in inserted) > 0
    for one, before, shown in zip(inserted, plain, kept["shown"], strict=True):
        assert [token for token in one.input_ids if token != latent] == before.input_ids
        assert one.input_ids.count(latent) == sum(shown["latents"].values())
        options = getattr(method.Config(), phase)
        assert all(shown["confidence"][int(place)] < options.tau for place in shown["latents"])


def test_coconut_puts_latents_for_the_first_steps(context):
    made = context({})
    options = coconut.Config(latents_per_step=2, stages=1)
    model = toy_model("llama", vocabulary=len(made.tokenizer))
    coconut.extend(options, "latent1", model, made.tokenizer)
    latent = made.tokenizer.convert_tokens_to_ids(text.LATENT)
    for phase, learned in (("latent1", " 5 - 1 = 4 #### 4"), ("all", " #### 4")):
        (example,) = coconut.examples(options, phase, model, made)
        assert example.input_ids.count(latent) == 2
        assert latent not in example.labels
        assert made.tokenizer.decode([i for i in example.labels if i != IGNORED][:-1]) == learned


@pytest.mark.parametrize(
    ("decode", "line"),
    [
        ("{probe: zeros}", "runs.0.decode.probe: must be one of '', 'zero', 'noise' or 'shuffle'"),
        ("{budget: many}", "runs.0.decode.budget: must be a whole number"),
        ("{budget: -3}", "runs.0.decode.budget: must be >= 0"),
        ("{in_a_row: 0}", "runs.0.decode.in_a_row: must be >= 1"),
        ("{tau: 7}", "runs.0.decode.tau: must be < 1"),
        ("{trigger: foo}", "runs.0.decode.trigger: must be one of 'token', 'confidence' or 'random'"),
        ("{lead: 3}", "runs.0.decode.lead: must be text"),
        ("{beams: 3}", "runs.0.decode.beams: latent decoding has no such option"),
    ],
)
def test_ways_to_decode_that_mean_nothing_are_one_line(tmp_path, decode, line):
    assert line in _problem_of(tmp_path, "{kind: lt_tuning}", decode)


def test_a_model_without_latents_has_none_to_change(tmp_path):
    for curriculum in ("{kind: cot}", "{kind: no_cot}"):
        assert "runs.0.decode.budget: " in _problem_of(tmp_path, curriculum, "{budget: 3}")
    assert _problem_of(tmp_path, "{kind: coconut}", "{probe: zero}") == ""
    assert _problem_of(tmp_path, "{kind: lt_tuning}", "{budget: 0, tau: 0.5}") == ""


@pytest.mark.parametrize(
    ("curriculum", "line"),
    [
        ("{kind: lt_tuning, alpha: 1.5}", "runs.0.curriculum.lt_tuning.alpha: must be <= 1"),
        ("{kind: lt_tuning, alpha: -0.1}", "runs.0.curriculum.lt_tuning.alpha: must be >= 0"),
        ("{kind: lt_tuning, hidden: {tau: 1.0}}", "runs.0.curriculum.lt_tuning.hidden.tau: must be < 1"),
        ("{kind: lt_tuning, fused: {budget: 0}}", "runs.0.curriculum.lt_tuning.fused.budget: must be >= 1"),
        ("{kind: lt_tuning, latent_label: ignore}", "trigger: must not be token where latent_label is ignore"),
        ("{kind: lt_tuning, hidden_training: {steps: 4, epochs: 2}}", "hidden_training: "),
        ("{kind: cot_matched, fused_training: {schedule: constant, decay_ratio: 3}}", "fused_training"),
        ("{kind: pause, later_rate_ratio: 0}", "runs.0.curriculum.pause.later_rate_ratio: must be > 0"),
        ("{kind: coconut, latents_per_step: 0}", "runs.0.curriculum.coconut.latents_per_step: must be >= 1"),
        ("{kind: coconut, last_training: {steps: 4, epochs: 2}}", "last_training: "),
        ("{kind: coconut, forward: {iterations: 6}}", "iterations are of way: jacobi; wavefront needs none"),
        ("{kind: lt_hidden, forward: {way: naive, iterations: 6}}", "iterations are of way: jacobi; naive needs none"),
        (
            "{kind: coconut, forward: {way: jacobi, approximate: true}}",
            "approximate: set iterations of way: jacobi besides",
        ),
    ],
)
def test_options_that_mean_nothing_are_one_line(tmp_path, curriculum, line):
    assert line in _problem_of(tmp_path, curriculum)


@pytest.mark.parametrize(
    ("curriculum", "latents"),
    [
        ("kind: coconut", 6),
        ("kind: coconut, latents_per_step: 3, stages: 5", 15),
        ("kind: lt_hidden", 20),
        ("kind: lt_hidden, hidden: {twice: 0}", 10),
        ("kind: lt_tuning", 32),
        ("kind: lt_tuning, fused: {budget: 4}", 20),
    ],
)
def test_fewer_iterations_than_latents_are_asked_for_or_refused(tmp_path, curriculum, latents):
    """Each latent depends on those before it, so that so many passes are exact."""
    way = "{way: jacobi, iterations: %d%s}"
    line = (
        f"runs.0.curriculum.forward.iterations: must be >= {latents}, the latents that a sample may have; leave "
        f"it out, or set"
    )
    assert line in _problem_of(tmp_path, f"{{{curriculum}, forward: {way % (latents - 1, '')}}}")
    for enough in (way % (latents, ""), way % (2, ", approximate: true"), "{way: jacobi}", "{}"):
        assert _problem_of(tmp_path, f"{{{curriculum}, forward: {enough}}}") == ""


def test_who_puts_latents_nowhere_thinks_not_by_chance(tmp_path):
    found = _problem_of(tmp_path, "{kind: coconut}", "{trigger: random}")
    assert "runs.0.decode.trigger: must not be random; coconut puts latents at no place of their own" in found
    assert _problem_of(tmp_path, "{kind: pause}", "{trigger: random}") == ""


def _problem_of(tmp_path, curriculum, decode="{}", training="{steps: 1}"):
    """What is said of a preset with one such run; nothing if it is valid."""
    preset = tmp_path / "preset.yaml"
    preset.write_text(
        "name: tried\nseeds: [0]\ndata:\n  general: {kind: world}\n  reasoning: {kind: chains}\n"
        "tokenizer: {vocabulary: 300}\n"
        "base:\n  architecture: {hidden_size: 64, intermediate_size: 128, num_hidden_layers: 4}\n  training: "
        "{steps: 1}\n"
        f"training: {training}\nruns:\n"
        f"  - {{name: one, track: reasoning, curriculum: {curriculum}, tuner: {{kind: full}}, decode: {decode}}}\n"
    )
    said = ""
    try:
        load.load(preset)
    except AdaptbenchError as error:
        said = str(error)
    assert "\n" not in said
    return said


def test_a_stage_that_would_compute_pieces_twice_is_refused_and_no_other(tmp_path):
    checkpointed = "{steps: 1, gradient_checkpointing: true}"
    off, on = "hidden_training: {gradient_checkpointing: false}", "hidden_training: {gradient_checkpointing: true}"
    line = "forward.way: must be jacobi under gradient_checkpointing"
    assert line in _problem_of(tmp_path, "{kind: lt_hidden}", training=checkpointed)
    assert line in _problem_of(tmp_path, f"{{kind: lt_hidden, {on}}}")
    assert _problem_of(tmp_path, f"{{kind: lt_hidden, {off}}}", training=checkpointed) == ""
    for way in ("jacobi", "naive"):
        assert _problem_of(tmp_path, f"{{kind: lt_hidden, forward: {{way: {way}}}}}", training=checkpointed) == ""
    assert _problem_of(tmp_path, "{kind: pause}", training=checkpointed) == ""


def test_a_model_keeps_its_plain_form_with_the_token(context, tmp_path):
    made = context({})
    model = toy_model("llama", vocabulary=len(made.tokenizer))
    stage.add_tokens(model, made.tokenizer)
    model.save_pretrained(tmp_path / "model")
    made.tokenizer.save_pretrained(tmp_path / "model")
    again = storage.load_tokenizer(tmp_path / "model")
    assert again.convert_tokens_to_ids(text.LATENT) == len(again) - 1
    assert again(text.LATENT, add_special_tokens=False).input_ids == [len(again) - 1]
