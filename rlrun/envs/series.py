"""Time series: reading and checking a table, and the config of trading one of its columns.

`env=trading` is the shipped WTI crude oil series, `env=series env.path=my.csv` one's own.
A file that could mislead is refused: every problem is named by line and column, the first
three of a kind, with what to do about it.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from rlrun.config import ConfigError, key, nearest
from rlrun.envs import EnvConfig
from rlrun.registry import register

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv

SHIPPED = Path(__file__).parent / "data"


class DataError(ConfigError):
    """A data file that cannot be used; the message says where it is wrong and what to do."""


@dataclass(frozen=True)
class DataSpec:
    """What a time-indexed environment says about its data, as `env.data_spec`."""

    index: np.ndarray  # [rows], int64 or datetime64[ns], strictly increasing
    columns: tuple[str, ...]
    lookback: int  # rows seen back
    horizon: int = 0  # rows that a decision reaches ahead
    delay: int = 1  # rows from a decision to its fill
    periods_per_year: float | None = None
    sha256: str = ""

    @property
    def usable(self) -> int:
        """Rows that have `lookback` rows before them."""
        return len(self.index) - self.lookback


@dataclass(frozen=True)
class Series:
    """A table in time order: index [rows], values float64 [rows, columns]."""

    index: np.ndarray
    columns: tuple[str, ...]
    values: np.ndarray
    sha256: str = ""  # of the index and values, not of the file: compression does not matter


@dataclass
class SeriesConfig(EnvConfig):
    """A table, and how one trades it."""

    path: str = key("a .csv or .csv.gz file, or the name of a shipped series such as wti_daily")
    time: str = key("the column of time stamps (ISO 8601) or integers, strictly increasing")
    columns: list[str] | None = key("the columns to use; null: all but the time")
    price: str | None = key("the column that is traded; null: the first of columns")
    lookback: int = key("rows seen back: log returns of the price, in percent, and the other columns", min=1)
    delay: int = key("rows from a decision to its fill; 0 fills at the very price that was seen", min=0)
    cost: float = key("cost of moving the position by 1, as a share of equity", min=0)
    actions: str = key(
        "discrete: short, flat, long; continuous: any position from -1 to 1",
        choices=("discrete", "continuous"),
    )
    periods_per_year: float | None = key("rows in a year, to annualise; null: do not", above=0)

    time_indexed: ClassVar[bool] = True  # walk-forward can split it

    def problems(self) -> list[str]:
        found = super().problems()
        if self.columns is not None and not self.columns:
            found.append("columns is empty: name at least one, or null for all")
        if self.columns and self.price is not None and self.price not in self.columns:
            found.append(f"price is {self.price}: it must be one of columns ({', '.join(self.columns)})")
        if self.columns and self.time in self.columns:
            found.append(f"columns holds the time column {self.time}: leave it out")
        return found


@register("env", "series", SeriesConfig)
def series(config: SeriesConfig, num_envs: int) -> VectorEnv:
    from rlrun.envs.vector.series import Trading

    return Trading(num_envs, config, load_series(config))


def load_series(config: SeriesConfig) -> Series:
    """The table that a config names, checked to be usable for trading.

    Raises:
        DataError: the file is missing or damaged, or a price is not positive.
    """
    path = Path(config.path)
    shipped = SHIPPED / f"{config.path}.csv.gz"
    if path.name == config.path and shipped.is_file():
        path = shipped
    series = read_csv(path, config.time, config.columns)
    name = config.price or series.columns[0]
    if name not in series.columns:
        raise DataError(f"{path}: env.price is {name}{_instead(name, series.columns)}")
    prices = series.values[:, series.columns.index(name)]
    low = np.flatnonzero(prices <= 0)
    if low.size:
        where = "; ".join(f"{prices[i]:g} at {series.index[i]}" for i in low[:3])
        raise DataError(
            f"{path}: the price column {name} must be positive, but is {where} ({low.size} in all): "
            "choose another by env.price, or drop these rows"
        )
    return series


def read_csv(path: Path, time: str, columns: Sequence[str] | None = None) -> Series:
    """Read a CSV with a header, gzip-compressed if it ends in .gz; `columns` None: all but `time`.

    Raises:
        DataError: a missing file or column, a cell that is not a finite number, or a time
            that does not strictly increase; the first three offenders are named by line.
    """
    header, rows, lines = _cells(path)
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DataError(f"{path}: two columns are named {twice[0]}: rename one")
    names = tuple(name for name in header if name != time) if columns is None else tuple(columns)
    for name in (time, *names):
        if name not in header:
            what = "env.time" if name == time else "env.columns"
            raise DataError(f"{path}: {what} names {name}{_instead(name, header)}")
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
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        rows = [([cell.strip() for cell in row], reader.line_num) for row in reader if row]
    except FileNotFoundError:
        shipped = ", ".join(sorted(p.name.removesuffix(".csv.gz") for p in SHIPPED.glob("*.csv.gz")))
        raise DataError(f"env.path is {path}: there is no such file; shipped series are {shipped}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-8: save the file as UTF-8") from None
    except (OSError, EOFError, zlib.error, csv.Error) as error:
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


def _instead(name: str, known: Sequence[str]) -> str:
    near = nearest(name, known)
    return f", did you mean {near}?" if near else f": the columns are {', '.join(known)}"
