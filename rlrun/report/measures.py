"""What one policy's steps over its tests come to: risk, activity, and what costs did.

Every function takes the arrays of steps in the order of time, [T].
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def sharpe(score: np.ndarray, periods_per_year: float | None = None) -> float | None:
    """Mean score over its standard deviation, a step or a year; None where it does not vary."""
    spread = float(score.std(ddof=1)) if len(score) > 1 else 0.0
    if spread <= 1e-12 * float(np.abs(score).max(initial=0.0)):
        return None
    return float(score.mean()) / spread * math.sqrt(periods_per_year or 1.0)


def drawdown(score: np.ndarray, share: bool) -> float:
    """The deepest fall of the curve of scores below what it had reached before.

    Of log growth it is the `share` of the account that was lost, else it is in units of the score.
    """
    curve = np.concatenate([[0.0], np.cumsum(score)])
    fall = float((np.maximum.accumulate(curve) - curve).max())
    return -math.expm1(-fall) if share else fall


def by_year(score: np.ndarray, time: np.ndarray) -> dict[str, float]:
    """The score of every calendar year, where the index holds dates."""
    if time.dtype.kind != "M":
        return {}
    years = time.astype("datetime64[Y]")
    return {str(year): float(score[years == year].sum()) for year in np.unique(years)}


def activity(columns: Mapping[str, np.ndarray], periods_per_year: float | None) -> dict[str, Any]:
    """How a position was used, from what was recorded of it; nothing where that was not."""
    if "position" not in columns:
        return {}
    position, score = columns["position"], columns["score"]
    moved = columns.get("traded", np.abs(np.diff(position, prepend=0.0)))
    invested = position != 0.0
    found = {
        "turnover": float(moved.mean()),  # of positions, a step
        "in_market": float(invested.mean()),
        "short": float((position < 0.0).mean()),
        "hit_rate": float((score[invested] > 0.0).mean()) if invested.any() else None,
    }
    return found | ({"turnover_year": float(moved.mean()) * periods_per_year} if periods_per_year else {})


def at_costs(columns: Mapping[str, np.ndarray], share: bool, unit: float) -> dict[str, float]:
    """The score of the same positions at 0, 1 and 2 times the costs; exact for numbers of contracts.

    As a share of an account, what the costs leave is earned on: step by step, each of which
    begins with the equity that was recorded.
    """
    gross, cost = columns["gross"], columns["cost"]
    out = {}
    for times in (0, 1, 2):
        money = gross - times * cost
        before = columns["equity"] - columns["pnl"]
        with np.errstate(divide="ignore", invalid="ignore"):
            score = np.log1p(money / before) if share else money / unit
        out[str(times)] = float(score.sum())
    return out
