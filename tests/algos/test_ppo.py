"""PPO against plain references: one replica, one loop, torch's own optimiser."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from probes import probe
from support import QUIET, Trial
from torch import Tensor, nn

from rlrun.algos.ppo import PPO
from rlrun.config import ConfigError
from rlrun.config.compose import compose
from rlrun.core import Rollout, Spec
from rlrun.spaces import Box, Discrete

SMALL = ("total_steps=100000", "num_envs=4", "algo.rollout_steps=16", "dtype=float64", "env.max_steps=11")
MLP = ("algo=ppo", "model.hidden=[8]")
LSTM = ("algo=lstm_ppo", "model.hidden_size=8", "env=cartpole_masked", "~tuned")


def trial(*overrides: str, replicas: int = 2, env: Any = None) -> Trial:
    quiet = [f"{name}={value}" for name, value in QUIET.items()]
    config = compose([*overrides[:1], *SMALL, *quiet, f"replicas={replicas}", *overrides[1:]])
    return Trial.of(config if env is None else replace(config, env=env))


def collect(run: Trial) -> Rollout:
    assert run.collector is not None
    return run.collector.collect(run.algo, run.algo.rollout_steps, run.clock.step)


def step_zero(run: Trial) -> np.ndarray:
    return np.zeros(len(run.clock.step), np.int64)


# The policy that acted


@pytest.mark.parametrize(
    "overrides",
    [
        MLP,
        (*MLP, "algo.shared=true", "model.normalize_obs=true"),
        (*MLP, "env=pendulum"),
        (*MLP, "env=pendulum", "algo.normalize_returns=true", "num_envs=1", "algo.n_minibatches=16"),
        LSTM,
        (*LSTM, "algo.chunk_length=null"),
        (*LSTM, "algo.chunk_length=1", "model=gru", "model.hidden_size=8"),
        (*LSTM, "algo.shared=false", "algo.chunk_length=4", "model.previous_action=true", "model.layers=2"),
        (*LSTM, "env=pendulum", "algo.shared=false", "algo.chunk_length=8", "model.previous_action=true"),
    ],
    ids=" ".join,
)
def test_first_minibatch_sees_the_policy_that_acted(overrides: tuple[str, ...]) -> None:
    """Ratio 1, divergence 0 and nothing clipped, also after updates, in every chunk, across episode ends."""
    same_policy_as_acted(trial(*overrides))


@pytest.mark.parametrize("overrides", [MLP, (*LSTM, "model.previous_action=true")], ids=" ".join)
def test_first_minibatch_sees_the_policy_that_chose_two_integers(overrides: tuple[str, ...]) -> None:
    same_policy_as_acted(trial(*overrides, env=probe("corridor", action="multi_discrete")))


def same_policy_as_acted(run: Trial) -> None:
    algo = run.algo
    assert isinstance(algo, PPO)
    run.train(3)
    rollout = collect(run)
    assert rollout.first[:, 1:].any() and rollout.terminated.any() | rollout.truncated.any()
    with torch.no_grad():
        data = algo.prepare(rollout)
        for batch in algo.minibatches(data):  # no step is taken: each could be the first
            out, value = algo.evaluate(batch)
            torch.testing.assert_close(value, batch["target"] - batch["advantage"])
            distribution = algo.head.distribution(out[..., : algo.head.size])
            log_prob = distribution.log_prob(batch["raw" if algo.head.raw else "action"])
            torch.testing.assert_close(log_prob, batch["log_prob"], atol=1e-9, rtol=0.0)
            _, metrics = algo.loss(batch)
            for tag in ("train/approx_kl", "train/clip_fraction"):
                torch.testing.assert_close(metrics[tag], torch.zeros_like(metrics[tag]), atol=1e-9, rtol=0.0)
    # A policy that has moved on is noticed: old log-probs are stored, not recomputed.
    with torch.no_grad():
        algo.optim.flat.add_(0.1)
        _, moved = algo.loss(next(iter(algo.minibatches(data))))
    assert (moved["train/approx_kl"] > 1e-6).all()


def test_values_with_memory_equal_stepping_through_the_rollout() -> None:
    """Also the values of true successors at an episode's end, from the memory that belongs to them."""
    run = trial(*LSTM, "algo.shared=false", "model.previous_action=true")
    algo = run.algo
    assert isinstance(algo, PPO)
    run.train(2)
    rollout = collect(run)
    memory = rollout.memory
    with torch.no_grad():
        value, next_value = algo.values(rollout)
        for t in range(16):
            first, action = rollout.first[:, t], rollout.action[:, t]
            scale = algo.return_scale.scale[:, 0]  # of learning; what is shown is in the task's own unit
            torch.testing.assert_close(algo.value(rollout.obs[:, t], memory, first) * scale, value[:, t])
            assert algo.critic is not None
            after = algo.critic.step(rollout.obs[:, t], memory[algo.leaves :], first)[1]
            after = algo.critic.remember(after, action)
            expected = algo.critic.step(rollout.next_obs[:, t], after, torch.zeros_like(first))[0]
            torch.testing.assert_close(expected[..., 0], next_value[:, t])
            actor = algo.actor.step(rollout.obs[:, t], memory[: algo.leaves], first)[1]
            memory = algo.actor.remember(actor, action) + after


