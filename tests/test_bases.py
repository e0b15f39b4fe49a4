"""A base model of one's own: `base.model` names a folder, nothing is pre-trained, every method adapts it.

Random toy weights of each supported architecture, from the import to a scored run, through the stages that the graph runs.

Run: pytest tests/test_bases.py
"""

import json
from pathlib import Path

import pytest
import torch
from conftest import ARCHITECTURES, SMALL_GENERAL, copy_of_project

from adaptbench import checks, config, evaluation, graph, models, plan, sources, stages
from adaptbench.contracts import AdaptbenchError
from tools import small_models

TRAINING = {"steps": 2, "batch_size": 2, "sequence_length": 32, "precision": "float32"}
DATA = {
    "general": SMALL_GENERAL | {"test_items": 8},
    "domain": {"kind": "world", "entities": 20, "test_items": 8},
}


def preset(base: Path, *runs: dict) -> config.Preset:
    values = {
        "name": "toy",
        "seeds": [3],
        "base": {"model": str(base)},
        "data": DATA,
        "training": TRAINING,
        "runs": list(runs),
    }
    return config.validate(values, "toy.yaml")


def run(name: str, tuner: dict) -> dict:
    return {"name": name, "track": "domain", "curriculum": {"kind": "cpt"}, "tuner": tuner}


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Makes all stages of a preset in a temporary results folder; returns the graph."""
    monkeypatch.chdir(tmp_path)

    def go(of: config.Preset) -> graph.Graph:
        unfolded = graph.unfold(of)
        plans = plan.write(unfolded)
        for evaluated in unfolded.evaluations:
            ends = filter(None, (evaluated.model, *evaluated.tasks.values()))  # a baseline has no model
            for node in dict.fromkeys(node for end in ends for node in unfolded.ancestors(end)):
                if not unfolded.directory(node).exists():
                    stages.run(plans / f"{node}.json", unfolded.directory(node))
        return unfolded

    return go


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_is_adapted_by_every_kind_of_tuner(architecture, model_folder, make):
    base = model_folder(architecture)
    runs = [
        run("full", {"kind": "full"}),
        run("lora", {"kind": "lora", "rank": 2}),
        run("pro", {"kind": "llama_pro", "layers": 2}),
    ]
    unfolded = make(preset(base, *runs))
    start = models.load_model(base)
    ids = torch.randint(1, 200, (2, 12), generator=torch.Generator().manual_seed(0))
    kinds = {node.kind for node in unfolded.nodes.values()}
    assert not kinds & {"base", "tokenizer"}
    with torch.no_grad():
        expected = start(input_ids=ids).logits
        for evaluated in unfolded.evaluations:
            made = models.load_model(unfolded.directory(evaluated.model))
            logits = made(input_ids=ids).logits
            assert type(made) is type(start)
            if evaluated.run == "base":
                assert torch.equal(logits, expected)
            else:
                assert not torch.equal(logits, expected)
                assert (logits - expected).abs().max() < 5
    evaluated = next(e for e in unfolded.evaluations if e.run == "pro")
    evaluation.run(plan.evaluation_file(unfolded, evaluated.key), Path("out"))
    result = json.loads(Path("out/run.json").read_text())
    assert result["metrics"]["domain_facts"]["documents"] == 8
    assert result["model"]["parameters"]["trained"] < result["model"]["parameters"]["total"]


def test_what_a_base_lacks_is_done_the_slower_way_as_log_and_results_say(make, tokenizer, tmp_path, capfd):
    """Doge's layers see the documents beside them, its padded rows compute something else, pieces of its rows are not its rows."""
    small_models.small_model("doge", vocab_size=300, max_position_embeddings=1024).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    full = {"tuner": {"kind": "full"}}
    latent = {"kind": "lt_hidden", "hidden_training": {"steps": 1}}
    values = {
        "name": "toy",
        "seeds": [3],
        "base": {"model": str(tmp_path / "base")},
        "training": TRAINING,
        "data": DATA
        | {
            "reasoning": {"kind": "chains", "shortest": 1, "longest": 2, "train_items": 40, "validation_items": 4, "test_items": 4},
            "agent": {"kind": "world", "train_problems": 20, "validation_problems": 4, "test_problems": 4},
        },
        "runs": [
            run("full", {"kind": "full"}),
            {"name": "latent", "track": "reasoning", "curriculum": latent, "training": {"sequence_length": 128}} | full,
            {"name": "one", "track": "agent", "curriculum": {"kind": "single"}, "training": {"sequence_length": 1024}} | full,
        ],
    }  # fmt: skip
    unfolded = make(config.validate(values, "toy.yaml"))
    out = capfd.readouterr().err
    lacks = next(models.lacks(unfolded.directory(one.id)) for one in unfolded.nodes.values() if not one.parents)
    said = {
        "packing": f"each document has a row for itself: {lacks['packing']}",
        "wavefront": f"passes through latents are made by Jacobi, exact too: {lacks['wavefront']}",
    }
    assert all(sentence in out for sentence in said.values())
    answers = {
        "padding": f"answers are written one at a time: {lacks['padding']}",
        "caching": f"answers are written without a cache: {lacks['caching']}",
    }
    for name, noted, otherwise in (
        ("full", [["packing"]], answers),
        ("latent", [["packing"], ["packing", "wavefront"]], {}),  # decodes from embeddings, which is measured by itself
        ("one", [["packing"]], answers),
    ):
        evaluated = next(one for one in unfolded.evaluations if one.run == name)
        evaluation.run(plan.evaluation_file(unfolded, evaluated.key), Path(name))
        out = capfd.readouterr().err
        assert {capability: out.count(sentence) for capability, sentence in otherwise.items()} == dict.fromkeys(
            otherwise, 1
        )
        result = json.loads((Path(name) / "run.json").read_text())
        assert result["instead"] == otherwise
        found = [stage["instead"] for stage in result["cost"]["stages"].values() if stage["instead"]]
        assert found == [{capability: said[capability] for capability in one} for one in noted]


