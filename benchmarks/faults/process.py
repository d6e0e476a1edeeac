"""One command of rlrun in a process of its own, and what was seen of it.

A process is forked off this one, which has imported already what commands need: it costs 50 ms where a
fresh one costs a second, and what it takes in CPU time and memory is its own.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import resource
import signal
import stat
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from rlrun.cli.streams import Streams

MEMORY = 4 << 30  # bytes that a process may map beyond what it began with
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

_COLOURED = re.compile(r"\x1b\[33m(WARN|ERROR): .*?\x1b\[0m", re.DOTALL)  # Gymnasium's own warnings


@dataclass(frozen=True)
class Seen:
    """What a process left: `code` is None where it did not end in time, negative where a signal killed it."""

    code: int | None
    out: str
    err: str
    seconds: float  # of CPU
    megabytes: float  # the most it held, beyond what it began with

    @property
    def flaws(self) -> list[str]:
        """What no command may do, whatever it was asked for."""
        said = _COLOURED.sub("", self.out + self.err)
        found = ["it hangs"] if self.code is None else []
        if "Traceback (most recent call last)" in said:
            errors = [
                line
                for line in said.splitlines()
                if re.match(r"[\w.]+: |[\w.]+(Error|Exit|Exception)$", line)
            ]
            found.append(f"traceback ({errors[-1][:150] if errors else '?'})")
        if control := _CONTROL.search(said):
            found.append(f"prints the control character {control[0]!r}")
        if self.code is not None and self.code < 0:
            found.append(f"dies of signal {-self.code}")
        return found

    @property
    def refusal_flaws(self) -> list[str]:
        """What is wrong with it as a refusal: exit code 2, and at most four lines that say why."""
        found = self.flaws
        if self.code not in (2, None):
            found.append(f"exit {self.code}, not 2")
        lines = len(self.err.strip().splitlines())
        if not found and not 1 <= lines <= 4:
            found.append(f"{lines} lines on stderr")
        return found

    @property
    def last_words(self) -> str:
        return " / ".join(self.err.strip().splitlines()[-3:])[:200]


class Child:
    """A forked process that does `work` in `cwd`, as if it were the whole program."""

    def __init__(self, work: Callable[[], int | None], cwd: Path) -> None:
        self.begin = time.monotonic()
        self._streams = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        self._held = mmap.mmap(-1, 8)  # told by the child: not all that its parent holds is in it
        self.seen: Seen | None = None
        sys.stdout.flush(), sys.stderr.flush()
        self.pid = os.fork()
        if not self.pid:
            _become(work, cwd, self._streams, self._held)

    def kill(self, signum: int) -> None:
        os.kill(self.pid, signum)

    def wait(self, seconds: float) -> Seen | None:
        """What it left, or None where it still runs after `seconds`."""
        deadline = time.monotonic() + seconds
        while self.seen is None:
            pid, status, used = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self.seen = self._left(os.waitstatus_to_exitcode(status), used)
            elif time.monotonic() > deadline:
                return None
            else:
                time.sleep(0.002)
        return self.seen

    def end(self, seconds: float) -> Seen:
        """What it left, at the latest after `seconds`: then it is killed, with all that it started."""
        if seen := self.wait(seconds):
            return seen
        os.killpg(self.pid, signal.SIGKILL)
        _, _, used = os.wait4(self.pid, 0)
        self.seen = self._left(None, used)
        return self.seen

    def _left(self, code: int | None, used: resource.struct_rusage) -> Seen:
        out, err = map(_text, self._streams)
        megabytes = used.ru_maxrss / 1024 - struct.unpack("d", self._held[:])[0]
        return Seen(code, out, err, used.ru_utime + used.ru_stime, megabytes)


def start(words: Sequence[str], cwd: Path) -> Child:
    """Begin `rlrun WORDS...` in a folder."""

    def work() -> int | None:
        from rlrun import cli

        return cli.main(list(words))

    return Child(work, cwd)


def rlrun(words: Sequence[str], cwd: Path, seconds: float = 20.0) -> Seen:
    """What `rlrun WORDS...` does in a folder, in `seconds` at most."""
    return start(words, cwd).end(seconds)


def _become(work: Callable[[], int | None], cwd: Path, streams: Sequence[BinaryIO], held: mmap.mmap) -> None:
    """What remains of a fresh interpreter's life: streams, the work, and an exit code."""
    code: object = 70
    try:
        held[:] = struct.pack("d", _resident())
        os.setpgid(0, 0)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, stream in enumerate(streams, 1):
            os.dup2(stream.fileno(), number)
        Streams()  # those of a process that is ours
        os.chdir(cwd)
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY, resource.RLIM_INFINITY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        code = work()
    except SystemExit as stop:
        code = stop.code
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        try:
            if code is not None and not isinstance(code, int):
                print(code, file=sys.stderr)
            sys.stdout.flush(), sys.stderr.flush()
        finally:
            os._exit(code if isinstance(code, int) else int(code is not None))


def _resident() -> float:
    """Megabytes that this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def _text(stream: BinaryIO, most: int = 1 << 20) -> str:
    stream.seek(0)
    text = stream.read(most).decode(errors="replace")
    stream.close()
    return text


def tree(folder: Path) -> dict[str, str]:
    """What lies below a folder, by path: kind, where a link leads, the SHA-256 of what a file holds."""
    return {os.path.relpath(path, folder): _what(path) for path in _below(folder)}


def _below(folder: Path) -> list[str]:
    found: list[str] = []
    for entry in os.scandir(folder):
        found.append(entry.path)
        if entry.is_dir(follow_symlinks=False):
            found += _below(Path(entry.path))
    return found


def _what(path: str) -> str:
    about = os.lstat(path)
    if stat.S_ISLNK(about.st_mode):
        return f"link to {os.readlink(path)}"
    if stat.S_ISREG(about.st_mode):
        if about.st_size > 1 << 28:  # a sparse one
            return f"file of {about.st_size} bytes"
        return "file " + hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return stat.filemode(about.st_mode)


def changes(before: dict[str, str], after: dict[str, str]) -> str:
    """What was written, removed or changed between two trees, '' for nothing."""
    paths = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    verb = {True: "changed", False: "wrote"}
    return ", ".join(f"{verb[path in before]} {path!r}"[:60] for path in paths[:3])
