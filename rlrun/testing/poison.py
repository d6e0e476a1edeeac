"""Tables with garbage in some of their rows: what reads those rows shows itself by what it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from rlrun.data.table import Series

# values [rows, ...] of one column or more, and where [rows] garbage is to be -> others of the same kind
Garbage = Callable[[np.ndarray, np.ndarray], np.ndarray]


def length(table: Any) -> int:
    """How many rows a table has."""
    return len(table.values if isinstance(table, Series) else table)


def head(table: Any, count: int) -> Any:
    """The first `count` rows of a table."""
    if isinstance(table, Series):
        return replace(table, index=table.index[:count], values=table.values[:count])
    return table.iloc[:count] if hasattr(table, "iloc") else table[:count]


def poisoned(table: Any, rows: slice, garbage: Garbage) -> Any:
    """A copy of a table with garbage in `rows`; what names its rows, such as a column of times, stays.

    `table` is an array [rows, ...], a structured array, a pandas frame, a `Series`, or a list of dated
    episodes, whose data change places.
    """
    count = length(table)
    where = np.zeros(count, bool)
    where[rows] = True
    if isinstance(table, Series):
        return replace(table, values=garbage(table.values, where))
    if isinstance(table, list):
        other = [(k + 1 + count // 3) % count if here else k for k, here in enumerate(where)]
        return [(date, table[k][1]) for (date, _), k in zip(table, other, strict=True)]
    if hasattr(table, "iloc"):
        table, kinds = table.copy(), list(table.dtypes)
        plain = [j for j, kind in enumerate(kinds) if isinstance(kind, np.dtype)]  # no categories, say
        for j in _free({j: table.iloc[:, j].to_numpy() for j in plain}):
            table.isetitem(j, garbage(table.iloc[:, j].to_numpy(), where))
        return table
    if table.dtype.names:
        out = table.copy()
        for name in _free({name: table[name] for name in table.dtype.names}):
            out[name] = garbage(table[name], where)
        return out
    return garbage(table, where)


def _free(columns: dict[Any, np.ndarray]) -> list[Any]:
    """The columns that do not name rows: neither times, nor numbers that count them; all, if none is left."""
    free = [name for name, values in columns.items() if not (values.dtype.kind in "mM" or _counts(values))]
    return free or list(columns)


def _counts(values: np.ndarray) -> bool:
    return values.dtype.kind in "iu" and values.ndim == 1 and bool((values[1:] > values[:-1]).all())


def others(seed: int) -> Garbage:
    """Those of other rows, in disorder; numbers that are not whole also larger or smaller by a factor."""

    def garbage(values: np.ndarray, where: np.ndarray) -> np.ndarray:
        rng, out = np.random.default_rng(seed), values.copy()
        found = values[rng.permutation(len(values))[: where.sum()]]
        out[where] = found * rng.uniform(0.5, 2.0, found.shape) if values.dtype.kind == "f" else found
        return out

    return garbage


def nan(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """No number, where there can be none."""
    out = values.copy()
    if values.dtype.kind in "fc":
        out[where] = np.nan
    return out
