"""DDPG and TD3: what each of the three additions does, by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from actor_critics import (
    ASYMMETRIC,
    GAMMA,
    LSTM,
    MLP,
    NO_STEP,
    constant,
    make,
    rollout,
    with_constant_critics,
)

from rlrun.config.compose import compose
from rlrun.rng import Stream

FIRST = torch.zeros(2, 4000, dtype=torch.bool)
OBS = torch.zeros(2, 4000, 3, dtype=torch.float64)


def judged(algo: Any, batch: Any) -> torch.Tensor:
    """The actions [R, S, B, A], in [-1, 1], that the target critics are asked about."""
    asked = []
    judge_ahead = algo.judge_ahead

    def record(*args: Any) -> torch.Tensor:
        asked.append(args[-1])
        return judge_ahead(*args)

    algo.judge_ahead = record
    algo.target(batch, algo.learned(batch))
    return asked[0]


def test_ddpg_is_td3_without_its_additions() -> None:
    td3, ddpg = compose(["algo=td3"]).algo, compose(["algo=ddpg"]).algo
    assert type(td3) is type(ddpg)
    assert (td3.twin, td3.policy_delay, td3.target.every) == (True, 2, 2) and td3.target_noise > 0
    assert (ddpg.twin, ddpg.policy_delay, ddpg.target.every) == (False, 1, 1) and ddpg.target_noise == 0
    assert len(make("td3").critics) == len(make("td3").targets) == 2 and len(make("ddpg").critics) == 1


def test_the_lesser_critic_counts_everywhere_it_is_less() -> None:
    algo = make("td3", target_noise=0.0)
    batch = rollout(1, 1.0)
    learned = algo.learned(batch)
    action = judged(algo, batch)
    one, two = (
        critic(batch.next_obs, (), batch.first, extra=action)[0].squeeze(-1) for critic in algo.targets
    )
    assert (one < two).any() and (two < one).any()  # they began differently
    torch.testing.assert_close(algo.target(batch, learned), 1.0 + GAMMA * torch.where(one < two, one, two))


@pytest.mark.parametrize("model", [MLP, LSTM])
def test_targets_act_by_the_target_policy(model: Any) -> None:
    """The online policy, wherever it has gone, has no say."""
    algo = make("td3", model, target_noise=0.0)
    batch = rollout(algo.length)
    before = judged(algo, batch)
    constant(algo.actor, 5.0)
    assert torch.equal(judged(algo, batch), before)
    constant(algo.target_actor, 5.0)
    torch.testing.assert_close(judged(algo, batch), torch.full_like(before, 5.0).tanh())


@pytest.mark.parametrize("mean", [0.0, 0.9, -0.99])
def test_smoothing_is_clipped_noise_that_stays_in_bounds(mean: float) -> None:
    """Deviation 0.5, at most 0.6 from the target policy's action, and never beyond 1."""
    algo = make("td3", LSTM, target_noise=0.5, target_noise_clip=0.6, sequence_length=500)
    constant(algo.target_actor, float(torch.atanh(torch.tensor(mean, dtype=torch.float64))))
    action = judged(algo, rollout(500))  # [R, S, B, A]
    assert action.abs().max() <= 1.0 and (action - mean).abs().max() <= 0.6 + 1e-9
    draw = 0.5 * torch.randn(200_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = (mean + draw.clamp(-0.6, 0.6)).clamp(-1.0, 1.0)
    assert abs(float(action.mean() - expected.mean())) < 0.02
    assert abs(float(action.std() - expected.std())) < 0.02
    for row in action:  # each replica, step, env and element its own
        assert len(row.unique()) > 0.3 * row.numel()
    assert not torch.equal(action[0], action[1])


@pytest.mark.parametrize("delay, moves", [(1, [1, 1, 1, 1, 1, 1, 1]), (3, [0, 0, 1, 0, 0, 1, 0])])
def test_the_policy_moves_every_so_many_updates(delay: int, moves: list[int]) -> None:
    """The critics move at each of them."""
    algo = make("td3", policy_delay=delay)
    moved, learned = [], []
    for _ in moves:
        actor, critics = algo.actor_optim.flat.clone(), algo.critic_optim.flat.clone()
        metrics = algo.update(rollout(4, 1.0), step=NO_STEP)
        moved.append(int(not torch.equal(algo.actor_optim.flat, actor)))
        learned.append(not torch.equal(algo.critic_optim.flat, critics))
        assert ("loss/actor" in metrics) == bool(moved[-1])
    assert moved == moves and all(learned)


def test_the_target_policy_follows_with_the_target_critics() -> None:
    algo = make("td3", policy_delay=1, target__tau=0.25, target__every=2)
    begin = algo.actor_sync.target.clone()
    assert torch.equal(begin, algo.actor_optim.flat)
    algo.update(rollout(4, 1.0), step=NO_STEP)
    assert torch.equal(algo.actor_sync.target, begin) and not torch.equal(algo.actor_optim.flat, begin)
    algo.update(rollout(4, 1.0), step=NO_STEP)
    torch.testing.assert_close(algo.actor_sync.target, begin.lerp(algo.actor_optim.flat, 0.25))
    obs, first = OBS[:, :3] + 1.0, FIRST[:, :3]
    out, online = algo.target_actor.step(obs, (), first)[0], algo.actor.step(obs, (), first)[0]
    assert not torch.equal(out, online)  # and is a network of its own


def test_the_policy_climbs_the_first_critic() -> None:
    """Whatever the other one says: -(a - 0.5)^2, made by hand, draws the greedy action to 0.5."""
    algo = make("td3", actor_learning_rate=0.01)
    batch = rollout(1)
    learned = algo.learned(batch)
    actor_loss = algo.actor_loss

    class Paraboloid:
        def instead(self, learned: Any, action: torch.Tensor) -> torch.Tensor:
            return -(action - 0.5).square().sum(-1, keepdim=True)

    for _ in range(300):
        loss = actor_loss(algo.trace(algo.actor, batch, learned), Paraboloid(), learned)
        algo.actor_optim.step(loss, 0.01)
    obs, first = batch.obs[:, 0], batch.first[:, 0]
    act = algo.act(obs, (), first, step=NO_STEP, mode="greedy", rng=Stream((1, 2), "x"))
    unit = algo.bounds.invert(act.action)
    torch.testing.assert_close(unit, torch.full((2, 4, 2), 0.5).double(), atol=0.05, rtol=0)

    asked = []
    algo.actor_loss = lambda actor, critic, learned: (
        asked.append(critic.network) or actor_loss(actor, critic, learned)
    )
    for _ in range(algo.config.policy_delay):
        algo.learn(batch, NO_STEP)
    assert asked == [algo.critics[0]]


def test_the_policy_loss_is_minus_the_value() -> None:
    algo = with_constant_critics(make("ddpg"))
    batch = rollout(1)
    learned = algo.learned(batch)
    loss = algo.actor_loss(algo.trace(algo.actor, batch, learned), algo.judge(batch, learned)[0], learned)
    torch.testing.assert_close(loss.double(), torch.full((2,), -100.0, dtype=torch.float64))


@pytest.mark.parametrize("recipe", ["td3", "ddpg"])
def test_exploration_is_noise_around_the_policy_cut_at_the_box(recipe: str) -> None:
    """In units of half the box's width; at the box's edge half of it is cut."""
    algo = make(recipe, exploration_noise=0.2)
    low, high = (torch.tensor(bound, dtype=torch.float64) for bound in (ASYMMETRIC.low, ASYMMETRIC.high))

    def act(mode: str) -> torch.Tensor:
        return algo.act(OBS, (), FIRST, step=NO_STEP, mode=mode, rng=Stream((1, 2), "x")).action

    constant(algo.actor, 0.0)
    noise = (act("explore") - act("greedy")) / ((high - low) / 2.0)
    assert noise.mean((0, 1)).abs().max() < 0.01 and (noise.std((0, 1)) - 0.2).abs().max() < 0.01
    assert torch.equal(act("sample"), act("greedy"))  # the policy itself is not random
    constant(algo.actor, 50.0)
    assert torch.equal(act("greedy"), high.expand(2, 4000, 2))
    at_edge = (act("explore") == high).double().mean((0, 1))
    assert (at_edge - 0.5).abs().max() < 0.03 and (act("explore") <= high).all()


def test_critics_judge_all_actions_on_one_scale() -> None:
    """Newtons or millinewtons: the same learning."""
    from rlrun.spaces import Box

    batch, metrics = rollout(4, 1.0), []
    for factor in (1.0, 1000.0):
        low, high = (tuple(factor * x for x in bound) for bound in (ASYMMETRIC.low, ASYMMETRIC.high))
        algo = make("td3", action=Box((2,), low, high))
        for _ in range(4):
            metrics.append(algo.update(batch.with_(action=batch.action * factor), step=NO_STEP))
    for name, value in metrics[3].items():
        torch.testing.assert_close(metrics[7][name], value, rtol=1e-6, atol=1e-9)
