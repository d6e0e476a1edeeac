"""REINFORCE against a plain loop over episodes of unequal length, and what padding must not do."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from probes import probe
from support import QUIET, Trial
from torch import Tensor

from rlrun.algos.reinforce import Reinforce
from rlrun.config.compose import compose
from rlrun.core import Rollout, Spec
from rlrun.spaces import Box, Discrete

KINDS = {"dtype": torch.float64}


def trial(*overrides: str, env: Any = None) -> Trial:
    quiet = [f"{name}={value}" for name, value in QUIET.items()]
    small = ("num_envs=4", "dtype=float64", "env.max_steps=25", "replicas=2", "algo.baseline=mean")
    config = compose(["algo=reinforce", *small, *quiet, *overrides])
    return Trial.of(config if env is None else replace(config, env=env))


def collected(run: Trial, updates: int = 2) -> tuple[Reinforce, Rollout]:
    """The algorithm after a few updates, and its next rollout."""
    assert isinstance(run.algo, Reinforce) and run.collector is not None
    run.train(updates)
    return run.algo, run.collector.collect(run.algo, 1, run.clock.step)


def gradients(algo: Reinforce, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss.sum(), list(algo.nets.parameters()), materialize_grads=True))


def log_probs(algo: Reinforce, rollout: Rollout, r: int, n: int) -> Tensor:
    """[length] of one episode, its observations one by one, with memory from zero."""
    length = int(rollout.valid[r, :, n].sum())
    steps, memory = [], algo.initial_memory(1)
    memory = tuple(leaf[:1] for leaf in memory)
    for t in range(length):
        obs, first = rollout.obs[:, t, n : n + 1], rollout.first[:, t, n : n + 1]
        memory = memory if t else algo.initial_memory(1)
        out, memory = algo.policy.step(obs, memory, first)
        memory = algo.policy.remember(memory, rollout.action[:, t, n : n + 1])
        if algo.head.raw:
            scale = algo.head.parameters["log_std"][r, 0].exp()
            normal = torch.distributions.Normal(out[r, 0], scale)
            steps.append(normal.log_prob(rollout.extras["raw"][r, t, n]).sum())
        elif rollout.action.ndim == 4:  # two integers
            parts = zip(out[r, 0].split((2, 3)), rollout.action[r, t, n], strict=True)
            steps.append(sum(part.log_softmax(-1)[chosen] for part, chosen in parts))
        else:
            steps.append(out[r, 0].log_softmax(-1)[rollout.action[r, t, n]])
    return torch.stack(steps)


def reference_loss(algo: Reinforce, rollout: Rollout, r: int) -> Tensor:
    """One replica's loss, without a baseline, episode by episode in plain Python."""
    logs, returns = [], []
    for n in range(rollout.valid.shape[2]):
        own = log_probs(algo, rollout, r, n)
        rewards = (rollout.reward[r, : len(own), n] * algo.return_scale.scale[r].item()).tolist()
        returns += [
            sum(algo.config.gamma**k * reward for k, reward in enumerate(rewards[t:]))
            for t in range(len(own))
        ]
        logs.append(own)
    weight = torch.tensor(returns, **KINDS)
    if algo.config.baseline == "mean":
        weight = weight - weight.mean()
    if algo.config.normalize:
        weight = weight / (weight.square().mean().sqrt() + 1e-8)
    return -(torch.cat(logs) * weight).mean()


@pytest.mark.parametrize(
    "overrides",
    [
        ("env=cartpole",),
        (
            "env=cartpole",
            "algo.baseline=none",
            "algo.normalize=false",
            "algo.gamma=0.9",
            "model.normalize_obs=true",
        ),
        ("env=pendulum", "env.max_steps=6", "algo.normalize_returns=true"),
        ("env=cartpole_masked", "model=lstm", "model.hidden_size=5", "model.previous_action=true"),
    ],
    ids=" ".join,
)
def test_gradient_equals_a_plain_loop_over_episodes(overrides: tuple[str, ...]) -> None:
    algo, rollout = collected(trial(*overrides))
    lengths = rollout.valid.sum(1)
    if "env=pendulum" not in overrides:  # whose episodes are all equally long
        assert len(set(lengths.flatten().tolist())) > 2 and not rollout.valid.all()
    same_gradient(algo, rollout)


def test_gradient_of_two_integers_equals_a_plain_loop() -> None:
    algo, rollout = collected(trial("algo.normalize=false", env=probe("obs_action", action="multi_discrete")))
    assert rollout.action.shape == (2, 1, 4, 2)
    same_gradient(algo, rollout)


def same_gradient(algo: Reinforce, rollout: Rollout) -> None:
    ours = gradients(algo, algo.loss(rollout)[0])
    plain = gradients(algo, reference_loss(algo, rollout, 0) + reference_loss(algo, rollout, 1))
    assert any(grad.abs().max() > 1e-3 for grad in plain)
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-8)


def test_padding_changes_nothing() -> None:
    """What follows an episode's end belongs to another one, and is neither learned from nor counted."""
    algo, rollout = collected(trial("algo.baseline=value"))
    padding = ~rollout.valid
    assert padding.any()
    other = rollout.with_(
        obs=torch.where(padding.unsqueeze(-1), 7.0, rollout.obs),
        reward=torch.where(padding, 1e6, rollout.reward),
        action=torch.where(padding, 1 - rollout.action, rollout.action),
        terminated=torch.where(padding, ~rollout.terminated, rollout.terminated),
    )
    (loss, metrics), (same_loss, same_metrics) = algo.loss(rollout), algo.loss(other)
    torch.testing.assert_close(loss, same_loss)
    torch.testing.assert_close(metrics, same_metrics)
    for a, b in zip(gradients(algo, loss), gradients(algo, same_loss), strict=True):
        torch.testing.assert_close(a, b)


