"""The DQN family: targets, importance weights and syncs with answers known by hand."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import handmade
import numpy as np
import pytest
import torch
from handmade import GAMMA, constant, windows
from support import Trial, known, small

from rlrun.algos.dqn import DQN
from rlrun.config import ConfigError
from rlrun.config.compose import compose
from rlrun.core import Rollout, Spec
from rlrun.models import LSTMConfig, MLPConfig
from rlrun.parts.prioritized import PrioritizedReplay, priority
from rlrun.spaces import Box, Discrete

SCALE = 0.5
MLP = MLPConfig([8], "tanh", "uniform", False)
LSTM = LSTMConfig([], 8, 1, 1.0, [], "tanh", "uniform", False, False)
BETA = torch.full((2,), 0.5)
rollout = partial(handmade.rollout, Discrete(3))


def make(model: Any = MLP, **changes: Any) -> DQN:
    """Two replicas in float64, observations [3], three actions; one gradient step a rollout of 4 steps."""
    config = compose(["algo=dqn"]).algo
    config.target.tau, config.target.every = 1.0, 1_000_000
    values = {
        "gamma": GAMMA,
        "reward_scale": SCALE,
        "n_step": 1,
        "batch_size": 16,
        "learning_starts": 0,
        "buffer_size": 400,
        "train_every": 4,
        "sequence_length": 3,
        "burn_in": 0,
    } | changes
    for name, value in values.items():
        setattr(config, name, value)
    obs = Box((3,), (-9.0,) * 3, (9.0,) * 3)
    return DQN(Spec(obs, Discrete(3), 4, (1, 2), 1000, dtype="float64"), config, model)


def with_memory(algo: DQN, batch: Rollout) -> Rollout:
    return batch.with_(memory=algo.initial_memory(4))


@pytest.mark.parametrize("model", [MLP, LSTM])
@pytest.mark.parametrize(
    "double, value",
    [(False, 5.0), (True, 1.0)],  # the networks swapped: 0; the online one alone: 9
)
def test_who_chooses_the_next_action_and_who_values_it(model: Any, double: bool, value: float) -> None:
    algo = make(model, double=double)
    constant(algo.net, 9.0, 0.0, 7.0)
    constant(algo.target, 1.0, 5.0, 3.0)
    batch = with_memory(algo, rollout(3 if model is LSTM else 1, 2.0))
    _, mean, error = algo.loss(batch, BETA)
    q = torch.tensor([9.0, 0.0, 7.0]).double()[batch.action]
    torch.testing.assert_close(error, q - (2.0 * SCALE + GAMMA * value))
    torch.testing.assert_close(mean, q.mean((1, 2)) / SCALE)  # in units of the task's rewards


@pytest.mark.parametrize("model", [MLP, LSTM])
@pytest.mark.parametrize("loss", ["huber", "mse"])
@windows
def test_targets_and_losses_by_hand(
    model: Any, loss: str, terminated: list[int], truncated: list[int], total: float, discount: float
) -> None:
    """Rewards 1, 2, 4; the target network says 7, and the online one 0."""
    algo = make(model, n_step=3, loss=loss)
    constant(algo.net, 0.0, 0.0, 0.0)
    constant(algo.target, 7.0, 7.0, 7.0)
    batch = with_memory(algo, rollout(3, [1.0, 2.0, 4.0], terminated, truncated))
    if model is LSTM:
        batch = batch.with_(valid=batch.valid & (torch.arange(3) == 0).view(1, 3, 1))  # only the first counts
    target = SCALE * total + discount * 7.0
    mean, _, error = algo.loss(batch, BETA)
    torch.testing.assert_close(error[:, 0], torch.full((2, 4), -target).double())
    huber = target - 0.5 if target > 1 else 0.5 * target**2
    torch.testing.assert_close(mean, torch.full((2,), target**2 if loss == "mse" else huber).double())


@pytest.mark.parametrize("model", [MLP, LSTM])
@pytest.mark.parametrize("value, bound", [(1000.0, 2.0), (-1000.0, -0.5)])
def test_targets_stay_within_what_rewards_can_pay(model: Any, value: float, bound: float) -> None:
    algo = make(model)
    constant(algo.net, 0.0, 0.0, 0.0)
    constant(algo.target, value, value, value)
    steps = 3 if model is LSTM else 1
    batch, far = with_memory(algo, rollout(steps, 1.0)), torch.zeros(2, steps, 4).double()
    free = algo.loss(batch, BETA)[2]
    torch.testing.assert_close(free, far - SCALE - GAMMA * value)  # nothing is known yet
    algo.bounds.take_in(rollout(3, [1.0, -0.5, 2.0]))
    torch.testing.assert_close(algo.loss(batch, BETA)[2], far - SCALE * bound / (1.0 - GAMMA))
    torch.testing.assert_close(make(model, clip_targets=False).bounds.clip(far, far), far)


@pytest.mark.parametrize("loss", ["huber", "mse"])
def test_importance_weights_are_inside_the_loss(loss: str) -> None:
    """(N p)^-beta over its maximum, for every element: large errors, where Huber's is linear, too."""
    algo = make(loss=loss)
    constant(algo.net, 0.0, 0.0, 0.0)
    constant(algo.target, 0.0, 0.0, 0.0)
    reward = torch.tensor([[0.2, 4.0, 6.0, 1.0], [10.0, 0.4, 2.0, 2.0]]).double().unsqueeze(1)
    probability = torch.tensor([[0.1, 0.4, 0.2, 0.3], [0.7, 0.1, 0.1, 0.1]]).double()
    beta, n = torch.tensor([0.4, 1.0]).double(), 50
    batch = rollout(1).with_(reward=reward, info={"probability": probability})
    weight = (n * probability) ** -beta[:, None]
    weight = weight / weight.max(1, keepdim=True).values
    size = SCALE * reward[:, 0]
    each = size**2 if loss == "mse" else torch.where(size < 1, 0.5 * size**2, size - 0.5)
    torch.testing.assert_close(algo.loss(batch, beta)[0], (weight * each).mean(1))
    plain = algo.loss(batch.with_(info={}), beta)[0]
    torch.testing.assert_close(plain, each.mean(1))
    equal = batch.with_(info={"probability": torch.full((2, 4), 0.02).double()})
    torch.testing.assert_close(algo.loss(equal, beta)[0], plain)


