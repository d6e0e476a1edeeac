"""Conservative Q-learning: the penalty by hand, and nothing but DQN or SAC where its weight is 0."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from support import assert_same_bits

from rlrun.algos.actor_critic import Trace
from rlrun.algos.cql import CQL, ConservativeDQN, ConservativeSAC
from rlrun.algos.dqn import DQN
from rlrun.algos.sac import SAC
from rlrun.config import ConfigError
from rlrun.config.compose import compose
from rlrun.core import Dataset, Rollout, Spec
from rlrun.models import LSTMConfig, MLPConfig
from rlrun.parts.offline import LoggedReplay
from rlrun.parts.replay import Replay
from rlrun.rng import Stream
from rlrun.spaces import Box, Discrete, Space

OBS = Box((2,), (-3.0, -3.0), (3.0, 3.0))
BOX = Box((1,), (-1.0,), (3.0,))  # not symmetric, so that a missing map shows
MLP = MLPConfig([16], "tanh", "uniform", True)
LSTM = LSTMConfig([], 8, 1, 1.0, [], "tanh", "uniform", False, True)
NOW = np.zeros(2, np.int64)


def logged(action: Space, steps: int = 300, **changes: Any) -> Dataset:
    """Random steps in episodes of ten, every other one truncated."""
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(steps + 1, 2)).astype(np.float32)
    ends, time = np.arange(steps) % 10 == 9, np.arange(steps)
    taken = rng.integers(0, 3, steps) if action.kind == "discrete" else rng.uniform(-1.0, 3.0, (steps, 1))
    data = Dataset(
        obs[:-1],
        taken if action.kind == "discrete" else taken.astype(np.float32),
        rng.normal(size=steps),
        ends & (time % 20 < 10),
        ends & (time % 20 >= 10),
        obs[1:],
        time % 10 == 0,
    )
    return replace(data, **changes)


def make(
    action: Space, data: Dataset | None = None, model: Any = MLP, seeds: Any = (1, 2), **changes: Any
) -> CQL:
    config = compose(["algo=cql"]).algo
    for name, value in {
        "batch_size": 16,
        "reward_scale": 1.0,
        "sequence_length": 4,
        "burn_in": 2,
        **changes,
    }.items():
        section = next(s for s in (config, config.discrete, config.continuous) if hasattr(s, name))
        setattr(section, name, value)
    data = logged(action) if data is None else data
    return CQL(Spec(OBS, action, 1, seeds, 1000, dtype="float64", dataset=data), config, model)


def train(algo: CQL, updates: int) -> dict[str, torch.Tensor]:
    for _ in range(updates):
        metrics = algo.update(None, step=NOW)
    return metrics


@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize("action", [Discrete(3), BOX], ids=["DQN", "SAC"])
def test_without_its_penalty_it_is_the_plain_algorithm(action: Space, n_step: int) -> None:
    """The same bits as DQN's, or SAC's, whose replay holds the same steps; any other weight changes them."""
    cql = make(action, alpha=0.0, n_step=n_step)
    kind, config = (DQN, cql.config.dqn()) if action.kind == "discrete" else (SAC, cql.config.sac())
    plain: Any = kind(replace(cql.learner.spec, dataset=None), config, MLP)
    steps = next(cql.data.in_order())
    plain.replay = Replay(steps.reward.shape[1], 1)
    plain.replay.add(steps)
    (plain.net if kind is DQN else plain.actor).update_normalizer(steps.obs, steps.valid)  # critics share it
    for _ in range(30):
        plain.learn(plain.replay.sample(16, plain.length, plain.rng), NOW)
    train(cql, 30)
    own, other = cql.learner.state(), plain.state()
    roles = [name for name in other if not name.startswith("replay")]
    assert_same_bits({name: own[name] for name in roles}, {name: other[name] for name in roles})
    penalised = make(action, alpha=0.1, n_step=n_step)
    train(penalised, 30)
    weights = [name for name in own if name.startswith(("net.", "critics.")) and "weight" in name]
    assert weights and not any(torch.equal(own[n], penalised.learner.state()[n]) for n in weights)


def beginning(action: Any) -> Rollout:
    """The first five steps of the data, [R = 2, S = 5, B = 1]."""
    spec = Spec(OBS, action, 1, (1, 2), 1, "cpu", "float64")
    return next(LoggedReplay(logged(action), spec, 1).in_order(5))


def test_the_penalty_of_discrete_actions_by_hand() -> None:
    """log(e^1 + e^2 + e^4) - q(data), times alpha: above 0, and over actions, not over the batch."""
    learner = make(Discrete(3), alpha=0.5).learner
    assert isinstance(learner, ConservativeDQN)
    out = torch.tensor([[[[1.0, 2.0, 4.0], [0.0, 0.0, 0.0]]]], dtype=torch.float64)  # [R, L, B, A]
    q = torch.tensor([[[2.0, 0.0]]], dtype=torch.float64)
    soft = math.log(math.e + math.e**2 + math.e**4)
    expected = torch.tensor([[[0.5 * (soft - 2.0), 0.5 * math.log(3.0)]]], dtype=torch.float64)
    torch.testing.assert_close(learner.penalty(out, q), expected)


def test_the_penalty_lifts_the_data_s_action_and_presses_the_others() -> None:
    """Its slope is alpha (softmax - the data's action), the data's, whatever the policy would do."""
    algo = make(Discrete(3), alpha=2.0)
    algo.learner.gamma = 0.0
    batch = algo.data.sample(8, algo.learner.rng)
    plain = make(Discrete(3), alpha=0.0)
    q = algo.learner.net(batch.obs[:, :1], (), batch.first[:, :1])[0]
    with torch.no_grad():
        chosen = torch.nn.functional.one_hot(batch.action[:, :1], 3)
        slope = 2.0 * (q.softmax(-1) - chosen) / 8.0
        assert not torch.equal(q.argmax(-1), batch.action[:, :1])  # the policy's are others
    for a, b in zip(algo.learner.net.parameters(), plain.learner.net.parameters(), strict=True):
        assert torch.equal(a, b)
    (q * slope).sum().backward()
    by_hand = [p.grad.clone() for p in algo.learner.net.parameters()]
    algo.learner.optim.flat.grad = None
    found = []
    for learner in (algo.learner, plain.learner):
        learner.gamma = 0.0
        loss, *_ = learner.loss(batch, NOW)
        found.append(torch.autograd.grad(loss.sum(), list(learner.net.parameters())))
    for expected, one, other in zip(by_hand, *found, strict=True):
        torch.testing.assert_close(one - other, expected)


def test_the_soft_maximum_over_continuous_actions() -> None:
    """Of q = c a over [-1, 1] it is log(2 sinh(c) / c), of whatever density the actions are."""
    algo = make(BOX, samples=20_000)
    learner = algo.learner
    assert isinstance(learner, ConservativeSAC)
    batch = beginning(BOX)
    wide = torch.tensor([0.3, 0.7], dtype=torch.float64).expand(2, 5, 1, 2)  # of deviation 1.9 before tanh
    action, log_density = learner.propose(Trace(learner.actor, wide, (), ()))
    assert action.shape == (2, 5, 40_000, 1) and log_density.shape == (2, 5, 1, 40_000)
    assert float(action.abs().max()) <= 1.0 and not action.requires_grad
    slope = torch.tensor([1.0, 3.0], dtype=torch.float64)

    class Linear:
        def step(self, obs: Any, memory: Any, first: Any, extra: Any) -> tuple[torch.Tensor, Any]:
            return slope.view(-1, 1, 1) * extra, memory

    critic = learner.judge(batch, batch)[0]._replace(network=Linear())
    found = learner.soft_maximum(critic, batch, action, log_density)
    expected = torch.log(2.0 * torch.sinh(slope) / slope).view(2, 1, 1).expand(2, 5, 1)
    torch.testing.assert_close(found, expected, atol=0.03, rtol=0.0)


def test_the_penalty_of_continuous_actions_is_that_of_the_data_s() -> None:
    """alpha times the soft maximum minus q(data), summed over both critics, each at its own states."""
    algo = make(BOX, alpha=0.25, samples=7)
    learner = algo.learner
    assert isinstance(learner, ConservativeSAC)
    batch = beginning(BOX)
    actor, critics = learner.trace(learner.actor, batch, batch), learner.judge(batch, batch)
    counter = learner.proposals.counter
    found = learner.penalty(actor, critics, batch)
    learner.proposals.counter = counter
    action, log_density = learner.propose(actor)
    total = torch.zeros(2, dtype=torch.float64)
    for network in learner.critics:
        for t in range(5):
            obs, first = batch.obs[:, t : t + 1], batch.first[:, t : t + 1]
            each = [network(obs, (), first, extra=action[:, t : t + 1, k : k + 1])[0] for k in range(14)]
            q = torch.cat(each, -1)[:, 0, 0]  # [R, 14]
            soft = (q - log_density[:, t, 0]).exp().mean(-1).log()
            taken = (batch.action[:, t : t + 1] - 1.0) / 2.0  # [-1, 3] to [-1, 1]
            total += soft - network(obs, (), first, extra=taken)[0].flatten()
    torch.testing.assert_close(found, 0.25 * total / 5.0)


def values(action: Space, alpha: float, updates: int) -> torch.Tensor:
    """Learned values [R, A] of actions -1, 0 and 1 in a world that always pays 0 and where all took 0."""
    steps = 60
    obs = np.ones((steps, 2), np.float32)
    ends = np.ones(steps, bool)
    taken = np.ones(steps, np.int64) if action.kind == "discrete" else np.ones((steps, 1), np.float32)
    data = Dataset(obs, taken, np.zeros(steps), ends, ~ends, obs, ends)
    model = MLPConfig([16], "tanh", "uniform", False)
    algo = make(
        action, data, model, alpha=alpha, n_step=1, learning_rate=0.01, lr_schedule="constant", loss="mse"
    )
    train(algo, updates)
    here, first = torch.ones(2, 1, 1, 2, dtype=torch.float64), torch.ones(2, 1, 1, dtype=torch.bool)
    with torch.no_grad():
        if isinstance(algo.learner, DQN):
            return algo.learner.net(here, (), first)[0][:, 0, 0]
        actions = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64).view(1, 1, 3, 1).expand(2, 1, 3, 1)
        critic, every = algo.learner.critics[0], first.expand(2, 1, 3)
        return critic(here.expand(2, 1, 3, 2), (), every, extra=actions)[0][:, 0, :, 0]


@pytest.mark.parametrize("action", [Discrete(3), BOX], ids=["DQN", "SAC"])
def test_what_nobody_did_is_worth_less(action: Space) -> None:
    """All actions but the data's get pressed below it; without the penalty nothing orders them."""
    q = values(action, 0.5, 200)
    assert (q[:, 1:2] - q[:, [0, 2]] > 0.5).all(), q


def test_discrete_values_at_the_optimum() -> None:
    """Where the data's action has q = x and pays 0: x^2 + alpha (log(e^x + ...) - x) has its least at
    others -> -infinity, x -> 0; after finite time x is 0 within alpha (1 - softmax) / 2."""
    q = values(Discrete(3), 0.2, 600)
    slope = 2.0 * q[:, 1] + 0.2 * (q.softmax(-1)[:, 1] - 1.0)
    assert slope.abs().max() < 0.01 and (q[:, 1] > 0.0).all()


def test_draws_are_those_of_a_replay_with_the_same_steps() -> None:
    data, spec = logged(Discrete(3)), Spec(OBS, Discrete(3), 1, (1, 2), 1)
    for length in (1, 3):
        log = LoggedReplay(data, spec, length)
        replay = Replay(300, 1)
        for steps in log.in_order(128):
            replay.add(steps)
        one, other = log.sample(50, Stream((1, 2), "x")), replay.sample(50, length, Stream((1, 2), "x"))
        for name in ("obs", "action", "reward", "terminated", "truncated", "next_obs", "first", "valid"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name


def test_data_are_shared_and_in_no_checkpoint() -> None:
    algo = make(Discrete(3), reward_scale=0.5)
    data = logged(Discrete(3))
    assert algo.data.steps["reward"].tolist() == data.reward.tolist()
    assert (algo.learner.return_scale.scale == 0.5).all()  # scaled when they are learned from
    steps = next(algo.data.in_order())
    assert steps.obs.shape == (2, 300, 1, 2) and steps.obs[0].data_ptr() == steps.obs[1].data_ptr()
    assert not any(leaf.shape[1:2] == (300,) for leaf in algo.state().values())
    mean = algo.state()["learner.net.norm.mean"]
    torch.testing.assert_close(mean, torch.from_numpy(data.obs).double().mean(0).expand(2, 2))


@pytest.mark.parametrize("action", [Discrete(3), BOX], ids=["DQN", "SAC"])
def test_with_memory(action: Space) -> None:
    algo = make(action, model=LSTM, alpha=0.1)
    before = {name: leaf.clone() for name, leaf in algo.state(("weights",)).items()}
    metrics = train(algo, 3)
    assert all(bool(value.isfinite().all()) for value in metrics.values())
    assert any(not torch.equal(leaf, before[name]) for name, leaf in algo.state(("weights",)).items())


def test_a_policy_that_only_acts_needs_no_data() -> None:
    algo = make(Discrete(3))
    bare = CQL(replace(algo.learner.spec, dataset=None), algo.config, MLP)
    bare.load_state(algo.state(("weights",)), ("weights",))
    obs, first = torch.zeros(2, 4, 2, dtype=torch.float64), torch.ones(2, 4, dtype=torch.bool)
    assert torch.equal(bare.q(obs, (), first), algo.q(obs, (), first))


@pytest.mark.parametrize(
    "overrides, words",
    [
        (["algo.target.unit=episodes"], "there are only updates here"),
        (["algo.alpha=-1"], "algo.alpha is -1"),
        (["algo.continuous.samples=0"], "algo.continuous.samples is 0"),
    ],
)
def test_refusals(overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        compose(["algo=cql", *overrides])


def test_sequences_longer_than_the_data_are_refused() -> None:
    with pytest.raises(ConfigError, match="has 301 steps, and the data have 300"):
        make(Discrete(3), n_step=301)
