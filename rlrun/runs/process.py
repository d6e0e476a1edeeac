"""What a run asks of its process: to end when it is told to, and to compute as the config says.

SIGINT, SIGTERM and SIGHUP end a command in any phase and within two seconds, with exit code 128 + the
signal. Where nothing is half done they raise `Stopped` at once; where something is (`deferred`), whoever does
it looks at `asked` and saves first. What does not come back in time, such as an env that hangs, is left as it
is: a thread that waits beside it ends the process, and the last checkpoint counts.
"""

from __future__ import annotations

import _thread
import atexit
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from types import CodeType, FrameType
from typing import NoReturn

from rlrun.lazy import torch

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_GRACE = 1.5  # seconds for what runs to come back; leaving takes some of the two as well
_SAVING = 10.0  # seconds at most for a checkpoint that was begun in time
_ECHO = 0.5  # seconds within which a second SIGHUP is the first one's: a closing terminal sends two


class Stopped(SystemExit):
    """A signal asked the process to stop. Uncaught it ends the process, with the exit code of that signal."""

    def __init__(self, signum: int) -> None:
        self.exit_code = 128 + signum
        super().__init__(self.exit_code)
        self.signal = signal.Signals(signum).name

    def __str__(self) -> str:
        return f"stopped by {self.signal}"


class Failed(Exception):
    """A run ended by a fault that its message names, where a traceback would say no more."""


class _Stop:
    """The signals of one process, from the first one on."""

    def __init__(self) -> None:
        self.signum, self.deferred, self.saving, self.over = 0, False, False, False
        self.farewell: Callable[[str], str] | None = None
        self.handlers: dict[int, object] = {}  # what was there before
        # Who types at an interpreter wants to keep it: no SIGINT takes it away.
        self._kept = (signal.SIGINT,) if hasattr(sys, "ps1") else ()
        self._since = 0.0

    def arrived(self, signum: int, frame: FrameType | None) -> None:
        """In the main thread, once what runs there comes back to the interpreter."""
        if self.signum and signum in self._kept:
            raise KeyboardInterrupt
        if self.signum:
            self._again(signum)
            return
        self.signum, self._since = signum, time.monotonic()
        if not self.deferred:
            raise Stopped(signum)

    def watch(self, pipe: int) -> None:
        """In a thread of its own: told of signals even while the main thread does not come back."""
        first = 0
        while byte := os.read(pipe, 1):
            number = byte[0]
            if number not in self.handlers or number in self._kept:
                continue
            if first:
                self._again(number)
                continue
            first, self._since = number, time.monotonic()
            with suppress(RuntimeError):
                _thread.start_new_thread(self._wait, (number,))
        os.close(pipe)

    def _wait(self, signum: int) -> None:
        """Leave if the process does not end by itself."""
        until, last = self._since + _GRACE, self._since + _SAVING
        while not self.over:
            now = time.monotonic()
            if self.saving:
                until = max(until, now + 0.3)
            if now >= min(until, last):
                self.leave(signum)
            time.sleep(0.05)

    def _again(self, signum: int) -> None:
        """Asked twice: at once."""
        echo = signal.Signals(signum).name == "SIGHUP" and time.monotonic() - self._since < _ECHO
        if not echo:
            self.leave(signum)

    def leave(self, signum: int) -> None:
        """End the process, whatever it does; `farewell` has a moment to tell what becomes of the run."""
        told = _thread.allocate_lock()
        told.acquire()

        def tell() -> None:
            with suppress(BaseException):
                name = signal.Signals(signum).name
                more = self.farewell(name) if self.farewell else ""
                cursor = "\x1b[?25h\n" if os.isatty(2) else ""  # which a live line had hidden
                os.write(2, f"{cursor}rlrun: stopped by {name} where it was{more}\n".encode())
            told.release()

        with suppress(RuntimeError):
            _thread.start_new_thread(tell, ())
            told.acquire(timeout=0.3)  # a disk or a terminal that hangs must not hold it up
        os._exit(128 + signum)


_now = _Stop()


