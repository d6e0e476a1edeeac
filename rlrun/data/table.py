"""Tables in time order, read from CSV or Parquet and checked.

A file that could mislead is refused: every problem is named by line and column, the first
three of a kind, with what to do about it. Nothing is left out or filled in that was not asked
for, and what was is counted.
"""

from __future__ import annotations

import hashlib
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rlrun.config.keys import nearest
from rlrun.data.cells import Cells, number, refuse
from rlrun.data.cells import DataError as DataError
from rlrun.data.grid import regular
from rlrun.data.times import Bad, clock_change, label, read_times
from rlrun.files import inflate, read_regular

_LARGEST, _COLUMNS = 1 << 31, 10_000  # bytes of a file, and columns of a table
SHIPPED = Path(__file__).parent / "shipped" / "series"
UNNAMED = ("", "Unnamed: 0", "__index_level_0__")  # what programs call a column of row labels


@dataclass(frozen=True)
class DataSpec:
    """What a time-indexed environment says about its data, as `env.data_spec`."""

    index: np.ndarray  # [rows], int64 or datetime64[ns], strictly increasing
    columns: tuple[str, ...] = ()
    lookback: int = 0  # rows before the first one that can be observed
    horizon: int = 0  # rows that a decision reaches ahead
    delay: int = 1  # rows from a decision to its fill
    periods_per_year: float | None = None
    sha256: str = ""
    within: np.ndarray | None = None  # the rows that can be observed, where gaps leave more of them out
    notes: tuple[str, ...] = ()  # what a reader of results should know about the data
    warmup: bool = True  # whether rows can be shown before a window, while nothing is done
    episodes: bool = False  # whether a row is a whole episode: a day of its own, say

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


def read_table(
    path: Path,
    time: str,
    columns: Sequence[str] | None = None,
    *,
    where: Mapping[str, Any] | None = None,
    step: str | int | None = None,
    on_gap: str = "refuse",
) -> Series:
    """Read a table with a header, gzip-compressed or not; `columns` None: all but `time` and `where`.

    `where` takes the rows of a long table that have these values in other columns. `step` says
    how far apart rows are; where one is missing, `on_gap` refuses, fills it with the row before
    (ffill), or begins anew (segment).

    Raises:
        DataError: a missing file or column, a cell that is not a finite number, a time that does not
            strictly increase, or rows that are not a step apart; the first three offenders are named.
    """
    raw = _bytes(path)
    if raw[:4] == b"PAR1":
        from rlrun.data.parquet import read_parquet

        source: Any = read_parquet(path, raw)
    else:
        source = Cells(path, _utf8(path, raw))
    header, where = source.header, where or {}
    _check_header(path, source, time)
    _known(path, header, "env.where", where)
    names = _names(path, source, time, columns, where)
    _known(path, header, "env.time", (time,))
    _known(path, header, "env.columns", names)
    if not names:
        raise DataError(f"{path}: there is no column beside the time {time}")
    texts, values = source.columns(
        [header.index(n) for n in (time, *where)], [header.index(n) for n in names]
    )
    rows = np.arange(len(values))
    for (name, wanted), cells in zip(where.items(), texts[1:], strict=True):
        rows = rows[_equal(cells[rows], str(wanted))]
        if not len(rows):
            known = sorted({cell.decode("utf-8", "replace") for cell in cells[:100_000].tolist()})
            raise DataError(
                f"{path}: env.where: no row has {name}={wanted}{instead(str(wanted), known, 'it has')}"
            )
    if len(rows) < 2:
        raise DataError(f"{path}: {len(rows)} rows of data are too few")
    stamps = _Stamps(path, source, time, rows)
    index = stamps.read(texts[0] if not where else texts[0][rows])
    stamps.check_order(index, where)
    values = values if not where else values[rows]
    notes = (f"{path.name} has {source.comments} lines before its header",) if source.comments else ()
    index, values, breaks, done = regular(index, values, step, on_gap, stamps.fail)
    values.flags.writeable = index.flags.writeable = False
    return Series(index, names, values, digest(index, names, values, breaks), breaks, (*notes, *done))


