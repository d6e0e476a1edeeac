"""Schedules: pure functions of the env step, so there is nothing to save or restore."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from rlrun.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

Schedule = Callable[[np.ndarray], "Tensor"]  # step int64 [R] -> value [R]


def schedule(
    kind: str, start: float, end: float, steps: float, *, device: str = "cpu", dtype: str = "float32"
) -> Schedule:
    """From `start` to `end` over `steps`: "constant", "linear" or "exponential" (a fixed ratio a step)."""

    def progress(step: np.ndarray) -> np.ndarray:
        return np.minimum(step / max(steps, 1.0), 1.0)

    curves: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "constant": lambda step: np.full(step.shape, start),
        "linear": lambda step: start + (end - start) * progress(step),
        "exponential": lambda step: start * (max(end, 1e-12) / start) ** progress(step),
    }
    curve = curves[kind]
    kind_of = getattr(torch, dtype)
    return lambda step: torch.from_numpy(curve(step)).to(device=device, dtype=kind_of)
