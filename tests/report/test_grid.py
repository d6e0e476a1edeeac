"""policy.png says where start and goal are, and what else a cell is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlrun import envs
from rlrun.config.compose import compose
from rlrun.core import TransitionTable
from rlrun.report import grid

pytest.importorskip("matplotlib")


def table_of(*overrides: str) -> TransitionTable:
    table = envs.abilities(envs.make(compose(["algo=q_learning", *overrides]).env, 1)).table
    assert table is not None
    return table


def drawn(table: TransitionTable, path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Any], str]:
    """Where each letter stands, by (row, column), and the line that explains them."""
    kept: list[Any] = []
    new = grid.new_figure

    def keep(*size: Any) -> Any:
        kept.append(new(*size))
        return kept[-1]

    monkeypatch.setattr(grid, "new_figure", keep)
    assert grid.policy_png(table, np.random.default_rng(0).normal(size=table.reward.shape), path)
    assert path.read_bytes()[:4] == b"\x89PNG"
    axes = kept[-1].axes[0]
    cells: dict[str, list[tuple[int, int]]] = {}
    for text in axes.texts:
        x, y = text.get_position()
        if text.get_text() and text.get_text() in "SGHC#\N{BLACK CIRCLE}":
            cells.setdefault(text.get_text(), []).append((round(y), round(x)))
    kept[-1].draw_without_rendering()
    label, page = axes.xaxis.label, kept[-1].bbox
    box = label.get_window_extent()
    assert (box.min >= page.min).all() and (box.max <= page.max).all()
    return cells, label.get_text()


@pytest.mark.parametrize(
    ("overrides", "cells", "key"),
    [
        (
            ["env=frozen_lake"],
            {"S": [(0, 0)], "G": [(3, 3)], "H": [(1, 1), (1, 3), (2, 3), (3, 0)]},
            "S start   G goal   H hole",
        ),
        (
            ["env=cliff_walking"],
            {"S": [(3, 0)], "G": [(3, 11)], "C": [(3, x) for x in range(1, 11)]},
            "S start   G goal   C cliff",
        ),
        (
            ["env=cliff_walking", "env.fall=terminate", "env.start=first_column"],
            {"S": [(y, 0) for y in range(4)], "G": [(3, 11)], "C": [(3, x) for x in range(1, 11)]},
            "S start   G goal   C cliff",
        ),
        (
            ["env=dyna_maze", 'env.map=["S#",".G"]'],
            {"S": [(0, 0)], "G": [(1, 1)], "#": [(0, 1)]},
            "S start   G goal   # wall",
        ),
        (
            ["env=dyna_maze", 'env.map=["S#",".G"]', "env.continuing=true"],
            {"S": [(0, 0)], "G": [(1, 1)], "#": [(0, 1)]},
            "S start   G goal   # wall",
        ),
        (
            ["env=windy_gridworld"],
            {"S": [(3, 0)], "G": [(3, 7)]},
            "S start   G goal   dark: no episode comes there",
        ),
    ],
)
def test_every_world_has_its_letters_and_what_they_mean(
    overrides: list[str],
    cells: dict[str, list[tuple[int, int]]],
    key: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert drawn(table_of(*overrides), tmp_path / "policy.png", monkeypatch) == (cells, key)


def test_a_table_without_letters_still_shows_where_episodes_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = replace(table_of("env=frozen_lake"), letters=None)
    cells, key = drawn(plain, tmp_path / "policy.png", monkeypatch)
    assert len(cells.pop("\N{BLACK CIRCLE}")) == 5 and not cells and not key
