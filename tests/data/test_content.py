"""Data are the same where what they hold is, and only there."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np

from rlrun.data.content import content


class Column:
    """What is asked of a column of pandas."""

    ndim, iloc = 1, None

    def __init__(self, name: str, values: Any, index: Any) -> None:
        self.name, self.values, self.index = name, np.asarray(values), index

    def to_numpy(self) -> np.ndarray:
        return self.values


def column(name: str = "price", values: Any = (1.0, 2.0), index: Any = (0, 1)) -> Column:
    return Column(name, values, Column("", index, None))


def test_a_column_is_its_name_its_values_and_its_index() -> None:
    assert content(column()) == content(column())
    others = (column("cost"), column(values=(1.0, 3.0)), column(index=(0, 2)))
    assert len({content(each) for each in (column(), *others)}) == 4


def test_it_is_the_same_in_every_process() -> None:
    data = "[{'x': [1, 2.5]}, 'text', None, object()]"
    program = f"from rlrun.data.content import content; print(content({data}).hex())"
    found = {subprocess.check_output([sys.executable, "-c", program], text=True) for _ in range(2)}
    assert len(found) == 1


def test_how_an_array_lies_in_memory_is_no_difference() -> None:
    table = np.arange(12.0).reshape(3, 4)
    assert content(table) == content(np.asfortranarray(table)) == content(table[::1].copy())
    assert content(table) != content(table.T)
