"""Accounts of trading: what they book against a slow reference written row by row, ruin, and holding on."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trading_envs import column, play, series, shipped, trading, walk

from rlrun.config.keys import violations
from rlrun.data.table import DataError

HOURLY = series([30.0, 30.0, -5.0, 0.0, 12.0, 40.0, -20.0, 10.0])


@dataclass
class Slow:
    """One account, one row after the other: the same sentences as in the docs, in plain Python."""

    fixed: bool
    cost: float
    fee: float
    floor: float
    equity: float
    unit: float = 1.0
    position: float = 0.0
    open: bool = True
    gross: float = 0.0
    paid: float = 0.0
    orders: list[float] = field(default_factory=list)

    def _book(self, money: float) -> float:
        if self.equity + money <= self.floor:
            money, self.open = self.floor - self.equity, False
            self.equity = self.floor
        else:
            self.equity += money
        return money

    def earn(self, was: float, now: float) -> None:
        if self.open:
            change = self.unit * (now - was) if self.fixed else self.equity * (now - was) / was
            self.gross += self._book(self.position * change)

    def trade(self, to: float, price: float) -> None:
        if self.open:
            moved = abs(to - self.position)
            units = moved * (self.unit if self.fixed else self.equity / price)
            self.paid -= self._book(-units * (self.cost * abs(price) + self.fee))
            self.position = to


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    fixed=st.booleans(),
    delay=st.integers(0, 2),
    opens=st.booleans(),
    cost=st.sampled_from([0.0, 0.004]),
    fee=st.sampled_from([0.0, 0.3]),
    volatility=st.sampled_from([0.01, 0.5]),
    liquidate=st.booleans(),
)
def test_an_account_books_what_a_slow_one_does(
    seed: int,
    fixed: bool,
    delay: int,
    opens: bool,
    cost: float,
    fee: float,
    volatility: float,
    liquidate: bool,
) -> None:
    rng = np.random.default_rng(seed)
    steps, unit, capital = 25, (2.5 if fixed else 1.0), (200.0 if fixed else 1.0)
    moves = rng.normal(0, volatility, (2, steps + 2))
    close = 20.0 + 20.0 * moves[0].cumsum() if fixed else 20.0 * np.exp(moves[0].cumsum())
    opening = close * np.exp(0.3 * moves[1])
    opens = opens and delay > 0
    how: dict[str, Any] = {"account": "fixed", "unit": unit, "capital": capital} if fixed else {}
    if opens:
        how |= {"fill": "open", "open": "a"}
    env = trading(series(close, opening), actions="continuous", delay=delay, cost=cost, fee=fee, **how)
    targets = rng.uniform(-1, 1, steps).astype(np.float32).astype(np.float64)
    found = play(env, iter(targets.reshape(-1, 1, 1)), liquidate=liquidate)
    slow = Slow(fixed, cost, fee, 0.01 * capital, capital, unit, orders=[0.0] * max(delay - 1, 0))
    for k, target in enumerate(targets):
        row, before, slow.gross, slow.paid = k + 1, slow.equity, 0.0, 0.0
        slow.orders.append(target)
        last = k == steps - 1
        if delay == 0:
            slow.trade(slow.orders.pop(0), close[row])
            slow.earn(close[row], close[row + 1])
        elif opens:
            slow.earn(close[row], opening[row + 1])
            slow.trade(slow.orders.pop(0), opening[row + 1])
            slow.earn(opening[row + 1], close[row + 1])
        else:
            slow.earn(close[row], close[row + 1])
            fill = slow.orders.pop(0)
            slow.trade(0.0 if last and liquidate else fill, close[row + 1])
        if last and liquidate:
            slow.trade(0.0, close[row + 1])
        score = (slow.equity - before) / unit if fixed else np.log(slow.equity / before)
        booked = {name: float(found[k + 1][name][0]) for name in ("gross", "cost", "pnl", "equity", "score")}
        expected = slow.gross, slow.paid, slow.gross - slow.paid, slow.equity, score
        np.testing.assert_allclose(list(booked.values()), expected, rtol=1e-12, atol=1e-12 * capital)
        assert booked["gross"] - booked["cost"] == booked["pnl"]
        assert abs(before + booked["pnl"] - booked["equity"]) < 1e-12 * capital
        assert bool(found[k + 1]["terminated"][0]) == (not slow.open) and booked["equity"] >= 0.01 * capital
        if not slow.open:
            assert len(found) == k + 2
            return
    assert found[-1]["truncated"][0] and len(found) == steps + 1


def test_contracts_trade_at_any_price() -> None:
    env = trading(HOURLY, account="fixed", capital=100.0, unit=2.0, cost=0.01, fee=0.1)
    steps = play(env, iter([np.array([2])] * 7))
    gross = 2.0 * np.array([0.0, 5.0, 12.0, 28.0, -60.0, 30.0])  # from the fill on, at -5
    cost = np.array([2 * (0.05 + 0.1), 0, 0, 0, 0, 2 * (0.1 + 0.1)])
    np.testing.assert_allclose(column(steps, "gross")[:, 0], gross, atol=1e-12)
    np.testing.assert_allclose(column(steps, "cost")[:, 0], cost, atol=1e-12)
    np.testing.assert_allclose(column(steps, "score")[:, 0], (gross - cost) / 2.0, atol=1e-12)
    assert steps[-1]["equity"][0] == pytest.approx(100.0 + gross.sum() - cost.sum())
    assert steps[0]["obs"].tolist() == [[0.0, 0.0]] and steps[1]["obs"].tolist() == [[-35.0, 1.0]]


def test_a_price_that_no_share_can_have_names_the_account_that_can() -> None:
    with pytest.raises(DataError, match=r"close is -5 at 2; 0 at 3; -20 at 6 .*env\.account=fixed"):
        trading(HOURLY)


def test_an_account_of_contracts_is_ruined_at_its_floor() -> None:
    env = trading(HOURLY, 2, account="fixed", capital=20.0, ruin=0.5)
    steps = play(env, iter([np.array([0, 1])] * 7))  # short from -5 to 12: a loss of 17
    assert column(steps, "equity")[-1].tolist() == [10.0, 20.0]
    assert (
        column(steps, "ruined").sum(0).tolist() == [4, 0] and column(steps, "pnl").sum(0).tolist()[0] == -10.0
    )


def test_what_is_held_on_to_earns_every_row_and_pays_one_round_trip() -> None:
    data, cost = walk(61), 0.01
    env = trading(data, 3, cost=cost)
    options = {
        "window": [[0, 20], [20, 40], [40, 60]],
        "score_last": [True, True, False],
        "holding": 1.0,
        "entered": [False, True, True],
        "liquidate": [False, False, True],
    }
    steps = play(env, iter([np.full(3, 2)] * 20), **options)
    total = sum(float(step["score"].sum()) for step in steps[1:])
    prices = data.values[1:, 0]
    assert total == pytest.approx(np.log(prices[-1] / prices[0] * (1 - cost) ** 2), abs=1e-12)
    assert (column(steps, "position")[:19] == 1.0).all()
    late = trading(data, 1, cost=0.0, delay=3)  # orders that are on their way already keep it
    held = play(late, iter([np.array([2])] * 59), holding=1.0, entered=True, liquidate=False)
    assert column(held, "score").sum() == pytest.approx(np.log(prices[-1] / prices[0]), abs=1e-12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"account": "fixed"}, "account=fixed needs the money that it begins with"),
        ({"capital": 10.0}, "capital is 10.0: it has no effect under account=share"),
        ({"fill": "open"}, "fill=open goes with env.open"),
        ({"open": "a"}, "fill=open goes with env.open"),
        ({"fill": "open", "open": "a", "delay": 0}, "use delay=1"),
        ({"account": "margin"}, "account is margin: it must be one of share, fixed"),
        ({"ruin": 1.0}, "ruin is 1.0"),
        ({"unit": 0.0}, "unit is 0.0"),
        ({"fee": -1.0}, "fee is -1.0"),
        ({"features": []}, "features is empty"),
        ({"lag": "2h"}, "lag is 2h: give it as {column: rows, or 2h}"),
        ({"scale": "all"}, "scale is all"),
    ],
)
def test_accounts_that_make_no_sense_are_refused(changes: dict[str, Any], message: str) -> None:
    assert any(message in problem for problem in violations(replace(shipped(), **changes)))
