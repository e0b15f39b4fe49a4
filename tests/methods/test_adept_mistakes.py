"""Bad input to ADEPT: one clear line each.

Run: python -m pytest tests/methods/test_adept_mistakes.py
"""

import re

import pytest
from adept_cases import EMPTY, _adapted, _batches, _one_line, _options, _preset, _unfold
from conftest import preset_values, toy_model
from transformers import AutoConfig, AutoModelForCausalLM

from adaptbench import config
from adaptbench.contracts import StageContext
from adaptbench.documents import write_jsonl
from adaptbench.methods.tuners import adept
from adaptbench.units import units


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
    message = _one_line(config.validate, values, "toy.yaml")
    assert message.startswith("toy.yaml: runs.0.tuner.unit_lr: ")
    assert "training.optimizer is muon" in message


def test_muon_in_the_whole_preset_is_refused_when_the_preset_is_read():
    values = preset_values() | {"training": {"steps": 10, "optimizer": "muon"}}
    values["runs"] = [values["runs"][0] | {"tuner": {"kind": "adept"}}]
    message = _one_line(config.validate, values, "toy.yaml")
    assert "runs.0.tuner" in message
    assert "muon" in message


def test_muon_is_refused_before_the_first_step_too():
    message = _one_line(adept.optimizer, adept.Config(), _adapted(toy_model("qwen3")), _options(optimizer="muon"))
    assert message.startswith("tuner.unit_lr: ")
    assert "training.optimizer" in message


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
    """A document without text still has a start and an end, and is a document of one trained token."""
    context = StageContext(0, {"general": _corpus(tmp_path, records)}, tokenizer)
    if records:
        (batch,) = adept.probe_batches(adept.Config(), context)
        assert (batch["labels"] >= 0).sum() == 1
    else:
        assert "probe" in _one_line(adept.probe_batches, adept.Config(), context)


def _xlm():
    shapes = AutoConfig.for_model("xlm", vocab_size=300, emb_dim=32, n_layers=2, n_heads=2, max_position_embeddings=64)
    return AutoModelForCausalLM.from_config(shapes).eval()


def test_a_model_without_a_list_of_layers_is_one_line(tmp_path, tokenizer, benchmark_data):
    said = "XLMWithLMHeadModel: no list of 2 decoder layers"
    assert said in _one_line(adept.layer_importance, _xlm(), _batches())
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
