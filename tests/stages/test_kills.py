"""Training stages killed with SIGKILL at random moments, or by a full disk, and started again: the same bits as in one
go.

Each stage is the real command, `python -m adaptbench stage`, in a process of its own (a fork of a warm one, to spare it
the imports). It is killed some time after its start, or after some step, or while it writes a checkpoint or its model,
until it has been killed KILLS_A_ROUND times; then it may end. The moments come from a seeded generator, what happens in
them does not: a run of this file is never quite the same as another.

Run: python -m pytest tests/stages/test_kills.py        for longer: ADAPTBENCH_KILLS=200, other moments:
ADAPTBENCH_KILLS_SEED=1
"""

import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import chdir
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import psutil
import pytest

from adaptbench.config import load
from adaptbench.graph import nodes, plan_files, unfolding
from adaptbench.jobs import warm
from tests.support.disks import fill
from tests.support.presets import SMALL_GENERAL
from tests.support.processes import wait_until
from tests.support.project import PROJECT

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="the warm process needs Linux's pidfd")

KILLS_A_ROUND = 4
KILLS = int(os.environ.get("ADAPTBENCH_KILLS", "20"))
SEED = int(os.environ.get("ADAPTBENCH_KILLS_SEED", "0"))
STEPS = 8
PRESET = {
    "name": "kills",
    "seeds": [0],
    "checkpoint_seconds": 0,
    "data": {
        "general": SMALL_GENERAL,
        "domain": {"kind": "world", "entities": 20, "test_items": 16},
        "reasoning": {"kind": "chains", "shortest": 1, "longest": 2, "train_items": 40, "validation_items": 4,
        "test_items": 4},
    },
    "tokenizer": {"vocabulary": 300},
    "base": {
        "architecture": {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4},
        "training": {"steps": STEPS, "batch_size": 4, "sequence_length": 64, "attention": "eager"},
    },
    "training": {"steps": STEPS, "batch_size": 4, "sequence_length": 64, "attention": "eager"},
    "runs": [
        {"name": "full", "track": "domain", "curriculum": {"kind": "cpt"}, "tuner": {"kind": "full"},
         "training": {"optimizer": "muon"}},
        {"name": "lora", "track": "domain", "curriculum": {"kind": "cpt"},
         "tuner": {"kind": "lora", "rank": 2, "dropout": 0.1}},
        {"name": "adept", "track": "domain", "curriculum": {"kind": "cpt"},
         "tuner": {"kind": "adept", "layers": 2, "refresh_every": 3}},
        {
            "name": "latent", "track": "reasoning", "tuner": {"kind": "full"},
            "training": {"sequence_length": 128, "batch_size": 2},
            "curriculum": {"kind": "lt_hidden", "hidden_training": {"steps": STEPS, "batch_size": 1}},
        },
    ],
}  # fmt: skip
STAGES = ("base", "full", "lora", "adept", "latent")
ROUNDS = [(number, STAGES[number % len(STAGES)]) for number in range(KILLS // KILLS_A_ROUND)]
TIMES = ("seconds", "git", "train_seconds", "wall_seconds", "peak_bytes")


@pytest.fixture(scope="module")
def unfolded() -> nodes.Graph:
    return unfolding.unfold(load.validate(PRESET, "kills.yaml"))


@pytest.fixture(scope="module")
def jobs() -> Iterator["Jobs"]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(PROJECT))
        patch.delenv(warm.VARIABLE, raising=False)
        process = warm.start()
        environment = dict(os.environ)
    assert process is not None
    wait_until(Path(environment[warm.VARIABLE]).exists, 120)
    yield Jobs(process.pid, environment)
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def whole(unfolded, jobs, tmp_path_factory) -> Path:
    """A folder in which every stage was made in one go."""
    folder = tmp_path_factory.mktemp("whole")
    with chdir(folder):
        plan_files.write(unfolded)
    scored = unfolded.evaluation("domain/adept/seed0").tasks.values()
    ends = (*(node_of(unfolded, stage) for stage in STAGES), *scored)
    for node in dict.fromkeys(node for end in ends for node in unfolded.ancestors(end)):
        jobs.end(["stage", f"results/kills/plan/{node}.json", unfolded.directory(node)], folder)
    return folder


@dataclass
class Jobs:
    """Starts commands, one at a time, as forks of the warm process."""

    warm: int
    environment: dict[str, str]
    seconds: dict[str, float] = field(default_factory=dict)

    def start(self, arguments: list, folder: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "adaptbench", *map(str, arguments)]
        return subprocess.Popen(command, cwd=folder, env=self.environment, stderr=subprocess.PIPE, text=True)

    def end(self, arguments: list, folder: Path) -> str:
        """Run to the end; what it said."""
        started = time.monotonic()
        _, said = (job := self.start(arguments, folder)).communicate(timeout=120)
        assert job.returncode == 0, said
        self.seconds[str(arguments[-1])] = time.monotonic() - started
        return said

    def fork(self) -> psutil.Process | None:
        """The process that does the work."""
        return next(iter(psutil.Process(self.warm).children()), None)

    def kill(self, job: subprocess.Popen[str]) -> str:
        """kill -9 both, the process that works and the one that waits for it; what they had said."""
        if fork := self.fork():
            fork.kill()
        job.kill()
        _, said = job.communicate(timeout=60)
        wait_until(lambda: self.fork() is None)
        return said

    def catch(self, seen: Callable[[], object]) -> bool:
        """Suspend the process that works; True if `seen()` while it stands still, else it goes on."""
        try:
            if fork := self.fork():
                fork.suspend()
                wait_until(lambda: fork.status() in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE), every=0.003)
                if seen():
                    return True
                fork.resume()
        except psutil.NoSuchProcess:  # it has ended meanwhile
            pass
        return False


