"""Tables in Parquet files, by PyArrow (extra `parquet`)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rlrun.data.cells import DataError, refuse


@dataclass
class Parquet:
    """A table with the methods of `rlrun.data.cells.Cells`; its lines are rows from 1 on."""

    path: Path
    table: Any
    comments: int = 0
    header: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.header = [str(name) for name in self.table.column_names]

    def at(self, rows: Sequence[int]) -> list[tuple[list[str], int]]:
        """The cells and numbers of some rows, ascending."""
        return [([str(c[r].as_py()) for c in self.table.columns], r + 1) for r in sorted(set(rows))]

    @cached_property
    def sample(self) -> list[list[str]]:
        """The first rows."""
        return [row for row, _ in self.at(range(min(50, self.table.num_rows)))]

    def is_text(self, column: int) -> bool:
        """Whether a column holds text."""
        return str(self.table.column(column).type) in ("string", "large_string", "dictionary")

    def columns(self, texts: Sequence[int], numbers: Sequence[int]) -> tuple[list[np.ndarray], np.ndarray]:
        """Columns of text, as bytes [rows], or of times, and of numbers, float64 [rows, columns].

        Raises:
            DataError: a cell is not a finite number.
        """
        values = np.empty((self.table.num_rows, len(numbers)))
        for k, column in enumerate(numbers):
            try:
                values[:, k] = self.table.column(column).to_numpy()
            except (TypeError, ValueError):
                raise DataError(f"{self.path}: column {self.header[column]} holds no numbers") from None
            bad = np.flatnonzero(~np.isfinite(values[:, k])).tolist()
            name = self.header[column]
            refuse(
                self.path, [f"row {i + 1}, column {name}: {values[i, k]} is not a finite number" for i in bad]
            )
        return [self._cells(column) for column in texts], values

    def _cells(self, column: int) -> np.ndarray:
        source = self.table.column(column)
        missing = np.flatnonzero(source.is_null().to_numpy()).tolist()
        refuse(self.path, [f"row {i + 1}, column {self.header[column]} is empty" for i in missing])
        kind = str(source.type)
        if kind.startswith(("timestamp", "date")):  # with a zone they are in UTC
            return source.to_numpy().astype("datetime64[ns]")
        cells = [str(value).encode() for value in source.to_pylist()]
        return np.array(cells or [b""])


def read_parquet(path: Path, raw: bytes) -> Parquet:
    """The table of a Parquet file; DataError without PyArrow, or where it is damaged."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise DataError(f"{path}: reading Parquet needs PyArrow: pip install 'rlrun[parquet]'") from None
    try:
        return Parquet(path, parquet.read_table(io.BytesIO(raw)))
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{path}: it cannot be read: {error}") from None
