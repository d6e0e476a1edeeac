"""Rollouts: true successors, flags, all autoreset modes, episode statistics, whole episodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box as GymBox
from gymnasium.spaces import Discrete as GymDiscrete
from probes import ProbeEnv, build, probe

from rlrun import envs
from rlrun.collector import Collector
from rlrun.core import Act, Algorithm, Rollout
from rlrun.envs.vector.base import Arrays, NativeVectorEnv
from rlrun.rng import Stream, uniforms


class Ages(NativeVectorEnv):
    """Episodes of 2 to 6 steps, by seed, odd ones truncated; obs (length, age, mark), reward the age."""

    def __init__(self, num_envs: int) -> None:
        super().__init__(num_envs, GymBox(0.0, 10.0, (3,), np.float32), GymDiscrete(3), None)
        self._length, self._mark = np.zeros(num_envs, np.int64), np.zeros(num_envs)
        self.calls = 0

    def _begin(self, rows: np.ndarray, seed: np.ndarray, options: Mapping[str, Any]) -> None:
        self._length[rows] = 2 + (uniforms(seed, np.zeros(1)) * 5).astype(int)
        self._mark[rows] = uniforms(seed, np.ones(1))

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        self.calls += 1
        over = (self._steps >= self._length) & (self._length % 2 == 0)
        return self._steps.astype(float), over, {"age": self._steps.astype(float)}

    def step(self, actions: np.ndarray) -> Any:
        obs, reward, terminated, _, info = super().step(actions)
        return obs, reward, terminated, (self._steps >= self._length) & (self._length % 2 == 1), info

    def _observe(self) -> np.ndarray:
        return np.stack((self._length, self._steps, self._mark), -1).astype(np.float32)

    def _arrays(self) -> Arrays:
        return {"length": self._length, "mark": self._mark}


class Random(Algorithm):
    """Acts at random, and remembers how many steps it has acted since an episode's start."""

    def __init__(self, replicas: int, whole: bool = False) -> None:
        self.replicas, self.whole_episodes = replicas, whole
        self.steps_seen: list[np.ndarray] = []

    def initial_memory(self, num_envs: int) -> Any:
        return (torch.zeros(self.replicas, num_envs),)

    def act(self, obs: Any, memory: Any, first: Any, *, step: Any, mode: Any, rng: Stream) -> Act:
        self.steps_seen.append(step.copy())
        age = torch.where(first, 0.0, memory[0]) + 1
        draw = rng.uniform(obs.shape[1])
        return Act((draw * 3).long(), (age,), {"draw": draw, "age": age})

    def update(self, rollout: Any, *, step: Any) -> dict[str, Any]:
        return {}


def collector(env: Any, replicas: int, num_envs: int, seed: int = 1, **more: Any) -> Collector:
    return Collector(env, *envs.spaces(env), tuple(range(seed, seed + replicas)), num_envs, **more)


def copied(rollout: Rollout) -> dict[str, np.ndarray]:
    fields = ("obs", "action", "reward", "terminated", "truncated", "next_obs", "first", "valid")
    tensors = [getattr(rollout, name) for name in fields] + [*rollout.extras.values(), *rollout.memory]
    assert not any(tensor.is_inference() for tensor in tensors)  # they are to be learned from
    out = {name: getattr(rollout, name).numpy().copy() for name in fields}
    return out | {f"extras.{k}": v.numpy().copy() for k, v in rollout.extras.items()}


def joined(rollouts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([r[name] for r in rollouts], 1) for name in rollouts[0]}


