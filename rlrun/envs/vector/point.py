"""Go to a goal on a square and stay there.

Every episode is as long as any other, so a reward's sign alone makes nobody stay alive or
give up: what an imitator does here, it has learned from what its expert did (Kostrikov et
al., "Discriminator-actor-critic", 2019, on the bias of episodes that end).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete

from rlrun.envs.vector.base import Arrays, NativeVectorEnv
from rlrun.rng import uniforms

SPEED = 0.1  # of a step at full velocity
MOVES = np.array([[0, 0], [1, 0], [0, 1], [-1, 0], [0, -1]], np.float64)


class Point(NativeVectorEnv):
    """A velocity [M, 2] in +-1, or a move by index [M]; observations are positions, float32 [M, 2].

    The reward is minus the distance to the goal after the step. It never terminates.
    """

    def __init__(self, num_envs: int, max_steps: int | None, *, goal: Sequence[float], moves: bool) -> None:
        action = Discrete(len(MOVES)) if moves else Box(-1.0, 1.0, (2,), np.float32)
        super().__init__(num_envs, Box(-1.0, 1.0, (2,), np.float32), action, max_steps)
        self.goal, self.moves = np.array(goal, np.float64), moves
        self._place = np.zeros((num_envs, 2))

    def _begin(self, rows: np.ndarray, seed: np.ndarray, options: Mapping[str, Any]) -> None:
        self._place[rows] = 2.0 * uniforms(seed[:, None], np.arange(2)) - 1.0

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        velocity = MOVES[actions] if self.moves else np.clip(actions, -1.0, 1.0)
        self._place[:] = np.clip(self._place + SPEED * velocity, -1.0, 1.0)
        return -np.linalg.norm(self._place - self.goal, axis=1), self._never, {}

    def _observe(self) -> np.ndarray:
        return self._place.astype(np.float32)

    def _arrays(self) -> Arrays:
        return {"place": self._place}

    def render_frame(self, index: int) -> np.ndarray:
        """The square from above, uint8 [240, 240, 3]: the goal green, the point dark."""
        axis = np.linspace(-1.1, 1.1, 240)
        pixels = np.stack(np.meshgrid(axis, -axis), -1)
        picture = np.full((240, 240, 3), 255, np.uint8)
        picture[(np.abs(pixels) > 1.0).any(-1)] = 200
        for place, colour in ((self.goal, (120, 200, 120)), (self._place[index], (40, 40, 60))):
            picture[np.linalg.norm(pixels - place, axis=-1) < 0.08] = colour
        return picture
