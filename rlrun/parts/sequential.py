"""Replay in order of time: a minibatch is one stretch of an env's steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rlrun.parts.replay import Replay

if TYPE_CHECKING:
    from rlrun.rng import Stream


class SequentialReplay(Replay):
    """Draws one stretch of time for each minibatch: sequence b + 1 learns on where b ends.

    The stretch begins at a random step of one env, and goes on `stride` rows a sequence,
    the steps that each is learned from; at the newest row it continues at the oldest.
    """

    def __init__(self, capacity: int, num_envs: int, stride: int) -> None:
        super().__init__(capacity, num_envs)
        self.stride = stride

    def _begin(self, batch_size: int, length: int, rng: Stream) -> np.ndarray:
        row, env = np.divmod(super()._begin(1, length, rng), self.num_envs)
        row = (row + self.stride * np.arange(batch_size)) % (self.size - length + 1)
        return row * self.num_envs + env
