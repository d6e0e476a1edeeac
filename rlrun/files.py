"""Files: replaced in one step, durable once written, locked, and read without trusting what is there.

What only some systems have is looked for and done without: nothing here is Linux's alone.
"""

from __future__ import annotations

import importlib
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# Follow no link, do not wait for somebody to write to a named pipe, and leave bytes as they are.
_CAREFULLY = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))


def read_regular(path: Path, limit: int) -> bytes:
    """A regular file's bytes, links not followed; ValueError beyond `limit` bytes."""
    with os.fdopen(os.open(path, os.O_RDONLY | _CAREFULLY), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or (not hasattr(os, "O_NOFOLLOW") and path.is_symlink()):
            raise ValueError(f"{path.name} is not a file")
        if status.st_size > limit:
            raise ValueError(f"{path.name} is larger than it may be")
        return file.read()


class WriteError(OSError):
    """What could not be written: where, and why."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(error.errno, error.strerror or str(error), str(path))

    def __str__(self) -> str:
        return f"{self.filename} could not be written: {self.strerror}"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name the file where the system does not: a full disk says so without saying where."""
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        raise WriteError(path, error) from None


def write_synced(path: Path, data: bytes) -> None:
    """Write and fsync a file.

    Raises:
        WriteError: the disk is full, fails, or may not be written to.
    """
    with writing(path):
        _write(path, data)


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_atomic(path: Path, data: bytes) -> None:
    """Replace a file's content in one step: readers see the old or the new, never a part.

    Raises:
        WriteError: the disk is full, fails, or may not be written to; the old content is untouched.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with writing(path):
        try:
            _write(temporary, data)
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make renames and new names in a folder durable, where folders can be opened."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def lock(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Held within, and free at once when the process dies; `say` is told where that cannot be had.

    There, a file beside `path` stands for the lock, and stays behind when the process is killed.

    Raises:
        BlockingIOError: another process holds it; the message says what to do, if anything.
    """
    handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        if _taken(handle, patience=0.2):  # one that looks whether it is held holds it for a moment
            yield
            return
        held = path.with_name(f"{path.name}.held")
        say(f"this system has no file locks: if this process is killed, delete {held} to go on")
        try:
            os.close(os.open(held, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        except FileExistsError:
            raise BlockingIOError(f"or one was killed: then delete {held}") from None
        try:
            yield
        finally:
            held.unlink()
    finally:
        os.close(handle)


def locked(path: Path) -> bool:
    """Whether a process holds a lock; nothing is written."""
    if path.with_name(f"{path.name}.held").exists():
        return True
    try:
        handle = os.open(path, os.O_RDONLY | _CAREFULLY)
    except OSError:  # there is none
        return False
    try:
        _taken(handle)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _taken(handle: int, patience: float = 0.0) -> bool:
    """Lock an open file as this system does it, within some seconds; false where it knows no locks."""
    try:
        posix = importlib.import_module("fcntl")
    except ImportError:
        pass
    else:
        until = time.monotonic() + patience
        while True:
            try:
                posix.flock(handle, posix.LOCK_EX | posix.LOCK_NB)
                return True
            except OSError:
                if time.monotonic() >= until:
                    raise BlockingIOError("") from None
                time.sleep(0.02)
    try:
        windows = importlib.import_module("msvcrt")
    except ImportError:
        return False
    try:
        windows.locking(handle, windows.LK_NBLCK, 1)
    except OSError:
        raise BlockingIOError("") from None
    return True
