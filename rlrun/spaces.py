"""What observations and actions are made of, in the terms of Gymnasium and without importing it.

Agents see three kinds of spaces. An environment may write the same values otherwise: count
from 1, in a grid, in 16 bits, as integers in a box. That is its `Form`, and `read` and `write`
are the one way in and out of it. Of a Dict or a Tuple agents see one vector, a Box with `parts`;
`join` is the way there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

WHOLE = 2**53  # beyond it float64 has gaps between whole numbers


@dataclass(frozen=True)
class Form:
    """How an environment itself writes the values of a space."""

    shape: tuple[int, ...]
    dtype: str
    start: tuple[int, ...] = ()  # flat: what the integers count from, where that is not 0


class _Values:
    """What the kinds of spaces share."""

    @cached_property
    def form(self: Any) -> Form:
        """How the environment writes its values: as agents see them, unless it says otherwise."""
        own: Form | None = self.own
        return own or Form(self.shape, self.dtype)

    @cached_property
    def _start(self: Any) -> Any:
        return np.reshape(self.form.start, self.shape) if self.form.start else 0

    def read(self: Any, values: np.ndarray) -> np.ndarray:
        """Values as agents see them, [..., *shape], from those of the environment [..., *form.shape]."""
        if self.own is None:
            return values
        lead = values.shape[: values.ndim - len(self.own.shape)]
        return values.reshape((*lead, *self.shape)).astype(self.dtype) - self._start

    def write(self: Any, values: np.ndarray) -> np.ndarray:
        """The way back: values in the environment's shape and dtype, and within its bounds."""
        if self.own is None:
            return values
        lead = values.shape[: values.ndim - len(self.shape)]
        return (values + self._start).reshape((*lead, *self.own.shape)).astype(self.own.dtype)


@dataclass(frozen=True)
class Discrete(_Values):
    """The integers 0 .. n - 1; arrays of it are int64 without a feature axis."""

    n: int
    own: Form | None = field(default=None, compare=False)

    @property
    def choices(self) -> tuple[int, ...]:
        """How many values each integer has; a mask of actions has their sum of columns."""
        return (self.n,)

    @property
    def shape(self) -> tuple[int, ...]:
        return ()

    dtype: ClassVar[str] = "int64"
    kind: ClassVar[str] = "discrete"


@dataclass(frozen=True)
class MultiDiscrete(_Values):
    """A vector of integers, the i-th below nvec[i]."""

    nvec: tuple[int, ...]
    own: Form | None = field(default=None, compare=False)

    @property
    def choices(self) -> tuple[int, ...]:
        return self.nvec

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.nvec),)

    dtype: ClassVar[str] = "int64"
    kind: ClassVar[str] = "multi_discrete"


