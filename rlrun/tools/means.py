"""The mean of seeds that are spread over several run folders, from their metrics.jsonl, for TensorBoard."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from rlrun.config import ConfigError
from rlrun.report.curves import Curves, on_grid, read_curves, steps_of
from rlrun.runs import events
from rlrun.runs.events import EventFile
from rlrun.runs.folder import RunFolder
from rlrun.runs.tensorboard import BANDED, band

Curve = tuple[np.ndarray, np.ndarray]  # steps, values


class Mean:
    """A run of TensorBoard's with the mean over the replicas of some runs, and the quartiles."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._file: EventFile | None = None
        self._seen: dict[Path, int] = {}  # bytes of metrics.jsonl
        self._written: dict[str, int] = {}  # the last step, by tag

    def update(self, runs: Sequence[RunFolder]) -> None:
        """Write what has come since the last time; all anew where a run has joined them."""
        seen = {run.path: run.metrics.stat().st_size for run in runs if run.metrics.is_file()}
        if seen == self._seen:
            return
        if self._file is None:
            self._place.mkdir(parents=True, exist_ok=True)
            self._file = EventFile(self._place)
        elif seen.keys() != self._seen.keys():
            self._file.forget(-1)
            self._written = {}
        self._seen = seen
        rows: dict[int, dict[str, float]] = {}
        for tag, curves in _curves(runs).items():
            steps, values = shared(curves, self._written.get(tag, -1))
            shown = (values.mean(0), *np.quantile(values, (0.25, 0.75), axis=0))
            for name, each in zip((tag, *band(tag)), shown, strict=True):
                for step, value in zip(steps.tolist(), each.tolist(), strict=True):
                    rows.setdefault(step, {})[name] = value
                    self._written[tag] = step
        for step in sorted(rows):
            self._file.add(step, events.scalars(rows[step]))

    def close(self) -> None:
        if self._file:
            self._file.close()


def _curves(runs: Sequence[RunFolder]) -> dict[str, list[Curve]]:
    """By tag, what each seed (and fold) recorded; of one that several runs trained, the newest."""
    found: dict[str, Curves] = {}
    for run in runs:
        with suppress(ConfigError):
            known = {each["replica"]: (each["seed"], each["fold"]) for each in run.read_record()["replicas"]}
            for tag, curves in read_curves(run, BANDED, known, under_way=True).items():
                found.setdefault(tag, {}).update({known[r]: curve for r, curve in curves.items()})
    return {tag: list(curves.values()) for tag, curves in found.items()}


def shared(curves: Sequence[Curve], after: int = -1) -> tuple[np.ndarray, np.ndarray]:
    """The steps [n] that all curves cover, beyond `after`, and their values there [curves, n]; between two
    records of a curve on the line that joins them."""
    first, last = max(steps[0] for steps, _ in curves), min(steps[-1] for steps, _ in curves)
    numbered = dict(enumerate(curves))
    every = steps_of(numbered, most=math.inf)
    grid = every[(every >= max(first, after + 1)) & (every <= last)]
    return grid, on_grid(numbered, grid)
