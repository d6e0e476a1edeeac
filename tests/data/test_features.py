"""What is shown of a table: features of the past alone, and what they are standardised by."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlrun.data.features import CALENDAR, PAST, Feature, foresight, late, parse, shown
from rlrun.data.market import Market, market
from rlrun.data.table import DataError, Series

HOUR = np.timedelta64(1, "h")


def table(values: Any, breaks: Any = (), names: tuple[str, ...] = ("close", "load", "wind mw")) -> Series:
    values = np.asarray(values, float).reshape(len(values), -1)
    index = np.datetime64("2020-02-28T00:00", "ns") + HOUR * np.arange(len(values))
    return Series(index, names[: values.shape[1]], values, "", np.asarray(breaks, np.int64))


def prepared(data: Series, *features: str, **how: Any) -> Market:
    settings: dict[str, Any] = {
        "price": None, "opens": None, "lag": {}, "positive": True, "scaled": True, "lookback": 1,
        "delay": 1, "periods_per_year": None,
    }  # fmt: skip
    return market(data, features=features or ("default",), **settings | how)


def of(feature: Feature, data: Series) -> np.ndarray:
    found = shown([feature], data)
    return np.concatenate([found.past, found.now])


EVERY = [Feature(kind, "close", k) for kind in PAST for k in (1, 2, 5)]
EVERY += [Feature(kind) for kind in CALENDAR] + [Feature("column", "close")]


@pytest.mark.parametrize("feature", EVERY, ids=lambda feature: feature.name)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(7, 60), m=st.integers(1, 60), large=st.booleans())
def test_a_feature_is_a_function_of_the_past(
    feature: Feature, seed: int, n: int, m: int, large: bool
) -> None:
    """f(x[:m]) == f(x)[:m] to the last bit, and nothing further back than it says has a say."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(1.0, 9.0, n) * (1e9 if large else 1.0)
    whole, part = of(feature, table(x)), of(feature, table(x[:m]))
    np.testing.assert_array_equal(whole[:, : min(m, n)], part)
    assert np.isnan(whole[:, : feature.history]).all() or feature.kind in CALENDAR or n <= feature.history
    assert np.isfinite(whole[:, feature.history :]).all()
    t = n - 1
    if t >= feature.history:
        changed = x.copy()
        changed[: t - feature.history] = rng.uniform(1e3, 1e12, max(t - feature.history, 0))
        np.testing.assert_array_equal(of(feature, table(changed))[:, t], whole[:, t])


def test_features_by_hand() -> None:
    x = [1.0, 2.0, 4.0, 2.0, 2.0, 2.0]
    data, nan = table(x), np.nan
    for text, expected in {
        "return close 1": [nan, *(100 * np.log([2.0, 2.0, 0.5, 1.0, 1.0]))],
        "return close 2": [nan, nan, *(100 * np.log([4.0, 1.0, 0.5, 1.0]))],
        "diff close 2": [nan, nan, 3.0, 0.0, -2.0, 0.0],
        "lag close 3": [nan, nan, nan, 1.0, 2.0, 4.0],
        "mean close 3": [nan, nan, 7 / 3, 8 / 3, 8 / 3, 2.0],
        "std close 2": [nan, 0.5, 1.0, 1.0, 0.0, 0.0],
        "zscore close 2": [nan, 1.0, 1.0, -1.0, 0.0, 0.0],
        "zscore close 3": [nan, nan, 5 / np.sqrt(14), -1 / np.sqrt(2), -1 / np.sqrt(2), 0.0],
        "volatility close 2": [nan, nan, 0.0, *(100 * np.log(2) * np.array([1.0, 0.5, 0.0]))],
        "column close": x,
    }.items():
        np.testing.assert_allclose(of(parse(text, data.columns), data)[0], expected, atol=1e-12, err_msg=text)


