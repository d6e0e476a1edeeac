"""Soft actor-critic: targets, temperature and bounds with answers known by hand."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from support import Trial, small

from rlrun import runner
from rlrun.algos.sac import SAC, SACConfig
from rlrun.compose import compose
from rlrun.config import ConfigError
from rlrun.core import Box, Rollout, Spec
from rlrun.models import MLPConfig
from rlrun.rng import Stream

GAMMA = 0.9
ASYMMETRIC = Box((2,), (-1.0, 0.25), (3.0, 0.5))
NO_STEP = np.zeros(2, np.int64)


def make(action: Box = ASYMMETRIC, seeds: tuple[int, ...] = (1, 2), **changes: Any) -> SAC:
    """A small SAC in float64 on observations [3]; one gradient step an update."""
    config = compose(["algo=sac"]).algo
    values = {
        "gamma": GAMMA,
        "batch_size": 16,
        "learning_starts": 0,
        "buffer_size": 64,
        "train_every": 4,
    } | changes
    for name, value in values.items():
        setattr(config, name, value)
    obs = Box((3,), (-9.0,) * 3, (9.0,) * 3)
    return SAC(
        Spec(obs, action, 4, seeds, 1000, dtype="float64"), config, MLPConfig([16], "relu", "uniform", False)
    )


def rollout(
    steps: int, reward: Any = 0.0, terminated: Any = False, truncated: Any = False, **fields: Any
) -> Rollout:
    """R = 2, N = 4; reward and flags are one value, or one a step; observations and actions random."""
    lead = (2, steps, 4)
    generator = torch.Generator().manual_seed(steps)

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
    return Rollout(**values | fields)


def constant(network: Any, value: float) -> None:
    """Make a network's output one value whatever it sees."""
    for parameter in network.parameters():
        parameter.data.zero_()
    network.head.layers[-1].bias.data.fill_(value)


def with_constant_critics(algo: SAC) -> SAC:
    """Targets of value 10 and 7; the online critics' 100 must not be used."""
    for network, value in zip((*algo.targets, *algo.critics), (10.0, 7.0, 100.0, 100.0), strict=True):
        constant(network, value)
    return algo


@pytest.mark.parametrize(
    "terminated, truncated, total, discount",
    [
        ([0, 0, 0], [0, 0, 0], 1 + 2 * GAMMA + 4 * GAMMA**2, GAMMA**3),
        ([0, 0, 0], [0, 1, 0], 1 + 2 * GAMMA, GAMMA**2),  # the clock ended: bootstrap from there
        ([0, 0, 0], [1, 0, 0], 1, GAMMA),
        ([0, 1, 0], [0, 0, 0], 1 + 2 * GAMMA, 0.0),  # the task ended: nothing beyond
        ([0, 0, 1], [0, 0, 0], 1 + 2 * GAMMA + 4 * GAMMA**2, 0.0),
    ],
)
def test_targets_by_hand(terminated: list[int], truncated: list[int], total: float, discount: float) -> None:
    """Rewards 1, 2, 4; the lesser target network says 7; next to no temperature."""
    algo = with_constant_critics(make(n_step=3, alpha=1e-12))
    target = algo.target(rollout(3, [1.0, 2.0, 4.0], terminated, truncated))
    assert target.shape == (2, 1, 4) and not target.requires_grad
    torch.testing.assert_close(target, torch.full((2, 1, 4), total + discount * 7.0, dtype=torch.float64))


def test_target_looks_at_the_windows_end() -> None:
    """The successor of the window's last step is judged, not that of its first, nor a later one."""
    algo = make(n_step=3, alpha=1e-12)
    batch = rollout(3, 0.0, False, [0, 1, 0])
    algo.noise.counter = np.zeros(2, np.int64)
    noise = copy.deepcopy(algo.noise)
    target = algo.target(batch)
    never = torch.zeros(2, 1, 4, dtype=torch.bool)
    next_obs = batch.next_obs[:, 1:2]
    action, _ = algo.policy(algo.actor(next_obs, (), never)[0]).rsample(noise)
    q = algo.pessimistic(algo.targets, next_obs, never, action)
    torch.testing.assert_close(target, GAMMA**2 * q)