@contextmanager
def stoppable(*, for_good: bool = False) -> Iterator[None]:
    """Within it, signals raise `Stopped`; does nothing inside another one, or outside the main thread.

    `for_good` is for a process that is about to end: the signals stay handled until it has.
    """
    global _now
    if _now.handlers:
        yield
        return
    stop = _Stop()
    try:
        for number in SIGNALS:
            # SIGHUP stays ignored where it is: nohup says so.
            if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
                stop.handlers[number] = signal.signal(number, stop.arrived)
    except ValueError:  # signals belong to the main thread
        yield
        return
    _now = stop
    pipe, wakeup = os.pipe()
    os.set_blocking(wakeup, False)
    before = signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
    with suppress(RuntimeError):  # as many threads as there may be: signals wait for the main thread
        _thread.start_new_thread(stop.watch, (pipe,))
    try:
        yield
    finally:
        if not for_good:
            for number, handler in stop.handlers.items():
                signal.signal(number, handler)  # type: ignore[arg-type]
            signal.set_wakeup_fd(before)
            os.close(wakeup)
            stop.over, _now = True, _Stop()


def end(code: int) -> NoReturn:
    """End a process that has nothing left to do, without taking it to pieces: torch's take a second."""
    atexit._run_exitfuncs()
    os._exit(code)


def asked() -> int:
    """The signal that asked to stop; 0 if none did."""
    return _now.signum


@contextmanager
def _marked(name: str, value: object) -> Iterator[None]:
    """Within it, the signals' record has another value."""
    stop, before = _now, getattr(_now, name)
    setattr(stop, name, value)
    try:
        yield
    finally:
        setattr(stop, name, before)


@contextmanager
def deferred() -> Iterator[None]:
    """What is done within it is not interrupted; `Stopped` is raised at its end, if a signal came."""
    stop = _now
    with _marked("deferred", True):
        yield
    if stop.signum and not stop.deferred:
        raise Stopped(stop.signum)


def saving() -> AbstractContextManager[None]:
    """What is written within it may take longer than the two seconds of a signal."""
    return _marked("saving", True)


def farewell(words: Callable[[str], str]) -> AbstractContextManager[None]:
    """Where the process must leave within it, `words` (of the signal's name) say what becomes of the run.

    They are called in another thread, and have 0.3 seconds.
    """
    return _marked("farewell", words)


def _forked() -> None:
    """A child that is forked off, such as an env's worker, ends with its parent and not on its own."""
    global _now
    if _now.handlers:
        signal.set_wakeup_fd(-1)
        for number in _now.handlers:
            signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)
        _now = _Stop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def fault(error: BaseException) -> str:
    """An exception in a line: what it is, what it says, and where it was raised."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    told = [f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())]
    said = " ".join(" ".join(told).split())
    return said[:300] + (place(trace.tb_frame.f_code, trace.tb_lineno) if trace else "")


def place(code: CodeType, line: int) -> str:
    """Where in whose code, for the end of a message."""
    return f" ({os.path.basename(code.co_filename)}:{line} in {code.co_name})"


@contextmanager
def contained() -> Iterator[None]:
    """What would end or unwind the process, raised by an env or a plug-in, ends what was asked for instead.

    Raises:
        Failed: in place of SystemExit, KeyboardInterrupt and GeneratorExit.
    """
    try:
        yield
    except (Exception, Stopped):
        raise
    except BaseException as error:
        raise Failed(fault(error)) from None


@contextmanager
def computing(threads: int) -> Iterator[None]:
    """PyTorch's threads as a run wants them, and afterwards as they were; freed memory is kept."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    keep_freed_memory()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def keep_freed_memory() -> None:
    """Let glibc reuse the large blocks that every update frees, not hand them back to the system.

    Without this, many replicas spend their time on page faults: thousands in one update.
    """
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    try:
        import ctypes

        mallopt = ctypes.CDLL(None).mallopt
    except (ImportError, AttributeError, OSError, TypeError):  # another C library, or another system
        return
    mallopt(mmap_threshold, 1 << 25)  # the most that it takes
    mallopt(trim_threshold, 1 << 30)
