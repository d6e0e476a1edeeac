"""Soft actor-critic: its policy, its temperature, and what entropy is worth."""

from __future__ import annotations

import copy

import pytest
import torch
from actor_critics import ASYMMETRIC, GAMMA, NO_STEP, make, rollout, with_constant_critics

from rlrun.algos.actor_critic import min_q
from rlrun.config import ConfigError
from rlrun.config.compose import compose
from rlrun.core import Rollout
from rlrun.rng import Stream
from rlrun.spaces import Box


def test_target_looks_at_the_windows_end() -> None:
    """The successor of the window's last step is judged, not that of its first, nor a later one."""
    algo = make("sac", n_step=3, alpha=1e-12)
    batch = rollout(3, 0.0, False, [0, 1, 0])
    learned, noise = algo.learned(batch), copy.deepcopy(algo.noise)
    target = algo.target(batch, learned, algo.trace(algo.actor, batch, learned))
    never = torch.zeros(2, 1, 4, dtype=torch.bool)
    next_obs = batch.next_obs[:, 1:2]
    action, _ = algo.policy(algo.actor(next_obs, (), never)[0]).rsample(noise)
    q = min_q([network(next_obs, (), never, extra=action)[0] for network in algo.targets])
    torch.testing.assert_close(target, GAMMA**2 * q)


def test_target_values_entropy() -> None:
    """Being random in future is worth alpha times the entropy."""
    algo = with_constant_critics(make("sac", alpha=0.5))
    noise = copy.deepcopy(algo.noise)
    batch = rollout(1, 1.0)
    learned = algo.learned(batch)
    policy = algo.policy(algo.actor(batch.next_obs, (), batch.first)[0])
    log_prob = policy.rsample(noise)[1]
    target = algo.target(batch, learned, algo.trace(algo.actor, batch, learned))
    torch.testing.assert_close(target, 1.0 + GAMMA * (7.0 - 0.5 * log_prob))


def test_the_lesser_critic_counts_everywhere_it_is_less() -> None:
    algo = make("sac")
    batch = rollout(1)
    one, two = (trace.out for trace in algo.judge(batch, algo.learned(batch)))
    assert (one < two).any() and (two < one).any()  # they began differently
    assert torch.equal(min_q([one, two]), torch.where(one < two, one, two).squeeze(-1))
    assert min_q([one, two]).shape == (2, 1, 4)


def test_policy_density_integrates_to_one_over_its_box() -> None:
    algo = make("sac")
    out = torch.tensor([0.4, -0.8, 0.5, 0.2], dtype=torch.float64).view(1, 1, 4)
    n = 1200
    line = (torch.arange(n, dtype=torch.float64) + 0.5) / n * 2.0 - 1.0
    grid = torch.cartesian_prod(line, line).view(1, -1, 2)
    density = algo.policy(out).log_prob(grid).exp()
    assert float(density.sum()) * (2.0 / n) ** 2 == pytest.approx(1.0, abs=2e-3)


def test_log_prob_is_summed_over_actions_only_and_belongs_to_its_sample() -> None:
    algo = make("sac")
    batch = rollout(1)
    policy = algo.policy(algo.actor(batch.obs, (), batch.first)[0])
    action, log_prob = policy.rsample(Stream((1, 2), "test"))
    assert action.shape == (2, 1, 4, 2) and log_prob.shape == (2, 1, 4)
    torch.testing.assert_close(log_prob, policy.log_prob(action), rtol=1e-6, atol=1e-6)


def test_the_actor_climbs_the_lesser_critic() -> None:
    """With critics -(a - 0.5)^2 and 1, made by hand, and no temperature the greedy action goes to 0.5."""
    algo = make("sac", alpha=1e-12)

    class Paraboloid:
        def instead(self, learned: Rollout, action: torch.Tensor) -> torch.Tensor:
            return -(action - 0.5).square().sum(-1, keepdim=True)

    class One:
        def instead(self, learned: Rollout, action: torch.Tensor) -> torch.Tensor:
            return torch.ones_like(action[..., :1])

    batch = rollout(1)
    learned = algo.learned(batch)
    for _ in range(300):
        actor = algo.trace(algo.actor, batch, learned)
        algo.actor_optim.step(algo.actor_loss(actor, [One(), Paraboloid()], learned)[0], 0.01)
    act = algo.act(
        batch.obs[:, 0], (), batch.first[:, 0], step=NO_STEP, mode="greedy", rng=Stream((1, 2), "x")
    )
    torch.testing.assert_close(
        algo.bounds.invert(act.action), torch.full((2, 4, 2), 0.5).double(), atol=0.05, rtol=0
    )


@pytest.mark.parametrize("target_entropy, sign", [(50.0, 1), (-50.0, -1)])
def test_temperature_rises_where_entropy_is_missing(target_entropy: float, sign: int) -> None:
    algo = make("sac", target_entropy=target_entropy)
    before = algo.alpha.detach()
    for _ in range(3):
        algo.update(rollout(4), step=NO_STEP)
    assert ((algo.alpha.detach() - before) * sign > 0).all()


def test_target_entropy_is_minus_the_number_of_action_dimensions() -> None:
    """And the temperature stands still there, each replica's on its own."""
    algo = make("sac")
    assert algo.target_entropy == -2.0
    loss = algo.alpha_loss(torch.tensor([-2.0, -3.0], dtype=torch.float64))
    (slope,) = torch.autograd.grad(loss.sum(), [algo.temperature["log_alpha"]])
    assert slope.flatten().tolist() == [0.0, -1.0]


def test_a_fixed_temperature_stays() -> None:
    algo = make("sac", alpha=0.2, alpha_learning_rate=0.0)
    algo.update(rollout(4), step=NO_STEP)
    torch.testing.assert_close(algo.alpha.detach(), torch.full((2,), 0.2, dtype=torch.float64))


def test_temperature_does_not_depend_on_the_unit_of_actions() -> None:
    """Newtons or millinewtons: the same entropy, the same learning."""
    batch = rollout(4, 1.0)
    metrics = []
    for factor in (1.0, 1000.0):
        low, high = (tuple(factor * x for x in bound) for bound in (ASYMMETRIC.low, ASYMMETRIC.high))
        algo = make("sac", action=Box((2,), low, high))
        for _ in range(3):
            metrics.append(algo.update(batch.with_(action=batch.action * factor), step=NO_STEP))
    for name, value in metrics[2].items():
        torch.testing.assert_close(metrics[5][name], value, rtol=1e-6, atol=1e-9)


def test_a_temperature_of_zero_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"algo\.alpha is 0"):
        compose(["algo=sac", "algo.alpha=0"])
