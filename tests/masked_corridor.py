"""A corridor where half of the actions are allowed, and another half in every cell.

Of the two allowed ones the later goes right, the other nowhere; a forbidden one raises. Which
they are the mask alone tells. The optimum is 6 steps: 5 of them cost 0.1, the last pays 1.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete, MultiDiscrete

CELLS, OPTIMUM = 6, 0.5


class Corridor(gymnasium.Env):
    """`obs`: box or discrete; `says` how it tells the mask: info, method, or what is wrong with it."""

    def __init__(self, obs: str = "box", says: str = "info", multi: bool = False) -> None:
        self.indices, self.says, self.multi = obs == "discrete", says, multi
        self.observation_space = Discrete(CELLS + 1) if self.indices else Box(0, 1, (CELLS + 1,), np.float32)
        self.action_space = MultiDiscrete([4, 2]) if multi else Discrete(4)
        if says == "method":
            self.action_masks = self.mask

    def mask(self) -> np.ndarray:
        mask = np.zeros(4, bool)
        mask[[self.cell % 4, (3 * self.cell + 1 + (self.cell % 4 == (3 * self.cell + 1) % 4)) % 4]] = True
        return np.concatenate([mask, [True, False]]) if self.multi else mask

    def info(self) -> dict[str, Any]:
        mask: Any = self.mask().astype(np.int8)
        if self.says == "nothing is allowed" and self.cell == 3:
            mask[:] = 0
        if self.says == "too long":
            mask = np.ones(7)
        if self.says == "not always" and self.cell == 2:
            return {}
        if self.says == "parts":
            mask = tuple(np.split(mask, [4]))
        return {} if self.says in ("method", "no") else {"action_mask": mask}

    def observe(self) -> Any:
        return self.cell if self.indices else np.eye(CELLS + 1, dtype=np.float32)[self.cell]

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.cell = 0
        return self.observe(), self.info()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        mask, action = self.mask(), np.atleast_1d(action)
        if self.says != "no":
            assert mask[action[0]] and (not self.multi or action[1] == 0), "a forbidden action"
        self.cell += int(action[0] == np.flatnonzero(mask[:4])[-1])
        end = self.cell == CELLS
        return self.observe(), 1.0 if end else -0.1, end, False, self.info()


gymnasium.register("MaskedCorridor-v0", Corridor, max_episode_steps=40)
