"""One question an environment, in the manner of bsuite (Osband et al., "Behaviour suite for
reinforcement learning", 2020): `Recall` asks for memory, `Catch` for reading a picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete

from rlrun.envs.vector.base import Arrays, NativeVectorEnv
from rlrun.rng import uniforms


class Recall(NativeVectorEnv):
    """A cue at the first step, a question `delay` steps later; whoever forgot it earns 0 on average.

    Observations are float32 [M, 2]: the cue (-1 or 1 at the first step, else 0), and 1 when
    asked. Only the action then counts, and ends the episode: 1 for the cue's, -1 for the
    other; or, `continuous`, for an action [M, 1] in +-1, 1 less its distance from the cue.
    """

    def __init__(self, num_envs: int, max_steps: int | None, *, delay: int, continuous: bool) -> None:
        low, high = np.array([-1.0, 0.0], np.float32), np.ones(2, np.float32)
        action = Box(-1.0, 1.0, (1,), np.float32) if continuous else Discrete(2)
        super().__init__(num_envs, Box(low, high, dtype=np.float32), action, max_steps)
        self.delay, self.continuous = delay, continuous
        self._cue = np.ones(num_envs)

    def _begin(self, rows: np.ndarray, seed: np.ndarray, options: Mapping[str, Any]) -> None:
        self._cue[rows] = np.where(uniforms(seed, np.zeros(1, np.int64)) < 0.5, -1.0, 1.0)

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        answer = np.clip(actions[:, 0], -1.0, 1.0) if self.continuous else 2.0 * actions - 1.0
        error = np.abs(answer - self._cue)
        asked = self._steps > self.delay
        return np.where(asked, 1.0 - error, 0.0), asked, {}

    def _observe(self) -> np.ndarray:
        obs = np.empty((self.num_envs, 2), np.float32)
        obs[:, 0] = np.where(self._steps == 0, self._cue, 0.0)
        obs[:, 1] = self._steps == self.delay
        return obs

    def _arrays(self) -> Arrays:
        return {"cue": self._cue}

    def render_frame(self, index: int) -> np.ndarray:
        """The cue as red (-1) or green (1), a dark field while waiting, white when asked."""
        cue, asked = self._observe()[index]
        colour = (255, 255, 255) if asked else {-1.0: (200, 60, 60), 1.0: (60, 170, 90)}.get(float(cue))
        return np.full((64, 64, 3), colour or (40, 40, 40), np.uint8)


class Catch(NativeVectorEnv):
    """A ball falls, a paddle moves left (0), stays (1) or moves right (2): 1 if it is there, else -1.

    Observations are pictures, uint8 [M, rows, columns, 1], of ball and paddle.
    """

    def __init__(self, num_envs: int, max_steps: int | None, *, rows: int, columns: int) -> None:
        picture = Box(0, 255, (rows, columns, 1), np.uint8)
        super().__init__(num_envs, picture, Discrete(3), max_steps)
        self.rows, self.columns = rows, columns
        self._ball, self._paddle = np.zeros((2, num_envs), np.int64)  # columns; the ball falls a row a step
        self._index = np.arange(num_envs)

    def _begin(self, rows: np.ndarray, seed: np.ndarray, options: Mapping[str, Any]) -> None:
        self._ball[rows] = uniforms(seed, np.zeros(1, np.int64)) * self.columns
        self._paddle[rows] = self.columns // 2

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        self._paddle[:] = np.clip(self._paddle + actions - 1, 0, self.columns - 1)
        landed = self._steps >= self.rows - 1
        caught = np.where(self._ball == self._paddle, 1.0, -1.0)
        return np.where(landed, caught, 0.0), landed, {}

    def _observe(self) -> np.ndarray:
        board = np.zeros((self.num_envs, self.rows, self.columns, 1), np.uint8)
        board[self._index, np.minimum(self._steps, self.rows - 1), self._ball] = 255
        board[self._index, -1, self._paddle] = 255
        return board

    def _arrays(self) -> Arrays:
        return {"ball": self._ball, "paddle": self._paddle}

    def render_frame(self, index: int) -> np.ndarray:
        """The observation, enlarged."""
        return np.repeat(self._observe()[index].repeat(16, 0).repeat(16, 1), 3, 2)
