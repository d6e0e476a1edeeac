"""What no return can be beyond."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from handmade import rewards
from torch import Tensor

from rlrun import nn
from rlrun.core import Spec
from rlrun.parts.return_bounds import ReturnBounds
from rlrun.spaces import Discrete

SPEC = Spec(Discrete(2), Discrete(2), 3, (1, 2), 100, dtype="float64")
FAR = 2.0**40  # a number that every float has
ONE = torch.ones(2, 1, 1).double()


def reach(bounds: ReturnBounds, scale: Tensor = ONE) -> tuple[Tensor, Tensor]:
    """The least and the largest target [R] that is let through."""
    far = torch.full((2, 1, 1), FAR).double()
    return bounds.clip(-far, scale).flatten(), bounds.clip(far, scale).flatten()


@pytest.mark.parametrize("where", ["numpy", "torch"])
def test_they_are_those_of_the_rewards_that_counted_and_of_nothing(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow reference over rollouts, for replicas whose rewards are of different sizes and signs."""
    if where == "torch":  # as on a GPU
        monkeypatch.setattr(nn, "arrays", lambda *tensors: (torch, list(tensors)))
    generator, bounds = torch.Generator().manual_seed(0), ReturnBounds(SPEC, 0.9)
    low, high = np.zeros(2), np.zeros(2)
    for _ in range(4):
        reward = torch.rand(2, 5, 3, generator=generator).double() * torch.tensor([[[100.0]], [[-3.0]]])
        valid = torch.rand(2, 5, 3, generator=generator) < 0.3
        bounds.take_in(rewards(reward, valid=valid))
        for r in range(2):
            for value in reward[r][valid[r]].tolist():
                low[r], high[r] = min(low[r], value), max(high[r], value)
        for found, bound in zip(reach(bounds), (low, high), strict=True):
            np.testing.assert_allclose(found, 10.0 * bound)


def test_as_long_as_nothing_is_known_nothing_is_bounded() -> None:
    bounds = ReturnBounds(SPEC, 0.9)
    assert reach(bounds)[1].tolist() == [FAR, FAR]
    bounds.take_in(rewards(torch.zeros(2, 1, 3).double()))
    assert reach(bounds)[1].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), float("-inf")])
def test_a_reward_that_is_not_finite_moves_nothing(odd: float) -> None:
    bounds, reward = ReturnBounds(SPEC, 0.5), torch.ones(2, 1, 3).double()
    reward[0, 0, 1] = odd
    bounds.take_in(rewards(reward))
    assert reach(bounds)[0].tolist() == [0.0, 0.0] and reach(bounds)[1].tolist() == [2.0, 2.0]


@pytest.mark.parametrize("gamma, bound", [(0.0, [1.0, 1.0]), (np.array([0.5, 0.9]), [2.0, 10.0])])
def test_the_horizon_is_that_of_the_discount(gamma: Any, bound: list[float]) -> None:
    bounds = ReturnBounds(SPEC, gamma)
    bounds.take_in(rewards(torch.ones(2, 1, 3).double()))
    np.testing.assert_allclose(reach(bounds)[1], bound)
    np.testing.assert_allclose(reach(bounds, 0.25 * ONE)[1], 0.25 * np.array(bound))


def test_without_discounting_there_is_no_bound_but_the_sign() -> None:
    bounds = ReturnBounds(SPEC, 1.0)
    bounds.take_in(rewards(-torch.ones(2, 1, 3).double()))
    low, high = bounds.clip(torch.full((2, 1, 1), -1e6).double(), ONE), reach(bounds)[1]
    assert low.flatten().tolist() == [-1e6, -1e6] and high.tolist() == [0.0, 0.0]


def test_what_is_no_number_stays_so() -> None:
    """A network that has failed must be seen to have failed."""
    bounds = ReturnBounds(SPEC, 0.9)
    bounds.take_in(rewards(torch.ones(2, 1, 3).double()))
    assert bounds.clip(torch.full((2, 1, 1), torch.nan).double(), ONE).isnan().all()


def test_those_that_are_off_are_saved_nowhere() -> None:
    assert not ReturnBounds(SPEC, 0.9, on=False).state()
    assert set(ReturnBounds(SPEC, 0.9).state()) == {"low", "high"}
