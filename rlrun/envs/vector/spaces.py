"""Gymnasium's spaces as agents see them, or why none can play in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import gymnasium.spaces as gym
import numpy as np

from rlrun.boundary import Check, Misfit
from rlrun.config import ConfigError
from rlrun.spaces import WHOLE, Box, Discrete, Form, MultiDiscrete, Space

MOST = 2**24  # values of integers: a row of a table or an input of a network each
# What tensors have no operations for, or no type at all.
_WIDER = {"bool": "int8", "uint16": "int32", "uint32": "int64", "uint64": "float64"}
_TYPES = (
    "bool",
    "float16",
    "float32",
    "float64",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
)


def space_of(space: Any, what: str) -> Space:
    """A sub-environment's space; `what` is "observation" or "action".

    Raises:
        ConfigError: it is no Box, Discrete, MultiDiscrete or MultiBinary, or one that is empty,
            without end, or of numbers that no tensor holds.
    """
    if isinstance(space, (gym.Discrete, gym.MultiDiscrete, gym.MultiBinary)):
        return _integers(space, what)
    if isinstance(space, gym.Box):
        return box_of(space, what)
    raise _refused(space, what, "it must be a Box, Discrete, MultiDiscrete or MultiBinary")


def _integers(space: Any, what: str) -> Space:
    shape = tuple(space.shape or ())
    sizes = np.ravel(
        space.n if isinstance(space, gym.Discrete) else getattr(space, "nvec", np.full(shape, 2))
    )
    if not sizes.size or sizes.min() < 1:
        raise _refused(space, what, "it is empty")
    if sum(map(int, sizes)) > MOST:
        raise _refused(space, what, f"agents can tell {MOST:,} values apart at most")
    start = tuple(np.ravel(getattr(space, "start", 0)).tolist())
    own = Form(shape, space.dtype.name, start if any(start) else ())
    if isinstance(space, gym.Discrete):
        return Discrete(int(space.n), None if own == Form((), "int64") else own)
    return MultiDiscrete(tuple(sizes.tolist()), None if own == Form((sizes.size,), "int64") else own)


def box_of(space: gym.Box, what: str) -> Box:
    dtype = space.dtype.name  # not str(): that of big-endian numbers is ">f4"
    shape = space.shape
    if dtype not in _TYPES:
        raise _refused(space, what, f"no tensor holds {dtype}; float64 would do")
    if not np.prod(shape, dtype=int):
        raise _refused(space, what, "it is empty")
    low, high = (np.ravel(bound).astype(float) for bound in (space.low, space.high))
    if np.isnan([low, high]).any():
        raise _refused(space, what, "a bound is nan")
    seen = shape or (1,)
    if what == "action" and not dtype.startswith("float"):
        # Each whole number is the middle of an interval of length 1, so that none is likelier.
        low = np.where(np.abs(low) < WHOLE, low - 0.5, -np.inf)
        high = np.where(np.abs(high) < WHOLE, high + 0.5, np.inf)
        return Box(seen, tuple(low.tolist()), tuple(high.tolist()), "float32", Form(shape, dtype))
    held = _WIDER.get(dtype, dtype)
    own = None if (seen, held) == (shape, dtype) else Form(shape, dtype)
    return Box(seen, tuple(low.tolist()), tuple(high.tolist()), held, own, getattr(space, "parts", ()))


def _refused(space: Any, what: str, why: str) -> ConfigError:
    text = " ".join(repr(space).split())
    return ConfigError(f"the env's {what} space is {text[:150] + '...' * (len(text) > 150)}", why)


class Held(gymnasium.ObservationWrapper):
    """Holds the parts of a Dict or Tuple observation against their spaces, before these are flattened.

    For that casts and broadcasts. What agents cannot play in on its own is left to the flattening.
    """

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self._checks: dict[str, Check | None] = {}

    def observation(self, observation: Any) -> Any:
        return self._part(self.observation_space, observation, "observation")

    def _part(self, space: gym.Space, value: Any, name: str) -> Any:
        if isinstance(space, gym.Dict):
            if not isinstance(value, Mapping) or value.keys() != space.spaces.keys():
                raise Misfit(f"{name} has other keys than {', '.join(map(str, space.spaces))}")
            return {key: self._part(space[key], value[key], f"{name}.{key}") for key in space.spaces}
        if isinstance(space, gym.Tuple):
            if not isinstance(value, (tuple, list)) or len(value) != len(space):
                raise Misfit(f"{name} is no tuple of {len(space)}")
            return tuple(self._part(space[i], each, f"{name}.{i}") for i, each in enumerate(value))
        if name not in self._checks:
            try:
                self._checks[name] = Check(space_of(space, name), name)
            except ConfigError:
                self._checks[name] = None
        check = self._checks[name]
        return value if check is None else check.obs(value)
