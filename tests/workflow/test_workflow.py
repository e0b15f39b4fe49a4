"""The whole graph, run by Snakemake in a copy of the project: what it makes, and that it makes nothing twice.

Run: pytest tests/workflow/test_workflow.py
"""

import json
import re
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from adaptbench.config import load
from adaptbench.config.training import Training
from adaptbench.graph import unfolding
from adaptbench.graph.estimate import Estimate
from adaptbench.graph.model_size import Assumptions
from adaptbench.train.attention import precision
from tests.support.processes import finished, snakemake
from tests.support.project import SMOKE, copy_of_project
from tests.support.smoke import AGENT, DOMAIN, NOTHING, POLICIES, REASONING, files_with, planned, run_json

pytestmark = pytest.mark.graph


def test_everything_that_is_promised_is_there(smoke):
    for run in ["base", *DOMAIN]:
        result = run_json(smoke, run)
        assert result["status"] == "done"
        assert set(result["metrics"]) == {
            "general_facts",
            "general_skills",
            "general_text",
            "domain_facts",
            "domain_answers",
        }
        assert result["provenance"]["versions"]["torch"]
        assert result["seconds"]["all"] > result["seconds"]["evaluation"] > 0
    for run in ["base", *POLICIES, *AGENT]:
        result = run_json(smoke, run, track="agent")
        general = set() if run in POLICIES else {"general_facts", "general_skills", "general_text"}
        assert result["status"] == "done"
        assert set(result["metrics"]) == {"agent_steps", "agent_live"} | general
    for run in ["base", *REASONING]:
        result = run_json(smoke, run, track="reasoning")
        assert set(result["metrics"]) == {"chains", "general_facts", "general_skills", "general_text"}
        assert result["metrics"]["chains"]["more"]["visible_tokens"] > 0
    assert run_json(smoke, "coconut", track="reasoning")["metrics"]["chains"]["more"]["latent_tokens"] == 2
    assert "glpft-lora" in (smoke / "results/smoke/transcripts/agent.html").read_text()
    assert "3 tracks" in (smoke / "results/smoke/index.html").read_text()
    for suffix in ("csv", "md", "tex"):
        assert "always-call" in (smoke / f"results/smoke/tables/agent.{suffix}").read_text()
        assert "wise-ft-0.5" in (smoke / f"results/smoke/tables/domain.{suffix}").read_text()
        for table in ("overall", "fairness"):
            assert "glpft-lora" in (smoke / f"results/smoke/tables/{table}.{suffix}").read_text()
        # One seed of a smoke run proves nothing, but what could be tested has been.
        assert "glpft" in (smoke / f"results/smoke/tables/paper.{suffix}").read_text()
    assert "`make ablation` makes" not in (smoke / "results/smoke/tables/paper.md").read_text()
    drawn = {path.name for path in (smoke / "results/smoke/figures").iterdir()}
    of_table = ("forgetting", "scores", "loss", "effects")
    names = [f"{track}_{name}" for track in ("domain", "agent", "reasoning") for name in of_table]
    names += ["cost", "adept_layer_importance", "adept_unit_rates", "agent_calls", "reasoning_compute"]
    names += ["coconut_geometry", "lt_tuning_insertion", "lt_tuning_geometry", "lt_tuning_probes"]
    assert drawn == {f"{name}.{suffix}" for name in names for suffix in ("svg", "pdf", "png")}


FLOAT32 = ("--config", 'training={"precision": "float32"}', 'base={"training": {"precision": "float32"}}')


FUSED = [f"results/smoke/runs/{run}/seed0/run.json" for run in ("domain/adept", "reasoning/lt-tuning")]
"""Runs that use every operation of kernels/ that any run of the preset uses."""


