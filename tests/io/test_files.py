"""Files that are written whole, whoever is killed meanwhile, and errors that name them.

Run: python -m pytest tests/io/test_files.py
"""

import errno
import fcntl
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from adaptbench.io.files import lock, remove, restore, whole_directory, write_text
from tests.support.disks import fill
from tests.support.project import PROJECT


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


def _watched(monkeypatch) -> list[str]:
    """What is waited for until it is on the disk, by name, and `->` where something is renamed."""
    sync, replace, told = os.fsync, Path.replace, []

    def syncing(file):
        told.append(Path(os.readlink(f"/proc/self/fd/{file}")).name)
        sync(file)

    def renaming(path, target):
        told.append("->")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(Path, "replace", renaming)
    return told


def test_what_gets_its_name_is_on_the_disk_before(tmp_path, monkeypatch):
    """A power cut after the rename would else leave the name, and nothing under it."""
    told = _watched(monkeypatch)
    write_text(tmp_path / "text", "x")
    assert told == [f".text.{os.getpid()}.tmp", "->"]
    told.clear()
    with whole_directory(tmp_path / "model") as temporary:
        (temporary / "inner").mkdir()
        (temporary / "weights").write_text("x")
        (temporary / "inner/more").write_text("x")
        (temporary / "link").symlink_to("/nowhere")
    assert sorted(told[:-1]) == sorted([f".model.{os.getpid()}.tmp", "inner", "weights", "more"])
    assert told[-1] == "->"


@pytest.mark.parametrize("error", [errno.EINVAL, errno.EOPNOTSUPP, errno.EIO])
def test_a_disk_that_cannot_promise_is_trusted_and_one_that_fails_is_not(tmp_path, monkeypatch, error):
    _write(tmp_path / "model", "old")

    def failing(file):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "fsync", failing)
    if error == errno.EIO:
        with pytest.raises(OSError, match="Input/output error"):
            _write(tmp_path / "model", "new")
    else:
        _write(tmp_path / "model", "new")
    assert (tmp_path / "model/text").read_text() == ("old" if error == errno.EIO else "new")


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


@pytest.fixture
def held(tmp_path):
    """Starts another process that holds a lock on a file, until it is killed."""
    path = tmp_path / "file"
    path.touch()
    code = (
        "import sys; from adaptbench.io.files import lock; file = open(sys.argv[1], 'r+');"
        "print(lock(file.fileno(), shared=bool(sys.argv[2])), flush=True); sys.stdin.read()"
    )
    holders = []

    def hold(*, shared: bool) -> tuple[Path, subprocess.Popen]:
        command = [sys.executable, "-c", code, str(path), "yes" if shared else ""]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        holders.append(subprocess.Popen(command, cwd=PROJECT, **pipes))
        assert holders[-1].stdout.readline() == "True\n"
        return path, holders[-1]

    yield hold
    for holder in holders:
        holder.kill()
        holder.communicate(timeout=30)


def test_a_lock_ends_with_its_process(held):
    path, holder = held(shared=False)
    with path.open("r+") as file:
        assert not lock(file.fileno())
        assert not lock(file.fileno(), shared=True)
        holder.kill()
        holder.communicate(timeout=30)
        assert lock(file.fileno())


def test_shared_locks_are_beside_each_other_and_nothing_is_beside_them(held):
    path, holder = held(shared=True)
    with path.open("r+") as file:
        assert not lock(file.fileno())
        assert lock(file.fileno(), shared=True)
        with path.open("r+") as other:
            assert not lock(other.fileno())
        holder.kill()
        holder.communicate(timeout=30)
        assert lock(file.fileno()), "its own becomes the only one"
        with path.open("r+") as other:
            assert not lock(other.fileno(), shared=True)
        assert lock(file.fileno(), shared=True), "and a shared one again"
        with path.open("r+") as other:
            assert lock(other.fileno(), shared=True)


@pytest.mark.parametrize("shared", [False, True])
def test_one_waits_for_a_lock_until_its_holder_ends(held, shared):
    path, holder = held(shared=False)
    with path.open("r+") as file, ThreadPoolExecutor(1) as waiting:
        taken = waiting.submit(lock, file.fileno(), shared=shared, wait=True)
        with pytest.raises(TimeoutError):
            taken.result(timeout=0.5)
        holder.kill()
        assert taken.result(timeout=30)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EIO])
@pytest.mark.parametrize("shared", [False, True])
def test_a_file_system_without_locks_counts_as_free(tmp_path, monkeypatch, number, shared):
    def failing(file, kind):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", failing)
    with (tmp_path / "file").open("w") as file:
        if number == errno.EIO:
            with pytest.raises(OSError, match="Input/output error"):
                lock(file.fileno(), shared=shared)
        else:
            assert lock(file.fileno(), shared=shared)
