"""The learning curve of a run: its evaluations, its training and its final score, from its files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rlrun.report.curves import (
    LINES,
    SMOOTH,
    Curves,
    held,
    moving_mean,
    on_grid,
    quantiles,
    read_curves,
    steps_of,
)
from rlrun.report.plots import BLUE, GREY, ORANGE, RED, new_figure, save_figure
from rlrun.report.table import number
from rlrun.runs.folder import RunFolder, task_names
from rlrun.runs.summary import has_score

FEW = 10  # replicas of which every one matters: below, the band holds them all
_MARKED = 60  # points that can be told apart


def curve_png(run: RunFolder) -> bool:
    """Draw a finished run's curve.png; False if there is nothing to draw, or with.

    The line is the median over replicas, its band all of them or the middle half; behind it,
    thin, the training return. Final scores stand at the end, with the table's numbers.
    """
    summary = run.summary()
    rows = {row["replica"]: row for row in summary["replicas"]}
    series = read_curves(run, tuple(LINES), rows)
    tag = next((tag for tag in LINES if tag in series), None)
    if tag is None and not any(map(has_score, rows.values())):
        return False
    if (figure := new_figure(run.curve, 8, 5)) is None:
        return False
    axes = figure.subplots()
    what, scale, final = LINES[tag or "eval/return"]
    last = max(row["steps"] for row in rows.values())
    if tag is not None:
        failed = {replica: str(row["seed"]) for replica, row in rows.items() if "failed" in row}
        if tag == "eval/return" and "train/return" in series:
            _draw_training(axes, series["train/return"])
        _draw_line(axes, held(series[tag], last, failed), what)
        _draw_failures(axes, series[tag], failed)
    _draw_scores(axes, summary, last, final)
    axes.set_title(_title(run), loc="left", wrap=True)
    unit = "env steps per seed" if summary["env_steps"] else "updates per seed"
    axes.set(xlabel=unit, ylabel=scale, xlim=(-0.02 * last, 1.02 * last))
    axes.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}k" if x >= 1000 else f"{x:g}")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    save_figure(figure, run.curve)
    return True


def _title(run: RunFolder) -> str:
    """What was trained on what, and how often: ppo on cartpole, seeds 1-5."""
    algo, env = task_names(run.config())
    replicas = run.replicas()
    seeds = sorted({replica.seed for replica in replicas})
    folds = {replica.fold for replica in replicas} - {None}
    words = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]}-{seeds[-1]}"
    return f"{algo} on {env}, {words}" + (f", {len(folds)} folds" if folds else "")


def _draw_training(axes: Any, curves: Curves) -> None:
    smooth = {replica: (step, moving_mean(value)) for replica, (step, value) in curves.items()}
    step = steps_of(smooth)
    middle = quantiles(on_grid(smooth, step), (0.5,))[0]
    label = f"training return, {SMOOTH} records a point" + _over(", median", curves)
    axes.plot(step, middle, color=GREY, lw=0.8, alpha=0.8, marker=_marker(step, 1), ms=3, label=label)


def _draw_line(axes: Any, curves: Curves, what: str) -> None:
    step = steps_of(curves)
    values = on_grid(curves, step)
    if len(curves) > 1:
        few = len(curves) < FEW
        label = ("lowest to highest" if few else "middle half") + f" of {len(curves)}"
        band = quantiles(values, (0, 1) if few else (0.25, 0.75))
        axes.fill_between(step, *band, color=BLUE, alpha=0.2, lw=0, label=label)
    label = what + _over(f", median of {len(curves)}", curves)
    axes.plot(
        step,
        quantiles(values, (0.5,))[0],
        marker=_marker(step, _MARKED),
        ms=4,
        color=BLUE,
        lw=2,
        label=label,
    )


def _draw_failures(axes: Any, curves: Curves, failed: Mapping[int, str]) -> None:
    """The lines of replicas that failed, with a cross where they end."""
    if not failed:
        return
    seeds = list(dict.fromkeys(failed.values()))
    names = f"seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}"
    if len(names) > 32:
        names = f"{len(seeds)} seeds"
    known = [curves[replica] for replica in failed if replica in curves]
    for step, value in known:
        axes.plot(step, value, color=RED, lw=0.8)
    ends = [(step[-1], value[-1]) for step, value in known] or [(np.nan, np.nan)]
    axes.plot(*zip(*ends, strict=True), "x", color=RED, ms=8, mew=2, label=f"failed: {names}")


def _draw_scores(axes: Any, summary: Mapping[str, Any], last: int, name: str) -> None:
    """What summary.json has: each replica's final score, and the median of them."""
    scored = [row for row in summary["replicas"] if has_score(row)]
    if not scored:
        axes.plot([], [], "D", color=ORANGE, label=f"no {name} score")
        return
    total = summary["aggregate"]
    label = f"{name} score {number(total['median'])}"
    if len(scored) > 1:
        label = f"{name} scores (dots): median {number(total['median'])}, mean {number(total['mean'])}"
        steps, scores = ([row[key] for row in scored] for key in ("steps", "eval_return"))
        axes.plot(steps, scores, ".", ms=7, color=ORANGE, alpha=0.8, zorder=4)
    axes.plot([last], [total["median"]], "D", ms=10, mew=2.5, mfc="none", mec=ORANGE, zorder=5, label=label)


def _marker(step: np.ndarray, most: int) -> str:
    return "o" if len(step) <= most else ""


def _over(words: str, curves: Curves) -> str:
    return words if len(curves) > 1 else ""
