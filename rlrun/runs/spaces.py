"""Spaces as plain JSON data, as run.json holds them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from rlrun.spaces import Box, Discrete, Form, MultiDiscrete, Part, Space

_INTEGERS = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
_DTYPES = ("float16", "float32", "float64", "bool", *_INTEGERS)


def to_dict(space: Space) -> dict[str, Any]:
    """JSON data, the kind first.

    `own` is how the env writes the values, where that differs; `parts` are the entries of a Dict, whose
    bounds are those of the vector.
    """
    data: dict[str, Any] = {"kind": space.kind} | {
        k: [_bound(x) for x in v] if k in ("low", "high") else v
        for k, v in asdict(space).items()
        if v is not None and k != "parts"
    }
    if isinstance(space, Box) and space.parts:
        data["parts"] = [
            {"path": list(part.path)}
            | {k: v for k, v in to_dict(part.space).items() if k not in ("low", "high")}
            for part in space.parts
        ]
    return data


def _bound(value: float) -> float | None:
    return value if np.isfinite(value) else None  # JSON has no infinity


def from_dict(data: Mapping[str, Any]) -> Space:
    """The space that `to_dict` made `data` from; KeyError, TypeError or ValueError if it is none."""
    elements = {"discrete": 1, "multi_discrete": len(data.get("nvec", ()))}.get(
        data["kind"], math.prod(data.get("shape", ()))
    )
    own = _form(data["own"], elements) if "own" in data else None
    if data["kind"] == "discrete":
        return Discrete(_sizes([data["n"]])[0], own)
    if data["kind"] == "multi_discrete":
        return MultiDiscrete(_sizes(data["nvec"]), own)
    if data["kind"] != "box":
        raise ValueError(f"there is no space {data['kind']}")
    shape, dtype = _sizes(data["shape"]), str(data["dtype"])
    low, high = (
        tuple(fill if x is None else float(x) for x in data[name])
        for name, fill in (("low", -np.inf), ("high", np.inf))
    )
    if dtype not in _DTYPES or not len(low) == len(high) == math.prod(shape) > 0:
        raise ValueError(f"a box of {dtype} {list(shape)[:8]} has {len(low)} and {len(high)} bounds")
    box = Box(shape, low, high, dtype, own)
    return replace(box, parts=tuple(_parts(data["parts"], low, high))) if "parts" in data else box


def _parts(
    entries: Sequence[Mapping[str, Any]], low: Sequence[float], high: Sequence[float]
) -> Iterator[Part]:
    begin = 0
    for entry in entries:
        path = tuple(key if isinstance(key, int) else str(key) for key in entry["path"])
        end = begin + math.prod(entry.get("shape", ()))
        part = Part(path, from_dict({**entry, "low": low[begin:end], "high": high[begin:end]}))
        begin += part.size
        yield part
    if begin != len(low):
        raise ValueError(f"its parts have {begin} features, and it has {len(low)}")


def _form(data: Mapping[str, Any], elements: int) -> Form:
    """How an environment writes the values of a space of so many elements."""
    shape, dtype = _sizes(data["shape"]), str(data["dtype"])
    start = tuple(int(n) for n in data["start"])
    if dtype not in _DTYPES or math.prod(shape) != elements or len(start) not in (0, elements):
        raise ValueError(f"a space of {elements} elements is not written as {dtype} {list(shape)[:8]}")
    return Form(shape, dtype, start)


def _sizes(numbers: Any) -> tuple[int, ...]:
    """Numbers of elements; at least 1 each, and no more in all than an integer of 32 bits counts."""
    sizes = tuple(numbers)
    if not all(type(n) is int and n > 0 for n in sizes) or sum(sizes) >= 2**31:
        raise ValueError(f"a space has {str(sizes[:8])[:80]} elements")
    return sizes