def test_target_values_entropy() -> None:
    """Being random in future is worth alpha times the entropy."""
    algo = with_constant_critics(make(alpha=0.5))
    noise = copy.deepcopy(algo.noise)
    batch = rollout(1, 1.0)
    policy = algo.policy(algo.actor(batch.next_obs, (), batch.first)[0])
    log_prob = policy.rsample(noise)[1]
    torch.testing.assert_close(algo.target(batch), 1.0 + GAMMA * (7.0 - 0.5 * log_prob))


def test_the_lesser_critic_counts_everywhere_it_is_less() -> None:
    algo = make()
    batch = rollout(1)
    action = algo.bounds.invert(batch.action)
    one, two = (critic(batch.obs, (), batch.first, extra=action)[0].squeeze(-1) for critic in algo.critics)
    q = algo.pessimistic(algo.critics, batch.obs, batch.first, action)
    assert (one < two).any() and (two < one).any()  # they began differently
    assert torch.equal(q, torch.where(one < two, one, two))


def test_policy_density_integrates_to_one_over_its_box() -> None:
    algo = make()
    out = torch.tensor([0.4, -0.8, 0.5, 0.2], dtype=torch.float64).view(1, 1, 4)
    n = 1200
    line = (torch.arange(n, dtype=torch.float64) + 0.5) / n * 2.0 - 1.0
    grid = torch.cartesian_prod(line, line).view(1, -1, 2)
    density = algo.policy(out).log_prob(grid).exp()
    assert float(density.sum()) * (2.0 / n) ** 2 == pytest.approx(1.0, abs=2e-3)


def test_log_prob_is_summed_over_actions_only_and_belongs_to_its_sample() -> None:
    algo = make()
    batch = rollout(1)
    policy = algo.policy(algo.actor(batch.obs, (), batch.first)[0])
    action, log_prob = policy.rsample(Stream((1, 2), "test"))
    assert action.shape == (2, 1, 4, 2) and log_prob.shape == (2, 1, 4)
    torch.testing.assert_close(log_prob, policy.log_prob(action), rtol=1e-6, atol=1e-6)


def test_the_actor_climbs_the_critic_and_leaves_it_alone() -> None:
    """With critics -(a - 0.5)^2, made by hand, and no temperature the greedy action goes to 0.5."""
    algo = make(alpha=1e-12, actor_learning_rate=0.01)

    def paraboloid(obs: Any, memory: Any, first: Any, extra: torch.Tensor) -> tuple[torch.Tensor, tuple[()]]:
        return -(extra - 0.5).square().sum(-1, keepdim=True), ()

    critics = algo.critic_optim.flat.clone()
    algo.pessimistic = lambda _, obs, first, action: paraboloid(obs, (), first, action)[0].squeeze(-1)  # type: ignore[method-assign]
    batch = rollout(1)
    for _ in range(300):
        algo.actor_optim.step(algo.actor_loss(batch)[0], 0.01)
    act = algo.act(
        batch.obs[:, 0], (), batch.first[:, 0], step=NO_STEP, mode="greedy", rng=Stream((1, 2), "x")
    )
    torch.testing.assert_close(
        algo.bounds.invert(act.action), torch.full((2, 4, 2), 0.5).double(), atol=0.05, rtol=0
    )
    assert torch.equal(algo.critic_optim.flat, critics)


@pytest.mark.parametrize("target_entropy, sign", [(50.0, 1), (-50.0, -1)])
def test_temperature_rises_where_entropy_is_missing(target_entropy: float, sign: int) -> None:
    algo = make(target_entropy=target_entropy)
    before = algo.alpha.detach()
    for _ in range(3):
        algo.update(rollout(4), step=NO_STEP)
    assert ((algo.alpha.detach() - before) * sign > 0).all()


def test_target_entropy_is_minus_the_number_of_action_dimensions() -> None:
    """And the temperature stands still there, each replica's on its own."""
    algo = make()
    assert algo.target_entropy == -2.0
    loss = algo.alpha_loss(torch.tensor([-2.0, -3.0], dtype=torch.float64))
    (slope,) = torch.autograd.grad(loss.sum(), [algo.temperature["log_alpha"]])
    assert slope.flatten().tolist() == [0.0, -1.0]


