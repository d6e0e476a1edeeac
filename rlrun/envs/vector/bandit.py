"""The k-armed testbed of Sutton and Barto, "Reinforcement Learning" (2018), section 2.3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.spaces import Discrete

from rlrun.envs.vector.base import Arrays, NativeVectorEnv, normals


class Bandit(NativeVectorEnv):
    """Arms with normal rewards, their means drawn anew for each episode; it never terminates.

    Every step reports `regret` (the best arm's mean less the chosen one's) and `optimal`
    (1 where the chosen arm's mean is the best).
    """

    metrics = ("regret", "optimal")

    def __init__(
        self, num_envs: int, max_steps: int | None, *, arms: int, mean: float, spread: float, noise: float
    ) -> None:
        super().__init__(num_envs, Discrete(1), Discrete(arms), max_steps)
        self.arms, self.mean, self.spread, self.noise = arms, mean, spread, noise
        self._means = np.zeros((num_envs, arms))
        self._best = np.zeros(num_envs)
        self._rows = np.arange(num_envs)

    def _begin(self, rows: np.ndarray, seed: np.ndarray, options: Mapping[str, Any]) -> None:
        self._means[rows] = self.mean + self.spread * normals(seed[:, None], np.arange(self.arms))
        self._best[rows] = self._means[rows].max(1)

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        chosen = self._means[self._rows, actions]
        reward = chosen + self.noise * normals(self._seed, self.arms + self._steps)
        regret = self._best - chosen
        return reward, self._never, {"regret": regret, "optimal": (regret == 0.0).astype(float)}

    def _observe(self) -> np.ndarray:
        return np.zeros(self.num_envs, np.int64)

    def _arrays(self) -> Arrays:
        return {"means": self._means, "best": self._best}
