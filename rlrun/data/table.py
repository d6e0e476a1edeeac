"""Tables in time order, read from CSV and checked.

A file that could mislead is refused: every problem is named by line and column, the first
three of a kind, with what to do about it.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from rlrun.config import ConfigError
from rlrun.config.keys import nearest
from rlrun.files import inflate, read_regular

_LARGEST, _COLUMNS = 1 << 31, 10_000  # bytes of a file, and columns of a table
SHIPPED = Path(__file__).parent / "shipped" / "series"


class DataError(ConfigError):
    """A data file that cannot be used; the message says where it is wrong and what to do."""


@dataclass(frozen=True)
class DataSpec:
    """What a time-indexed environment says about its data, as `env.data_spec`."""

    index: np.ndarray  # [rows], int64 or datetime64[ns], strictly increasing
    columns: tuple[str, ...]
    lookback: int  # rows before the first one that can be observed
    horizon: int = 0  # rows that a decision reaches ahead
    delay: int = 1  # rows from a decision to its fill
    periods_per_year: float | None = None
    sha256: str = ""
    within: np.ndarray | None = None  # the rows that can be observed, where gaps leave more of them out
    notes: tuple[str, ...] = ()  # what a reader of results should know about the data

    @property
    def rows(self) -> np.ndarray:
        """The rows that can be observed, int64 [usable]: those with their whole past before them."""
        return np.arange(self.lookback, len(self.index)) if self.within is None else self.within

    @property
    def usable(self) -> int:
        """How many rows can be observed."""
        return len(self.rows)


@dataclass(frozen=True, eq=False)
class Series:
    """A table in time order: index [rows], values float64 [rows, columns]."""

    index: np.ndarray
    columns: tuple[str, ...]
    values: np.ndarray
    sha256: str = ""  # of the index and values, not of the file: compression does not matter
    breaks: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))  # rows that begin anew
    notes: tuple[str, ...] = ()  # what was done to the file's rows


def read_csv(path: Path, time: str, columns: Sequence[str] | None = None) -> Series:
    """Read a CSV with a header, gzip-compressed if it ends in .gz; `columns` None: all but `time`.

    Raises:
        DataError: a missing file or column, a cell that is not a finite number, or a time
            that does not strictly increase; the first three offenders are named by line.
    """
    header, rows, lines = _cells(path)
    if len(header) > _COLUMNS:
        raise DataError(f"{path}: it has {len(header):,} columns: {_COLUMNS:,} at most")
    twice = sorted(name for name, count in Counter(header).items() if count > 1)
    if twice:
        raise DataError(f"{path}: two columns are named {twice[0]}: rename one")
    names = tuple(name for name in header if name != time) if columns is None else tuple(columns)
    for name in (time, *names):
        if name not in header:
            what = "env.time" if name == time else "env.columns"
            raise DataError(f"{path}: {what} names {name}{instead(name, header)}")
    if not names:
        raise DataError(f"{path}: there is no column beside the time {time}")
    if len(rows) < 2:
        raise DataError(f"{path}: {len(rows)} rows of data are too few")
    _refuse(
        path,
        [
            f"line {n} has {len(r)} cells, not {len(header)}"
            for r, n in zip(rows, lines, strict=True)
            if len(r) != len(header)
        ],
    )
    index = _times(path, time, [row[header.index(time)] for row in rows], lines)
    values = np.column_stack(
        [_numbers(path, name, [row[header.index(name)] for row in rows], lines) for name in names]
    )
    values.flags.writeable = index.flags.writeable = False
    digest = hashlib.sha256(repr((str(index.dtype), names)).encode())
    digest.update(np.ascontiguousarray(index).tobytes())
    digest.update(np.ascontiguousarray(values).tobytes())
    return Series(index, names, values, digest.hexdigest())


def _cells(path: Path) -> tuple[list[str], list[list[str]], list[int]]:
    """Header, rows of stripped cells, and the line that each row ends on; blank lines are skipped."""
    try:
        raw = read_regular(path, _LARGEST, links=True)
        text = (inflate(raw, _LARGEST) if path.suffix == ".gz" else raw).decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        rows = [([cell.strip() for cell in row], reader.line_num) for row in reader if row]
    except FileNotFoundError:
        shipped = ", ".join(sorted(p.name.removesuffix(".csv.gz") for p in SHIPPED.glob("*.csv.gz")))
        raise DataError(f"env.path is {path}: there is no such file; shipped series are {shipped}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-8: save the file as UTF-8") from None
    except (OSError, ValueError, EOFError, zlib.error, csv.Error) as error:
        raise DataError(f"{path}: it cannot be read: {error}") from None
    if not rows:
        raise DataError(f"{path}: the file is empty")
    return rows[0][0], [row for row, _ in rows[1:]], [line for _, line in rows[1:]]


def _numbers(path: Path, name: str, cells: Sequence[str], lines: Sequence[int]) -> np.ndarray:
    values = np.array([_number(cell) for cell in cells])
    bad = np.flatnonzero(~np.isfinite(values)).tolist()
    _refuse(path, [f"line {lines[i]}, column {name}: {cells[i]!r} is not a finite number" for i in bad])
    return values


def _number(cell: str) -> float:
    try:
        return math.nan if "_" in cell else float(cell)  # Python alone reads 1_000 as a number
    except ValueError:
        return math.nan


def _times(path: Path, name: str, cells: Sequence[str], lines: Sequence[int]) -> np.ndarray:
    """int64, or datetime64[ns] in UTC where the stamps carry a zone."""
    where = [f"line {line}, column {name}: {cell!r}" for line, cell in zip(lines, cells, strict=True)]
    if _integer(cells[0]) is not None:
        numbers = [_integer(cell) for cell in cells]
        _refuse(path, [f"{w} is not an integer" for w, n in zip(where, numbers, strict=True) if n is None])
        index = np.array(numbers, np.int64)
    else:
        stamps = [_stamp(cell) for cell in cells]
        _refuse(path, [f"{w} is no time (ISO 8601)" for w, t in zip(where, stamps, strict=True) if t is None])
        times = [t for t in stamps if t is not None]
        zone = times[0].utcoffset()
        _refuse(
            path,
            [
                f"{w} is in another time zone than the first row: convert all to UTC"
                for w, t in zip(where, times, strict=True)
                if t.utcoffset() != zone
            ],
        )
        plain = [t if zone is None else t.astimezone(UTC).replace(tzinfo=None) for t in times]
        index = np.array(plain, "datetime64[us]").astype("datetime64[ns]")
    falls = np.flatnonzero(index[1:] <= index[:-1]) + 1
    _refuse(
        path,
        [
            f"{where[i]} is {'a duplicate' if index[i] == index[i - 1] else 'earlier than the line before'}: "
            "sort the file by time and drop duplicates"
            for i in falls
        ],
    )
    return index


def _integer(cell: str) -> int | None:
    # a bare "20190803" is a date to ISO 8601, but a number to whoever counts rows: numbers win
    digits = cell.removeprefix("-")
    return int(cell) if digits.isascii() and digits.isdigit() and len(digits) < 19 else None


def _stamp(cell: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(cell)
    except ValueError:
        return None
    return moment if 1678 <= moment.year <= 2261 else None  # what nanoseconds in 64 bits can hold


def _refuse(path: Path, problems: Sequence[str]) -> None:
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise DataError(f"{path}: " + "; ".join(problems[:3]) + more)


def instead(name: str, known: Sequence[str]) -> str:
    near = nearest(name, known)
    return f", did you mean {near}?" if near else f": the columns are {', '.join(known)}"
