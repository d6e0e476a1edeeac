"""Learning curves of configurations side by side, a picture for each task."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlrun.config import ConfigError
from rlrun.config.keys import legible
from rlrun.evals.stats import iqm
from rlrun.report.curves import LINES, Curves, held, on_grid, read_curves, steps_of
from rlrun.report.experiments import Experiment, Task
from rlrun.report.plots import DISTINCT, new_figure, save_figure
from rlrun.report.table import number
from rlrun.rng import keys, uniforms
from rlrun.runs.folder import RunFolder

MOST = 12  # curves that can be told apart
_POINTS, _DRAWS = 200, 400  # of a curve, and of the bootstrap that gives its band
_NUMBERS = 4_000_000  # that the bootstrap of a curve holds at most


def draw(tasks: Sequence[Task], rows: Sequence[Mapping[str, Any]], folder: Path) -> list[Path]:
    """Write compare-ENV.png for each task of which anything can be drawn; where they are.

    Curves that cannot be read are left out, with a line on stderr.

    Raises:
        WriteError: a picture could not be written.
    """
    made: list[Path] = []
    for task in tasks:
        name = re.sub(r"[^A-Za-z0-9._-]", "_", task.env)[:100]
        paths = (
            folder / f"compare-{name}{end}.png" for end in ("", *(f"-{n}" for n in range(2, 1 + len(tasks))))
        )
        path = next(path for path in paths if path not in made)
        if _draw(task, [row for row in rows if row["task"] == task.label], path):
            made.append(path)
    return made


def _draw(task: Task, rows: Sequence[Mapping[str, Any]], path: Path) -> bool:
    """One picture; False if there is nothing to draw, or with."""
    named = {each.name: each for each in task.experiments.values()}
    shown = rows if len(rows) <= MOST else rows[: MOST - 1]
    found = {row["name"]: _curves(named[row["name"]]) for row in shown}
    tag = next((tag for tag in LINES if any(tag in each for each in found.values())), None)
    if tag is None or (figure := new_figure(path, 8, 5 + 0.2 * (len(shown) // 2))) is None:
        return False
    axes = figure.subplots()
    for i, row in enumerate(shown):
        _draw_one(axes, found[row["name"]].get(tag, {}), row, i)
    what, scale, _ = LINES[tag]
    left = f"; the best {len(shown)} of {len(rows)}" if len(rows) > len(shown) else ""
    axes.set_title(f"{task.label}: {what}, IQM and 95 % over seeds{left}", loc="left", wrap=True, fontsize=10)
    axes.set(xlabel="steps per seed", ylabel=scale)
    axes.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}k" if x >= 1000 else f"{x:g}")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9, title="final score (IQM)")
    save_figure(figure, path)
    return True


def _draw_one(axes: Any, curves: Curves, row: Mapping[str, Any], i: int) -> None:
    """The line of a configuration with its band; its name and final score are in the legend."""
    color, style = DISTINCT[i % len(DISTINCT)], ("-", "--")[i // len(DISTINCT)]
    label = f"{i + 1}. {row['name']}: {number(row['iqm'])}"
    if not curves:
        axes.plot([], [], style, color=color, label=f"{label} (no curve)")
        return
    grid = steps_of(curves, _POINTS)
    middle, low, high = _band(on_grid(curves, grid), [fold for fold, _ in curves])
    axes.plot(grid, middle, style, color=color, lw=2, label=label)
    axes.fill_between(grid, low, high, color=color, alpha=0.15, lw=0)


def _curves(experiment: Experiment) -> dict[str, Curves]:
    """The curves of an experiment's replicas, by tag; each is held until the last of them ends."""
    of_run: dict[str, tuple[RunFolder, dict[int, Any]]] = {}
    for who, (run, replica) in experiment.places.items():
        of_run.setdefault(str(run), (run, {}))[1][replica] = who
    together: dict[str, Curves] = {}
    for run, own in of_run.values():
        try:
            listed = {each["replica"] for each in run.read_record()["replicas"]}
            found = read_curves(run, tuple(LINES), listed)
        except ConfigError as error:
            print(legible(f"rlrun: not drawn: {error.lines[0]}"), file=sys.stderr)
            continue
        for tag, curves in found.items():
            together.setdefault(tag, {}).update({own[r]: c for r, c in curves.items() if r in own})
    failed = {who for who, each in experiment.replicas.items() if "failed" in each}
    return {
        tag: held(curves, max(step[-1] for step, _ in curves.values()), failed)
        for tag, curves in together.items()
        if curves
    }


def _band(values: np.ndarray, folds: Sequence[Any]) -> np.ndarray:
    """IQM over replicas, and 95 % of it by a bootstrap within folds [3, points]; of those that have a value.

    `values` is [replicas, points], NaN where a replica has none.
    """
    out = np.full((3, values.shape[1]), np.nan)
    there = np.isfinite(values)
    patterns, which = np.unique(there, axis=1, return_inverse=True)
    for k, present in enumerate(patterns.T):
        columns = np.flatnonzero(which.ravel() == k)
        if not present.any():
            continue
        some = values[present][:, columns]
        index = _resampled([fold for fold, p in zip(folds, present, strict=True) if p], some.size)
        out[0, columns] = iqm(some, axis=0)
        out[1:, columns] = np.quantile(iqm(some[index], axis=1), (0.025, 0.975), axis=0)
    return out


def _resampled(folds: Sequence[Any], size: int) -> np.ndarray:
    """Rows [draws, rows], each drawn among those of its fold."""
    draws = min(_DRAWS, max(20, _NUMBERS // size))
    labels = np.array([repr(fold) for fold in folds])
    index = np.zeros((draws, len(labels)), np.int64)
    u = uniforms(keys([0], "band"), np.arange(index.size)).reshape(index.shape)
    for fold in sorted(set(labels)):
        own = np.flatnonzero(labels == fold)
        index[:, own] = own[(u[:, own] * len(own)).astype(np.int64)]
    return index
