"""Files that are written whole, whoever is killed meanwhile, and errors that name them.

Run: python -m pytest tests/test_files.py
"""

import fcntl
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import PROJECT, fill

from adaptbench.files import lock, remove, restore, whole_directory, write_text


class _Killed(BaseException):
    pass


def _killed_at(monkeypatch, function: str, call: int):
    """Path.<function> or shutil.<function> kills in that call of it."""
    owner = Path if hasattr(Path, function) else shutil
    original, calls = getattr(owner, function), []

    def dying(*arguments, **named):
        calls.append(1)
        if len(calls) == call:
            raise _Killed
        return original(*arguments, **named)

    monkeypatch.setattr(owner, function, dying)


def _write(path: Path, text: str) -> None:
    with whole_directory(path) as temporary:
        (temporary / "text").write_text(text)


@pytest.mark.parametrize("call", [1, 2])
def test_of_two_directories_one_is_always_there(tmp_path, monkeypatch, call):
    """The old one is moved aside, the new one takes its place: killed before either."""
    path = tmp_path / "checkpoint"
    _write(path, "old")
    with monkeypatch.context() as patch, suppress(_Killed):
        _killed_at(patch, "replace", call)
        _write(path, "new")
    restore(path)
    assert (path / "text").read_text() == "old"
    _write(path, "new")
    restore(path)
    assert (path / "text").read_text() == "new"
    assert [one.name for one in tmp_path.iterdir()] == ["checkpoint"]


def test_a_directory_is_removed_at_once(tmp_path, monkeypatch):
    """Killed while its files are deleted, one after the other: none of them can be met."""
    path = tmp_path / "work"
    _write(path, "old")
    with monkeypatch.context() as patch, suppress(_Killed):
        _killed_at(patch, "rmtree", 2)
        remove(path)
    assert not path.exists()
    remove(path)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_file_as_it_was_and_is_named(disk):
    path = disk / "text"
    write_text(path, "old")
    fill(disk)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_text(path, "new" * 10_000)
    assert caught.value.filename == str(path)
    assert path.read_text() == "old"
    assert sorted(one.name for one in disk.iterdir()) == ["filling", "text"]


def test_a_lock_ends_with_its_process(tmp_path):
    path = tmp_path / "file"
    path.touch()
    code = (
        "import fcntl, sys; from adaptbench.files import lock; file = open(sys.argv[1], 'r+');"
        "print(lock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB), flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "True\n"
    with path.open("r+") as file:
        assert not lock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert not lock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
        holder.kill()
        holder.communicate(timeout=30)
        assert lock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
