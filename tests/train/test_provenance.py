"""What is said of a number's origin.

Run: pytest tests/train/test_provenance.py
"""

import subprocess
from pathlib import Path

import pytest

from adaptbench.train import provenance


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """A git checkout with a method file, in place of the project's."""
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods/full.py").write_text("x = 1\n")
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "start"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True, timeout=60)
    monkeypatch.setattr(provenance, "project_root", lambda: tmp_path)
    provenance.git_state.cache_clear()
    yield tmp_path
    provenance.git_state.cache_clear()


def test_a_clean_checkout_is_its_commit(checkout):
    (checkout / "results").mkdir()
    (checkout / "results/made.txt").write_text("not code")
    state = provenance.git_state()
    assert len(state["commit"]) == 40
    assert state["dirty"] is False


@pytest.mark.parametrize("file", ["methods/full.py", "methods/new.py", "adaptbench/x.py", "config/mine.yaml"])
def test_changed_and_new_code_is_dirty(checkout, file):
    (checkout / file).parent.mkdir(exist_ok=True)
    (checkout / file).write_text("x = 2\n")
    assert provenance.git_state()["dirty"] is True


def test_outside_a_checkout_nothing_is_claimed(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "project_root", lambda: tmp_path)
    provenance.git_state.cache_clear()
    assert provenance.git_state() == {"commit": None, "dirty": None}
    provenance.git_state.cache_clear()
