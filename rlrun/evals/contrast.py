"""Whether two configurations differ: by how much, how surely, and how many seeds would tell.

The probability of improvement is that of Agarwal et al. ("Deep reinforcement learning at the edge of
the statistical precipice", 2021), the Mann-Whitney U over its greatest value. The tests are of the
difference of means and by permutation, since a handful of seeds says nothing of a distribution.

Where both have the same seeds (and folds), the signs of their differences are flipped. But of n signs no
p value is below 2^(1-n): five seeds could never show anything, and unless seeds correlate strongly it
takes eight to have the power of shuffling the scores between the two, within each fold. That is done
where so fine a value cannot be had, and with different seeds. Simulated power at level 0.05 for
normal scores, correlated by 0.3 over seeds, that differ by 1.2 deviations:

    seeds        5     6     7     8    10
    flipped   0.00  0.38  0.55  0.69  0.79
    shuffled  0.37  0.47  0.53  0.64  0.73
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from statistics import NormalDist

import numpy as np

from rlrun.evals.stats import Interval
from rlrun.rng import keys, uniforms

Scores = Mapping[tuple[Hashable, Hashable], float]  # (fold or None, seed) -> score
Strata = Sequence[tuple[np.ndarray, np.ndarray]]  # the scores of both, for each fold

LEVEL = 0.05  # of the tests
POWER = 0.8  # with which more seeds would separate two configurations
MANY_SEEDS = 100  # beyond which it makes no difference how many more there would have to be
_FINE = 5  # times that the least p value of flipped signs goes into the level, at least
_EXACT, _RANDOM = 20_000, 20_000  # arrangements that are counted one by one; else so many drawn ones
_NUMBERS = 4_000_000  # that a table of arrangements may hold


@dataclass(frozen=True)
class Contrast:
    """How scores X differ from scores Y."""

    difference: float  # of the means; the mean over folds
    error: float | None  # its standard error
    interval: Interval | None
    improvement: float  # P(X > Y) + P(X = Y) / 2 of two seeds; the mean over folds
    p: float | None  # two-sided, of no difference
    paired: bool
    seeds: int  # per fold, of the one that has fewer
    folds: int


def contrast(x: Scores, y: Scores, family: int = 1) -> Contrast | None:
    """X against Y, as one of `family` questions; None if no fold has a score of both."""
    folds = sorted({fold for fold, _ in x} & {fold for fold, _ in y}, key=repr)
    if not folds:
        return None
    mine, theirs = ({fold: sorted(c for c in each if c[0] == fold) for fold in folds} for each in (x, y))
    strata = [(np.array([x[c] for c in mine[f]]), np.array([y[c] for c in theirs[f]])) for f in folds]
    seeds = min(len(each) for pair in strata for each in pair)
    d = np.array([x[c] - y[c] for f in folds for c in mine[f]]) if mine == theirs else np.array([])
    # With one seed a fold there is nothing to shuffle, and no spread within a fold.
    paired = len(d) > 1 and (seeds == 1 or 2.0 ** (1 - len(d)) * family * _FINE <= LEVEL)
    found: Arrangements | None = flipped(d) if paired else shuffled(strata) if seeds > 1 else None
    error = None
    if found:
        error = float(d.std(ddof=1)) / math.sqrt(len(d)) if paired else _error(strata)
    return Contrast(
        float(np.mean([a.mean() - b.mean() for a, b in strata])),
        error,
        found.interval if found else None,
        float(np.mean([improvement(a, b) for a, b in strata])),
        found.p if found else None,
        paired,
        seeds,
        len(folds),
    )


@dataclass(frozen=True)
class Arrangements:
    """A difference of means, and what it would be had chance arranged the scores otherwise."""

    observed: float
    sums: np.ndarray  # [arrangements], of the scores
    share: np.ndarray  # and by how much each falls where X is lowered by 1: 1 as observed, -1 mirrored
    scale: float  # of the scores, for what rounding leaves of a tie
    exact: bool  # all arrangements, of which what was observed is one

    @property
    def p(self) -> float:
        """Two-sided: how many arrangements are as extreme."""
        extreme = int((np.abs(self.sums) >= abs(self.observed) - 1e-10 * self.scale).sum())
        return extreme / len(self.sums) if self.exact else (extreme + 1) / (len(self.sums) + 1)

    @property
    def interval(self) -> Interval | None:
        """Every difference that the test would not reject; None where it could not reject any.

        Lowering X by d leaves `observed - d` and `sums - d share`: an arrangement is as extreme from
        the lesser to the greater of the two values of d at which these are equal or opposite.
        """
        mirrored = 1 - np.abs(self.share) < 1e-9  # as extreme at any d
        with np.errstate(divide="ignore", invalid="ignore"):
            equal = (self.observed - self.sums) / (1 - self.share)
            opposite = (self.observed + self.sums) / (1 + self.share)
        count = len(self.sums)
        k = math.floor(LEVEL * count + 1e-9) if self.exact else math.floor(LEVEL * (count + 1) - 1 + 1e-9)
        low = np.partition(np.where(mirrored, -np.inf, np.minimum(equal, opposite)), k)[k]
        high = -np.partition(np.where(mirrored, -np.inf, -np.maximum(equal, opposite)), k)[k]
        if not math.isfinite(low):
            return None
        return Interval(float(low), float(high), 1 - LEVEL, "what the permutation test does not reject")


def improvement(x: np.ndarray, y: np.ndarray) -> float:
    """P(X > Y) + P(X = Y) / 2: 1 if each of x is above each of y, 0.5 if there is nothing to choose."""
    ordered = np.sort(y)
    below, up_to = np.searchsorted(ordered, x, "left"), np.searchsorted(ordered, x, "right")
    return float((below + up_to).mean() / (2 * len(y)))


def flipped(differences: np.ndarray) -> Arrangements:
    """Paired differences whose signs are arbitrary; all arrangements for up to 14 of them."""
    signs, exact = _signs(len(differences))
    scale = float(np.abs(differences).max())
    return Arrangements(
        float(differences.mean()), (signs @ differences) / len(differences), signs.mean(1), scale, exact
    )


def shuffled(strata: Strata) -> Arrangements:
    """Scores that are exchangeable between the two, within each fold.

    All arrangements for one fold of up to eight scores each.
    """
    sums, share, observed, scale, exact = np.zeros(1), np.zeros(1), 0.0, 0.0, False
    for i, (x, y) in enumerate(strata):
        chosen, exact = _splits(len(x), len(y), len(strata) == 1)
        pooled = np.concatenate([x, y])
        mine = np.arange(len(pooled)) < len(x)
        weight = 1 / len(x) + 1 / len(y)
        # Row i + b of one table is independent of row b.
        sums = sums + np.roll(chosen @ pooled * weight - pooled.sum() / len(y), i)
        share = share + np.roll(chosen @ mine * weight - len(x) / len(y), i)
        observed += float(x.mean() - y.mean())
        scale = max(scale, float(np.abs(pooled).max()))
    folds = len(strata)
    return Arrangements(observed / folds, sums / folds, share / folds, scale, exact)


def holm(p_values: Sequence[float], family: int | None = None) -> list[float]:
    """Adjusted p values: the chance that any is wrongly below a level is at most that level (Holm 1979).

    `family` is how many questions there are, of which these may be a part.
    """
    most, last = family or len(p_values), 0.0
    adjusted = [0.0] * len(p_values)
    for rank, i in enumerate(np.argsort(p_values, kind="stable").tolist()):
        last = max(last, min(1.0, (most - rank) * p_values[i]))
        adjusted[i] = last
    return adjusted


def more_seeds(found: Contrast, family: int = 1) -> int | None:
    """About how many seeds more, of each, would show a difference such as this one four times in five.

    By the normal approximation with Guenther's correction (1981), at the level of one question in
    `family`; None for more than 100, or where the spread is not known.
    """
    if found.error is None or found.seeds < 2 or not found.difference:
        return None
    level, most = LEVEL / family, found.seeds + MANY_SEEDS
    z = NormalDist().inv_cdf(1 - level / 2)
    ratio = (z + NormalDist().inv_cdf(POWER)) * found.error / abs(found.difference)
    wanted = found.seeds * ratio**2 + z**2 / (2 if found.paired else 4)
    if wanted > most:
        return None
    n = max(math.ceil(wanted), found.seeds + 1)
    while 2 / math.comb(2 * n, n) ** found.folds > level:  # the least p value that shuffling has
        n += 1
    return n - found.seeds if n <= most else None


def _error(strata: Strata) -> float:
    """Standard error of the difference of means, the mean over folds."""
    return math.sqrt(sum(each.var(ddof=1) / len(each) for pair in strata for each in pair)) / len(strata)


@lru_cache(maxsize=8)
def _signs(n: int) -> tuple[np.ndarray, bool]:
    """Signs [arrangements, n], and whether these are all, of which one half mirrors the other."""
    if 2 ** min(n, 60) <= _EXACT:
        bits = np.arange(2 ** (n - 1))[:, None] >> np.arange(n) & 1
        return 1.0 - 2.0 * bits, True
    return np.where(_drawn(n, "signs") < 0.5, -1.0, 1.0), False


@lru_cache(maxsize=8)
def _splits(n: int, m: int, exact: bool) -> tuple[np.ndarray, bool]:
    """Which n of n + m are chosen, 1 or 0 [arrangements, n + m], and whether these are all."""
    every = exact and math.comb(n + m, n) <= _EXACT
    which = (
        np.array(list(combinations(range(n + m), n))) if every else _drawn(n + m, "splits").argsort(1)[:, :n]
    )
    chosen = np.zeros((len(which), n + m))
    np.put_along_axis(chosen, which, 1.0, 1)
    return chosen, every


def _drawn(n: int, purpose: str) -> np.ndarray:
    """Uniform numbers [arrangements, n], always the same; fewer arrangements of very many scores."""
    rows = min(_RANDOM, max(200, _NUMBERS // n))
    return uniforms(keys([0], purpose), np.arange(rows * n)).reshape(rows, n)