def _known(path: Path, header: Sequence[str], what: str, names: Iterable[str]) -> None:
    """DataError where a name is of no column."""
    for name in names:
        if name not in header:
            raise DataError(f"{path}: {what} names {name}{instead(name, header)}")


def digest(index: np.ndarray, names: tuple[str, ...], values: np.ndarray, breaks: np.ndarray) -> str:
    """SHA-256 of what a table holds."""
    found = hashlib.sha256(repr((str(index.dtype), names)).encode())
    for array in (index, values, *([breaks] if len(breaks) else [])):
        found.update(np.ascontiguousarray(array).view(np.uint8).data)
    return found.hexdigest()


def _bytes(path: Path) -> bytes:
    try:
        raw = read_regular(path, _LARGEST, links=True)
        raw = inflate(raw, _LARGEST) if raw[:2] == b"\x1f\x8b" else raw
    except FileNotFoundError:
        shipped = ", ".join(sorted(p.name.removesuffix(".csv.gz") for p in SHIPPED.glob("*.csv.gz")))
        raise DataError(f"env.path is {path}: there is no such file; shipped series are {shipped}") from None
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: it cannot be read: {error}") from None
    if raw[:4] == b"PK\x03\x04":
        raise DataError(f"{path}: it is an Excel or a zip file: save the table as CSV")
    return raw


def _utf8(path: Path, raw: bytes) -> bytes:
    for mark, code in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if raw.startswith(mark):
            return raw[3:] if code == "utf-8-sig" else _decoded(path, raw, code).encode()
    if not raw.isascii():
        _decoded(path, raw, "utf-8")
    return raw


def _decoded(path: Path, raw: bytes, code: str) -> str:
    try:
        return raw.decode(code)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-8: save the file as UTF-8") from None


def _check_header(path: Path, source: Any, time: str) -> None:
    """DataError where there are too many columns, two of a name, or data in the place of their names."""
    header = source.header
    if len(header) > _COLUMNS:
        raise DataError(f"{path}: it has {len(header):,} columns: {_COLUMNS:,} at most")
    twice = sorted(name for name, count in Counter(header).items() if count > 1)
    if time not in header and all(_is_data(name) for name in header):
        names = ",".join([time or "time", "price", *"abcdefghij"][: len(header)])
        raise DataError(
            f"{path}: its first line holds data ({', '.join(header[:3])}), and no names of columns: "
            f"put a line before it, such as {names}"
        )
    if twice:
        which = f"are named {twice[0]}: rename one" if twice[0] else "have no name: give them one"
        raise DataError(f"{path}: two columns {which}")


def _is_data(cell: str) -> bool:
    try:
        read_times(np.array([cell.encode() or b"?"]))
    except Bad:
        return number(cell) == number(cell)
    return True


def _names(
    path: Path, source: Any, time: str, columns: Sequence[str] | None, where: Mapping[str, Any]
) -> tuple[str, ...]:
    """The columns of numbers that are wanted; DataError where one of them is text."""
    header = source.header
    unnamed = next((name for name in UNNAMED if header and header[0] == name), None)
    if time not in header and unnamed is not None and source.sample and _is_data(source.sample[0][0]):
        raise DataError(
            f"{path}: env.time names {time}{instead(time, [n for n in header if n])}; "
            f"env.time={unnamed or chr(39) * 2} takes the first column, which has no name"
        )
    if columns is not None:
        return tuple(columns)
    names = tuple(name for name in header if name not in (time, unnamed, *where))
    texts = [name for name in names if source.is_text(header.index(name))]
    if texts and time in header:
        cells = [row[header.index(texts[0])] for row in source.sample]
        _long(path, source, time, texts[0])
        rest = ",".join(name for name in names if name not in texts)
        which = f"env.columns=[{rest}] takes the others" if rest else "there is no column of numbers"
        raise DataError(f"{path}: column {texts[0]} holds text ({cells[0]!r}): {which}")
    return names


