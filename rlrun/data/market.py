"""A table made ready for trading one of its columns: what is shown at each row, and the prices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rlrun.data.features import Feature, Shown, foresight, late, parse, shown
from rlrun.data.table import DataError, DataSpec, Series, instead
from rlrun.data.times import label

DEFAULT = "default"  # among the features: the price's change of a row, and every other column as it is


@dataclass(frozen=True)
class Market:
    """Features and prices of every row, shared by all who trade on them; read-only.

    `table` [columns, rows] holds the features that are shown for some rows back, those that are
    shown for the newest row alone, the close, and the open where there is one.
    """

    table: np.ndarray
    past: int  # how many of the columns are of the first kind
    shown: int  # and of the first two
    names: tuple[str, ...]  # of those
    spec: DataSpec
    positive: bool  # whether prices are, so that they have logarithms
    scaled: bool  # whether what is seen, and the training reward, are to be standardised

    def volatility(self, rows: np.ndarray) -> float:
        """The deviation of what holding one earns from row to row, across no gap; 1 where it is 0."""
        close = self.table[self.shown, rows]
        change = np.diff(np.log(close) if self.positive else close)[np.diff(rows) == 1]
        return (float(change.std()) if len(change) else 0.0) or 1.0

    def statistics(self, rows: np.ndarray) -> np.ndarray:
        """Mean and deviation [2, past] over data rows; infinite where a column is constant there."""
        low, high = int(rows[0]), int(rows[-1]) + 1
        whole = high - low == len(rows)
        values = self.table[: self.past, slice(low, high) if whole else rows]
        mean = values.mean(1)
        deviation = np.sqrt(((values - mean[:, None]) ** 2).mean(1))
        constant = deviation <= 1e-12 * np.abs(mean)  # what rounding leaves of equal numbers
        return np.stack([mean, np.where(constant, np.inf, deviation)])


def market(
    series: Series,
    *,
    price: str | None,
    opens: str | None,
    features: Sequence[str],
    lag: Mapping[str, str | int],
    positive: bool,
    scaled: bool,
    lookback: int,
    delay: int,
    periods_per_year: float | None,
) -> Market:
    """A table with features and prices, as the config of a `series` env says.

    Raises:
        DataError: it names what the table lacks, a price cannot be traded, or rows are too few.
    """
    price = price or series.columns[0]
    for what, name in (("price", price), ("open", opens)):
        if name is not None:
            _check_price(what, name, series, positive)
    for name in (price, opens):
        if name in lag:
            raise DataError(f"env.lag shifts {name}: a decision is filled at its price, so it must be known")
    timely, known = late(series, lag)
    shapes = _features(features, series, price, opens, positive)
    found = shown(shapes, timely)
    prices = [series.values[:, series.columns.index(name)] for name in (price, opens) if name is not None]
    table = np.concatenate([found.past, found.now, np.stack(prices)])
    if not scaled:
        _check_range(found)
    past = lookback + max((f.history for f in shapes), default=0)
    rows = _usable(known, series.breaks, past)
    if len(rows) < 2:
        longest = max((f.rows for f in shapes), default=0)
        raise DataError(
            f"{len(series.index)} rows are too few for a lookback of {lookback}"
            + (f" and features over {longest} rows" if longest > 1 else "")
            + ": lower env.lookback"
        )
    whole = rows[-1] == len(series.index) - 1 and len(rows) == rows[-1] - rows[0] + 1
    table.flags.writeable = rows.flags.writeable = False
    spec = DataSpec(
        series.index,
        series.columns,
        int(rows[0]) if whole else past - 1,
        0,
        delay,
        periods_per_year,
        series.sha256,
        None if whole else rows,
        (*series.notes, *_constant(series), *foresight(timely, price)),
    )
    return Market(
        table, len(found.past), len(found.past) + len(found.now), found.names, spec, positive, scaled
    )


def _constant(series: Series) -> list[str]:
    same = np.flatnonzero((series.values == series.values[0]).all(0)).tolist()
    return [f"{series.columns[i]} is {series.values[0, i]:g} in every row" for i in same]


def _features(
    texts: Sequence[str], series: Series, price: str, opens: str | None, positive: bool
) -> list[Feature]:
    others = [name for name in series.columns if name not in (price, opens)]
    default = [Feature("return" if positive else "diff", price, 1), *(Feature("column", n) for n in others)]
    found: list[Feature] = []
    for text in texts:
        found += default if text == DEFAULT else [parse(text, series.columns)]
    return list(dict.fromkeys(found))


def _check_price(what: str, name: str, series: Series, positive: bool) -> None:
    if name not in series.columns:
        raise DataError(f"env.{what} is {name}{instead(name, series.columns)}")
    values = series.values[:, series.columns.index(name)]
    low = np.flatnonzero(values <= 0)
    if positive and low.size:
        where = "; ".join(f"{values[i]:g} at {label(series.index[i])}" for i in low[:3])
        raise DataError(
            f"a position is a share of the account (env.account=share), which needs positive prices, but "
            f"{name} is {where} ({low.size} in all): env.account=fixed trades numbers of contracts at any "
            "price, or choose another column by env.price"
        )


def _check_range(found: Shown) -> None:
    """Refuse what 32 bits cannot hold, as observations have."""
    with np.errstate(invalid="ignore"):
        beyond = np.flatnonzero((np.abs(found.past) > np.finfo(np.float32).max).any(1))
    if beyond.size:
        raise DataError(
            f"{found.names[beyond[0]]} has values beyond 3.4e38, which an observation cannot hold: "
            "env.scale=fit standardises it"
        )


def _usable(known: np.ndarray, breaks: np.ndarray, past: int) -> np.ndarray:
    """The rows that end `past` rows in which all is known, none of them across a gap; int64."""
    rows = np.arange(len(known))
    before = np.concatenate([[0], breaks])[np.searchsorted(breaks, rows, "right")] - 1
    last = np.maximum(np.maximum.accumulate(np.where(known, -1, rows)), before)  # that is of no use
    return np.flatnonzero(rows - last >= past)
