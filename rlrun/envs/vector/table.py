"""Finite decision processes as arrays, and the grid worlds FrozenLake and CliffWalking.

The grids are Gymnasium's (FrozenLake-v1, CliffWalking-v1); the cliff is Example 6.6 of
Sutton and Barto, "Reinforcement Learning: An Introduction" (2018).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete

from rlrun.core import TransitionTable
from rlrun.envs.vector.base import Arrays, NativeVectorEnv
from rlrun.rng import uniforms


@dataclass(frozen=True)
class Outcomes:
    """What may follow a state and action: K outcomes each, possibly to the same successor."""

    probability: np.ndarray  # [S, A, K]
    successor: np.ndarray  # [S, A, K], int64
    reward: np.ndarray  # [S, A, K]
    terminal: np.ndarray  # [S], bool; such a state leads to itself with reward 0
    starts: np.ndarray  # states in which episodes begin, equally likely
    shape: tuple[int, int]  # rows and columns

    def table(self) -> TransitionTable:
        """The same process with a probability for each successor, [S, A, S']."""
        states, actions, _ = self.probability.shape
        probability = np.zeros((states, actions, states))
        s, a = np.ogrid[:states, :actions]
        np.add.at(probability, (s[..., None], a[..., None], self.successor), self.probability)
        reward = (self.probability * self.reward).sum(-1)
        return TransitionTable(probability, reward, self.terminal, self.shape)


class Table(NativeVectorEnv):
    """A finite process stepped by look-up; observations are state indices, int64 [M]."""

    metadata: dict[str, Any] = NativeVectorEnv.metadata | {"render_fps": 4}

    def __init__(
        self, num_envs: int, max_steps: int | None, outcomes: Outcomes, drawing: tuple[str, dict[str, Any]]
    ) -> None:
        states, actions, self._choices = outcomes.probability.shape
        super().__init__(num_envs, Discrete(states), Discrete(actions), max_steps)
        self.table = outcomes.table()
        self.outcomes = outcomes
        self._drawing = drawing  # Gymnasium's id and arguments
        self._bounds = outcomes.probability.cumsum(-1)[..., :-1]  # between one outcome and the next
        self._state = np.zeros(num_envs, np.int64)

    def _begin(self, rows: np.ndarray, seed: np.ndarray, options: Mapping[str, Any]) -> None:
        starts = self.outcomes.starts
        self._state[rows] = starts[(uniforms(seed, np.zeros(1, np.int64)) * len(starts)).astype(np.int64)]

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        pair = self._state, actions
        if self._choices == 1:
            chosen: Any = 0
        else:
            draw = uniforms(self._seed, self._steps)
            chosen = (draw[:, None] >= self._bounds[pair]).sum(1)
        reward = self.outcomes.reward[*pair, chosen]
        self._state[:] = self.outcomes.successor[*pair, chosen]
        return reward, self.outcomes.terminal[self._state], {}

    def _observe(self) -> np.ndarray:
        return self._state.copy()

    def _arrays(self) -> Arrays:
        return {"state": self._state}

    def _renderer(self) -> gymnasium.Env:
        name, arguments = self._drawing
        return gymnasium.make(name, render_mode="rgb_array", **arguments)

    def _pose(self, renderer: Any, index: int) -> None:
        renderer.s = int(self._state[index])


def frozen_lake(rows: Sequence[str], *, slippery: bool, success_rate: float) -> Outcomes:
    """A lake of S (start), F (frozen), H (hole) and G (goal, reward 1); left, down, right, up.

    On slippery ice a move succeeds with `success_rate`, and else goes to either side.
    """
    letters = np.array([list(row) for row in rows])
    terminal = np.isin(letters, ["G", "H"]).ravel()
    moves = _moves(letters.shape, [(0, -1), (1, 0), (0, 1), (-1, 0)])
    aside = (1.0 - success_rate) / 2.0
    chance = [aside, success_rate, aside] if slippery else [1.0]
    probability, successor = _slide(moves, chance)
    reward = (letters.ravel() == "G").astype(float)[successor]
    starts = np.flatnonzero(letters.ravel() == "S")
    return _absorb(probability, successor, reward, terminal, starts, letters.shape)


def cliff_walking(*, slippery: bool, terminate: bool) -> Outcomes:
    """4 x 12 cells with a cliff (-100) along the lower edge, -1 a step; up, right, down, left.

    A fall leads back to the start, or ends the episode where `terminate` is true.
    """
    shape = (4, 12)
    start, goal = 36, 47
    cliff = np.arange(37, 47)
    moves = _moves(shape, [(-1, 0), (0, 1), (1, 0), (0, -1)])
    probability, successor = _slide(moves, [1 / 3] * 3 if slippery else [1.0])
    fallen = np.isin(successor, cliff)
    reward = np.where(fallen, -100.0, -1.0)
    if not terminate:
        successor = np.where(fallen, start, successor)
    terminal = np.isin(np.arange(48), [goal, *(cliff if terminate else ())])
    return _absorb(probability, successor, reward, terminal, np.array([start]), shape)


def _moves(shape: tuple[int, ...], deltas: Sequence[tuple[int, int]]) -> np.ndarray:
    """Where each move leads on a grid with walls, [S, A]."""
    at = np.indices(shape).reshape(2, -1, 1)  # [2, S, 1]
    to = at + np.array(deltas).T[:, None, :]
    row, column = (np.clip(to[i], 0, shape[i] - 1) for i in range(2))
    return row * shape[1] + column


def _slide(moves: np.ndarray, chance: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and successors [S, A, K] if a move turns into its neighbours by `chance`."""
    turns = range(-(len(chance) // 2), len(chance) // 2 + 1)
    successor = np.stack([np.roll(moves, -turn, axis=1) for turn in turns], -1)
    return np.broadcast_to(np.array(chance), successor.shape).copy(), successor


def _absorb(
    probability: np.ndarray,
    successor: np.ndarray,
    reward: np.ndarray,
    terminal: np.ndarray,
    starts: np.ndarray,
    shape: tuple[int, ...],
) -> Outcomes:
    """Outcomes in which terminal states lead to themselves for nothing."""
    successor[terminal] = np.flatnonzero(terminal)[:, None, None]
    reward[terminal] = 0.0
    return Outcomes(probability, successor, reward, terminal, starts, (shape[0], shape[1]))
