"""Writing whole or not at all: everything is made under a temporary name, and renamed when it is complete and on the disk, so that a name
is never that of half a file, not after a power cut either. And who may write at all.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NO_SYNC = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
"""Of file systems that know no waiting for the disk, or not for directories."""


NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""Of file systems, or systems, that have no locks."""


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let the system's errors within the block name `path`: those of writing to an open file name nothing."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary name for a file that becomes `path` when the block ends well and vanishes when it does not."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            _to_disk(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
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
    """Write a file so that no reader ever sees half of it."""
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(text)


def write_if_changed(path: Path, text: str) -> None:
    """Write a file unless it already holds the text; its time stamp then stays."""
    try:
        if path.read_text(encoding="utf-8") == text:
            return
    except FileNotFoundError:
        pass
    write_text(path, text)


@contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """A fresh temporary directory that becomes `path` when the block ends well and vanishes when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for left_over in path.parent.glob(f".{path.name}.*.tmp"):
        # Of a process that was killed: no directory is made by two processes at a time (`lock`).
        shutil.rmtree(left_over, ignore_errors=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        for inside, _, names in os.walk(temporary):
            for name in names:
                if not (Path(inside) / name).is_symlink():
                    _to_disk(Path(inside) / name)
            _to_disk(Path(inside))
        old = _aside(path)
        shutil.rmtree(old, ignore_errors=True)
        if path.exists():
            path.replace(old)
        temporary.replace(path)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def restore(path: Path) -> None:
    """Put back what `whole_directory` had moved aside when it was killed just before the new directory took its place."""
    if not path.exists() and _aside(path).exists():
        _aside(path).replace(path)


def remove(path: Path) -> None:
    """Remove a directory so that nobody ever sees half of it."""
    shutil.rmtree(_aside(path), ignore_errors=True)
    if path.exists():
        path.replace(_aside(path))
        shutil.rmtree(_aside(path), ignore_errors=True)


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def lock(file: int, *, shared: bool = False, wait: bool = False) -> bool:
    """Lock an open file until it is closed or the process ends, however it ends; return False where another process is in the way.

    A `shared` lock lets others have shared ones, too, and turns this process's own into one. With `wait` nobody is in the way for ever.
    A file system, or for shared locks a system, that has no such locks counts as free.
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
        import fcntl  # filelock has shared locks of a data base alone
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_SH | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True
