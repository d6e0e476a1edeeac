"""Trading one column of a table, at a cost, with the other columns as features.

The account begins at 1. A position is a share of its equity, and is held there: over a row
in which the price returns r, a position p earns p * r of the equity, and moving it by d
costs `cost` * |d| of it. A decision taken after seeing row t fills at the price of row
t + `delay` and earns from there on. The score, `info["pnl"]`, is money: it sums to the
change of equity, and buying and holding scores the return of the price. The reward is the
same step's return on equity, so that its scale does not grow with the account.

Episodes run over windows [a, b) of *usable* rows (usable row u is data row u + lookback),
given by reset options. Every read passes one function that checks it against the bounds of
the episode's own window, so that a row outside cannot be seen by mistake.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

from rlrun.data.table import DataError, DataSpec, Series
from rlrun.envs.abilities import Abilities
from rlrun.envs.vector.base import Arrays, NativeVectorEnv, Step
from rlrun.rng import uniforms

Baseline = Callable[["Trading", np.ndarray], np.ndarray]  # (env, obs [M, ...]) -> actions [M, ...]


class Trading(NativeVectorEnv):
    """M accounts on one shared read-only table, each with a window and bounds of its own.

    Reset options, each one for all or one per sub-env:
        window: usable rows [a, b), int64 [2] or [M, 2]. The whole data at first; an episode
            without the option keeps the window that its sub-env was given last.
        warmup: rows before a that are seen, while nothing is done or scored (default 0).
        episode_steps: so many steps from a random start inside the window (default
            `max_steps`); None or 0 plays the whole window.
        score_last: whether row b may be read, as the successor of row b - 1 (default False).
        liquidate: whether the position is closed at the episode's end, at cost (default True).

    Observations, float32: the last `lookback` log returns in percent, oldest first; the last
    `lookback` values of every other column; the position; orders on their way. The end of an
    episode is `truncated`, and only ruin (equity gone) is `terminated`.

    `info`, all [M]: t (the data row reached), pnl = gross - cost, equity (after it), position
    (that held during the step), scored.
    """

    reset_options: ClassVar[tuple[str, ...]] = (
        "window",
        "warmup",
        "episode_steps",
        "score_last",
        "liquidate",
    )

    def __init__(
        self,
        num_envs: int,
        max_steps: int | None,
        series: Series,
        *,
        price: str | None,
        lookback: int,
        delay: int,
        cost: float,
        actions: str,
        periods_per_year: float | None,
    ) -> None:
        """`price` names the column that is traded, the first one by default.

        Raises:
            DataError: the table has too few rows for the lookback.
        """
        traded = series.columns.index(price or series.columns[0])
        others = [i for i in range(len(series.columns)) if i != traded]
        self._table = np.stack([np.log(series.values[:, traded]), *series.values[:, others].T])
        self._table.flags.writeable = False  # [columns, rows]; the first is the log price
        self._discrete, self._cost, self._delay = actions == "discrete", cost, delay
        self._episode_steps = max_steps or 0
        spec = DataSpec(
            series.index,
            series.columns,
            lookback,
            0,
            delay,
            periods_per_year,
            series.sha256,
        )
        if spec.usable < 2:
            raise DataError(
                f"{len(series.index)} rows are too few for a lookback of {lookback}: lower env.lookback"
            )
        orders = max(delay - 1, 0)
        size = lookback * len(self._table) + 1 + orders
        action: gymnasium.Space[Any] = Discrete(3) if self._discrete else Box(-1.0, 1.0, (1,), np.float32)
        super().__init__(num_envs, Box(-np.inf, np.inf, (size,), np.float32), action, None)
        baselines: dict[str, Baseline] = {
            "noop": lambda env, obs: env.order(0.0),
            "buy_and_hold": lambda env, obs: env.order(1.0),
        }
        self.abilities = Abilities(metrics=("pnl", "cost"), data_spec=spec, baselines=baselines)
        self._usable, self._lookback = spec.usable, spec.lookback
        self._window = np.tile(np.array([0, self._usable], np.int64), (num_envs, 1))
        self._bounds = np.tile(np.array([0, len(series.index)], np.int64), (num_envs, 1))  # data rows to read
        self._row, self._start, self._end = (np.zeros(num_envs, np.int64) for _ in range(3))  # usable rows
        self._liquidate, self._over, self._ruined = (np.zeros(num_envs, bool) for _ in range(3))
        self._position, self._equity = np.zeros(num_envs), np.ones(num_envs)
        self._orders = np.zeros((num_envs, orders))  # on their way, the next to be filled first

    def order(self, position: float) -> np.ndarray:
        """The actions [M, ...] by which every sub-env asks for one and the same position."""
        if self._discrete:
            return np.full(self.num_envs, round(position) + 1, np.int64)
        return np.full((self.num_envs, 1), position, np.float32)

    def _begin(self, rows: np.ndarray, seed: np.ndarray, options: Mapping[str, Any]) -> None:
        def option(name: str, default: Any) -> np.ndarray:
            value = options.get(name, default)
            return np.broadcast_to(np.asarray(0 if value is None else value), self.num_envs)[rows]

        window = np.broadcast_to(
            np.asarray(options.get("window", self._window), np.int64), self._window.shape
        )[rows]
        warmup = option("warmup", 0)
        last = window[:, 1] - 1 + option("score_last", False)  # the last row that is seen
        room = last - window[:, 0]
        bad = (window[:, 0] < warmup) | (warmup < 0) | (last >= self._usable) | (room < 1)
        if bad.any():
            i = int(bad.argmax())
            raise ValueError(
                f"the window [{window[i, 0]}, {window[i, 1]}) with a warm-up of {warmup[i]} has no step, "
                f"or reaches outside the {self._usable} usable rows"
            )
        wanted = option("episode_steps", self._episode_steps)
        steps = np.where(wanted > 0, np.minimum(wanted, room), room)
        start = window[:, 0] + (uniforms(seed, np.zeros(1)) * (room - steps + 1)).astype(np.int64)
        self._window[rows] = window
        # usable row u is data row u + lookback, and sees back to data row u
        self._bounds[rows] = np.stack([window[:, 0] - warmup, last + self._lookback + 1], 1)
        self._row[rows], self._start[rows], self._end[rows] = start - warmup, start, start + steps
        self._liquidate[rows] = option("liquidate", True)
        self._over[rows] = self._ruined[rows] = False
        self._position[rows], self._equity[rows], self._orders[rows] = 0.0, 1.0, 0.0

    def step(self, actions: np.ndarray) -> Step:
        """One row further in all sub-envs; those that have ended stay as they are."""
        obs, reward, terminated, _, info = super().step(actions)
        return obs, reward, terminated, self._over & ~terminated, info

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        moving = ~self._over
        scored = moving & (self._row >= self._start)
        self._row += moving
        ends = scored & (self._row == self._end)

        target = np.asarray(actions, np.float64).reshape(self.num_envs)
        target = target - 1.0 if self._discrete else np.clip(target, -1.0, 1.0)
        queue = np.concatenate([self._orders, np.where(scored, target, 0.0)[:, None]], 1)
        fill = queue[:, 0]
        self._orders[moving] = queue[moving, 1:] if self._delay else 0.0
        # without a delay the fill is at the row just seen, and earns over this very step
        held = self._position.copy() if self._delay else np.where(scored, fill, 0.0)
        after = np.where(ends & self._liquidate, 0.0, fill if self._delay else held)
        log_price = self._read(2)[:, 0]
        moved = np.abs(held - self._position) + np.abs(after - held)
        stake = np.where(scored, self._equity, 0.0)
        gross = stake * held * np.expm1(log_price[:, 1] - log_price[:, 0])
        cost = stake * self._cost * moved
        pnl = gross - cost
        reward = np.where(scored, pnl / self._equity, 0.0)
        self._position[moving] = after[moving]
        self._equity += pnl
        self._ruined |= scored & (self._equity <= 0.0)
        self._over |= ends | self._ruined
        return (
            reward,
            self._ruined.copy(),
            {
                "t": self._row + self._lookback,
                "pnl": pnl,
                "gross": gross,
                "cost": cost,
                "equity": self._equity.copy(),
                "position": np.where(scored, held, 0.0),
                "scored": scored,
            },
        )

    def _observe(self) -> np.ndarray:
        past = self._read(self._lookback + 1)
        returns, others = 100.0 * np.diff(past[:, 0]), past[:, 1:, 1:].reshape(self.num_envs, -1)
        return np.concatenate([returns, others, self._position[:, None], self._orders], 1).astype(np.float32)

    def _read(self, count: int) -> np.ndarray:
        """The table [M, columns, count] up to the current rows; the only access to the data.

        Raises:
            IndexError: a row outside the bounds of a sub-env's window.
        """
        rows = (self._row + self._lookback)[:, None] + np.arange(1 - count, 1)
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
            "liquidate": self._liquidate,
            "over": self._over,
            "ruined": self._ruined,
            "position": self._position,
            "equity": self._equity,
            "orders": self._orders,
        }
