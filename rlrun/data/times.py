"""Times as tables have them: ISO 8601, epochs of any unit, and numbers of rows.

A cell is read on its own, by one grammar; where all cells of a column look alike, which is
nearly always so, the whole column is read at once by the positions of its digits, to the
same values.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

_ISO = re.compile(
    r"(\d{4})-(\d\d)(?:-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?)?)?(Z|[+-]\d\d:?\d\d)?"
)
_NUMBER = re.compile(r"-?\d{1,19}(?:\.\d*)?(?:[eE]\+?\d+)?")
_FIRST, _LAST = np.datetime64("1678-01-01", "D"), np.datetime64("2262-01-01", "D")  # what 64 bits of ns hold
_SINCE, _UNTIL = 365 * 86_400, int((_LAST - np.datetime64("1970-01-01", "D")).astype(int)) * 86_400
EPOCHS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}  # how many are a second
_COMPACT = {8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
_ISO_HINT = "write ISO 8601, such as 2024-02-01 or 2024-02-01T13:30"
_NS, _CHUNK = 1_000_000_000, 1 << 16


def label(moment: Any) -> str | int:
    """A time stamp as text, no finer than it needs to be; an integer as it is."""
    if not isinstance(moment, np.datetime64):
        return int(moment)
    for unit in ("D", "m", "s"):
        coarse = moment.astype(f"datetime64[{unit}]")
        if coarse == moment:
            return str(coarse)
    return str(moment)


class Bad(Exception):
    """Cells that are no times: their rows, what is wrong with each, and what to do about it."""

    def __init__(self, rows: Sequence[int], problem: str, hint: str = _ISO_HINT) -> None:
        super().__init__(problem)
        self.rows, self.problem, self.hint = list(rows), problem, hint


def read_times(cells: np.ndarray) -> np.ndarray:
    """Texts, as bytes [rows], to int64, or datetime64[ns], in UTC where they say their offset.

    Raises:
        Bad: a cell is no time, or not of the same kind as the first one.
    """
    if _NUMBER.fullmatch(_text(cells[0])):
        return _numbers(cells)
    index, aware = np.empty(len(cells), np.int64), np.empty(len(cells), bool)
    for begin in range(0, len(cells), _CHUNK):
        part = cells[begin : begin + _CHUNK]
        widths = np.char.str_len(part)
        for width in np.unique(widths).tolist():  # nearly always one: a second may have a fraction, or none
            rows = np.flatnonzero(widths == width)
            own = part[rows].astype(f"S{max(width, 1)}")
            moments = _alike(own, own[0])
            if moments is None:
                return _one_by_one(cells)
            index[begin + rows], aware[begin + rows] = moments, _has_offset(own[0])
    if (aware != aware[0]).any():
        return _one_by_one(cells)  # which says where
    return index.view("datetime64[ns]")


def _has_offset(cell: bytes) -> bool:
    found = _ISO.fullmatch(_text(cell))
    return bool(found and found[8])


def _text(cell: bytes) -> str:
    return cell.decode("utf-8", "replace")


def _no_time(text: str) -> str:
    slashes = re.fullmatch(r"\d{1,2}[./-]\d{1,2}[./-]\d{4}.*", text)
    return "may begin with a day or a month" if slashes else "is no time"


def _alike(cells: np.ndarray, example: bytes) -> np.ndarray | None:
    """Nanoseconds since 1970, int64 [n], where all cells are times of the same length and make."""
    found = _ISO.fullmatch(_text(example))
    width = cells.dtype.itemsize
    if not found or len(example) != width:
        return None
    matrix = np.ascontiguousarray(cells).view(np.uint8).reshape(len(cells), width)
    first = np.frombuffer(example, np.uint8)
    digit = (first >= 48) & (first <= 57)
    sign = found.start(8) if found[8] and found[8] != "Z" else -1
    for k in range(width):
        column = matrix[:, k]
        if digit[k]:
            fine = (column >= 48) & (column <= 57)
        elif k == sign:
            fine = (column == 43) | (column == 45)
        else:
            fine = column == first[k]
        if not fine.all():
            return None

    def value(group: int, default: int) -> np.ndarray:
        out = np.zeros(len(cells), np.int64)
        if found[group] is None:
            return out + default
        for k in range(*found.span(group)):
            out = out * 10 + (matrix[:, k] - 48)
        return out

    year, month, day, hour, minute, second = (value(g, g in (2, 3)) for g in range(1, 7))
    fraction = value(7, 0) * 10 ** (9 - len(found[7] or ""))
    offset = np.zeros(len(cells), np.int64)
    if sign >= 0:
        at = [k for k in range(sign + 1, width) if digit[k]]
        hh, mm = (matrix[:, at[i]] * np.int64(10) + matrix[:, at[i + 1]] - 528 for i in (0, 2))
        offset = np.where(matrix[:, sign] == 45, -1, 1) * (hh * 60 + mm)
    months = ((year - 1970) * 12 + month - 1).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + (day - 1)
    fine = (month >= 1) & (month <= 12) & (day >= 1) & (days.astype("datetime64[M]") == months)
    fine &= (hour < 24) & (minute < 60) & (second < 60) & (np.abs(offset) < 24 * 60)
    if not (fine & (days >= _FIRST) & (days < _LAST)).all():
        return None
    minutes = days.astype(np.int64) * 1440 + hour * 60 + minute - offset
    return (minutes * 60 + second) * _NS + fraction


def _one_by_one(cells: np.ndarray) -> np.ndarray:
    index = np.zeros(len(cells), np.int64)
    bad, aware = [], np.zeros(len(cells), bool)
    for i, cell in enumerate(cells.tolist()):
        moment = _moment(_text(cell))
        if moment is None:
            bad.append(i)
        else:
            index[i], aware[i] = moment
    if bad:
        raise Bad(bad, _no_time(_text(cells[bad[0]])))
    other = np.flatnonzero(aware != aware[0])
    if other.size:
        has = "no UTC offset, and the first row one" if aware[0] else "a UTC offset, and the first row none"
        raise Bad(other.tolist(), f"has {has}", "give all of them one, or none")
    return index.view("datetime64[ns]")


def _moment(text: str) -> tuple[int, bool] | None:
    """Nanoseconds since 1970, and whether an offset is given; None if it is no time."""
    cell = text.encode()
    moment = _alike(np.array([cell]), cell) if text else None
    return None if moment is None else (int(moment[0]), _has_offset(cell))


def _numbers(cells: np.ndarray) -> np.ndarray:
    texts = None
    try:
        numbers = cells.astype(np.int64)
    except (ValueError, OverflowError):
        texts = [_text(cell) for cell in cells.tolist()]
        bad = [i for i, text in enumerate(texts) if not _NUMBER.fullmatch(text)]
        if bad:
            raise Bad(bad, "is not an integer, as the first row is", "") from None
        return _fractions(texts)
    return _dates(numbers)


def _fractions(texts: Sequence[str]) -> np.ndarray:
    """Numbers of which some have a point or an exponent: whole ones, or an epoch in seconds."""
    values = np.array([float(text) for text in texts])
    if (values == np.floor(values)).all() and (np.abs(values) < 1 << 63).all():
        whole = [int(text) if text.lstrip("-").isdigit() else int(float(text)) for text in texts]
        return _dates(np.array(whole, np.int64))
    if ((values >= _SINCE) & (values < _UNTIL)).all():
        seconds = np.floor(values)
        rest = np.round((values - seconds) * 1e6).astype(np.int64) * 1000  # a float holds microseconds of now
        return (seconds.astype(np.int64) * _NS + rest).view("datetime64[ns]")
    odd = np.flatnonzero(values != np.floor(values))
    raise Bad(odd.tolist(), "is neither an integer nor seconds since 1970", "")


def _dates(numbers: np.ndarray) -> np.ndarray:
    """Whole numbers: an epoch, days such as 20240201, or what they are."""
    low, high = int(numbers.min()), int(numbers.max())
    form = _COMPACT.get(len(str(low))) if low > 0 and len(str(low)) == len(str(high)) else None
    if form and int(str(low)[:4]) >= 1900 and int(str(high)[:4]) <= 2100:
        days = _compact(numbers)
        if days is not None and len(str(low)) == 8:
            return days.astype("datetime64[ns]")
        if days is not None:
            raise Bad([0], "may be a date or a count of seconds")
    for per_second in EPOCHS.values():
        if low >= _SINCE * per_second and high < _UNTIL * per_second:
            return (numbers * (_NS // per_second)).view("datetime64[ns]")
    return numbers


def _compact(numbers: np.ndarray) -> np.ndarray | None:
    """The days of numbers that are written as a date, with the time of day behind it; None if one is not."""
    rest, parts = numbers.copy(), []
    for _ in range((len(str(int(numbers[0]))) - 4) // 2):
        parts.append(rest % 100)
        rest //= 100
    parts = parts[::-1]
    months = ((rest - 1970) * 12 + parts[0] - 1).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + (parts[1] - 1)
    fine = (parts[0] >= 1) & (parts[0] <= 12) & (parts[1] >= 1) & (days.astype("datetime64[M]") == months)
    for part, most in zip(parts[2:], (24, 60, 60), strict=False):
        fine &= part < most
    return days if fine.all() else None


_UNITS = {"d": 86_400, "h": 3_600, "min": 60, "m": 60, "s": 1}
_STEP = re.compile(r"(\d+)\s*(d|h|min|ms|us|ns|m|s)")


def duration(text: str | int) -> int | np.timedelta64 | None:
    """A number of rows or units (`24`) as it is, a time (`1h`, `15min`, `1d`) as one; None if it is none."""
    if isinstance(text, int) or str(text).isdecimal():
        return int(text)
    found = _STEP.fullmatch(str(text).strip())
    if not found:
        return None
    unit = found[2]
    per = _NS // EPOCHS[unit] if unit in ("ms", "us", "ns") else _UNITS[unit] * _NS
    return np.timedelta64(int(found[1]) * per, "ns")


def clock_change(before: np.datetime64, after: np.datetime64) -> str | None:
    """What the clocks did between two local times of neighbouring rows: back, forward, or None of it."""
    day = after.astype("datetime64[D]")
    weekday = (int(day.astype(np.int64)) + 3) % 7
    month = int(after.astype("datetime64[M]").astype(np.int64)) % 12 + 1
    minutes = int((after - day) / np.timedelta64(1, "m"))
    change = int((after - before) / np.timedelta64(1, "m"))
    if weekday != 6 or minutes > 3 * 60:
        return None
    if month in (9, 10, 11, 3, 4) and -60 < change <= 0:
        return "back"
    return "forward" if month in (3, 4, 9, 10, 11) and 60 < change <= 120 else None
