"""The learning curve shows what the table says, cuts nothing off, and names what it draws."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_folders import write_run

from rlrun.report import curve
from rlrun.report.curve import curve_png
from rlrun.report.curves import moving_mean
from rlrun.report.table import results_table
from rlrun.runs.folder import RunFolder

pytest.importorskip("matplotlib")

STEPS = np.arange(300, 3001, 300)
Line = dict[str, Any]


def lines(
    tag: str, value: Callable[[int, int], float], replicas: Iterable[int], steps: Any = STEPS
) -> list[Line]:
    """What metrics.jsonl holds of a tag: a value of (replica, step) each."""
    return [{"step": int(s), "replica": r, tag: value(r, int(s))} for s in steps for r in replicas]


class Drawing:
    """A run's curve as it was drawn."""

    def __init__(self, run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
        kept: list[Any] = []
        save = curve.save_figure

        def keep(figure: Any, path: Path) -> None:
            save(figure, path)
            kept.append(figure)

        monkeypatch.setattr(curve, "save_figure", keep)
        assert curve_png(run)
        assert run.curve.read_bytes()[:4] == b"\x89PNG"
        (self.figure,) = kept
        self.figure.draw_without_rendering()  # extents at the figure's own resolution again
        (self.axes,) = self.figure.axes
        (legend,) = self.figure.legends
        self.legend = [text.get_text() for text in legend.get_texts()]
        self.title = self.axes.get_title(loc="left")
        self._nothing_is_cut((*legend.get_texts(), self.axes.xaxis.label, self.axes.yaxis.label))

    def line(self, label: str) -> np.ndarray:
        """The points [n, 2] of the one line whose label begins so."""
        (found,) = [line for line in self.axes.lines if str(line.get_label()).startswith(label)]
        return np.asarray(found.get_xydata())

    def band(self) -> np.ndarray:
        (found,) = self.axes.collections
        return np.asarray(found.get_paths()[0].vertices)

    def _nothing_is_cut(self, texts: Iterable[Any]) -> None:
        """Every line with its markers and every band lies within the axes, every text on the page."""
        inside, page, inch = self.axes.bbox, self.figure.bbox, self.figure.dpi / 72
        drawn = [(line.get_xydata(), line.get_markersize() / 2 * inch) for line in self.axes.lines]
        drawn += [(path.vertices, 0.0) for band in self.axes.collections for path in band.get_paths()]
        for points, radius in drawn:
            at = self.axes.transData.transform(points[np.isfinite(points).all(1)])
            assert ((at >= inside.min + radius) & (at <= inside.max - radius)).all()
        for text in (*texts, self.axes._left_title):
            box = text.get_window_extent()
            assert (box.min >= page.min).all() and (box.max <= page.max).all()


def test_evaluations_are_the_line_in_a_band_and_the_final_score_is_the_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = [425.0, 300.0, 450.0, 500.0, 100.0]
    metrics = lines("eval/return", lambda r, s: s / 10 * (r + 1), range(5))
    metrics += lines("train/return", lambda r, s: s / 100, range(5), range(30, 3001, 30))
    run = write_run(tmp_path, scores, "algo=ppo", "replicas=5", metrics=metrics)
    drawn = Drawing(run, monkeypatch)
    assert drawn.title == "ppo on cartpole, seeds 1-5"
    assert drawn.axes.get_xlabel() == "env steps per seed" and "return" in drawn.axes.get_ylabel()
    np.testing.assert_allclose(drawn.line("evaluation, median of 5"), np.stack([STEPS, STEPS * 0.3], 1))
    assert drawn.band()[:, 1].min() == 30.0 and drawn.band()[:, 1].max() == 1500.0
    assert "lowest to highest of 5" in drawn.legend
    thin, thick = (
        next(line for line in drawn.axes.lines if str(line.get_label()).startswith(name))
        for name in ("training return", "evaluation")
    )
    assert thin.get_linewidth() < thick.get_linewidth() / 2 and drawn.axes.lines[0] is thin
    np.testing.assert_allclose(thin.get_xydata()[2:-2], [(s, s / 100) for s in range(90, 2941, 30)])
    np.testing.assert_array_equal(drawn.line("final"), [[3000, 425.0]])
    words = "median 425.0", "mean 355.0"
    assert "final scores (dots): " + ", ".join(words) in drawn.legend
    assert all(word in results_table(run.summary()) for word in words)
    dots = next(line for line in drawn.axes.lines if line.get_marker() == ".")
    np.testing.assert_array_equal(dots.get_ydata(), scores)


def test_one_seed_has_no_band_and_its_score_stands_in_the_legend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = lines("eval/return", lambda r, s: s, [0]) + lines("train/return", lambda r, s: -s, [0])
    drawn = Drawing(write_run(tmp_path, [7.0], "algo=dqn", "seed=4", metrics=metrics), monkeypatch)
    assert drawn.title == "dqn on cartpole, seed 4" and not drawn.axes.collections
    assert {"evaluation", "final score 7.00"} <= set(drawn.legend)
    np.testing.assert_array_equal(drawn.line("evaluation"), np.stack([STEPS, STEPS], 1))


def test_many_replicas_show_their_middle_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = lines("eval/return", lambda r, s: float(r), range(21))
    scores = [float(r) for r in range(21)]
    drawn = Drawing(write_run(tmp_path, scores, "algo=dqn", "replicas=21", metrics=metrics), monkeypatch)
    assert "middle half of 21" in drawn.legend
    assert (drawn.band()[:, 1].min(), drawn.band()[:, 1].max()) == (5.0, 15.0)


def test_a_failed_replicas_line_ends_with_a_cross_and_one_that_ended_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = lines("eval/return", lambda r, s: 10.0, [0])
    metrics += lines("eval/return", lambda r, s: 500.0, [1], STEPS[:3])
    metrics += lines("eval/return", lambda r, s: 30.0, [2], STEPS[:5])
    run = write_run(
        tmp_path, [10.0, None, 30.0], "algo=dqn", "replicas=3", metrics=metrics, steps=[3000, 950, 1500]
    )
    drawn = Drawing(run, monkeypatch)
    np.testing.assert_array_equal(drawn.line("failed: seed 2"), [[900, 500.0]])
    np.testing.assert_array_equal(drawn.line("evaluation")[:, 1], [30.0] * 3 + [20.0] * 7)
    assert "final scores (dots): median 20.00, mean 20.00" in drawn.legend
    until = [line for line in metrics if line["step"] <= 900 and line["replica"] < 2]
    everyone = write_run(tmp_path, [None, None], "algo=dqn", "replicas=2", metrics=until, steps=950)
    drawn = Drawing(everyone, monkeypatch)
    assert {"failed: seeds 1, 2", "no final score"} <= set(drawn.legend)


@pytest.mark.parametrize(
    ("overrides", "tags", "label", "scale", "final"),
    [
        (["algo=ucb"], ["train/reward", "train/optimal"], "training reward", "reward a step", "final score"),
        (["algo=sarsa", "eval=online"], ["train/return"], "training return", "return", "final score"),
        (
            ["algo=dqn", "env=trading", "eval=walk_forward"],
            ["val/score"],
            "validation",
            "score",
            "test score",
        ),
        (
            ["algo=bc", "data=cartpole_expert"],
            ["loss/bc", "eval/return"],
            "evaluation",
            "return",
            "final score",
        ),
    ],
)
def test_what_there_is_is_drawn_and_called_what_it_is(
    overrides: list[str],
    tags: list[str],
    label: str,
    scale: str,
    final: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    metrics = [line for tag in tags for line in lines(tag, lambda r, s: s / 3000, range(2))]
    run = write_run(tmp_path, [1.0, 1.0], *overrides, "replicas=2", metrics=metrics)
    drawn = Drawing(run, monkeypatch)
    shown = drawn.line(label)
    np.testing.assert_allclose(shown, np.stack([STEPS, STEPS / 3000], 1))
    assert drawn.axes.get_ylabel().startswith(scale)
    np.testing.assert_array_equal(drawn.line(final)[-1], shown[-1])  # of what is earned, the last record


def test_folds_are_in_the_title_and_updates_on_the_axis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = lines("val/score", lambda r, s: r, range(6))
    how = "algo=dqn", "env=trading", "eval=walk_forward", "replicas=2"
    run = write_run(tmp_path, [1.0] * 6, *how, folds=3, metrics=metrics, env_steps=0)
    drawn = Drawing(run, monkeypatch)
    assert drawn.title == "dqn on trading, seeds 1-2, 3 folds"
    assert drawn.axes.get_xlabel() == "updates per seed"


def test_one_point_is_a_picture_and_so_is_a_lone_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = lines("eval/return", lambda r, s: 5.0, [0], [3000]) + lines(
        "train/return", lambda r, s: 1.0, [0], [9]
    )
    drawn = Drawing(write_run(tmp_path, [4.0], "algo=dqn", metrics=both), monkeypatch)
    marks = {line.get_marker() for line in drawn.axes.lines}
    assert marks == {"o", "D"}  # a line of one point would not be seen
    drawn = Drawing(write_run(tmp_path, [4.0], "algo=dqn"), monkeypatch)
    np.testing.assert_array_equal(drawn.line("final score 4.00"), [[3000, 4.0]])


def test_a_constant_and_a_wide_range_are_not_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Drawing(
        write_run(tmp_path, [500.0], "algo=dqn", metrics=lines("eval/return", lambda r, s: 500.0, [0])),
        monkeypatch,
    )
    wild = lines("eval/return", lambda r, s: -1e6 if s < 500 else -13.0, range(20))
    Drawing(write_run(tmp_path, [-13.0] * 20, "algo=dqn", "replicas=20", metrics=wild), monkeypatch)


def test_thousands_of_records_at_steps_of_their_own_stay_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = [
        line for r in range(3) for line in lines("train/return", lambda r, s: s, [r], range(r + 1, 3001, 3))
    ]
    drawn = Drawing(write_run(tmp_path, [3000.0] * 3, "algo=dqn", "replicas=3", metrics=metrics), monkeypatch)
    shown = drawn.line("training return")
    assert len(shown) == 500
    np.testing.assert_allclose(shown[:, 0], shown[:, 1], atol=3)


def test_moving_mean_has_no_lag_and_keeps_a_constant() -> None:
    np.testing.assert_allclose(moving_mean(np.arange(9.0))[2:-2], np.arange(2.0, 7.0))
    np.testing.assert_allclose(moving_mean(np.array([0.0, 3.0, 6.0])), 3.0)
    np.testing.assert_allclose(moving_mean(np.array([1.0, 3.0, 8.0, 4.0]), 3), [2.0, 4.0, 5.0, 6.0])


def test_no_picture_without_data_or_matplotlib(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = write_run(tmp_path, [None], "algo=dqn", metrics=lines("loss/q", lambda r, s: 1.0, [0]))
    assert not curve_png(nothing) and not nothing.curve.exists()
    some = write_run(tmp_path, [1.0], "algo=dqn")
    for name in [name for name in sys.modules if name.startswith("matplotlib")] + ["matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    assert not curve_png(some)
    assert "curve.png needs matplotlib: pip install 'rlrun[plots]'" in capsys.readouterr().err
    assert not some.curve.exists()