def test_the_calendar_by_hand() -> None:
    index = np.array(["2020-02-28T06:00", "2020-02-29T12:30", "2020-03-01T00:00"], "datetime64[ns]")
    data = Series(index, ("close",), np.ones((3, 1)), "")
    hours, days, months = np.array([6, 12.5, 0]) / 24, np.array([4, 5, 6]) / 7, np.array([1, 1, 2]) / 12
    for kind, share in (("hour", hours), ("weekday", days), ("month", months)):  # 2020-02-28: a Friday
        expected = [np.sin(2 * np.pi * share), np.cos(2 * np.pi * share)]
        np.testing.assert_allclose(of(Feature(kind), data), expected, atol=1e-12)


def test_a_gap_is_never_looked_across() -> None:
    data = table([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0], breaks=[4])
    found = of(Feature("lag", "close", 2), data)[0]
    np.testing.assert_array_equal(found, [np.nan, np.nan, 1.0, 2.0, np.nan, np.nan, 16.0])
    ready = prepared(data, "lag close 1", lookback=2)
    assert ready.spec.rows.tolist() == [2, 3, 6] and ready.spec.usable == 3


def test_the_features_decide_which_rows_can_be_seen() -> None:
    data = table(np.c_[np.arange(1.0, 41.0), np.arange(40.0)])
    assert prepared(data, lookback=16).spec.lookback == 16
    assert prepared(data, "mean load 24", lookback=1).spec.lookback == 23
    assert prepared(data, "mean load 24", "hour", lookback=3).spec.lookback == 25
    assert prepared(data, "mean load 24", lag={"load": 2}).spec.lookback == 25
    with pytest.raises(DataError, match=r"40 rows are too few for a lookback of 3 and features over 38 rows"):
        prepared(data, "mean load 38", lookback=3)