def test_half_precision_weights_are_trained_in_float32_and_stored_as_they_came(model_folder, make, tmp_path):
    source = models.load_model(model_folder("llama")).to(torch.bfloat16)
    source.save_pretrained(tmp_path / "half")
    models.load_tokenizer(model_folder("llama")).save_pretrained(tmp_path / "half")
    unfolded = make(preset(tmp_path / "half", run("pro", {"kind": "llama_pro", "layers": 1})))
    end = unfolded.directory(unfolded.evaluations[-1].model)
    made = models.load_model(end)
    assert made.dtype == torch.bfloat16
    # The frozen layers went to float32 and back: no bit may be lost.
    assert torch.equal(made.model.layers[0].self_attn.q_proj.weight, source.model.layers[0].self_attn.q_proj.weight)


def test_a_folder_whose_weights_are_damaged_is_one_line(model_folder, make, tmp_path):
    import shutil

    shutil.copytree(model_folder("qwen3"), tmp_path / "damaged")
    weights = tmp_path / "damaged/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(AdaptbenchError, match=r"base\.model: .*damaged") as caught:
        make(preset(tmp_path / "damaged", run("full", {"kind": "full"})))
    assert "\n" not in str(caught.value)


def test_a_sequence_longer_than_the_model_reads_is_refused_as_early_as_the_model_is_known(
    model_folder, make, monkeypatch
):
    def too_long():
        changed = run("full", {"kind": "full"}) | {"training": {"sequence_length": 2048}}
        return preset(model_folder("qwen3"), changed)

    with pytest.raises(
        AdaptbenchError, match=r"runs\.0\.training\.sequence_length: must be <= 1024, the base's longest input"
    ):
        too_long()
    monkeypatch.setattr(checks, "base_positions", lambda base: None)  # as of a model that is not here yet
    with pytest.raises(AdaptbenchError, match="sequence_length: must be <= 1024, the model's longest input"):
        make(too_long())


def test_too_many_copies_for_a_local_base_are_refused_when_the_preset_is_read(model_folder):
    with pytest.raises(AdaptbenchError, match=r"runs\.0\.tuner\.layers: must be <= 4, the base's layers"):
        preset(model_folder("qwen3"), run("pro", {"kind": "llama_pro", "layers": 5}))


def test_an_unknown_hub_id_is_one_line(make):
    of = preset(Path("nobody/no-such-model"), run("full", {"kind": "full"}))
    with pytest.raises(AdaptbenchError, match=r"base\.model: nobody/no-such-model: ") as caught:
        make(of)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_another_config_or_of_other_code_is_never_resumed(model_folder, make, tmp_path, monkeypatch):
    """The work folder is named after the stage's id and its code's digest; both kinds of change lead to a new one."""
    one = make(preset(model_folder("qwen3"), run("full", {"kind": "full"})))
    node = one.evaluations[-1].model
    spec = json.loads((one.root / "plan" / f"{node}.json").read_text())
    before = stages._digest(spec)
    other = graph.unfold(
        preset(model_folder("qwen3"), run("full", {"kind": "full"}) | {"training": {"learning_rate": 0.5}})
    )
    assert other.evaluations[-1].model != node
    copy = copy_of_project(tmp_path / "copy")
    monkeypatch.setattr(sources, "of_project", lambda: sources.Code(copy))
    assert stages._digest(spec) == before
    for name in ("methods/tuners/full.py", "adaptbench/training.py"):
        text = (copy / name).read_text()
        (copy / name).write_text(text + "\n# a remark\n")
        assert stages._digest(spec) == before
        (copy / name).write_text(text + "\nOTHER = 1\n")
        assert stages._digest(spec) != before
        (copy / name).write_text(text)
