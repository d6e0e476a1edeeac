"""Swing two links up by a torque at the joint between them (Sutton, 1996), as in Gymnasium's Acrobot-v1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

from rlrun.envs.vector.base import Arrays, NativeVectorEnv
from rlrun.rng import uniforms

TAU, GRAVITY = 0.2, 9.8
LENGTH, CENTER, MASS, INERTIA = 1.0, 0.5, 1.0, 1.0  # of either link; CENTER: joint to centre of mass
START = 0.1  # an episode begins with all four numbers within +- this
MAX_SPEEDS = np.array([[4.0 * np.pi], [9.0 * np.pi]])


class Acrobot(NativeVectorEnv):
    """Torque -1 (0), none (1) or +1 (2); reward -1 a step until the tip is one link above the base.

    Observations are float32 [M, 6]: cos and sin of the first link's angle (0 hangs down), of
    the second's relative to it, and both angular velocities.
    """

    def __init__(self, num_envs: int, max_steps: int | None) -> None:
        high = np.array([1.0, 1.0, 1.0, 1.0, *MAX_SPEEDS[:, 0]], np.float32)
        super().__init__(num_envs, Box(-high, high, dtype=np.float32), Discrete(3), max_steps)
        self._state = np.zeros((4, num_envs))
        self._angles, self._speeds = self._state[:2], self._state[2:]

    def _begin(self, rows: np.ndarray, seed: np.ndarray, options: Mapping[str, Any]) -> None:
        self._state[:, rows] = START * (2.0 * uniforms(seed, np.arange(4)[:, None]) - 1.0)

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        torque, state = actions - 1.0, self._state
        # One step of the classic Runge-Kutta method.
        k1 = _derivative(state, torque)
        k2 = _derivative(state + TAU / 2.0 * k1, torque)
        k3 = _derivative(state + TAU / 2.0 * k2, torque)
        k4 = _derivative(state + TAU * k3, torque)
        state += TAU / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4)
        self._angles -= 2.0 * np.pi * np.round(self._angles / (2.0 * np.pi))  # within +- pi
        np.clip(self._speeds, -MAX_SPEEDS, MAX_SPEEDS, out=self._speeds)
        first, second = self._angles
        up = -np.cos(first) - np.cos(first + second) > 1.0
        return np.where(up, 0.0, -1.0), up, {}

    def _observe(self) -> np.ndarray:
        obs = np.empty((self.num_envs, 6), np.float32)
        obs[:, 0:4:2], obs[:, 1:4:2] = np.cos(self._angles).T, np.sin(self._angles).T
        obs[:, 4:] = self._speeds.T
        return obs

    def _arrays(self) -> Arrays:
        return {"physics": self._state.T}

    def _renderer(self) -> gymnasium.Env:
        return gymnasium.make("Acrobot-v1", render_mode="rgb_array")

    def _pose(self, renderer: Any, index: int) -> None:
        renderer.state = self._state[:, index]


def _derivative(state: np.ndarray, torque: np.ndarray) -> np.ndarray:
    """d/dt of (angle 1, angle 2, speed 1, speed 2) [4, M], by the equations of Sutton and Barto's book."""
    angle1, angle2, speed1, speed2 = state
    cos, sin = np.cos(angle2), np.sin(angle2)
    d1 = MASS * (2.0 * CENTER**2 + LENGTH**2 + 2.0 * LENGTH * CENTER * cos) + 2.0 * INERTIA
    d2 = MASS * (CENTER**2 + LENGTH * CENTER * cos) + INERTIA
    phi2 = MASS * CENTER * GRAVITY * np.sin(angle1 + angle2)
    phi1 = phi2 + MASS * (
        (CENTER + LENGTH) * GRAVITY * np.sin(angle1)
        - LENGTH * CENTER * sin * (np.square(speed2) + 2.0 * speed1 * speed2)
    )
    coriolis = MASS * LENGTH * CENTER * sin * np.square(speed1)
    acceleration2 = (torque + d2 / d1 * phi1 - coriolis - phi2) / (
        MASS * CENTER**2 + INERTIA - np.square(d2) / d1
    )
    acceleration1 = -(d2 * acceleration2 + phi1) / d1
    return np.stack((speed1, speed2, acceleration1, acceleration2))
