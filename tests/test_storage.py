"""The replay ring against a list of rows, and what a sampled sequence may hold."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlrun.core import Rollout, insert, select
from rlrun.rng import Stream
from rlrun.storage import Replay


def rollout(begin: int, steps: int, envs: int, replicas: int = 2, memory: bool = False) -> Rollout:
    """Steps whose every field tells where they come from: replica, time and env."""
    time = torch.arange(begin, begin + steps).view(1, -1, 1)
    code = torch.arange(replicas).view(-1, 1, 1) * 1_000_000 + time * 100 + torch.arange(envs)
    flag = code % 3 == 0
    extras = {"memory.0": code.unsqueeze(-1).float() + 0.25, "memory.1": code.clone()} if memory else {}
    return Rollout(
        obs=code.unsqueeze(-1).float(),
        action=code.clone(),
        reward=code.double(),
        terminated=flag,
        truncated=~flag,
        next_obs=code.unsqueeze(-1).float() + 0.5,
        first=code % 5 == 0,
        valid=code % 7 != 0,
        extras=extras | {"log_prob": code.float()},
    )


@given(
    st.integers(1, 12),
    st.integers(1, 3),
    st.lists(st.integers(1, 15), min_size=1, max_size=8),
    st.integers(1, 4),
    st.integers(0, 3),
)
@settings(max_examples=120, deadline=None)
def test_ring_is_the_slow_reference(rows: int, envs: int, adds: list[int], length: int, spare: int) -> None:
    """Every sampled sequence is `length` consecutive rows of one env among the newest `rows` rows."""
    replay, written = Replay(rows * envs + min(spare, envs - 1), envs), 0
    for steps in adds:
        replay.add(rollout(written, steps, envs))
        written += steps
    oldest = max(0, written - rows)
    assert len(replay) == (written - oldest) * envs
    if written - oldest < length:
        return
    batch = replay.sample(64, length, Stream([1, 2], "x"))
    assert batch.reward.shape == (2, length, 64)
    code = batch.action
    time, env = code % 1_000_000 // 100, code % 100
    assert (code // 1_000_000 == torch.arange(2).view(-1, 1, 1)).all()
    assert (time >= oldest).all() and (time < written).all()
    assert (time[:, 1:] - time[:, :-1] == 1).all()  # so no sequence crosses the write head
    assert (env == env[:, :1]).all()
    for name, expected in vars_of(code).items():
        assert torch.equal(getattr(batch, name), expected), name


def vars_of(code: torch.Tensor) -> dict[str, torch.Tensor]:
    flag = code % 3 == 0
    return {
        "obs": code.unsqueeze(-1).float(),
        "reward": code.double(),
        "terminated": flag,
        "truncated": ~flag,
        "next_obs": code.unsqueeze(-1).float() + 0.5,
        "first": code % 5 == 0,
        "valid": code % 7 != 0,
    }


@pytest.mark.parametrize("written", [6, 8, 11])  # half full, full, wrapped
def test_sampling_is_uniform_over_starts_and_envs(written: int) -> None:
    replay = Replay(16, 2)
    replay.add(rollout(0, written, 2))
    size, oldest = min(written, 8), max(0, written - 8)
    batch = replay.sample(30_000, 3, Stream([1, 2], "x"))
    start = batch.action[0, 0]
    time, env = start // 100 - oldest, start % 100
    count = torch.bincount(time * 2 + env, minlength=(size - 2) * 2)
    expected = 30_000 / len(count)
    assert len(count) == (size - 2) * 2
    assert (count - expected).abs().max() < 6 * np.sqrt(expected)
    assert not torch.equal(
        batch.action[0] % 1_000_000, batch.action[1] % 1_000_000
    )  # each replica's own draw


def test_all_starts_come_up_when_just_enough_is_stored() -> None:
    replay = Replay(100, 1)
    replay.add(rollout(0, 3, 1))
    assert (replay.sample(50, 3, Stream([1, 2], "x")).action[:, 0] % 1_000_000 == 0).all()


def test_memory_is_that_before_the_first_step() -> None:
    replay = Replay(20, 2)
    replay.add(rollout(0, 13, 2, memory=True))  # wraps
    batch = replay.sample(40, 3, Stream([1, 2], "x"))
    assert len(batch.memory) == 2
    assert torch.equal(batch.memory[0], batch.obs[:, 0] + 0.25)
    assert torch.equal(batch.memory[1], batch.action[:, 0])
    assert set(batch.extras) == {"log_prob"}
    assert torch.equal(batch.extras["log_prob"], batch.action.float())


def test_rows_are_copies() -> None:
    """The collector reuses its buffers: what is stored must not change with them."""
    steps = rollout(0, 4, 1)
    replay = Replay(10, 1)
    replay.add(steps)
    steps.obs.fill_(-1)
    steps.reward.fill_(-1)
    assert (replay.sample(50, 1, Stream([1, 2], "x")).obs >= 0).all()


@pytest.mark.parametrize("written", [5, 8, 13])
def test_state_round_trip(written: int) -> None:
    """A restored buffer samples the same, and goes on being written the same."""
    replay = Replay(16, 2)
    for begin in range(written):
        replay.add(rollout(begin, 1, 2, memory=True))
    state = {name: leaf.clone() for name, leaf in replay.state().items()}
    fresh = Replay(16, 2)
    fresh.add(rollout(500, 3, 2, memory=True))
    fresh.load_state(state)
    for one in (replay, fresh):
        one.add(rollout(written, 6, 2, memory=True))
    a, b = (one.sample(64, 2, Stream([1, 2], "x")) for one in (replay, fresh))
    assert torch.equal(a.action, b.action) and torch.equal(a.memory[0], b.memory[0])
    assert {k: v.tolist() for k, v in replay.state().items()} == {
        k: v.tolist() for k, v in fresh.state().items()
    }


def test_empty_state_round_trip() -> None:
    replay = Replay(16, 2)
    assert replay.state() == {}
    used = Replay(16, 2)
    used.add(rollout(0, 3, 2))
    used.load_state({})
    assert len(used) == 0 and used.state() == {}


def test_replicas_are_slices() -> None:
    """`select` of a state loads into a lone buffer, and `insert` puts it back."""
    replay, lone = Replay(16, 2), Replay(16, 2)
    replay.add(rollout(0, 11, 2))
    one = select(replay.state(), 1)
    lone.load_state(one)
    batch = lone.sample(32, 2, Stream([7], "x"))
    assert (batch.action // 1_000_000 == 1).all()
    state = {name: leaf.clone() for name, leaf in replay.state().items()}
    insert(state, 0, one)
    assert torch.equal(state["action"][0], state["action"][1])
