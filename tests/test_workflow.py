"""The whole graph, run by Snakemake in a copy of the project: results, reruns, added methods, kills, bad surroundings.

One smoke run is made for the module; the tests look at it or run a little more in the same copy, in the order in which
they stand.

Run: pytest tests/test_workflow.py
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import PROJECT, copy_of_project, finished, has_checkpoint, snakemake, wait_until

pytestmark = pytest.mark.graph
SMOKE = ("--cores", "2", "--configfile", "config/smoke.yaml")
RUNS = yaml.safe_load((PROJECT / "config/smoke.yaml").read_text())["runs"]
DOMAIN, AGENT, REASONING = (
    [run["name"] for run in RUNS if run["track"] == track] for track in ("domain", "agent", "reasoning")
)
POLICIES = ["majority", "always-call", "always-give-up"]
NOTHING = "Nothing to be done"
TOKENS = {name: f"secret-of-{name}" for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY")}


@pytest.fixture(scope="module")
def smoke(tmp_path_factory) -> Path:
    """A copy of the project in which the smoke preset has run."""
    folder = copy_of_project(tmp_path_factory.mktemp("smoke") / "project")
    done = snakemake(folder, *SMOKE, **TOKENS)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "secret-of" not in done.stdout + done.stderr
    assert "Done. Tables: results/smoke/tables" in done.stdout + done.stderr
    return folder


def planned(folder: Path, *arguments: str) -> list[str]:
    """The outputs that a dry run would make, joined per job."""
    done = snakemake(folder, *arguments, "--dry-run")
    assert done.returncode == 0, done.stdout + done.stderr
    text = done.stdout + done.stderr
    return [] if NOTHING in text else re.findall(r"^    output: (.*)$", text, re.MULTILINE)


def with_run(folder: Path, line: str) -> str:
    """The smoke preset with one more run."""
    return (folder / "config/smoke.yaml").read_text().replace("ablation:\n", f"{line}ablation:\n")


def run_json(folder: Path, run: str, seed: int = 0, *, track: str = "domain") -> dict:
    return json.loads((folder / f"results/smoke/runs/{track}/{run}/seed{seed}/run.json").read_text())


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


def test_the_plain_operations_give_the_same_results_as_the_fast_ones(smoke, tmp_path):
    """The whole preset once more, with ADAPTBENCH_KERNELS=reference: rounding apart, nothing differs."""
    plain = copy_of_project(tmp_path / "plain")
    done = snakemake(plain, *SMOKE, ADAPTBENCH_KERNELS="reference")
    assert done.returncode == 0, done.stderr[-3000:]
    compared = 0
    for path in sorted((smoke / "results/smoke/runs").glob("*/*/*/run.json")):
        fast, slow = path, plain / path.relative_to(smoke)
        ran = [json.loads(one.read_text())["provenance"]["kernels"] for one in (fast, slow)]
        assert ran[0].keys() == ran[1].keys()
        assert all(ways == ["reference"] for ways in ran[1].values())
        assert all("reference" not in ways for ways in ran[0].values())
        samples = (pd.read_parquet(one.with_name("samples.parquet")) for one in (fast, slow))
        ours, theirs = (rows[rows["metric"] != "milliseconds"] for rows in samples)
        assert ours["document_hash"].tolist() == theirs["document_hash"].tolist()
        text = (ours["task"] == "general_text").to_numpy()
        near = np.isclose(ours["value"], theirs["value"], rtol=1e-4, atol=1e-4)
        assert near[text].all()
        assert near.mean() > 0.97  # an answer may turn over where two were equally likely
        compared += len(ran[1])
    assert compared > 4


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
    for told in ("what it forgets", "corrected after Holm", "coloured by who spoke"):
        assert told in text, told


def test_samples_hold_one_row_for_each_document_and_agree_with_the_metrics(smoke):
    from adaptbench.results import read_samples

    samples = read_samples(smoke / "results/smoke/runs/domain/full/seed0/samples.parquet")
    metrics = run_json(smoke, "full")["metrics"]
    assert not samples.duplicated(["task", "document"]).any()
    for task, rows in samples.groupby("task"):
        mean = (rows["value"] * rows["weight"]).sum() / rows["weight"].sum()
        assert len(rows) == metrics[task]["documents"]
        assert mean == pytest.approx(metrics[task]["value"])
    choices = samples[samples["task"] == "domain_facts"]
    assert ((choices["prediction"] == choices["target"]) == (choices["value"] == 1)).all()


def files_with(folder: Path, text: bytes) -> list[Path]:
    """What a run leaves, logs and Snakemake's own notes included, where the text is in it."""
    left = (path for place in ("results", ".snakemake") for path in (folder / place).rglob("*") if path.is_file())
    return [path for path in left if text in path.read_bytes()]


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


