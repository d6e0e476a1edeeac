"""Small off-policy actor-critics for tests, with networks and batches made by hand."""

from __future__ import annotations

from functools import partial
from typing import Any

import handmade
import numpy as np
from handmade import GAMMA, constant
from support import value_at

from rlrun import registry
from rlrun.config.compose import compose
from rlrun.core import Spec
from rlrun.models import LSTMConfig, MLPConfig
from rlrun.spaces import Box

ASYMMETRIC = Box((2,), (-1.0, 0.25), (3.0, 0.5))
NO_STEP = np.zeros(2, np.int64)
MLP = MLPConfig([16], "relu", "uniform", False)
LSTM = LSTMConfig([], 8, 1, 1.0, [], "relu", "uniform", False, False)


def make(
    recipe: str, model: Any = MLP, action: Box = ASYMMETRIC, seeds: tuple[int, ...] = (1, 2), **changes: Any
) -> Any:
    """A small one in float64 on observations [3], N = 4; one gradient step an update.

    `changes` are keys of the recipe, with __ for the dot of a nested one.
    """
    config = compose([f"algo={recipe}"]).algo
    values = {
        "gamma": GAMMA,
        "batch_size": 16,
        "learning_starts": 0,
        "buffer_size": 64,
        "train_every": 4,
        "gradient_steps": 1,
        "sequence_length": 4,
        "burn_in": 0,
    } | changes
    for name, value in values.items():
        *path, last = name.split("__")
        setattr(value_at(config, ".".join(path)) if path else config, last, value)
    obs = Box((3,), (-9.0,) * 3, (9.0,) * 3)
    spec = Spec(obs, action, 4, seeds, 1000, dtype="float64")
    return registry.entry_of(config).build(spec, config, model)


rollout = partial(handmade.rollout, ASYMMETRIC)


def with_constant_critics(algo: Any) -> Any:
    """Target networks of value 10 and 7; the online critics' 100 must not be used."""
    for network, value in zip(algo.targets, (10.0, 7.0), strict=False):
        constant(network, value)
    for network in algo.critics:
        constant(network, 100.0)
    return algo
