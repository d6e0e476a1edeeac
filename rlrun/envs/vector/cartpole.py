"""The cart and pole of Barto, Sutton and Anderson (1983), as in Gymnasium's CartPole-v1."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

from rlrun.envs.abilities import Abilities
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
_LIMITS = np.array([[X_LIMIT], [THETA_LIMIT]])
# NumPy is twice as quick with these as with Python's numbers.
_CONSTANTS = tuple(np.array(k) for k in (GRAVITY, POLE_MASS, HALF_LENGTH, TOTAL_MASS, POLE_MOMENT, 4.0 / 3.0))
_TAU = np.array(TAU)


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
        self._change = np.zeros_like(self._state)
        self._rates = self._state[1::2], self._change[0::2]  # positions change by velocities
        self._positions = self._state[0::2]
        self._visible = self._state.T if velocities else self._state[0::2].T
        self._reward = constant(1.0, num_envs)
        laws = _dynamics if velocities else None
        self.abilities = Abilities(dynamics=laws, shapings={"centering": self._centering})

    def _begin(self, rows: np.ndarray, seed: np.ndarray, options: Mapping[str, Any]) -> None:
        self._state[:, rows] = START * (2.0 * uniforms(seed, np.arange(4)[:, None]) - 1.0)

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        state, change = self._state, self._change
        velocities, of_positions = self._rates
        of_positions[:] = velocities
        change[1], change[3] = _accelerate(np, state[2], state[3], _FORCES.take(actions), _CONSTANTS)
        change *= _TAU
        state += change
        x_out, theta_out = np.abs(self._positions) > _LIMITS
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


def _accelerate(xp: Any, theta: Any, theta_dot: Any, force: Any, constants: Any) -> tuple[Any, Any]:
    """Of the cart and of the pole's angle, [...] each; `xp` is the arrays' module, numpy or torch.

    The order of operations is Gymnasium's, so that the results are its very bits.
    """
    gravity, pole_mass, half_length, total_mass, pole_moment, four_thirds = constants
    sin, cos = xp.sin(theta), xp.cos(theta)
    push = (force + pole_moment * xp.square(theta_dot) * sin) / total_mass
    theta_acc = (gravity * sin - cos * push) / (
        half_length * (four_thirds - pole_mass * xp.square(cos) / total_mass)
    )
    return push - pole_moment * theta_acc * cos / total_mass, theta_acc


def _dynamics(obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The cart and pole's `core.Dynamics`: the observation is the state."""
    x, x_dot, theta, theta_dot = obs.unbind(-1)
    force = torch.as_tensor(_FORCES, dtype=obs.dtype, device=obs.device)[action]
    x_acc, theta_acc = _accelerate(torch, theta, theta_dot, force, [float(k) for k in _CONSTANTS])
    x, theta = x + TAU * x_dot, theta + TAU * theta_dot
    state = torch.stack((x, x_dot + TAU * x_acc, theta, theta_dot + TAU * theta_acc), -1)
    return state, torch.ones_like(x), (abs(x) > X_LIMIT) | (abs(theta) > THETA_LIMIT)
