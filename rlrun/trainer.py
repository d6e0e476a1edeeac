"""The one loop. It drives every algorithm and knows none."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from rlrun.core import Algorithm

if TYPE_CHECKING:
    from torch import Tensor

    from rlrun.collector import Collector


class Clock:
    """How far each replica is, int64 [R], and which still run, bool [R].

    A step is one valid env step, or one update for an algorithm that never acts.
    """

    def __init__(self, replicas: int, total_steps: int) -> None:
        self.total_steps = total_steps
        self.step = np.zeros(replicas, np.int64)
        self.active = np.ones(replicas, bool)
        self.updates = 0

    def advance(self, taken: np.ndarray) -> None:
        """Count one update, and the steps [R] taken before it."""
        self.step = self.step + taken * self.active
        self.active = self.active & (self.step < self.total_steps)
        self.updates += 1


def train(
    algo: Algorithm,
    collector: Collector,
    clock: Clock,
    on_step: Callable[[Clock, dict[str, Tensor]], None],
) -> None:
    """Collect, update, advance, report; until every replica has ended."""
    while np.count_nonzero(clock.active):
        rollout = collector.collect(algo, algo.rollout_steps, clock.step)
        metrics = algo.update(rollout, step=clock.step)
        clock.advance(collector.taken)
        on_step(clock, metrics)