def test_a_column_that_comes_later_is_shifted() -> None:
    data = table(np.c_[np.arange(1.0, 6.0), np.arange(5.0)])
    for lag in (2, "2", "2h", "120min"):
        shifted, known = late(data, {"load": lag})
        np.testing.assert_array_equal(shifted.values[:, 1], [np.nan, np.nan, 0.0, 1.0, 2.0])
        assert known.tolist() == [False, False, True, True, True]
    np.testing.assert_array_equal(late(data, {"load": "90min"})[0].values[:, 1], [np.nan, np.nan, 0, 1, 2])
    gap = replace(data, index=np.delete(np.arange(6), 2) * HOUR + data.index[0])  # 0, 1, 3, 4, 5 o'clock
    np.testing.assert_array_equal(late(gap, {"load": "2h"})[0].values[:, 1], [np.nan, np.nan, 1.0, 1.0, 2.0])
    cut = late(table(data.values, breaks=[3]), {"load": 1})[0].values[:, 1]
    np.testing.assert_array_equal(cut, [np.nan, 0.0, 1.0, np.nan, 3.0])


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        ("zscor load 3", "did you mean zscore"),
        ("zscore load", "zscore needs a column and a number of rows, such as zscore close 24"),
        ("zscore load 0", "needs a column and a number"),
        ("zscore laod 3", "there is no column laod, did you mean load"),
        ("column nothing", "there is no column nothing"),
        ("hour 3", "hour stands alone"),
        ("magic", "a feature begins with column, return"),
        ("", "a feature begins with"),
        ("return load 1", r"load is 0 at 2020-02-28 \(1 in all\).*use diff load 1"),
    ],
)
def test_a_feature_that_is_none_is_refused(feature: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        prepared(table(np.c_[np.arange(1.0, 41.0), np.arange(40.0)]), feature)
    numbers = Series(np.arange(5), ("close",), np.ones((5, 1)), "")
    with pytest.raises(DataError, match="the index holds numbers, and no dates"):
        prepared(numbers, "hour")


@pytest.mark.parametrize(
    ("lag", "message"),
    [
        ({"laod": 2}, "did you mean load"),
        ({"load": "2 weeks"}, "give rows"),
        ({"load": -1}, "give rows"),
        ({"close": 1}, "a decision is filled at its price"),
    ],
)
def test_a_lag_that_is_none_is_refused(lag: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        prepared(table(np.c_[np.arange(1.0, 41.0), np.arange(40.0)]), lag=lag)


def test_a_name_may_have_spaces_and_the_default_stands_for_all_columns() -> None:
    data = table(np.random.default_rng(0).uniform(1, 2, (20, 3)))
    assert prepared(data).names == ("return close 1", "load", "wind mw")
    assert prepared(data, positive=False).names[0] == "diff close 1"
    found = prepared(data, "default", "mean wind mw 3", "hour", "column load", opens="load")
    names = ("return close 1", "wind mw", "mean wind mw 3", "load", "sine of hour", "cosine of hour")
    assert found.names == names and (found.past, found.shown) == (4, 6)


def test_statistics_are_those_of_the_rows_alone() -> None:
    rng = np.random.default_rng(3)
    values = rng.uniform(1, 2, (60, 2))
    values[10:30, 1] = 7.0
    rows = np.arange(10, 30)
    mean, deviation = prepared(table(values)).statistics(rows)
    returns = 100 * np.log(values[10:30, 0] / values[9:29, 0])
    np.testing.assert_allclose([mean[0], deviation[0]], [returns.mean(), returns.std()], rtol=1e-13)
    assert (mean[1], deviation[1]) == (7.0, np.inf)  # constant there: shown as 0
    poisoned = values.copy()
    poisoned[30:], poisoned[:8] = 1e6, 1e6
    same = prepared(table(poisoned)).statistics(rows)
    assert same.tobytes() == prepared(table(values)).statistics(rows).tobytes()
    poisoned[29] = 1e6
    assert (prepared(table(poisoned)).statistics(rows)[0] != mean).any()


def test_what_holding_varies_by_is_measured_across_no_gap() -> None:
    returns = np.random.default_rng(0).normal(0, 0.01, 40)
    close = 100.0 * np.exp(returns.cumsum())
    gap = close.copy()
    gap[20:] *= 50.0  # what happened meanwhile
    whole, cut = prepared(table(close[:, None])), prepared(table(gap[:, None], breaks=[20]))
    assert whole.volatility(np.arange(1, 40)) == pytest.approx(returns[2:].std())
    rows = cut.spec.rows
    expected = np.delete(returns, [0, 1, 20, 21])  # between rows 1 to 19, and 21 to 39
    assert rows.tolist() == [*range(1, 20), *range(21, 40)]
    assert cut.volatility(rows) == pytest.approx(expected.std())


def test_values_that_no_observation_can_hold_need_scaling() -> None:
    data = table(np.c_[np.arange(1.0, 41.0), 1e39 * np.arange(40.0)])
    with pytest.raises(DataError, match=r"load has values beyond 3.4e38.*env\.scale=fit"):
        prepared(data, scaled=False)
    assert prepared(data).statistics(np.arange(1, 40))[1, 1] > 1e39


def test_a_column_that_knows_too_much_is_noted() -> None:
    rng = np.random.default_rng(5)
    close = 100 + rng.normal(size=500).cumsum()
    ahead = np.diff(close, append=[0, 0])[1:501]
    knows = np.where(np.arange(500) < 498, ahead, 0.0) + rng.normal(size=500)
    notes = foresight(table(np.c_[close, knows, rng.normal(size=500)]), "close")
    assert len(notes) == 2 and notes[0].startswith("load has a correlation of 0.68")
    assert "wind" not in "".join(notes)
    jump = np.where(np.arange(500) < 250, close, close + 1e6)  # what happened in a gap is no change
    assert foresight(table(np.c_[jump, knows], breaks=[250]), "close")[0].startswith(notes[0][:30])
    assert foresight(table(np.c_[jump, knows]), "close") == []  # it would drown all others