def test_a_fixed_temperature_stays() -> None:
    algo = make(alpha=0.2, alpha_learning_rate=0.0)
    algo.update(rollout(4), step=NO_STEP)
    torch.testing.assert_close(algo.alpha.detach(), torch.full((2,), 0.2, dtype=torch.float64))


def test_temperature_does_not_depend_on_the_unit_of_actions() -> None:
    """Newtons or millinewtons: the same entropy, the same learning."""
    batch = rollout(4, 1.0)
    metrics = []
    for factor in (1.0, 1000.0):
        low, high = (tuple(factor * x for x in bound) for bound in (ASYMMETRIC.low, ASYMMETRIC.high))
        algo = make(Box((2,), low, high))
        for _ in range(3):
            metrics.append(algo.update(batch.with_(action=batch.action * factor), step=NO_STEP))
    for name, value in metrics[2].items():
        torch.testing.assert_close(metrics[5][name], value, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("mode", ["explore", "sample", "greedy"])
def test_actions_never_leave_an_asymmetric_box(mode: str) -> None:
    algo = make()
    low, high = (torch.tensor(bound, dtype=torch.float64) for bound in (ASYMMETRIC.low, ASYMMETRIC.high))
    for parameter in algo.actor.parameters():
        parameter.data.mul_(30.0)  # far into the saturation of tanh
    obs, first = torch.randn(2, 500, 3, dtype=torch.float64), torch.zeros(2, 500, dtype=torch.bool)
    action = algo.act(obs, (), first, step=NO_STEP, mode=mode, rng=Stream((1, 2), "x")).action  # type: ignore[arg-type]
    assert action.shape == (2, 500, 2)
    assert (action >= low).all() and (action <= high).all()
    assert (action.amin((0, 1)) < low + 0.1).all() and (action.amax((0, 1)) > high - 0.1).all()  # and fill it


def test_the_first_steps_are_uniform_and_each_replica_has_its_own_clock() -> None:
    algo = make(learning_starts=10)
    obs, first = torch.zeros(2, 4000, 3, dtype=torch.float64), torch.zeros(2, 4000, dtype=torch.bool)
    step = np.array([9, 10])
    rng, again = Stream((1, 2), "x"), Stream((1, 2), "x")
    action = algo.bounds.invert(algo.act(obs, (), first, step=step, mode="explore", rng=rng).action)
    early, late = action
    assert early.mean(0).abs().max() < 0.05  # the box's centre
    assert (early.square().mean(0) - 1.0 / 3.0).abs().max() < 0.03  # and a uniform's variance
    policy = algo.policy(algo.actor.step(obs, (), first)[0]).sample(again)
    torch.testing.assert_close(late, policy[1])
    sampled = algo.act(obs, (), first, step=step, mode="sample", rng=Stream((1, 2), "x")).action
    torch.testing.assert_close(algo.bounds.invert(sampled), policy)  # evaluation never draws uniformly


def test_stored_actions_are_those_that_were_executed() -> None:
    trial = Trial.of(small("sac", replicas=2))
    executed = []
    env_step = trial.task.env.step  # type: ignore[union-attr]

    def step(actions: np.ndarray) -> Any:
        executed.append(actions.copy())
        return env_step(actions)

    trial.task.env.step = step  # type: ignore[union-attr, method-assign]
    trial.train(30)
    stored = trial.algo.state()["replay.action"]
    steps = np.stack(executed).reshape(len(executed), 2, -1, 1).swapaxes(0, 1)
    np.testing.assert_array_equal(stored.numpy(), steps)
    assert np.abs(steps).max() > 1.5 and np.abs(steps).max() <= 2.0


@pytest.mark.parametrize("end, value", [("truncated", 2.0), ("terminated", 1.0)])
def test_a_reward_of_one_forever_or_once(end: str, value: float) -> None:
    """Every step ends its episode: by the clock it is worth 1 / (1 - gamma) = 2, by the task 1."""
    algo = make(
        gamma=0.5, alpha=1e-12, alpha_learning_rate=0.0, critic_learning_rate=0.01, target=_target(0.3, 1)
    )
    step = rollout(1, 1.0)
    flags = {end: torch.ones(2, 1, 4, dtype=torch.bool)}
    step = step.with_(obs=torch.ones_like(step.obs), next_obs=torch.ones_like(step.obs), **flags)
    for _ in range(200):
        metrics = algo.update(step, step=NO_STEP)
    torch.testing.assert_close(metrics["train/q"], torch.full((2,), value).double(), rtol=0.03, atol=0.0)


def _target(tau: float, every: int) -> Any:
    target = compose(["algo=sac"]).algo.target
    target.tau, target.every = tau, every
    return target


def test_target_networks_move_when_they_are_due() -> None:
    algo = make(target=_target(0.5, 3))
    begin = algo.target_flat.clone()
    assert torch.equal(begin, algo.critic_optim.flat)
    for _ in range(2):
        algo.update(rollout(4), step=NO_STEP)
    assert torch.equal(algo.target_flat, begin) and not torch.equal(algo.critic_optim.flat, begin)
    algo.update(rollout(4), step=NO_STEP)
    torch.testing.assert_close(algo.target_flat, 0.5 * begin + 0.5 * algo.critic_optim.flat)
    assert (algo.target_flat != begin).float().mean() > 0.9  # both critics'


@pytest.mark.parametrize(
    "num_envs, train_every, gradient_steps, starts, expected",
    [(1, 1, 1, 100, 101), (4, 1, 1, 100, 104), (2, 4, 3, 100, 78), (4, 4, 1, 0, 50), (1, 1, 1, 0, 200)],
)
def test_updates_per_env_step(
    num_envs: int, train_every: int, gradient_steps: int, starts: int, expected: int
) -> None:
    """200 env steps, the first update once `learning_starts` of them are stored."""
    config = small("sac", num_envs=num_envs, total_steps=200)
    config.algo.train_every, config.algo.gradient_steps = train_every, gradient_steps
    config.algo.learning_starts, config.algo.batch_size = starts, 2
    trial = Trial.of(config)
    trial.train(1000)
    assert trial.clock.step.tolist() == [200]
    assert trial.algo.updates.tolist() == [expected]  # type: ignore[attr-defined]


def test_invalid_steps_are_not_learned_from() -> None:
    """Fillers with absurd rewards in half of the envs change nothing."""
    clean, odd = make(seeds=(1, 2)), make(seeds=(1, 2))
    valid = torch.tensor([True, True, False, False]).expand(2, 1, 4)
    batch = rollout(1, 1.0, valid=valid)
    reward = torch.where(valid, batch.reward, 1e6)
    rates = [torch.full((2,), 1e-3, dtype=torch.float64)] * 3
    for algo, one in ((clean, batch), (odd, batch.with_(reward=reward))):
        algo.learn(one, *rates)
    assert torch.equal(clean.critic_optim.flat, odd.critic_optim.flat)
    assert torch.equal(clean.actor_optim.flat, odd.actor_optim.flat)


@pytest.mark.parametrize(
    "overrides, words",
    [
        (["model=lstm"], ["model=lstm has memory", "model=mlp"]),
        (["num_envs=3", "algo.train_every=2"], ["algo.train_every is 2", "num_envs (3)"]),
        (["algo.buffer_size=100"], ["learning_starts is 500", "buffer_size (100)", "batch_size is 256"]),
        (["algo.alpha=0"], ["algo.alpha is 0", "above 0"]),
        (["algo.gamma=1.5"], ["algo.gamma is 1.5", "at most 1"]),
    ],
)
def test_refusals(overrides: list[str], words: list[str]) -> None:
    with pytest.raises(ConfigError) as refusal:
        compose(["algo=sac", *overrides])
    assert all(word in str(refusal.value) for word in words), str(refusal.value)


def test_unbounded_actions_are_refused() -> None:
    with pytest.raises(ConfigError, match="finite bounds"):
        make(Box((2,), (-math.inf, -1.0), (math.inf, 1.0)))


def test_discrete_actions_are_refused() -> None:
    with pytest.raises(ConfigError, match="algo=sac cannot work with discrete actions"):
        runner.Task.of(compose(["algo=sac", "env=cartpole"]))


def test_the_recipe_says_everything() -> None:
    assert isinstance(compose(["algo=sac"]).algo, SACConfig)
    assert compose(["algo=sac"]).choices["env"] == "pendulum"
    assert compose(["algo=sac", "env=cartpole"]).choices["env"] == "cartpole"  # the command line wins
