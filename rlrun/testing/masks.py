"""An environment that forbids some actions, to see who takes them anyway."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from rlrun import envs
from rlrun.parts.masks import pick
from rlrun.spaces import Space
from rlrun.testing.rules import require


def random_mask(space: Space, rows: int, rng: np.random.Generator) -> np.ndarray:
    """Masks [rows, A] that allow about half of the actions, of each integer at least one."""
    parts = []
    for n in space.choices:
        part = rng.random((rows, n)) < 0.5
        part[np.arange(rows), rng.integers(n, size=rows)] = True
        parts.append(part)
    return np.concatenate(parts, 1)


def require_allowed(space: Space, actions: np.ndarray, mask: np.ndarray) -> None:
    """AssertionError unless the mask [M, A] allows the actions [M, ...]."""
    columns = actions.reshape(len(actions), -1) + np.cumsum((0, *space.choices[:-1]))
    held = np.take_along_axis(mask, columns, 1).all(1)
    require(held.all(), f"it took {actions[~held][:1].tolist()}, which its mask forbids")


class Legal:
    """A vector env with masks that any actions can be played in: each stands for one that is allowed."""

    def __init__(self, env: Any) -> None:
        self._env, self._space = env, envs.spaces(env)[1]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._env, name)

    def step(self, actions: np.ndarray) -> Any:
        mask: np.ndarray = envs.abilities(self._env).masks()  # type: ignore[misc]
        seen = self._space.read(actions)
        share = seen.reshape(len(seen), -1) / np.array(self._space.choices)
        # A sub-env that has ended may allow nothing: then whatever it is given does nothing.
        legal = pick(mask | ~mask.any(1, keepdims=True), self._space.choices, share)
        return self._env.step(self._space.write(legal.reshape(seen.shape)))


class Masks:
    """A vector env of discrete actions whose masks are drawn anew at every step."""

    def __init__(self, env: Any) -> None:
        self._env, self.num_envs, self.metadata = env, env.num_envs, env.metadata
        self._rng, self._space = np.random.default_rng(0), envs.spaces(env)[1]
        self.single_observation_space = env.single_observation_space
        self.single_action_space = env.single_action_space
        self.abilities = replace(envs.abilities(env), masks=lambda: self._mask)
        self._draw()

    def _draw(self) -> None:
        self._mask = random_mask(self._space, self.num_envs, self._rng)

    def reset(self, *, seed: Any, options: Mapping[str, Any]) -> Any:
        self._draw()
        return self._env.reset(seed=np.array(seed, np.uint64), options=dict(options))

    def step(self, actions: np.ndarray) -> Any:
        require_allowed(self._space, actions, self._mask)
        self._draw()
        return self._env.step(actions)
