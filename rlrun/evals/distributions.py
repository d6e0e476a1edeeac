"""Student's t, central and not, in plain NumPy: a handful of values a report."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from statistics import NormalDist

import numpy as np


def t_cdf(x: float, df: float, shift: float = 0.0) -> float:
    """The distribution function of t with `df` > 0 degrees of freedom, and the noncentrality `shift`."""
    if shift == 0.0:
        tail = 0.5 * _beta(df / (df + x * x), df / 2, 0.5)
        return 1 - tail if x > 0 else tail
    return _noncentral(x, df, shift)


@lru_cache
def t_quantile(p: float, df: float) -> float:
    """The value that Student's t with `df` degrees of freedom stays below with probability `p`.

    Raises:
        ValueError: p is not inside (0, 1), or df not positive.
    """
    if not (0 < p < 1 and df > 0):
        raise ValueError(f"no t quantile for p = {p} with {df} degrees of freedom")
    if p < 0.5:
        return -t_quantile(1 - p, df)
    return _solve(lambda x: t_cdf(x, df), p, max(1.0, NormalDist().inv_cdf(p)))


@lru_cache
def detectable_shift(power: float, level: float, df: float) -> float:
    """The noncentrality at which a two-sided t test at `level` finds the effect with its sign, by `power`."""
    critical = t_quantile((1 + level) / 2, df)
    return _solve(lambda shift: 1 - t_cdf(critical, df, shift), power, critical)


def spread_bias(df: int) -> float:
    """How much of its spread a normal sample shows on average: E[s] = c4 sigma, with `df` = n - 1."""
    return math.sqrt(2 / df) * math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2))


def _solve(rising: Callable[[float], float], wanted: float, guess: float) -> float:
    """Where a rising function has a value, from 0 on; by bisection: slow and certain."""
    low, high = 0.0, guess
    while rising(high) < wanted:
        low, high = high, 2 * high
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if rising(middle) < wanted else (low, middle)
    return (low + high) / 2


def _noncentral(x: float, df: float, shift: float) -> float:
    """P(Z + shift <= x W), with W the root of chi^2 / df: an integral over W, by Gauss and Legendre."""
    width = 12.0 / math.sqrt(2 * df)
    low, high = max(0.0, 1.0 - width), 1.0 + width
    nodes, weights = np.polynomial.legendre.leggauss(400)
    w = low + (high - low) * (nodes + 1) / 2
    density = np.exp(
        math.log(2) + df / 2 * math.log(df / 2) - math.lgamma(df / 2) + (df - 1) * np.log(w) - df * w * w / 2
    )
    below = np.array([NormalDist().cdf(x * each - shift) for each in w.tolist()])
    return float((weights * density * below).sum() * (high - low) / 2)


def _beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by Lentz's continued fraction."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):  # where the fraction converges slowly, use the symmetry
        return 1 - _beta(1 - x, b, a)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    tiny = 1e-300
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1) or tiny)
    value = d
    for m in range(1, 500):
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / (1 + numerator * d or tiny)
            c = 1 + numerator / c or tiny
            value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return front * value / a
