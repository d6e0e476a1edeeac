"""Rows that are a step apart, and what becomes of those that are missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from rlrun.data.times import clock_change, duration, label

GAPS = ("refuse", "ffill", "segment")
_MOST = 10  # times as many rows as there are may be filled in
_NONE = np.empty(0, np.int64)
Fail = Callable[[Mapping[int, str], str], None]  # (row -> what is wrong with it, what to do)


def regular(
    index: np.ndarray, values: np.ndarray, step: str | int | None, on_gap: str, fail: Fail
) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[str, ...]]:
    """Index [rows], values [rows, columns], rows that begin anew, and what was done, in words.

    Raises:
        DataError: by `fail`; a row is off the grid of steps, or rows are missing and nobody said what then.
    """
    apart = None if step is None else duration(step)
    if apart is None:
        return index, values, _NONE, ()
    if isinstance(apart, int) == (index.dtype.kind == "M"):
        kind = "times" if index.dtype.kind == "M" else "numbers"
        fail({0: f"is one of {kind}, which env.step={step} does not fit"}, "")
    steps, rest = np.divmod(index - index[0], apart)
    off = np.flatnonzero(rest.astype(np.int64) != 0)
    if off.size:
        problem = f"is off the grid of env.step={step} that begins at {label(index[0])}"
        hint = "is the step right, or null for rows that are not equally far apart?"
        fail(dict.fromkeys(off.tolist(), problem), hint)
    steps = steps.astype(np.int64)
    lost = np.diff(steps) - 1
    gaps = np.flatnonzero(lost)
    if not gaps.size:
        return index, values, _NONE, ()
    if on_gap == "refuse":
        hint = "env.on_gap=ffill fills rows with the one before, env.on_gap=segment begins anew after a gap"
        if index.dtype.kind == "M" and clock_change(index[gaps[0]], index[gaps[0] + 1]) == "forward":
            hint = (
                "where the clock was put forward that night, no hour is missing: write the times in UTC, or "
            )
            hint += "with their offset from it (+01:00, +02:00)"
        missing = {
            i + 1: f"comes after {label(index[i])}: {_rows(int(lost[i]))} missing" for i in gaps.tolist()
        }
        fail(missing, hint)
    longest = gaps[lost[gaps].argmax()]
    told = (
        f"{len(gaps):,} gap{'s' * (len(gaps) > 1)} of {_rows(int(lost.sum()))} in all, the longest of "
        f"{_rows(int(lost[longest]))} after {label(index[longest])}"
    )
    if on_gap == "segment":
        return index, values, gaps + 1, (f"{told}: nothing looks, or holds a position, across one",)
    if steps[-1] > _MOST * len(index):
        fail(
            {int(longest) + 1: f"comes after {told}"}, "too many to fill, env.on_gap=segment leaves them out"
        )
    whole = np.arange(int(steps[-1]) + 1)
    source = np.searchsorted(steps, whole, "right") - 1
    return index[0] + whole * apart, values[source], _NONE, (f"{told}: filled with the row before",)


def _rows(count: int) -> str:
    return f"{count:,} row{'s' * (count > 1)}"
