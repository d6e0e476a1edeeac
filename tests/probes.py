"""Tiny tasks whose values are known in closed form, one for each classic bug.

A probe is a small table. It is played as a native vector env, as a Gymnasium env (for the
autoreset modes of Gymnasium's own vector env), with vectors or state indices as
observations. Its two actions may also be a number, cut at the middle of its bounds, or a
vector of integers, of which only the last one means the second action.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from rlrun.config import key
from rlrun.envs import EnvConfig, RewardConfig
from rlrun.envs.abilities import Abilities
from rlrun.envs.vector.base import Arrays, NativeVectorEnv
from rlrun.registry import register
from rlrun.rng import uniforms

LOW, HIGH = -1.0, 3.0  # of a continuous action: not symmetric, so that a missing map shows
ACTIONS = {
    "discrete": Discrete(2),
    "multi_discrete": MultiDiscrete((2, 3)),
    "box": Box(LOW, HIGH, (1,), np.float32),
}


@dataclass(frozen=True)
class Probe:
    """States in which one acts; `successor` -1 ends the episode. Starts are equally likely."""

    obs: list[list[float]]  # [S, features]
    successor: list[list[int]]  # [S, 2]
    reward: list[list[float]]  # [S, 2]
    starts: list[int]
    max_steps: int | None = None
    legal: list[list[bool]] | None = None  # [S, 2], the actions that a mask allows


def fixed(
    obs: list[float], successor: list[int], reward: list[float], starts: list[int], **more: Any
) -> Probe:
    """A probe in which actions do not matter."""
    return Probe([[x] for x in obs], [[s, s] for s in successor], [[r, r] for r in reward], starts, **more)


PROBES = {
    # What is learned at all: value 1.
    "constant": fixed([1], [-1], [1], [0]),
    # What comes from the observation: values -1 and 1.
    "obs": fixed([-1, 1], [-1, -1], [-1, 1], [0, 1]),
    # Discounting: values gamma and 1.
    "two_step": fixed([-1, 1], [1, -1], [0, 1], [0]),
    # The action matters: values -1 and 1.
    "action": Probe([[1]], [[-1, -1]], [[-1, 1]], [0]),
    # The action that is right depends on the observation.
    "obs_action": Probe([[-1], [1]], [[-1, -1], [-1, -1]], [[1, -1], [-1, 1]], [0, 1]),
    # An endless reward of 1, cut by the clock: 1 / (1 - gamma). As a termination it is worth less.
    "truncation": fixed([1], [0], [1], [0], max_steps=3),
    # Every step is cut by the clock: A leads to B leads to C, which pays 1 for ever. Right are
    # gamma^2, gamma and 1 times 1 / (1 - gamma): only from the successor's own value. From the
    # reset observation, or from the state itself, it comes out as something else.
    "successor": fixed([-1, 0, 1], [1, 2, 2], [0, 0, 1], [0, 1, 2], max_steps=1),
    # The same in episodes of four steps: with memory, values are of a state and its past, and a
    # past that never comes up in training has a value that nobody learned.
    "successor_4": fixed([-1, 0, 1], [1, 2, 2], [0, 0, 1], [0, 1, 2], max_steps=4),
    # A reward at the end of six steps: gamma^5 ... 1; also for targets of several steps, whose
    # windows must stop there and discount by gamma^n.
    "corridor": Probe(
        [[float(i == j) for j in range(6)] for i in range(6)],
        [[i + 1, i + 1] for i in range(5)] + [[-1, -1]],
        [[0, 0]] * 5 + [[1, 1]],
        [0],
    ),
    # What is forbidden would pay, and is never learned about: values -gamma and -1. Whoever takes the
    # unlearned 0 for the best there is, or the mean over both actions, comes out higher.
    "masked": Probe(
        [[-1], [1]], [[1, 1], [-1, -1]], [[0, 0], [-1, 9]], [0], legal=[[True, True], [True, False]]
    ),
    # A cue, two blank steps, and the question what the cue was: -1 or 1.
    "recall": Probe(
        [[-1, 0], [1, 0], [0, 0], [0, 0], [0, 1], [0, 1]],
        [[2, 2], [3, 3], [4, 4], [5, 5], [-1, -1], [-1, -1]],
        [[0, 0]] * 4 + [[1, -1], [-1, 1]],
        [0, 1],
    ),
}


@dataclass
class ProbeConfig(EnvConfig):
    """A probe as an environment of rlrun's; the values stand here, for no YAML file has them."""

    name: str = key("which probe")
    indices: bool = key("observations are state indices")
    action: str = key("how an action is given", choices=tuple(ACTIONS))
    autoreset: str = key("native, or an autoreset mode of Gymnasium's SyncVectorEnv")

    slow: ClassVar[bool] = False