def test_a_second_run_does_nothing_and_is_fast(smoke):
    started = time.monotonic()
    done = snakemake(smoke, *SMOKE)
    seconds = time.monotonic() - started
    assert NOTHING in done.stdout + done.stderr
    assert seconds < 6  # 2 s on a quiet machine; the bound leaves room for a busy one


def test_models_between_can_be_removed_and_nothing_is_made_again(smoke, tmp_path):
    """Not even by a new evaluation, whose costs come from the stages' records."""
    copy = Path(shutil.copytree(smoke, tmp_path / "copy"))
    before = {path.name for path in (copy / "results/smoke/stages").iterdir()}
    done = finished([sys.executable, "-m", "adaptbench", "clean-work", "results/smoke"], copy)
    assert done.returncode == 0, done.stderr
    gone = before - {path.name for path in (copy / "results/smoke/stages").iterdir()}
    # The ablation, which is not made yet, needs ADEPT's expansion.
    assert len(gone) == 12
    assert any("llama_pro-expand" in name for name in gone)
    assert not planned(copy, *SMOKE)
    cost = run_json(copy, "llama-pro")["cost"]
    shutil.rmtree(copy / "results/smoke/runs/domain/llama-pro")
    done = snakemake(copy, *SMOKE)
    assert done.returncode == 0, done.stderr[-3000:]
    assert run_json(copy, "llama-pro")["cost"] == cost
    assert "is not drawn" not in done.stdout + done.stderr
    assert not gone & {path.name for path in (copy / "results/smoke/stages").iterdir()}


