"""How sure one can be: robust averages, and intervals for these periods and for a new one.

Two questions need two intervals. "For these periods": how far the score would move with
other seeds on the same folds, by a bootstrap stratified over folds (Agarwal et al., "Deep
reinforcement learning at the edge of the statistical precipice", 2021). "For a new period":
seeds are averaged within a fold, and Student's t is taken over fold means, which in
simulations with a strong fold effect is the only one of the usual choices that holds its
nominal level. The t interval assumes independent folds, so what is compared is the paired
difference to a baseline, in which much of the period's common effect cancels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from rlrun.evals.distributions import detectable_shift, spread_bias, t_quantile
from rlrun.rng import keys, uniforms

Bounds = Sequence[float | None]  # the least and the most that a task allows; None: not known
Statistic = Callable[..., np.ndarray]  # (values, axis) -> values without that axis


@dataclass(frozen=True)
class Interval:
    """A confidence interval, and in words what it covers and how it was made."""

    low: float
    high: float
    level: float
    kind: str

    @property
    def width(self) -> float:
        return self.high - self.low

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def iqm(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """Interquartile mean: the mean after cutting floor(25 %) of the values at each end."""
    ordered = np.sort(np.asarray(values, np.float64), axis)
    n = ordered.shape[axis]
    return ordered.take(np.arange(n // 4, n - n // 4), axis).mean(axis)


def stratified_bootstrap(
    strata: Sequence[np.ndarray],
    statistic: Statistic = np.mean,
    *,
    level: float = 0.95,
    n_boot: int = 2000,
    seed: int = 0,
) -> Interval | None:
    """Percentile interval of a statistic over pooled values, resampled within each stratum.

    `strata` holds one array of values per fold; None if no fold has two values, since then
    there is nothing to resample. The same `seed` gives the same interval.
    """
    groups = [np.asarray(values, np.float64) for values in strata]
    if all(len(values) < 2 for values in groups):
        return None
    drawn, counter = [], 0
    for values in groups:
        size = n_boot * len(values)
        index = uniforms(keys([seed], "bootstrap"), np.arange(counter, counter + size)) * len(values)
        counter += size
        drawn.append(values[index.astype(np.int64).reshape(n_boot, -1)])
    samples = statistic(np.concatenate(drawn, 1), axis=-1)
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), level, "bootstrap over seeds, stratified by fold")


def t_interval(values: Sequence[float] | np.ndarray, *, level: float = 0.95, over: str) -> Interval | None:
    """Student's t interval of a mean; None from fewer than 3 values, which say nothing of spread.

    `over` says in the plural what the values are, such as "folds".
    """
    x = np.asarray(values, np.float64)
    if len(x) < 3:
        return None
    half = t_quantile((1 + level) / 2, len(x) - 1) * float(x.std(ddof=1)) / math.sqrt(len(x))
    mean = float(x.mean())
    return Interval(mean - half, mean + half, level, f"t over {len(x)} {over}")


def aggregate(
    scores: Sequence[float] | np.ndarray,
    folds: Sequence[int | None] | None = None,
    *,
    level: float = 0.95,
    bounds: Bounds = (None, None),
) -> dict[str, Any]:
    """Mean, median and IQM of one score per replica, and an interval of the mean, ready for JSON.

    The interval is over the `n` units of `over`: seeds, or the means of folds if every score has
    one. What the scores do not allow is None: everything without a score, the interval below
    3 units. The mean cannot leave the task's `bounds`, so what of the interval does is cut off.
    """
    x = np.asarray(scores, np.float64)
    units, over = x, "seeds"
    if folds is not None and len(x) and None not in folds:
        units, over = fold_means(x, folds), "folds"
    counted = {"n": len(units), "over": over}
    if not len(x):
        return dict.fromkeys(("mean", "median", "iqm", "interval", "interval_kind")) | counted
    interval, cut = t_interval(units, level=level, over=over), ""
    least = -math.inf if bounds[0] is None else min(bounds[0], units.min())
    most = math.inf if bounds[1] is None else max(bounds[1], units.max())
    if interval and (interval.low < least or interval.high > most):
        interval = replace(
            interval, low=max(interval.low, float(least)), high=min(interval.high, float(most))
        )
        cut = ", within the task's bounds"
    return {
        "mean": float(x.mean()),
        "median": float(np.median(x)),
        "iqm": float(iqm(x)),
        "interval": interval and [interval.low, interval.high],
        "interval_kind": interval and f"{interval.level:.0%} {interval.kind}, of the mean{cut}",
    } | counted


def fold_means(scores: np.ndarray, folds: Sequence[Any]) -> np.ndarray:
    """The mean over seeds of each fold, in the folds' order."""
    labels = np.asarray(folds)
    return np.array([scores[labels == fold].mean() for fold in sorted(set(folds))])