def node_of(unfolded: nodes.Graph, stage: str) -> str:
    """The node that trains the run, or the base."""
    if stage == "base":
        return next(node.id for node in unfolded.nodes.values() if node.kind == "base")
    (model,) = (one.model for one in unfolded.evaluations if one.run == stage)
    assert unfolded.nodes[model].kind == "train"
    return model


def copied(whole: Path, folder: Path, unfolded: nodes.Graph, node: str) -> Path:
    """A folder with all that the stage reads, and without the stage."""
    shutil.copytree(whole / "results/kills/plan", folder / "results/kills/plan")
    for parent in unfolded.ancestors(node)[:-1]:
        shutil.copytree(whole / unfolded.directory(parent), folder / unfolded.directory(parent))
    return folder


def checkpoint_step(folder: Path) -> int:
    """The step from which the stage would go on."""
    found = [*folder.glob("results/kills/work/*/checkpoint/state.json")]
    return json.loads(found[0].read_text())["state"]["counts"]["step"] if found else 0


def first_step(said: str) -> int | None:
    """The first step that a stage says it has done."""
    steps = [line.split()[1].split("/")[0] for line in said.splitlines() if line.startswith("step ")]
    return int(steps[0]) if steps else None


def logged(folder: Path) -> int:
    return sum(path.read_text().count("\n") for path in folder.glob("results/kills/work/*/training.jsonl"))