@pytest.fixture(scope="module")
def in_float32(smoke, tmp_path_factory):
    """A copy of the project where the smoke preset has run in float32: the one that others look at, where the machine
    has no bfloat16.
    """
    if precision(Training(steps=1)) == "float32":
        return smoke
    folder = copy_of_project(tmp_path_factory.mktemp("float32") / "project")
    done = snakemake(folder, *FUSED, *SMOKE, *FLOAT32)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_the_plain_operations_give_the_same_results_as_the_fast_ones(in_float32, tmp_path):
    """Once more with ADAPTBENCH_KERNELS=reference: rounding apart, nothing differs. In float32: in bfloat16 a
    difference in float32's last place can turn a rounding over, which is 2^15 times as large.
    """
    plain = copy_of_project(tmp_path / "plain")
    done = snakemake(plain, *FUSED, *SMOKE, *FLOAT32, ADAPTBENCH_KERNELS="reference")
    assert done.returncode == 0, done.stderr[-3000:]
    operations = set()
    for path in FUSED:
        fast, slow = in_float32 / path, plain / path
        stages = json.loads(slow.read_text())["cost"]["stages"].values()
        assert {stage["precision"] for stage in stages if stage["precision"]} <= {"float32"}
        ran = [json.loads(one.read_text())["provenance"]["kernels"] for one in (fast, slow)]
        assert ran[0].keys() == ran[1].keys()
        assert all(ways == ["reference"] for ways in ran[1].values())
        assert {operation for operation, ways in ran[0].items() if "reference" in ways} <= {
            "unitwise_adamw"
        }  # a CPU has no other
        samples = (pd.read_parquet(one.with_name("samples.parquet")) for one in (fast, slow))
        ours, theirs = (rows[rows["metric"] != "milliseconds"] for rows in samples)
        assert ours["document_hash"].tolist() == theirs["document_hash"].tolist()
        text = (ours["task"] == "general_text").to_numpy()
        near = np.isclose(ours["value"], theirs["value"], rtol=1e-4, atol=1e-4)
        assert near[text].all()
        assert near.mean() > 0.97  # an answer may turn over where two were equally likely
        operations |= ran[1].keys()
    assert operations >= {"latent_fusion", "unitwise_adamw"}


def test_snakemakes_own_report_holds_tables_figures_and_pages(smoke, tmp_path):
    path = tmp_path / "report.html"
    done = snakemake(smoke, *SMOKE, "--report", str(path))
    assert done.returncode == 0, done.stderr[-3000:]
    text = path.read_text()
    for name in (
        "overall.csv",
        "paper.csv",
        "domain_effects.svg",
        "lt_tuning_insertion.svg",
        "agent.html",
        "index.html",
    ):
        assert name in text, name
    for told in ("what it forgets", "corrected after Holm", "coloured by speaker"):
        assert told in text, told


def test_samples_hold_one_row_for_each_document_and_agree_with_the_metrics(smoke):
    from adaptbench.io.results import read_samples

    samples = read_samples(smoke / "results/smoke/runs/domain/full/seed0/samples.parquet")
    metrics = run_json(smoke, "full")["metrics"]
    assert not samples.duplicated(["task", "document"]).any()
    for task, rows in samples.groupby("task"):
        mean = (rows["value"] * rows["weight"]).sum() / rows["weight"].sum()
        assert len(rows) == metrics[task]["documents"]
        assert mean == pytest.approx(metrics[task]["value"])
    choices = samples[samples["task"] == "domain_facts"]
    assert ((choices["prediction"] == choices["target"]) == (choices["value"] == 1)).all()


def test_tokens_are_in_no_file_that_a_run_leaves(smoke):
    assert files_with(smoke, b"domain_facts"), "the search finds what is there"
    assert not files_with(smoke, b"secret-of")


def test_the_cost_of_a_run_is_that_of_its_own_stages(smoke):
    full, pro, line = (run_json(smoke, run)["cost"] for run in ("full", "llama-pro", "wise-ft-0.5"))
    assert full["steps"] == 10
    assert full["tokens"] == 10 * 8 * 64
    assert line["tokens"] == full["tokens"]
    assert pro["flops"] > full["flops"] * 0.5
    assert run_json(smoke, "base")["cost"]["steps"] == 0
    stages = run_json(smoke, "lt-tuning", track="reasoning")["cost"]["stages"].values()
    attention = {stage["name"]: stage["attention"] for stage in stages if stage["kind"] == "train"}
    assert attention == {"cot": "eager", "hidden": "adaptbench_pieces", "fused": "adaptbench_pieces"}


BASES = ("base-seed0", "base-seed1", "base-seed2")


def test_what_most_work_waits_for_comes_first(tmp_path):
    """Else a base, or a long stage, is trained alone in the end while all cores but one wait."""
    folder = copy_of_project(tmp_path / "project")
    done = snakemake(folder, "--configfile", "config/tiny.yaml", "--dry-run")
    assert done.returncode == 0, done.stderr
    said = re.findall(
        r"^    wildcards: (?:.*node|key)=(.*)\n    priority: (\d+)$", done.stdout + done.stderr, re.MULTILINE
    )
    urgency = {name: int(number) for name, number in said}
    unfolded = unfolding.unfold(load.load(folder / "config" / "tiny.yaml"))
    jobs = Estimate(unfolded, Assumptions()).jobs

    def longest(name):
        readers = [node.id for node in unfolded.nodes.values() if name in node.parents.values()]
        readers += [run.key for run in unfolded.evaluations if name in (run.model, run.data, *run.tasks.values())]
        return jobs[name].seconds + max(map(longest, readers), default=0.0)

    assert len(urgency) > 150
    chains = {name: round(longest(name)) for name in jobs}
    order = sorted(set(chains.values()))
    assert urgency == {name: order.index(chains[name]) for name in urgency}
    first = sorted(urgency, key=lambda name: -urgency[name])[:6]
    assert sorted(name[:-11] for name in first) == ["agent", *BASES, "general", "tokenizer"]