@dataclass(frozen=True)
class Paired:
    """What a paired comparison says: differences d [K, S] of K folds and S seeds."""

    mean: float
    per_fold: list[float]
    wins: int  # folds in which the difference is positive
    new_period: Interval | None  # the headline
    these_periods: Interval | None
    detectable: float | None  # the effect that such folds show four times in five, see `paired`
    autocorrelation: float | None  # of fold differences; the t interval assumes none

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def paired(
    agent: np.ndarray, baseline: np.ndarray, *, level: float = 0.95, n_boot: int = 2000, seed: int = 0
) -> Paired:
    """Differences between scores [K, S] and a baseline's [K] or [K, S] on the same folds (and seeds).

    The headline interval is the wider of the two: where folds hardly differ, the spread of
    fold means can by chance be smaller than that of seeds.

    The detectable effect is the one of which such an interval, of so many folds, leaves out 0
    with probability 0.8, by the noncentral t; it is estimated without bias, though a few folds
    show less than their spread.
    """
    agent, baseline = np.asarray(agent, np.float64), np.asarray(baseline, np.float64)
    difference = agent - (baseline[:, None] if baseline.ndim == 1 else baseline)
    means = difference.mean(1)
    k = len(means)
    new = t_interval(means, level=level, over="folds")
    these = stratified_bootstrap(list(difference), level=level, n_boot=n_boot, seed=seed)
    detectable = correlation = None
    if new is not None:
        centred = means - means.mean()
        total = float((centred**2).sum())
        correlation = float((centred[1:] * centred[:-1]).sum()) / total if total > 0 else None
        if these is not None and these.width > new.width:
            new = Interval(these.low, these.high, level, these.kind + " (wider than t over folds)")
        scale = detectable_shift(0.8, level, k - 1) / t_quantile((1 + level) / 2, k - 1)
        detectable = new.width / 2 * scale / spread_bias(k - 1)
    return Paired(
        float(means.mean()),
        means.tolist(),
        int((means > 1e-12 * np.abs(agent).max()).sum()),  # what rounding leaves of a tie is no win
        new,
        these,
        detectable,
        correlation,
    )


def components(scores: np.ndarray) -> dict[str, float | None]:
    """Variances of scores [K, S] by what they come from: folds, seeds, and neither alone.

    Balanced two-way random effects: estimates from mean squares, cut at 0; None where there is
    one fold or one seed.
    """
    k, s = scores.shape
    if k < 2 or s < 2:
        return {"fold": None, "seed": None, "residual": None}
    mean = scores.mean()
    by_fold, by_seed = scores.mean(1, keepdims=True), scores.mean(0, keepdims=True)
    folds = s * float(((by_fold - mean) ** 2).sum()) / (k - 1)
    seeds = k * float(((by_seed - mean) ** 2).sum()) / (s - 1)
    rest = float(((scores - by_fold - by_seed + mean) ** 2).sum()) / ((k - 1) * (s - 1))
    return {"fold": max(folds - rest, 0.0) / s, "seed": max(seeds - rest, 0.0) / k, "residual": rest}