def test_beta_reaches_one_at_the_end() -> None:
    beta = make().beta
    assert np.allclose(beta(np.array([0, 500, 1000, 2000])), [0.4, 0.7, 1.0, 1.0])


def test_priority_of_a_sequence() -> None:
    """R2D2's mix: eta times the largest error and the rest times the mean one."""
    error = torch.tensor([[[-4.0], [1.0], [1.0]]]).double()
    assert float(priority(error, 0.9)) == pytest.approx(0.9 * 4 + 0.1 * 2)
    assert float(priority(error[:, :1], 0.9)) == pytest.approx(4.0)


@pytest.mark.parametrize("model", [MLP, LSTM])
def test_what_was_learned_from_is_reprioritised_by_its_error(model: Any) -> None:
    algo = make(model, sampling="prioritized", batch_size=64, learning_rate=1e-12)
    assert isinstance(algo.replay, PrioritizedReplay)
    algo.replay.alpha = 1.0
    constant(algo.net, 0.0, 0.0, 0.0)
    constant(algo.target, 0.0, 0.0, 0.0)
    reward = torch.arange(1, 7).double().view(1, 6, 1).expand(2, 6, 4)
    steps = rollout(6).with_(reward=reward, valid=torch.arange(6).view(1, 6, 1).expand(2, 6, 4) != 5)
    if model is LSTM:
        steps = steps.with_(extras={f"memory.{i}": leaf.unsqueeze(1).expand(2, 6, *leaf.shape[1:])
                                    for i, leaf in enumerate(algo.initial_memory(4))})  # fmt: skip
    for _ in range(2):
        algo.replay.load_state({})
        algo.update(steps, step=np.zeros(2, np.int64))
    found = algo.replay.state()["weight"]  # [R, rows, N]
    drawn = found != 1.0
    size = SCALE * reward * steps.valid  # an invalid step has no error
    if model is LSTM:
        size = torch.stack([priority(size[:, t : t + 3], algo.config.priority.eta) for t in range(4)], 1)
        assert (found[:, 4:] == 0).all()  # no whole sequence begins there
        found, drawn = found[:, :4], drawn[:, :4]
    assert drawn.float().mean() > 0.8
    torch.testing.assert_close(found[drawn], (size + 1e-6)[drawn])


