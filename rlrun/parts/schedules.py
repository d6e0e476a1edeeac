"""Schedules: pure functions of the env step, so there is nothing to save or restore."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Schedule = Callable[[np.ndarray], np.ndarray]  # step int64 [R] -> value float64 [R]


def schedule(kind: str, start: float, end: float, steps: float) -> Schedule:
    """From `start` to `end` over `steps`: "constant", "linear" or "exponential" (a fixed ratio a step)."""

    # As arrays: NumPy is twice as quick with them as with Python's numbers.
    scale, one, first, rise = (np.array(k) for k in (1.0 / max(steps, 1.0), 1.0, start, end - start))

    def progress(step: np.ndarray) -> np.ndarray:
        return np.minimum(step * scale, one)

    curves: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "constant": lambda step: np.full(step.shape, start),
        "linear": lambda step: first + rise * progress(step),
        "exponential": lambda step: start * (max(end, 1e-12) / start) ** progress(step),
    }
    return curves[kind]
