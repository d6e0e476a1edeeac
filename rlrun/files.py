"""Files: replaced in one step, durable once written, locked, and read without trusting what is there.

A folder may be a stranger's. Nothing here follows a link on its way to a file that it writes, waits for
a pipe, or reads more than it was told to expect. What only some systems have is looked for and done
without: nothing here is Linux's alone.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import importlib
import io
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

# Follow no link, do not wait for somebody to write to a named pipe, and leave bytes as they are.
_NO_LINKS = getattr(os, "O_NOFOLLOW", 0)
_CAREFULLY = sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_BINARY"))
_LARGEST = 1 << 34  # bytes of a file whose size is given by another file
_DENSE = 1 << 17  # lists and mappings in a JSON text
_PACKED = 100  # times that text in time order is compressed at the most, where it is long


def _open(path: Path, flags: int = os.O_RDONLY, *, links: bool = False) -> int:
    """A handle of a regular file; OSError or ValueError where there is none, or a link that is not wanted."""
    if not links and not _NO_LINKS and path.is_symlink():
        raise ValueError(f"{path.name} is a link")
    handle = os.open(path, flags | _CAREFULLY | (0 if links else _NO_LINKS), 0o666)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ValueError(f"{path.name} is not a file")
    return handle


def read_regular(path: Path, limit: int, *, links: bool = False) -> bytes:
    """A regular file's bytes; ValueError beyond `limit` bytes. Links are followed only if `links` says so."""
    with os.fdopen(_open(path, links=links), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise ValueError(f"{path.name} is larger than it may be: {size:,} bytes, {limit:,} at most")
        data = file.read(size + 1)
    if len(data) > size:
        raise ValueError(f"{path.name} grows while it is read")
    return data


def read_declared(path: Path, size: Any, sha256: Any) -> bytes:
    """The bytes of a file, which must be those that another file declares; tensors have a sound beginning."""
    if type(size) is not int or not 0 <= size <= _LARGEST or path.lstat().st_size != size:
        raise ValueError(f"{path.name} does not match its checksum: it has another size")
    if path.suffix == ".safetensors":  # before a file is read that has holes for content
        with os.fdopen(_open(path), "rb") as file:
            if not 1 < int.from_bytes(file.read(8), "little") <= size - 8:
                raise ValueError(f"{path.name} begins with no header")
    data = read_regular(path, size)
    if len(data) != size or hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError(f"{path.name} does not match its checksum")
    return data


def read_json(path: Path, limit: int) -> Any:
    """What a JSON file holds, see `parse_json`; ValueError beyond `limit` bytes."""
    return parse_json(read_regular(path, limit), path.name)


def parse_json(data: bytes, name: str) -> Any:
    """What a JSON text holds; ValueError where it is none, too deep or too large, or has a key twice.

    JSON has no word for what is not finite: NaN and Infinity are read as null.
    """
    if data.count(b"[") + data.count(b"{") > _DENSE:
        raise ValueError(f"{name} holds more than {_DENSE:,} lists and mappings")
    try:
        return json.loads(data, parse_constant=lambda word: None, object_pairs_hook=_mapping)
    except RecursionError:
        raise ValueError(f"{name} is nested too deeply") from None


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {max(names, key=names.count)!r} is there twice")
    return mapping


def inflate(data: bytes, limit: int) -> bytes:
    """What gzip has compressed; ValueError beyond `limit` bytes, and of what swells as no table does."""
    limit = min(limit, max(_PACKED * len(data), 1 << 24))
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
        count = 0
        while chunk := file.read(1 << 20):  # counted before it is held
            count += len(chunk)
            if count > limit:
                raise ValueError(f"it holds more than {limit:,} bytes, compressed to {len(data):,}")
        file.rewind()
        return file.read()


def lines_of(path: Path, most: int) -> Iterator[bytes]:
    """The lines of a regular file, however many; ValueError for one that is longer than `most` bytes."""
    with os.fdopen(_open(path), "rb") as file:
        while line := file.readline(most + 1):
            if len(line) > most:
                raise ValueError(f"{path.name} has a line of more than {most:,} bytes")
            yield line


def append_to(path: Path) -> BinaryIO:
    """A regular file, opened to append to; it is made if there is none. OSError or ValueError for another.

    A second name for somebody else's file is another as well.
    """
    file = os.fdopen(_open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND), "ab")
    if os.fstat(file.fileno()).st_nlink > 1:
        file.close()
        raise ValueError(f"{path.name} is a second name of another file: a copy of it can be written to")
    return file


def create(path: Path) -> BinaryIO:
    """A new file, unbuffered; FileExistsError where anything is there, be it a link."""
    return os.fdopen(_open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb", buffering=0)


def make_folder(path: Path, within: Path) -> None:
    """Make a folder and those above it, down from `within`; WriteError where a link or file is in the way."""
    place = within
    for name in path.relative_to(within).parts:
        place = place / name
        with suppress(FileExistsError):
            place.mkdir()
        if not stat.S_ISDIR(place.lstat().st_mode):
            raise WriteError(place, NotADirectoryError("it is a link, or no folder: delete it"))


def remove(path: Path) -> None:
    """Delete what is there, if anything: a folder with all that is in it, a link and not what it leads to."""
    try:
        folder = stat.S_ISDIR(path.lstat().st_mode)
    except FileNotFoundError:
        return
    if folder:
        shutil.rmtree(path)
    else:
        path.unlink()


FULL = tuple(getattr(errno, name, -1) for name in ("ENOSPC", "EDQUOT", "EIO", "EFBIG"))  # no room, or no disk


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


def try_folder(path: Path) -> None:
    """Make a folder of this path, and of those above it that are missing, and take it all away again.

    It is tried inside a folder of its own, beside what is to be made: nothing that others see comes and goes.

    Raises:
        OSError: it cannot be made, or nothing be written there.
        ValueError: it can be no path.
    """
    path = Path(os.path.normpath(path))
    if len(os.fsencode(os.path.abspath(path))) > 4000:  # before each of a thousand folders is tried
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), str(path))
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
    """Write and fsync a new file.

    Raises:
        WriteError: the disk is full, fails, or may not be written to; or anything is there, be it a link.
    """
    with writing(path):
        _write(path, data)


def _write(path: Path, data: bytes) -> None:
    with os.fdopen(_open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_atomic(path: Path, data: bytes) -> None:
    """Replace a file's content in one step: readers see the old or the new, never a part.

    A link is replaced, and not followed.

    Raises:
        WriteError: the disk is full, fails, or may not be written to; the old content is untouched.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with writing(path):
        remove(temporary)  # of a process that was killed
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
    handle = _open(path, os.O_CREAT | os.O_RDWR)
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
