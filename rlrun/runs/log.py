"""What a run records: metrics.jsonl (the truth), TensorBoard (a view of it), and progress.

metrics.jsonl holds no wall-clock values, so that two runs of one config and seed write the
same bytes, interrupted or not; a resumed run cuts it back to its checkpoint's offset.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from rlrun.runs.checkpoint import CheckpointError
from rlrun.runs.listener import Followed, Listener

_MANY = 32  # above this many replicas TensorBoard shows quantiles


def say(text: str) -> None:
    """A line to whoever started the run, on stderr."""
    print(f"rlrun: {text}", file=sys.stderr, flush=True)


class MetricsFile(Listener):
    """Appends one JSON line a record and replica. Its mark is the file's length."""

    _file: BinaryIO

    def open(self, run: Followed) -> None:
        self._path = run.folder.metrics
        self._file = self._path.open("ab")

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
                self._file.write(line.encode() + b"\n")

    def mark(self) -> int:
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self, summary: Mapping[str, Any] | None) -> None:
        self.mark()
        self._file.close()


class TensorBoard(Listener):
    """One TensorBoard run per replica, or three quantiles of them where there are many."""

    def open(self, run: Followed) -> None:
        self._folder, self._seconds = run.folder.tensorboard, run.seconds
        self._many = len(run.replicas) > _MANY
        self._names = ["q25", "q50", "q75"] if self._many else [each.label for each in run.replicas]
        self._writers: dict[int, Any] = {}

    def record(self, step: np.ndarray, due: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
        if not values:
            return
        values = {**values, "time/seconds": np.full(due.shape, self._seconds())}
        if self._many:
            quantiles = {}
            for tag, value in values.items():
                finite = value[due & np.isfinite(value)]
                if len(finite):
                    quantiles[tag] = np.quantile(finite, [0.25, 0.5, 0.75])
            for i in range(3):
                self._add(i, int(step[due].max()), {tag: float(q[i]) for tag, q in quantiles.items()})
        else:
            for r in np.flatnonzero(due).tolist():
                self._add(
                    r, int(step[r]), {tag: float(v[r]) for tag, v in values.items() if np.isfinite(v[r])}
                )

    def _add(self, index: int, step: int, values: dict[str, float]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        if not values:
            return
        scalars = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._writer(index).add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=scalars)))

    def _writer(self, index: int) -> Any:
        if index not in self._writers:
            from tensorboard.summary.writer.event_file_writer import EventFileWriter

            self._writers[index] = EventFileWriter(str(self._folder / self._names[index]))
        return self._writers[index]

    def rewind(self, step: int, mark: int) -> None:
        """Tell TensorBoard to forget what came after `step`: a resumed run writes it again."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        for index in range(len(self._names)):
            if (self._folder / self._names[index]).is_dir():
                start = SessionLog(status=SessionLog.SessionStatus.START)
                self._writer(index).add_event(Event(wall_time=time.time(), step=step + 1, session_log=start))

    def close(self, summary: Mapping[str, Any] | None) -> None:
        for writer in self._writers.values():
            writer.close()


class Progress(Listener):
    """A live bar on a terminal, a plain line every few seconds elsewhere; both on stderr.

    `newest` holds the newest value [R] of every tag; of some, the median is shown.
    """

    def __init__(self, unit: str, newest: Mapping[str, np.ndarray], every_seconds: float = 5.0) -> None:
        self._unit, self._newest, self._every = unit, newest, every_seconds

    def open(self, run: Followed) -> None:
        self._title, self._total = run.folder.path.parent.name, run.config.total_steps
        self._begin = self._last = time.monotonic()
        self._origin: int | None = None
        self._step = 0
        self._bar: Any = None
        self._shown = 2  # metrics beside the speed
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            console = Console(stderr=True)
            self._shown = 2 if console.width > 100 else 1

            self._bar = Progress(
                TextColumn("[bold]{task.description}"),
                BarColumn(bar_width=16),
                TextColumn("{task.percentage:3.0f}%"),
                TextColumn("eta"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[values]}"),
                console=console,
                refresh_per_second=4,
            )
            self._task = self._bar.add_task(self._title, total=self._total, values="")
            self._bar.start()

    def _values(self) -> str:
        shown = []
        for tag in (
            "eval/return",
            "val/score",
            "train/return",
            "train/optimal",
            "loss/residual",
            "loss/policy",
        ):
            value = self._newest.get(tag)
            if value is not None and np.isfinite(value).any():
                shown.append(f"{tag} {np.nanmedian(value):.4g}")
        return "  ".join(shown[: self._shown])

    def update(self, step: int) -> None:
        """Show how far the run is; cheap to call every update."""
        now, self._step = time.monotonic(), step
        if self._origin is None:
            self._origin = step
        if now - self._last < (0.25 if self._bar else self._every):
            return
        self._last = now
        speed = (step - self._origin) / max(now - self._begin, 1e-9)
        if self._bar:
            self._bar.update(
                self._task, completed=step, values=f"{speed:,.0f} {self._unit}/s  {self._values()}"
            )
        else:
            eta = (self._total - step) / speed if speed else float("nan")
            line = f"{self._title}  {step:,}/{self._total:,} {self._unit}  {speed:,.0f}/s  eta {eta:.0f}s"
            print(f"{line}  {self._values()}", file=sys.stderr, flush=True)

    def close(self, summary: Mapping[str, Any] | None = None) -> None:
        """Show where training ended."""
        if self._bar:
            self._bar.update(self._task, completed=self._step)
            self._bar.stop()
