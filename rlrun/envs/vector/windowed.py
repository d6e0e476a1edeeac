"""Episodes over windows of a table's rows, none of which can be seen before its time.

Windows [a, b) are of *usable* rows: usable row u is data row u + lookback, so that the first
one can be observed. Every read passes one function that checks it against the bounds of the
episode's own window, so that a row outside cannot be seen by mistake.
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

    The end of an episode is `truncated`. `info` has t (the data row reached) and scored, [M].
    """

    reset_options: ClassVar[tuple[str, ...]] = ("window", "warmup", "episode_steps", "score_last")

    def __init__(
        self,
        num_envs: int,
        observation_space: gymnasium.Space[Any],
        action_space: gymnasium.Space[Any],
        max_steps: int | None,
        table: np.ndarray,
        lookback: int,
    ) -> None:
        """`table` [columns, rows] is not copied, and becomes read-only."""
        super().__init__(num_envs, observation_space, action_space, None)
        self._table, self._lookback, self._episode_steps = table, lookback, max_steps or 0
        self._table.flags.writeable = False
        rows = table.shape[1]
        self._usable = rows - lookback
        self._window = np.tile(np.array([0, self._usable], np.int64), (num_envs, 1))
        self._bounds = np.tile(np.array([0, rows], np.int64), (num_envs, 1))  # data rows to read
        self._row, self._start, self._end = (np.zeros(num_envs, np.int64) for _ in range(3))  # usable rows
        self._over = np.zeros(num_envs, bool)

    def _open(self, rows: np.ndarray, options: Mapping[str, Any]) -> None:
        """Sub-envs `rows` are before the first row of their windows."""
        raise NotImplementedError

    def _account(
        self, actions: np.ndarray, moving: np.ndarray, scored: np.ndarray, ends: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        """What a step came to, now that the rows have moved on: reward [M], terminated [M], info.

        `moving` [M] have not ended, `scored` [M] of them are past their warm-up, and `ends`
        [M] of those are at their last row.
        """
        raise NotImplementedError

    @property
    def t(self) -> np.ndarray:
        """The data rows reached, int64 [M]."""
        return self._row + self._lookback

    def _option(self, options: Mapping[str, Any], name: str, default: Any, rows: np.ndarray) -> np.ndarray:
        """A reset option of sub-envs `rows`; None counts as 0."""
        value = options.get(name, default)
        return np.broadcast_to(np.asarray(0 if value is None else value), self.num_envs)[rows]

    def _begin(self, rows: np.ndarray, seed: np.ndarray, options: Mapping[str, Any]) -> None:
        window = np.broadcast_to(
            np.asarray(options.get("window", self._window), np.int64), self._window.shape
        )[rows]
        warmup = self._option(options, "warmup", 0, rows)
        last = window[:, 1] - 1 + self._option(options, "score_last", False, rows)  # the last row seen
        room = last - window[:, 0]
        bad = (window[:, 0] < warmup) | (warmup < 0) | (last >= self._usable) | (room < 1)
        if bad.any():
            i = int(bad.argmax())
            raise ValueError(
                f"the window [{window[i, 0]}, {window[i, 1]}) with a warm-up of {warmup[i]} has no step, "
                f"or reaches outside the {self._usable} usable rows"
            )
        wanted = self._option(options, "episode_steps", self._episode_steps, rows)
        steps = np.where(wanted > 0, np.minimum(wanted, room), room)
        start = window[:, 0] + (uniforms(seed, np.zeros(1)) * (room - steps + 1)).astype(np.int64)
        self._window[rows] = window
        # usable row u is data row u + lookback, and sees back to data row u
        self._bounds[rows] = np.stack([window[:, 0] - warmup, last + self._lookback + 1], 1)
        self._row[rows], self._start[rows], self._end[rows] = start - warmup, start, start + steps
        self._over[rows] = False
        self._open(rows, options)

    def step(self, actions: np.ndarray) -> Step:
        """One row further in all sub-envs; those that have ended stay as they are."""
        obs, reward, terminated, _, info = super().step(actions)
        return obs, reward, terminated, self._over & ~terminated, info

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        moving = ~self._over
        scored = moving & (self._row >= self._start)
        self._row += moving
        ends = scored & (self._row == self._end)
        reward, terminated, info = self._account(actions, moving, scored, ends)
        self._over |= ends | terminated
        return reward, terminated, {"t": self.t, **info, "scored": scored}

    def _read(self, count: int) -> np.ndarray:
        """The table [M, columns, count] up to the current rows; the only access to the data.

        Raises:
            IndexError: a row outside the bounds of a sub-env's window.
        """
        rows = self.t[:, None] + np.arange(1 - count, 1)
        if (rows[:, 0] < self._bounds[:, 0]).any() or (rows[:, -1] >= self._bounds[:, 1]).any():
            raise IndexError("a row outside the episode's window was about to be read")
        return self._table[:, rows].swapaxes(0, 1)

    def _arrays(self) -> Arrays:
        return {
            "window": self._window,
            "bounds": self._bounds,
            "row": self._row,
            "start": self._start,
            "end": self._end,
            "over": self._over,
        }
