"""The cart and pole of Barto, Sutton and Anderson (1983), as in Gymnasium's CartPole-v1."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

from rlrun.envs.vector.base import Arrays, NativeVectorEnv, constant
from rlrun.lazy import torch
from rlrun.rng import uniforms

if TYPE_CHECKING:
    from torch import Tensor

X_LIMIT = 2.4
THETA_LIMIT = 12 * 2 * math.pi / 360
START = 0.05  # an episode begins with all four numbers within +- this

GRAVITY, POLE_MASS, HALF_LENGTH, TAU = 9.8, 0.1, 0.5, 0.02
TOTAL_MASS = POLE_MASS + 1.0
POLE_MOMENT = POLE_MASS * HALF_LENGTH

_FORCES = np.array([-10.0, 10.0])


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
        self.dynamics = _dynamics if velocities else None
        self._state = np.zeros((4, num_envs))
        self._rows = tuple(self._state)
        self._visible = self._state.T if velocities else self._state[0::2].T
        self._reward = constant(1.0, num_envs)
        self.shapings = {"centering": self._centering}

    def _begin(self, rows: np.ndarray, seed: np.ndarray, options: Mapping[str, Any]) -> None:
        self._state[:, rows] = START * (2.0 * uniforms(seed, np.arange(4)[:, None]) - 1.0)

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        for row, after in zip(self._rows, _move(np, self._rows, _FORCES.take(actions)), strict=True):
            row[:] = after
        return self._reward, _fallen(self._rows), {}

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


def _move(xp: Any, state: Any, force: Any) -> tuple[Any, Any, Any, Any]:
    """The four numbers of `state`, [...] each, one step later; `xp` is their module, numpy or torch.

    The order of operations is Gymnasium's, so that the results are its very bits.
    """
    x, x_dot, theta, theta_dot = state
    sin, cos = xp.sin(theta), xp.cos(theta)
    push = (force + POLE_MOMENT * xp.square(theta_dot) * sin) / TOTAL_MASS
    theta_acc = (GRAVITY * sin - cos * push) / (
        HALF_LENGTH * (4.0 / 3.0 - POLE_MASS * xp.square(cos) / TOTAL_MASS)
    )
    x_acc = push - POLE_MOMENT * theta_acc * cos / TOTAL_MASS
    return x + TAU * x_dot, x_dot + TAU * x_acc, theta + TAU * theta_dot, theta_dot + TAU * theta_acc


def _fallen(state: Any) -> Any:
    x, _, theta, _ = state
    return (abs(x) > X_LIMIT) | (abs(theta) > THETA_LIMIT)


def _dynamics(obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The cart and pole's `core.Dynamics`: the observation is the state."""
    state = _move(torch, obs.unbind(-1), torch.as_tensor(_FORCES, dtype=obs.dtype, device=obs.device)[action])
    return torch.stack(state, -1), torch.ones_like(state[0]), _fallen(state)
