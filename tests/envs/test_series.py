"""Time series: reading files, the account's arithmetic, and windows that nothing sees beyond."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trading_envs import column, play, series, shipped, trading, walk

from rlrun import envs
from rlrun.config.keys import violations
from rlrun.data.table import SHIPPED, Series, read_table
from rlrun.envs.vector.series import Trading

SHORT, FLAT, LONG = 0, 1, 2


def orders(*actions: int) -> Iterator[np.ndarray]:
    return iter([np.array([action]) for action in actions])


def random_orders(m: int, seed: int = 3) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed)
    while True:
        yield rng.integers(0, 3, m)


SIX = series([100, 100, 110, 99, 99, 108.9])  # returns from the first usable row on: +10, -10, 0, +10 %


@pytest.mark.parametrize(
    ("changes", "liquidate", "growth"),
    [
        ({"delay": 1}, True, [0.99, 0.9 * 0.98, 0.98, 1.1 * 0.99]),
        ({"delay": 1}, False, [0.99, 0.9 * 0.98, 0.98, 1.1 * 0.98]),
        ({"delay": 0}, True, [0.99 * 1.1, 0.98 * 1.1, 0.98, 0.98 * 0.9 * 0.99]),
        ({"delay": 0}, False, [0.99 * 1.1, 0.98 * 1.1, 0.98, 0.98 * 0.9]),
        ({"delay": 2}, True, [1.0, 0.99, 0.98, 0.9 * 0.99]),
        ({"delay": 1, "cost": 0.0}, True, [1.0, 0.9, 1.0, 1.1]),
        ({"delay": 1, "cost": 0.0, "fee": 0.99}, True, [0.991, 0.9 * 0.98, 0.98, 1.09]),
    ],
)
def test_growth_by_hand(changes: dict[str, Any], liquidate: bool, growth: list[float]) -> None:
    env = trading(SIX, **({"cost": 0.01} | changes))
    steps = play(env, orders(LONG, SHORT, LONG, SHORT), liquidate=liquidate)
    equity = np.cumprod([1.0, *growth])
    np.testing.assert_allclose(column(steps, "reward")[:, 0], np.log(growth), atol=1e-12)
    np.testing.assert_array_equal(column(steps, "reward"), column(steps, "score"))
    np.testing.assert_allclose(column(steps, "equity")[:, 0], equity[1:], atol=1e-12)
    np.testing.assert_allclose(column(steps, "pnl")[:, 0], np.diff(equity), atol=1e-12)
    assert column(steps, "t")[:, 0].tolist() == [2, 3, 4, 5]
    assert column(steps, "truncated")[:, 0].tolist() == [False, False, False, True]
    assert not column(steps, "terminated").any()


def test_observations_are_returns_features_position_and_orders() -> None:
    env = trading(series(SIX.values[:, 0], [0, 1, 2, 3, 4, 5]), lookback=2, delay=3)
    steps = play(env, orders(LONG, SHORT, LONG))
    r = 100 * np.log([1.1, 0.9, 1.0, 1.1])
    expected = [
        [0.0, r[0], 1, 2, 0, 0, 0],  # two returns, two features, position, two orders on their way
        [r[0], r[1], 2, 3, 0, 0, 1],
        [r[1], r[2], 3, 4, 0, 1, -1],
        [r[2], r[3], 4, 5, 0, -1, 1],  # the first order would fill here, but the end closes
    ]
    np.testing.assert_allclose([step["obs"][0] for step in steps], expected, atol=1e-4)
    assert steps[0]["obs"].dtype == np.float32 and env.single_observation_space.contains(steps[0]["obs"][0])


def test_continuous_positions_are_clipped_and_scale_returns() -> None:
    env = trading(SIX, actions="continuous", cost=0.01)
    steps = play(env, iter(np.array([[[0.5]], [[-7.0]], [[0.0]], [[0.0]]])))
    growth = [0.995, 0.95 * 0.985, 0.99, 1.0]
    np.testing.assert_allclose(column(steps, "score")[:, 0], np.log(growth), atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), delay=st.integers(0, 4), continuous=st.booleans())
def test_pnl_sums_to_the_change_of_equity(seed: int, delay: int, continuous: bool) -> None:
    env = trading(
        walk(60, seed), 4, delay=delay, actions="continuous" if continuous else "discrete", cost=0.003
    )
    rng = np.random.default_rng(seed)
    moves = (rng.normal(size=(4, 1)) if continuous else rng.integers(0, 3, 4) for _ in range(100))
    steps = play(env, moves, episode_steps=30)
    pnl, gross, cost = (column(steps, name) for name in ("pnl", "gross", "cost"))
    np.testing.assert_allclose(pnl.sum(0), steps[-1]["equity"] - 1.0, rtol=0, atol=1e-14)
    np.testing.assert_array_equal(gross - cost, pnl)
    assert (cost >= 0).all() and len(pnl) == 30
    held = column(steps, "position")
    closed = np.abs(np.diff(held, axis=0, prepend=np.zeros((1, 4)), append=np.zeros((1, 4)))).sum(0)
    before = column(steps, "equity") - pnl
    np.testing.assert_allclose(column(steps, "traded").sum(0), closed, atol=1e-12)
    paid = cost / (before + gross) if delay else cost / before  # when it moves: after, or before it earned
    if delay:
        np.testing.assert_allclose(paid.sum(0), 0.003 * closed, atol=1e-13)  # all moves were paid for
    np.testing.assert_allclose(np.log1p(pnl / before), column(steps, "score"), atol=1e-14)


def test_buy_and_hold_earns_the_price_and_noop_nothing() -> None:
    data = walk(50)
    for actions in ("discrete", "continuous"):
        env = trading(data, 2, actions=actions, cost=0.0)
        results = {}
        for name, policy in env.abilities.baselines.items():
            obs, total, over = env.reset(seed=0)[0], np.zeros(2), False
            while not over:
                obs, _, _, truncated, info = env.step(policy(env, obs))
                total, over = total + info["score"], bool(truncated.all())
            results[name] = total
        bought, sold = data.values[2, 0], data.values[-1, 0]  # filled one row after the first
        np.testing.assert_allclose(results["buy_and_hold"], np.log(sold / bought), atol=1e-12)
        assert not results["noop"].any()


def test_transitions_of_train_and_test_windows() -> None:
    env = trading(walk(101), 3)  # 100 usable rows
    window = np.array([[10, 30], [10, 30], [80, 100]])
    steps = play(env, random_orders(3), window=window, score_last=[False, True, False])
    scored = column(steps, "scored")
    assert scored.sum(0).tolist() == [19, 20, 19]
    last = [int(column(steps, "t")[np.flatnonzero(scored[:, i])[-1], i]) for i in range(3)]
    assert last == [29 + 1, 30 + 1, 99 + 1]  # data rows: usable + lookback
    ends = column(steps, "truncated").argmax(0)
    assert ends.tolist() == [18, 19, 18] and not column(steps, "terminated").any()
    with pytest.raises(ValueError, match="reaches outside the 100 usable rows"):
        env.reset(seed=0, options={"window": [80, 100], "score_last": True})


def test_two_adjacent_test_windows_lose_no_row() -> None:
    env = trading(walk(101), 2)
    steps = play(env, random_orders(2), window=[[20, 40], [40, 60]], score_last=True)
    rows = column(steps, "t")[column(steps, "scored")[:, 0]]
    assert np.sort(rows.ravel()).tolist() == list(range(22, 62))


def test_an_ended_sub_env_stays_as_it_is() -> None:
    env = trading(walk(101), 2, cost=0.01)
    steps = play(env, random_orders(2), window=[[0, 5], [0, 50]])
    frozen = [{name: value[0].tolist() for name, value in step.items()} for step in steps[5:]]
    assert all(step == frozen[0] for step in frozen)
    assert frozen[0]["truncated"] and frozen[0]["pnl"] == 0.0 and not frozen[0]["scored"]


@pytest.mark.parametrize("score_last", [False, True])
@pytest.mark.parametrize("delay", [0, 1, 3])
def test_nothing_outside_the_window_is_read(score_last: bool, delay: int) -> None:
    data, lookback, warmup, (a, b) = walk(120), 5, 7, (40, 70)
    poisoned = data.values.copy()
    inside = slice(a - warmup, b + score_last + lookback)  # data rows
    keep = poisoned[inside].copy()
    poisoned[:] = np.nan
    poisoned[inside] = keep
    runs = [
        play(
            trading(replace(data, values=values), 4, lookback=lookback, delay=delay),
            random_orders(4),
            window=[a, b],
            warmup=warmup,
            episode_steps=[0, 0, 9, 20],
            score_last=score_last,
        )
        for values in (data.values, poisoned)
    ]
    assert len(runs[0]) == len(runs[1]) == 1 + warmup + b - a - (not score_last)
    for clean, other in zip(*runs, strict=True):
        for name, value in clean.items():
            assert value.tobytes() == other[name].tobytes(), name
            assert np.isfinite(value.astype(float)).all()
    for edge in (inside.start, inside.stop - 1):  # and both edges are read, so the test has teeth
        bitten = poisoned.copy()
        bitten[edge] = np.nan
        env = trading(replace(data, values=bitten), 1, lookback=lookback, delay=delay)
        steps = play(env, random_orders(1), window=[a, b], warmup=warmup, score_last=score_last)
        assert not all(np.isfinite(step["obs"]).all() for step in steps)


def test_a_row_outside_the_bounds_raises() -> None:
    env = trading(walk(120), 2, lookback=5)
    env.reset(seed=0, options={"window": [40, 70]})
    for row in (38, 69):
        state = env.state()
        state["row"][1] = row  # one sub-env astray
        astray = trading(walk(120), 2, lookback=5)
        with pytest.raises(IndexError, match="outside the episode's window"):
            astray.load_state(state)
            astray.step(np.array([1, 1]))


@pytest.mark.parametrize(
    "options",
    [
        {"window": [-1, 20]},
        {"window": [90, 117]},
        {"window": [20, 21]},
        {"window": [30, 20]},
        {"window": [5, 20], "warmup": 6},
        {"window": [5, 20], "warmup": -1},
    ],
)
def test_windows_that_do_not_fit_are_refused(options: dict[str, Any]) -> None:
    env = trading(walk(120), lookback=5)  # 115 usable rows
    with pytest.raises(ValueError, match="has no step, or reaches outside the 115 usable rows"):
        env.reset(seed=0, options=options)
    with pytest.raises(ValueError, match="no reset option"):
        env.reset(seed=0, options={"windows": [0, 5]})


def test_warmup_is_seen_but_neither_traded_nor_scored() -> None:
    env = trading(walk(101), 2, cost=0.01)
    steps = play(env, random_orders(2), window=[20, 40], warmup=[0, 6])
    warm = np.flatnonzero(~column(steps, "scored")[:, 1])
    assert column(steps, "t")[0].tolist() == [22, 16]
    assert warm.tolist() == list(range(6))
    for name in ("pnl", "gross", "cost", "position"):
        assert not column(steps, name)[warm, 1].any()
    assert (column(steps, "equity")[warm, 1] == 1.0).all()
    assert not np.stack([step["obs"][1, -1] for step in steps[:7]]).any()  # no position until a
    # an order given at the last warm-up row would fill at a: it must not exist
    assert column(steps, "gross")[6, 1] == 0.0


def test_random_starts_cover_the_window_and_depend_on_the_seed_alone() -> None:
    env = trading(walk(101), 500)
    options = {"window": [20, 40], "episode_steps": 10}
    env.reset(seed=np.arange(500, dtype=np.uint64), options=options)
    starts = env.state()["row"]
    assert set(starts) == set(range(20, 30))  # the last one ends on row 39
    alone = trading(walk(101))
    for seed in (0, 17, 499):
        alone.reset(seed=np.array([seed], np.uint64), options=options)
        assert alone.state()["row"] == starts[seed]
    limited = trading(walk(101), 500, max_steps=10)
    limited.reset(seed=np.arange(500, dtype=np.uint64), options={"window": [20, 40]})
    np.testing.assert_array_equal(limited.state()["row"], starts)
    limited.reset(seed=0, options={"window": [20, 40], "episode_steps": None})
    assert set(limited.state()["row"]) == {20}


def test_a_window_is_kept_until_another_is_given() -> None:
    env = trading(walk(101), 2)
    assert env.reset(seed=0)[0].shape == (2, 3) and env.state()["end"].tolist() == [99, 99]
    env.reset(seed=0, options={"window": [[20, 40], [30, 50]]})
    obs = env.step(np.array([2, 2]))[0]
    after = env.reset(seed=0, options={"reset_mask": np.array([True, False])})[0]
    np.testing.assert_array_equal(after[1], obs[1])
    assert env.state()["row"].tolist() == [20, 31] and env.state()["end"].tolist() == [39, 49]


def test_ruin_terminates() -> None:
    env = trading(series([10, 10, 10, 25, 30, 30]), 2)
    steps = play(env, iter([np.array([SHORT, FLAT])] * 4))
    assert column(steps, "terminated").tolist() == [
        [False, False],
        [True, False],
        [True, False],
        [True, False],
    ]
    assert column(steps, "truncated")[:, 0].tolist() == [False] * 4 and column(steps, "truncated")[-1, 1]
    assert column(steps, "scored")[2:, 0].sum() == 0
    assert column(steps, "equity")[:, 0].tolist() == [0.9995, *[0.01] * 3]  # the rest of the loss is cut
    assert column(steps, "pnl")[:, 0].tolist() == pytest.approx([-0.0005, 0.01 - 0.9995, 0.0, 0.0])
    assert column(steps, "ruined")[:, 0].tolist() == [False, True, True, True]
    assert column(steps, "position")[:, 0].tolist() == [0.0, -1.0, 0.0, 0.0]


def test_a_longer_series_changes_nothing_before() -> None:
    data = walk(120)
    prefix = Series(data.index[:80], data.columns, data.values[:80], "")
    long, short = (play(trading(d, 2, lookback=5), random_orders(2), window=[30, 75]) for d in (data, prefix))
    for a, b in zip(long, short, strict=True):
        assert all(a[name].tobytes() == b[name].tobytes() for name in a)


def test_sub_envs_are_independent_and_state_is_complete() -> None:
    options: dict[str, Any] = {
        "window": [[0, 30], [20, 60], [5, 99]],
        "episode_steps": [7, 0, 20],
        "warmup": [0, 4, 5],
    }
    env = trading(walk(101), 3, delay=3, cost=0.01)
    moves = [next(random_orders(3, seed)) for seed in range(40)]
    together = play(env, iter(moves + moves + moves), **options)
    copy = trading(walk(101), 3, delay=3, cost=0.01)
    env.reset(seed=7, options=options)
    for t, move in enumerate(moves[:25]):
        if t == 12:
            copy.load_state(env.state())
        step = env.step(move)
        if t >= 12:
            other = copy.step(move)
            assert all(x.tobytes() == y.tobytes() for x, y in zip(step[:4], other[:4], strict=True))
        np.testing.assert_array_equal(step[0], together[t + 1]["obs"])
    env.reset(seed=7)
    seeds = env.state()["seed"].view(np.uint64)
    for i in range(3):
        alone = trading(walk(101), delay=3, cost=0.01)
        own = {name: [values[i]] if name != "window" else values[i] for name, values in options.items()}
        obs = alone.reset(seed=seeds[i : i + 1], options=own)[0]
        for t in range(25):
            np.testing.assert_array_equal(obs[0], together[t]["obs"][i])
            obs = alone.step(moves[t][i : i + 1])[0]


def test_shipped_series_load_and_wti_trades() -> None:
    env = envs.make(shipped("trading"), 2)
    assert isinstance(env, Trading)
    spec = env.abilities.data_spec
    assert len(spec.index) == 8321 and spec.usable == 8321 - spec.lookback and len(spec.sha256) == 64
    assert str(spec.index[0])[:10] == "1986-01-02" and spec.columns == ("close",) and spec.delay == 1
    assert (np.diff(spec.index) > np.timedelta64(0)).all()
    obs, _ = env.reset(seed=0)
    assert obs.shape == (2, spec.lookback + 1)
    names = {path.name.removesuffix(".csv.gz") for path in SHIPPED.glob("*.csv.gz")}
    assert names == {"wti_daily", "electricity_hourly", "renewables_hourly", "retail_daily"}
    rows = {name: len(read_table(SHIPPED / f"{name}.csv.gz", "time").index) for name in names}
    assert (rows["electricity_hourly"], rows["renewables_hourly"], rows["retail_daily"]) == (26304, 8220, 739)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lookback": 0}, "lookback is 0: it must be at least 1"),
        ({"delay": -1}, "delay is -1"),
        ({"cost": -0.1}, "cost is -0.1"),
        ({"actions": "box"}, "actions is box"),
        ({"columns": []}, "columns is empty"),
        ({"columns": ["a"], "price": "b"}, "price is b: it must be one of columns"),
        ({"columns": ["time", "a"]}, "columns holds the time column time"),
        ({"max_steps": 0}, "max_steps is 0"),
    ],
)
def test_bad_configs_are_refused(changes: dict[str, Any], message: str) -> None:
    assert violations(shipped()) == []
    assert any(message in problem for problem in violations(replace(shipped(), **changes)))


def test_a_gap_closes_the_account_and_no_return_crosses_it() -> None:
    prices = [10.0, 10.0, 11.0, 12.1, 50.0, 50.0, 55.0, 60.5]
    data = replace(series(prices), breaks=np.array([4]))  # usable: rows 1 to 3, and 5 to 7
    env = trading(data, cost=0.01)
    steps = play(env, iter([np.array([LONG])] * 5), across=True)
    assert column(steps, "t")[:, 0].tolist() == [2, 3, 5, 6, 7]
    assert column(steps, "scored")[:, 0].tolist() == [True, True, False, True, True]
    growth = [0.99, 1.1 * 0.99, 1.0, 0.99, 1.1 * 0.99]  # bought and sold on each side
    np.testing.assert_allclose(column(steps, "score")[:, 0], np.log(growth), atol=1e-12)
    assert steps[3]["obs"].tolist() == [[0.0, 0.0]]  # of the first rows after it alone
    train = play(trading(data), iter([np.array([LONG])] * 5))
    assert len(train) == 3 and train[-1]["truncated"][0]
