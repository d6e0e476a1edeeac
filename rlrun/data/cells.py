"""The cells of a text table, whatever separates them.

Columns are read in C where a file is plain; where it is not, or holds what cannot be read,
row by row, which also tells where an offender stands. Both give the same values.
"""

from __future__ import annotations

import csv
import io
import math
import re
import warnings
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np

from rlrun.config import ConfigError

_LARGEST_CELL, _CHUNK = 64, 1 << 16
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
_DIGITS = re.compile(r"[+-]?[\d.,' ]*\d[\d.,' ]*")
_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?")


class DataError(ConfigError):
    """A data file that cannot be used; the message says where it is wrong and what to do."""


def refuse(path: Path, problems: Sequence[str], hint: str = "") -> None:
    """DataError with the first three of the problems, if there are any, and what to do about them."""
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise DataError(f"{path}: " + "; ".join(problems[:3]) + more + (hint and f": {hint}"))


@dataclass
class Cells:
    """A text with a header and rows; `comments` lines come before the header."""

    path: Path
    raw: bytes  # UTF-8
    header: list[str] = field(init=False)
    delimiter: str = field(init=False)
    comments: int = field(init=False)

    def __post_init__(self) -> None:
        lines = iter(self.raw[: 1 << 20].decode("utf-8", "replace").splitlines())
        self.comments, first = 0, ""
        for line in lines:
            if line.lstrip().startswith("#"):
                self.comments += 1
            elif line.strip():
                first = line
                break
            else:
                self.comments += 1
        if not first:
            raise DataError(f"{self.path}: the file is empty")
        second = next((line for line in lines if line.strip()), "")
        counts = {d: (first.count(d), second.count(d)) for d in (";", "\t", ",")}
        self.delimiter = max(counts, key=lambda d: (counts[d][0] == counts[d][1] > 0, counts[d][0]))
        self.header = [name.strip() for name in next(iter(self._rows(first)), [])]

    def _rows(self, text: str) -> Iterator[list[str]]:
        return csv.reader(io.StringIO(text, newline=""), delimiter=self.delimiter, strict=True)

    def __iter__(self) -> Iterator[tuple[list[str], int]]:
        """Stripped cells and the line that they end on, of every row; blank lines are skipped."""
        file = io.TextIOWrapper(io.BytesIO(self.raw), "utf-8", newline="")
        for _ in range(self.comments):
            file.readline()
        reader = csv.reader(file, delimiter=self.delimiter, strict=True)
        rows = ((row, reader.line_num + self.comments) for row in reader if row)
        try:
            for row, line in islice(rows, 1, None):
                yield [cell.strip() for cell in row], line
        except csv.Error as error:
            raise DataError(f"{self.path}: it cannot be read: {error}") from None

    def at(self, rows: Sequence[int]) -> list[tuple[list[str], int]]:
        """The cells and lines of some rows, ascending."""
        wanted, found = set(rows), []
        for i, row in enumerate(self):
            if i in wanted:
                found.append(row)
                if len(found) == len(wanted):
                    break
        return found

    @cached_property
    def sample(self) -> list[list[str]]:
        """The first rows."""
        return [row for row, _ in islice(iter(self), 50)]

    def is_text(self, column: int) -> bool:
        """Whether nothing in the first rows of a column looks like a number, or like one that is missing."""
        cells = [row[column] for row in self.sample if column < len(row)]
        return bool(cells) and not any(
            _NUMBER.fullmatch(c) or _DIGITS.fullmatch(c) or c in MISSING for c in cells
        )

    def columns(self, texts: Sequence[int], numbers: Sequence[int]) -> tuple[list[np.ndarray], np.ndarray]:
        """Columns of text, as bytes [rows], and of numbers, float64 [rows, columns].

        Raises:
            DataError: a row has more or fewer cells than the header, or a cell is not a finite number.
        """
        plain = b'"' not in self.raw and (self.delimiter == "," or b"," not in self.raw)
        plain = plain and (self.raw.isascii() or self.raw.split(b"\n", self.comments + 1)[-1].isascii())
        found = self._at_once(texts, numbers) if plain else None
        return found if found is not None else self._row_by_row(texts, numbers)

    def _at_once(
        self, texts: Sequence[int], numbers: Sequence[int]
    ) -> tuple[list[np.ndarray], np.ndarray] | None:
        """None where something is odd, which reading row by row will find."""
        kinds = ["S1"] * len(self.header)
        for k in texts:
            kinds[k] = f"S{_LARGEST_CELL}"
        for k in numbers:
            kinds[k] = "f8"
        kind = np.dtype([(f"c{k}", text) for k, text in enumerate(kinds)])
        most = self.raw.count(b"\n") + 1
        values, words = np.empty((most, len(numbers))), [[] for _ in texts]  # type: ignore[var-annotated]
        file = io.TextIOWrapper(io.BytesIO(self.raw), "utf-8", newline=None)
        count = 0
        try:
            for _ in range(self.comments):
                file.readline()
            while not file.readline().strip():
                pass
            while True:
                with warnings.catch_warnings(action="ignore"):  # of no rows being left
                    part = np.loadtxt(
                        file, kind, comments=None, delimiter=self.delimiter, max_rows=_CHUNK, ndmin=1
                    )
                for k, column in enumerate(numbers):
                    values[count : count + len(part), k] = part[f"c{column}"]
                for k, column in enumerate(texts):
                    cells = np.char.strip(part[f"c{column}"])
                    longest = int(np.char.str_len(cells).max(initial=1))
                    if longest >= _LARGEST_CELL:
                        return None
                    words[k].append(cells.astype(f"S{longest}"))
                count += len(part)
                if len(part) < _CHUNK:
                    break
        except (ValueError, StopIteration):  # UnicodeDecodeError too
            return None
        if not count or not np.isfinite(values[:count]).all():
            return None
        return [np.concatenate(parts) for parts in words], values[:count]

    def _row_by_row(
        self, texts: Sequence[int], numbers: Sequence[int]
    ) -> tuple[list[np.ndarray], np.ndarray]:
        width, ragged = len(self.header), []
        words: list[list[bytes]] = [[] for _ in texts]
        values, bad, odd = [array("d") for _ in numbers], [], set()
        comma = self._comma(numbers)
        for row, line in self:
            if len(row) != width:
                ragged.append(f"line {line} has {len(row)} cells, not {width}")
                continue
            for k, column in enumerate(texts):
                words[k].append(row[column].encode())
            for k, column in enumerate(numbers):
                value = number(row[column], comma)
                values[k].append(value)
                if not math.isfinite(value):
                    odd.add(row[column])
                    where = f"line {line}, column {self.header[column]}"
                    bad.append(f"{where}: {row[column]!r} is not a finite number")
        refuse(self.path, ragged)
        missing = bad and all(cell in MISSING for cell in odd)
        hint = "a value is missing: leave the row out, or fill it from rows before it" if missing else ""
        refuse(self.path, bad, hint)
        table = np.array([np.array(column) for column in values]).reshape(len(numbers), len(words[0]))
        return [np.array(column or [b""]) for column in words], np.ascontiguousarray(table.T)

    def _comma(self, numbers: Sequence[int]) -> bool:
        """Whether a comma is the decimal point here, as it can be where another character separates cells.

        Raises:
            DataError: commas may also separate thousands.
        """
        if self.delimiter == ",":
            return False
        places = set()
        for row, line in self:
            for column in numbers:
                if column < len(row) and "," in row[column]:
                    cell, name = row[column], self.header[column]
                    if not _COMMA.fullmatch(cell):
                        if number(cell, True) == number(cell, True):
                            continue
                        if _DIGITS.fullmatch(cell):
                            words = f"line {line}, column {name}: {cell!r} separates thousands: write 1234.56"
                            raise DataError(f"{self.path}: {words}")
                        continue
                    places.add(len(re.split("[eE]", cell.rpartition(",")[2])[0]))
        if places == {3}:
            raise DataError(
                f"{self.path}: the commas of its numbers may be decimal, or separate thousands, for each has "
                "three digits behind it: write decimal points"
            )
        return bool(places)


MISSING = ("", ".", "-", "NA", "N/A", "n/a", "null", "NULL", "None", "NaN", "nan", "#N/A")


def number(cell: str, comma: bool = False) -> float:
    """A cell as a number; NaN where it is none."""
    if comma and _COMMA.fullmatch(cell):
        cell = cell.replace(",", ".")
    try:
        return float("nan") if "_" in cell else float(cell)  # Python alone reads 1_000 as a number
    except ValueError:
        return float("nan")