def kill_at(
    moment: str, job: subprocess.Popen[str], jobs: Jobs, folder: Path, chance: random.Random, seconds: float
) -> str | None:
    """Kill the job at that moment; what it had said, or None where it was done before."""
    if moment in ("a checkpoint", "the model"):
        where = "work/*/.checkpoint.*.tmp" if moment == "a checkpoint" else "stages/.*.tmp/model.safetensors"
        skipped = chance.randrange(STEPS // 2) if moment == "a checkpoint" else 0

        def seen() -> bool:
            return logged(folder) > skipped and any(folder.glob(f"results/kills/{where}"))

        wait_until(lambda: job.poll() is not None or (seen() and jobs.catch(seen)), every=0.003)
    elif moment == "a step":
        step = chance.randrange(1, STEPS)
        wait_until(lambda: job.poll() is not None or logged(folder) >= step, every=0.003)
        time.sleep(chance.uniform(0, 0.02))
    else:
        end = time.monotonic() + chance.uniform(0, seconds)
        wait_until(lambda: job.poll() is not None or time.monotonic() > end, every=0.003)
    said = jobs.kill(job)
    return None if job.returncode == 0 else said


HITS: Counter[str] = Counter()


@pytest.mark.parametrize(("number", "stage"), ROUNDS, ids=[f"{number}-{stage}" for number, stage in ROUNDS])
def test_a_killed_stage_ends_in_the_same_bits(number, stage, unfolded, jobs, whole, tmp_path):
    chance = random.Random(f"{SEED} {number}")
    node = node_of(unfolded, stage)
    folder = copied(whole, tmp_path, unfolded, node)
    out = unfolded.directory(node)
    arguments = ["stage", f"results/kills/plan/{node}.json", out]
    moments = ["any", "a step", "a checkpoint", "the model" if number % 2 else "a step"]
    chance.shuffle(moments)
    while moments:
        before = checkpoint_step(folder)
        said = kill_at(moments[-1], jobs.start(arguments, folder), jobs, folder, chance, jobs.seconds[str(out)])
        if said is None:
            assert (folder / out).exists()
            shutil.rmtree(folder / out)
            continue
        assert first_step(said) in (None, before + 1)
        assert "Traceback" not in said
        HITS["kills"] += 1
        HITS[moments.pop()] += 1
        HITS["after a checkpoint"] += checkpoint_step(folder) > 0
        HITS["in a checkpoint"] += any(folder.glob("results/kills/work/*/.checkpoint.*.tmp"))
        HITS["with a model half saved"] += any(folder.glob("results/kills/stages/.*.tmp/model.safetensors"))
    before = checkpoint_step(folder)
    HITS["resumed"] += before > 0
    assert first_step(jobs.end(arguments, folder)) == before + 1
    assert_same_stage(folder / out, whole / out)
    assert not list((folder / "results/kills/work").iterdir())
    assert not list((folder / "results/kills/stages").glob(".*"))


def test_the_kills_hit_what_they_were_aimed_at():
    """Last of the rounds: had all of them come too early or too late, the test above would prove nothing."""
    print(dict(HITS))
    assert HITS["kills"] == KILLS_A_ROUND * len(ROUNDS)
    assert HITS["after a checkpoint"] > HITS["kills"] / 4
    assert HITS["in a checkpoint"] >= len(ROUNDS)
    assert HITS["with a model half saved"] >= len(ROUNDS) // 2
    assert HITS["resumed"] > 0


def test_a_killed_evaluation_ends_in_the_same_numbers(unfolded, jobs, whole, tmp_path):
    """Of a model that was itself trained in pieces: the metrics, every document's answer."""
    evaluation = unfolded.evaluation("domain/adept/seed0")
    folder = copied(whole, tmp_path, unfolded, evaluation.model)
    for node in evaluation.tasks.values():
        shutil.copytree(whole / unfolded.directory(node), folder / unfolded.directory(node))
    chance = random.Random(f"{SEED} evaluation")
    stage = ["stage", f"results/kills/plan/{evaluation.model}.json", unfolded.directory(evaluation.model)]
    for _ in range(10):  # a short job may be done before it is caught
        if kill_at("a checkpoint", jobs.start(stage, folder), jobs, folder, chance, 0) is not None:
            break
        shutil.rmtree(folder / stage[-1])
    assert not (folder / stage[-1]).exists()
    jobs.end(stage, folder)
    scores = ["evaluate", plan_files.evaluation_file(unfolded, evaluation.key), unfolded.root / "runs" / evaluation.key]
    jobs.end(scores, whole)
    for _ in range(2):
        kill_at("any", jobs.start(scores, folder), jobs, folder, chance, jobs.seconds[str(scores[-1])])
    jobs.end(scores, folder)
    mine, wanted = (json.loads((root / scores[-1] / "run.json").read_text()) for root in (folder, whole))
    assert mine["metrics"] == wanted["metrics"]
    assert mine["metrics"]["domain_facts"]["documents"] == 16
    assert untimed(mine["cost"]) == untimed(wanted["cost"])
    assert mine["provenance"]["kernels"] == wanted["provenance"]["kernels"]
    mine, wanted = (pd.read_parquet(root / scores[-1] / "samples.parquet") for root in (folder, whole))
    pd.testing.assert_frame_equal(mine, wanted, check_exact=True)


# --- a full disk


@pytest.mark.parametrize("when", ["training", "the model"])
def test_a_disk_that_fills_up_is_one_line_loses_nothing_and_the_rerun_ends_in_the_same_bits(
    when, unfolded, jobs, whole, disk
):
    node = node_of(unfolded, "adept" if when == "training" else "lora")
    out = unfolded.directory(node)
    folder = copied(whole, disk, unfolded, node)
    log = folder / "results/kills/logs/tune.log"
    arguments = ["--log", log.relative_to(folder), "stage", f"results/kills/plan/{node}.json", out]
    job = jobs.start(arguments, folder)

    def seen() -> bool:
        saves = any(folder.glob("results/kills/stages/.*.tmp/config.json"))
        return saves if when == "the model" else checkpoint_step(folder) >= 3

    wait_until(lambda: job.poll() is not None or (seen() and jobs.catch(seen)), every=0.003)
    reached = checkpoint_step(folder)
    assert reached >= 3
    filling = fill(disk)
    fork = jobs.fork()
    assert fork is not None
    fork.resume()
    _, said = job.communicate(timeout=60)
    assert job.returncode == 1
    assert "Traceback" not in said
    (line,) = (line for line in said.splitlines() if line.startswith("error: "))
    assert re.fullmatch(
        r"error: no space left for results/kills/\S+: No space left on device; free some and run again", line
    )
    assert not (folder / out).exists()
    assert not list((folder / "results/kills/stages").glob(".*"))
    assert checkpoint_step(folder) >= reached
    # Once more while nothing can be written: the checkpoint and its log stay.
    fill(disk)
    again = jobs.start(arguments, folder)
    _, said = again.communicate(timeout=60)
    assert again.returncode == 1
    assert said.splitlines()[-1].startswith("error: no space left for results/kills/")
    assert "Traceback" not in said
    assert checkpoint_step(folder) >= reached
    filling.unlink()
    reached = checkpoint_step(folder)
    assert first_step(jobs.end(arguments, folder)) == reached + 1
    assert_same_stage(folder / out, whole / out)


# --- two at once


def test_a_stage_that_is_being_made_is_left_to_the_one_that_makes_it(unfolded, jobs, whole, tmp_path):
    node = node_of(unfolded, "full")
    out = unfolded.directory(node)
    folder = copied(whole, tmp_path, unfolded, node)
    arguments = ["stage", f"results/kills/plan/{node}.json", out]
    first = jobs.start(arguments, folder)
    wait_until(lambda: first.poll() is not None or (logged(folder) and jobs.catch(lambda: logged(folder))), every=0.003)
    fork = jobs.fork()
    second = jobs.start(arguments, folder)
    _, said = second.communicate(timeout=60)
    assert said == f"error: {node}: another process is making this stage; run again when it has ended\n"
    assert second.returncode == 1
    fork.resume()
    assert first.communicate(timeout=60)
    assert first.returncode == 0
    assert_same_stage(folder / out, whole / out)


def assert_same_stage(one: Path, other: Path) -> None:
    """The same files with the same bytes; of the manifest, all but how long it took."""
    files = sorted(path.relative_to(other) for path in other.rglob("*") if path.is_file())
    assert sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file()) == files
    assert {"model.safetensors", "training.jsonl", "adaptbench.json"} <= {path.name for path in files}
    for path in files:
        if path.name == "adaptbench.json":
            mine, wanted = (untimed(json.loads((folder / path).read_text())) for folder in (one, other))
            assert mine == wanted
        else:
            assert (one / path).read_bytes() == (other / path).read_bytes(), path


def untimed(found):
    """A manifest or run.json without what depends on the moment."""
    if isinstance(found, dict):
        return {name: untimed(value) for name, value in found.items() if name not in TIMES}
    return found