def test_models_between_are_temporary_where_the_preset_says_so(smoke):
    run = "results/scored/runs/domain/llama-pro/seed0/run.json"
    arguments = (run, *SMOKE, "--config", "name=scored", "keep=scored")
    done = snakemake(smoke, *arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    stages, records = (
        {path.name.rpartition("-")[0] for path in (smoke / f"results/scored/{place}").iterdir()} for place in ("stages", "records")
    )  # fmt: skip
    assert stages == {"tokenizer", "base", "domain-cpt-llama_pro-tune-seed0"}
    assert records == {"base", "llama_pro-expand", "domain-cpt-llama_pro-tune-seed0"}
    result = json.loads((smoke / run).read_text())
    assert [stage["name"] for stage in result["cost"]["stages"].values()] == [None, "expand", "tune"]
    assert not planned(smoke, *arguments)
    assert not planned(smoke, run, *SMOKE, "--config", "name=scored")


def test_every_model_directory_is_a_plain_one_and_scores_the_same_through_the_lm_eval_command(smoke, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    models = {path.parent for path in smoke.glob("results/smoke/stages/*/config.json")}
    # The base, two expansions, what each domain run ends in; two global stages of agents, one of them under LoRA, one
    # model in all roles, GLPFT's three under full tuning (LoRA's are adapters), and three stages of each curriculum with latents.
    assert len(models) == 1 + 2 + len(DOMAIN) + 2 + 1 + 3 + 3 + 3
    for model in models:
        assert not [file for file in model.iterdir() if file.suffix in (".bin", ".pt", ".pkl", ".py")]
        assert AutoModelForCausalLM.from_pretrained(model).num_parameters() > 0
        assert AutoTokenizer.from_pretrained(model)("a").input_ids
    # One command line for a LoRA run, whose directory says nothing of adapters, and all its tasks.
    expected = run_json(smoke, "lora")
    command = [
        sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--model_args", f"pretrained={smoke / expected['model']['directory']}",
        "--tasks", *expected["metrics"], "--include_path", str(smoke / "results/smoke/tasks"), "--batch_size", "128", "--device", "cpu",
        "--output_path", str(tmp_path),
    ]  # fmt: skip
    done = finished(command, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(next(tmp_path.rglob("results_*.json")).read_text())["results"]
    from adaptbench.results import read_samples

    samples = read_samples(smoke / "results/smoke/runs/domain/lora/seed0/samples.parquet")
    for task, metric in expected["metrics"].items():
        theirs = next(value for key, value in found[task].items() if key.split(",")[0] == metric["metric"])
        # lm-eval has no weighted mean for our bits per byte: compare its plain mean with ours.
        ours = samples[samples["task"] == task]["value"].mean()
        assert theirs == pytest.approx(ours, abs=1e-6), task


def test_an_edited_method_reruns_that_method_alone(smoke):
    source = smoke / "methods/tuners/lora.py"
    before = source.read_text()
    source.write_text(before + "\n# a remark\n")
    try:
        outputs = " ".join(planned(smoke, *SMOKE))
    finally:
        source.write_text(before)
    assert "domain-cpt-lora-tune" in outputs
    assert "runs/domain/lora/seed0/run.json" in outputs
    for other in ("cpt-full", "llama_pro", "base-", "runs/domain/full/", "runs/domain/llama-pro/"):
        assert other not in outputs
    assert not planned(smoke, *SMOKE)


def test_an_edited_task_file_scores_again_and_trains_nothing(smoke):
    source = smoke / "benchmarks/domain/tasks/domain_facts.yaml"
    before = source.read_text()
    source.write_text(before + "\n# a remark\n")
    try:
        outputs = planned(smoke, *SMOKE)
    finally:
        source.write_text(before)
    assert len([output for output in outputs if "runs/domain/" in output]) == 1 + len(DOMAIN)
    assert not any("stages/" in output for output in outputs)


def test_a_changed_option_reruns_that_run_alone(smoke):
    preset = yaml.safe_load((smoke / "config/smoke.yaml").read_text())
    next(run for run in preset["runs"] if run["name"] == "lora")["tuner"]["rank"] = 2
    (smoke / "config/other.yaml").write_text(yaml.safe_dump(preset))
    outputs = planned(smoke, "--cores", "2", "--configfile", "config/other.yaml")
    made = [output for output in outputs if "runs/" in output or "stages/" in output]
    assert len(made) == 2
    assert all("lora" in output for output in made)


def test_a_new_method_is_one_file_and_only_its_jobs_run(smoke):
    """The sketch in docs/adding-a-method.md, as it stands there."""
    text = (PROJECT / "docs/adding-a-method.md").read_text()
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    line = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)[1]
    (smoke / "methods/tuners/norms.py").write_text(code)
    (smoke / "config/more.yaml").write_text(with_run(smoke, line))
    arguments = ("--cores", "2", "--configfile", "config/more.yaml")
    made = [output for output in planned(smoke, *arguments) if "runs/" in output or "stages/" in output]
    assert len(made) == 2
    assert all("norms" in output for output in made)
    done = snakemake(smoke, *arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    assert run_json(smoke, "norms")["metrics"]["domain_facts"]["documents"] == 40
    assert "| norms |" in (smoke / "results/smoke/tables/domain.md").read_text()


def test_the_contract_suite_finds_a_new_method_by_its_name(smoke):
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-k",
        "norms",
        "tests/methods/test_contract.py",
    ]
    environment = os.environ | {"PYTHONPATH": str(smoke)}
    done = finished(command, smoke, environment=environment)
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= 5


def test_an_ablation_is_made_when_it_is_asked_for_and_leaves_the_main_tables_alone(smoke):
    assert snakemake(smoke, *SMOKE).returncode == 0
    before = (smoke / "results/smoke/tables/domain.md").stat().st_mtime_ns
    assert not (smoke / "results/smoke/tables/ablation_adept.md").exists()
    done = snakemake(smoke, "ablation", *SMOKE)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = (smoke / "results/smoke/tables/ablation_adept.md").read_text().splitlines()[2:5]
    assert [row.split("|")[1].strip() for row in rows] == ["base", "adept", "adept-minmax"]
    assert (smoke / "results/smoke/figures/ablation_adept_forgetting.svg").exists()
    assert "adept - llama-pro" in (smoke / "results/smoke/tables/ablation_paper.md").read_text()
    assert (smoke / "results/smoke/tables/domain.md").stat().st_mtime_ns == before
    assert not planned(smoke, *SMOKE)


def test_a_copy_of_the_project_with_its_results_makes_nothing_again(smoke, tmp_path):
    """Neither the folder's name, spaces in it included, nor the interpreter's is part of what a job is."""
    assert snakemake(smoke, *SMOKE).returncode == 0
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


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--config", "evaluation={batch_size: 0}"), "error: config/smoke.yaml: evaluation.batch_size: must be > 0"),
        (("--config", "name=a: b: c"), "error: --config: 'a: b: c' is not YAML; quote it"),
        (("--config", "base={model: ./nowhere}"), "error: base.model: nowhere: no such model folder"),
        (("--config", "data={gsm8k: {path: nowhere}}"), "error: data.gsm8k.path: nowhere: no such folder"),
    ],
)
def test_a_mistake_is_one_line_before_anything_runs(smoke, arguments, line):
    done = snakemake(smoke, *SMOKE, *arguments)
    assert done.returncode != 0
    said = [text for text in done.stderr.strip().splitlines() if not text.startswith("Using workflow specific profile")]
    assert said == [line]