def test_actions_stay_in_the_box_and_raw_ones_are_stored_unclipped() -> None:
    run = trial(*MLP, "env=pendulum", "algo.log_std=1.0")
    rollout = collect(run)
    raw = rollout.extras["raw"]
    assert raw.abs().max() > 1.0
    torch.testing.assert_close(rollout.action, 2.0 * raw.clamp(-1.0, 1.0))


# What is learned from


def hand_rollout(reward: list[float], terminated: list[bool], truncated: list[bool]) -> Rollout:
    """One replica, one env, observations 0, 1, 2, ... and true successors 100, 101, ..."""
    steps = len(reward)

    def column(values: Any, dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.tensor(values, dtype=dtype).view(1, steps, 1)

    ended = [a or b for a, b in zip(terminated, truncated, strict=True)]
    return Rollout(
        obs=column(range(steps)).unsqueeze(-1),
        action=column([0] * steps, torch.int64),
        reward=column(reward),
        terminated=column(terminated, torch.bool),
        truncated=column(truncated, torch.bool),
        next_obs=column(range(100, 100 + steps)).unsqueeze(-1),
        first=column([True, *ended[:-1]], torch.bool),
        valid=column([True] * steps, torch.bool),
        extras={"log_prob": column([0.0] * steps)},
    )


def lone(**changes: Any) -> PPO:
    """A PPO of one replica on a single number, float64."""
    config = compose(["algo=ppo", "model.hidden=[4]"])
    for name, value in changes.items():
        assert hasattr(config.algo, name)
        setattr(config.algo, name, value)
    space = Box((1,), (-math.inf,), (math.inf,))
    return PPO(Spec(space, Discrete(2), 1, (3,), 1000, dtype="float64"), config.algo, config.model)


def test_advantages_and_targets_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminated step bootstraps nothing, a truncated one from its true successor."""
    algo = lone(gamma=0.5, gae_lambda=0.5, rollout_steps=4, normalize_returns=False)
    rollout = hand_rollout([1.0, 2.0, 3.0, 4.0], [False, True, False, False], [False, False, True, False])
    value = torch.tensor([10.0, 20.0, 30.0, 40.0], dtype=torch.float64).view(1, 4, 1)
    monkeypatch.setattr(algo, "values", lambda _: (value, value + 100.0))
    data = algo.prepare(rollout)
    # deltas: 1 + 55 - 10; 2 - 20; 3 + 65 - 30; 4 + 70 - 40. Only step 0 looks one further.
    assert data["advantage"].flatten().tolist() == [46.0 + 0.25 * -18.0, -18.0, 38.0, 34.0]
    assert data["target"].flatten().tolist() == [51.5, 2.0, 68.0, 74.0]


def test_chunks_keep_steps_in_order_and_memory_at_their_start() -> None:
    run = trial(*LSTM, "algo.chunk_length=4")
    algo = run.algo
    assert isinstance(algo, PPO)
    run.train(1)
    rollout = collect(run)
    data = algo.prepare(rollout)
    assert data["obs"].shape[:3] == (2, 16, 4) and data["memory.0"].shape == (2, 16, 8)
    for chunk in range(16):
        start, env = chunk // 4 * 4, chunk % 4
        assert torch.equal(data["obs"][:, chunk], rollout.obs[:, start : start + 4, env])
        assert torch.equal(data["memory.1"][:, chunk], rollout.extras["memory.1"][:, start, env])


@pytest.mark.parametrize("count", [1, 4, 5, 64])
def test_minibatches_use_every_step_once_in_an_order_of_each_replica(count: int) -> None:
    run = trial(*MLP, f"algo.n_minibatches={count}")
    algo = run.algo
    assert isinstance(algo, PPO)
    data = dict(algo.prepare(collect(run)))
    data["advantage"] = torch.arange(2 * 64, dtype=torch.float64).view(2, 64, 1)
    batches = [batch["advantage"] for batch in algo.minibatches(data)]
    assert len(batches) == count and {len(batch[0, 0]) for batch in batches} <= {64 // count, 64 // count + 1}
    seen = torch.cat(batches, -1)[:, 0]
    assert torch.equal(seen.sort(-1).values, data["advantage"][..., 0])
    assert not torch.equal(seen[0], seen[1] - 64)
    again = torch.cat([batch["advantage"] for batch in algo.minibatches(data)], -1)[:, 0]
    assert not torch.equal(again, seen)


# The loss


def fixed(algo: PPO, ratio: list[float], advantage: list[float]) -> dict[str, Tensor]:
    """A minibatch in which the current policy has the given ratios; values 0, targets 2."""
    count = len(ratio)
    obs = torch.zeros(1, 1, count, 1, dtype=torch.float64)
    out, value = algo.evaluate(
        {"obs": obs, "first": torch.zeros(1, 1, count), "action": torch.zeros(1, 1, count)}
    )
    log_prob = torch.full((1, 1, count), -math.log(2.0), dtype=torch.float64)  # logits are 0
    assert torch.count_nonzero(out) == torch.count_nonzero(value) == 0
    return {
        "obs": obs,
        "action": torch.zeros(1, 1, count, dtype=torch.int64),
        "first": torch.zeros(1, 1, count, dtype=torch.bool),
        "valid": torch.ones(1, 1, count, dtype=torch.float64),
        "log_prob": log_prob - torch.tensor(ratio, dtype=torch.float64).log(),
        "advantage": torch.tensor(advantage, dtype=torch.float64).view(1, 1, count),
        "target": torch.full((1, 1, count), 2.0, dtype=torch.float64),
    }


def test_loss_by_hand() -> None:
    """The minimum of both surrogates, one ratio on each side of the range and each sign of advantage."""
    algo = lone(clip_range=0.2, vf_coef=0.5, ent_coef=0.1, normalize_advantage=False)
    ratios, advantages = [1.5, 1.5, 0.5, 0.5, 1.1], [2.0, -2.0, 2.0, -2.0, 3.0]
    surrogate = [1.2 * 2.0, 1.5 * -2.0, 0.5 * 2.0, 0.8 * -2.0, 1.1 * 3.0]
    loss, metrics = algo.loss(fixed(algo, ratios, advantages))
    policy, entropy = -sum(surrogate) / 5, math.log(2.0)
    divergence = sum(r - 1.0 - math.log(r) for r in ratios) / 5
    assert loss.item() == pytest.approx(policy + 0.5 * 4.0 - 0.1 * entropy)
    assert {tag: value.item() for tag, value in metrics.items()} == pytest.approx(
        {
            "loss/policy": policy,
            "loss/value": 4.0,
            "loss/entropy": entropy,
            "train/approx_kl": divergence,
            "train/clip_fraction": 0.8,
        }
    )
    assert not any(value.requires_grad for value in metrics.values())


def test_no_gradient_beyond_the_range_in_the_direction_of_the_advantage() -> None:
    algo = lone(vf_coef=0.0, normalize_advantage=False)
    for ratio, advantage, stopped in (
        (1.5, 1.0, True),
        (1.5, -1.0, False),
        (0.5, 1.0, False),
        (0.5, -1.0, True),
    ):
        loss, _ = algo.loss(fixed(algo, [ratio], [advantage]))
        grads = torch.autograd.grad(loss.sum(), algo.optim._parameters, materialize_grads=True)
        assert (sum(g.abs().sum() for g in grads) == 0.0) == stopped


def test_one_sample_has_a_normalised_advantage_of_zero() -> None:
    algo = lone(normalize_advantage=True)
    loss, metrics = algo.loss(fixed(algo, [1.0], [7.0]))
    assert metrics["loss/policy"].item() == 0.0 and torch.isfinite(loss).all()


def test_normalised_advantages_have_mean_zero_and_deviation_one_per_replica() -> None:
    run = trial(*MLP, "algo.n_minibatches=1", "algo.vf_coef=0.0")
    algo = run.algo
    assert isinstance(algo, PPO)
    data = dict(algo.prepare(collect(run)))
    base, _ = algo.loss(next(iter(algo.minibatches(data))))
    data["advantage"] = data["advantage"] * torch.tensor([3.0, 1e4]).view(2, 1, 1) + 50.0
    torch.testing.assert_close(algo.loss(next(iter(algo.minibatches(data))))[0], base, atol=1e-7, rtol=1e-6)


def test_steps_that_are_not_valid_change_nothing() -> None:
    algo = lone()
    batch = fixed(algo, [1.5, 0.7, 1.1, 2.0], [1.0, -2.0, 0.3, 5.0])
    short = {name: leaf[:, :, :3] for name, leaf in batch.items()}
    batch["valid"] = torch.tensor([1.0, 1.0, 1.0, 0.0], dtype=torch.float64).view(1, 1, 4)
    (loss, metrics), (short_loss, short_metrics) = algo.loss(batch), algo.loss(short)
    torch.testing.assert_close(loss, short_loss)
    torch.testing.assert_close(metrics, short_metrics)


# The whole update


PLAIN = ("model.normalize_obs=false", "algo.normalize_returns=false")
A2C = ("algo=a2c", "model.hidden=[8]", "algo.ent_coef=0.01", *PLAIN)


@pytest.mark.parametrize(
    "overrides,env",
    [
        (A2C, None),
        ((*A2C, "algo.gae_lambda=1.0", "algo.clip_range=0.001", "algo.shared=true"), None),
        ((*A2C, "env=pendulum", "model.normalize_obs=true"), None),
        (A2C, probe("corridor", action="multi_discrete")),
        (("algo=actor_critic", "model.hidden=[8]", "algo.rollout_steps=1", *PLAIN), None),
        (("algo=lstm_a2c", *LSTM[1:], "algo.normalize_returns=false"), None),
        (("algo=lstm_a2c", *LSTM[1:], "algo.normalize_returns=false", "algo.shared=false"), None),
    ],
    ids=["a2c", "shared", "pendulum", "multi_discrete", "actor_critic", "lstm_a2c", "lstm_a2c apart"],
)
def test_the_gradient_of_a2c_is_that_of_its_plain_loss(overrides: tuple[str, ...], env: Any) -> None:
    """One epoch of one minibatch: log-probability times advantage, whatever the clip range."""
    run = trial(*overrides, env=env)
    algo = run.algo
    assert isinstance(algo, PPO)
    run.train(5)
    rollout = collect(run)
    (batch,) = algo.minibatches(algo.prepare(rollout))
    parameters = list(algo.nets.parameters())
    ours = torch.autograd.grad(algo.loss(batch)[0].sum(), parameters)
    plain = torch.autograd.grad(plain_loss(algo, rollout).sum(), parameters)
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-7)
    before = (1 - algo.optim.state()["correction"]).clone()  # beta^t
    algo.update(rollout, step=step_zero(run))
    decays = torch.tensor([0.9, 0.999], dtype=torch.float64)  # one step more
    torch.testing.assert_close((1 - algo.optim.state()["correction"]) / before, decays.expand_as(before))


def plain_loss(algo: PPO, rollout: Rollout) -> Tensor:
    """Advantage actor-critic (Mnih et al. 2016), step by step, [R]: lambda-returns by their own recursion."""
    config, leaves, memory = algo.config, algo.leaves, rollout.memory
    logs, entropies, values, bootstraps = [], [], [], []
    for t in range(rollout.reward.shape[1]):
        obs, first, action = rollout.obs[:, t], rollout.first[:, t], rollout.action[:, t]
        out, after = algo.actor.step(obs, memory[:leaves], first)
        values.append(algo.value(obs, memory, first))
        memory_after = algo.actor.remember(after, action)
        if algo.critic is not None:
            seen = algo.critic.step(obs, memory[leaves:], first)[1]
            memory_after += algo.critic.remember(seen, action)
        memory = memory_after
        bootstraps.append(algo.value(rollout.next_obs[:, t], memory, torch.zeros_like(first)).detach())
        distribution = algo.head.distribution(out[..., : algo.head.size])
        logs.append(distribution.log_prob(rollout.extras["raw"][:, t] if algo.head.raw else action))
        entropies.append(distribution.entropy())
    target, targets = bootstraps[-1], []
    for t in reversed(range(len(values))):
        ended = rollout.terminated[:, t] | rollout.truncated[:, t]
        later = torch.where(ended, bootstraps[t], torch.lerp(bootstraps[t], target, config.gae_lambda))
        target = rollout.reward[:, t] + config.gamma * later * ~rollout.terminated[:, t]
        targets.insert(0, target)
    log, entropy, value, wanted = (torch.stack(x, 1) for x in (logs, entropies, values, targets))
    each = -log * (wanted - value.detach()) + config.vf_coef * (value - wanted).square()
    return (each - config.ent_coef * entropy).mean((1, 2))


class Reference(nn.Module):
    """A plain actor-critic with the weights of one replica."""

    def __init__(self, algo: PPO, r: int) -> None:
        super().__init__()
        assert algo.critic is not None

        def net(module: nn.Module) -> nn.Sequential:
            weights = [p[r].detach() for p in module.parameters()]  # weight, bias, weight, bias
            layers: list[nn.Module] = []
            for weight, bias in zip(weights[::2], weights[1::2], strict=True):
                layer = nn.Linear(*weight.shape, dtype=weight.dtype)
                layer.weight.data, layer.bias.data = weight.T.clone(), bias[0].clone()
                layers += [layer, nn.Tanh()]
            return nn.Sequential(*layers[:-1])

        self.actor, self.critic = net(algo.actor), net(algo.critic)
        self.log_std = nn.Parameter(algo.head.parameters["log_std"][r, 0].detach().clone())


def test_update_equals_a_plain_implementation_for_each_replica() -> None:
    """Five rollouts on the pendulum, with its own loops, torch's Adam, clipping and distributions."""
    overrides = ("algo.ent_coef=0.01", "algo.epochs=3", "algo.n_minibatches=4", "algo.max_grad_norm=0.3")
    run = trial(*MLP, "env=pendulum", *PLAIN, *overrides)
    algo = run.algo
    assert isinstance(algo, PPO)
    config, models, optimizers = algo.config, [], []
    for r in range(2):
        models.append(Reference(algo, r))
        optimizers.append(torch.optim.Adam(models[r].parameters(), eps=config.adam_eps))
    orders: list[Tensor] = []
    permutation = algo.rng.permutation

    def record(n: int) -> Tensor:
        orders.append(permutation(n))
        return orders[-1]

    algo.rng.permutation = record  # type: ignore[method-assign]
    for _ in range(5):
        rollout = collect(run)
        orders.clear()
        step = run.clock.step
        metrics = algo.update(rollout, step=step)
        run.clock.advance(run.collector.taken)
        for r in range(2):
            optimizers[r].param_groups[0]["lr"] = config.learning_rate * (1.0 - step[r] / 100000)
            norms = reference_update(models[r], optimizers[r], rollout, r, orders, config)
            assert metrics["train/grad_norm"][r].item() == pytest.approx(np.mean(norms))
    for r in range(2):
        for ours, theirs in (
            (algo.actor, models[r].actor),
            (algo.critic, models[r].critic),
        ):
            for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):  # type: ignore[union-attr]
                torch.testing.assert_close(mine[r].squeeze(0), other.t(), atol=1e-9, rtol=1e-7)
        torch.testing.assert_close(algo.head.parameters["log_std"][r, 0], models[r].log_std)


