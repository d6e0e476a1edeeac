"""Learning curves as numbers: read from metrics.jsonl, on one grid of steps, with quantiles over replicas."""

from __future__ import annotations

from array import array
from collections.abc import Container, Sequence
from contextlib import nullcontext, suppress
from typing import Any

import numpy as np

from rlrun.config import ConfigError
from rlrun.runs.folder import RunFolder

# What a line may show, on which scale, and what the final score is then called: the first there
# is. A run that is never judged while it trains shows what it earned; its score is the last record.
LINES = {
    "eval/return": ("evaluation", "return (sum of an episode's rewards)", "final"),
    "val/score": ("validation", "score (sum over a window)", "test"),
    "train/return": ("training return", "return (sum of an episode's rewards)", "final"),
    "train/reward": ("training reward", "reward a step", "final"),
}

Curves = dict[Any, tuple[np.ndarray, np.ndarray]]  # replica -> steps, values
SMOOTH = 5  # records that a point of the training return is the mean of


def read_curves(
    run: RunFolder, tags: Sequence[str], replicas: Container[int], *, under_way: bool = False
) -> dict[str, Curves]:
    """The curves of some replicas, by tag; of a run that is `under_way`, up to what cannot be read.

    Raises:
        ConfigError: metrics.jsonl is missing or damaged.
    """
    points: dict[str, dict[int, tuple[array[float], array[float]]]] = {tag: {} for tag in tags}
    with suppress(ConfigError) if under_way else nullcontext():  # its last line may be half a one
        for record in run.read_metrics(tags):
            if record["replica"] not in replicas:
                raise ConfigError(f"{run.metrics} is damaged: it has a replica {record['replica']}")
            for tag in record.keys() & tags:
                steps, values = points[tag].setdefault(record["replica"], (array("d"), array("d")))
                steps.append(record["step"])
                values.append(record[tag])
    return {
        tag: {r: (np.array(steps).astype(int), np.array(values)) for r, (steps, values) in own.items()}
        for tag, own in points.items()
        if own
    }


def held(curves: Curves, last: int, failed: Container[Any]) -> Curves:
    """Curves up to `last`: a replica that ended before keeps its last value, one that failed has none."""
    return {
        replica: (step, value)
        if replica in failed or step[-1] >= last
        else (np.append(step, last), np.append(value, value[-1]))
        for replica, (step, value) in curves.items()
    }


def steps_of(curves: Curves, most: float = 500) -> np.ndarray:
    """The steps at which any replica has a value; evenly spaced ones where these are too many."""
    steps = np.unique(np.concatenate([step for step, _ in curves.values()]))
    return steps if len(steps) <= most else np.linspace(steps[0], steps[-1], int(most))


def on_grid(curves: Curves, grid: np.ndarray) -> np.ndarray:
    """[replicas, len(grid)], NaN before a replica's first and after its last record."""
    return np.stack([np.interp(grid, s, v, left=np.nan, right=np.nan) for s, v in curves.values()])


def quantiles(values: np.ndarray, at: Sequence[float]) -> np.ndarray:
    """Quantiles over replicas [len(at), n] of those that have a value; NaN where none has."""
    out = np.full((len(at), values.shape[1]), np.nan)
    some = np.isfinite(values).any(0)
    out[:, some] = np.nanquantile(values[:, some], at, axis=0)
    return out


def moving_mean(values: np.ndarray, width: int = SMOOTH) -> np.ndarray:
    """The mean [n] of `width` values about each one, or of those there are at the ends: no lag."""
    half, sums = width // 2, np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    begin, end = np.maximum(at - half, 0), np.minimum(at + half + 1, len(values))
    return (sums[end] - sums[begin]) / (end - begin)