@dataclass(frozen=True)
class Box(_Values):
    """Arrays of one shape, bounded element by element; `low` and `high` are flat."""

    shape: tuple[int, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    dtype: str = "float32"
    own: Form | None = field(default=None, compare=False)
    parts: tuple[Part, ...] = ()  # of a Dict or a Tuple, in the order of the vector
    kind: ClassVar[str] = "box"
    choices: ClassVar[tuple[int, ...]] = ()  # none to be masked

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=int))

    @cached_property
    def picture(self) -> tuple[int, ...]:
        """The shape of the picture that its first features are, () where there is none, or several."""
        if not self.parts:
            return self.shape if len(self.shape) in (2, 3, 4) else ()
        pictures = [part.space.shape for part in self.parts if part.is_picture]
        return pictures[0] if len(pictures) == 1 else ()

    @cached_property
    def scaling(self) -> tuple[np.ndarray, np.ndarray] | None:
        """What networks take off each feature and divide by, [size] both; None where they do neither.

        Bytes become 0 to 1 by their bounds, and so does what lies in a Dict with pictures and is a
        picture or bytes.
        """
        low, high = np.array(self.low), np.array(self.high)
        scaled = np.full(self.size, self.dtype == "uint8")
        if any(part.is_picture for part in self.parts):
            each = [part.is_picture or part.space.dtype == "uint8" for part in self.parts]
            scaled |= np.repeat(each, [part.size for part in self.parts])
        scaled &= np.isfinite(low) & np.isfinite(high)
        if not scaled.any():
            return None
        return np.where(scaled, low, 0.0), np.where(scaled & (high > low), high - low, 1.0)

    def join(self, entries: Any) -> np.ndarray:
        """The vector [..., size] of a Dict's or Tuple's entries, [..., *shape] each as the env writes them.

        Raises:
            ValueError: an entry is missing, or has another shape.
        """
        columns = [part.features(part.find(entries)) for part in self.parts]
        leads = {column.shape[:-1] for column in columns}
        if len(leads) > 1:
            raise ValueError(f"the entries of obs are not equally many: {', '.join(map(str, leads))}")
        return np.concatenate(columns, -1, dtype=self.form.dtype, casting="unsafe")

    @cached_property
    def _limits(self) -> tuple[np.ndarray, np.ndarray]:
        """The least and the largest value of each element, [*form.shape], in the environment's dtype."""
        low, high = (np.array(bound).reshape(self.form.shape) for bound in (self.low, self.high))
        if self._whole:
            return np.ceil(low).clip(-WHOLE), np.floor(high).clip(max=WHOLE)
        return low.astype(self.form.dtype), high.astype(self.form.dtype)

    @cached_property
    def _whole(self) -> bool:
        return not self.form.dtype.startswith("float")

    def write(self, values: np.ndarray) -> np.ndarray:
        """Whole numbers are the nearest ones. A NaN is some value of the space, its highest if it has
        one: what has failed is the agent, and its environment should live to see others."""
        low, high = self._limits
        if self._unbounded:
            values = np.where(np.isnan(values), values.dtype.type(0), values)
        if self.own is None and values.dtype == low.dtype:
            return np.fmax(np.fmin(values, high), low)
        lead = values.shape[: values.ndim - len(self.shape)]
        values = values.reshape((*lead, *self.form.shape))
        values = np.rint(values.astype("float64")) if self._whole else values.astype(self.form.dtype)
        return np.asarray(np.fmax(np.fmin(values, high), low).astype(self.form.dtype, copy=False))

    @cached_property
    def _unbounded(self) -> bool:
        return not np.isfinite([self.low, self.high]).all()


@dataclass(frozen=True)
class Part:
    """An entry of a Dict or Tuple, however deep: the keys that lead to it, and its own space."""

    path: tuple[str | int, ...]
    space: Discrete | MultiDiscrete | Box

    @cached_property
    def name(self) -> str:
        """What it is called behind "observation": .image.0"""
        return "".join(f".{key}" for key in self.path)

    @cached_property
    def size(self) -> int:
        """Features in the vector: integers become one-hot."""
        return size(self.space)

    @cached_property
    def is_picture(self) -> bool:
        return isinstance(self.space, Box) and len(self.space.shape) in (3, 4)

    def find(self, entries: Any) -> Any:
        """Its value in an observation; ValueError where there is none."""
        try:
            for key in self.path:
                entries = entries[key]
        except (LookupError, TypeError):
            raise ValueError(f"obs has no entry {self.name}") from None
        return entries

    def features(self, value: Any) -> np.ndarray:
        """[..., size] of values [..., *shape] as the env writes them."""
        shape = self.space.form.shape
        array = np.asarray(value, self.space.form.dtype)
        lead = array.shape[: array.ndim - len(shape)]
        if array.shape != (*lead, *shape):
            raise ValueError(f"obs{self.name} has shape {array.shape}; expected {shape} or (N, *{shape})")
        values = self.space.read(array)
        if isinstance(self.space, Box):
            return values.reshape(*lead, self.size)
        if isinstance(self.space, Discrete):
            return np.asarray(values)[..., None] == np.arange(self.space.n)
        return np.concatenate(
            [values[..., i, None] == np.arange(n) for i, n in enumerate(self.space.nvec)], -1
        )


Space = Discrete | MultiDiscrete | Box


def allows(mask: np.ndarray, choices: tuple[int, ...]) -> np.ndarray:
    """Whether a mask [..., A] allows some value of each integer of an action: bool [..., integers]."""
    return np.logical_or.reduceat(mask, np.cumsum((0, *choices[:-1])), axis=-1)


def size(space: Space) -> int:
    """How many features an element has: the numbers of a box, or one-hot integers."""
    if isinstance(space, Box):
        return space.size
    return space.n if isinstance(space, Discrete) else sum(space.nvec)
