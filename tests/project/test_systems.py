"""Systems other than Linux, as far as Linux can show it: what they lack is not imported, and what they count otherwise
is converted.

Run: pytest tests/project/test_systems.py
"""

import resource
import signal
import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest
import torch

from adaptbench.jobs import warm
from adaptbench.train import cost
from tests.support.project import PROJECT

LACKING = """
import os, signal, socket, sys
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
lacking = {
    os: "sched_getaffinity pidfd_open getuid fork killpg",
    signal: "SIGHUP SIGALRM SIGKILL setitimer",
    socket: "send_fds recv_fds AF_UNIX",
}
for owner, names in lacking.items():
    for name in names.split():
        delattr(owner, name)
"""
"""What Windows does not have; macOS lacks some of it."""


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_what_the_snakefile_imports_needs_nothing_that_only_linux_has():
    plans = """
from pathlib import Path
from adaptbench.graph import snakefile, surroundings
print(len(surroundings.load_graph({}, [Path("config/smoke.yaml")]).nodes))
print(snakefile.warm.start())
"""
    nodes, warm_process = run(LACKING + plans).split()
    assert int(nodes) > 30
    assert warm_process == "None"


def test_no_module_needs_them_to_be_imported():
    """psutil first: on Linux it asks for `resource` itself."""
    walk = """
import importlib, pkgutil
import adaptbench
found = [one.name for one in pkgutil.walk_packages(adaptbench.__path__[:1], "adaptbench.")]
found = [name for name in found if not name.endswith("__main__")]
for name in found:
    importlib.import_module(name)
print(len(found))
"""
    assert int(run("import psutil\n" + LACKING + walk)) > 100


def test_where_there_are_no_locks_all_is_free():
    code = (
        "from adaptbench.io.files import lock\nwith open(sys.argv[0] or 'pyproject.toml') as file:\n    "
        "print(lock(file.fileno()), lock(file.fileno(), shared=True, wait=True))"
    )
    assert run(LACKING + code.replace("sys.argv[0] or ", "")) == "True True\n"


@pytest.mark.parametrize(("platform", "expected"), [("linux", 5_000 * 1024), ("darwin", 5_000)])
def test_the_peak_of_memory_is_in_bytes_on_every_system(monkeypatch, platform, expected):
    """Linux counts kB, macOS bytes."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(resource, "getrusage", lambda _: SimpleNamespace(ru_maxrss=5_000))
    assert cost.peak_bytes() == expected


def test_the_peak_is_this_processes_own():
    memory = psutil.Process().memory_info().rss
    assert 0.5 * memory < cost.peak_bytes() < 50 * memory


def test_without_resource_the_system_is_asked_through_psutil(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setitem(sys.modules, "resource", None)
    asked = SimpleNamespace(memory_info=lambda: SimpleNamespace(peak_wset=7))
    monkeypatch.setattr(psutil, "Process", lambda: asked)
    assert cost.peak_bytes() == 7


def test_signals_that_there_are_go_to_the_job():
    assert warm.FORWARDED == [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
