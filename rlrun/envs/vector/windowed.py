"""Episodes over windows of a table's rows, none of which can be seen before its time.

Windows [a, b) are of *usable* rows, those that can be observed: of data without gaps, usable
row u is data row u + lookback. Every read passes one function that checks it against the
bounds of the episode's own window, so that a row outside cannot be seen by mistake.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium
import numpy as np

from rlrun.envs.vector.base import Arrays, NativeVectorEnv, Step
from rlrun.rng import uniforms


class WindowedEnv(NativeVectorEnv):
    """M sub-envs on one shared read-only table, each with a window and bounds of its own.

    A subclass says what happens on the way: it writes `_open`, `_account`, `_observe` and,
    with what it adds to them, `_arrays`.

    Reset options, each one for all or one per sub-env:
        window: usable rows [a, b), int64 [2] or [M, 2]. The whole data at first; an episode
            without the option keeps the window that its sub-env was given last.
        warmup: rows before a that are seen, while nothing is done or scored (default 0).
        episode_steps: so many steps from a random start inside the window (default
            `max_steps`); None or 0 plays the whole window.
        score_last: whether row b may be read, as the successor of row b - 1 (default False).
        across: whether a gap in the data is passed over, by a step in which nothing happens
            (default False: an episode ends before it).

    The end of an episode is `truncated`. `info` has t (the data row reached) and scored, [M].
    """

    reset_options: ClassVar[tuple[str, ...]] = ("window", "warmup", "episode_steps", "score_last", "across")

    def __init__(
        self,
        num_envs: int,
        observation_space: gymnasium.Space[Any],
        action_space: gymnasium.Space[Any],
        max_steps: int | None,
        table: np.ndarray,
        lookback: int,
        usable: np.ndarray | None = None,
    ) -> None:
        """`table` [columns, rows] is not copied, and becomes read-only.

        `usable` are the rows, ascending, that have `lookback` rows before them which belong to
        their past; by default all but the first ones.
        """
        super().__init__(num_envs, observation_space, action_space, None)
        self._table, self._lookback, self._episode_steps = table, lookback, max_steps or 0
        self._table.flags.writeable = False
        rows = table.shape[1]
        self._data_rows = np.arange(lookback, rows) if usable is None else usable
        self._usable = len(self._data_rows)
        self._gaps = np.flatnonzero(np.diff(self._data_rows) != 1)  # usable rows that a gap follows
        self._at_gap = np.isin(np.arange(self._usable), self._gaps)
        self._window = np.tile(np.array([0, self._usable], np.int64), (num_envs, 1))
        self._bounds = np.tile(np.array([0, rows], np.int64), (num_envs, 1))  # data rows to read
        self._row, self._start, self._end = (np.zeros(num_envs, np.int64) for _ in range(3))  # usable rows
        self._over, self._across = np.zeros(num_envs, bool), np.zeros(num_envs, bool)

    def _open(self, rows: np.ndarray, options: Mapping[str, Any]) -> None:
        """Sub-envs `rows` are before the first row of their windows."""
        raise NotImplementedError

    def _account(
        self, actions: np.ndarray, scored: np.ndarray, ends: np.ndarray, breaks: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        """What a step came to, now that the rows have moved on: reward [M], terminated [M], info.

        `scored` [M] are past their warm-up and have not ended, `ends` [M] of those are at
        their last row, and `breaks` [M] at one before a gap that they will pass over.
        """
        raise NotImplementedError

    @property
    def t(self) -> np.ndarray:
        """The data rows reached, int64 [M]."""
        return self._data_rows[self._row]

    def _option(self, options: Mapping[str, Any], name: str, default: Any, rows: np.ndarray) -> np.ndarray:
        """A reset option of sub-envs `rows`; None counts as 0."""
        value = options.get(name, default)
        return np.broadcast_to(np.asarray(0 if value is None else value), self.num_envs)[rows]

    def _begin(self, rows: np.ndarray, seed: np.ndarray, options: Mapping[str, Any]) -> None:
        window = np.broadcast_to(
            np.asarray(options.get("window", self._window), np.int64), self._window.shape
        )[rows]
        warmup = self._option(options, "warmup", 0, rows)
        across = self._option(options, "across", False, rows).astype(bool)
        last, start, end = chosen(
            self._usable,
            window,
            warmup,
            self._option(options, "episode_steps", self._episode_steps, rows),
            self._option(options, "score_last", False, rows),
            seed,
            self._gaps,
            across,
        )
        self._window[rows], self._across[rows] = window, across
        first = self._data_rows[window[:, 0] - warmup] - self._lookback
        self._bounds[rows] = np.stack([first, self._data_rows[last] + 1], 1)
        self._row[rows], self._start[rows], self._end[rows] = start - warmup, start, end
        self._over[rows] = False
        self._open(rows, options)

    def step(self, actions: np.ndarray) -> Step:
        """One row further in all sub-envs; those that have ended stay as they are."""
        obs, reward, terminated, _, info = super().step(actions)
        return obs, reward, terminated, self._over & ~terminated, info

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        moving = ~self._over
        scored = moving & (self._row >= self._start)
        if len(self._gaps):
            scored &= ~self._at_gap[self._row]
        self._row += moving
        ends = scored & (self._row == self._end)
        breaks = scored & ~ends & self._at_gap[self._row] if len(self._gaps) else self._never
        reward, terminated, info = self._account(actions, scored, ends, breaks)
        self._over |= ends | terminated
        return reward, terminated, {"t": self.t, **info, "scored": scored}

    def _read(self, count: int, columns: slice = slice(None)) -> np.ndarray:
        """The table [M, columns, count] up to the current rows; the only access to the data.

        Raises:
            IndexError: a row outside the bounds of a sub-env's window.
        """
        rows = self.t[:, None] + np.arange(1 - count, 1)
        if (rows[:, 0] < self._bounds[:, 0]).any() or (rows[:, -1] >= self._bounds[:, 1]).any():
            raise IndexError("a row outside the episode's window was about to be read")
        return self._table[columns][:, rows].swapaxes(0, 1)

    def _arrays(self) -> Arrays:
        return {
            "window": self._window,
            "bounds": self._bounds,
            "row": self._row,
            "start": self._start,
            "end": self._end,
            "over": self._over,
            "across": self._across,
        }


def chosen(
    usable: int,
    window: np.ndarray,
    warmup: np.ndarray,
    steps: np.ndarray,
    score_last: np.ndarray,
    seed: np.ndarray,
    gaps: np.ndarray,
    across: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The last row that may be seen, and where episodes in windows [n, 2] begin and end, [n] each.

    `steps`, `score_last` and `across` are the reset options; `gaps` the rows that a gap follows.

    Raises:
        ValueError: a window has no step, or lies outside the `usable` rows.
    """
    last = window[:, 1] - 1 + score_last
    bad = (window[:, 0] < warmup) | (warmup < 0) | (last >= usable) | (last <= window[:, 0])
    if bad.any():
        i = int(bad.argmax())
        raise ValueError(
            f"the window [{window[i, 0]}, {window[i, 1]}) with a warm-up of {warmup[i]} has no step, "
            f"or reaches outside the {usable} usable rows"
        )
    start, end = part(window[:, 0], last, steps, seed)
    if len(gaps) and not across.all():
        without = between(gaps, window[:, 0], last, steps, seed)
        start, end = (np.where(across, *pair) for pair in zip((start, end), without, strict=True))
    return last, start, end


