"""Trading one column of a table, at a cost, with the other columns as features.

The account begins at 1. A position is a share of its equity, and is held there: over a row
in which the price returns r, a position p earns p * r of the equity, and moving it by d
costs `cost` * |d| of it. A decision taken after seeing row t fills at the price of row
t + `delay` and earns from there on. The score, `info["pnl"]`, is money: it sums to the
change of equity, and buying and holding scores the return of the price. The reward is the
same step's return on equity, so that its scale does not grow with the account.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

from rlrun.data.table import DataError, DataSpec, Series
from rlrun.envs.abilities import Abilities
from rlrun.envs.vector.base import Arrays
from rlrun.envs.vector.windowed import WindowedEnv

Baseline = Callable[["Trading", np.ndarray], np.ndarray]  # (env, obs [M, ...]) -> actions [M, ...]


class Trading(WindowedEnv):
    """M accounts on one table of prices and features.

    A reset option beside those of every `WindowedEnv`:
        liquidate: whether the position is closed at the episode's end, at cost (default True).

    Observations, float32: the last `lookback` log returns in percent, oldest first; the last
    `lookback` values of every other column; the position; orders on their way. Only ruin
    (equity gone) is `terminated`.

    `info` beside t and scored, all [M]: pnl = gross - cost, equity (after it), position (that
    held during the step).
    """

    reset_options: ClassVar[tuple[str, ...]] = (*WindowedEnv.reset_options, "liquidate")

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
        log_price = np.log(series.values[:, traded])
        table = np.stack([log_price, *series.values[:, others].T])  # [columns, rows]
        self._discrete, self._cost, self._delay = actions == "discrete", cost, delay
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
        size = lookback * len(table) + 1 + orders
        action: gymnasium.Space[Any] = Discrete(3) if self._discrete else Box(-1.0, 1.0, (1,), np.float32)
        observation = Box(-np.inf, np.inf, (size,), np.float32)
        super().__init__(num_envs, observation, action, max_steps, table, lookback)
        baselines: dict[str, Baseline] = {
            "noop": lambda env, obs: env.order(0.0),
            "buy_and_hold": lambda env, obs: env.order(1.0),
        }
        self.abilities = Abilities(metrics=("pnl", "cost"), data_spec=spec, baselines=baselines)
        self._liquidate, self._ruined = np.zeros(num_envs, bool), np.zeros(num_envs, bool)
        self._position, self._equity = np.zeros(num_envs), np.ones(num_envs)
        self._orders = np.zeros((num_envs, orders))  # on their way, the next to be filled first

    def order(self, position: float) -> np.ndarray:
        """The actions [M, ...] by which every sub-env asks for one and the same position."""
        if self._discrete:
            return np.full(self.num_envs, round(position) + 1, np.int64)
        return np.full((self.num_envs, 1), position, np.float32)

    def _open(self, rows: np.ndarray, options: Mapping[str, Any]) -> None:
        self._liquidate[rows] = self._option(options, "liquidate", True, rows)
        self._ruined[rows] = False
        self._position[rows], self._equity[rows], self._orders[rows] = 0.0, 1.0, 0.0

    def _account(
        self, actions: np.ndarray, moving: np.ndarray, scored: np.ndarray, ends: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        # Orders: the new one joins the queue, the oldest is filled.
        target = np.asarray(actions, np.float64).reshape(self.num_envs)
        target = target - 1.0 if self._discrete else np.clip(target, -1.0, 1.0)
        queue = np.concatenate([self._orders, np.where(scored, target, 0.0)[:, None]], 1)
        fill = queue[:, 0]
        self._orders[moving] = queue[moving, 1:] if self._delay else 0.0
        # without a delay the fill is at the row just seen, and earns over this very step
        held = self._position.copy() if self._delay else np.where(scored, fill, 0.0)
        after = np.where(ends & self._liquidate, 0.0, fill if self._delay else held)

        # Money: what was held earned the price's return, and moving it cost.
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
        return (
            reward,
            self._ruined.copy(),
            {
                "pnl": pnl,
                "gross": gross,
                "cost": cost,
                "equity": self._equity.copy(),
                "position": np.where(scored, held, 0.0),
            },
        )

    def _observe(self) -> np.ndarray:
        past = self._read(self._lookback + 1)
        returns, others = 100.0 * np.diff(past[:, 0]), past[:, 1:, 1:].reshape(self.num_envs, -1)
        return np.concatenate([returns, others, self._position[:, None], self._orders], 1).astype(np.float32)

    def _arrays(self) -> Arrays:
        return {
            **super()._arrays(),
            "liquidate": self._liquidate,
            "ruined": self._ruined,
            "position": self._position,
            "equity": self._equity,
            "orders": self._orders,
        }
