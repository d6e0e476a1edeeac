"""Spaces as plain JSON data, as run.json holds them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from rlrun.spaces import Box, Discrete, Form, MultiDiscrete, Part, Space


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
    own = _form(data["own"]) if "own" in data else None
    if data["kind"] == "discrete":
        return Discrete(int(data["n"]), own)
    if data["kind"] == "multi_discrete":
        return MultiDiscrete(tuple(int(n) for n in data["nvec"]), own)
    low, high = (
        tuple(fill if x is None else float(x) for x in data[name])
        for name, fill in (("low", -np.inf), ("high", np.inf))
    )
    box = Box(tuple(int(n) for n in data["shape"]), low, high, str(data["dtype"]), own)
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


def _form(data: Mapping[str, Any]) -> Form:
    shape, start = (tuple(int(n) for n in data[name]) for name in ("shape", "start"))
    if np.dtype(str(data["dtype"])).kind not in "biuf":
        raise ValueError(f"{data['dtype']} is no type of numbers")
    return Form(shape, str(data["dtype"]), start)
