"""Writes files and directories atomically, and locks them.

Everything is written under a temporary name and renamed once it is complete and on the disk. A final name is therefore
never that of half a file, even after a power cut.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NO_SYNC = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
"""Errors of file systems that cannot sync files, or cannot sync directories."""

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""Errors of file systems, or operating systems, without locks."""


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Set the file name of system errors within the block to `path`; errors of an open file have none."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary file name, which becomes `path` if the block succeeds and is removed if it fails."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            _sync(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Wait until a file's content, or a directory's list of names, is on the disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise
    finally:
        os.close(file)


def write_text(path: Path, text: str) -> None:
    """Write a file atomically, as UTF-8."""
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(text)


def write_if_changed(path: Path, text: str) -> None:
    """Write a file unless it already has this text; its time stamp then stays."""
    try:
        if path.read_text(encoding="utf-8") == text:
            return
    except FileNotFoundError:
        pass
    write_text(path, text)


@contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """Yield an empty temporary directory, which becomes `path` if the block succeeds and is removed if it fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for left_over in path.parent.glob(f".{path.name}.*.tmp"):
        # From a process that was killed: no two processes make a directory at the same time (`lock`).
        shutil.rmtree(left_over, ignore_errors=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        for inside, _, names in os.walk(temporary):
            for name in names:
                if not (Path(inside) / name).is_symlink():
                    _sync(Path(inside) / name)
            _sync(Path(inside))
        old = _aside(path)
        shutil.rmtree(old, ignore_errors=True)
        if path.exists():
            path.replace(old)
        temporary.replace(path)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def restore(path: Path) -> None:
    """Move back the old directory if `whole_directory` was killed just before the new one replaced it."""
    if not path.exists() and _aside(path).exists():
        _aside(path).replace(path)


def remove(path: Path) -> None:
    """Remove a directory atomically: it is renamed first."""
    shutil.rmtree(_aside(path), ignore_errors=True)
    if path.exists():
        path.replace(_aside(path))
        shutil.rmtree(_aside(path), ignore_errors=True)


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def lock(file: int, *, shared: bool = False, wait: bool = False) -> bool:
    """Lock an open file until it is closed or the process ends; return whether the lock was obtained.

    File systems without locks count as free, as do operating systems without shared locks.

    Args:
        file: a file descriptor.
        shared: allow shared locks of other processes. An exclusive lock of this process becomes a shared one.
        wait: wait for the lock instead of returning False.
    """
    from filelock import lock_descriptor

    try:
        return _lock_shared(file, wait) if shared else lock_descriptor(file, blocking=wait)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    return True


def _lock_shared(file: int, wait: bool) -> bool:
    try:
        import fcntl  # filelock has shared locks only through SQLite
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_SH | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True