def _long(path: Path, source: Any, time: str, column: str) -> None:
    """DataError where a table has several rows for a time, and `column` tells them apart."""
    at, of = source.header.index(time), source.header.index(column)
    try:
        stamps, kinds = source.columns([at, of], [])[0]
    except DataError:
        return  # which reading it will tell
    times, time_of = np.unique(stamps, return_inverse=True)
    names, name_of = np.unique(kinds, return_inverse=True)
    rows, pairs = len(stamps), len(np.unique(time_of * len(names) + name_of))
    if len(times) == rows or pairs < rows:
        return
    if not 1 < len(names) <= rows // 2 or len(names) * len(times) > 2 * rows:
        return  # it is no name of things, each of which has a row at most of the times
    values = [str(name.decode("utf-8", "replace")) for name in names[:1000].tolist()]
    shown = ", ".join(values[:8]) + (f" and {len(values) - 8} more" if len(values) > 8 else "")
    raise DataError(
        f"{path}: it has rows of several things for one time: env.where={{{column}: {values[0]}}} "
        f"takes those of one of {shown}"
    )


def _equal(cells: np.ndarray, wanted: str) -> np.ndarray:
    """Where text is the same, or the same number."""
    same = cells == wanted.encode()
    if same.any() or number(wanted) != number(wanted):
        return same
    return np.array([number(cell.decode("utf-8", "replace")) == number(wanted) for cell in cells.tolist()])


class _Stamps:
    """The column of times of some rows of a file, for messages that name them."""

    def __init__(self, path: Path, source: Any, time: str, rows: np.ndarray) -> None:
        self._path, self._source, self._time, self._rows = path, source, time, rows

    def fail(self, problems: Mapping[int, str], hint: str = "") -> None:
        """DataError that says what is wrong with each of the rows, if there are any, and what to do."""
        if not problems:
            return
        first = sorted(problems)[:3]
        column = self._source.header.index(self._time)
        found = self._source.at([int(self._rows[i]) for i in first])
        told = [
            f"line {line}, column {self._time}: {row[column]!r} {problems[i]}"
            for i, (row, line) in zip(first, found, strict=True)
        ]
        refuse(self._path, [*told, *[""] * (len(problems) - len(told))], hint)

    def read(self, cells: np.ndarray) -> np.ndarray:
        if cells.dtype.kind in "Mi":  # of Parquet, which has times of its own
            return cells
        try:
            return read_times(cells)
        except Bad as bad:
            self.fail(dict.fromkeys(bad.rows, bad.problem), bad.hint)
            raise

    def check_order(self, index: np.ndarray, where: Mapping[str, Any]) -> None:
        """DataError where times do not increase."""
        falls = np.flatnonzero(index[1:] <= index[:-1]) + 1
        if not falls.size:
            return
        self._several(index, where)
        problems = {}
        for i in falls.tolist():
            change = clock_change(index[i - 1], index[i]) if index.dtype.kind == "M" else None
            if change == "back":
                problems[i] = (
                    f"comes after {label(index[i - 1])}: the clock was put back that night, and no hour was "
                    "lived twice: write the times in UTC, or with their offset from it (+02:00, +01:00)"
                )
            elif index[i] == index[i - 1]:
                problems[i] = "is a duplicate of the line before: which of the two is right?"
            else:
                problems[i] = "is earlier than the line before: sort the file by time"
        self.fail(problems)

    def _several(self, index: np.ndarray, where: Mapping[str, Any]) -> None:
        """DataError where another column tells rows of one time apart."""
        if 4 * len(np.unique(index)) > 3 * len(index):
            return  # a few that are double, and no table of several things
        header = self._source.header
        for name in header:
            if name not in (self._time, *where):
                _long(self._path, self._source, self._time, name)


def instead(name: str, known: Sequence[str], has: str = "the columns are") -> str:
    near = nearest(name, known)
    return f", did you mean {near}?" if near else f": {has} {', '.join(known[:20])}"
