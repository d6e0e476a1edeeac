"""A greedy policy on the grid that a table's states lie on: as arrows, and as a picture.

Pictures need matplotlib, which is imported when one is drawn.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rlrun.lazy import torch
from rlrun.parts.explore import best
from rlrun.report.plots import GREY, new_figure, write_png
from rlrun.report.table import number

if TYPE_CHECKING:
    from rlrun.core import TransitionTable

_ORDER = "←↓→↑"
_CELLS = {"S": "start", "G": "goal", "H": "hole", "C": "cliff", "#": "wall"}  # letters of a picture
_SQUARE = np.array([[-0.5, 0.5, 0.5, -0.5], [-0.5, -0.5, 0.5, 0.5]])
_INK, _DARK = "#1d2733", "#46505c"
_STEP = {"←": (-1, 0), "→": (1, 0), "↑": (0, -1), "↓": (0, 1)}  # columns and rows of a picture


def policy_text(table: TransitionTable, q: np.ndarray) -> str:
    """The greedy actions of q [S, A] as arrows on the table's grid; several where they tie.

    A terminal state is a dot, and a cell that no episode comes to is a #. Actions without a
    direction, and tables without a grid, show the actions' numbers.
    """
    states = len(table.terminal)
    if table.shape is None and states > 100:
        return f"{states} states without a grid: there is no picture of this policy"
    cells = _cells(table, q)
    width = max(map(len, cells))
    columns = table.shape[1] if table.shape else 1
    rows = [cells[i : i + columns] for i in range(0, len(cells), columns)]
    return "\n".join(" ".join(cell.center(width) for cell in row).rstrip() for row in rows)


def policy_png(table: TransitionTable, q: np.ndarray, path: Path) -> bool:
    """Draw the greedy actions of q [S, A] on a heat map of their values; False if that cannot be done.

    Start, goal, holes, cliff and walls go by their letters, where the table has them.
    """
    if table.shape is None:
        return False
    rows, columns = table.shape
    if (figure := new_figure(path, max(1.2 + 0.62 * columns, 4.2), 1.0 + 0.62 * rows)) is None:
        return False
    value = np.where(_beyond(table) | table.terminal, np.nan, q.max(-1).astype(float))
    axes = figure.subplots()
    image = axes.imshow(value.reshape(rows, columns), cmap="YlGnBu_r")
    middle = np.nanmean([np.nanmin(value), np.nanmax(value)])
    letters = np.full(len(value), "") if table.letters is None else table.letters
    for state, cell in enumerate(_cells(table, q)):
        y, x = divmod(state, columns)
        words = letters[state] if letters[state] in _CELLS else ""
        if np.isnan(value[state]):
            solid = words in ("#", "C") or (not words and cell == "#")  # else it is a place to end at
            if solid:
                axes.fill(x + _SQUARE[0], y + _SQUARE[1], color=_DARK)
            words = words or ("" if solid else "●")
            axes.text(x, y, words, ha="center", va="center", color="white" if solid else _INK, weight="bold")
            continue
        colour = "white" if value[state] < middle else _INK
        axes.text(x - 0.4, y - 0.38, words, ha="left", va="top", fontsize=8, color=colour, weight="bold")
        arrows = [name for name in cell if name in _STEP]
        for dx, dy in (_STEP[name] for name in arrows):
            style = {"arrowstyle": "->", "color": colour, "lw": 1.2, "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", (x + 0.3 * dx, y - 0.12 + 0.22 * dy), (x, y - 0.12), arrowprops=style)
        if not arrows:
            axes.text(x, y, cell, ha="center", va="center", color=GREY)
        axes.text(
            x, y + 0.36, number(float(value[state])), ha="center", va="center", fontsize=6, color=colour
        )
    axes.set(xticks=[], yticks=[])
    key = [f"{letter} {name}" for letter, name in _CELLS.items() if letter in letters]
    if (_beyond(table) & ~np.isin(letters, list(_CELLS))).any():
        key.append("dark: no episode comes there")
    axes.set_xlabel("   ".join(key), fontsize=9)
    figure.colorbar(image, label="value", shrink=0.8)
    write_png(figure, path)
    return True


def _beyond(table: TransitionTable) -> np.ndarray:
    """States [S] that no episode comes to."""
    return np.zeros(len(table.terminal), bool) if table.reachable is None else ~table.reachable


def _cells(table: TransitionTable, q: np.ndarray) -> list[str]:
    """Each state's greedy actions as text; . where an episode ends, # where none comes to."""
    names = _arrows(table)
    chosen = [
        "".join(sorted((names[a] for a in np.flatnonzero(row)), key=_ORDER.find))
        for row in best(torch.from_numpy(q)).numpy()
    ]
    return np.select([_beyond(table), table.terminal], ["#", "."], chosen).tolist()


def _arrows(table: TransitionTable) -> list[str]:
    """A name for each action: the direction in which it moves on the average, or its number.

    Only moves to a neighbouring cell count, so that a fall back to the start does not.
    """
    numbers = [str(a) for a in range(table.reward.shape[1])]
    if table.shape is None:
        return numbers
    position = np.stack(np.unravel_index(np.arange(len(table.terminal)), table.shape), -1)  # [S, 2]
    move = position[None] - position[:, None]  # [S, S', 2]
    near = (np.abs(move).sum(-1) == 1) & ~table.terminal[:, None]
    drift = np.einsum("sap,spd->ad", table.probability, np.where(near[..., None], move, 0))  # [A, 2]
    names = []
    for label, (down, right) in zip(numbers, drift, strict=True):
        if abs(down) == abs(right):
            names.append(label)
        elif abs(down) > abs(right):
            names.append("↓" if down > 0 else "↑")
        else:
            names.append("→" if right > 0 else "←")
    return names
