"""Small off-policy actor-critics for tests, with networks and batches made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from support import value_at

from rlrun import registry
from rlrun.compose import compose
from rlrun.core import Box, Rollout, Spec
from rlrun.models import LSTMConfig, MLPConfig

GAMMA = 0.9
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


def rollout(
    steps: int,
    reward: Any = 0.0,
    terminated: Any = False,
    truncated: Any = False,
    seed: int = 0,
    **fields: Any,
) -> Rollout:
    """R = 2, N = 4; reward and flags are one value, or one a step; observations and actions random.

    Within an episode the next observation is the following step's.
    """
    lead = (2, steps, 4)
    generator = torch.Generator().manual_seed(100 * seed + steps)

    def spread(value: Any, kind: torch.dtype) -> torch.Tensor:
        return torch.as_tensor(value, dtype=kind).view(1, -1, 1).expand(lead).clone()

    obs, next_obs = torch.randn(2, *lead, 3, generator=generator, dtype=torch.float64)
    unit = torch.rand(*lead, 2, generator=generator, dtype=torch.float64)
    low, high = torch.tensor(ASYMMETRIC.low), torch.tensor(ASYMMETRIC.high)
    values = {
        "obs": obs,
        "next_obs": next_obs,
        "action": low + unit * (high - low),
        "reward": spread(reward, torch.float64),
        "terminated": spread(terminated, torch.bool),
        "truncated": spread(truncated, torch.bool),
        "first": spread(False, torch.bool),
        "valid": spread(True, torch.bool),
    }
    made = Rollout(**values | fields)
    made.first[:, 1:] = made.ended[:, :-1]
    goes_on = ~made.ended[:, :-1]
    made.next_obs[:, :-1][goes_on] = made.obs[:, 1:][goes_on]
    return made


def constant(network: Any, value: float) -> None:
    """Make a network's output one value whatever it sees."""
    for parameter in network.parameters():
        parameter.data.zero_()
    network.head.layers[-1].bias.data.fill_(value)


def with_constant_critics(algo: Any) -> Any:
    """Target networks of value 10 and 7; the online critics' 100 must not be used."""
    for network, value in zip(algo.targets, (10.0, 7.0), strict=False):
        constant(network, value)
    for network in algo.critics:
        constant(network, 100.0)
    return algo
