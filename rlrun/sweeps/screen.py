"""How far a sweep is: a table that is kept up to date on a terminal, a line for each job elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from rlrun.config.keys import legible
from rlrun.report.table import number
from rlrun.runs.log import clock, fitting, is_terminal, say
from rlrun.sweeps.crew import At
from rlrun.sweeps.folder import FAILED, FINISHED, INTERRUPTED, PENDING, State, SweepFolder

_EVERY = 30.0  # seconds between two lines about what runs, without a terminal
_SHOWN = 12  # running jobs, and the last ones that ended


class Screen:
    """What people see of a sweep, on stderr."""

    def __init__(self, folder: SweepFolder, side_by_side: int) -> None:
        self._folder, self._most = folder, side_by_side
        self._running: Mapping[str, At] = {}
        self._last = time.monotonic()
        self._ended: list[str] = []  # the newest last
        self._numbers = {name: i for i, name in enumerate(folder.jobs, 1)}
        self._live: Any = None

    def open(self, running: Mapping[str, At]) -> None:
        """`running` is read whenever something is shown."""
        self._running = running
        jobs = len(self._folder.jobs)
        say(f"sweep {self._folder.quoted}: {jobs} job{'s' * (jobs > 1)}, {min(self._most, jobs)} at a time")
        if is_terminal():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), auto_refresh=False)
            self._live.start()

    def settled(self, name: str, state: State) -> None:
        """A job has ended; said once, a failure at once."""
        line = f"{self._number(name)} {self._folder.jobs[name].label}: {_words(state)}"
        self._ended.append(line)
        if not self._live:
            say(line)
            return
        if state.state != FINISHED:
            with suppress(OSError):
                self._live.console.print(legible(f"rlrun: {line}"), highlight=False, markup=False)
        self._draw()

    def look(self) -> None:
        """Show how far it is, if it is time."""
        now = time.monotonic()
        if now - self._last < (0.5 if self._live else _EVERY):
            return
        self._last = now
        if self._live:
            self._draw()
        else:
            say(f"{self._counts()}; {'; '.join(self._progress(name) for name in list(self._running)[:4])}")

    def close(self) -> None:
        if self._live:
            self._draw()
            with suppress(OSError):
                self._live.stop()
            self._live = None

    def _draw(self) -> None:
        from rich.text import Text

        width = self._live.console.width
        lines = [self._counts(), *(f"  {self._progress(name)}" for name in list(self._running)[:_SHOWN])]
        lines += [f"  {line}" for line in self._ended[-max(_SHOWN - len(self._running), 3) :]]
        text = "\n".join(legible(line)[:width] for line in lines)
        with suppress(OSError):
            self._live.update(Text(text, no_wrap=True, overflow="crop"), refresh=True)

    def _counts(self) -> str:
        count = self._folder.count
        running = len(self._running)
        done, pending = count(FINISHED, FAILED, INTERRUPTED), count(PENDING) - running
        pieces = [f"{done}/{len(self._folder.jobs)} done"]
        pieces += [f"{n} failed" for n in [count(FAILED)] if n] + [f"{running} running", f"{pending} pending"]
        seconds = [each.seconds for each in self._folder.states.values() if each.state == FINISHED]
        if seconds and pending + running > 0:
            left = (
                sum(seconds)
                / len(seconds)
                * (pending + running / 2)
                / max(min(self._most, pending + running), 1)
            )
            pieces.append(f"eta {clock(left)}")
        return "  ".join(pieces)

    def _progress(self, name: str) -> str:
        worker = self._running[name]
        job = self._folder.jobs[name]
        pieces = worker.progress[:5] or ["begins"]
        return fitting([f"{self._number(name)} {job.label}", *pieces], 160)

    def _number(self, name: str) -> str:
        return f"{self._numbers[name]}/{len(self._numbers)}"


def _words(state: State) -> str:
    if state.state == FINISHED:
        return f"{number(state.score)} in {clock(state.seconds)}"
    return f"{state.state}: {state.reason}" if state.reason else state.state


def ended(folder: SweepFolder) -> str:
    """What became of all of it, in a line: 14 finished, 2 of 16 failed."""
    jobs = len(folder.jobs)
    finished, failed = folder.count(FINISHED), folder.count(FAILED)
    left = jobs - finished - failed
    pieces = [f"{failed} of {jobs} failed"] * (failed > 0) + [f"{left} of {jobs} not finished"] * (left > 0)
    return ", ".join(pieces) or f"{finished} finished"
