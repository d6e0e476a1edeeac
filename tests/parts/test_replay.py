"""The replay ring against a list of rows, and what a sampled sequence may hold."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlrun.core import Rollout
from rlrun.parts.prioritized import PrioritizedReplay
from rlrun.parts.replay import Replay
from rlrun.parts.sequential import SequentialReplay
from rlrun.rng import Stream
from rlrun.state import insert, select

KINDS = ("uniform", "sequential", "prioritized")


def make(kind: str, capacity: int, num_envs: int, length: int = 1) -> Replay:
    if kind == "prioritized":
        return PrioritizedReplay(capacity, num_envs, length, alpha=0.7)
    return SequentialReplay(capacity, num_envs, 2) if kind == "sequential" else Replay(capacity, num_envs)


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
    st.sampled_from(KINDS),
)
@settings(max_examples=200, deadline=None)
def test_ring_is_the_slow_reference(
    rows: int, envs: int, adds: list[int], length: int, spare: int, kind: str
) -> None:
    """Every sampled sequence is `length` consecutive rows of one env among the newest `rows` rows."""
    replay, written = make(kind, rows * envs + min(spare, envs - 1), envs, length), 0
    for steps in adds:
        replay.add(rollout(written, steps, envs))
        written += steps
        if isinstance(replay, PrioritizedReplay) and replay.size >= length:
            cell = replay.sample(8, length, Stream([3, 4], "x")).info["cell"]
            replay.reprioritise(cell, (cell % 7).double())
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


@pytest.mark.parametrize("kind", ["uniform", "prioritized"])  # while all priorities are equal
@pytest.mark.parametrize("written", [6, 8, 11])  # half full, full, wrapped
def test_sampling_is_uniform_over_starts_and_envs(written: int, kind: str) -> None:
    replay = make(kind, 16, 2, 3)
    for begin in range(written):
        replay.add(rollout(begin, 1, 2))
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


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("written", [5, 8, 13])
def test_state_round_trip(written: int, kind: str) -> None:
    """A restored buffer samples the same, and goes on being written the same."""
    replay, fresh = make(kind, 16, 2, 2), make(kind, 16, 2, 2)
    for begin in range(written):
        replay.add(rollout(begin, 1, 2, memory=True))
    cell = torch.tensor([[1, 2, 5], [0, 3, 4]])
    if isinstance(replay, PrioritizedReplay):
        replay.reprioritise(cell, cell.double())
    state = {name: leaf.clone() for name, leaf in replay.state().items()}
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


def test_sequential_minibatch_is_one_stretch_of_time() -> None:
    """Sequence b + 1 begins `stride` rows after sequence b, in the same env, round to the oldest row."""
    replay = SequentialReplay(20, 2, stride=2)
    replay.add(rollout(0, 14, 2))  # wrapped: rows 4 .. 13 are left, and 8 starts for sequences of 3
    seen = set()
    for seed in range(120):
        start = replay.sample(6, 3, Stream([seed, seed + 100], "x")).action[:, 0] % 1_000_000
        time, env = start // 100 - 4, start % 100
        assert (env == env[:, :1]).all()
        assert torch.equal(time, (time[:, :1] + 2 * torch.arange(6)) % 8)
        seen |= {(int(t), int(e)) for t, e in zip(time[:, 0], env[:, 0], strict=True)}
    assert len(seen) == 16  # a stretch begins anywhere


def prioritized(alpha: float, rows: int = 8, length: int = 1) -> PrioritizedReplay:
    """Full: cell c of replica r holds env c % 2 at time c // 2."""
    replay = PrioritizedReplay(2 * rows, 2, length, alpha)
    replay.add(rollout(0, rows, 2))
    return replay


def frequencies(replay: PrioritizedReplay, draws: int = 40_000, length: int = 1) -> torch.Tensor:
    """How often each (row, env) came up as a start, [R, cells]; cells agree with what was sampled."""
    batch = replay.sample(draws, length, Stream([5, 6], "x"))
    start, cell = batch.action[:, 0] % 1_000_000, batch.info["cell"]
    assert torch.equal(start // 100 % replay.rows * 2 + start % 100, cell)
    return torch.stack([torch.bincount(row, minlength=2 * replay.rows) for row in cell])


@pytest.mark.parametrize("alpha", [1.0, 0.5, 0.0])
def test_frequencies_are_proportional_to_priorities(alpha: float) -> None:
    """Chi-square over 16 cells, each replica by its own priorities; alpha = 0 is uniform."""
    replay = prioritized(alpha)
    priority = torch.stack([torch.arange(1, 17), torch.arange(16, 0, -1) ** 2]).double()
    replay.reprioritise(torch.arange(16).expand(2, -1), priority)
    expected = (priority**alpha / (priority**alpha).sum(1, keepdim=True)) * 40_000
    chi_square = ((frequencies(replay) - expected) ** 2 / expected).sum(1)
    assert (chi_square < 37.7).all()  # 15 degrees of freedom: one in a thousand


def test_probability_is_what_a_cell_is_drawn_with() -> None:
    replay = prioritized(0.5)
    priority = torch.tensor([[1.0, 4.0, 9.0], [16.0, 1.0, 1.0]]).double()
    replay.reprioritise(torch.tensor([[0, 3, 5], [0, 3, 5]]), priority)
    weight = torch.ones(2, 16).double()  # new steps have the priority 1
    weight[:, [0, 3, 5]] = priority.sqrt()
    batch = replay.sample(200, 1, Stream([5, 6], "x"))
    expected = (weight / weight.sum(1, keepdim=True)).gather(1, batch.info["cell"])
    torch.testing.assert_close(batch.info["probability"], expected, rtol=1e-5, atol=0.0)


def test_priorities_stay_in_their_replica() -> None:
    replay = prioritized(1.0)
    replay.reprioritise(torch.tensor([[3], [7]]), torch.tensor([[1e6], [1e-6]]).double())
    counts = frequencies(replay, 2000)
    assert counts[0, 3] > 1990
    assert counts[1, 3] > 50 and counts[1, 7] < 5
    replay.reprioritise(torch.tensor([[0], [0]]), torch.tensor([[float("nan")], [1.0]]).double())
    assert torch.equal(frequencies(replay, 2000)[1] > 50, counts[1] > 50)  # a NaN harms its own replica only


def test_new_steps_have_the_highest_priority_known_and_overwrite_the_old_ones() -> None:
    replay = prioritized(1.0)
    every = torch.arange(16).expand(2, -1)
    replay.reprioritise(every, torch.full((2, 16), 1e-3).double())
    replay.reprioritise(torch.tensor([[4], [4]]), torch.tensor([[8.0], [2.0]]).double())
    replay.reprioritise(torch.tensor([[4], [4]]), torch.tensor([[0.0], [0.0]]).double())  # not known any more
    replay.add(rollout(8, 1, 2))  # into cells 0 and 1
    weight = replay.state()["weight"].flatten(1)
    assert weight[0, :2].tolist() == pytest.approx([8.0, 8.0])
    assert weight[1, :2].tolist() == pytest.approx([2.0, 2.0])
    assert (weight[:, 2:] < 2e-3).all()


def test_a_start_is_drawn_only_while_its_sequence_is_whole() -> None:
    """Sequences of 3 in 5 rows: three starts an env, whichever row is written next."""
    replay = PrioritizedReplay(10, 2, 3, 1.0)
    for begin in range(13):
        replay.add(rollout(begin, 1, 2))
        newest = min(begin + 1, 5)
        assert int((replay.state()["weight"][0] > 0).sum()) == 2 * max(newest - 2, 0)
