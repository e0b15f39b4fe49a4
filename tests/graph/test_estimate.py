"""What a preset will take, against numbers computed by hand; and what is said where a model's size is not known.

Run: pytest tests/graph/test_estimate.py
"""

import copy
import math
import re
from dataclasses import replace

import pytest

from adaptbench import cli
from adaptbench.config import load
from adaptbench.errors import AdaptbenchError
from adaptbench.graph import estimate, estimate_text, model_size, nodes, published, unfolding
from adaptbench.io import hub
from tests.support import hub as toy_hub
from tests.support.models import toy_model
from tests.support.presets import preset_values
from tests.support.project import PROJECT

VALUES = preset_values() | {
    "tokenizer": {"vocabulary": 500, "corpora": ["general"]},
    "base": {
        "architecture": {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2,
        "num_key_value_heads": 1},
        "training": {"steps": 10, "batch_size": 2, "sequence_length": 32},
    },
    "training": {"steps": 100, "batch_size": 4, "micro_batch_size": 2, "sequence_length": 64},
}  # fmt: skip
# Qwen3 of that size: queries and outputs 2 * 8*8, keys and values 2 * 8*4, MLP 3 * 8*16, norms 2*8 + 2*4.
LAYER = 2 * 64 + 2 * 32 + 3 * 128 + 16 + 8
HEAD = 500 * 8
WHOLE = HEAD + 8 + 4 * LAYER
ASSUMED = model_size.Assumptions(
    flops=1e6,
    utilisation=0.5,
    layer_seconds=0.0,
    job_seconds=0.0,
    read_rate=float("inf"),
    task_tokens=1000,
    token_seconds=0.0,
)


def unfold(values: dict) -> nodes.Graph:
    return unfolding.unfold(load.validate(values, "toy.yaml"))


def estimated(values: dict, assumed: model_size.Assumptions = ASSUMED) -> estimate.Estimate:
    return estimate.Estimate(unfold(values), assumed)


def job(found: estimate.Estimate, run: str) -> estimate.Job:
    (one,) = [one for one in found.graph.evaluations if one.run == run]
    return found.jobs[one.model]


