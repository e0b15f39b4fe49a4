"""Bad input to ADEPT: one clear line each.

Run: python -m pytest tests/methods/test_adept_mistakes.py
"""

import re

import pytest
from transformers import AutoConfig, AutoModelForCausalLM

from adaptbench.config import load
from adaptbench.contracts import StageContext
from adaptbench.io.jsonl import write_jsonl
from adaptbench.methods.tuners import adept, adept_layers
from adaptbench.model.units import units
from tests.support.adept_cases import EMPTY, _adapted, _batches, _one_line, _options, _preset, _unfold
from tests.support.models import toy_model
from tests.support.presets import preset_values


def _corpus(folder, records):
    write_jsonl(folder / "splits" / "probe.jsonl", records)
    return folder


def test_more_layers_than_the_base_has_are_refused_when_the_preset_is_read(model_folder):
    message = _one_line(_unfold, {"layers": 7})
    assert message == "toy.yaml: runs.0.tuner.layers: must be <= 6, the base's layers"
    message = _one_line(_preset, model_folder("qwen3"), {"deep": {"layers": 5}})
    assert message == "toy.yaml: runs.0.tuner.layers: must be <= 4, the base's layers"
    assert _unfold({"layers": 6})


@pytest.mark.parametrize("unit_lr", ["decoupled_rank", "uniform"])
def test_muon_in_a_run_is_refused_when_the_preset_is_read(unit_lr):
    values = preset_values()
    values["runs"] = [
        values["runs"][0] | {"tuner": {"kind": "adept", "unit_lr": unit_lr}, "training": {"optimizer": "muon"}}
    ]
    message = _one_line(load.validate, values, "toy.yaml")
    assert message.startswith("toy.yaml: runs.0.tuner.unit_lr: ")
    assert "training.optimizer is muon" in message


def test_muon_in_the_whole_preset_is_refused_when_the_preset_is_read():
    values = preset_values() | {"training": {"steps": 10, "optimizer": "muon"}}
    values["runs"] = [values["runs"][0] | {"tuner": {"kind": "adept"}}]
    message = _one_line(load.validate, values, "toy.yaml")
    assert "runs.0.tuner" in message
    assert "muon" in message


def test_muon_is_refused_before_the_first_step_too():
    message = _one_line(adept.optimizer, adept.Config(), _adapted(toy_model("qwen3")), _options(optimizer="muon"))
    assert message.startswith("tuner.unit_lr: ")
    assert "training.optimizer" in message


@pytest.mark.parametrize(
    ("tuner", "message"),
    [
        ({"placement": [0, 6]}, "placement: layer 6 is none of the base's 6, which are 0 to 5"),
        ({"placement": [9, 2, 7]}, "placement: layer 9 is none of the base's 6, which are 0 to 5"),
        ({"placement": [1, 2], "layers": 3}, "layers: must be 2, as many as placement lists, or be left out"),
        ({"placement": [1, 2, 1], "layers": 3}, "placement: must list each layer once"),
        *[
            ({"placement": wrong},
             "placement: must be one of lowest, uniform, suffix, random, highest, or a list of layers' indices, from 0")
            for wrong in ([], [-1, 2], "middle", [1.5], [True, 2], ["lowest"], [[1]], 3, {"at": 1}, None)
        ],
    ],
)  # fmt: skip
def test_listed_layers_that_cannot_be_are_one_line_when_the_preset_is_read(tuner, message):
    if "layers" not in tuner:
        tuner = tuner | {"unit_lr": "uniform"}
        values = preset_values()
        values["runs"] = [values["runs"][0] | {"tuner": {"kind": "adept"} | tuner}]
        found = _one_line(load.validate, values, "toy.yaml")
    else:
        found = _one_line(_unfold, tuner)
    assert found.replace("tuner.adept.", "tuner.") == f"toy.yaml: runs.0.tuner.{message}"


def test_listed_layers_of_a_base_that_only_the_hub_knows_are_checked_in_the_stage():
    cfg = adept.Config(placement=[0, 30])
    message = _one_line(adept_layers.choose_layers, cfg, 28, None, 0)
    assert message == "tuner.placement: layer 30 is none of the base's 28, which are 0 to 27"


def _values(curriculum, track, training, **tuner):
    values = preset_values()
    values["data"]["agent"] = {"kind": "world", "train_problems": 40, "validation_problems": 8, "test_problems": 8}
    values["data"]["reasoning"] = {"kind": "chains"}
    values["runs"] = [
        {
            "name": "x", "track": track, "curriculum": curriculum, "training": training,
            "tuner": {"kind": "adept", "layers": 2} | tuner,
        }
    ]  # fmt: skip
    return values


CPT = {"kind": "cpt"}
LOCAL = {role: {"steps": 3} for role in ("planner", "caller", "summarizer")}


@pytest.mark.parametrize("unit_lr", ["decoupled_rank", "decoupled_rank_by_name", "decoupled_calibrated",
    "decoupled_minmax"])  # fmt: skip
