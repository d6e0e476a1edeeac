"""Swing a pendulum up and hold it there, as in Gymnasium's Pendulum-v1."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

from rlrun.envs.abilities import Abilities
from rlrun.envs.vector.base import Arrays, NativeVectorEnv
from rlrun.lazy import torch
from rlrun.rng import uniforms

if TYPE_CHECKING:
    from torch import Tensor

MAX_SPEED, MAX_TORQUE, TAU, GRAVITY = 8.0, 2.0, 0.05, 10.0


class Pendulum(NativeVectorEnv):
    """A torque [M, 1] in +-2, or one of `n_torques` evenly spaced ones by index [M].

    Observations are float32 [M, 3]: cos and sin of the angle (0 is up), angular velocity;
    or [M, 2], without `velocities`.
    The reward, at most 0, judges the state before the step. It never terminates.
    """

    def __init__(
        self, num_envs: int, max_steps: int | None, *, velocities: bool, n_torques: int | None
    ) -> None:
        high = np.array([1.0, 1.0, MAX_SPEED] if velocities else [1.0, 1.0], np.float32)
        action = Discrete(n_torques) if n_torques else Box(-MAX_TORQUE, MAX_TORQUE, (1,), np.float32)
        super().__init__(num_envs, Box(-high, high, dtype=np.float32), action, max_steps)
        self.torques = None
        if n_torques:
            self.torques = np.linspace(-MAX_TORQUE, MAX_TORQUE, n_torques, dtype=np.float32)
        laws = partial(_dynamics, torques=self.torques) if velocities else None
        self.abilities = Abilities(dynamics=laws)
        self._columns = len(high)
        self._state = np.zeros((2, num_envs))
        self._theta, self._speed = self._state
        self._torque = np.zeros(num_envs, np.float32)  # the latest, to draw it

    def _begin(self, rows: np.ndarray, seed: np.ndarray, options: Mapping[str, Any]) -> None:
        high = np.array([[np.pi], [1.0]])
        self._state[:, rows] = high * (2.0 * uniforms(seed, np.arange(2)[:, None]) - 1.0)
        self._torque[rows] = 0.0

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        # The torque's own terms are float32, as Gymnasium's are, so that the states are its very bits.
        self._torque[:] = _torque(actions, self.torques)
        self._theta[:], self._speed[:], reward = _swing(np, self._theta, self._speed, self._torque)
        return reward, self._never, {}

    def _observe(self) -> np.ndarray:
        obs = np.empty((self.num_envs, self._columns), np.float32)
        obs[:, 0] = np.cos(self._theta)
        obs[:, 1] = np.sin(self._theta)
        obs[:, 2:] = self._speed[:, None]  # where there is a column for it
        return obs

    def _arrays(self) -> Arrays:
        return {"physics": self._state.T, "torque": self._torque}

    def _renderer(self) -> gymnasium.Env:
        return gymnasium.make("Pendulum-v1", render_mode="rgb_array")

    def _pose(self, renderer: Any, index: int) -> None:
        renderer.state = self._state[:, index]
        renderer.last_u = float(self._torque[index])


def _torque(actions: Any, torques: Any) -> Any:
    """What actions [..., 1], or indices [...] of `torques`, do: [...]."""
    return actions[..., 0].clip(-MAX_TORQUE, MAX_TORQUE) if torques is None else torques[actions]


def _swing(xp: Any, theta: Any, speed: Any, torque: Any) -> tuple[Any, Any, Any]:
    """Angle and speed [...] one step later, and the reward; `xp` is the arrays' module, numpy or torch."""
    angle = (theta + np.pi) % (2.0 * np.pi) - np.pi
    cost = xp.square(angle) + 0.1 * xp.square(speed) + 0.001 * xp.square(torque)
    speed = speed + (3.0 * GRAVITY / 2.0 * xp.sin(theta) + 3.0 * torque) * TAU
    speed = speed.clip(-MAX_SPEED, MAX_SPEED)
    return theta + speed * TAU, speed, -cost


def _dynamics(obs: Tensor, action: Tensor, *, torques: np.ndarray | None) -> tuple[Tensor, Tensor, Tensor]:
    """The pendulum's `core.Dynamics`: the observation tells the state."""
    cos, sin, speed = obs.unbind(-1)
    levels = None if torques is None else torch.as_tensor(torques, dtype=obs.dtype, device=obs.device)
    theta, speed, reward = _swing(torch, torch.atan2(sin, cos), speed, _torque(action, levels))
    never = torch.zeros_like(reward, dtype=torch.bool)
    return torch.stack((theta.cos(), theta.sin(), speed), -1), reward, never
