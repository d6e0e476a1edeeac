"""What observations and actions are made of, in the terms of Gymnasium and without importing it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np


@dataclass(frozen=True)
class Discrete:
    """The integers 0 .. n - 1; arrays of it are int64 without a feature axis."""

    n: int

    @property
    def shape(self) -> tuple[int, ...]:
        return ()

    dtype: ClassVar[str] = "int64"
    kind: ClassVar[str] = "discrete"


@dataclass(frozen=True)
class MultiDiscrete:
    """A vector of integers, the i-th below nvec[i]."""

    nvec: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.nvec),)

    dtype: ClassVar[str] = "int64"
    kind: ClassVar[str] = "multi_discrete"


@dataclass(frozen=True)
class Box:
    """Arrays of one shape, bounded element by element; `low` and `high` are flat."""

    shape: tuple[int, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    dtype: str = "float32"
    kind: ClassVar[str] = "box"

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=int))


Space = Discrete | MultiDiscrete | Box


def size(space: Space) -> int:
    """How many features an element has: the numbers of a box, or one-hot integers."""
    if isinstance(space, Box):
        return space.size
    return space.n if isinstance(space, Discrete) else sum(space.nvec)
