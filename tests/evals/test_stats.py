"""Statistics: equal to scipy's where scipy has them, deterministic, and as wide as they claim."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlrun.evals import stats


def test_iqm_cuts_a_floored_quarter_at_each_end() -> None:
    assert stats.iqm(np.array([0.0, 1.0, 2.0, 100.0])) == 1.5
    assert stats.iqm(np.array([5.0, 1.0, 3.0])) == 3.0  # floor(0.75) = 0: nothing is cut
    assert stats.iqm(np.arange(10.0)) == np.arange(2.0, 8.0).mean()
    np.testing.assert_array_equal(stats.iqm(np.array([[4.0, 0, 9, 2], [1, 1, 1, 9]])), [3.0, 1.0])


@settings(max_examples=200, deadline=None)
@given(p=st.floats(1e-6, 1 - 1e-6), df=st.integers(1, 300))
def test_t_quantile_is_scipys(p: float, df: int) -> None:
    oracle = pytest.importorskip("scipy.stats")
    assert stats.t_quantile(p, df) == pytest.approx(oracle.t.ppf(p, df), rel=1e-8, abs=1e-9)


@pytest.mark.parametrize(
    ("p", "df", "value"), [(0.975, 4, 2.7764451052), (0.975, 1, 12.7062047362), (0.9, 2, 1.8856180832)]
)
def test_t_quantile_of_the_tables(p: float, df: int, value: float) -> None:
    assert stats.t_quantile(p, df) == pytest.approx(value, abs=1e-9)
    assert stats.t_quantile(1 - p, df) == pytest.approx(-value, abs=1e-9)
    assert stats.t_cdf(value, df) == pytest.approx(p, abs=1e-10)


def test_t_quantile_refuses_what_has_none() -> None:
    for p, df in ((0.0, 3), (1.0, 3), (0.5, 0)):
        with pytest.raises(ValueError, match="no t quantile"):
            stats.t_quantile(p, df)


def test_t_interval_by_hand_and_none_below_three() -> None:
    interval = stats.t_interval([1.0, 2.0, 3.0], over="folds")
    assert interval is not None
    half = 4.302652729696142 / np.sqrt(3)  # s = 1, 2 degrees of freedom
    assert (interval.low, interval.high) == pytest.approx((2 - half, 2 + half), abs=1e-9)
    assert interval.kind == "t over 3 folds"
    assert stats.t_interval([1.0, 2.0], over="folds") is None


def test_bootstrap_is_deterministic_and_stays_within_strata() -> None:
    strata = [np.array([1.0, 1.0, 1.0]), np.array([100.0, 100.0])]
    still = stats.stratified_bootstrap(strata)
    assert still is not None and (still.low, still.high) == (40.6, 40.6)  # a pooled bootstrap would spread
    mixed = [np.sqrt(np.arange(5.0)), np.sqrt(np.arange(10.0, 15.0))]
    one, same, other = (stats.stratified_bootstrap(mixed, stats.iqm, seed=s) for s in (1, 1, 2))
    assert one == same and one != other
    assert stats.stratified_bootstrap([np.array([1.0]), np.array([2.0])]) is None


def test_bootstrap_has_the_width_of_the_mean() -> None:
    values = np.arange(40.0)
    interval = stats.stratified_bootstrap([values], n_boot=4000)
    assert interval is not None
    assert interval.width == pytest.approx(2 * 1.96 * values.std() / np.sqrt(40), rel=0.05)


def test_t_over_folds_covers_a_strong_fold_effect_and_seeds_alone_do_not() -> None:
    rng = np.random.default_rng(0)
    folds = rng.normal(size=(1000, 5, 1)) + 0.5 * rng.normal(size=(1000, 5, 10))  # true mean 0
    new, these = np.zeros(2), np.zeros(2)
    for scores in folds:
        found = stats.paired(scores, np.zeros(5), n_boot=100)
        for count, interval in ((new, found.new_period), (these, found.these_periods)):
            assert interval is not None
            count += [interval.low <= 0 <= interval.high, 1]
    assert 0.93 <= new[0] / new[1] <= 0.97
    assert these[0] / these[1] < 0.5


def test_paired_takes_the_common_period_effect_out() -> None:
    period = np.array([10.0, -20.0, 30.0, 0.0])
    agent = period[:, None] + np.array([[1.0, 3.0], [2.0, 2.0], [0.0, 2.0], [3.0, 1.0]])
    found = stats.paired(agent, period)
    assert found.mean == 1.75 and found.per_fold == [2.0, 2.0, 1.0, 2.0] and found.wins == 4
    assert found.new_period is not None and found.new_period.low > 0
    same = stats.paired(agent, np.repeat(period[:, None], 2, 1))  # a baseline may have seeds too
    assert same == found
    json.dumps(found.to_json(), allow_nan=False)


def test_the_headline_is_the_wider_interval() -> None:
    calm = stats.paired(np.tile([-5.0, 0.0, 5.0], (4, 1)), np.zeros(4))  # fold means equal by chance
    assert calm.new_period is not None and calm.these_periods is not None
    assert calm.new_period.width == calm.these_periods.width > 0
    assert "wider than t" in calm.new_period.kind
    assert stats.paired(np.zeros((2, 3)), np.ones(2)).new_period is None


def test_an_effect_of_the_detectable_size_is_found_four_times_in_five() -> None:
    effect = 1.662  # in units of the spread of 5 folds: (2.776 + 0.941) / sqrt(5)
    noise = np.random.default_rng(1).normal(size=(1000, 5, 1))
    found = [stats.paired(x + effect, np.zeros(5), n_boot=100) for x in noise]
    squares = [f.detectable**2 for f in found if f.detectable is not None]
    assert np.sqrt(np.mean(squares)) == pytest.approx(effect, rel=0.05)
    assert 0.72 < np.mean([f.new_period is not None and f.new_period.low > 0 for f in found]) < 0.88


def test_aggregate_names_its_interval_and_leaves_out_what_it_cannot_say() -> None:
    five = stats.aggregate([1.0, 2.0, 3.0, 4.0, 10.0])
    assert five["median"] == 3.0 and five["mean"] == 4.0 and five["iqm"] == 3.0
    assert five["interval_kind"] == "95% t over 5 seeds, of the mean"
    assert stats.aggregate([1.0])["interval"] is None
    nothing = stats.aggregate([])
    assert (nothing.pop("n"), nothing.pop("over")) == (0, "seeds") and set(nothing.values()) == {None}
    crossed = stats.aggregate([1.0, 3.0, 2.0, 4.0, 3.0, 5.0], [0, 0, 1, 1, 2, 2])
    assert crossed["interval_kind"].startswith("95% t over 3 folds")
    assert np.mean(crossed["interval"]) == pytest.approx(3.0)
    assert [(total["n"], total["over"]) for total in (five, crossed)] == [(5, "seeds"), (3, "folds")]


def test_an_interval_of_the_mean_stays_within_the_tasks_bounds() -> None:
    scores = [500.0, 500.0, 100.0]
    free = stats.aggregate(scores)
    assert free["interval"][0] < 0 and free["interval"][1] > 500 and "bounds" not in free["interval_kind"]
    cut = stats.aggregate(scores, bounds=(0.0, 500.0))
    assert cut["interval"] == [0.0, 500.0] and cut["interval_kind"].endswith("within the task's bounds")
    half = stats.aggregate(scores, bounds=(None, 500.0))
    assert half["interval"] == [free["interval"][0], 500.0]
    assert stats.aggregate(scores, bounds=(None, 2000.0)) == free
    assert stats.aggregate(scores, bounds=(0.0, 400.0))["interval"] == [
        0.0,
        500.0,
    ]  # what was scored is possible
