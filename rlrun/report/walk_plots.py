"""The pictures of a walk-forward report: where the windows lie, and how the tests went."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rlrun.report.plots import BLUE, GREEN, GREY, ORANGE, RED, new_figure, save_figure
from rlrun.report.walk_steps import Tests, times


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


def draw_equity(tests: Tests, data: Mapping[str, Any], path: Path) -> bool:
    """The scores of the tests one after the other, and the folds' differences; False without matplotlib."""
    if (figure := new_figure(path, 8, 6)) is None:
        return False
    top, bottom = figure.subplots(2, 1, height_ratios=(3, 1.2))
    seeds, time = tests.seeds, tests.time
    curves = np.cumsum([whole["score"] for whole in tests.each_seed()], axis=1)  # [seeds, T]
    if len(seeds) > 1:
        words = f"agent, range of {len(seeds)} seeds"
        top.fill_between(time, curves.min(0), curves.max(0), color=BLUE, alpha=0.18, lw=0, label=words)
    for name in tests.baselines:
        first = name == data["baseline"]
        style = {"color": RED, "lw": 1.6} if first else {"color": GREY, "lw": 1.2, "ls": "--"}
        top.plot(time, tests.whole(name)["score"].cumsum(), label=name + " (headline)" * first, **style)
    top.plot(time, curves.mean(0), color=BLUE, lw=2, label="agent" + ", mean" * (len(seeds) > 1))
    for fold in tests.folds:
        top.axvline(tests.agent(fold, seeds[0]).time[0], color=GREY, lw=0.8, ls=":")
    _mark_ruins(top, tests, time, curves)
    top.set(ylabel=f"{data['unit']} since the first test")
    top.set_title("Out of sample: test windows, one after the other", loc="left", fontsize=10)
    top.margins(x=0.01)
    top.legend(frameon=False, fontsize=9)
    _draw_differences(bottom, data)
    save_figure(figure, path)
    return True


def _mark_ruins(axes: Any, tests: Tests, time: np.ndarray, curves: np.ndarray) -> None:
    ruined = [one for one in tests.agents if one.ruin is not None]
    if ruined:
        at = [int(np.searchsorted(time, one.ruin)) for one in ruined]
        of = [tests.seeds.index(one.seed) for one in ruined if one.seed is not None]
        axes.plot(time[at], curves[of, at], "x", color="black", ms=8, mew=2, label="account ruined")


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
