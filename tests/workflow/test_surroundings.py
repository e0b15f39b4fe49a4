"""A small graph where things go wrong around it: killed, started twice, a full or read-only disk, no network.

However it was disturbed, it ends in the same weights, numbers and answers as the run that nothing disturbed.

Run: python -m pytest tests/workflow/test_surroundings.py
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import psutil
import pytest
import yaml

from tests.support.disks import fill
from tests.support.presets import SMALL_GENERAL
from tests.support.processes import finished, wait_until
from tests.support.project import copy_of_project

pytestmark = pytest.mark.graph
STEPS = 16
PRESET = {
    "name": "quiet",
    "seeds": [0],
    "checkpoint_seconds": 0,
    "data": {"general": SMALL_GENERAL, "domain": {"kind": "world", "entities": 20, "test_items": 16}},
    "tokenizer": {"vocabulary": 300},
    "base": {
        "architecture": {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4},
        "training": {"steps": STEPS, "batch_size": 4, "sequence_length": 64, "attention": "eager"},
    },
    "training": {"steps": STEPS, "batch_size": 4, "sequence_length": 64, "attention": "eager"},
    "runs": [{"name": "full", "track": "domain", "curriculum": {"kind": "cpt"}, "tuner": {"kind": "full"}}],
}  # fmt: skip
RUN = "runs/domain/full/seed0"
WATCH = """
import os, sys

def watch(event, arguments):
    asks = event in ("socket.getaddrinfo", "socket.gethostbyname")
    if asks or (event == "socket.connect" and not isinstance(arguments[1], (str, bytes))):
        with open(os.environ["ADAPTBENCH_TEST_CALLS"], "a") as file:
            file.write(f"{sys.argv[:4]} {event} {arguments[:2]}\\n")

if "ADAPTBENCH_TEST_CALLS" in os.environ:
    sys.addaudithook(watch)
"""
"""As sitecustomize.py: every Python process notes whom it wants to talk to outside this machine."""


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of the project with the small preset."""
    folder = copy_of_project(tmp_path_factory.mktemp("surroundings") / "project")
    (folder / "config/small.yaml").write_text(yaml.safe_dump(PRESET))
    (folder / "sitecustomize.py").write_text(WATCH)
    return folder


@pytest.fixture(scope="module")
def quiet(project) -> tuple[Path, float]:
    """The results of the run that nothing disturbs, and the seconds that it took."""
    started = time.monotonic()
    done = finished(command("quiet"), project, environment=environment(project, "quiet"))
    assert done.returncode == 0, done.stderr[-3000:]
    return project / "results/quiet", time.monotonic() - started


def command(name: str, *options: str) -> list[str]:
    """Score the run in results/<name>."""
    snakemake = [sys.executable, "-m", "snakemake", f"results/{name}/{RUN}/run.json", "--cores", "2"]
    return [*snakemake, "--configfile", "config/small.yaml", "--config", f"name={name}", *options]


