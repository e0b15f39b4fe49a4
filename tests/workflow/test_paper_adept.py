"""The papers' presets at toy size: the same file, its sizes cut down, against a hub that is a local cache
(HF_HUB_OFFLINE=1).

The hub's ids are the preset's own; behind them lie a tiny model and made-up documents.

Run: pytest tests/workflow/test_paper_adept.py
"""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from adaptbench.config import load
from adaptbench.graph import surroundings
from tests.support import hub
from tests.support.models import toy_model
from tests.support.processes import snakemake
from tests.support.project import PROJECT, copy_of_project

pytestmark = pytest.mark.graph
MODEL = "Qwen/Qwen3-1.7B-Base"
PRESET = yaml.safe_load((PROJECT / "config" / "paper-adept.yaml").read_text())
RUNS = ("full", "adept")
STOCK = {"general": ["mmlu_stem", "arc_easy"], "domain": ["gsm8k"]}
CUT = {
    "data": {
        "general": {"probe_documents": 16, "replay_documents": 20, "test_items": 6},
        "domain": {"train_items": 40, "validation_items": 4, "test_items": 6},
    },
    "training": {"steps": 3, "batch_size": 2, "micro_batch_size": 1, "sequence_length": 64, "precision": "float32"},
    "evaluation": {"batch_size": 32, "stock_tasks": STOCK},
    # Importance is measured every 500 steps there, of which these have three.
    "runs": [
        run | ({"tuner": run["tuner"] | {"refresh_every": 1}} if run["name"] == "adept" else {})
        for run in PRESET["runs"]
        if run["name"] in RUNS
    ],
    "ablation": [],
}


@pytest.fixture(scope="module")
def home(tmp_path_factory, tokenizer) -> Path:
    """A hub's cache with what the preset names: its model, its corpora, the data of STOCK."""
    folder = tmp_path_factory.mktemp("hub")
    model = tmp_path_factory.mktemp("model")
    toy_model("qwen3", layers=6, vocabulary=len(tokenizer)).save_pretrained(model)
    tokenizer.save_pretrained(model)
    hub.add_model(folder, MODEL, model)
    preset = load.load(PROJECT / "config" / "paper-adept.yaml")
    for kind, subset in (("domain", "default"), ("general", preset.data.general.subset)):
        hub.add_texts(folder, getattr(preset.data, f"{kind}_corpus").hub_id, config=subset)
    hub.add_stock(folder, [task for tasks in STOCK.values() for task in tasks])
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    folder = copy_of_project(tmp_path_factory.mktemp("paper") / "project")
    (folder / "cut.yaml").write_text(yaml.safe_dump(CUT))
    return folder


TABLE = "results/paper-adept/tables/domain.csv"
ADEPT = ("--cores", "2", "--configfile", "config/paper-adept.yaml", "cut.yaml")


def test_a_dry_run_needs_neither_hub_nor_cache(project, tmp_path):
    done = snakemake(project, *ADEPT, "--dry-run", HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr[-3000:]
    assert "domain/adept/seed0/run.json" in done.stdout
    assert "evaluate" in done.stdout


def test_a_model_that_cannot_be_had_is_one_line_before_any_job(project, tmp_path):
    for _ in range(2):  # and no lock is left
        done = snakemake(project, *ADEPT, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path))
        assert done.returncode == 1
        assert done.stderr.rstrip().endswith(
            f"error: base.model: {MODEL}: is not in the hub's cache, and HF_HUB_OFFLINE is set"
        )
    assert not list((project / "results" / "paper-adept").glob("stages/*"))


@pytest.fixture(scope="module")
def made(project, home) -> Path:
    """The preset's results, up to its table; pages and figures are those of every other preset."""
    done = snakemake(project, TABLE, *ADEPT, HF_HUB_OFFLINE="1", HF_HOME=str(home))
    assert done.returncode == 0, done.stderr[-5000:]
    return project / "results" / "paper-adept"


def test_every_run_ends_and_is_asked_every_stock_task(made):
    wanted = {"general_mmlu_stem", "general_arc_easy", "gsm8k", "general_corpus_text", "corpus_text"}
    for run in ("base", *RUNS):
        result = json.loads((made / f"runs/domain/{run}/seed0/run.json").read_text())
        assert result["status"] == "done"
        assert set(result["metrics"]) == wanted
        assert result["metrics"]["general_mmlu_stem"]["documents"] == 2 * 19
        assert result["stock_tasks"]["general_arc_easy"]["data"] == ["allenai/ai2_arc"]
        assert result["provenance"]["base"]["model"] == MODEL
        assert result["provenance"]["base"]["commit"] == hub.COMMIT
    expanded = json.loads((made / "runs/domain/adept/seed0/run.json").read_text())
    stages = expanded["cost"]["stages"].values()
    assert any(stage["name"] == "probe" for stage in stages)
    config_file = Path(expanded["model"]["directory"]) / "config.json"
    assert json.loads((made.parent.parent / config_file).read_text())["num_hidden_layers"] == 10


def test_stock_tasks_are_in_the_table_with_label_unit_n_and_what_was_forgotten(made):
    head = [line for line in (made / "tables" / "domain.md").read_text().splitlines() if line.startswith("| run |")]
    assert "gsm8k (exact match, n = 2)" in head[0]
    assert any("mmlu_stem (accuracy, n = 38) | forgotten" in line for line in head)
    compared = pd.read_csv(made / "collected" / "comparisons.csv")
    assert set(compared[compared["kind"] == "kept"]["task"]) >= {"general_mmlu_stem", "general_arc_easy"}
    assert set(compared[compared["kind"] == "baseline"]["task"]) == {"gsm8k", "corpus_text"}


def test_nothing_is_made_again(project, made, home):
    done = snakemake(project, TABLE, *ADEPT, "--dry-run", HF_HUB_OFFLINE="1", HF_HOME=str(home))
    assert "Nothing to be done" in done.stdout + done.stderr


@pytest.mark.parametrize("path", sorted(PROJECT.glob("config/paper-*.yaml")), ids=lambda path: path.stem)
def test_every_papers_preset_is_valid_and_lm_eval_has_its_tasks(path):
    preset = load.load(path)
    assert preset.name == path.stem
    assert preset.base.model is not None
    surroundings._check_stock_tasks(preset)
