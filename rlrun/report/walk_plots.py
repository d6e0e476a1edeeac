"""The pictures of a walk-forward report: where the windows lie, and how the tests went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlrun.report.plots import BLUE, GREEN, GREY, ORANGE, RED, new_figure, save_figure
from rlrun.report.walk_steps import Played, times


def draw_folds(plan: Mapping[str, Any], path: Path) -> bool:
    """Fit, validation and test windows over time; False without matplotlib."""
    folds = plan["folds"]
    if (figure := new_figure(path, 8, 0.8 + 0.42 * (len(folds) + 1))) is None:
        return False
    axes = figure.subplots()
    axes.xaxis.update_units(times(plan["index"]))  # dates, if they are dates
    for name, words, color in (("fit", "fit", BLUE), ("val", "validation", ORANGE), ("test", "test", GREEN)):
        windows = [(fold["fold"], *fold["dates"][name]) for fold in folds if name in fold]
        if windows:
            rows, first, last = zip(*windows, strict=True)
            left, right = (np.asarray(axes.convert_xunits(times(ends)), float) for ends in (first, last))
            axes.barh(rows, right - left, left=left, height=0.62, color=color, label=words)
    axes.set(yticks=[fold["fold"] for fold in folds], ylabel="fold")
    axes.invert_yaxis()
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    save_figure(figure, path, lines="x")
    return True


def draw_equity(played: Sequence[Played], data: Mapping[str, Any], path: Path) -> bool:
    """The scores of the tests one after the other, and the folds' differences; False without matplotlib."""
    if (figure := new_figure(path, 8, 6)) is None:
        return False
    top, bottom = figure.subplots(2, 1, height_ratios=(3, 1.2))
    seeds, names = data["seeds"], list(data["total"]["baselines"])
    time, curves = _stitched(played, "agent", seeds)
    if len(seeds) > 1:
        words = f"agent, range of {len(seeds)} seeds"
        top.fill_between(time, curves.min(0), curves.max(0), color=BLUE, alpha=0.18, lw=0, label=words)
    for name in names:
        time, baseline = _stitched(played, name, [None])
        first = name == data["baseline"]
        style = {"color": RED, "lw": 1.6} if first else {"color": GREY, "lw": 1.2, "ls": "--"}
        top.plot(time, baseline[0], label=name + " (headline)" * first, **style)
    top.plot(time, curves.mean(0), color=BLUE, lw=2, label="agent" + ", mean" * (len(seeds) > 1))
    agents = [one for one in played if one.policy == "agent"]
    for fold in data["folds"]:
        top.axvline(
            next(one for one in agents if one.fold == fold["fold"]).time[0], color=GREY, lw=0.8, ls=":"
        )
    _mark_ruins(top, agents, time, curves, seeds)
    top.set(ylabel=f"{data['unit']} since the first test")
    top.set_title("Out of sample: test windows, one after the other", loc="left", fontsize=10)
    top.margins(x=0.01)
    top.legend(frameon=False, fontsize=9)
    _draw_differences(bottom, data)
    save_figure(figure, path)
    return True


def _mark_ruins(
    axes: Any, agents: Sequence[Played], time: np.ndarray, curves: np.ndarray, seeds: Sequence[int]
) -> None:
    ruins = [(one.ruin, seeds.index(one.seed or 0)) for one in agents if one.ruin is not None]
    if ruins:
        at = [int(np.searchsorted(time, moment)) for moment, _ in ruins]
        heights = [curves[s, k] for k, (_, s) in zip(at, ruins, strict=True)]
        axes.plot(time[at], heights, "x", color="black", ms=8, mew=2, label="account ruined")


def _draw_differences(axes: Any, data: Mapping[str, Any]) -> None:
    differences = [fold["difference"] for fold in data["folds"]]
    axes.bar(
        [str(fold["fold"]) for fold in data["folds"]],
        differences,
        color=[GREEN if d > 0 else RED for d in differences],
        width=0.55,
    )
    interval = data["paired"]["new_period"]
    if interval:
        words = f"{interval['level']:.0%} interval for a new period"
        axes.axhspan(interval["low"], interval["high"], color=GREY, alpha=0.18, lw=0, label=words)
        axes.axhline(data["paired"]["mean"], color=GREY, lw=1.2, label="mean")
        axes.legend(fontsize=8, framealpha=0.85, edgecolor="none")
    axes.axhline(0, color="black", lw=0.8)
    axes.set(xlabel="fold", ylabel=f"agent - {data['baseline']}")


def _stitched(
    played: Sequence[Played], policy: str, seeds: Sequence[int | None]
) -> tuple[np.ndarray, np.ndarray]:
    """Times [T] and summed scores [seeds, T] over all folds in order."""
    own = {(one.fold, one.seed): one for one in played if one.policy == policy}
    folds = sorted({fold for fold, _ in own})
    curves = [np.concatenate([own[k, seed].columns["score"] for k in folds]) for seed in seeds]
    return np.concatenate([own[k, seeds[0]].time for k in folds]), np.cumsum(curves, axis=1)
