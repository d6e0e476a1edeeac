"""Who does a sweep's jobs: the loop that every way of doing them has in common."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol

from rlrun.runs.process import asked, saving
from rlrun.sweeps.work import Order

_LOOK = 0.2  # seconds between two looks at what has ended
_LAST = 12.0  # seconds that jobs may take to save when they are told to stop

Settled = Callable[[str, Mapping[str, Any]], None]  # a job's name, and what became of it


class At(Protocol):
    """A job that is being done."""

    progress: list[str]  # how far it is, the most useful piece first


class Crew(ABC):
    """Does at most so many jobs at a time."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.running: dict[str, Any] = {}  # by name, `At` each

    def work(self, orders: Iterator[Order], settled: Settled, look: Callable[[], None]) -> None:
        """Do all jobs, or as many as a signal leaves time for.

        `settled` is told of each that ended; `look` is called several times a second.
        """
        left = True
        while left or self.running:
            if asked():
                self._stop(settled)
                return
            free = self.most - len(self.running)
            batch = list(islice(orders, free)) if left and free else []
            left = left and len(batch) == free
            if batch:
                self.begin(batch)
            self.hear(settled, _LOOK)
            look()

    def _stop(self, settled: Settled) -> None:
        """Tell all jobs to stop, and wait until they have saved."""
        with saving():
            self.tell_to_stop()
            until = time.monotonic() + _LAST
            while self.running and time.monotonic() < until:
                self.hear(settled, 0.1)
            self.give_up(settled)

    @abstractmethod
    def begin(self, orders: Sequence[Order]) -> None:
        """Begin jobs: from now on they are among the running."""

    @abstractmethod
    def hear(self, settled: Settled, seconds: float) -> None:
        """Wait so long for jobs to end, and take those that did from the running."""

    @abstractmethod
    def tell_to_stop(self) -> None:
        """Ask every job to save, and to end."""

    @abstractmethod
    def give_up(self, settled: Settled) -> None:
        """What is to be done about jobs that did not."""

    @abstractmethod
    def close(self) -> None:
        """Let go of what is held for the jobs."""