def probe(
    name: str, *, indices: bool = False, action: str = "discrete", autoreset: str = "native"
) -> ProbeConfig:
    return ProbeConfig(None, RewardConfig(1.0, 0.0, None), name, indices, action, autoreset)


@register("env", "probe", ProbeConfig)
def build(config: ProbeConfig, num_envs: int) -> VectorEnv:
    if config.name == "leak":
        return Leak(num_envs)
    table = PROBES[config.name]
    if config.autoreset == "native":
        return ProbeVector(num_envs, table, config.indices, config.action)
    mode = {m.name: m for m in AutoresetMode}[config.autoreset]
    return SyncVectorEnv([lambda: ProbeEnv(table)] * num_envs, autoreset_mode=mode)


def spaces(table: Probe, indices: bool, action: str) -> tuple[gymnasium.Space, gymnasium.Space]:
    obs = Discrete(len(table.obs) + 1) if indices else Box(-1.0, 1.0, (len(table.obs[0]),), np.float32)
    return obs, ACTIONS[action]


def chosen(actions: np.ndarray) -> np.ndarray:
    """Which of the two actions of a probe these mean, [M], whatever the action space."""
    if actions.ndim == 1:
        return actions
    if actions.dtype.kind == "f":
        return (actions[:, 0] > (LOW + HIGH) / 2).astype(int)
    return (actions == (1, 2)).all(1).astype(int)


class ProbeVector(NativeVectorEnv):
    def __init__(self, num_envs: int, table: Probe, indices: bool, action: str) -> None:
        super().__init__(num_envs, *spaces(table, indices, action), table.max_steps)
        self.indices = indices
        self.starts, self.successor, self.reward = map(
            np.array, (table.starts, table.successor, table.reward)
        )
        self.vectors = np.array([*table.obs, [0.0] * len(table.obs[0])], np.float32)
        self._state = np.zeros(num_envs, np.int64)
        if table.legal is not None:
            self.legal = np.array([*table.legal, [False, False]])
            self.abilities = Abilities(masks=lambda: self.legal[self._state])

    def _begin(self, rows: np.ndarray, seed: np.ndarray, options: Mapping[str, Any]) -> None:
        self._state[rows] = self.starts[(uniforms(seed, np.zeros(1)) * len(self.starts)).astype(int)]

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        which = self._state, chosen(actions)
        if self.abilities.masks:
            assert (self.legal[which] | (self._state < 0)).all(), "a forbidden action"
        after, reward = self.successor[which], self.reward[which]
        self._state[:] = after  # -1 is the last row of `vectors`, and means nothing beyond
        return reward.astype(float), after < 0, {}

    def _observe(self) -> np.ndarray:
        return self._state % len(self.vectors) if self.indices else self.vectors[self._state]

    def _arrays(self) -> Arrays:
        return {"state": self._state}


class ProbeEnv(gymnasium.Env):
    """The same as a plain Gymnasium env; `steps` counts the real steps of all of them."""

    steps = 0

    def __init__(self, table: Probe) -> None:
        self.table, self.state, self.age = table, 0, 0
        self.observation_space, self.action_space = spaces(table, False, "discrete")

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.state, self.age = int(self.np_random.choice(self.table.starts)), 0
        return np.array(self.table.obs[self.state], np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        ProbeEnv.steps += 1
        self.age += 1
        reward = self.table.reward[self.state][int(action)]
        self.state = self.table.successor[self.state][int(action)]
        obs = [0.0] * len(self.table.obs[0]) if self.state < 0 else self.table.obs[self.state]
        return np.array(obs, np.float32), float(reward), self.state < 0, self.age == self.table.max_steps, {}


class Leak(NativeVectorEnv):
    """The last observation of an episode tells the right answer of the *next*: no use without cheating.

    Step 0 asks (observation 0), step 1 shows -1 or 1. Who keeps memory beyond an episode's
    end answers all questions; who clears it is right half of the time.
    """

    def __init__(self, num_envs: int) -> None:
        super().__init__(num_envs, Box(-1.0, 1.0, (1,), np.float32), Discrete(2), None)
        self._now, self._next = (np.zeros(num_envs, np.int64) for _ in range(2))

    def _begin(self, rows: np.ndarray, seed: np.ndarray, options: Mapping[str, Any]) -> None:
        self._now[rows] = self._next[rows]
        self._next[rows] = uniforms(seed, np.zeros(1)) < 0.5

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        asked = self._steps == 1
        reward = np.where(asked, 2.0 * (actions == self._now) - 1.0, 0.0)
        return reward, ~asked, {}

    def _observe(self) -> np.ndarray:
        return np.where(self._steps == 1, 2.0 * self._next - 1.0, 0.0).astype(np.float32)[:, None]

    def _arrays(self) -> Arrays:
        return {"now": self._now, "next": self._next}
