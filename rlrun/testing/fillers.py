"""An environment with steps that do not count, to see who counts them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rlrun import envs


class Fillers:
    """A vector env without autoreset as one that begins anew by a step of its own (`NextStep`).

    That step is no transition: whatever reward it seems to bring, here `noise`, is not to be learned
    from. `filled` counts such steps.
    """

    def __init__(self, env: Any, noise: float) -> None:
        self._env, self._noise, self.filled = env, noise, 0
        self.num_envs, self.abilities = env.num_envs, envs.abilities(env)
        self.single_observation_space = env.single_observation_space
        self.single_action_space = env.single_action_space
        self.metadata = {"autoreset_mode": "NextStep"}
        self._ended = np.zeros(env.num_envs, bool)

    def reset(self, *, seed: Any, options: Mapping[str, Any]) -> Any:
        self._ended[:] = False
        self._options = dict(options)
        return self._env.reset(seed=np.array(seed, np.uint64), options=self._options)

    def step(self, actions: np.ndarray) -> Any:
        obs, reward, terminated, truncated, info = self._env.step(actions)
        begins = self._ended
        self._ended = (terminated | truncated) & ~begins
        if begins.any():
            self.filled += int(begins.sum())
            obs, _ = self._env.reset(options=self._options | {"reset_mask": begins})
        return obs, np.where(begins, self._noise, reward), terminated & ~begins, truncated & ~begins, info
