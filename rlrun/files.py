"""Files: replaced in one step, durable once written, locked, and read without trusting what is there.

What only some systems have is looked for and done without: nothing here is Linux's alone.
"""

from __future__ import annotations

import errno
import importlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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


def try_folder(path: Path) -> None:
    """Make a folder of this path, and of those above it that are missing, and take it all away again.

    It is tried inside a folder of its own, beside what is to be made: nothing that others see comes and goes.

    Raises:
        OSError: it cannot be made, or nothing be written there.
        ValueError: it can be no path.
    """
    path = Path(os.path.normpath(path))
    there = next((each for each in (path, *path.parents) if os.path.lexists(each)), path)
    if not os.path.isdir(there):
        raise NotADirectoryError(errno.ENOTDIR, f"{there} is no folder", str(there))
    trial = Path(tempfile.mkdtemp(prefix=".try-", dir=there))
    made = [trial]
    try:
        for name in path.relative_to(there).parts:
            made.append(made[-1] / name)
            made[-1].mkdir()
    finally:
        for each in reversed(made):
            with suppress(OSError, ValueError):
                each.rmdir()


def write_synced(path: Path, data: bytes) -> None:
    """Write and fsync a file."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_atomic(path: Path, data: bytes) -> None:
    """Replace a file's content in one step: readers see the old or the new, never a part."""
    temporary = path.with_name(f".{path.name}.tmp")
    write_synced(temporary, data)
    temporary.replace(path)
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
        if _taken(handle):
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


def _taken(handle: int) -> bool:
    """Lock an open file as this system does it; false where it knows no locks."""
    try:
        posix = importlib.import_module("fcntl")
    except ImportError:
        pass
    else:
        try:
            posix.flock(handle, posix.LOCK_EX | posix.LOCK_NB)
        except OSError:
            raise BlockingIOError("") from None
        return True
    try:
        windows = importlib.import_module("msvcrt")
    except ImportError:
        return False
    try:
        windows.locking(handle, windows.LK_NBLCK, 1)
    except OSError:
        raise BlockingIOError("") from None
    return True
