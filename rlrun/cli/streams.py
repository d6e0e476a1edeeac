"""The process's streams: whatever they are connected to, and whatever is printed, nothing raises.

A reader who left (`rlrun ... | head`) misses what comes, and the command goes on; so does one whose stderr
cannot be written. A result that could not be written to stdout for another reason, such as a full disk, is
said at the end, and makes the exit code 1.
"""

from __future__ import annotations

import errno
import io
import os
import sys
import time
from typing import Any


class _Descriptor(io.FileIO):
    """A file descriptor that can always be written to; what it does not take is dropped."""

    error: OSError | None = None  # the first

    def write(self, data: Any) -> int:
        while True:
            try:
                written = super().write(data)
            except OSError as error:
                self.error = self.error or error
                return len(data)
            if written is not None:
                return written
            time.sleep(0.01)  # somebody made it non-blocking, and its reader is slow


class _Stream(io.TextIOWrapper):
    """A stream that is there to the end, whoever means to close it."""

    def close(self) -> None:
        self.flush()


class Streams:
    """sys.stdout and sys.stderr of a process that is ours, and its stdin."""

    def __init__(self) -> None:
        _fill()
        if sys.stdin is None:
            sys.stdin = open(0, closefd=False)  # noqa: SIM115
        self._out, self._err = (
            self._stream(*each) for each in ((sys.stdout, "stdout", 1), (sys.stderr, "stderr", 2))
        )

    def _stream(self, before: Any, name: str, number: int) -> _Descriptor:
        if before is not None:
            before.flush()
        raw = _Descriptor(number, "wb", closefd=False)
        stream = _Stream(
            io.BufferedWriter(raw),
            encoding=getattr(before, "encoding", None) or "utf-8",
            errors="backslashreplace",  # whatever the terminal's alphabet
            line_buffering=True,  # nothing is left to be lost
        )
        setattr(sys, name, stream)
        return raw

    def close(self, code: int) -> int:
        """The exit code, once everything is written: `code`, or 1 where a result was lost."""
        sys.stdout.flush()
        error = self._out.error
        if error and error.errno != errno.EPIPE:
            from rlrun.config.keys import legible

            print(legible(f"rlrun: stdout could not be written: {error.strerror}"), file=sys.stderr)
            code = code or 1
        sys.stderr.flush()
        return code


def _fill() -> None:
    """Open what is closed of 0, 1 and 2, lest a file of a run gets that number, and others' warnings."""
    while True:
        try:
            number = os.open(os.devnull, os.O_RDWR)
        except OSError:  # a system without it
            return
        if number > 2:
            os.close(number)
            return
        os.set_inheritable(number, True)
