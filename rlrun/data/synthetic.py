"""Price series in which something can be learned, and how much: one always knows what an oracle would earn.

Each has a return of one percent a row in deviation, of which a known part can be foretold at the
row of a decision. The oracle is told that part, and moves its position where it pays for the cost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from rlrun.data.table import Series, digest

_SIZE, _EDGE = 0.01, 0.3  # of a return; and of its deviation, as much as can be foretold: R^2 = 0.09


@dataclass(frozen=True, eq=False)
class Synthetic:
    """A series, and the mean [rows] of what a position earns that is decided at each row."""

    series: Series
    foretold: np.ndarray

    def oracle(self, cost: float) -> np.ndarray:
        """The positions, short, flat or long, of who knows what can be foretold, row by row: [rows]."""
        out, held = np.zeros(len(self.foretold)), 0.0
        choices = np.array([-1.0, 0.0, 1.0])
        for t, mean in enumerate(self.foretold.tolist()):
            worth = choices * mean - 0.5 * (choices * _SIZE) ** 2 - cost * np.abs(choices - held)
            out[t] = held = float(choices[worth.argmax()])
        return out


# (rng, rows, rows from a decision to what it earns, lookback) -> returns, foretold, other columns
Maker = Callable[[np.random.Generator, int, int, int], tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]]


def _ahead(mean: np.ndarray, lag: int) -> np.ndarray:
    """The mean of the return `lag` rows later, as it is known at each row; 0 at the end."""
    return np.concatenate([mean[lag:], np.zeros(lag)])


def _noise(
    rng: np.random.Generator, rows: int, lag: int, lookback: int
) -> tuple[np.ndarray, np.ndarray, dict]:
    return rng.normal(size=rows), np.zeros(rows), {}


def _predictive(
    rng: np.random.Generator, rows: int, lag: int, lookback: int
) -> tuple[np.ndarray, np.ndarray, dict]:
    """A column that goes ahead of the price, in units of its own."""
    signal, noise = rng.normal(size=(2, rows))
    mean = np.concatenate([np.zeros(lag), _EDGE * signal[:-lag]])
    return mean + np.sqrt(1 - _EDGE**2) * noise, _ahead(mean, lag), {"load": 40_000 + 5_000 * signal}


def _ar1(rng: np.random.Generator, rows: int, lag: int, lookback: int) -> tuple[np.ndarray, np.ndarray, dict]:
    """A return that goes on, a little, as the last one did."""
    noise, returns = rng.normal(size=rows) * np.sqrt(1 - _EDGE**2), np.zeros(rows)
    for t in range(1, rows):
        returns[t] = _EDGE * returns[t - 1] + noise[t]
    return returns, _EDGE**lag * returns, {}


def _regime(
    rng: np.random.Generator, rows: int, lag: int, lookback: int
) -> tuple[np.ndarray, np.ndarray, dict]:
    """A drift that turns every hundred rows or so; which it is now can only be told from the past."""
    mean = _EDGE * np.where(np.cumsum(rng.random(rows) < 0.01) % 2 == 0, 1.0, -1.0)
    return mean + np.sqrt(1 - _EDGE**2) * rng.normal(size=rows), _ahead(mean, lag), {}


def _calendar(
    rng: np.random.Generator, rows: int, lag: int, lookback: int
) -> tuple[np.ndarray, np.ndarray, dict]:
    """A drift by the hour of the day: `env.features` shows it."""
    mean = np.sqrt(2) * _EDGE * np.sin(2 * np.pi * np.arange(rows) / 24)
    return mean + np.sqrt(1 - _EDGE**2) * rng.normal(size=rows), _ahead(mean, lag), {}


def _memory(
    rng: np.random.Generator, rows: int, lag: int, lookback: int
) -> tuple[np.ndarray, np.ndarray, dict]:
    """A sign is shown for one row, and the drift follows it `lookback` + 10 rows later.

    It is over before anyone who has seen it could earn by it.
    """
    wait, stay = lookback + 10, lag
    cue, mean = np.zeros(rows), np.zeros(rows)
    for t in range(0, rows - wait - stay, wait + stay):
        cue[t] = rng.choice([-1.0, 1.0])
        mean[t + wait : t + wait + stay] = 3 * _EDGE * cue[t]
    return mean + np.sqrt(1 - mean**2) * rng.normal(size=rows), _ahead(mean, lag), {"cue": cue}


KINDS: Mapping[str, Maker] = {
    "predictive": _predictive,
    "ar1": _ar1,
    "regime": _regime,
    "calendar": _calendar,
    "memory": _memory,
    "noise": _noise,
}


def synthetic(kind: str, rows: int, seed: int, delay: int, lookback: int) -> Synthetic:
    """A series of a kind: hours, a price from 100 on, and what the kind has besides."""
    rng = np.random.default_rng([seed, list(KINDS).index(kind)])
    returns, foretold, others = KINDS[kind](rng, rows, delay + 1, lookback)
    index = np.datetime64("2000-01-01T00", "ns") + np.arange(rows) * np.timedelta64(1, "h")
    price = 100.0 * np.exp(np.cumsum(_SIZE * returns - 0.5 * _SIZE**2))
    columns = {"price": price, **others}
    values = np.column_stack(list(columns.values()))
    values.flags.writeable = index.flags.writeable = False
    names = tuple(columns)
    made = Series(index, names, values, digest(index, names, values, np.empty(0, np.int64)))
    return Synthetic(made, _SIZE * foretold)
