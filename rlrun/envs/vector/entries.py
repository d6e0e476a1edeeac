"""A Dict or Tuple of observations as one vector: the picture first, then the other entries as features.

Integers become one-hot. Without a picture the entries keep their order and the dtype that holds them all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import gymnasium.spaces as gym
import numpy as np

from rlrun.config import ConfigError
from rlrun.envs.vector.spaces import Held, box_of, space_of
from rlrun.spaces import Box, Part


class Entries(gym.Box):
    """The space of the vectors; `parts` says what lies in them, one entry after the other."""

    def __init__(self, parts: tuple[Part, ...], low: np.ndarray, high: np.ndarray, dtype: Any) -> None:
        super().__init__(low, high, dtype=dtype)
        self.parts = parts


class Vector(gymnasium.ObservationWrapper):
    """Observes the vector in place of the Dict or Tuple, whose entries have been looked at.

    Raises:
        ConfigError: an entry is not made of numbers.
    """

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(Held(env))
        self.observation_space = joined(env.observation_space)
        self._vector = box_of(self.observation_space, "observation")

    def observation(self, observation: Any) -> np.ndarray:
        return self._vector.join(observation)


def joined(space: Any) -> Entries:
    """The space of the vectors.

    Where there are pictures these come first, and all are bytes if every entry fits, else floats.

    Raises:
        ConfigError: an entry is not made of numbers, or there is none.
    """
    parts = tuple(_parts(space, space))
    if not parts:
        raise ConfigError(f"the env's observation space is {space}", "it is empty")
    pictures = [part for part in parts if part.is_picture]
    if not pictures:
        flat = gym.flatten_space(space)
        assert isinstance(flat, gym.Box)
        return Entries(parts, flat.low, flat.high, flat.dtype)
    parts = (*pictures, *(part for part in parts if not part.is_picture))
    bounds = [_bounds(part) for part in parts]
    low, high = (np.concatenate([each[i] for each in bounds]) for i in (0, 1))
    if low.min() >= 0 and high.max() <= 255 and all(_whole(part) for part in parts):
        return Entries(parts, low.astype(np.uint8), high.astype(np.uint8), np.uint8)
    dtype = np.result_type(np.float32, *(part.space.dtype for part in parts if not _whole(part)))
    return Entries(parts, low.astype(dtype), high.astype(dtype), dtype)


def _parts(space: Any, whole: Any, path: tuple[str | int, ...] = ()) -> Iterator[Part]:
    """The entries of a Dict or Tuple in its own order, at any depth."""
    if isinstance(space, (gym.Dict, gym.Tuple)):
        for key, inner in space.items() if isinstance(space, gym.Dict) else enumerate(space):
            yield from _parts(inner, whole, (*path, key))
        return
    if isinstance(space, gym.MultiBinary):  # numbers, as Gymnasium flattens it
        space = gym.Box(0, 1, space.shape, np.int8)
    name = ".".join(map(str, ("observation", *path)))
    try:
        yield Part(path, space_of(space, name))
    except ConfigError as error:
        raise ConfigError(error.lines[0], _without(whole, path[0])) from None


def _without(space: Any, key: Any) -> str:
    """How to leave an entry out."""
    others = [
        str(name) for name in (space if isinstance(space, gym.Dict) else range(len(space))) if name != key
    ]
    how = f"env.wrappers=[{{FilterObservation: {{filter_keys: [{', '.join(others)}]}}}}]"
    return f"no network reads it; leave it out: {how}" if others else ""


def _bounds(part: Part) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(part.space, Box):
        return np.array(part.space.low), np.array(part.space.high)
    return np.zeros(part.size), np.ones(part.size)


def _whole(part: Part) -> bool:
    return not part.space.dtype.startswith("float")
