"""What can be said of jobs on a cluster without one: which use a GPU, what the profile gives them, how their end is
understood.

Run: pytest tests/slurm/test_profile.py
"""

from pathlib import Path

import yaml

from adaptbench.config import load
from adaptbench.graph import targets, unfolding
from adaptbench.graph.rules import evaluation_gpus, stage_gpus
from tests.support.presets import preset_values
from tests.support.processes import snakemake
from tests.support.project import PROJECT


def test_jobs_that_train_or_score_a_model_use_a_gpu_and_no_others():
    unfolded = unfolding.unfold(load.load(PROJECT / "config/smoke.yaml"))
    asked = {(node.kind, stage_gpus(unfolded, node.id)) for node in unfolded.nodes.values()}
    none = ("data", "tasks", "tokenizer", "assemble", "posthoc")
    assert asked == {(kind, 0) for kind in none} | {(kind, 1) for kind in ("base", "prepare", "train")}
    of_policies = {one.run: evaluation_gpus(unfolded, one.key) for one in unfolded.evaluations if one.policy}
    assert of_policies == {"majority": 0, "always-call": 0, "always-give-up": 0}
    assert {evaluation_gpus(unfolded, one.key) for one in unfolded.evaluations if not one.policy} == {1}


def test_the_profile_gives_the_rules_that_compute_memory_and_time():
    profile = yaml.safe_load((PROJECT / "profiles/slurm/config.yaml").read_text())
    removing = ("--configfile", "config/smoke.yaml", "--config", "keep=scored")
    rules = snakemake(PROJECT, "--list-rules", *removing).stdout.split()
    assert set(profile["set-resources"]) == {"stage", "intermediate_stage", "evaluate"} < set(rules)
    assert profile["set-resources"]["stage"] == profile["set-resources"]["intermediate_stage"]
    for resources in (profile["default-resources"], *profile["set-resources"].values()):
        assert resources.keys() == {"mem_mb", "runtime"}
    assert profile["executor"] == "slurm"
    assert profile["retries"] > 0


def test_what_is_done_is_reported_though_the_log_shows_how_a_job_was_cancelled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    unfolded = unfolding.unfold(load.validate(preset_values(), "toy.yaml"))
    done = Path("results/toy/runs/domain/full/seed0/run.json")
    done.parent.mkdir(parents=True)
    done.touch()
    log = Path("snakemake.log")
    of_job = (
        "Will exit after finishing currently running jobs (scheduler).\nShutting down, this might take some time.\n"
    )
    failed = "Exiting because a job execution failed. Look above for error messages\n"
    report = ["partial results/toy/plan/report-main.json results/toy/partial/main"]
    for text, commands in (
        (failed, report),
        (of_job + failed, report),  # a job was cancelled, and in the end something failed
        (of_job, []),  # Snakemake itself was asked to stop
        (failed + of_job, []),
        ("Terminating processes on user request, this might take some time.\n", []),
    ):
        log.write_text(text)
        assert targets.after_failure(unfolded, [str(log)]) == commands
