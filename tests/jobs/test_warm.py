"""Jobs handed over to a process that has its imports already: the same as done alone, and gone when their owners are.

Run: python -m pytest tests/jobs/test_warm.py
"""

import importlib
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from adaptbench.graph import plan_files
from adaptbench.jobs import warm
from tests.support.presets import SMALL_GENERAL
from tests.support.project import PROJECT

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="the warm process needs Linux's pidfd")


@pytest.fixture(scope="module")
def running():
    """A warm process and the environment of those that hand jobs over to it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(PROJECT))
        process, environment = _started(patch)
    yield process, environment
    process.kill()
    process.wait()


def _started(patch, further=()):
    patch.delenv(warm.VARIABLE, raising=False)
    process = warm.start(further)
    environment = dict(os.environ)
    path = Path(environment[warm.VARIABLE])
    for _ in range(600):
        if path.exists():
            break
        time.sleep(0.1)
    assert path.exists(), "it did not come up in a minute"
    return process, environment


def _command(*arguments):
    return [sys.executable, "-m", "adaptbench", *map(str, arguments)]


def _do(arguments, environment, **more):
    return subprocess.run(_command(*arguments), env=environment, capture_output=True, text=True, timeout=120, **more)


def _wait(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("schema", "--check", PROJECT / "config/schema.json"),
        ("schema", "--check", PROJECT / "README.md"),
        ("stage", "no-such-plan.json", "out"),
        ("no-such-command",),
    ],
    ids=lambda arguments: " ".join(map(str, arguments))[:30],
)
def test_a_command_prints_and_returns_what_it_does_alone(arguments, running, tmp_path):
    _, environment = running
    alone = _do(arguments, {name: value for name, value in environment.items() if name != warm.VARIABLE}, cwd=tmp_path)
    found = _do(arguments, environment, cwd=tmp_path)
    assert (found.returncode, found.stdout, found.stderr) == (alone.returncode, alone.stdout, alone.stderr)


def test_it_does_once_what_it_is_told_to(tmp_path, monkeypatch):
    (tmp_path / "told_once.py").write_text(
        "called = []\ndef right(one=1): called.append(one)\ndef wrong(): raise OSError('no compiler')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(warm, "MODULES", ())
    parents = iter([1, 2])  # gone by the first look
    monkeypatch.setattr(warm.os, "getppid", lambda: next(parents))
    frozen = []
    monkeypatch.setattr(warm.gc, "freeze", lambda: frozen.append(list(sys.modules["told_once"].called)))
    folder = tmp_path / "socket's"
    folder.mkdir()
    warm.serve(folder / "socket", ("told_once:wrong", "told_once:right", "told_once:right:two", "told_once"))
    assert sys.modules.pop("told_once").called == [1, "two"]
    assert frozen == [[1, "two"]]  # once, when all is imported
    assert not folder.exists()


def test_what_it_imports_is_there_and_what_it_calls_is_not_done_again(monkeypatch):
    for module, *call in (name.split(":") for name in warm.MODULES):
        found = importlib.import_module(module)
        if call:
            getattr(found, call[0])(*call[1:])
    from transformers import conversion_mapping

    monkeypatch.setattr(conversion_mapping, "_build_checkpoint_conversion_mapping", None)
    assert conversion_mapping.get_checkpoint_conversion_mapping("qwen2_moe")  # one of all that were built


def test_the_job_is_a_fork_of_the_warm_process(running, tmp_path):
    process, environment = running
    child = _start_training(tmp_path, environment)
    try:
        _wait(lambda: psutil.Process(process.pid).children())
        assert "torch" not in " ".join(psutil.Process(child.pid).cmdline())
        assert not any("libtorch" in one.path for one in psutil.Process(child.pid).memory_maps())
    finally:
        child.kill()
        child.wait()
    _wait(lambda: not psutil.Process(process.pid).children())


def test_no_job_is_a_fork_of_a_process_that_has_started_cuda(running, tmp_path, monkeypatch):
    """It could not use a GPU. What asks for one while it is imported is told not to start it; if it does, the job
    imports all again.
    """
    process, _ = running
    assert psutil.Process(process.pid).environ()["PYTORCH_NVML_BASED_CUDA_CHECK"] == "1"
    assert "PYTORCH_NVML_BASED_CUDA_CHECK" not in os.environ
    (tmp_path / "starts_cuda.py").write_text(
        "def start():\n    import torch\n    torch.cuda._is_in_bad_fork = lambda: True\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{PROJECT}:{tmp_path}")
    process, environment = _started(monkeypatch, ("starts_cuda:start",))
    try:
        child = _start_training(tmp_path, environment)
        (job,) = psutil.Process(process.pid).children()
        assert job.cmdline()[1:4] == ["-m", "adaptbench", "stage"]
        child.kill()
        child.wait()
        _wait(lambda: not psutil.Process(process.pid).children())  # it still ends with who handed it over
    finally:
        process.kill()
        process.wait()


def _start_training(folder, environment):
    """A training stage of many steps, handed over."""
    values = {
        "name": "long",
        "seeds": [0],
        "data": {"general": SMALL_GENERAL, "domain": {"kind": "world", "entities": 20, "test_items": 16}},
        "tokenizer": {"vocabulary": 300},
        "base": {"training": {"steps": 100000, "batch_size": 2, "sequence_length": 32}},
        "training": {"steps": 2},
        "runs": [{"name": "full", "track": "domain", "curriculum": {"kind": "cpt"}, "tuner": {"kind": "full"}}],
    }  # fmt: skip
    from contextlib import chdir

    from adaptbench.config import load
    from adaptbench.graph import unfolding

    unfolded = unfolding.unfold(load.validate(values, "long.yaml"))
    with chdir(folder):
        plan_files.write(unfolded)
    base = next(node for node in unfolded.nodes.values() if node.kind == "base")
    for name in unfolded.ancestors(base.id)[:-1]:
        done = _do(("stage", f"results/long/plan/{name}.json", unfolded.directory(name)), environment, cwd=folder)
        assert done.returncode == 0, done.stderr
    child = subprocess.Popen(
        _command("stage", f"results/long/plan/{base.id}.json", unfolded.directory(base.id)),
        env=environment, cwd=folder, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    _wait(lambda: list(folder.glob("results/long/work/*/training.jsonl")))
    return child


def test_a_signal_reaches_the_job_which_keeps_its_checkpoint(running, tmp_path):
    _, environment = running
    child = _start_training(tmp_path, environment)
    _wait(lambda: next(iter(tmp_path.glob("results/long/work/*/training.jsonl"))).read_text().count("\n") > 3)
    child.send_signal(signal.SIGTERM)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "stopped by SIGTERM after step" in said
    assert list(tmp_path.glob("results/long/work/*/checkpoint/state.json"))


def test_a_killed_owner_takes_its_job_along(running, tmp_path):
    process, environment = running
    child = _start_training(tmp_path, environment)
    (job,) = psutil.Process(process.pid).children()
    child.kill()
    child.wait()
    _wait(lambda: not job.is_running() or job.status() == psutil.STATUS_ZOMBIE)
    assert _do(("--help",), environment).returncode == 0, "others go on"


def test_where_nobody_listens_a_command_does_its_work_alone(tmp_path):
    environment = os.environ | {warm.VARIABLE: str(tmp_path / "nobody"), "PYTHONPATH": str(PROJECT)}
    assert _do(("--help",), environment).returncode == 0


def test_a_job_that_the_warm_process_did_not_come_to_says_so(tmp_path):
    """It was handed over, and the one who should take it ends before it looks."""
    path = tmp_path / "socket"
    environment = os.environ | {warm.VARIABLE: str(path), "PYTHONPATH": str(PROJECT)}
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        job = subprocess.Popen(_command("--help"), env=environment, stderr=subprocess.PIPE, text=True)
        connection, _ = listening.accept()
        size = struct.unpack("!I", connection.recv(4))[0]
        connection.recv(size, socket.MSG_PEEK | socket.MSG_WAITALL)
        connection.close()
    _, said = job.communicate(timeout=60)
    assert said == "error: the process that ran this job has ended; run again to go on\n"
    assert job.returncode == 1


def test_a_killed_warm_process_takes_its_jobs_along_and_they_say_so(running, tmp_path):
    """Last: it ends the one that the others use."""
    process, environment = running
    child = _start_training(tmp_path, environment)
    (job,) = psutil.Process(process.pid).children()
    process.kill()
    process.wait()
    _, said = child.communicate(timeout=30)
    assert child.returncode == 1
    assert said.splitlines()[-1] == "error: the process that ran this job has ended; run again to go on"
    _wait(lambda: not job.is_running())


def test_it_ends_when_what_started_it_ends(tmp_path):
    code = (
        "import os, sys, time; from pathlib import Path; from adaptbench.jobs import warm; process = warm.start();"
        "print(process.pid, os.environ[warm.VARIABLE], flush=True);"
        "path = Path(os.environ[warm.VARIABLE]);"
        "[time.sleep(0.1) for _ in range(600) if not path.exists()]"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, timeout=120)
    number, path = done.stdout.split()
    assert done.returncode == 0, done.stderr
    _wait(lambda: not psutil.pid_exists(int(number)) or psutil.Process(int(number)).status() == psutil.STATUS_ZOMBIE)
    assert not Path(path).parent.exists()
