"""Schedules: pure functions of the env step, so there is nothing to save or restore."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Number = float | np.ndarray
Schedule = Callable[[np.ndarray], np.ndarray]  # step int64 [R] -> value float64 [R]


def schedule(kind: str, start: Number, end: Number, steps: Number) -> Schedule:
    """From `start` to `end` over `steps`: "constant", "linear" or "exponential" (a fixed ratio a step).

    Each of them is a number, or one for every replica [R].
    """

    # As arrays: NumPy is twice as quick with them as with Python's numbers.
    scale, one, first, rise = (np.array(k) for k in (1.0 / np.maximum(steps, 1.0), 1.0, start, end - start))

    def progress(step: np.ndarray) -> np.ndarray:
        return np.minimum(step * scale, one)

    curves: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "constant": lambda step: np.full(step.shape, start),
        "linear": lambda step: first + rise * progress(step),
        "exponential": lambda step: start * (np.maximum(end, 1e-12) / start) ** progress(step),
    }
    return curves[kind]
