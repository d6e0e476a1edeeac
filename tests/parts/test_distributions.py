"""Densities integrate to 1, samples follow them, and bounds are never left."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rlrun.core import Spec
from rlrun.parts.distributions import (
    Bounds,
    Categorical,
    Gaussian,
    MultiCategorical,
    SquashedGaussian,
    action_head,
)
from rlrun.rng import Stream
from rlrun.spaces import Box, Discrete, MultiDiscrete

KINDS = {"dtype": torch.float64}


def spec(action, seeds=(1, 2), dtype="float64"):
    return Spec(Box((3,), (-1.0,) * 3, (1.0,) * 3), action, 4, seeds, 100, dtype=dtype)


def test_categorical_by_hand():
    probabilities = torch.tensor([[[0.5, 0.25, 0.25]], [[0.1, 0.2, 0.7]]], **KINDS)  # [R, N, A]
    categorical = Categorical(probabilities.log() + 3.0)
    assert categorical.mode().tolist() == [[0], [2]]
    torch.testing.assert_close(
        categorical.log_prob(torch.tensor([[1], [2]])).exp(), probabilities[[0, 1], 0, [1, 2]][:, None]
    )
    by_hand = [[1.5 * math.log(2.0)], [-sum(p * math.log(p) for p in (0.1, 0.2, 0.7))]]
    torch.testing.assert_close(categorical.entropy(), torch.tensor(by_hand, **KINDS))


def test_categorical_samples_follow_the_probabilities():
    probabilities = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]], **KINDS)
    draws = Categorical(probabilities.log()[:, None].expand(2, 20000, 3)).sample(Stream((1, 2), "a"))
    frequency = torch.nn.functional.one_hot(draws, 3).double().mean(1)
    torch.testing.assert_close(frequency, probabilities, atol=0.015, rtol=0.0)


def test_a_nan_row_stays_alone():
    logits = torch.zeros(2, 5, 3, **KINDS)
    clean = Categorical(logits).sample(Stream((1, 2), "a"))
    logits[0] = math.nan
    assert torch.equal(Categorical(logits).sample(Stream((1, 2), "a"))[1], clean[1])


def test_multi_categorical_is_independent_categoricals():
    logits = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0), **KINDS)
    multi = MultiCategorical(logits, (2, 3))
    grid = torch.cartesian_prod(torch.arange(2), torch.arange(3))  # all six actions
    density = torch.stack([multi.log_prob(action.expand(2, 4, 2)).exp() for action in grid])
    torch.testing.assert_close(density.sum(0), torch.ones(2, 4, **KINDS))
    torch.testing.assert_close(multi.entropy(), -(density * density.log()).sum(0))
    assert torch.equal(multi.mode(), grid[density.argmax(0)])
    draws = multi.sample(Stream((1, 2), "a"))
    assert draws.shape == (2, 4, 2) and (draws < torch.tensor([2, 3])).all() and (draws >= 0).all()


def test_gaussian_density_integrates_to_one_and_has_its_entropy():
    mean = torch.tensor([[[0.3, -1.0]]], **KINDS)
    log_std = torch.tensor([[[-0.5, 0.2]]], **KINDS)
    gaussian = Gaussian(mean, log_std)
    x, y = torch.linspace(-6, 6, 401, **KINDS), torch.linspace(-10, 8, 401, **KINDS)
    points = torch.cartesian_prod(x, y)[None]
    area = (x[1] - x[0]) * (y[1] - y[0])
    log_prob = gaussian.log_prob(points)
    assert (log_prob.exp().sum() * area).item() == pytest.approx(1.0, abs=1e-6)
    assert gaussian.entropy().item() == pytest.approx(
        -(log_prob.exp() * log_prob).sum().item() * area.item(), abs=1e-5
    )
    assert gaussian.mode() is mean


@pytest.mark.parametrize("mean,log_std", [(0.0, 0.0), (1.5, -1.0), (-0.7, 0.5)])
def test_squashed_gaussian_density_integrates_to_one(mean, log_std):
    bounds = Bounds(Box((1,), (-1.0,), (5.0,)), "float64")
    squashed = SquashedGaussian(
        torch.full((1, 1, 1), mean, **KINDS), torch.full((1, 1, 1), log_std, **KINDS), bounds
    )
    edges = torch.linspace(-1.0, 5.0, 200_001, **KINDS)
    middle = ((edges[1:] + edges[:-1]) / 2.0)[None, :, None]
    mass = squashed.log_prob(middle).exp().sum() * (edges[1] - edges[0])
    assert mass.item() == pytest.approx(1.0, abs=1e-4)


def test_squashed_gaussian_samples_follow_the_density_within_the_bounds():
    bounds = Bounds(Box((2,), (-1.0, 0.0), (5.0, 0.5)), "float64")
    shape = (2, 20000, 2)
    squashed = SquashedGaussian(torch.full(shape, 0.4, **KINDS), torch.full(shape, -0.3, **KINDS), bounds)
    action, log_prob = squashed.rsample(Stream((1, 2), "a"))
    assert log_prob.shape == shape[:-1]
    torch.testing.assert_close(log_prob, squashed.log_prob(action), atol=1e-8, rtol=1e-8)
    assert (action > bounds.low).all() and (action < bounds.high).all()
    # P(action <= median) = 1/2, and the mode is that median
    below = (action <= squashed.mode()).double().mean((0, 1))
    torch.testing.assert_close(below, torch.full_like(below, 0.5), atol=0.01, rtol=0.0)
    torch.testing.assert_close(
        squashed.mode()[0, 0], torch.tensor([2 + 3 * math.tanh(0.4), 0.25 + 0.25 * math.tanh(0.4)], **KINDS)
    )


def test_an_element_of_a_single_value_and_the_widest_box_stay_finite():
    most = float(torch.finfo(torch.float32).max)
    bounds = Bounds(Box((3,), (2.0, -most, -1.0), (2.0, most, 1.0)))
    action = bounds.apply(torch.tensor([[0.3, 0.5, -0.5]]))
    assert action.tolist() == [[2.0, most / 2, -0.5]]
    assert bounds.invert(action).tolist() == [[0.0, 0.5, -0.5]]
    squashed = SquashedGaussian(torch.zeros(1, 3), torch.zeros(1, 3), bounds)
    assert torch.isfinite(squashed.rsample(Stream((1,), "a"))[1]).all()


def test_squashed_gaussian_gradient_is_finite_far_outside():
    bounds = Bounds(Box((1,), (-2.0,), (2.0,)))
    mean = torch.full((1, 3, 1), 40.0, requires_grad=True)
    action, log_prob = SquashedGaussian(mean, torch.zeros(1, 3, 1), bounds).rsample(Stream((1,), "a"))
    log_prob.sum().backward()
    assert torch.isfinite(log_prob).all() and torch.isfinite(mean.grad).all()
    assert (action <= 2.0).all()


def test_rsample_gradient_equals_finite_differences():
    bounds = Bounds(Box((1,), (-1.0,), (3.0,)), "float64")

    def both(mean, log_std):
        action, log_prob = SquashedGaussian(mean, log_std, bounds).rsample(Stream((7,), "a"))
        return action, log_prob

    inputs = (
        torch.full((1, 2, 1), 0.3, requires_grad=True, **KINDS),
        torch.full((1, 2, 1), -0.2, requires_grad=True, **KINDS),
    )
    assert torch.autograd.gradcheck(both, inputs)


def test_bounds_map_and_leave_unbounded_elements_alone():
    bounds = Bounds(Box((3,), (-1.0, 2.0, -math.inf), (3.0, 10.0, math.inf)), "float64")
    unit = torch.tensor([0.5, -1.0, 7.0], **KINDS)
    assert bounds.apply(unit).tolist() == [2.0, 2.0, 7.0]
    assert bounds.apply(torch.tensor([9.0, -9.0, -9.0], **KINDS)).tolist() == [3.0, 2.0, -9.0]
    torch.testing.assert_close(bounds.invert(bounds.apply(unit)), unit)


@pytest.mark.parametrize(
    "action,size,shape",
    [
        (Discrete(3), 3, ()),
        (MultiDiscrete((2, 4)), 6, (2,)),
        (Box((2, 2), (-1.0, 0.0, -3.0, 2.0), (1.0, 1.0, 3.0, 4.0)), 4, (2, 2)),
    ],
)
@pytest.mark.parametrize("lead", [(2, 5), (2, 7, 5)])
def test_action_head_shapes(action, size, shape, lead):
    head = action_head(spec(action))
    assert head.size == size
    distribution = head.distribution(
        torch.randn(*lead, size, generator=torch.Generator().manual_seed(0), **KINDS)
    )
    raw = distribution.sample(Stream((1, 2), "a"))
    assert head.action(raw).shape == (*lead, *shape)
    assert distribution.log_prob(raw).shape == lead and distribution.entropy().shape == lead
    assert head.action(distribution.mode()).shape == (*lead, *shape)


def test_gaussian_head_has_a_deviation_per_replica_and_clips_only_what_the_env_sees():
    head = action_head(spec(Box((1,), (0.0,), (4.0,))), log_std=0.5)
    log_std = head.parameters["log_std"]
    assert log_std.shape == (2, 1, 1)
    with torch.no_grad():
        log_std[1] = -2.0
    distribution = head.distribution(torch.zeros(2, 4000, 1, **KINDS))
    raw = distribution.sample(Stream((1, 2), "a"))
    np.testing.assert_allclose(raw.detach().std(1).flatten(), np.exp([0.5, -2.0]), rtol=0.05)
    assert raw[0].abs().max() > 1.0
    env_action = head.action(raw)
    assert env_action.min() == 0.0 and env_action.max() == 4.0
    torch.testing.assert_close(env_action[1], 2.0 + 2.0 * raw[1])