def reference_update(
    model: Reference, optimizer: torch.optim.Adam, rollout: Rollout, r: int, orders: list[Tensor], config: Any
) -> list[float]:
    T, N = rollout.reward.shape[1:]
    obs, raw, reward = rollout.obs[r], rollout.extras["raw"][r], rollout.reward[r]
    with torch.no_grad():
        value, next_value = model.critic(obs)[..., 0], model.critic(rollout.next_obs[r])[..., 0]
    advantage = torch.zeros(T, N, dtype=torch.float64)
    for n in range(N):
        last = 0.0
        for t in reversed(range(T)):
            ended = bool(rollout.terminated[r, t, n] | rollout.truncated[r, t, n])
            bootstrap = 0.0 if rollout.terminated[r, t, n] else next_value[t, n].item()
            delta = reward[t, n].item() + config.gamma * bootstrap - value[t, n].item()
            last = delta + (0.0 if ended else config.gamma * config.gae_lambda * last)
            advantage[t, n] = last
    target = advantage + value
    fields = [f.flatten(0, 1) for f in (obs, raw, rollout.extras["log_prob"][r], advantage, target)]
    norms = []
    for order in orders:
        for index in order[r].view(config.n_minibatches, -1):
            b_obs, b_raw, old, adv, b_target = (f[index] for f in fields)
            adv = (adv - adv.mean()) / (adv.std(unbiased=False) + 1e-8)
            normal = torch.distributions.Normal(model.actor(b_obs), model.log_std.exp())
            ratio = (normal.log_prob(b_raw).sum(-1) - old).exp()
            bounded = ratio.clamp(1 - config.clip_range, 1 + config.clip_range)
            policy = -torch.min(ratio * adv, bounded * adv).mean()
            error = (model.critic(b_obs)[..., 0] - b_target).pow(2).mean()
            loss = policy + config.vf_coef * error - config.ent_coef * normal.entropy().sum(-1).mean()
            optimizer.zero_grad()
            loss.backward()
            norms.append(nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm).item())
            optimizer.step()
    return norms


