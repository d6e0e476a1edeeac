"""Behaviour cloning: whatever the expert does is copied, with its frequencies."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import Trial, small

from rlrun.algos.bc import BC
from rlrun.config import ConfigError
from rlrun.config.compose import compose
from rlrun.core import Dataset, Spec
from rlrun.models import LSTMConfig, MLPConfig
from rlrun.rng import Stream
from rlrun.runs.run import execute
from rlrun.spaces import Box, Discrete, MultiDiscrete, Space

OBS = Box((2,), (-3.0, -3.0), (3.0, 3.0))
MLP = MLPConfig([16], "relu", "uniform", False)
LSTM = LSTMConfig([], 8, 1, 1.0, [], "relu", "uniform", False, False)


def dataset(action: np.ndarray, obs: np.ndarray, episode: int = 10) -> Dataset:
    """Steps in episodes of a fixed length."""
    steps = len(action)
    truncated = np.arange(steps) % episode == episode - 1
    never = np.zeros(steps, bool)
    first = np.arange(steps) % episode == 0
    return Dataset(obs, action, np.zeros(steps), never, truncated, obs, first)


def points(steps: int = 600) -> np.ndarray:
    return np.random.default_rng(5).uniform(-1.0, 1.0, (steps, 2)).astype(np.float32)


def make(
    data: Dataset, action: Space, model: Any = MLP, seeds: tuple[int, ...] = (1, 2), **changes: Any
) -> BC:
    config = compose(["algo=bc"]).algo
    for name, value in (
        {"learning_rate": 0.01, "batch_size": 64, "lr_schedule": "constant", "burn_in": 0} | changes
    ).items():
        setattr(config, name, value)
    return BC(Spec(OBS, action, 1, seeds, 1000, dtype="float64", dataset=data), config, model)


def train(algo: BC, updates: int) -> dict[str, torch.Tensor]:
    for _ in range(updates):
        metrics = algo.update(None, step=np.zeros(algo.spec.replicas, np.int64))
    return metrics


def act(
    algo: BC, obs: np.ndarray, mode: Any = "greedy", memory: Any = None, first: Any = True
) -> tuple[Any, Any]:
    """Actions [R, N, ...] for obs [N, 2], the same in every replica; and the memory after."""
    replicas, n = algo.spec.replicas, len(obs)
    tensor = torch.from_numpy(obs).double().expand(replicas, n, 2)
    flags = torch.full((replicas, n), bool(first))
    memory = algo.initial_memory(n) if memory is None else memory
    with torch.no_grad():
        out = algo.act(tensor, memory, flags, step=np.zeros(1), mode=mode, rng=Stream(algo.spec.seeds, "x"))
    return out.action, out.memory


def test_first_loss_by_hand() -> None:
    """Before learning all four actions are as likely: the loss is log 4, whatever was done."""
    algo = make(dataset(np.arange(600) % 4, points()), Discrete(4))
    for parameter in algo.net.head.parameters():
        parameter.data.zero_()
    torch.testing.assert_close(train(algo, 1)["loss/bc"], torch.full((2,), math.log(4.0)).double())


@pytest.mark.parametrize("expert", [1, -1])
def test_the_expert_is_copied_even_where_it_errs(expert: int) -> None:
    """Left or right by a rule, and by its very opposite."""
    obs = points()
    algo = make(dataset((expert * obs[:, 0] > 0).astype(np.int64), obs), Discrete(2))
    metrics = train(algo, 250)
    fresh = np.random.default_rng(6).uniform(-1.0, 1.0, (500, 2))
    agree = (act(algo, fresh)[0].numpy() == (expert * fresh[:, 0] > 0)).mean(1)
    assert (agree > 0.96).all() and (metrics["loss/bc"] < 0.2).all()


def test_frequencies_are_copied() -> None:
    """An expert that does 1 in three of four cases, for no reason in sight."""
    taken = (np.random.default_rng(3).uniform(size=600) < 0.75).astype(np.int64)
    algo = make(dataset(taken, points()), Discrete(2), learning_rate=0.002)
    train(algo, 150)
    drawn, _ = act(algo, np.zeros((4000, 2)), "sample")
    assert drawn.double().mean(1).numpy() == pytest.approx(taken.mean(), abs=0.08)
    assert (act(algo, points())[0] == 1).double().mean() > 0.9


def test_continuous_actions_in_an_asymmetric_box() -> None:
    """Mean and deviation of a noisy linear expert; what is done never leaves the box."""
    box = Box((1,), (-1.0,), (7.0,))  # half width 4
    obs = points(3000)
    noise = np.random.default_rng(2).normal(0.0, 0.2, 3000)
    taken = (3.0 + 2.0 * obs[:, 0] + noise).astype(np.float32)[:, None]
    algo = make(dataset(taken, obs), box)
    train(algo, 500)
    fresh = np.random.default_rng(6).uniform(-1.0, 1.0, (200, 2))
    error = act(algo, fresh)[0][..., 0].numpy() - (3.0 + 2.0 * fresh[:, 0])
    assert np.sqrt((error**2).mean(1)).max() < 0.15
    deviation = 4.0 * algo.head["log_std"].exp()
    assert deviation.shape == (2, 1, 1) and deviation.detach().numpy() == pytest.approx(0.2, abs=0.05)
    for mode in ("greedy", "sample"):
        wild, _ = act(algo, 1000.0 * fresh, mode)
        assert wild.shape == (2, 200, 1) and wild.min() == -1.0 and wild.max() == 7.0


def test_vectors_of_integers() -> None:
    obs = points()
    taken = np.stack([obs[:, 0] > 0, 1 + (obs[:, 1] > 0)], -1).astype(np.int64)
    algo = make(dataset(taken, obs), MultiDiscrete((2, 3)))
    train(algo, 250)
    agree = (act(algo, obs)[0].numpy() == taken).mean((1, 2))
    assert (agree > 0.95).all()


def test_replicas_share_the_data_and_draw_their_own_minibatches() -> None:
    data = dataset(np.arange(600) % 2, points())
    algo = make(data, Discrete(2), seeds=tuple(range(16)))
    assert algo.obs.data_ptr() == data.obs.ctypes.data and algo.obs.shape == (600, 2)
    assert not any("obs" in name for name in algo.state())
    drawn = algo.rng.integers(600, 8)
    assert len({tuple(row) for row in drawn.tolist()}) == 16


def recall(steps: int = 600, episode: int = 4) -> Dataset:
    """A cue of +-1 at an episode's beginning decides every action of it; nothing else shows it."""
    cue = np.random.default_rng(1).integers(0, 2, steps // episode).repeat(episode)
    obs = np.zeros((steps, 2), np.float32)
    obs[::episode, 0] = 2.0 * cue[::episode] - 1.0
    return dataset(cue, obs, episode)


def test_memory_recalls_and_none_cannot() -> None:
    """Episode ends lie inside the sequences: what the one before was about must not leak in."""
    recurrent = make(recall(), Discrete(2), LSTM, sequence_length=6, batch_size=16, learning_rate=0.02)
    train(recurrent, 150)
    cues = np.array([[1.0, 0.0], [-1.0, 0.0]])
    memory = None
    for begin in (cues, -cues, cues):  # three episodes on end
        expected = (begin[:, 0] > 0).astype(int)
        for t in range(4):
            action, memory = act(recurrent, begin if t == 0 else 0.0 * begin, memory=memory, first=t == 0)
            assert (action.numpy() == expected).all()
    blind = make(recall(), Discrete(2))
    loss = train(blind, 150)["loss/bc"]
    assert (loss > 0.4).all()  # three steps of four are a coin's toss: 0.75 log 2 = 0.52


def test_sequences_are_replayed_as_they_would_be_acted() -> None:
    """The loss over all episodes in one sequence is that of stepping through them, memory cleared between."""
    data = recall(24)
    algo = make(data, Discrete(2), LSTM, sequence_length=24, batch_size=1)
    for parameter in algo.net.parameters():
        parameter.data.mul_(3.0)  # so that memory matters
    memory, log_prob = algo.initial_memory(1), torch.zeros(2, 1, dtype=torch.float64)
    with torch.no_grad():
        for obs, action, first in zip(data.obs, data.action, data.first, strict=True):
            flags = torch.full((2, 1), bool(first))
            out, memory = algo.net.step(torch.from_numpy(obs).double().expand(2, 1, 2), memory, flags)
            log_prob += out.log_softmax(-1)[..., int(action)]
    torch.testing.assert_close(train(algo, 1)["loss/bc"], -log_prob[:, 0] / 24)


def test_only_steps_with_a_known_memory_are_learned_from() -> None:
    """A sequence that begins inside an episode learns after its burn-in or at the next beginning."""
    data = recall(600, episode=4)
    algo = make(data, Discrete(2), LSTM, sequence_length=2, burn_in=3, batch_size=200)
    seen = []
    update = algo.net.update_normalizer
    algo.net.update_normalizer = lambda obs, valid: (seen.append((obs, valid)), update(obs, valid))[0]  # type: ignore[method-assign]
    counter = algo.rng.counter
    train(algo, 1)
    (obs, valid) = seen[0]
    algo.rng.counter = counter
    start = algo.rng.integers(600 - 5 + 1, 1, 200)[:, 0]  # [R, B]
    index = start[:, None] + torch.arange(5).view(1, 5, 1)
    assert torch.equal(obs, torch.from_numpy(data.obs)[index])
    first_seen = (-start % 4)[:, None]  # steps until the next episode begins
    time = torch.arange(5).view(1, 5, 1)
    assert torch.equal(valid, (time >= 3) | (time >= first_seen))


def test_the_previous_action_is_the_one_before_the_sequence() -> None:
    """An expert that alternates, shown nothing but what it did last."""
    obs = np.zeros((600, 2), np.float32)
    taken = np.arange(600) % 2
    model = LSTMConfig([], 8, 1, 1.0, [], "relu", "uniform", False, True)
    algo = make(dataset(taken, obs, episode=600), Discrete(2), model, sequence_length=1, learning_rate=0.02)
    assert (train(algo, 150)["loss/bc"] < 0.05).all()
    memory, done = None, []
    for t in range(6):
        action, memory = act(algo, obs[:1], memory=memory, first=t == 0)
        done.append(action[:, 0].tolist())
    assert all(one == [1 - before for before in two] for one, two in zip(done[1:], done, strict=False))


def test_it_counts_updates_and_never_steps_an_environment(tmp_path: Path) -> None:
    config = small("bc", total_steps=37, replicas=2)
    assert BC.rollout_steps == 0
    trial = Trial.of(config)
    trial.train(3)
    assert trial.collector.obs is None  # nothing was ever reset
    summary = execute(config, folder=tmp_path / "run").summary
    assert summary["env_steps"] == 0 and summary["updates"] == 37
    assert [row["steps"] for row in summary["replicas"]] == [37, 37]


def test_without_memory_a_sequence_is_one_step() -> None:
    algo = make(recall(), Discrete(2), sequence_length=16, burn_in=8)
    assert (algo.length, algo.burn_in) == (1, 0)
    recurrent = make(recall(), Discrete(2), LSTM, sequence_length=16, burn_in=8)
    assert (recurrent.length, recurrent.burn_in) == (24, 8)


def test_sequences_longer_than_the_data_are_refused() -> None:
    with pytest.raises(ConfigError, match="is 601: the data have 600 steps"):
        make(recall(), Discrete(2), LSTM, sequence_length=600, burn_in=1)
    make(recall(), Discrete(2), LSTM, sequence_length=600, burn_in=0)