def lone(**changes: Any) -> Reinforce:
    """A Reinforce of one replica on a single number, float64."""
    config = compose(["algo=reinforce", "model.hidden=[4]"])
    for name, value in changes.items():
        assert hasattr(config.algo, name)
        setattr(config.algo, name, value)
    space = Box((1,), (-math.inf,), (math.inf,))
    return Reinforce(Spec(space, Discrete(2), 1, (3,), 1000, dtype="float64"), config.algo, config.model)


def episodes(*rewards: list[float], truncated: bool = False) -> Rollout:
    """One replica, an episode an env, observations 0: the untrained policy is then uniform."""
    steps, envs = max(map(len, rewards)), len(rewards)
    reward = torch.full((steps, envs), 100.0, **KINDS)  # where it is another episode's
    last, valid = torch.zeros(steps, envs), torch.zeros(steps, envs)
    for n, own in enumerate(rewards):
        reward[: len(own), n] = torch.tensor(own, **KINDS)
        last[len(own) - 1, n] = 1.0
        valid[: len(own), n] = 1.0
    ended, blank = last.bool()[None], torch.zeros(1, steps, envs, dtype=torch.bool)
    first = blank.clone()
    first[:, 0] = True
    zeros = torch.zeros(1, steps, envs, 1, **KINDS)
    return Rollout(
        obs=zeros,
        action=torch.zeros(1, steps, envs, dtype=torch.int64),
        reward=reward[None],
        terminated=blank if truncated else ended,
        truncated=ended if truncated else blank,
        next_obs=zeros,
        first=first,
        valid=valid.bool()[None],
    )


@pytest.mark.parametrize("truncated", [False, True])
def test_weights_are_returns_to_go_without_a_factor_of_the_time(truncated: bool) -> None:
    """Rewards 1, 0, 8 and a lone 2, gamma 1/2: returns 3, 4, 8 and 2; the mean of all four, times log 2."""
    algo = lone(gamma=0.5, baseline="none", normalize=False)
    loss, metrics = algo.loss(episodes([1.0, 0.0, 8.0], [2.0], truncated=truncated))
    assert loss.item() == pytest.approx(math.log(2.0) * (3.0 + 4.0 + 8.0 + 2.0) / 4)
    assert metrics["loss/entropy"].item() == pytest.approx(math.log(2.0))


@pytest.mark.parametrize("rewards", [([5.0],), ([5.0], [5.0], [5.0])])
def test_normalising_returns_that_are_all_alike_gives_no_gradient(rewards: tuple[list[float], ...]) -> None:
    """Also a single one: not NaN, and not an arbitrary direction."""
    algo = lone(baseline="mean", normalize=True)
    loss, _ = algo.loss(episodes(*rewards))
    assert loss.item() == 0.0
    assert all(torch.count_nonzero(grad) == 0 for grad in gradients(algo, loss))


def test_the_mean_is_over_all_steps_of_a_replica() -> None:
    """Returns 1 and 3 become -1 and 1, whichever episodes they are from."""
    algo = lone(baseline="mean", normalize=True, gamma=1.0)
    rollout = episodes([1.0], [3.0])
    action = torch.tensor([[[0, 1]]])
    loss, _ = algo.loss(rollout.with_(action=action))
    # log-probs are both -log 2, so the loss is 0; its gradient by the logits is (1, -1), halved twice
    assert loss.item() == pytest.approx(0.0)
    bias = gradients(algo, loss)[list(dict(algo.nets.named_parameters())).index("policy.head.layers.1.bias")]
    assert bias.flatten().tolist() == pytest.approx([0.5, -0.5])


def test_baseline_learns_the_return_and_the_policy_gets_the_difference() -> None:
    algo = lone(gamma=1.0, normalize=False, baseline="value")
    rollout = episodes([1.0, 1.0], [4.0])
    with torch.no_grad():
        dict(algo.nets.named_parameters())["baseline.head.layers.1.bias"].fill_(1.5)
    loss, metrics = algo.loss(rollout)
    differences = [0.5, -0.5, 2.5]  # of the returns 2, 1, 4
    assert metrics["loss/policy"].item() == pytest.approx(math.log(2.0) * sum(differences) / 3)
    assert metrics["loss/value"].item() == pytest.approx(sum(d * d for d in differences) / 3)
    by_name = dict(zip(dict(algo.nets.named_parameters()), gradients(algo, loss), strict=True))
    assert by_name["baseline.head.layers.1.bias"].item() == pytest.approx(-2.0 * sum(differences) / 3)
    # the policy's loss reaches no weight of the baseline, and the other way round
    policy = {k: v for k, v in by_name.items() if k.startswith("policy")}
    alone = lone(gamma=1.0, normalize=False, baseline="none")
    shifted = rollout.with_(reward=torch.tensor([[[1.0, 2.5], [-0.5, 9.0]]], **KINDS))
    alone.optim.flat.copy_(algo.optim.flat[:, : alone.optim.flat.shape[1]])
    for a, b in zip(policy.values(), gradients(alone, alone.loss(shifted)[0]), strict=True):
        torch.testing.assert_close(a, b)


def test_an_update_is_one_episode_of_each_env_and_counts_its_steps() -> None:
    run = trial()
    algo, rollout = collected(run)
    assert algo.whole_episodes
    ended = (rollout.terminated | rollout.truncated) & rollout.valid
    assert (ended.sum(1) == 1).all() and rollout.first[:, 0].all()
    before = run.clock.step
    run.clock.advance(run.collector.taken)
    assert np.array_equal(run.clock.step - before, rollout.valid.sum((1, 2)))
