"""Finite decision processes as arrays: grid worlds of Gymnasium's and of the textbook, and the taxi.

FrozenLake-v1, CliffWalking-v1 and Taxi-v4 are Gymnasium's. In Sutton and Barto, "Reinforcement
Learning: An Introduction" (2018), the cliff is Example 6.6, the windy grid Example 6.5, and
the mazes are Examples 8.1 to 8.3; the taxi is Dietterich's ("Hierarchical reinforcement
learning with the MAXQ value function decomposition", 2000).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete

from rlrun.core import TransitionTable
from rlrun.envs.abilities import Abilities
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
    shape: tuple[int, int] | None = None  # rows and columns of a grid
    letters: np.ndarray | None = None  # [rows, columns], what each cell is, for pictures

    def table(self) -> TransitionTable:
        """The same process with a probability for each successor, [S, A, S']."""
        states, actions, _ = self.probability.shape
        probability = np.zeros((states, actions, states))
        s, a = np.ogrid[:states, :actions]
        np.add.at(probability, (s[..., None], a[..., None], self.successor), self.probability)
        reward = (self.probability * self.reward).sum(-1)
        letters = None if self.letters is None else self.letters.ravel()
        return TransitionTable(probability, reward, self.terminal, self.shape, self.reachable(), letters)

    def reachable(self) -> np.ndarray:
        """Where an episode can come to, bool [S]."""
        found, new = np.zeros(len(self.terminal), bool), np.unique(self.starts)
        while len(new):
            found[new] = True
            after = self.successor[new][self.probability[new] > 0]
            new = np.setdiff1d(after, np.flatnonzero(found))
        return found


class Table(NativeVectorEnv):
    """A finite process stepped by look-up; observations are state indices, int64 [M].

    There may be two `worlds`: then the second holds from `change_after` steps of an episode
    on, and the process is no longer one that a table could describe.
    """

    metadata: dict[str, Any] = NativeVectorEnv.metadata | {"render_fps": 4}

    def __init__(
        self,
        num_envs: int,
        max_steps: int | None,
        worlds: Sequence[Outcomes],
        *,
        change_after: int = 0,
        drawing: tuple[str, dict[str, Any]] | None = None,
    ) -> None:
        states, actions, self._choices = worlds[0].probability.shape
        super().__init__(num_envs, Discrete(states), Discrete(actions), max_steps)
        self.outcomes, self._worlds, self._change_after = worlds[0], worlds, change_after
        ends = (self.outcomes.terminal & self.outcomes.reachable()).any()
        self.abilities = Abilities(
            table=self.outcomes.table() if len(worlds) == 1 else None,
            metrics=() if ends else ("reward",),  # where no episode ends there are no returns
        )
        self._drawing = drawing  # Gymnasium's id and arguments
        self._reward, self._successor, probability = (
            np.stack([getattr(world, name) for world in worlds])
            for name in ("reward", "successor", "probability")
        )  # [W, S, A, K]
        self._bounds = probability.cumsum(-1)[..., :-1]  # between one outcome and the next
        self._state = np.zeros(num_envs, np.int64)

    def _begin(self, rows: np.ndarray, seed: np.ndarray, options: Mapping[str, Any]) -> None:
        starts = self.outcomes.starts
        self._state[rows] = starts[(uniforms(seed, np.zeros(1, np.int64)) * len(starts)).astype(np.int64)]

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        world: Any = 0 if len(self._worlds) == 1 else (self._steps > self._change_after).astype(np.int64)
        pair = world, self._state, actions
        if self._choices == 1:
            chosen: Any = 0
        else:
            draw = uniforms(self._seed, self._steps)
            chosen = (draw[:, None] >= self._bounds[pair]).sum(1)
        reward = self._reward[*pair, chosen]
        self._state[:] = self._successor[*pair, chosen]
        return reward, self.outcomes.terminal[self._state], {"reward": reward}

    def _observe(self) -> np.ndarray:
        return self._state.copy()

    def _arrays(self) -> Arrays:
        return {"state": self._state}

    def _renderer(self) -> gymnasium.Env:
        assert self._drawing is not None
        name, arguments = self._drawing
        return gymnasium.make(name, render_mode="rgb_array", **arguments)

    def _pose(self, renderer: Any, index: int) -> None:
        renderer.s = int(self._state[index])

    def render_frame(self, index: int) -> np.ndarray:
        """A picture of sub-env `index`, uint8 [H, W, 3]: Gymnasium's, or tiles where it has none."""
        if self._drawing is not None:
            return super().render_frame(index)
        world = self._worlds[-1 if self._steps[index] >= self._change_after else 0]
        assert world.letters is not None
        return paint(world.letters, int(self._state[index]))


_COLOURS = {"#": (70, 76, 88), ".": (246, 247, 249), "S": (214, 226, 242), "G": (139, 195, 150)}
_AGENT = (229, 156, 44)


def paint(letters: np.ndarray, state: int, size: int = 40) -> np.ndarray:
    """Tiles of `size` pixels, with a disc where the agent is: uint8 [H, W, 3]."""
    colours = np.array([_COLOURS[letter] for letter in letters.ravel()], np.uint8)
    tiles = np.broadcast_to(colours[:, None, None], (letters.size, size, size, 3)).copy()
    tiles[:, 0] = tiles[:, :, 0] = (222, 225, 230)  # lines between them
    y, x = np.indices((size, size)) - (size - 1) / 2
    tiles[state][x**2 + y**2 < (0.35 * size) ** 2] = _AGENT
    rows, columns = letters.shape
    return tiles.reshape(rows, columns, size, size, 3).swapaxes(1, 2).reshape(rows * size, columns * size, 3)


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
    return replace(_absorb(probability, successor, reward, terminal, starts, letters.shape), letters=letters)


def cliff_walking(*, slippery: bool, terminate: bool, anywhere: bool) -> Outcomes:
    """4 x 12 cells with a cliff (-100) along the lower edge, -1 a step; up, right, down, left.

    A fall leads back to the start in the lower left corner, or ends the episode where
    `terminate` is true. Episodes begin there, or `anywhere` in the first column.
    """
    shape = (4, 12)
    corner, goal = 36, 47
    cliff = np.arange(37, 47)
    moves = _moves(shape, _COMPASS)
    probability, successor = _slide(moves, [1 / 3] * 3 if slippery else [1.0])
    fallen = np.isin(successor, cliff)
    reward = np.where(fallen, -100.0, -1.0)
    if not terminate:
        successor = np.where(fallen, corner, successor)
    terminal = np.isin(np.arange(48), [goal, *(cliff if terminate else ())])
    starts = np.arange(0, 48, 12) if anywhere else np.array([corner])
    letters = np.full(shape, ".")
    letters.flat[cliff], letters.flat[starts], letters.flat[goal] = "C", "S", "G"
    return replace(_absorb(probability, successor, reward, terminal, starts, shape), letters=letters)


def maze(rows: Sequence[str], *, continuing: bool) -> Outcomes:
    """Floor (.) and walls (#) from S to G, whose reward of 1 is all there is; up, right, down, left.

    In a `continuing` maze the goal leads back to the start.
    """
    letters = np.array([list(row) for row in rows])
    flat = letters.ravel()
    here = np.arange(flat.size)[:, None]
    moves = _moves(letters.shape, _COMPASS)
    moves = np.where(flat[moves] == "#", here, moves)
    starts = np.flatnonzero(flat == "S")
    reward = (flat[moves] == "G").astype(float)
    if continuing:
        moves = np.where(reward == 1.0, starts[0], moves)
    world = _absorb(*_slide(moves, [1.0]), reward[..., None], flat == "G", starts, letters.shape)
    return replace(world, letters=letters)


def windy_gridworld(wind: Sequence[int]) -> Outcomes:
    """Seven rows, -1 a step; a move starts in some column, whose wind adds so many cells up."""
    letters = np.full((7, len(wind)), ".")
    letters[3, 0], letters[3, 7] = "S", "G"
    drift = np.tile(wind, 7)[:, None, None] * np.array([-1, 0])  # [S, 1, 2]
    moves = _moves(letters.shape, drift + np.array(_COMPASS))
    terminal = letters.ravel() == "G"
    reward = np.full((*moves.shape, 1), -1.0)
    starts = np.flatnonzero(letters.ravel() == "S")
    return replace(_absorb(*_slide(moves, [1.0]), reward, terminal, starts, letters.shape), letters=letters)


# Every second character is a cell, those between are doors (:) and walls (|).
TOWN = ("R: | : :G", " : | : : ", " : : : : ", " | : | : ", "Y| : |B: ")


def taxi() -> Outcomes:
    """Fetch a passenger at one of four stands and set them down at another; Taxi-v4.

    State ((row * 5 + column) * 5 + passenger) * 4 + destination; passenger 4 is aboard.
    South, north, east, west, pick up, set down: -1 a step, -10 for what cannot be done, 20 in
    the end. (Nobody waits at the destination to begin with, so that how such a state would
    go on is a formality.)
    """
    town = np.array([list(row) for row in TOWN])
    moves = _moves((5, 5), [(1, 0), (-1, 0), (0, 1), (0, -1)])  # [25, 4]
    row, column = np.nonzero(town[:, 1::2] == "|")  # a wall to the right of these
    west = row * 5 + column
    moves[west, 2], moves[west + 1, 3] = west, west + 1
    stand = np.array(["RGYB".find(letter) for letter in town[:, ::2].ravel()])  # [25], -1 where none is
    place, passenger, destination = np.indices((25, 5, 4)).reshape(3, -1)  # [S]
    here = stand[place]

    def index(place: np.ndarray, passenger: np.ndarray) -> np.ndarray:
        return (place * 5 + passenger) * 4 + destination

    boards, alights = here == passenger, (passenger == 4) & (here >= 0)
    successor = np.stack(
        [
            *(index(moves[place, a], passenger) for a in range(4)),
            index(place, np.where(boards, 4, passenger)),
            index(place, np.where(alights, here, passenger)),
        ],
        -1,
    )
    reward = np.full(successor.shape, -1.0)
    reward[~boards, 4] = reward[~alights, 5] = -10.0
    reward[alights & (here == destination), 5] = 20.0
    terminal = (passenger == destination) & (here == destination)
    starts = np.flatnonzero((passenger < 4) & (passenger != destination))
    return _absorb(*_slide(successor, [1.0]), reward[..., None], terminal, starts)


_COMPASS = [(-1, 0), (0, 1), (1, 0), (0, -1)]  # up, right, down, left


def _moves(shape: tuple[int, ...], deltas: Sequence[tuple[int, int]] | np.ndarray) -> np.ndarray:
    """Where each move ([A, 2], or [S, A, 2]) leads on a grid with an edge, [S, A]."""
    at = np.indices(shape).reshape(2, -1).T[:, None]  # [S, 1, 2]
    row, column = np.moveaxis(np.clip(at + np.array(deltas), 0, np.array(shape) - 1), -1, 0)
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
    shape: tuple[int, ...] | None = None,
) -> Outcomes:
    """Outcomes in which terminal states lead to themselves for nothing."""
    successor[terminal] = np.flatnonzero(terminal)[:, None, None]
    reward[terminal] = 0.0
    grid = None if shape is None else (shape[0], shape[1])
    return Outcomes(probability, successor, reward, terminal, starts, grid)
