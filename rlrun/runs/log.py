"""What a run records: metrics.jsonl, which is the truth, and its progress.

metrics.jsonl holds no wall-clock values, so that two runs of one config and seed write the
same bytes, interrupted or not; a resumed run cuts it back to its checkpoint's offset.
"""

from __future__ import annotations

import io
import json
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np

from rlrun.config import catalog
from rlrun.config.keys import legible
from rlrun.files import append_to, writing
from rlrun.runs.checkpoint import CheckpointError
from rlrun.runs.listener import Followed, Listener


def say(text: str) -> None:
    """A line to whoever started the run, on stderr."""
    _show(f"rlrun: {text}")


def _show(line: str) -> None:
    """No run ends because nobody can be told how far it is: stderr is closed, broken, or there is none."""
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            print(legible(line), file=sys.stderr, flush=True)


class MetricsFile(Listener):
    """Appends one JSON line a record and replica. Its mark is the file's length."""

    _file: IO[bytes] = io.BytesIO()  # until it is opened

    def open(self, run: Followed) -> None:
        self._path = run.folder.metrics
        with writing(self._path):
            self._file = append_to(self._path)

    def rewind(self, step: int, mark: int) -> None:
        if self._file.tell() < mark:  # cutting would fill it up with zeros
            self._file.close()
            raise CheckpointError(
                f"{self._path} is shorter than when its checkpoint was written: it was changed"
            )
        self._file.truncate(mark)
        self._file.seek(mark)

    def record(self, step: np.ndarray, due: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
        """Values that are not finite are left out: JSON has no word for them."""
        for r in np.flatnonzero(due).tolist():
            row = {tag: float(value[r]) for tag, value in values.items()}
            kept = {tag: value for tag, value in row.items() if math.isfinite(value)}
            if kept:
                line = json.dumps({"step": int(step[r]), "replica": r, **kept})
                with writing(self._path):
                    self._file.write(line.encode() + b"\n")

    def mark(self) -> int:
        with writing(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self, summary: Mapping[str, Any] | None) -> None:
        if self._file.closed or self._file is MetricsFile._file:  # it never was opened
            return
        try:
            self.mark()
        finally:
            with suppress(OSError):  # it is closed all the same
                self._file.close()


class Progress(Listener):
    """One line that is kept up to date on a terminal, a line every few seconds elsewhere; both on stderr.

    `newest` holds the newest value [R] of every tag; of some, the median is shown. Speed and
    the time that is left are those of this process: steps of an earlier one do not count. Where
    there is a `follower`, it is told the pieces of the line instead.
    """

    follower: ClassVar[Callable[[Sequence[str]], None] | None] = None

    def __init__(self, unit: str, newest: Mapping[str, np.ndarray], every_seconds: float = 5.0) -> None:
        self._unit, self._newest, self._every = unit, newest, every_seconds

    def open(self, run: Followed) -> None:
        """Say where the run is, and which recipes it has; now, since a live line would wrap what is said."""
        say(f"run {run.folder.quoted}")
        for path, first in catalog.unread(Path("conf"), run.config.choices).items():
            say(f"{path} is not read: {first} goes first; give yours a name of its own")
        if preset := run.config.choices.get("tuned"):
            say(f"tuned={preset} applies: values for this algo and env; '~tuned' leaves them out")
        self._title, self._total = run.folder.path.parent.name, run.config.total_steps
        self._origin: tuple[int, float] | None = None  # step and time of the first update seen here
        self._step, self._last = 0, time.monotonic()
        self._live: Any = None
        if is_terminal():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), auto_refresh=False)
            self._live.start()

    def update(self, step: int) -> None:
        """Show how far the run is; cheap to call every update."""
        now, self._step = time.monotonic(), step
        if self._origin is None:
            self._origin = step, now
        if now - self._last >= (0.25 if self._live or type(self).follower else self._every):
            self._last = now
            self._show()

    def _show(self) -> None:
        begun, since = self._origin or (self._step, self._last)
        pieces = progress(self._step, self._total, self._step - begun, self._last - since, self._unit)
        metrics = _shown(self._newest)
        pieces[-1:] = [*metrics[:1], pieces[-1], *metrics[1:], self._title]
        if follower := type(self).follower:
            follower(pieces)
        elif self._live:
            from rich.text import Text

            line = legible(fitting(pieces, self._live.console.width))
            with suppress(OSError):
                self._live.update(Text(line, no_wrap=True, overflow="crop"), refresh=True)
        else:
            _show("  ".join(pieces))

    def close(self, summary: Mapping[str, Any] | None = None) -> None:
        """Show where training ended."""
        if self._live and self._origin:
            self._last = time.monotonic()
            self._show()
        if self._live:
            with suppress(OSError):
                self._live.stop()
            self._live = None


def is_terminal() -> bool:
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except ValueError:  # it is closed
        return False


def progress(step: int, total: int, done: int, seconds: float, unit: str) -> list[str]:
    """How far a run is, in pieces, the most useful first.

    `done` of the steps were taken in `seconds` by this process; where there are none yet,
    neither a speed nor the time that is left is known. An update may go past the total.
    """
    step = min(step, total)
    pieces = [f"{100 * step // max(total, 1):3d}%", "eta --:--", f"{step:,}/{total:,} {unit}"]
    if done > 0 and seconds > 0:
        speed = done / seconds
        pieces[1] = f"eta {clock((total - step) / speed)}"
        pieces.insert(2, f"{speed:,.0f} {unit}/s" if speed >= 10 else f"{speed:.2g} {unit}/s")
    return pieces


def fitting(pieces: Sequence[str], width: int) -> str:
    """The pieces that fit into a line; those that come first have the first claim."""
    line = pieces[0]
    for piece in pieces[1:]:
        if len(line) + 2 + len(piece) <= width:
            line += f"  {piece}"
    return line


def clock(seconds: float) -> str:
    """A duration as 7s, 3:05, 2:03:04 or 5d 3h."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d {hour}h"
    if hours:
        return f"{hour}:{minute:02d}:{second:02d}"
    return f"{minute}:{second:02d}" if minutes else f"{second}s"


_TAGS = ("eval/return", "val/score", "train/return", "train/optimal", "loss/residual", "loss/policy")


def _shown(newest: Mapping[str, np.ndarray]) -> list[str]:
    """The medians over replicas of the two metrics that say most."""
    finite = {tag: newest[tag][np.isfinite(newest[tag])] for tag in _TAGS if tag in newest}
    return [f"{tag} {np.median(value):.4g}" for tag, value in finite.items() if value.size][:2]