def test_the_normaliser_moves_after_the_epochs_and_acting_leaves_it_alone() -> None:
    run = trial(*MLP, "model.normalize_obs=true")
    algo = run.algo
    assert isinstance(algo, PPO)
    for _ in range(2):
        count = algo.actor.norm.count.clone()  # type: ignore[union-attr]
        rollout = collect(run)
        assert torch.equal(algo.actor.norm.count, count)  # type: ignore[union-attr]
        algo.update(rollout, step=step_zero(run))
        assert (algo.actor.norm.count == count + 64).all()  # type: ignore[union-attr]


def test_no_step_is_taken_when_the_learning_rate_has_fallen_to_zero() -> None:
    run = trial(*MLP)
    before = run.algo.optim.flat.clone()  # type: ignore[attr-defined]
    run.algo.update(collect(run), step=np.array([100000, 0]))
    moved = (run.algo.optim.flat != before).any(1)  # type: ignore[attr-defined]
    assert moved.tolist() == [False, True]


@pytest.mark.parametrize(
    "overrides,words",
    [
        (("algo.n_minibatches=65",), "only 64 steps"),
        (("algo=lstm_ppo", "algo.chunk_length=4", "algo.n_minibatches=17"), "only 16 sequences of 4 steps"),
        (("algo=lstm_ppo", "algo.chunk_length=null", "algo.n_minibatches=5"), "only 4 sequences of 16 steps"),
        (("algo=lstm_ppo", "algo.chunk_length=5"), "must divide rollout_steps"),
        (("algo.chunk_length=4",), "needs a model with memory"),
    ],
)
def test_refusals(overrides: tuple[str, ...], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        compose(["algo=ppo", "num_envs=4", "algo.rollout_steps=16", *overrides])
