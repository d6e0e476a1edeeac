"""Statistics: equal to scipy's where scipy has them, deterministic, and as wide as they claim."""

from __future__ import annotations

import json

import intervals
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlrun.evals import distributions, stats


def test_iqm_cuts_a_floored_quarter_at_each_end() -> None:
    assert stats.iqm(np.array([0.0, 1.0, 2.0, 100.0])) == 1.5
    assert stats.iqm(np.array([5.0, 1.0, 3.0])) == 3.0  # floor(0.75) = 0: nothing is cut
    assert stats.iqm(np.arange(10.0)) == np.arange(2.0, 8.0).mean()
    np.testing.assert_array_equal(stats.iqm(np.array([[4.0, 0, 9, 2], [1, 1, 1, 9]])), [3.0, 1.0])


@settings(max_examples=200, deadline=None)
@given(p=st.floats(1e-6, 1 - 1e-6), df=st.integers(1, 300))
def test_t_quantile_is_scipys(p: float, df: int) -> None:
    oracle = pytest.importorskip("scipy.stats")
    assert distributions.t_quantile(p, df) == pytest.approx(oracle.t.ppf(p, df), rel=1e-8, abs=1e-9)


@pytest.mark.parametrize(
    ("p", "df", "value"), [(0.975, 4, 2.7764451052), (0.975, 1, 12.7062047362), (0.9, 2, 1.8856180832)]
)
def test_t_quantile_of_the_tables(p: float, df: int, value: float) -> None:
    assert distributions.t_quantile(p, df) == pytest.approx(value, abs=1e-9)
    assert distributions.t_quantile(1 - p, df) == pytest.approx(-value, abs=1e-9)
    assert distributions.t_cdf(value, df) == pytest.approx(p, abs=1e-10)


def test_t_quantile_refuses_what_has_none() -> None:
    for p, df in ((0.0, 3), (1.0, 3), (0.5, 0)):
        with pytest.raises(ValueError, match="no t quantile"):
            distributions.t_quantile(p, df)


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


@pytest.mark.parametrize("k", [3, 5, 10])
@pytest.mark.parametrize(("seeds", "ratio"), [(1, 1.0), (5, 0.3), (5, 3.0)])
def test_intervals_hold_the_truth_and_find_the_detectable_effect(k: int, seeds: int, ratio: float) -> None:
    """Nominally 0.95 and 0.8; `benchmarks/intervals.py` has more digits."""
    inside, power = intervals.coverage_and_power(k, seeds, ratio, 400)
    assert 0.92 < inside < 0.985 and 0.74 < power < 0.86


def test_trading_at_random_on_noise_is_seldom_better_than_holding() -> None:
    assert 0.005 < intervals.noise_traders(5, 5, 400) < 0.045


def test_the_noncentral_t_is_a_shifted_normal_over_a_root_of_chi_square() -> None:
    rng = np.random.default_rng(0)
    for x, df, shift in ((2.776, 4, 3.5), (4.303, 2, 6.0), (-1.0, 9, 0.5), (2.262, 9, 3.2)):
        sample = (rng.normal(size=400_000) + shift) / np.sqrt(rng.chisquare(df, 400_000) / df)
        assert distributions.t_cdf(x, df, shift) == pytest.approx((sample <= x).mean(), abs=3e-3)
        assert distributions.t_cdf(x, df, 1e-9) == pytest.approx(distributions.t_cdf(x, df), abs=1e-7)
    shift = distributions.detectable_shift(0.8, 0.95, 4)
    assert 1 - distributions.t_cdf(distributions.t_quantile(0.975, 4), 4, shift) == pytest.approx(
        0.8, abs=1e-9
    )
    small = rng.normal(size=(200_000, 3)).std(1, ddof=1).mean()
    assert distributions.spread_bias(2) == pytest.approx(small, abs=3e-3)


def test_variances_by_what_they_come_from() -> None:
    """Mean squares by hand: 24 for folds, 6 for seeds, 0 left; then one in which seeds do not matter."""
    found = stats.components(np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [1.0, 2.0, 3.0]]))
    assert found == pytest.approx({"fold": 3.0, "seed": 1.0, "residual": 0.0})
    found = stats.components(np.array([[1.0, 2.0], [4.0, 3.0]]))
    assert found == pytest.approx({"fold": 1.5, "seed": 0.0, "residual": 1.0})
    assert set(stats.components(np.ones((3, 1))).values()) == {None}


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