def test_a_killed_stage_goes_on_from_its_checkpoint_and_ends_in_the_same_bits(smoke):
    """kill -9 of the base's training, then the same command again."""
    name = next((smoke / "results/smoke/stages").glob("base-*")).name
    reference = smoke / "results/smoke/stages" / name / "model.safetensors"
    expected = reference.read_bytes()
    shutil.copytree(smoke / "results/smoke/data", smoke / "results/kill/data")
    shutil.copytree(next((smoke / "results/smoke/stages").glob("tokenizer-*")), smoke / "results/kill/stages" / next((smoke / "results/smoke/stages").glob("tokenizer-*")).name)  # fmt: skip
    preset = (smoke / "config/smoke.yaml").read_text().replace("name: smoke", "name: kill\ncheckpoint_seconds: 0")
    (smoke / "config/kill.yaml").write_text(preset)
    target = f"results/kill/stages/{name}"
    command = [sys.executable, "-m", "snakemake", target, "--cores", "2", "--configfile", "config/kill.yaml"]
    process = subprocess.Popen(
        command, cwd=smoke, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        wait_until(lambda: has_checkpoint(smoke / "results/kill/work"))
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)
    state = next((smoke / "results/kill/work").glob("*/checkpoint/state.json"))
    step = json.loads(state.read_text())["state"]["counts"]["step"]
    assert 0 < step < 30
    assert not (smoke / target).exists()
    done = snakemake(smoke, "--unlock", "--configfile", "config/kill.yaml")
    done = snakemake(smoke, target, "--cores", "2", "--configfile", "config/kill.yaml")
    assert done.returncode == 0, done.stderr[-3000:]
    assert (smoke / target / "model.safetensors").read_bytes() == expected
    log = [json.loads(line)["step"] for line in (smoke / target / "training.jsonl").read_text().splitlines()]
    assert log == list(range(1, 31))
    assert not list((smoke / "results/kill/work").iterdir())


def _stage(folder: Path, kind: str, out: Path) -> list[str]:
    """The command that runs one stage of the smoke run again, alone, into `out`."""
    plans = (folder / "results/smoke/plan").glob("*.json")
    plan = next(path for path in plans if json.loads(path.read_text()).get("kind") == kind)
    return [sys.executable, "-m", "adaptbench", "stage", str(plan.relative_to(folder)), str(out)]


