"""Trading one column of a table, at a cost.

A decision taken after seeing row t fills at the price of row t + `delay`, its close or its
open, and earns from there on; what a position is, and earns, says `accounts`. The score,
`info["score"]`, is the reward, and is additive: the log growth of an account of shares, the
money per unit of one of contracts. Money is kept beside it: pnl = gross - cost is the change
of equity, to the last cent.

Equity cannot fall below a floor, a share `ruin` of what it began with: what would be lost
beyond that is cut, the account is closed, and the episode is over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

from rlrun.data.market import Market
from rlrun.envs.abilities import Abilities
from rlrun.envs.vector.accounts import Account
from rlrun.envs.vector.base import Arrays
from rlrun.envs.vector.windowed import WindowedEnv

Baseline = Callable[["Trading", np.ndarray], np.ndarray]  # (env, obs [M, ...]) -> actions [M, ...]
_BOOKED = ("score", "pnl", "gross", "cost", "equity", "position", "traded")


class Trading(WindowedEnv):
    """M accounts on one table of prices and features.

    Reset options beside those of every `WindowedEnv`, each one for all or one per sub-env:
        liquidate: whether the position is closed at the episode's end, at cost (default True).
        holding: the position that is held already when the first row is scored (default 0).
        entered: whether taking it has been paid for before (default False).
        scaling: by which observations are standardised: (obs - scaling[0]) / scaling[1],
            float64 [2, F] or [M, 2, F]; what a sub-env was given last stays.

    Observations, float32 [F]: the last `lookback` values of every feature, oldest first; the
    newest value of those of the calendar; the position; orders on their way. Only ruin is
    `terminated`.

    `info` beside t and scored, all [M]: score; pnl = gross - cost, in money; equity after it;
    position, that held last during the step; traded, by how much positions were moved; ruined.
    """

    reset_options: ClassVar[tuple[str, ...]] = (
        *WindowedEnv.reset_options,
        "liquidate",
        "holding",
        "entered",
        "scaling",
    )

    def __init__(
        self,
        num_envs: int,
        max_steps: int | None,
        market: Market,
        account: Account,
        *,
        lookback: int,
        delay: int,
        ruin: float,
        actions: str,
        oracle: np.ndarray | None = None,
    ) -> None:
        """`oracle` [rows] are the positions that one who knows what can be foretold asks for at each row."""
        self._market, self._money, self._delay = market, account, delay
        self._discrete, self._seen = actions == "discrete", lookback
        self._shown, self._prices = slice(0, market.shown), slice(market.shown, None)  # close, and open
        orders = max(delay - 1, 0)
        self._columns = market.past * lookback + market.shown - market.past  # entries of an observation
        size = self._columns + 1 + orders
        action: gymnasium.Space[Any] = Discrete(3) if self._discrete else Box(-1.0, 1.0, (1,), np.float32)
        observation = Box(-np.inf, np.inf, (size,), np.float32)
        spec = market.spec
        super().__init__(num_envs, observation, action, max_steps, market.table, spec.lookback, spec.rows)
        baselines: dict[str, Baseline] = {
            "buy_and_hold": lambda env, obs: env.order(1.0),
            "noop": lambda env, obs: env.order(0.0),
        }
        if oracle is not None:
            baselines["oracle"] = lambda env, obs: env.order(oracle[env.t])
        self.abilities = Abilities(
            metrics=("score", "pnl", "cost"),
            data_spec=spec,
            baselines=baselines,
            holdings={"buy_and_hold": 1.0},
            recorded=(*_BOOKED, "ruined"),
            scaling=self.scaling if market.scaled else None,
            reward_scale=self.reward_scale if market.scaled else None,
        )
        self._floor = ruin * account.start
        self._liquidate, self._entered, self._ruined = (np.zeros(num_envs, bool) for _ in range(3))
        self._holding, self._position = np.zeros(num_envs), np.zeros(num_envs)
        self._equity = np.full(num_envs, account.start)
        self._orders = np.zeros((num_envs, orders))  # on their way, the next to be filled first
        self._scaling = np.tile(np.array([[0.0], [1.0]]), (num_envs, 1, size))

    def order(self, position: float | np.ndarray) -> np.ndarray:
        """The actions [M, ...] by which sub-envs ask for a position, one for all or one each."""
        wanted = np.broadcast_to(np.asarray(position, np.float32), self.num_envs)
        return np.rint(wanted).astype(np.int64) + 1 if self._discrete else wanted[:, None].copy()

    def scaling(self, windows: np.ndarray) -> np.ndarray:
        """Mean and deviation of an observation's entries over windows [R, 2] of usable rows: [R, 2, F].

        They are those of the columns; position, orders and the calendar stay as they are. A
        column that is constant there has an infinite deviation: it is shown as 0.
        """
        size = self.single_observation_space.shape[0]  # type: ignore[index]
        out = np.tile(np.array([[0.0], [1.0]]), (len(windows), 1, size))
        found: dict[tuple[int, int], np.ndarray] = {}
        for row, (low, high) in zip(out, windows.tolist(), strict=True):
            if (low, high) not in found:
                found[low, high] = self._market.statistics(self._data_rows[low:high])
            row[:, : self._market.past * self._seen] = found[low, high].repeat(self._seen, 1)
        return out

    def reward_scale(self, windows: np.ndarray) -> np.ndarray:
        """By what scores come to the size of 1: one over what holding on varies by, over windows [R, 2]."""
        each = {
            (low, high): self._market.volatility(self._data_rows[low:high]) for low, high in windows.tolist()
        }
        return np.array([1.0 / each[low, high] for low, high in windows.tolist()])

    def _open(self, rows: np.ndarray, options: Mapping[str, Any]) -> None:
        self._liquidate[rows] = self._option(options, "liquidate", True, rows)
        self._holding[rows] = self._option(options, "holding", 0.0, rows)
        self._entered[rows] = self._option(options, "entered", False, rows)
        if "scaling" in options:
            self._scaling[rows] = np.broadcast_to(options["scaling"], self._scaling.shape)[rows]
        self._ruined[rows] = False
        self._position[rows], self._equity[rows] = 0.0, self._money.start
        self._orders[rows] = self._holding[rows, None]

    def _account(
        self, actions: np.ndarray, scored: np.ndarray, ends: np.ndarray, breaks: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        before, book = self._equity.copy(), _Book(scored & ~self._ruined, self.num_envs)
        prices = self._read(2, self._prices)  # [M, 1 or 2, 2]
        was, now = prices[:, 0, 0], prices[:, 0, 1]

        # What is held at the first row already, which may still be to be paid for.
        begins = scored & (self._row == self._start + 1) & (self._holding != 0.0)
        if np.count_nonzero(begins):
            self._position = np.where(begins & self._entered, self._holding, self._position)
            self._trade(book, np.where(begins, self._holding, self._position), was)

        # Orders: the new one joins the queue, the oldest is filled.
        target = np.asarray(actions, np.float64).reshape(self.num_envs)
        target = target - 1.0 if self._discrete else np.clip(target, -1.0, 1.0)
        queue = np.concatenate([self._orders, target[:, None]], 1)
        fill = queue[:, 0]
        if self._delay:
            self._orders = np.where(scored[:, None], queue[:, 1:], self._orders)
        closes = (ends & self._liquidate) | breaks

        # Money: positions earn what the price does, and moving them costs.
        if not self._delay:  # filled at the row just seen, to earn over this very step
            self._trade(book, fill, was)
            self._earn(book, was, now)
            held = self._position.copy()
        elif prices.shape[1] > 1:  # filled at the open, between two closes
            self._earn(book, was, prices[:, 1, 1])
            self._trade(book, fill, prices[:, 1, 1])
            self._earn(book, prices[:, 1, 1], now)
            held = self._position.copy()
        else:
            self._earn(book, was, now)
            held = self._position.copy()
            self._trade(book, np.where(closes, 0.0, fill), now)
        if np.count_nonzero(closes):
            self._trade(book, np.where(closes, 0.0, self._position), now)
            self._orders[breaks] = 0.0

        self._ruined |= scored & ~book.live
        self._position[self._ruined] = 0.0
        pnl = book.gross - book.cost
        score = np.where(scored, self._money.score(before, self._equity), 0.0)
        booked = score, pnl, book.gross, book.cost, self._equity.copy(), np.where(scored, held, 0.0)
        info = dict(zip(_BOOKED, (*booked, book.traded), strict=True))
        return score, self._ruined.copy(), {**info, "ruined": self._ruined.copy()}

    def _trade(self, book: _Book, to: np.ndarray, price: np.ndarray) -> None:
        """Move the positions, as far as accounts are open; a cost beyond the floor is not paid."""
        moved = np.where(book.live, np.abs(to - self._position), 0.0)
        cost = self._money.cost(moved, price, self._equity)
        book.cost -= self._change(book, -cost)
        book.traded += moved
        self._position = np.where(book.live, to, self._position)

    def _earn(self, book: _Book, was: np.ndarray, now: np.ndarray) -> None:
        """The price moves from `was` to `now`; equity falls to the floor at most."""
        gain = self._money.gain(self._position, was, now, self._equity)
        book.gross += self._change(book, np.where(book.live, gain, 0.0))

    def _change(self, book: _Book, money: np.ndarray) -> np.ndarray:
        """Add money to the equity, as far as the floor; returns what was added."""
        before, after = self._equity, self._equity + money
        falls = book.live & (after <= self._floor)
        self._equity = np.where(falls, self._floor, after)
        book.live &= ~falls
        return np.where(falls, self._floor - before, money)

    def _observe(self) -> np.ndarray:
        seen = self._read(self._seen, self._shown)
        past = seen[:, : self._market.past].reshape(self.num_envs, -1)
        now = seen[:, self._market.past :, -1]
        obs = np.concatenate([past, now, self._position[:, None], self._orders], 1)
        if self._market.scaled:
            obs = (obs - self._scaling[:, 0]) / self._scaling[:, 1]  # before the cast: units have no say
        return obs.astype(np.float32)

    def _arrays(self) -> Arrays:
        return {
            **super()._arrays(),
            "liquidate": self._liquidate,
            "entered": self._entered,
            "ruined": self._ruined,
            "holding": self._holding,
            "position": self._position,
            "equity": self._equity,
            "orders": self._orders,
            "scaling": self._scaling,
        }


class _Book:
    """What one step came to, [M]; `live` are the accounts that are open."""

    def __init__(self, live: np.ndarray, num_envs: int) -> None:
        self.live = live
        self.gross, self.cost, self.traded = (np.zeros(num_envs) for _ in range(3))