@pytest.mark.parametrize(
    ("curriculum", "track", "training", "every", "stage", "steps"),
    [
        (CPT, "domain", {"steps": 20}, 20, "tune", 20),
        (CPT, "domain", {"steps": 20}, 500, "tune", 20),
        (CPT, "domain", {"steps": 1}, None, "tune", 1),
        ({"kind": "glpft", **LOCAL}, "agent", {"steps": 12}, 12, "global", 12),
        ({"kind": "one_stage", "caller": {"steps": 3}}, "agent", {"steps": 12}, 4, "caller", 3),
        ({"kind": "one_stage", "caller": {"steps": 3}}, "agent", {"epochs": 1.0}, 4, "caller", 3),
        ({"kind": "coconut", "stages": 1}, "reasoning", {"steps": 12}, 12, "cot", 12),
    ],
)
def test_a_stage_in_which_nothing_would_be_measured_is_refused_when_the_preset_is_read(
    curriculum, track, training, every, stage, steps, unit_lr
):
    values = _values(curriculum, track, training, refresh_every=every, unit_lr=unit_lr)
    message = _one_line(load.validate, values, "toy.yaml")
    expected = (
        f"toy.yaml: runs.0.tuner.refresh_every: importance is first measured after {every or 1} steps, and the stage "
    )
    assert message.startswith(expected)
    assert f" has {steps}, so that all its rates would be one; " in message
    assert stage in message
    for change in ({"unit_lr": "uniform"}, {"unit_lr": "uniform_2x"}, {"expansion": "none"}):
        load.validate(_values(curriculum, track, training, refresh_every=every, **change), "toy.yaml")


@pytest.mark.parametrize(
    ("curriculum", "track", "training", "every"),
    [
        (CPT, "domain", {"steps": 20}, 19),
        (CPT, "domain", {"steps": 2}, None),
        (CPT, "domain", {"epochs": 1.0}, 500),  # known only in the stage
        ({"kind": "glpft", **LOCAL}, "agent", {"steps": 12}, 11),  # the local stages are measured at once
        ({"kind": "glpft", **{role: {"epochs": 1.0} for role in LOCAL}}, "agent", {"steps": 12}, 11),
        ({"kind": "single_matched", **LOCAL}, "agent", {"steps": 12}, 15),  # its steps are counted in the stage: 21
        ({"kind": "one_stage", "caller": {"epochs": 1.0}}, "agent", {"steps": 12}, 11),
    ],
)
def test_a_run_that_measures_in_every_stage_or_may_do_so_is_taken(curriculum, track, training, every):
    load.validate(_values(curriculum, track, training, refresh_every=every), "toy.yaml")


def test_more_probe_documents_than_there_are_is_one_line(tmp_path, tokenizer):
    context = StageContext(0, {"general": _corpus(tmp_path, [{"text": "Some text."}] * 3)}, tokenizer)
    message = _one_line(adept_layers.probe_batches, adept.Config(probe_documents=4), context)
    assert message == "tuner.probe_documents: must be <= 3, the documents of the probe corpus"
    whole, all_three = (adept_layers.probe_batches(adept.Config(probe_documents=count), context) for count in (None, 3))
    assert [batch["input_ids"].tolist() for batch in whole] == [batch["input_ids"].tolist() for batch in all_three]


@pytest.mark.parametrize("wrong", [{"layers": 0}, {"refresh_every": 0}, {"placement": "middle"}, {"probe_length": 4}])
def test_options_that_mean_nothing_are_refused(wrong):
    assert re.match(rf"toy\.yaml: runs\.0\.tuner\.(adept\.)?{next(iter(wrong))}: must be ", _one_line(_unfold, wrong))


def test_a_general_benchmark_without_a_probe_corpus_is_one_line(tmp_path, tokenizer, model_folder):
    (tmp_path / "splits").mkdir()
    context = StageContext(0, {"general": tmp_path}, tokenizer)
    message = _one_line(adept.probe, adept.Config(), {"base": model_folder("qwen3")}, tmp_path, context)
    assert message == "data.general: this benchmark has no probe corpus, which adept measures importance on"


@pytest.mark.parametrize("records", [[], [{"text": ""}]], ids=["no-document", "no-text"])
def test_an_empty_probe_corpus_is_one_line(records, tmp_path, tokenizer):
    context = StageContext(0, {"general": _corpus(tmp_path, records)}, tokenizer)
    said = _one_line(adept_layers.probe_batches, adept.Config(), context)
    assert ("probe.jsonl:1: field 'text' is empty" if records else "probe.jsonl: holds no records") in said


def _xlm():
    shapes = AutoConfig.for_model("xlm", vocab_size=300, emb_dim=32, n_layers=2, n_heads=2, max_position_embeddings=64)
    return AutoModelForCausalLM.from_config(shapes).eval()


def test_a_model_without_a_list_of_layers_is_one_line(tmp_path, tokenizer, benchmark_data):
    said = "XLMWithLMHeadModel: no list of 2 decoder layers"
    assert said in _one_line(adept_layers.layer_importance, _xlm(), _batches())
    _xlm().save_pretrained(tmp_path / "base")
    (tmp_path / "out").mkdir()
    cfg = adept.Config(layers=1, placement="suffix")
    message = _one_line(
        adept.expand, cfg, {"base": tmp_path / "base"}, tmp_path / "out", StageContext(0, {}, tokenizer)
    )
    assert said in message


def test_heads_of_a_config_that_does_not_count_them_are_one_line():
    model = _adapted(toy_model("qwen3"))

    class Shapes:
        model_type = "strange"

        def get_text_config(self, decoder):
            return self

    object.__setattr__(model, "config", Shapes())
    assert _one_line(units, model, "head").startswith("tuner.unit: head, but the config of strange ")
    assert len(units(model, "row")) == len(units(model, "tensor")) == 22


def test_copies_of_a_model_that_was_not_expanded_are_one_line():
    assert "it was not expanded" in _one_line(adept.adapt, adept.Config(), toy_model("qwen3"), EMPTY)
