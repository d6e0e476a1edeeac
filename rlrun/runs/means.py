"""Means of what is recorded, over the updates since the last record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from rlrun.lazy import torch
from rlrun.state import State

if TYPE_CHECKING:
    from torch import Tensor


class Means:
    """Running means of metrics between records, per replica."""

    def __init__(self, replicas: int) -> None:
        self._replicas = replicas
        self._sums: dict[tuple[str, ...], np.ndarray] = {}  # [tags, R], float64
        self._counts: dict[tuple[str, ...], np.ndarray] = {}  # [R]

    def add(self, metrics: Mapping[str, Tensor]) -> np.ndarray | None:
        """Add one update's metrics; which replicas [R] had one that is not finite, or None."""
        tags = tuple(metrics)
        values = torch.stack(tuple(metrics.values())).cpu().numpy()  # [tags, R]
        if tags not in self._sums:
            self._sums[tags] = np.zeros(values.shape)
            self._counts[tags] = np.zeros(self._replicas, np.int64)
        finite = np.isfinite(values)
        if np.count_nonzero(finite) == finite.size:
            self._sums[tags] += values
            self._counts[tags] += 1
            return None
        healthy = finite.all(0)
        self._sums[tags] += np.where(healthy, values, 0.0)
        self._counts[tags] += healthy
        return ~healthy

    def take(self, due: np.ndarray) -> dict[str, np.ndarray]:
        """Means [R] by tag, NaN where there is nothing; the sums of `due` [R] begin anew."""
        totals: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # a tag may be in several sets
        for tags, sums in self._sums.items():
            for tag, total in zip(tags, sums, strict=True):
                before = totals.get(tag, (0.0, 0))
                totals[tag] = before[0] + total, before[1] + self._counts[tags]
            sums[:, due] = 0.0
            self._counts[tags] = np.where(due, 0, self._counts[tags])
        with np.errstate(invalid="ignore", divide="ignore"):
            return {tag: total / count for tag, (total, count) in totals.items()}

    def state(self) -> State:
        out: State = {}
        for tags, sums in self._sums.items():
            out[f"{json.dumps(tags)}|sum"] = torch.from_numpy(sums.T.copy())
            out[f"{json.dumps(tags)}|count"] = torch.from_numpy(self._counts[tags].copy())
        return out

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        for name, value in state.items():
            packed, _, kind = name.rpartition("|")
            tags = tuple(json.loads(packed) if packed[0] == "[" else packed.split("|"))  # as before 0.2
            if kind == "sum":
                self._sums[tags] = value.numpy().T.copy()
            else:
                self._counts[tags] = value.numpy().copy()