def test_a_second_run_does_nothing_and_is_fast(smoke):
    started = time.monotonic()
    done = snakemake(smoke, *SMOKE)
    seconds = time.monotonic() - started
    assert NOTHING in done.stdout + done.stderr
    assert seconds < 9  # 3 s on a quiet machine; the bound leaves room for a busy one


def test_every_model_directory_is_a_plain_one_and_scores_the_same_through_the_lm_eval_command(smoke, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    models = {path.parent for path in smoke.glob("results/smoke/stages/*/config.json")}
    # The base, two expansions, what each domain run ends in; two global stages of agents, one of them under LoRA, one
    # model in all roles, GLPFT's three under full tuning (LoRA's are adapters), and three stages of each curriculum
    # with latents.
    assert len(models) == 1 + 2 + len(DOMAIN) + 2 + 1 + 3 + 3 + 3
    for model in models:
        assert not [file for file in model.iterdir() if file.suffix in (".bin", ".pt", ".pkl", ".py")]
        assert AutoModelForCausalLM.from_pretrained(model).num_parameters() > 0
        assert AutoTokenizer.from_pretrained(model)("a").input_ids
    # One command line for a LoRA run, whose directory says nothing of adapters, and all its tasks.
    expected = run_json(smoke, "lora")
    command = [
        sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--model_args",
            f"pretrained={smoke / expected['model']['directory']}",
        "--tasks", *expected["metrics"], "--include_path", str(smoke / "results/smoke/tasks"), "--batch_size", "128",
        "--device", "cpu",
        "--output_path", str(tmp_path),
    ]  # fmt: skip
    done = finished(command, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(next(tmp_path.rglob("results_*.json")).read_text())["results"]
    from adaptbench.io.results import read_samples

    samples = read_samples(smoke / "results/smoke/runs/domain/lora/seed0/samples.parquet")
    for task, metric in expected["metrics"].items():
        theirs = next(value for key, value in found[task].items() if key.split(",")[0] == metric["metric"])
        # lm-eval has no weighted mean for our bits per byte: compare its plain mean with ours.
        ours = samples[samples["task"] == task]["value"].mean()
        assert theirs == pytest.approx(ours, abs=1e-6), task


def test_a_copy_of_the_project_with_its_results_makes_nothing_again(smoke, tmp_path):
    """Neither the folder's name, spaces in it included, nor the interpreter's is part of what a job is."""
    moved = Path(shutil.copytree(smoke, tmp_path / "another place"))
    assert not planned(moved, *SMOKE)
    target = "results/again/data/" + next((smoke / "results/smoke/data").glob("general-*")).name
    done = snakemake(moved, target, *SMOKE, "--config", "name=again")
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_single_run_can_be_asked_for_by_naming_its_file(smoke):
    (smoke / "config/one.yaml").write_text(
        (smoke / "config/smoke.yaml").read_text().replace("name: smoke", "name: one")
    )
    outputs = planned(
        smoke, "results/one/runs/domain/lora/seed0/run.json", "--cores", "2", "--configfile", "config/one.yaml"
    )
    assert [output for output in outputs if "runs/" in output] == [
        "results/one/runs/domain/lora/seed0/run.json, results/one/runs/domain/lora/seed0/samples.parquet"
    ]
    assert not any("llama_pro" in output for output in outputs)


def test_config_on_the_command_line_changes_the_preset(smoke):
    outputs = planned(smoke, *SMOKE, "--config", 'training={"steps": 11}', "seeds=[0]")
    assert any("domain-cpt-full-tune" in output for output in outputs)
    assert not any("base-" in output for output in outputs)


def test_time_says_where_it_went(smoke):
    done = finished([sys.executable, "-m", "tools", "time", "results/smoke"], smoke)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["seconds", "jobs", "start-up", "compiling", "training", "evaluation", "all"]
    assert {line.split()[0] for line in lines[1:]} >= {
        "base",
        "train",
        "prepare",
        "posthoc",
        "data",
        "evaluation",
        "all",
    }
    assert float(lines[-1].split()[-1]) > 10
