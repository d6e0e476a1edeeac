"""The learning curve of a run, from its metrics.jsonl."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rlrun.report.plots import BLUE, ORANGE, new_figure, save_figure

CURVES = ("val/score", "train/return", "train/optimal")  # what a curve shows: the first there is


def curve_png(metrics: Path, path: Path) -> bool:
    """Draw return against step from a metrics.jsonl; False if there is nothing to draw, or with.

    Each replica is smoothed (exponential average, 0.9); the line is their median, the bands
    the middle half and the whole range. Evaluations are dots.
    """
    series = _read_metrics(metrics, (*CURVES, "eval/return"))
    tag = next((tag for tag in (*CURVES, "eval/return") if _longest(series.get(tag, {})) > 1), None)
    if tag is None or (figure := new_figure(path, 8, 4.5)) is None:
        return False
    raw = series[tag]
    last = max(step[-1] for step, _ in raw.values())
    grid = np.linspace(min(step[0] for step, _ in raw.values()), last, 400)
    rough = _on_grid(raw, grid)
    smooth = _on_grid({r: (step, ema(value)) for r, (step, value) in raw.items()}, grid)

    axes = figure.subplots()
    if len(raw) == 1:
        axes.plot(grid, rough[0], color=BLUE, alpha=0.3, lw=1, label=f"{tag}, raw")
    else:
        axes.fill_between(
            grid, *_quantiles(smooth, (0, 1)), color=BLUE, alpha=0.12, lw=0, label="all replicas"
        )
        axes.fill_between(
            grid, *_quantiles(smooth, (0.25, 0.75)), color=BLUE, alpha=0.25, lw=0, label="middle half"
        )
        axes.plot(
            grid, _quantiles(rough, (0.5,))[0], color=BLUE, alpha=0.35, lw=0.8, label=f"{tag}, median, raw"
        )
    name = "smoothed" if len(raw) == 1 else f"median of {len(raw)}, smoothed"
    axes.plot(grid, _quantiles(smooth, (0.5,))[0], color=BLUE, lw=2.2, label=name)
    evaluated = series.get("eval/return", {})
    if tag != "eval/return" and evaluated:
        steps = np.unique(np.concatenate([step for step, _ in evaluated.values()]))
        medians = _quantiles(_on_grid(evaluated, steps), (0.5,))[0]
        axes.plot(
            steps, medians, "o", ms=4.5, color=ORANGE, label="evaluation" + " (median)" * (len(raw) > 1)
        )
    axes.set(xlabel="env steps per replica", ylabel=tag, xlim=(0, last))
    axes.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}k" if x >= 1000 else f"{x:g}")
    axes.legend(frameon=False, fontsize=9)
    save_figure(figure, path)
    return True


def ema(values: np.ndarray, weight: float = 0.9) -> np.ndarray:
    """Exponential moving average [n], unbiased: the start is not drawn towards zero."""
    out, total, mass = np.empty(len(values)), 0.0, 0.0
    for i, value in enumerate(values):
        total, mass = weight * total + (1 - weight) * value, weight * mass + 1 - weight
        out[i] = total / mass
    return out


Curves = dict[int, tuple[np.ndarray, np.ndarray]]  # replica -> steps, values


def _read_metrics(path: Path, tags: Sequence[str]) -> dict[str, Curves]:
    points: dict[str, dict[int, list[tuple[int, float]]]] = {tag: {} for tag in tags}
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            for tag in tags:
                value = record.get(tag)
                if isinstance(value, (int, float)) and np.isfinite(value):
                    points[tag].setdefault(record["replica"], []).append((record["step"], value))
    return {
        tag: {r: (np.array([s for s, _ in xs]), np.array([v for _, v in xs])) for r, xs in by_replica.items()}
        for tag, by_replica in points.items()
        if by_replica
    }


def _longest(curves: Curves) -> int:
    return max((len(step) for step, _ in curves.values()), default=0)


def _on_grid(curves: Curves, grid: np.ndarray) -> np.ndarray:
    """[replicas, len(grid)], NaN before a replica's first and after its last record."""
    return np.stack([np.interp(grid, s, v, left=np.nan, right=np.nan) for s, v in curves.values()])


def _quantiles(values: np.ndarray, at: Sequence[float]) -> np.ndarray:
    """Quantiles over replicas [len(at), n] of those that have a value; NaN where none has."""
    out = np.full((len(at), values.shape[1]), np.nan)
    some = np.isfinite(values).any(0)
    out[:, some] = np.nanquantile(values[:, some], at, axis=0)
    return out
