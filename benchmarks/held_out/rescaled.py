"""`Rescaled-v0`: any Gymnasium task with its observations in other units."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np


class Rescaled(gym.ObservationWrapper):
    """Observations times `factor`, plus `shift`."""

    def __init__(self, task: str, factor: float, shift: float) -> None:
        super().__init__(gym.make(task))
        self.factor, self.shift = np.float32(factor), np.float32(shift)
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, self.env.observation_space.shape, np.float32)

    def observation(self, observation: Any) -> np.ndarray:
        return np.asarray(observation, np.float32) * self.factor + self.shift


gym.register("Rescaled-v0", Rescaled)