def test_a_full_disk_is_one_line_and_leaves_nothing(smoke, tmp_path):
    no_file_over_49_kib = ["bash", "-c", "trap '' XFSZ; ulimit -f 49; exec \"$@\"", "limited"]
    done = finished([*no_file_over_49_kib, *_stage(smoke, "train", tmp_path / "out")], smoke)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: no space left for")
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
    shutil.rmtree(smoke / "results/smoke/work", ignore_errors=True)


def test_an_interrupted_stage_says_so_in_one_line_and_leaves_nothing(smoke, tmp_path):
    said = tmp_path / "said"
    with said.open("w") as file:
        process = subprocess.Popen(
            _stage(smoke, "base", tmp_path / "out"), cwd=smoke, stdout=subprocess.DEVNULL, stderr=file
        )
    wait_until(lambda: "step" in said.read_text() or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert re.search(
        r"^error: stopped by SIGINT after step \d+ of 30; run again to go on from there$",
        said.read_text().strip().splitlines()[-1],
    )
    assert [path.name for path in tmp_path.iterdir()] == ["said"]
    shutil.rmtree(smoke / "results/smoke/work", ignore_errors=True)


def test_when_a_run_fails_the_others_are_reported_and_a_rerun_completes_them(smoke):
    """A run that diverges: the rest end, their tables are made apart from the real ones, the exit status says it."""
    preset = with_run(smoke, "").replace("name: smoke", "name: fails")
    bad = "  - {name: bad, track: domain, curriculum: {kind: cpt}, tuner: {kind: full}, training: {learning_rate: 1e30}}\n"
    (smoke / "config/fails.yaml").write_text(with_run(smoke, bad).replace("name: smoke", "name: fails"))
    shutil.copytree(
        smoke / "results/smoke", smoke / "results/fails", ignore=shutil.ignore_patterns("tables", "figures")
    )
    arguments = ("--cores", "2", "--configfile", "config/fails.yaml")
    done = snakemake(smoke, *arguments, **TOKENS)
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert "secret-of" not in said
    assert not files_with(smoke, b"secret-of")
    assert "the loss is nan; lower training.learning_rate" in said
    all_but_one = 3 + len(POLICIES) + len(RUNS)
    told = f"{all_but_one} of {all_but_one + 1} runs are done; their tables and figures: results/fails/partial/main."
    assert told in said
    table = (smoke / "results/fails/partial/main/tables/domain.md").read_text()
    assert "| bad | left out: results/fails/runs/domain/bad/seed0/run.json: missing |" in table
    assert re.search(r"\| lora \| \**0\.\d{3} \[", table)
    assert not (smoke / "results/fails/tables/domain.md").exists()
    (smoke / "config/fails.yaml").write_text(preset)
    assert snakemake(smoke, *arguments).returncode == 0
    assert "| lora |" in (smoke / "results/fails/tables/domain.md").read_text()
    assert not (smoke / "results/fails/partial").exists()


def test_two_at_once_do_not_harm_each_other(smoke):
    """The second is told that the folder is locked, or comes late enough to find all done; the first ends well."""
    (smoke / "config/two.yaml").write_text(
        (smoke / "config/smoke.yaml").read_text().replace("name: smoke", "name: two")
    )
    target = "results/two/data/" + next((smoke / "results/smoke/data").glob("domain-*")).name
    with ThreadPoolExecutor() as pool:
        both = list(
            pool.map(lambda _: snakemake(smoke, target, "--cores", "1", "--configfile", "config/two.yaml"), "12")
        )
    assert any(done.returncode == 0 for done in both), both
    for done in both:
        assert done.returncode == 0 or "lock" in (done.stdout + done.stderr).lower()
    assert (smoke / target / "manifest.json").exists()


def test_time_says_where_it_went(smoke):
    done = finished([sys.executable, "-m", "adaptbench", "time", "results/smoke"], smoke)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["seconds", "jobs", "start-up", "training", "evaluation", "all"]
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
