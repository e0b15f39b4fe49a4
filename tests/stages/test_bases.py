"""A base model of one's own: `base.model` names a folder, nothing is pre-trained, every method adapts it.

Random toy weights of each supported architecture, from the import to a scored run, through the stages that the graph
runs.

Run: pytest tests/stages/test_bases.py
"""

import json
from pathlib import Path

import pytest
import torch

from adaptbench.config import architectures, load
from adaptbench.config.preset import Preset
from adaptbench.errors import AdaptbenchError
from adaptbench.evaluate import score
from adaptbench.graph import nodes, plan_files, sources, unfolding
from adaptbench.io import model_folder as io_model_folder
from adaptbench.io.model_folder import read_manifest
from adaptbench.model import storage
from adaptbench.model.scoring import ScoringLM
from adaptbench.stages import job
from tests.support.models import ARCHITECTURES
from tests.support.presets import SMALL_GENERAL
from tests.support.project import copy_of_project
from tools import small_models

TRAINING = {"steps": 2, "batch_size": 2, "sequence_length": 32, "precision": "float32"}
DATA = {
    "general": SMALL_GENERAL | {"test_items": 8},
    "domain": {"kind": "world", "entities": 20, "test_items": 8},
}


def preset(base: Path, *runs: dict) -> Preset:
    values = {
        "name": "toy",
        "seeds": [3],
        "base": {"model": str(base)},
        "data": DATA,
        "training": TRAINING,
        "runs": list(runs),
    }
    return load.validate(values, "toy.yaml")


