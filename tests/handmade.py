"""Batches, networks and cases made by hand, for every algorithm that learns from replay."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rlrun.core import Rollout
from rlrun.spaces import Box, Discrete

GAMMA = 0.9

# Three rewards of 1, 2 and 4: where they end, what they return, and the discount of what follows.
windows = pytest.mark.parametrize(
    "terminated, truncated, total, discount",
    [
        ([0, 0, 0], [0, 0, 0], 1 + 2 * GAMMA + 4 * GAMMA**2, GAMMA**3),
        ([0, 0, 0], [0, 1, 0], 1 + 2 * GAMMA, GAMMA**2),  # the clock ended: bootstrap from there
        ([0, 0, 0], [1, 0, 0], 1, GAMMA),
        ([0, 1, 0], [0, 0, 0], 1 + 2 * GAMMA, 0.0),  # the task ended: nothing beyond
        ([0, 0, 1], [0, 0, 0], 1 + 2 * GAMMA + 4 * GAMMA**2, 0.0),
    ],
)


def rollout(
    space: Box | Discrete,
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
    if isinstance(space, Discrete):
        action = torch.randint(space.n, lead, generator=generator)
    else:
        unit = torch.rand(*lead, space.size, generator=generator, dtype=torch.float64)
        low, high = torch.tensor(space.low), torch.tensor(space.high)
        action = low + unit * (high - low)
    values = {
        "obs": obs,
        "next_obs": next_obs,
        "action": action,
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


def constant(network: Any, *values: float) -> None:
    """Make a network's outputs these values, or all of them this one, whatever it sees."""
    for parameter in network.parameters():
        parameter.data.zero_()
    bias = network.head.layers[-1].bias.data
    bias.copy_(bias.new_tensor(values).expand_as(bias))


def rewards(reward: torch.Tensor, first: Any = False, valid: Any = True) -> Rollout:
    """A rollout of which nothing but the rewards [R, T, N], and which of them count, is of account."""
    flags = [torch.as_tensor(each).expand(reward.shape).clone() for each in (False, False, first, valid)]
    return Rollout(reward, reward, reward, *flags[:2], reward, *flags[2:])
