"""The pendulum's 200 steps solved on a grid: what no planner can beat by much.

Backward induction over (angle, speed) with linear interpolation, one value table a step, and
play by a look-ahead of one true step into them. NumPy and SciPy only.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from rlrun.envs.vector.pendulum import MAX_SPEED, MAX_TORQUE, Pendulum
from rlrun.rng import child, keys

STEPS, ANGLES, SPEEDS, TORQUES = 200, 480, 401, 21


def grid_states() -> np.ndarray:
    """Angle and speed [2, ANGLES * SPEEDS] of every cell."""
    angles = np.linspace(-np.pi, np.pi, ANGLES, endpoint=False)
    return np.stack(np.meshgrid(angles, np.linspace(-MAX_SPEED, MAX_SPEED, SPEEDS), indexing="ij")).reshape(
        2, -1
    )


def torques() -> np.ndarray:
    """[TORQUES, 1], float32 as the env has them."""
    return np.linspace(-MAX_TORQUE, MAX_TORQUE, TORQUES, dtype=np.float32)[:, None]


def outcomes(states: np.ndarray) -> tuple[np.ndarray, csr_matrix]:
    """For states [2, S]: rewards [TORQUES, S], and the matrix that reads a value table after each step."""
    env = Pendulum(TORQUES * states.shape[1], None, velocities=True, n_torques=None)
    physics = np.tile(states, TORQUES).T
    env.load_state(env.state() | {"physics": physics})
    reward = env.step(np.repeat(torques(), states.shape[1], 0))[1]
    theta, speed = env.state()["physics"].T
    row, column = (theta + np.pi) / (2 * np.pi) * ANGLES, (speed / MAX_SPEED + 1.0) / 2.0 * (SPEEDS - 1)
    i, j = np.floor(row).astype(int), np.minimum(np.floor(column).astype(int), SPEEDS - 2)
    a, b = row - i, column - j
    corners = [((i + di) % ANGLES) * SPEEDS + j + dj for di in (0, 1) for dj in (0, 1)]
    weights = [(a if di else 1 - a) * (b if dj else 1 - b) for di in (0, 1) for dj in (0, 1)]
    start = np.arange(0, 4 * len(reward) + 1, 4)
    matrix = (np.stack(weights, -1).ravel(), np.stack(corners, -1).ravel(), start)
    return reward.reshape(TORQUES, -1), csr_matrix(matrix, (len(reward), ANGLES * SPEEDS))


@cache
def values() -> np.ndarray:
    """The best return of the steps that are left, [STEPS + 1 steps left, cells], float32."""
    reward, ahead = outcomes(grid_states())
    table = np.zeros((STEPS + 1, reward.shape[1]), np.float32)
    for left in range(1, STEPS + 1):
        table[left] = (reward + (ahead @ table[left - 1].astype(float)).reshape(reward.shape)).max(0)
    return table


def solved(states: np.ndarray) -> np.ndarray:
    """Returns [M] of acting by the tables in the true env, from states [M, 2]."""
    env = Pendulum(len(states), None, velocities=True, n_torques=None)
    env.load_state(env.state() | {"physics": states})
    total = np.zeros(len(states))
    for left in range(STEPS, 0, -1):
        reward, ahead = outcomes(env.state()["physics"].T)
        best = (reward + (ahead @ values()[left - 1]).reshape(reward.shape)).argmax(0)
        total += env.step(torques()[best])[1]
    return total


def gap(folder: Path) -> np.ndarray:
    """How far above the grid's mean return each replica [R] is, from the starts it was judged on."""
    summary = json.loads((folder / "summary.json").read_text())["replicas"]
    return np.array(
        [row["eval_return"] - solved(starts(row["seed"], row["eval_episodes"])).mean() for row in summary]
    )


def starts(seed: int, episodes: int) -> np.ndarray:
    """The states [episodes, 2] that the final evaluation of a seed begins in."""
    env = Pendulum(episodes, STEPS, velocities=True, n_torques=None)
    env.reset(seed=child(keys([seed], "test"), np.arange(episodes)))
    return env.state()["physics"]