def test_true_successors_and_flags() -> None:
    """next_obs is the state after the step also at an end; `first` marks each episode's first obs."""
    replicas, num_envs, steps = 2, 3, 25
    c, algo = collector(Ages(6), replicas, num_envs), Random(replicas)
    r = joined([copied(c.collect(algo, 5, np.zeros(2, np.int64))) for _ in range(steps // 5)])
    length, age = r["obs"][..., 0], r["obs"][..., 1]
    assert (r["next_obs"][..., 1] == age + 1).all() and (r["next_obs"][..., 0] == length).all()
    assert (r["reward"] == age + 1).all()
    over = age + 1 == length
    assert (r["terminated"] == over & (length % 2 == 0)).all() and (
        r["truncated"] == over & (length % 2 == 1)
    ).all()
    assert r["terminated"].any() and r["truncated"].any()
    assert (r["first"] == (age == 0)).all() and r["first"][:, 0].all()
    assert (r["first"][:, 1:] == over[:, :-1]).all()
    assert r["valid"].all()
    assert (r["extras.age"] == age + 1).all()  # the memory handed back is cleared by `first` alone
    mark = r["obs"][..., 2]
    assert len(np.unique(mark[r["first"]])) == r["first"].sum()  # every episode has a seed of its own


def test_rollout_memory_is_that_before_its_first_step() -> None:
    c, algo = collector(Ages(6), 2, 3), Random(2)
    c.collect(algo, 4, np.zeros(2, np.int64))
    r = c.collect(algo, 4, np.zeros(2, np.int64))
    cleared = torch.where(r.first[:, 0], 0.0, r.memory[0])
    assert torch.equal(cleared, r.obs[:, 0, :, 1])


@pytest.mark.parametrize("whole", [False, True])
def test_replica_is_a_lone_run(whole: bool) -> None:
    """Also where others' episodes are longer: draws made for padding are taken back."""
    batch, lone = collector(Ages(9), 3, 3, seed=5), collector(Ages(3), 1, 3, seed=6)
    together, alone = Random(3, whole), Random(1, whole)
    step, own = np.zeros(3, np.int64), np.zeros(1, np.int64)
    for _ in range(12):
        r, one = (copied(c.collect(a, 6, s)) for c, a, s in ((batch, together, step), (lone, alone, own)))
        step, own = step + r["valid"].sum((1, 2)), own + one["valid"].sum((1, 2))
        steps = one["valid"].shape[1]
        for name, value in r.items():
            mask = one["valid"][0]
            assert np.array_equal(value[1, :steps][mask], one[name][0][mask]), name
        assert not r["valid"][1, steps:].any()
        assert batch.rng.counter[1] == lone.rng.counter[0]
    assert step[1] == own[0]
    assert np.array_equal(batch.episode[1], lone.episode[0])


def test_whole_episodes() -> None:
    """One whole episode of each env, of unequal lengths; padding is not valid and not counted."""
    c, algo = collector(Ages(6), 2, 3), Random(2, whole=True)
    for round_ in range(5):
        r = copied(c.collect(algo, 1, np.zeros(2, np.int64)))
        length = r["obs"][:, 0, :, 0]
        assert (r["valid"].sum(1) == length).all() and r["valid"].shape[1] == length.max()
        assert (r["first"][:, 0]).all() and (r["first"] & r["valid"])[:, 1:].sum() == 0
        last = np.take_along_axis(r["terminated"] | r["truncated"], (length.astype(int) - 1)[:, None], 1)
        assert last.all()
        assert (c.episode == round_ + 1).all()
    stats = c.stats.take(np.ones(2, bool))
    assert (stats["length"] <= 6).all() and (c.rng.counter % 3 == 0).all()


def test_long_whole_episodes_outgrow_the_buffer() -> None:
    """300 steps, more than the buffer begins with; nothing is lost where it grows."""

    class Long(Ages):
        def _begin(self, rows: np.ndarray, seed: np.ndarray, options: Mapping[str, Any]) -> None:
            super()._begin(rows, seed, options)
            self._length[rows] = 300

    c, algo = collector(Long(2), 1, 2), Random(1, whole=True)
    for _ in range(2):
        r = copied(c.collect(algo, 1, np.zeros(1, np.int64)))
        assert (r["obs"][0, :, 0, 1] == np.arange(300)).all() and r["valid"].all()
        assert (r["extras.age"][0, :, 1] == np.arange(1, 301)).all()


def test_reported_returns_are_the_envs_own() -> None:
    """A shaped training reward reaches the rollout, never the statistics."""
    seen = []

    def shaped(reward: np.ndarray, obs: np.ndarray, action: np.ndarray, next_obs: np.ndarray) -> np.ndarray:
        seen.append((obs[..., 1].copy(), next_obs[..., 1].copy()))
        return -100.0 * reward

    c, algo = collector(Ages(6), 2, 3, reward=shaped), Random(2)
    own: list[list[float]] = [[], []]
    for _ in range(10):
        r = copied(c.collect(algo, 3, np.zeros(2, np.int64)))
        assert (r["reward"] == -100.0 * (r["obs"][..., 1] + 1)).all()
        length, age = r["obs"][..., 0], r["obs"][..., 1]
        for i in range(2):
            ended = (age + 1 == length)[i]
            own[i] += list(length[i][ended])
    stats = c.stats.take(np.array([True, True]))
    for i in range(2):
        lengths = np.array(own[i], float)
        assert stats["length"][i] == lengths.mean()
        assert np.isclose(stats["return"][i], (lengths * (lengths + 1) / 2).mean())
    assert all((after == before + 1).all() for before, after in seen)


def test_statistics_are_means_since_they_were_taken() -> None:
    c, algo = collector(Ages(6), 2, 3, metrics=("age",)), Random(2)
    ages: list[np.ndarray] = []
    for _ in range(4):
        ages.append(copied(c.collect(algo, 5, np.zeros(2, np.int64)))["reward"])
    one = c.stats.take(np.array([True, False]))
    mean = np.concatenate(ages, 1).mean((1, 2))
    assert np.allclose(one["age"], mean)
    again = c.stats.take(np.array([False, False]))
    assert np.isnan(again["return"][0]) and again["return"][1] == one["return"][1]
    more = copied(c.collect(algo, 5, np.zeros(2, np.int64)))["reward"]
    assert np.isclose(c.stats.take(np.ones(2, bool))["age"][0], more[0].mean())


def test_step_counts_real_steps_of_each_replica() -> None:
    """What schedules see grows by the valid steps: all envs at first, then those still running."""
    c, algo = collector(Ages(6), 2, 3), Random(2, whole=True)
    r = copied(c.collect(algo, 1, np.array([100, 7], np.int64)))
    counted = np.concatenate([np.zeros((2, 1), int), r["valid"].sum(2).cumsum(1)], 1)[:, :-1]
    assert np.array_equal(np.stack(algo.steps_seen, 1), counted + np.array([[100], [7]]))


@pytest.mark.parametrize("mode", ["NEXT_STEP", "SAME_STEP", "DISABLED"])
def test_every_autoreset_mode_gives_the_same_transitions(mode: str) -> None:
    """Valid steps are exactly the env's real ones, with true successors; fillers are marked."""
    ProbeEnv.steps = 0
    env = build(probe("successor", autoreset=mode), 4)
    c, algo = collector(env, 2, 2), TwoActions(2)
    r = joined([copied(c.collect(algo, 5, np.zeros(2, np.int64))) for _ in range(8)])
    valid = r["valid"]
    assert valid.sum() == ProbeEnv.steps
    assert valid.all() == (mode != "NEXT_STEP")
    before, after = r["obs"][..., 0][valid], r["next_obs"][..., 0][valid]
    assert (after == np.minimum(before + 1, 1)).all()  # -1 -> 0 -> 1 -> 1
    assert (r["reward"][valid] == (before == 1)).all()
    assert r["truncated"][valid].all() and not r["terminated"].any() and r["first"][valid].all()
    assert set(before) == {-1.0, 0.0, 1.0}
    stats = c.stats.take(np.ones(2, bool))
    assert (stats["length"] == 1).all()
    mean = np.where(valid, r["reward"], 0).sum((1, 2)) / valid.sum((1, 2))
    assert np.allclose(stats["return"], mean)


@pytest.mark.parametrize("mode", ["NEXT_STEP", "SAME_STEP", "DISABLED"])
def test_whole_episodes_in_every_autoreset_mode(mode: str) -> None:
    c, algo = collector(build(probe("recall", autoreset=mode), 4), 2, 2), TwoActions(2, whole=True)
    for _ in range(3):
        r = copied(c.collect(algo, 1, np.zeros(2, np.int64)))
        assert r["valid"].shape[1] == 3 and r["valid"].all()
        assert r["first"][:, 0].all() and not r["first"][:, 1:].any() and r["terminated"][:, 2].all()


class TwoActions(Random):
    def act(self, obs: Any, memory: Any, first: Any, **more: Any) -> Act:
        act = super().act(obs, memory, first, **more)
        return Act(act.action % 2, act.memory, act.extras)


@pytest.mark.parametrize("whole", [False, True])
def test_state_round_trip(whole: bool) -> None:
    """A fresh collector goes on as the saved one does: obs, env, memory, draws and statistics."""
    one, other = (collector(Ages(6), 2, 3) for _ in range(2))
    algo = Random(2, whole)
    step = np.zeros(2, np.int64)
    for _ in range(3):
        one.collect(algo, 4, step)
    state = {name: leaf.clone() for name, leaf in one.state().items()}
    assert all(leaf.shape[0] == 2 for leaf in state.values())
    other.collect(algo, 4, step)
    other.load_state(state)
    for _ in range(3):
        a, b = copied(one.collect(algo, 4, step)), copied(other.collect(algo, 4, step))
        assert all(np.array_equal(a[name], b[name]) for name in a)
    a, b = one.stats.take(np.ones(2, bool)), other.stats.take(np.ones(2, bool))
    assert all(np.array_equal(a[name], b[name]) for name in a)


def test_an_env_that_cannot_be_saved_begins_new_episodes() -> None:
    one, other = (collector(build(probe("recall", autoreset="NEXT_STEP"), 4), 2, 2) for _ in range(2))
    algo = TwoActions(2)
    one.collect(algo, 5, np.zeros(2, np.int64))
    other.load_state({name: leaf.clone() for name, leaf in one.state().items()})
    r = copied(other.collect(algo, 3, np.zeros(2, np.int64)))
    assert r["first"][:, 0].all() and r["valid"].all() and r["terminated"][:, 2].all()


def test_an_observation_array_that_the_env_reuses() -> None:
    class Reusing(Ages):
        out: np.ndarray | None = None

        def _observe(self) -> np.ndarray:
            fresh = super()._observe()
            if self.out is None:
                self.out = fresh
            self.out[...] = fresh
            return self.out

    def shaping(reward: np.ndarray, obs: np.ndarray, action: np.ndarray, next_obs: np.ndarray) -> np.ndarray:
        return next_obs[..., 1] - obs[..., 1]

    c, algo = collector(Reusing(6), 2, 3, reward=shaping), Random(2)
    r = joined([copied(c.collect(algo, 5, np.zeros(2, np.int64))) for _ in range(4)])
    assert (r["reward"] == 1).all()
    assert (r["next_obs"][..., 1] == r["obs"][..., 1] + 1).all()
    assert (r["first"] == (r["obs"][..., 1] == 0)).all()


def test_types() -> None:
    c = collector(Ages(2), 1, 2, dtype="float64")
    r = c.collect(Random(1), 2, np.zeros(1, np.int64))
    assert r.obs.dtype == r.reward.dtype == torch.float64 and r.action.dtype == torch.int64
    assert collector(Ages(2), 1, 2).collect(Random(1), 2, np.zeros(1, np.int64)).obs.dtype == torch.float32
