"""What an agent is shown of a table: its columns, and what can be computed of their past.

A feature is a word or a few: `return close 5`, `zscore load 168`, `hour`. Its value at row t
is a function of rows up to t alone, and of no more than it says, so that computing it over a
whole file reads nothing ahead, to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from rlrun.config.keys import nearest
from rlrun.data.table import DataError, Series, instead
from rlrun.data.times import duration, label

Past = Callable[[np.ndarray, int], np.ndarray]  # (x [n], k) -> [n], NaN where the past is too short


def lagged(x: np.ndarray, k: int) -> np.ndarray:
    """x[t - k]."""
    out = np.full(len(x), np.nan)
    out[k:] = x[: max(len(x) - k, 0)]
    return out


def difference(x: np.ndarray, k: int) -> np.ndarray:
    """x[t] - x[t - k]."""
    return x - lagged(x, k)


def log_return(x: np.ndarray, k: int) -> np.ndarray:
    """100 log(x[t] / x[t - k]): about the percentage by which x has grown."""
    return difference(100.0 * np.log(x), k)


def mean(x: np.ndarray, k: int) -> np.ndarray:
    """Of the k rows up to t."""
    return _sum(x, k) / k


def deviation(x: np.ndarray, k: int) -> np.ndarray:
    """The standard deviation (divided by k) of the k rows up to t."""
    average = mean(x, k)
    # around the own mean, row by row: the difference of two large sums of squares has no digits left
    squares = sum(((lagged(x, j) - average) ** 2 for j in range(k)), np.zeros(len(x)))
    return np.sqrt(squares / k)


def zscore(x: np.ndarray, k: int) -> np.ndarray:
    """How many deviations x[t] is above the mean of the k rows up to t; 0 where they are all the same."""
    average, spread = mean(x, k), deviation(x, k)
    flat = spread <= 1e-12 * np.abs(average)  # what is left of equal numbers by rounding
    return np.where(flat, 0.0, x - average) / np.where(flat, 1.0, spread)


def volatility(x: np.ndarray, k: int) -> np.ndarray:
    """The deviation of the last k returns over one row, in percent."""
    return deviation(log_return(x, 1), k)


def _sum(x: np.ndarray, k: int) -> np.ndarray:
    # k additions of whole columns: a running sum would carry what was far back into every later row
    out = np.zeros(len(x))
    for j in range(k):
        out += lagged(x, j)
    return out


PAST: Mapping[str, Past] = {
    "return": log_return,
    "diff": difference,
    "lag": lagged,
    "mean": mean,
    "std": deviation,
    "zscore": zscore,
    "volatility": volatility,
}
_POSITIVE = ("return", "volatility")  # of these alone a logarithm is taken


def _hour(index: np.ndarray) -> np.ndarray:
    return (index - index.astype("datetime64[D]")) / np.timedelta64(1, "D")


def _weekday(index: np.ndarray) -> np.ndarray:
    days = index.astype("datetime64[D]").astype(np.int64)
    return (days + 3) % 7 / 7  # day 0, of 1970, was a Thursday


def _month(index: np.ndarray) -> np.ndarray:
    return index.astype("datetime64[M]").astype(np.int64) % 12 / 12


CALENDAR: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {  # a share of the cycle: [n] in [0, 1)
    "hour": _hour,
    "weekday": _weekday,
    "month": _month,
}


@dataclass(frozen=True)
class Feature:
    """One of `env.features`; `column` and `rows` as its kind has them."""

    kind: str
    column: str = ""
    rows: int = 0

    @property
    def history(self) -> int:
        """How many rows before a row it needs."""
        return self.rows - (self.kind in ("mean", "std", "zscore")) if self.rows else 0

    @property
    def name(self) -> str:
        return " ".join(filter(None, (self.kind, self.column, str(self.rows) if self.rows else "")))


@dataclass(frozen=True)
class Shown:
    """Features of every row: `past` [C, rows], shown for the last `lookback` rows, and `now` [D, rows].

    NaN where a feature's past does not reach.
    """

    names: tuple[str, ...]  # of past, then of now
    past: np.ndarray
    now: np.ndarray


def parse(text: str, columns: Sequence[str]) -> Feature:
    """A feature from its words: `column NAME`, a calendar word, or a kind, a column and a number of rows.

    Raises:
        DataError: it is none.
    """
    words = str(text).split()
    kind, *rest = words or [""]
    if kind in CALENDAR and not rest:
        return Feature(kind)
    if kind == "column" and rest:
        return Feature(kind, _known(" ".join(rest), columns, text))
    if kind in PAST and len(rest) > 1 and rest[-1].isdecimal() and int(rest[-1]) > 0:
        return Feature(kind, _known(" ".join(rest[:-1]), columns, text), int(rest[-1]))
    kinds = ("column", *PAST, *CALENDAR)
    near = nearest(kind, kinds)
    if kind in PAST:
        hint = f"{kind} needs a column and a number of rows, such as {kind} {columns[0]} 24"
    elif kind in CALENDAR:
        hint = f"{kind} stands alone"
    else:
        hint = f"did you mean {near}?" if near else f"a feature begins with {', '.join(kinds)}"
    raise DataError(f"env.features has {text}: {hint}")


def _known(name: str, columns: Sequence[str], text: str) -> str:
    if name not in columns:
        raise DataError(f"env.features has {text}: there is no column {name}{instead(name, columns)}")
    return name


def shown(features: Sequence[Feature], series: Series) -> Shown:
    """The features of a table, each segment of it for itself.

    Raises:
        DataError: a logarithm of a number that is not positive, or the time of day of a mere number.
    """
    past = [f for f in features if f.kind not in CALENDAR]
    now = [f for f in features if f.kind in CALENDAR]
    if now and series.index.dtype.kind != "M":
        raise DataError(f"env.features has {now[0].name}: the index holds numbers, and no dates")
    table = np.empty((len(past), len(series.index)))
    edges = [0, *series.breaks.tolist(), len(series.index)]
    for row, feature in zip(table, past, strict=True):
        values = series.values[:, series.columns.index(feature.column)]
        if feature.kind in _POSITIVE:
            _require_positive(feature, values, series.index)
        for low, high in pairwise(edges):
            own = values[low:high]
            row[low:high] = own if feature.kind == "column" else PAST[feature.kind](own, feature.rows)
    cycles = [2.0 * np.pi * CALENDAR[f.kind](series.index) for f in now]
    waves = [wave(cycle) for cycle in cycles for wave in (np.sin, np.cos)]
    names = [f.column if f.kind == "column" else f.name for f in past]
    names += [f"{wave} of {f.name}" for f in now for wave in ("sine", "cosine")]
    return Shown(tuple(names), table, np.array(waves).reshape(-1, len(series.index)))


def _require_positive(feature: Feature, values: np.ndarray, index: np.ndarray) -> None:
    low = np.flatnonzero(values <= 0)
    if low.size:
        where = "; ".join(f"{values[i]:g} at {label(index[i])}" for i in low[:3])
        raise DataError(
            f"env.features has {feature.name}: {feature.column} is {where} ({low.size} in all), and only "
            f"positive numbers have a return: use diff {feature.column} {feature.rows}"
        )


def late(series: Series, lags: Mapping[str, str | int]) -> tuple[Series, np.ndarray]:
    """The table as it was known at its times: columns that come later are shifted; and where all are known.

    A lag is a number of rows, or a time such as 2h or 30min: the newest row that is so old counts.
    A column is NaN where nothing of it is known yet.

    Raises:
        DataError: an unknown column, or a lag that is none.
    """
    known = np.ones(len(series.index), bool)
    if not lags:
        return series, known
    values = series.values.copy()
    for name, lag in lags.items():
        if name not in series.columns:
            raise DataError(f"env.lag names {name}{instead(name, series.columns)}")
        column = values[:, series.columns.index(name)]
        source = _source(series, name, lag)
        known &= source >= 0
        column[:] = np.where(source >= 0, column[source], np.nan)
    values.flags.writeable = False
    return Series(series.index, series.columns, values, series.sha256, series.breaks, series.notes), known


def _source(series: Series, name: str, lag: str | int) -> np.ndarray:
    """The row whose value is known at each row; -1 where there is none."""
    rows = np.arange(len(series.index))
    if str(lag).isdecimal():
        source = rows - int(lag)
    elif series.index.dtype.kind == "M":
        source = np.searchsorted(series.index, series.index - _span(name, str(lag)), "right") - 1
    else:
        raise DataError(f"env.lag is {lag} for {name}: the index holds numbers, so give a number of rows")
    # a segment of the data knows nothing of the one before it
    begin = np.concatenate([[0], series.breaks])[np.searchsorted(series.breaks, rows, "right")]
    return np.where(source >= begin, source, -1)


def _span(name: str, text: str) -> np.timedelta64:
    span = duration(text)
    if not isinstance(span, np.timedelta64):
        raise DataError(f"env.lag is {text} for {name}: give rows (2), or a time: 2h, 30min, 1d, 10s, 5ms")
    return span


def foresight(series: Series, price: str, known: float = 0.3) -> list[str]:
    """Columns that go along with returns which come after the next row: are they known in time?

    A note and not a refusal: only who made the column can tell.
    """
    ahead = _change(series, price)[2:]  # from row t + 1, where a decision is filled, to t + 2
    notes = []
    for i, name in enumerate(series.columns):
        for what, values in (
            (name, series.values[:-2, i]),
            (f"the change of {name}", _change(series, name)[:-2]),
        ):
            if name == price:
                continue
            r = _correlation(values, ahead)
            if abs(r) >= known:
                notes.append(
                    f"{what} has a correlation of {r:.2f} with the change of {price} two rows ahead: "
                    "is it known at its row? env.lag shifts a column that comes later"
                )
    return notes


def _change(series: Series, name: str) -> np.ndarray:
    """Of a column since the row before, [rows]; NaN where there is none, or a gap between."""
    change = np.diff(series.values[:, series.columns.index(name)], prepend=np.nan)
    change[series.breaks] = np.nan
    return change


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    fine = np.isfinite(x) & np.isfinite(y)
    if fine.sum() < 100:
        return 0.0
    x, y = x[fine] - x[fine].mean(), y[fine] - y[fine].mean()
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / scale if scale > 0 else 0.0
