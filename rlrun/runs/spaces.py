"""Spaces as plain JSON data, as run.json holds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from rlrun.spaces import Box, Discrete, Form, MultiDiscrete, Space


def to_dict(space: Space) -> dict[str, Any]:
    """JSON data, the kind first; `own` is how the env writes the values, where that differs."""
    return {"kind": space.kind} | {
        k: [_bound(x) for x in v] if k in ("low", "high") else v
        for k, v in asdict(space).items()
        if v is not None
    }


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
    return Box(tuple(int(n) for n in data["shape"]), low, high, str(data["dtype"]), own)


def _form(data: Mapping[str, Any]) -> Form:
    shape, start = (tuple(int(n) for n in data[name]) for name in ("shape", "start"))
    if np.dtype(str(data["dtype"])).kind not in "biuf":
        raise ValueError(f"{data['dtype']} is no type of numbers")
    return Form(shape, str(data["dtype"]), start)
