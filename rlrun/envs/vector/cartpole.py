"""The cart and pole of Barto, Sutton and Anderson (1983), as in Gymnasium's CartPole-v1."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

from rlrun.envs.vector.base import Arrays, NativeVectorEnv, constant
from rlrun.rng import uniforms

X_LIMIT = 2.4
THETA_LIMIT = 12 * 2 * math.pi / 360
START = 0.05  # an episode begins with all four numbers within +- this

GRAVITY, POLE_MASS, HALF_LENGTH, TAU = 9.8, 0.1, 0.5, 0.02
TOTAL_MASS = POLE_MASS + 1.0
POLE_MOMENT = POLE_MASS * HALF_LENGTH

_FORCES = np.array([-10.0, 10.0])
_LIMITS = np.array([[X_LIMIT], [THETA_LIMIT]])


class CartPole(NativeVectorEnv):
    """Push left (0) or right (1) to keep the pole up; reward 1 a step, the last included.

    Observations are float32 [M, 4] (x, velocity, angle, angular velocity), or [M, 2]
    (x, angle) without `velocities`.
    """

    def __init__(self, num_envs: int, max_steps: int | None, *, velocities: bool) -> None:
        high = np.array([2 * X_LIMIT, np.inf, 2 * THETA_LIMIT, np.inf], np.float32)
        if not velocities:
            high = high[::2]
        super().__init__(num_envs, Box(-high, high, dtype=np.float32), Discrete(2), max_steps)
        self._state = np.zeros((4, num_envs))
        _, self._x_dot, self._theta, self._theta_dot = self._state
        self._position, self._velocity = self._state[0::2], self._state[1::2]
        self._visible = self._state.T if velocities else self._position.T
        self._reward = constant(1.0, num_envs)
        self.shapings = {"centering": self._centering}

    def _begin(self, rows: np.ndarray, seed: np.ndarray, options: Mapping[str, Any]) -> None:
        self._state[:, rows] = START * (2.0 * uniforms(seed, np.arange(4)[:, None]) - 1.0)

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        # The order of operations is Gymnasium's, so that the results are its very bits.
        force = _FORCES.take(actions)
        sin, cos = np.sin(self._theta), np.cos(self._theta)
        push = (force + POLE_MOMENT * np.square(self._theta_dot) * sin) / TOTAL_MASS
        theta_acc = (GRAVITY * sin - cos * push) / (
            HALF_LENGTH * (4.0 / 3.0 - POLE_MASS * np.square(cos) / TOTAL_MASS)
        )
        x_acc = push - POLE_MOMENT * theta_acc * cos / TOTAL_MASS
        self._position += TAU * self._velocity
        self._x_dot += TAU * x_acc
        self._theta_dot += TAU * theta_acc
        x_out, theta_out = np.abs(self._position) > _LIMITS
        return self._reward, x_out | theta_out, {}

    def _observe(self) -> np.ndarray:
        return self._visible.astype(np.float32, order="C")

    def _arrays(self) -> Arrays:
        return {"physics": self._state.T}

    def _centering(self, reward: Any, obs: Any, action: Any, next_obs: Any) -> Any:
        """At most 0.7, where cart and pole stand in the middle."""
        x, theta = next_obs[..., 0], next_obs[..., next_obs.shape[-1] // 2]
        return ((X_LIMIT - abs(x)) / X_LIMIT - 0.8) + ((THETA_LIMIT - abs(theta)) / THETA_LIMIT - 0.5)

    def _renderer(self) -> gymnasium.Env:
        return gymnasium.make("CartPole-v1", render_mode="rgb_array")

    def _pose(self, renderer: Any, index: int) -> None:
        renderer.state = self._state[:, index]