def test_a_models_parameters_are_those_that_it_has():
    """Ours of its architecture, and any other's of its files."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    options = VALUES["base"]["architecture"]
    model = Qwen3ForCausalLM(Qwen3Config(vocab_size=500, head_dim=4, tie_word_embeddings=True, **options))
    size = model_size.shape(unfold(VALUES))
    assert size.parameters(4) == sum(p.numel() for p in model.parameters()) == WHOLE
    assert size.layer == sum(p.numel() for p in model.model.layers[0].parameters()) == LAYER


@pytest.mark.parametrize("architecture", ["qwen3", "llama", "gemma2"])
def test_a_hub_models_size_is_read_from_the_cache(architecture, model_folder, tmp_path, monkeypatch):
    toy_hub.add_model(tmp_path, "owner/toy", model_folder(architecture))
    toy_hub.use(tmp_path, monkeypatch)
    size = model_size.shape(unfold(VALUES | {"base": {"model": "owner/toy"}}))
    model = toy_model(architecture, vocabulary=300)
    found = hub.find_local("owner/toy", "main")
    assert (size.layers, size.missing, size.origin) == (4, 0, "the hub's cache")
    assert size.parameters(4) == found.parameters
    layer = sum(p.numel() for p in model.model.layers[0].parameters())
    assert size.layer == pytest.approx(layer, abs=model.config.hidden_size)  # the last norm, shared out
    assert size.bytes == pytest.approx(4, rel=0.05)


def test_training_costs_what_a_hand_computes():
    found = estimated(VALUES)
    tokens = 100 * 4 * 64
    full, pro, lora = (job(found, run) for run in ("full", "pro", "lora"))
    matrices = 4 * LAYER + HEAD
    assert full.seconds == pytest.approx(6 * matrices * tokens / 0.5e6)
    assert lora.seconds == pytest.approx(4 * matrices * tokens / 0.5e6)
    expanded = matrices + 2 * LAYER
    assert pro.seconds == pytest.approx((4 * expanded + 2 * 2 * LAYER) * tokens / 0.5e6)
    assert (full.kept, pro.kept) == (4 * WHOLE, 4 * (WHOLE + 2 * LAYER))
    assert (full.checkpoint, pro.checkpoint, lora.checkpoint) == (12 * WHOLE, 12 * 2 * LAYER, 0)
    assert (full.state, pro.state, lora.state) == (16 * WHOLE, 4 * (WHOLE + 2 * LAYER) + 24 * LAYER, 4 * WHOLE)
    assert full.activations == 2 * 64 * 8 * 34 * 4


@pytest.mark.parametrize(("strategy", "shards"), [("ddp", 1), ("fsdp", 2)])
def test_a_stage_in_several_processes_shares_its_batch_and_sharded_its_state(strategy, shards):
    alone, found = estimated(VALUES), estimated(VALUES | {"devices": {"processes": 2, "strategy": strategy}})
    for run in ("full", "pro", "lora"):
        one, spread = job(alone, run), job(found, run)
        assert spread.seconds * 2 == pytest.approx(one.seconds)
        assert (one.gpus, spread.gpus) == (1, 2)
        assert spread.state == one.state / shards
        assert spread.activations == one.activations  # micro_batch_size counts for one device
        assert spread.checkpoint == one.checkpoint
        assert spread.host - one.host == 4 * alone.size.parameters(6 if run == "pro" else 4)
    assert {one.gpus for one in found.jobs.values() if one.kind not in ("train", "base")} == {1}
    values = copy.deepcopy(VALUES)
    del values["training"]["micro_batch_size"]
    whole, half = (
        job(estimated(values | {"devices": {"processes": count, "strategy": strategy}}), "full") for count in (1, 2)
    )
    assert half.activations == whole.activations / 2


def test_the_report_counts_the_gpus_that_a_job_takes_at_once():
    values = VALUES | {"devices": {"processes": 2, "strategy": "fsdp"}}
    plain = estimate_text.report(unfold(VALUES), ASSUMED)
    for assumed, gpus, side_by_side in ((ASSUMED, 2, 1), (replace(ASSUMED, gpus=4), 4, 2)):
        text = estimate_text.report(unfold(values), assumed)
        found = estimate.Estimate(unfold(values), assumed).jobs.values()
        hours = sum(one.seconds * one.gpus for one in found) / 3600
        assert f"GPU hours    {hours:.3g} (" in text
        assert f"GPU hours    {hours:.3g} (" in plain
        wall = sum(one.seconds / (side_by_side if one.gpus == 2 else gpus) for one in found) / 3600
        assert f"; about {wall:.3g} hours on {gpus} GPU" in text
        assert "for activations on each of 2 GPUs: " in text
    assert "on each of" not in plain


def test_the_hosts_memory_holds_the_model_and_what_a_checkpoint_copies():
    full, pro, lora = (job(estimated(VALUES), run) for run in ("full", "pro", "lora"))
    assert full.host == 4 * WHOLE + 12 * WHOLE
    assert pro.host == 4 * (WHOLE + 2 * LAYER) + 12 * 2 * LAYER
    assert lora.host == 4 * WHOLE
    assert f"host memory  about {estimate_text.gb(full.host)}: " in estimate_text.report(unfold(VALUES), ASSUMED)


# The parameters that the hub counts in each model's weights; of the 1.7B those of the technical report, as its weights
# hold the tied head twice.
PARAMETERS = {
    "Qwen/Qwen3-1.7B-Base": 1_720_574_976,
    "Qwen/Qwen3-4B-Base": 4_022_468_096,
    "Qwen/Qwen3-8B-Base": 8_190_735_360,
    "meta-llama/Meta-Llama-3-8B": 8_030_261_248,
    "meta-llama/Llama-3.1-8B": 8_030_261_248,
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "meta-llama/Llama-3.2-3B": 3_212_749_824,
    "meta-llama/Llama-2-7b-chat-hf": 6_738_415_616,
    "meta-llama/Llama-2-13b-chat-hf": 13_015_864_320,
}


@pytest.mark.parametrize("name", published.MODELS)
def test_a_model_that_cannot_be_asked_for_has_its_published_size(name, monkeypatch, tmp_path):
    toy_hub.use(tmp_path, monkeypatch)
    size = model_size.shape(unfold(VALUES | {"base": {"model": name}}))
    assert size.origin.startswith(f"its published config.json: {name}: is not in the hub's cache")
    assert size.parameters(size.layers) == pytest.approx(PARAMETERS[name], rel=0.01)
    assert size.missing == 2 * size.parameters(size.layers)
    assert published.MODELS[name].hidden == size.hidden


def test_every_model_that_a_papers_preset_names_is_published():
    named = {
        name
        for path in PROJECT.glob("config/paper-*.yaml")
        for name in re.findall(r"(?:Qwen|meta-llama)/[\w.-]+\w", path.read_text())
    }
    assert len(named) > 5
    assert named <= published.MODELS.keys()


def test_an_epoch_of_published_data_is_known_before_they_are_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    preset = load.load(PROJECT / "config/paper-lt-tuning.yaml")
    found = estimate.Estimate(unfolding.unfold(preset), ASSUMED)
    (cot,) = [node for node in found.graph.nodes.values() if node.options.get("phase") == "cot"]
    training = preset.training
    steps = found._tokens(cot, training) / (training.batch_size * training.sequence_length)
    assert steps == pytest.approx(117, abs=1)  # as the preset's comment says
    for reasoning in (
        preset.data.reasoning.model_copy(update={"train_items": 100}),
        preset.data.reasoning.model_copy(update={"form": "equations"}),
    ):
        other = preset.model_copy(update={"data": preset.data.model_copy(update={"reasoning": reasoning})})
        assert estimate.published_epoch(other, "reasoning") is None
    agents = load.load(PROJECT / "config/paper-glpft.yaml")
    epoch = estimate.published_epoch(agents, "agent")
    assert epoch.documents * epoch.tokens / (8 * 4096) == pytest.approx(187_494 / 48)  # 48 samples a step
    assert "an epoch     agent: 187494 times 683 tokens (" in estimate_text.report(unfolding.unfold(agents), ASSUMED)


def test_a_small_models_steps_take_as_long_as_starting_their_operations():
    plain = job(estimated(VALUES), "full").seconds
    found = estimated(VALUES, replace(ASSUMED, flops=1e15, layer_seconds=0.5))
    assert job(found, "full").seconds == pytest.approx(100 * 4 * 0.5)
    assert job(found, "pro").seconds == pytest.approx(100 * 6 * 0.5)
    assert job(estimated(VALUES, replace(ASSUMED, layer_seconds=1e-9)), "full").seconds == plain


def test_a_job_takes_time_to_start_and_to_read_its_model():
    plain, found = estimated(VALUES), estimated(VALUES, replace(ASSUMED, job_seconds=7.0, read_rate=100.0))
    start = 7 + 4 * WHOLE / 100
    assert job(found, "full").seconds - job(plain, "full").seconds == pytest.approx(start)
    scored = found.jobs["domain/full/seed0"].seconds - plain.jobs["domain/full/seed0"].seconds
    assert scored == pytest.approx(start)


def test_an_evaluation_costs_its_tasks():
    values = copy.deepcopy(VALUES) | {"evaluation": {"stock_tasks": {"general": ["arc_easy"]}}}
    found = estimated(values, replace(ASSUMED, stock_task_tokens=7000))
    matrices = 4 * LAYER + HEAD
    tasks = 3 + 3  # of the general world and of the domain's, validation among them
    assert found.jobs["domain/full/seed0"].seconds == pytest.approx(2 * matrices * (tasks * 1000 + 7000) / 0.5e6)


def test_answers_are_written_token_after_token_a_batch_at_a_time():
    """Of the domain's world one task writes; of the agents' one step by step, and live in turns; lm-eval's gsm8k
    besides.
    """
    values = copy.deepcopy(VALUES) | {
        "evaluation": {"batch_size": 16, "stock_tasks": {"general": ["gsm8k", "arc_easy"]}}
    }
    values["data"] = values["data"] | {
        "domain": {"kind": "world", "entities": 20, "test_items": 40},
        "agent": {"kind": "world"},
    }
    values["runs"] = [
        *values["runs"],
        {"name": "one", "track": "agent", "curriculum": {"kind": "single"}, "tuner": {"kind": "full"}},
    ]
    assumed = replace(ASSUMED, answer_tokens=10.0, answers=100.0, turns=5.0)
    plain, found = estimated(values, assumed), estimated(values, replace(assumed, token_seconds=0.5))
    passes = {
        "domain/full": math.ceil(100 / 16) + math.ceil(40 / 16),
        "agent/one": 2 * math.ceil(100 / 16) + 5 * math.ceil(100 / 16),
    }
    for run, batches in passes.items():
        written = found.jobs[f"{run}/seed0"].seconds - plain.jobs[f"{run}/seed0"].seconds
        assert written == pytest.approx(batches * 10 * 4 * 0.5), run
    few = copy.deepcopy(values)
    few["evaluation"]["limit"] = 8
    plain, found = estimated(few, assumed), estimated(few, replace(assumed, token_seconds=0.5))
    written = found.jobs["agent/one/seed0"].seconds - plain.jobs["agent/one/seed0"].seconds
    assert written == pytest.approx((1 + 1 + 5) * 10 * 4 * 0.5)


@pytest.mark.parametrize(
    ("forward", "whole", "passes"),
    [
        ({"way": "wavefront"}, 1, 3),
        ({"way": "jacobi", "iterations": 4, "approximate": True}, 5, 5),
        ({"way": "jacobi"}, 8, 3),
        ({"way": "naive"}, 8, 4 * 3),
    ],
    ids=lambda one: str(one),
)
def test_latents_cut_a_step_into_passes(forward, whole, passes):
    """Its own stage, not the chain of thought before it."""
    lt = {"kind": "lt_hidden", "hidden_training": {"steps": 7}, "forward": forward}
    values = copy.deepcopy(VALUES)
    values["data"] = values["data"] | {"reasoning": {"kind": "chains"}}
    values["runs"] = [
        {"name": name, "track": "reasoning", "curriculum": curriculum, "tuner": {"kind": "full"}}
        for name, curriculum in (("lt", lt), ("cot", {"kind": "cot"}))
    ]
    tokens = 4 * 64
    matrices = 4 * LAYER + HEAD
    found = estimated(values)
    assert job(found, "lt").seconds == pytest.approx(whole * 6 * matrices * 7 * tokens / 0.5e6)
    assert job(found, "cot").seconds == pytest.approx(6 * matrices * 100 * tokens / 0.5e6)
    slow = estimated(values, replace(ASSUMED, layer_seconds=100.0, latent_passes=3.0))
    assert job(slow, "lt").seconds == pytest.approx(7 * passes * 4 * 100)
    assert job(slow, "cot").seconds == pytest.approx(100 * 4 * 100)


def test_muon_keeps_one_moment():
    values = copy.deepcopy(VALUES)
    values["training"]["optimizer"] = "muon"
    assert job(estimated(values), "full").state == 12 * WHOLE


def test_recomputing_costs_a_forward_pass_and_saves_activations():
    values = copy.deepcopy(VALUES)
    plain = job(estimated(values), "full")
    values["training"]["gradient_checkpointing"] = True
    found = job(estimated(values), "full")
    assert found.seconds == pytest.approx(plain.seconds * 8 / 6)
    assert found.activations == 2 * 64 * 8 * (2 * 4 + 34)


def test_epochs_are_counted_in_the_data_where_they_are_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = copy.deepcopy(VALUES)
    values["training"] = {"epochs": 2, "batch_size": 4, "sequence_length": 64}
    assumed = replace(ASSUMED, epoch_tokens=5000)
    per_token = 6 * (4 * LAYER + HEAD) / 0.5e6
    assert job(estimated(values, assumed), "full").seconds == pytest.approx(per_token * 2 * 5000)
    found = estimated(values, assumed)
    (data,) = [node for node in found.graph.nodes.values() if node.kind == "data" and node.options["track"] == "domain"]
    splits = found.graph.directory(data.id) / "splits"
    splits.mkdir(parents=True)
    (splits / "train.jsonl").write_text("x" * 4000)
    assert job(estimated(values, assumed), "full").seconds == pytest.approx(per_token * 2 * 1000)


def test_adept_without_copies_adds_nothing_and_an_ablation_counts_what_is_new():
    values = copy.deepcopy(VALUES)
    tuner = {"kind": "adept", "layers": 2}
    values["runs"].append(values["runs"][0] | {"name": "adept", "tuner": tuner, "tables": ["domain", "ablation_adept"]})
    none = values["runs"][0] | {"name": "none", "tuner": tuner | {"expansion": "none"}, "tables": ["ablation_adept"]}
    values["ablation"] = [none]
    found = estimated(values)
    assert job(found, "adept").kept == 4 * (WHOLE + 2 * LAYER)
    assert job(found, "none").kept == 4 * WHOLE
    assert job(found, "none").state == 4 * WHOLE + 12 * 2 * LAYER
    main, ablation = found.part_jobs("main"), found.part_jobs("ablation")
    assert {name.split("-")[0] for name in ablation.keys() - main.keys()} >= {"adept", "domain", "domain/none/seed0"}
    assert not any("none" in name for name in main)


def test_the_report_says_jobs_hours_disk_downloads_and_what_is_assumed(monkeypatch, tmp_path):
    toy_hub.use(tmp_path, monkeypatch)
    values = copy.deepcopy(VALUES) | {"base": {"model": "owner/Some-2.5B"}}
    values["data"]["domain"] = {"kind": "gsm8k"}
    lines = estimate_text.report(unfold(values), model_size.Assumptions()).splitlines()
    assert lines[0].startswith(
        "toy: owner/Some-2.5B, 2.5e+09 parameters in 32 layers (known from its name alone, 32 layers assumed: "
    )
    text = "\n".join(lines)
    assert "jobs         25: imported_base 1, data 2, tasks 2, evaluate 4, train 3, prepare 1, collect 1" in text
    assert "conclude 1, page 1, tables 3, figures 5, paper 1\n" in text
    assert "GPU memory   40 GB, and about" in text  # 16 bytes a parameter
    # The base, LLaMA-Pro's start and end with 2 of 32 layers more, full and LoRA: 5 models of 2 bytes a parameter;
    # full's checkpoint of 12.
    assert f"disk         {5 * 5 + 2 * 5 / 16:.3g} GB kept, {5 * 5 + 2 * 5 / 16 + 30:.3g} GB at most" in text
    assert "downloads    5 GB of owner/Some-2.5B; data: openai/gsm8k (not counted)" in text
    assert "assumed      flops 9.89e+14, utilisation 0.35, gpus 1" in text


def test_a_model_of_which_nothing_is_known_is_one_line(monkeypatch, tmp_path):
    toy_hub.use(tmp_path, monkeypatch)
    large = unfold(VALUES | {"base": {"model": "owner/large"}})
    with pytest.raises(
        AdaptbenchError,
        match=r"^base.model: owner/large: is not in the hub's cache, and HF_HUB_OFFLINE is set; and its name",
    ):
        model_size.shape(large)


def test_the_command_takes_presets_changes_and_assumptions(project_copy, monkeypatch, capsys):
    monkeypatch.chdir(project_copy)
    arguments = ["estimate", "config/smoke.yaml", "config/tiny.yaml", "--config", "seeds=[0, 1]", "--gpus", "2"]
    assert cli.main(arguments) == 0
    out = capsys.readouterr().out
    assert out.startswith("smoke: a base pre-trained here")
    assert "\ntiny: a base pre-trained here" in out
    assert "hours on 2 GPU" in out
    assert "train 42" in out  # 21 stages under each of two seeds
    assert cli.main(["estimate", "config/smoke.yaml", "--config", "sees=[0]"]) == 1
    assert capsys.readouterr().err == "error: config/smoke.yaml: sees: unknown key\n"
    with pytest.raises(SystemExit):
        cli.main(["estimate", "config/smoke.yaml", "--utilisation", "0"])
    assert "--utilisation: must be > 0" in capsys.readouterr().err
