"""Says when no step is taken any more, what runs instead, and where: an env that hangs tells nothing."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from rlrun.collector import Pulse
from rlrun.runs.log import say
from rlrun.runs.process import place

_LOOK = 5.0  # seconds between two looks
_PHASES = {  # what a module of rlrun is at, outermost call first
    "rlrun.evals": "evaluation",
    "rlrun.collector": "training step",
    "rlrun.algos": "update",
    "rlrun.runs.checkpoint": "checkpoint",
    "rlrun.report": "drawing",
}


@contextmanager
def watched(seconds: float = 60.0) -> Iterator[None]:
    """Within it, a line to stderr when no step was taken for `seconds`, then for twice as long, and so on.

    A step is one of the envs, in training or evaluation, or an update of an algorithm that never acts.
    """
    over = threading.Event()
    arguments = (over, threading.get_ident(), seconds)
    with suppress(RuntimeError):  # as many threads as there may be
        threading.Thread(target=_watch, args=arguments, daemon=True, name="rlrun watchdog").start()
    try:
        yield
    finally:
        over.set()


def _watch(over: threading.Event, thread: int, seconds: float) -> None:
    look = min(_LOOK, seconds / 4)
    seen, still, due = Pulse.steps, 0.0, seconds
    while not over.wait(look):
        if Pulse.steps != seen:
            seen, still, due = Pulse.steps, 0.0, seconds
            continue
        still += look
        if still >= due:
            say(f"no step for {due:g} s: {_doing(sys._current_frames().get(thread))}")
            due *= 2


def _doing(frame: FrameType | None) -> str:
    """What a thread is at, and the line that it has come to."""
    names, inner = [], frame
    while frame:
        names.append(str(frame.f_globals.get("__name__")))
        frame = frame.f_back
    found = (phase for name in reversed(names) for room, phase in _PHASES.items() if name.startswith(room))
    return f"{next(found, 'preparation')}{inner and place(inner.f_code, inner.f_lineno)}"