def environment(project: Path, name: str) -> dict[str, str]:
    """As a user's, who has not said that there is no network; calls to it are noted in calls-<name>."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    return kept | {"PYTHONPATH": str(project), "ADAPTBENCH_TEST_CALLS": str(project / f"calls-{name}")}


def prepared(quiet: Path, results: Path) -> Path:
    """Another results folder that has the data and the tokenizer already."""
    shutil.copytree(quiet / "data", results / "data")
    shutil.copytree(quiet / "tasks", results / "tasks")
    tokenizer = next(quiet.glob("stages/tokenizer-*"))
    shutil.copytree(tokenizer, results / "stages" / tokenizer.name)
    return results


def logged(results: Path, stage: str) -> int:
    """The steps that a stage in work has done."""
    return sum(path.read_text().count("\n") for path in results.glob(f"work/{stage}-*/training.jsonl"))


def assert_same_results(results: Path, quiet: Path) -> None:
    stages = sorted(path.relative_to(quiet) for path in quiet.glob("stages/*/model.safetensors"))
    assert len(stages) == 2
    for path in stages:
        assert (results / path).read_bytes() == (quiet / path).read_bytes(), path
        log = path.with_name("training.jsonl")
        assert (results / log).read_text() == (quiet / log).read_text(), log
    mine, wanted = (json.loads((folder / RUN / "run.json").read_text()) for folder in (results, quiet))
    assert mine["metrics"] == wanted["metrics"]
    assert mine["metrics"]["domain_facts"]["documents"] == 16
    mine, wanted = (pd.read_parquet(folder / RUN / "samples.parquet") for folder in (results, quiet))
    pd.testing.assert_frame_equal(mine, wanted, check_exact=True)
    left = [path for path in results.rglob(".*") if path.name.endswith((".tmp", ".old"))]
    assert left == []
    assert list((results / "work").iterdir()) == []


def test_without_a_network_all_is_as_with_one(project, quiet):
    results, seconds = quiet
    if (refused := subprocess.run(["unshare", "--net", "true"], capture_output=True, text=True)).returncode:
        pytest.skip(f"the network cannot be taken away here: {refused.stderr.strip()}")
    started = time.monotonic()
    done = finished(["unshare", "--net", *command("alone")], project, environment=environment(project, "alone"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert time.monotonic() - started < 2 * seconds + 10
    assert_same_results(project / "results/alone", results)


def test_nobody_asks_for_the_network(project, quiet):
    """Nor where there is one: what asks, waits."""
    watched = environment(project, "proof")
    finished([sys.executable, "-c", "import socket; socket.gethostbyname('localhost')"], project, environment=watched)
    assert "gethostbyname" in (project / "calls-proof").read_text()
    calls = [path.read_text() for path in project.glob("calls-*") if path.name != "calls-proof"]
    assert calls == []


def test_killed_again_and_again_and_started_twice_it_ends_in_the_same_bits(project, quiet):
    results = prepared(quiet[0], project / "results/cut")
    own = environment(project, "cut")

    def started() -> psutil.Popen:
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return psutil.Popen(command("cut"), cwd=project, env=own, start_new_session=True, **silent)

    def refused(*options: str) -> str:
        done = finished(command("cut", *options), project, environment=own)
        assert done.returncode != 0
        return done.stderr

    def files() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in results.rglob("*") if path.is_file()}

    first = started()
    wait_until(lambda: logged(results, "base") >= 2, 120, every=0.005)
    family = [first, *first.children(recursive=True)]
    for job in (one for one in family if "stage" in one.cmdline()):
        job.suspend()  # so that what follows is in the middle of it
    before = files()
    said = refused()
    assert "Directory cannot be locked" in said
    assert "--unlock" in said
    line = (
        "error: results/cut: another snakemake is at work here with other options; wait for it, or give this "
        "one a folder of its own (--config name=...)"
    )
    assert refused('training={"steps": 9}').splitlines()[-1] == line
    assert files() == before

    os.killpg(first.pid, signal.SIGKILL)
    first.wait(timeout=30)
    _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == [], "nothing outlives it"
    assert "It can be removed with the --unlock argument." in refused()
    unlocked = finished([sys.executable, "-m", "snakemake", "--unlock"], project, environment=own)
    assert unlocked.returncode == 0, unlocked.stderr

    second = started()
    wait_until(lambda: logged(results, "domain-cpt-full-tune-seed0") >= 2, 120, every=0.005)
    family = second.children(recursive=True)
    (warm,) = (one for one in family if "adaptbench.jobs.warm" in one.cmdline() and one.ppid() == second.pid)
    # Early jobs do not wait for the process that has imports for them, and are no forks of it.
    for victim in [warm] if warm.children() else [one for one in family if "stage" in one.cmdline()]:
        victim.kill()
    assert second.wait(timeout=120) == 1
    assert not (results / RUN / "run.json").exists()

    done = finished(command("cut"), project, environment=own)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(re.search(r"^step (\d+)/16", done.stderr, re.MULTILINE)[1]) > 1, "from its checkpoint"
    assert_same_results(results, quiet[0])


@pytest.fixture
def on_disk(project, disk) -> Iterator[Path]:
    """A results folder on a small disk."""
    (project / "results/disk").symlink_to(disk)
    yield project / "results/disk"
    (project / "results/disk").unlink()


def test_a_full_disk_is_one_line_and_with_room_again_it_ends_in_the_same_bits(project, quiet, disk, on_disk):
    prepared(quiet[0], on_disk)
    own = environment(project, "disk")
    process = subprocess.Popen(
        command("disk"), cwd=project, env=own, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: logged(on_disk, "base") >= 2, 120, every=0.005)
    filling = fill(disk)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert re.search(
        r"^error: no space left for results/disk/\S+: No space left on device; free some and run again$",
        said,
        re.MULTILINE,
    )
    assert "Traceback" not in said
    assert not list(on_disk.glob("stages/base-*"))
    filling.unlink()
    done = finished(command("disk"), project, environment=own)
    assert done.returncode == 0, done.stderr[-3000:]
    assert_same_results(on_disk, quiet[0])


def test_a_results_folder_that_cannot_be_written_to_is_one_line_before_anything_starts(project, disk, on_disk):
    own = environment(project, "disk")
    remounted = ["mount", "-o", "remount,ro", str(disk)]
    assert finished([*command("disk"), "--dry-run"], project, environment=own).returncode == 0
    assert finished(remounted, project).returncode == 0
    done = finished(command("disk"), project, environment=own)
    assert done.returncode != 0
    assert done.stderr.strip().splitlines()[-1] == "error: results/disk: cannot be written to; is it read-only?"
    assert "Traceback" not in done.stderr
    assert list(disk.iterdir()) == []
    for more in ((), ('training={"steps": 9}',)):  # to look at it, nothing need be written
        assert finished([*command("disk", *more), "--dry-run"], project, environment=own).returncode == 0