def part(
    first: np.ndarray, last: np.ndarray, steps: np.ndarray, seed: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where episodes of `steps` [M] in the rows `first` to `last` [M] begin and end, by their seeds [M].

    0 steps, or more than there are, play all of them.
    """
    room = last - first
    steps = np.where(steps > 0, np.minimum(steps, room), room)
    start = first + (uniforms(seed, np.zeros(1)) * (room - steps + 1)).astype(np.int64)
    return start, start + steps


def between(
    gaps: np.ndarray, first: np.ndarray, last: np.ndarray, steps: np.ndarray, seed: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Like `part`, of episodes that end before the next of the rows `gaps`, or at it.

    Raises:
        ValueError: no two rows of a window follow one another.
    """
    wanted, _ = part(first, last, np.ones_like(steps), seed)
    begins = np.delete(np.arange(last.max() + 1), gaps[gaps < last.max()])  # rows that another one follows
    start = begins[np.maximum(np.searchsorted(begins, wanted, "right") - 1, 0)]
    start = np.where(start < first, begins[np.searchsorted(begins, first)], start)
    if ((start < first) | (start >= last)).any():
        raise ValueError("a window has gaps between all of its rows")
    edges = np.concatenate([[-1], gaps, [np.iinfo(np.int64).max]])
    k = np.searchsorted(gaps, start)
    low, high = np.maximum(first, edges[k] + 1), np.minimum(last, edges[k + 1])
    start = np.where(steps > 0, np.maximum(np.minimum(start, high - steps), low), low)
    return start, np.where(steps > 0, np.minimum(start + steps, high), high)