@pytest.mark.parametrize("recipe", ["lstm_dqn", "gru_dqn"])
def test_sequences_see_what_stepping_saw(recipe: str) -> None:
    """From stored memory, through the burn-in and over episodes' ends, to 1e-6."""
    trial = Trial.of(replace(small(recipe, replicas=2, dtype="float64"), num_envs=2))
    algo: Any = trial.algo
    algo.config.learning_starts = 300  # the weights that memory was stored with are today's
    trial.train(60)
    batch = algo.replay.sample(32, algo.length, algo.rng)
    assert batch.first[:, 1:].any() and not batch.first.all()
    with torch.no_grad():
        out = algo.recurrent_values(batch)[0]
        memory = batch.memory
        for t in range(algo.length):
            q, memory = algo.net.step(batch.obs[:, t], memory, batch.first[:, t])
            memory = algo.net.remember(memory, batch.action[:, t])
            if t >= algo.config.burn_in:
                torch.testing.assert_close(out[:, t - algo.config.burn_in], q, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("every", [1, 3])
def test_target_follows_every_so_many_updates(every: int) -> None:
    algo = make()
    algo.config.target.every = every
    assert algo.sync.target.data_ptr() != algo.optim.flat.data_ptr()
    begin, changes = algo.sync.target.clone(), 0
    for _ in range(7):
        before = algo.sync.target.clone()
        algo.update(rollout(1, 1.0), step=np.zeros(2, np.int64))
        changes += not torch.equal(before, algo.sync.target)
        assert torch.equal(algo.sync.target, algo.optim.flat) == (algo.sync.count[0] % every == 0)
    assert changes == 7 // every
    assert not torch.equal(begin, algo.sync.target)


def test_target_is_the_first_network_until_the_first_sync() -> None:
    algo = make(model=LSTM)
    begin = algo.sync.target.clone()
    for _ in range(5):
        steps = rollout(3, 1.0)
        memory = {f"memory.{i}": leaf.unsqueeze(1).expand(2, 3, *leaf.shape[1:])
                  for i, leaf in enumerate(algo.initial_memory(4))}  # fmt: skip
        algo.update(steps.with_(extras=memory), step=np.zeros(2, np.int64))
    assert torch.equal(algo.sync.target, begin) and not torch.equal(algo.optim.flat, begin)


@pytest.mark.parametrize("unit, every", [("episodes", 2), ("steps", 6)])
def test_target_follows_every_so_many_episodes_or_steps(unit: str, every: int) -> None:
    """Each replica by its own count, of valid steps only: the second one runs at half the speed."""
    algo = make()
    algo.config.target.unit, algo.config.target.every, algo.config.target.tau = unit, every, 0.5
    valid = torch.ones(2, 1, 4, dtype=torch.bool)
    valid[1, :, 2:] = False
    ended = torch.zeros(2, 1, 4, dtype=torch.bool)
    ended[:, :, [0, 2]] = True  # an episode each, of which the second replica's other one is a filler
    counted = np.zeros(2, int)
    for _ in range(5):
        before, online = algo.sync.target.clone(), algo.optim.flat.clone()
        steps = rollout(1, 1.0).with_(valid=valid, truncated=ended)
        algo.update(steps, step=np.zeros(2, np.int64))
        now = counted + ([2, 1] if unit == "episodes" else [4, 2])
        due = torch.from_numpy(now // every > counted // every)[:, None]
        torch.testing.assert_close(algo.sync.target, torch.where(due, 0.5 * (before + online), before))
        counted = now
    assert algo.sync.count.tolist() == counted.tolist()


VARIANTS = ("dqn", "double_dqn", "dueling_dqn", "prioritized_dqn", "mini_rainbow")


@pytest.mark.parametrize("model", ["lstm", "gru"])
@pytest.mark.parametrize("algo", VARIANTS)
def test_any_variant_takes_memory_with_one_word(algo: str, model: str) -> None:
    """It then learns from sequences, whose memory gets gradients."""
    recipe = compose([f"algo={algo}", f"model={model}"])
    assert recipe.algo.sequence_length == 16
    tiny = {"model.hidden_size": 4, "algo.learning_starts": 60, "algo.batch_size": 8, "num_envs": 2}
    trial = Trial.of(compose([f"algo={algo}", f"model={model}", *known(recipe, tiny), "total_steps=400"]))
    core = {name: p.clone() for name, p in trial.algo.net.core.named_parameters()}  # type: ignore[attr-defined]
    seen: list[torch.Tensor] = []
    trial.train(60, lambda clock, metrics: seen.extend(metrics.values()))
    assert seen and all(bool(value.isfinite().all()) for value in seen)
    for name, parameter in trial.algo.net.core.named_parameters():  # type: ignore[attr-defined]
        assert not torch.equal(core[name], parameter), name


def test_recipes_are_flags_of_one_class() -> None:
    flags = {
        name: (config.double, config.dueling, config.sampling)
        for name, config in ((name, compose([f"algo={name}"]).algo) for name in VARIANTS)
    }
    assert flags == {
        "dqn": (False, False, "uniform"),
        "double_dqn": (True, False, "uniform"),
        "dueling_dqn": (True, True, "uniform"),
        "prioritized_dqn": (True, False, "prioritized"),
        "mini_rainbow": (True, True, "prioritized"),
    }


def test_a_buffer_too_small_for_a_sequence_is_refused() -> None:
    sizes = ["algo.buffer_size=60", "algo.learning_starts=20", "algo.batch_size=8", "num_envs=4"]
    compose(["algo=dqn", *sizes])
    with pytest.raises(ConfigError, match="15 steps of each env; a sequence has 24"):
        compose(["algo=dqn", "model=lstm", *sizes])
