"""The action masks of Gymnasium environments, of which there are two conventions.

Either `info["action_mask"]` of every reset and step says what is allowed (as Gymnasium's
Taxi has it), or a method `action_masks()` does (as sb3-contrib asks for it). Either is an
array of as many truths as there are actions; for a vector of integers all their values, one
after the other, or a tuple of such arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np

from rlrun.boundary import Misfit
from rlrun.envs.vector.surroundings import staying
from rlrun.spaces import Box, Space, allows

Allowed = Callable[[gymnasium.Env, Any], np.ndarray]  # of an env and its latest info: bool [A]

_INFO, _METHOD = "action_mask", "action_masks"


def masks_of(env: gymnasium.Env, action: Space) -> Allowed | None:
    """How to read what `env` allows, bool [A], from it and its latest info; None if it does not say.

    The environment is reset to see.

    Raises:
        Misfit: its mask is no mask of such actions.
    """
    if isinstance(action, Box):
        return None
    if env.has_wrapper_attr(_METHOD):
        return lambda env, info: _mask(env.get_wrapper_attr(_METHOD)(), action.choices)
    with staying():
        returned = env.reset(seed=0)
    info = returned[1] if isinstance(returned, tuple) and len(returned) == 2 else None
    if not isinstance(info, Mapping) or _INFO not in info:
        return None

    def read(env: gymnasium.Env, info: Any) -> np.ndarray:
        if not isinstance(info, Mapping) or _INFO not in info:
            raise Misfit(f"info has no {_INFO}, which that of its first reset had")
        return _mask(info[_INFO], action.choices)

    return read


def _mask(value: Any, sizes: tuple[int, ...]) -> np.ndarray:
    if isinstance(value, tuple):
        value = np.concatenate([np.ravel(part) for part in value])
    mask, columns = np.asarray(value), sum(sizes)
    if mask.shape != (columns,) or mask.dtype.kind not in "biuf" or not np.isin(mask, (0, 1)).all():
        raise Misfit(
            f"action mask is {mask.dtype} {list(mask.shape)}: it must be {columns} truths, one an action"
        )
    mask = mask.astype(bool)
    if not allows(mask, sizes).all():
        raise Misfit("action mask allows nothing")
    return mask