def run(name: str, tuner: dict) -> dict:
    return {"name": name, "track": "domain", "curriculum": {"kind": "cpt"}, "tuner": tuner}


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Makes all stages of a preset in a temporary results folder; returns the graph."""
    monkeypatch.chdir(tmp_path)

    def go(of: Preset) -> nodes.Graph:
        unfolded = unfolding.unfold(of)
        plans = plan_files.write(unfolded)
        for evaluated in unfolded.evaluations:
            ends = filter(None, (evaluated.model, *evaluated.tasks.values()))  # a baseline has no model
            for node in dict.fromkeys(node for end in ends for node in unfolded.ancestors(end)):
                if not unfolded.directory(node).exists():
                    job.run(plans / f"{node}.json", unfolded.directory(node))
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
    start = storage.load_model(base)
    ids = torch.randint(1, 200, (2, 12), generator=torch.Generator().manual_seed(0))
    kinds = {node.kind for node in unfolded.nodes.values()}
    assert not kinds & {"base", "tokenizer"}
    with torch.no_grad():
        expected = start(input_ids=ids).logits
        for evaluated in unfolded.evaluations:
            made = storage.load_model(unfolded.directory(evaluated.model))
            logits = made(input_ids=ids).logits
            assert type(made) is type(start)
            if evaluated.run == "base":
                assert torch.equal(logits, expected)
            else:
                assert not torch.equal(logits, expected)
                assert (logits - expected).abs().max() < 5
    evaluated = next(e for e in unfolded.evaluations if e.run == "pro")
    score.run(plan_files.evaluation_file(unfolded, evaluated.key), Path("out"))
    result = json.loads(Path("out/run.json").read_text())
    assert result["metrics"]["domain_facts"]["documents"] == 8
    assert result["model"]["parameters"]["trained"] < result["model"]["parameters"]["total"]


def test_what_a_base_lacks_is_done_the_slower_way_as_log_and_results_say(make, tokenizer, tmp_path, capfd):
    """Doge's layers see the documents beside them, its padded rows compute something else, pieces of its rows are not
    its rows.
    """
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
            "reasoning": {"kind": "chains", "shortest": 1, "longest": 2, "train_items": 40, "validation_items": 4,
            "test_items": 4},
            "agent": {"kind": "world", "train_problems": 20, "validation_problems": 4, "test_problems": 4},
        },
        "runs": [
            run("full", {"kind": "full"}),
            {"name": "latent", "track": "reasoning", "curriculum": latent, "training": {"sequence_length": 128}} | full,
            {"name": "one", "track": "agent", "curriculum": {"kind": "single"},
             "training": {"sequence_length": 1024}} | full,
        ],
    }  # fmt: skip
    unfolded = make(load.validate(values, "toy.yaml"))
    out = capfd.readouterr().err
    lacks = next(
        io_model_folder.lacks(unfolded.directory(one.id)) for one in unfolded.nodes.values() if not one.parents
    )
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
        score.run(plan_files.evaluation_file(unfolded, evaluated.key), Path(name))
        out = capfd.readouterr().err
        assert {capability: out.count(sentence) for capability, sentence in otherwise.items()} == dict.fromkeys(
            otherwise, 1
        )
        result = json.loads((Path(name) / "run.json").read_text())
        assert result["instead"] == otherwise
        found = [stage["instead"] for stage in result["cost"]["stages"].values() if stage["instead"]]
        assert found == [{capability: said[capability] for capability in one} for one in noted]


def test_half_precision_weights_are_trained_in_float32_and_stored_as_they_came(model_folder, make, tmp_path):
    source = storage.load_model(model_folder("llama")).to(torch.bfloat16)
    source.save_pretrained(tmp_path / "half")
    storage.load_tokenizer(model_folder("llama")).save_pretrained(tmp_path / "half")
    unfolded = make(preset(tmp_path / "half", run("pro", {"kind": "llama_pro", "layers": 1})))
    end = unfolded.directory(unfolded.evaluations[-1].model)
    made = storage.load_model(end)
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
    monkeypatch.setattr(load, "base_positions", lambda base: None)  # as of a model that is not here yet
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
    before = job._digest(spec)
    other = unfolding.unfold(
        preset(model_folder("qwen3"), run("full", {"kind": "full"}) | {"training": {"learning_rate": 0.5}})
    )
    assert other.evaluations[-1].model != node
    copy = copy_of_project(tmp_path / "copy")
    monkeypatch.setattr(sources, "project_code", lambda: sources.Code(copy))
    assert job._digest(spec) == before
    for name in ("methods/tuners/full.py", "adaptbench/train/loop.py"):
        text = (copy / name).read_text()
        (copy / name).write_text(text + "\n# a remark\n")
        assert job._digest(spec) == before
        (copy / name).write_text(text + "\nOTHER = 1\n")
        assert job._digest(spec) != before
        (copy / name).write_text(text)


def taken(folder: Path, tokenizer, kind: str, dtype=torch.float32, **options) -> Path:
    """A folder with a small model of this kind, and the tokenizer."""
    small_models.small_model(kind, vocab_size=len(tokenizer), **options).to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["deepseek_v3", "ernie4_5_moe"])
def test_what_a_base_keeps_in_more_bits_stays_as_it_was(kind, make, tmp_path, tokenizer):
    """The biases by which these choose their experts are in float32 among weights of 16 bits; rounded, they choose
    others.
    """
    base = taken(tmp_path / "base", tokenizer, kind, torch.bfloat16)
    stored = storage.load_model(base).state_dict()
    wide = [name for name, tensor in stored.items() if tensor.dtype == torch.float32 and name.endswith("bias")]
    assert wide
    unfolded = make(preset(base, run("lora", {"kind": "lora", "rank": 2})))
    made = storage.load_model(unfolded.directory(unfolded.evaluations[-1].model)).state_dict()
    assert {name: tensor.dtype for name, tensor in made.items()} == {name: t.dtype for name, t in stored.items()}
    assert all(torch.equal(stored[name], made[name]) for name in wide)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("qwen3", []),
        ("qwen3_moe", []),
        ("gpt_oss", ["layers.#.mlp.experts.down_proj", "layers.#.mlp.experts.gate_up_proj",
         "layers.#.mlp.router.weight"]),
        ("deepseek_v3", [f"layers.#.mlp.{part}{name}_proj.weight" for part in ("",
         "shared_experts.") for name in ("down", "gate", "up")]),
    ],
)  # fmt: skip
def test_what_all_linear_passes_over_is_said(kind, expected, make, tmp_path, tokenizer, capfd):
    unfolded = make(preset(taken(tmp_path / "base", tokenizer, kind), run("lora", {"kind": "lora", "rank": 2})))
    manifest = read_manifest(unfolded.directory(unfolded.evaluations[-1].model))
    assert manifest["without_adapters"] == sorted(expected)
    said = "tuner.target_modules: all-linear leaves these without adapters: " + ", ".join(sorted(expected))
    assert (said in capfd.readouterr().err) == bool(expected)


@pytest.mark.parametrize("kind", ["phimoe", "llama4_text"])
def test_adapters_that_a_model_does_not_run_with_are_one_line(kind, make, tmp_path, tokenizer):
    """peft wraps their routers, which return tuples."""
    of = preset(taken(tmp_path / "base", tokenizer, kind), run("lora", {"kind": "lora", "rank": 2}))
    with pytest.raises(AdaptbenchError, match=r"^tuner\.target_modules: the model does not run with adapters on all"):
        make(of)


@pytest.mark.parametrize(
    ("kind", "options"),
    [("gpt2", {}), ("mpt", {}), ("gpt_neo", {}), ("gemma3", {})],
)
def test_layers_and_longest_input_are_known_at_planning_whatever_they_are_called(kind, options, tmp_path, tokenizer):
    base = taken(tmp_path / "base", tokenizer, kind, **options)
    with pytest.raises(AdaptbenchError, match=r"tuner\.layers: must be <= [46], the base's layers"):
        preset(base, run("pro", {"kind": "llama_pro", "layers": 7}))
    with pytest.raises(AdaptbenchError, match=r"sequence_length: must be <= 256, the base's longest input"):
        preset(base, run("full", {"kind": "full"}) | {"training": {"sequence_length": 512}})


LONG = {"short_factor": [1.0] * 8, "long_factor": [4.0] * 8}


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("phi3", {"rope_scaling": LONG | {"type": "longrope"}, "original_max_position_embeddings": 48}),
        ("phi3", {"rope_parameters": LONG | {"rope_type": "longrope", "rope_theta": 1e4},
         "original_max_position_embeddings": 48}),
        ("llama", {"rope_parameters": LONG | {"rope_type": "longrope", "rope_theta": 1e4,
         "original_max_position_embeddings": 48}}),
    ],
)  # fmt: skip
def test_beyond_the_original_length_of_longrope_no_input_goes(kind, config, tmp_path, tokenizer):
    """There the longest row of a batch would decide how the others are rotated."""
    base = taken(tmp_path / "base", tokenizer, kind)
    whole = json.loads((base / "config.json").read_text())
    whole.pop("rope_parameters")
    (base / "config.json").write_text(json.dumps(whole | config))
    with pytest.raises(AdaptbenchError, match=r"sequence_length: must be <= 48, the base's longest input"):
        preset(base, run("full", {"kind": "full"}) | {"training": {"sequence_length": 64}})
    model = storage.load_model(base)
    assert architectures.longest_input(model.config.to_dict()) == 48
    assert ScoringLM(model, tokenizer, 4).max_length == 48
    rows = torch.tensor([list(range(20, 68)), [*range(30, 50), *[0] * 28]])
    with torch.no_grad():
        beside, alone = model(input_ids=rows).logits[1, :20], model(input_ids=rows[1:, :20]).logits[0]
    assert torch.allclose(beside, alone, atol=1e-4)
