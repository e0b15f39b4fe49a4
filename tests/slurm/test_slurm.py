"""profiles/slurm on a real Slurm of one node: the smoke preset runs through it, and a cancelled job goes on where it
was.

Starts the cluster of tests/slurm/cluster.sh on this machine, as root, and stops it. Takes 16 minutes on two cores; took
38 where much else ran.

Run: make slurm-test
"""

import importlib.util
import json
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.processes import finished, has_checkpoint, snakemake, wait_until
from tests.support.project import PROJECT, copy_of_project

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(3600)]
CLUSTER = str(PROJECT / "tests/slurm/cluster.sh")
# The profile as it is; but jobs here take seconds, and their logs are looked at.
SLURM = ("--profile", "profiles/slurm", "--slurm-init-seconds-before-status-checks=2", "--slurm-keep-successful-logs")
SMOKE = ("--configfile", "config/smoke.yaml")
STEPS = 100


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A fresh Slurm of one node."""
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        pytest.fail("no Slurm plugin here: `make slurm-test` installs it", pytrace=False)
    started = finished([CLUSTER, "start"], PROJECT)
    if started.returncode:
        pytest.fail(started.stderr, pytrace=False)
    yield
    assert finished([CLUSTER, "stop"], PROJECT).returncode == 0


@pytest.fixture(scope="module")
def smoke(cluster, tmp_path_factory) -> Path:
    """A copy of the project in which the smoke preset has run through Slurm."""
    folder = copy_of_project(tmp_path_factory.mktemp("slurm") / "project")
    done = finished([sys.executable, "-m", "snakemake", *SLURM, *SMOKE], folder, seconds=2400)
    print(done.stdout, done.stderr)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def jobs() -> list[dict[str, str]]:
    """What Slurm knows of every job since the cluster was started, oldest first."""
    shown = subprocess.run(["scontrol", "show", "job", "--oneliner"], capture_output=True, text=True, check=True)
    found = [dict(re.findall(r"(\w+)=(\S*)", line)) for line in shown.stdout.splitlines()]
    return sorted(found, key=lambda job: int(job["JobId"]))


def test_every_job_of_the_smoke_preset_goes_through_slurm(smoke):
    assert (smoke / "results/smoke/index.html").is_file()
    assert "wise-ft-0.5" in (smoke / "results/smoke/tables/domain.md").read_text()
    ran = jobs()
    assert {job["JobState"] for job in ran} == {"COMPLETED"}
    assert len(ran) == len(list((smoke / "results/smoke/logs").rglob("*.log"))) > 60
    rules = Counter(job["Comment"].partition("_wildcards_")[0] for job in ran)
    assert rules["rule_stage"] > 30
    assert rules["rule_evaluate"] == len(list((smoke / "results/smoke/runs").rglob("run.json")))
    assert rules["rule_tables"] == len(list((smoke / "results/smoke/logs/tables").glob("*.log"))) - rules["rule_paper"]


def test_jobs_ask_slurm_for_what_they_need(smoke):
    plans = [json.loads(path.read_text()) for path in (smoke / "results/smoke/plan").glob("*.json")]
    kinds = {plan["id"]: plan["kind"] for plan in plans if "kind" in plan}
    gpus = defaultdict(set)
    for job in jobs():
        rule, _, wildcards = job["Comment"].partition("_wildcards_")
        time_and_memory = (job["TimeLimit"], job["MinMemoryNode"])
        gpu = job.get("TresPerJob")
        if rule == "rule_stage":
            assert time_and_memory == ("12:00:00", "32000M")
            gpus[kinds[wildcards.split("_", 1)[1]]].add(gpu)
        elif rule == "rule_evaluate":
            assert time_and_memory == ("04:00:00", "32000M")
            gpus["policy" if any(name in wildcards for name in ("majority", "always")) else "model"].add(gpu)
        else:
            assert time_and_memory == ("01:00:00", "8000M")
            gpus["report"].add(gpu)
    one = {job: {"gres:gpu:1"} for job in ("base", "prepare", "train", "model")}
    none = {job: {None} for job in ("data", "tasks", "tokenizer", "assemble", "posthoc", "policy", "report")}
    assert gpus == one | none


def test_a_run_through_slurm_is_up_to_date_for_a_local_one(smoke):
    done = snakemake(smoke, "--cores", "2", *SMOKE, "--dry-run")
    assert "Nothing to be done" in done.stdout + done.stderr


def test_a_cancelled_job_is_submitted_again_and_goes_on_from_its_checkpoint(cluster, tmp_path):
    """scancel in the middle of the base's training; an uninterrupted run without Slurm ends in the same bits."""
    folder = copy_of_project(tmp_path / "project")
    smoke = (folder / "config/smoke.yaml").read_text()
    for name in ("kill", "whole"):
        preset = smoke.replace("name: smoke", f"name: {name}\ncheckpoint_seconds: 0").replace(
            "steps: 30", f"steps: {STEPS}"
        )
        (folder / f"config/{name}.yaml").write_text(preset)
    whole = snakemake(folder, "--cores", "2", "--configfile", "config/whole.yaml", "--dry-run")
    base = re.search(r"results/whole/stages/(base-\w+)", whole.stdout)[1]
    target = f"results/kill/stages/{base}"

    said = tmp_path / "said"
    with said.open("w") as file:
        command = [sys.executable, "-m", "snakemake", target, *SLURM, "--configfile", "config/kill.yaml"]
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    try:
        wait_until(lambda: has_checkpoint(folder / "results/kill/work"), seconds=900)
        job = jobs()[-1]["JobId"]
        environment = training_process(base).environ()
        subprocess.run(["scancel", job], check=True)
        assert process.wait(timeout=900) == 0
    finally:
        process.kill()
        print(said.read_text())

    assert environment["SLURM_JOB_ID"] == job
    assert environment["ADAPTBENCH_PYTHON"] == sys.executable
    assert environment["PYTHONPATH"] == str(folder)
    assert environment["GLIBC_TUNABLES"].startswith("glibc.malloc.mmap_threshold=")
    assert environment["CUDA_VISIBLE_DEVICES"] in ("0", "1")
    assert "ADAPTBENCH_WARM" not in environment

    cancelled, again = (one for one in jobs() if one["Comment"].endswith(base))
    assert (cancelled["JobId"], cancelled["JobState"], again["JobState"]) == (job, "CANCELLED", "COMPLETED")
    assert f"SLURM-job '{job}' failed, SLURM status is: 'CANCELLED'" in said.read_text()
    stopped_after = int(re.search(rf"stopped by SIGTERM after step (\d+) of {STEPS};", log_of(folder, job))[1])
    first_step = int(re.search(rf"^step (\d+)/{STEPS} ", log_of(folder, again["JobId"]), re.MULTILINE)[1])
    assert 0 < stopped_after < first_step <= stopped_after + STEPS // 10  # every tenth of the way is printed
    steps = [json.loads(line)["step"] for line in (folder / target / "training.jsonl").read_text().splitlines()]
    assert steps == list(range(1, STEPS + 1))

    done = snakemake(folder, f"results/whole/stages/{base}", "--cores", "2", "--configfile", "config/whole.yaml")
    assert done.returncode == 0, done.stderr[-3000:]
    weights = [folder / f"results/{name}/stages/{base}/model.safetensors" for name in ("kill", "whole")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def training_process(node: str) -> psutil.Process:
    """The process that trains a stage."""
    processes = {process: process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])}
    return next(
        one
        for one, words in processes.items()
        if words[1:3] == ["-m", "adaptbench"] and any(node in word for word in words)
    )


def log_of(folder: Path, job_id: str) -> str:
    """What a Slurm job printed."""
    return next((folder / ".snakemake/slurm_logs").rglob(f"{job_id}.log")).read_text()
