"""Environments: equal to Gymnasium's step for step, pure functions of seed and actions, resumable."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from rlrun import envs
from rlrun.config import ConfigError
from rlrun.config.keys import violations
from rlrun.config.sources import installed
from rlrun.envs.vector.base import NativeVectorEnv, normals
from rlrun.envs.vector.gym import GymVectorEnv
from rlrun.rng import keys
from rlrun.spaces import Box, Discrete, MultiDiscrete

CONF = Path(__file__).parents[2] / "conf"
NATIVE = (
    "cartpole",
    "cartpole_masked",
    "pendulum",
    "pendulum_discrete",
    "pendulum_masked",
    "acrobot",
    "recall",
    "recall_continuous",
    "catch",
    "frozen_lake",
    "frozen_lake_8x8",
    "cliff_walking",
    "windy_gridworld",
    "dyna_maze",
    "shortcut_maze",
    "taxi",
    "bandit",
    "bandit_bernoulli",
    "bandit_drifting",
    "point",
    "point_discrete",
)


def config_of(name: str, *overrides: str) -> Any:
    """The env config that a YAML file and overrides describe."""
    with installed(), initialize_config_dir(str(CONF), version_base="1.3"):
        composed = compose(f"env/{name}", [f"env.{override}" for override in overrides])
    return OmegaConf.to_object(composed.env)


def make(name: str, num_envs: int, *overrides: str) -> Any:
    config = config_of(name, *overrides)
    assert violations(config) == []
    return envs.make(config, num_envs)


def seeds(count: int, first: int = 0) -> np.ndarray:
    return keys(range(first, first + count), "test")


def random_actions(env: Any, steps: int) -> np.ndarray:
    """Actions [steps, M, ...], the same at every call."""
    env.action_space.seed(7)
    return np.stack([env.action_space.sample() for _ in range(steps)])


def assert_equal_steps(one: Any, other: Any) -> None:
    for name, a, b in zip(("obs", "reward", "terminated", "truncated"), one, other, strict=False):
        np.testing.assert_array_equal(a, b, err_msg=name)


# Gymnasium's own environments are the reference.


@pytest.mark.parametrize("max_steps", [500, 15])
def test_cartpole_is_gymnasiums(max_steps: int) -> None:
    def act(obs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        balance = (obs[:, 2] + obs[:, 3] + 0.1 * obs[:, 1] > 0).astype(np.int64)
        return np.where(np.arange(len(obs)) % 2, rng.integers(0, 2, len(obs)), balance)

    native = make("cartpole", 4, f"max_steps={max_steps}")
    ends = follow(native, gymnasium_envs("CartPole-v1", 4, max_episode_steps=max_steps), act, 1200)
    assert ends["terminated"] > 10 and ends["truncated"] >= 2


def test_pendulum_is_gymnasiums() -> None:
    def act(obs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return rng.uniform(-3, 3, (len(obs), 1)).astype(np.float32) + np.sign(obs[:, 2:])

    ends = follow(make("pendulum", 4), gymnasium_envs("Pendulum-v1", 4), act, 1000)
    assert ends == {"terminated": 0, "truncated": 4 * 5}


def test_pendulum_with_torques_is_gymnasiums() -> None:
    native = make("pendulum_discrete", 3)
    torques = np.linspace(-2, 2, 11, dtype=np.float32)
    np.testing.assert_array_equal(native.torques, torques)

    class Wrapped(gymnasium.ActionWrapper):
        def action(self, action: Any) -> np.ndarray:
            return torques[[action]]

    references = [Wrapped(env) for env in gymnasium_envs("Pendulum-v1", 3)]
    ends = follow(native, references, lambda obs, rng: rng.integers(0, 11, len(obs)), 450)
    assert ends["truncated"] == 6


def test_acrobot_is_gymnasiums() -> None:
    def act(obs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        swing = np.where(obs[:, 5] > 0, 2, 0)  # with the second link's motion: that swings it up
        return np.where(rng.random(len(obs)) < 0.1, rng.integers(0, 3, len(obs)), swing)

    native = make("acrobot", 4, "max_steps=90")
    ends = follow(native, gymnasium_envs("Acrobot-v1", 4, max_episode_steps=90), act, 700)
    assert ends["terminated"] > 3 and ends["truncated"] > 3


@pytest.mark.parametrize("delay", [1, 20])
def test_recall_by_hand(delay: int) -> None:
    """The cue is seen once, the question `delay` steps later, and only that action counts."""
    env = make("recall", 64, f"delay={delay}")
    obs, _ = env.reset(seed=seeds(64))
    cue = obs[:, 0].copy()
    assert set(cue) == {-1.0, 1.0} and (obs[:, 1] == 0).all() and abs(cue.mean()) < 0.4
    for t in range(1, delay + 1):
        obs, reward, terminated, truncated, _ = env.step(np.full(64, t % 2))
        assert (obs == [0.0, t == delay]).all() and not reward.any() and not (terminated | truncated).any()
    _, reward, terminated, _, _ = env.step(np.ones(64, np.int64))
    assert terminated.all() and (reward == cue).all()
    env = make("recall_continuous", 2, f"delay={delay}")
    cue = env.reset(seed=seeds(2))[0][:, :1]
    answers = [0.0 * cue] * delay + [0.5 * cue]
    assert [env.step(answer)[1].tolist() for answer in answers] == [[0.0, 0.0]] * delay + [[0.5, 0.5]]


def test_catch_by_hand() -> None:
    env = make("catch", 32, "rows=4", "columns=3")
    obs, _ = env.reset(seed=seeds(32))
    assert obs.shape == (32, 4, 3, 1) and obs.dtype == np.uint8 and (obs[:, 3, :, 0] == [0, 255, 0]).all()
    ball = obs[:, 0, :, 0].argmax(1)
    assert set(ball.tolist()) == {0, 1, 2}
    for row in (1, 2):
        obs, reward, terminated, _, _ = env.step(np.where(ball == 2, 2, 1))
        assert (obs[:, row, :, 0].argmax(1) == ball).all() and not reward.any() and not terminated.any()
    obs, reward, terminated, _, _ = env.step(np.ones(32, np.int64))
    np.testing.assert_array_equal(reward, np.where(ball == 0, -1.0, 1.0))  # nobody went left
    assert terminated.all()


def gymnasium_envs(name: str, count: int, **kwargs: Any) -> list[gymnasium.Env]:
    return [gymnasium.make(name, **kwargs) for _ in range(count)]


def follow(
    native: Any,
    references: Sequence[gymnasium.Env],
    act: Callable[[np.ndarray, np.random.Generator], np.ndarray],
    steps: int,
) -> dict[str, int]:
    """Step both from the same states with the same actions; how many episodes ended how."""
    rng = np.random.default_rng(0)
    ends = {"terminated": 0, "truncated": 0}
    mask, episode = np.ones(len(references), bool), 0
    obs: np.ndarray = np.zeros(0)
    for _ in range(steps):
        if mask.any():
            episode += 1
            obs, _ = native.reset(seed=seeds(len(references), 100 * episode), options={"reset_mask": mask})
            for began in np.flatnonzero(mask).tolist():
                references[began].reset(seed=0)
                references[began].unwrapped.state = native.state()["physics"][began]  # type: ignore[attr-defined]
        actions = act(obs, rng)
        obs, reward, terminated, truncated, _ = native.step(actions)
        for i, reference in enumerate(references):
            expected = reference.step(actions[i])
            np.testing.assert_allclose(obs[i], expected[0], rtol=0, atol=1e-6)
            # Gymnasium squares a float32 torque by libm's pow, which is an ulp off now and then
            assert abs(reward[i] - float(expected[1])) < 5e-10
            assert (terminated[i], truncated[i]) == expected[2:4]
        assert obs.dtype == np.float32
        ends["terminated"] += int(terminated.sum())
        ends["truncated"] += int(truncated.sum())
        mask = terminated | truncated
    return ends


TABLES = [
    ("frozen_lake", [], "FrozenLake-v1", {}),
    ("frozen_lake", ["slippery=false"], "FrozenLake-v1", {"is_slippery": False}),
    ("frozen_lake", ["success_rate=0.8"], "FrozenLake-v1", {"success_rate": 0.8}),
    ("frozen_lake_8x8", [], "FrozenLake8x8-v1", {}),
    ("frozen_lake", ["map=SHFS/FFFG"], "FrozenLake-v1", {"desc": ["SHFS", "FFFG"]}),
    ("cliff_walking", [], "CliffWalking-v1", {}),
    ("cliff_walking", ["slippery=true"], "CliffWalkingSlippery-v1", {}),
    ("taxi", [], "Taxi-v4", {}),
]


@pytest.mark.parametrize(("name", "overrides", "reference", "kwargs"), TABLES)
def test_table_is_gymnasiums(name: str, overrides: list[str], reference: str, kwargs: dict[str, Any]) -> None:
    env, expected = make(name, 1, *overrides), gymnasium.make(reference, **kwargs).unwrapped
    dynamics = expected.P  # type: ignore[attr-defined]
    states, actions = len(dynamics), len(dynamics[0])
    probability, reward = np.zeros((states, actions, states)), np.zeros((states, actions))
    terminal = np.zeros(states, bool)
    for s in range(states):
        for a in range(actions):
            for p, successor, r, terminated in dynamics[s][a]:
                probability[s, a, successor] += p
                reward[s, a] += p * r
                terminal[successor] |= terminated
    table = env.abilities.table
    np.testing.assert_array_equal(table.terminal, terminal)
    np.testing.assert_allclose(table.probability[~terminal], probability[~terminal], atol=1e-15)
    np.testing.assert_allclose(table.reward[~terminal], reward[~terminal], atol=1e-12)
    np.testing.assert_allclose(table.probability.sum(-1), 1.0, atol=1e-12)
    ends = np.flatnonzero(terminal)  # absorbing, for nothing
    assert (table.probability[ends, :, ends] == 1).all() and (table.reward[ends] == 0).all()
    assert table.shape is None or table.shape[0] * table.shape[1] == states
    starts = np.zeros(states)
    starts[env.outcomes.starts] = 1 / len(env.outcomes.starts)
    np.testing.assert_array_equal(starts, expected.initial_state_distrib)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("name", "overrides"), [(name, overrides) for name, overrides, _, _ in TABLES])
def test_table_steps_follow_the_table(name: str, overrides: list[str]) -> None:
    """Sampled transitions have the table's probabilities, rewards and ends, from every state."""
    repeats = 400
    env = make(name, 1, *overrides)
    table = env.abilities.table
    states, actions, _ = table.probability.shape
    pairs = states * actions
    env = make(name, pairs * repeats, *overrides)
    env.reset(seed=seeds(pairs * repeats))
    at = np.repeat(np.arange(states), actions * repeats)
    action = np.tile(np.repeat(np.arange(actions), repeats), states)
    env.load_state(env.state() | {"state": at})
    obs, reward, terminated, truncated, _ = env.step(action)
    assert obs.dtype == np.int64 and not truncated.any()
    np.testing.assert_array_equal(terminated, table.terminal[obs])
    frequency = np.zeros_like(table.probability)
    np.add.at(frequency, (at, action, obs), 1 / repeats)
    assert frequency[table.probability == 0].max() == 0
    spread = np.sqrt(table.probability * (1 - table.probability) / repeats)
    assert (np.abs(frequency - table.probability) <= 5 * spread + 1e-9).all()
    mean = np.zeros_like(table.reward)
    np.add.at(mean, (at, action), reward / repeats)
    np.testing.assert_allclose(mean, table.reward, atol=5 * 99 / np.sqrt(4 * repeats))
    if (spread == 0).all():
        np.testing.assert_allclose(mean, table.reward, atol=1e-9)


def test_fall_terminates_if_asked() -> None:
    restart, terminate = make("cliff_walking", 1), make("cliff_walking", 1, "fall=terminate")
    right = np.array([1])
    for env, place, ended in ((restart, 36, False), (terminate, 37, True)):
        assert env.reset(seed=seeds(1))[0][0] == 36
        obs, reward, terminated, _, _ = env.step(right)
        assert (obs[0], reward[0], terminated[0]) == (place, -100.0, ended)
    assert (
        terminate.abilities.table.terminal[37:48].all() and not terminate.abilities.table.terminal[:37].any()
    )
    assert (
        terminate.abilities.table.reward[36, 1] == -100
        and terminate.abilities.table.probability[36, 1, 37] == 1
    )


def test_starts_are_equally_likely() -> None:
    env = make("frozen_lake", 4000, "map=SSFS/FFFG")
    counts = np.bincount(env.reset(seed=seeds(4000))[0], minlength=8)
    assert counts[[2, 4, 5, 6, 7]].sum() == 0
    assert (np.abs(counts[[0, 1, 3]] / 4000 - 1 / 3) < 0.04).all()


def test_taxi_steps_are_gymnasiums() -> None:
    native = make("taxi", 3)
    references = gymnasium_envs("Taxi-v4", 3)
    rng, mask, ends = np.random.default_rng(0), np.ones(3, bool), 0
    optimal = gymnasium.make("Taxi-v4").unwrapped.P  # type: ignore[attr-defined]
    for episode in range(450):
        if mask.any():
            obs, _ = native.reset(seed=seeds(3, 3 * episode), options={"reset_mask": mask})
            for i in np.flatnonzero(mask):
                references[i].reset(seed=0)
                references[i].unwrapped.s = int(obs[i])  # type: ignore[attr-defined]
        actions = rng.integers(6, size=3)
        for i in range(3):  # take what pays, or nobody would ever arrive
            actions[i] = max(range(6), key=lambda a: (optimal[int(obs[i])][a][0][2] > 0, a == actions[i]))
        obs, reward, terminated, truncated, _ = native.step(actions)
        for i, reference in enumerate(references):
            expected = reference.step(actions[i])
            assert (obs[i], reward[i], terminated[i], truncated[i]) == expected[:4]
        mask = terminated | truncated
        ends += int(mask.sum())
    assert ends > 5


def test_the_taxi_has_404_reachable_states() -> None:
    table = make("taxi", 1).abilities.table
    assert table.reachable.sum() == 404 and (table.terminal & table.reachable).sum() == 4


def test_a_cliff_walk_may_begin_anywhere_in_the_first_column() -> None:
    env = make("cliff_walking", 4000, "start=first_column")
    counts = np.bincount(env.reset(seed=seeds(4000))[0], minlength=48)
    assert counts.sum() == counts[[0, 12, 24, 36]].sum()
    assert (np.abs(counts[[0, 12, 24, 36]] / 4000 - 1 / 4) < 0.04).all()
    env.load_state(env.state() | {"state": np.full(4000, 36)})
    assert (env.step(np.ones(4000, np.int64))[0] == 36).all()  # a fall leads to the corner


def test_a_map_may_be_a_list_of_rows() -> None:
    one, other = (
        make("frozen_lake", 1, f"map={rows}").abilities.table for rows in ("[SFF,FHF,FFG]", "SFF/FHF/FFG")
    )
    np.testing.assert_array_equal(one.probability, other.probability)
    assert one.shape == (3, 3) and one.terminal.nonzero()[0].tolist() == [4, 8]


def walk(env: Any, moves: str) -> list[tuple[int, float, bool]]:
    """Where some moves (of u, r, d, l) lead the only sub-env, what they pay, and whether they end it."""
    steps = [env.step(np.array(["urdl".index(move)])) for move in moves]
    return [(int(obs[0]), float(reward[0]), bool(end[0])) for obs, reward, end, _, _ in steps]


def test_the_dyna_maze_has_walls_and_one_reward() -> None:
    env = make("dyna_maze", 1)
    assert env.reset(seed=seeds(1))[0][0] == 18  # row 2 of 9 columns
    assert walk(env, "lrru") == [(18, 0, False), (19, 0, False), (19, 0, False), (10, 0, False)]
    env.reset(seed=seeds(1))
    way = walk(env, "ddd" + "r" * 8 + "uuuuu")
    assert way[-1] == (8, 1.0, True) and all((r, end) == (0.0, False) for _, r, end in way[:-1])
    walls = ~env.abilities.table.reachable
    assert walls.nonzero()[0].tolist() == [7, 11, 16, 20, 25, 29, 41]


def test_walls_change_while_an_episode_lasts_and_its_goal_leads_back() -> None:
    env = make("shortcut_maze", 1, "change_after=20", "max_steps=60")
    start = 48
    assert env.abilities.table is None
    assert env.reset(seed=seeds(1))[0][0] == start
    right = "rrrrruuu"  # blocked before the 21st step
    assert walk(env, right)[-1] == (44, 0.0, False)
    left = walk(env, "d" + "l" * 8 + "uu")[-1]
    assert left == (27, 0.0, False)  # step 19: through the way on the left
    env.reset(seed=seeds(1))
    walk(env, "l" * 20)
    opened = walk(env, "r" * 8 + "uuuuu")
    assert opened[-1] == (start, 1.0, False)
    env.reset(seed=seeds(1))
    assert walk(env, right)[-1] == (44, 0.0, False)  # another episode, the old walls


def test_nobody_is_caught_where_a_wall_comes_up() -> None:
    env = make("blocking_maze", 1, "change_after=8")
    env.reset(seed=seeds(1))
    assert walk(env, "rrrrruul")[-2][0] == 35  # in the gap, which closes after the next step
    env.load_state(env.state() | {"state": np.array([35])})
    assert walk(env, "u")[0][0] == 26


def test_the_wind_blows_upwards() -> None:
    env = make("windy_gridworld", 1)
    assert env.reset(seed=seeds(1))[0][0] == 30
    rows = [obs // 10 for obs, _, _ in walk(env, "rrrrrrrrr")]
    assert rows == [3, 3, 3, 2, 1, 0, 0, 0, 0]  # wind of the column that one leaves
    env.reset(seed=seeds(1))
    way = walk(env, "r" * 9 + "dddd" + "ll")  # the known shortest way
    assert way[-1] == (37, -1.0, True) and len(way) == 15


# Episodes are pure functions of seed and actions.


@pytest.mark.parametrize("name", NATIVE)
def test_one_env_is_the_same_among_eight(name: str) -> None:
    together, alone = make(name, 8), make(name, 1)
    actions, seed = random_actions(together, 60), seeds(8)
    first, _ = together.reset(seed=seed)
    steps = [together.step(action) for action in actions]
    for i in range(8):
        np.testing.assert_array_equal(alone.reset(seed=seed[i : i + 1])[0][0], first[i])
        for t in range(60):
            assert_equal_steps(
                [x[0] for x in alone.step(actions[t, i : i + 1])[:4]], [x[i] for x in steps[t][:4]]
            )
    assert len(np.unique(together.state()["seed"])) == 8
    if name.startswith(("cartpole", "pendulum")):
        assert len(np.unique(first, axis=0)) == 8


@pytest.mark.parametrize("name", NATIVE)
def test_an_episode_depends_on_nothing_before_it(name: str) -> None:
    env = make(name, 3)
    actions = random_actions(env, 30)

    def episode() -> list[Any]:
        return [env.reset(seed=seeds(3))[0], *(env.step(action)[:4] for action in actions)]

    before = episode()
    env.reset(seed=seeds(3, 50))
    for action in actions[::-1]:
        env.step(action)
    for one, other in zip(before, episode(), strict=True):
        assert_equal_steps(one, other)


@pytest.mark.parametrize("name", [*NATIVE, "gym"])
def test_reset_mask_leaves_the_others_alone(name: str) -> None:
    extra = ["id=Pendulum-v1"] if name == "gym" else []
    env, twin = make(name, 4, *extra), make(name, 4, *extra)
    actions = random_actions(env, 20)
    mask = np.array([False, True, False, True])
    for each in (env, twin):
        each.reset(seed=seeds(4))
        for action in actions[:10]:
            obs = each.step(action)[0]
    after, _ = env.reset(seed=seeds(4, 30), options={"reset_mask": mask})
    np.testing.assert_array_equal(after[~mask], obs[~mask])
    np.testing.assert_array_equal(
        after[mask], twin.reset(seed=seeds(4, 30), options={"reset_mask": mask})[0][mask]
    )
    fresh = make(name, 4, *extra)
    np.testing.assert_array_equal(after[mask], fresh.reset(seed=seeds(4, 30))[0][mask])
    uninterrupted = make(name, 4, *extra)
    uninterrupted.reset(seed=seeds(4))
    for action in actions[:10]:
        uninterrupted.step(action)
    for action in actions[10:]:
        one, other, new = env.step(action), uninterrupted.step(action), fresh.step(action)
        assert_equal_steps([x[~mask] for x in one[:4]], [x[~mask] for x in other[:4]])
        assert_equal_steps([x[mask] for x in one[:4]], [x[mask] for x in new[:4]])


@pytest.mark.parametrize("name", NATIVE)
def test_time_limit_counts_each_env_for_itself(name: str) -> None:
    env = make(name, 2, "max_steps=5")
    action = random_actions(env, 1)[0]
    env.reset(seed=seeds(2))
    ends = []
    for t in range(8):
        ends.append(env.step(action)[3].tolist())
        if t == 1:
            env.reset(seed=seeds(2, 9), options={"reset_mask": np.array([False, True])})
    assert [end[0] for end in ends[:5]] == [False] * 4 + [True]
    assert [end[1] for end in ends[:7]] == [False] * 6 + [True]


def test_observations_are_not_reused() -> None:
    for name in NATIVE:
        env = make(name, 2)
        first, _ = env.reset(seed=seeds(2))
        kept = first.copy()
        for action in random_actions(env, 3):
            assert not np.shares_memory(env.step(action)[0], first)
        np.testing.assert_array_equal(first, kept)


def test_seed_none_and_int() -> None:
    env = make("cartpole", 3)
    first = env.reset(seed=3)[0]
    second, third = env.reset()[0], env.reset()[0]
    assert len(np.unique(np.concatenate([first, second, third]), axis=0)) == 9
    np.testing.assert_array_equal(env.reset(seed=3)[0], first)
    with pytest.raises(ValueError, match="one per sub-env"):
        env.reset(seed=seeds(2))
    with pytest.raises(ValueError, match="reset_mask"):
        env.reset(options={"reset_mask": np.array([1, 0, 1])})
    with pytest.raises(ValueError, match="no reset option low"):
        env.reset(options={"low": 0.1})


# Distributions.


@pytest.mark.parametrize(
    ("name", "bounds"), [("cartpole", [0.05] * 4), ("pendulum", [np.pi, 1.0]), ("acrobot", [0.1] * 4)]
)
def test_episodes_begin_uniformly(name: str, bounds: list[float]) -> None:
    env = make(name, 4000)
    env.reset(seed=seeds(4000))
    scaled = env.state()["physics"] / bounds  # uniform on +-1: variance 1/3, fourth moment 1/5
    assert np.abs(scaled).max() < 1 and np.abs(scaled).max() > 0.99
    assert np.abs(scaled.mean(0)).max() < 5 * np.sqrt(1 / 3 / 4000)
    assert np.abs((scaled**2).mean(0) - 1 / 3).max() < 5 * np.sqrt((1 / 5 - 1 / 9) / 4000)
    correlation = np.corrcoef(scaled.T) - np.eye(len(bounds))
    assert np.abs(correlation).max() < 5 / np.sqrt(4000)


def test_normals() -> None:
    draws = normals(seeds(50)[:, None], np.arange(400))
    assert abs(draws.mean()) < 0.03 and abs(draws.std() - 1) < 0.03
    assert abs((draws**4).mean() - 3) < 0.3
    assert abs(np.corrcoef(draws[:, :-1].ravel(), draws[:, 1:].ravel())[0, 1]) < 0.03


def test_bandit_is_the_testbed() -> None:
    env = make("bandit", 2000)
    obs, _ = env.reset(seed=seeds(2000))
    means = env.state()["means"]
    assert means.shape == (2000, 10) and obs.shape == (2000,) and not obs.any()
    assert abs(means.mean()) < 0.03 and abs(means.std() - 1) < 0.03
    arms = np.arange(2000) % 10
    noise = []
    for _ in range(20):
        _, reward, terminated, truncated, info = env.step(arms)
        noise.append(reward - means[np.arange(2000), arms])
        assert not terminated.any() and not truncated.any()
        np.testing.assert_array_equal(info["optimal"], means.argmax(1) == arms)
        np.testing.assert_allclose(info["regret"], means.max(1) - means[np.arange(2000), arms])
    assert env.abilities.metrics == ("reward", "regret", "optimal") and env.abilities.sums == ("regret",)
    assert abs(np.mean(noise)) < 0.03 and abs(np.std(noise) - 1) < 0.02
    assert abs(np.corrcoef(noise[0], noise[1])[0, 1]) < 0.1  # anew at every step
    _, _, _, _, best = env.step(means.argmax(1))
    assert best["optimal"].all() and not best["regret"].any()


def test_bandit_options() -> None:
    env = make("bandit", 3, "arms=4", "mean=5", "spread=0", "noise=0")
    env.reset(seed=seeds(3))
    _, reward, _, _, info = env.step(np.array([0, 1, 3]))
    assert reward.tolist() == [5, 5, 5] and info["optimal"].tolist() == [1, 1, 1]  # all tie


def test_point_by_hand() -> None:
    """A tenth of the velocity a step, inside the square; the reward is minus the distance then left."""
    env, choosing = make("point", 2, "goal=[1,0]"), make("point_discrete", 5, "goal=[1,0]")
    for each in (env, choosing):
        each.reset(seed=0)
        state = each.state()
        state["place"][:] = [0.95, 0.5]
        each.load_state(state)
    obs, reward, *_ = env.step(np.array([[0.3, -1.0], [9.0, -9.0]], np.float32))
    np.testing.assert_allclose(obs, [[0.98, 0.4], [1.0, 0.4]], atol=1e-6)
    np.testing.assert_allclose(reward, [-np.hypot(0.02, 0.4), -0.4], atol=1e-6)
    obs, *_ = choosing.step(np.arange(5))  # stay, east, north, west, south
    np.testing.assert_allclose(obs, [[0.95, 0.5], [1, 0.5], [0.95, 0.6], [0.85, 0.5], [0.95, 0.4]], atol=1e-6)


# Exact resume.


@pytest.mark.parametrize("name", NATIVE)
def test_state_goes_on_identically(name: str) -> None:
    env = make(name, 3)
    actions = random_actions(env, 40)
    env.reset(seed=seeds(3))
    for t, action in enumerate(actions[:20]):
        env.step(action)
        if t == 12:
            env.reset(seed=seeds(3, 40), options={"reset_mask": np.array([True, False, False])})
    state = {name: value.copy() for name, value in env.state().items()}
    assert all(value.shape[0] == 3 for value in state.values())
    rest = [env.step(action) for action in actions[20:]]
    other = make(name, 3)
    other.load_state(state)
    for action, expected in zip(actions[20:], rest, strict=True):
        step = other.step(action)
        assert_equal_steps(step, expected)
        for metric in env.abilities.metrics:
            np.testing.assert_array_equal(step[4][metric], expected[4][metric])
    for key, value in env.state().items():
        np.testing.assert_array_equal(other.state()[key], value)


def test_foreign_state_is_refused() -> None:
    state = make("cartpole", 2).state()
    with pytest.raises(ValueError, match="another env"):
        make("pendulum", 2).load_state(state)
    with pytest.raises(ValueError, match=r"seed is \(2,\)"):
        make("cartpole", 3).load_state(state)
    with pytest.raises(ValueError, match="another env"):
        make("gym", 2, "id=CartPole-v1").load_state(state)


# Variants.


@pytest.mark.parametrize(("name", "visible"), [("cartpole", [0, 2]), ("pendulum", [0, 1])])
def test_masked_variants_hide_velocities(name: str, visible: list[int]) -> None:
    full, masked = make(name, 5), make(f"{name}_masked", 5)
    assert masked.single_observation_space.shape == (2,)
    seen, hidden = full.reset(seed=seeds(5))[0], masked.reset(seed=seeds(5))[0]
    for action in random_actions(full, 20):
        np.testing.assert_array_equal(hidden, seen[:, visible])
        assert hidden.flags.c_contiguous
        (seen, *one), (hidden, *other) = full.step(action)[:4], masked.step(action)[:4]
        assert_equal_steps(one, other)


def test_shaping_by_hand() -> None:
    for masked in (False, True):
        config = config_of("cartpole_shaped", f"velocities={str(not masked).lower()}")
        reward = envs.reward_function(config, envs.make(config, 1))
        assert reward is not None
        theta = np.deg2rad(6.0)
        next_obs = np.array([[0.0, 9.0, 0.0, 9.0], [1.2, 9.0, -theta, 9.0], [-2.4, 9.0, 2 * theta, 9.0]])
        if masked:
            next_obs = next_obs[:, ::2]
        obs, own = np.full_like(next_obs, 7.0), np.ones(3)
        # middle: (1 - .8) + (1 - .5); halfway on both: (.5 - .8) + (.5 - .5); at both limits
        np.testing.assert_allclose(reward(own, obs, np.zeros(3), next_obs), [0.7, -0.3, -1.3])
        replicas = reward(own[None], obs[None], np.zeros((1, 3)), next_obs[None])
        np.testing.assert_allclose(replicas, [[0.7, -0.3, -1.3]])
    # the environment's own reward, which scores are made of, is untouched
    env = make("cartpole_shaped", 2)
    env.reset(seed=seeds(2))
    assert env.step(np.array([0, 1]))[1].tolist() == [1.0, 1.0]


def test_reward_scale_and_shift() -> None:
    config = config_of("pendulum")
    env = envs.make(config, 1)
    assert envs.reward_function(config, env) is None
    config = config_of("pendulum", "reward.scale=0.5", "reward.shift=2")
    reward = envs.reward_function(config, env)
    assert reward is not None
    obs = np.zeros((2, 3))
    np.testing.assert_allclose(reward(np.array([-4.0, 0.0]), obs, obs, obs), [0.0, 2.0])
    config = config_of("cartpole_shaped", "reward.scale=10", "reward.shift=-1")
    reward = envs.reward_function(config, envs.make(config, 1))
    assert reward is not None
    np.testing.assert_allclose(reward(np.ones(1), obs[:1], obs, np.zeros((1, 4))), [6.0])


def test_every_declared_shaping_exists() -> None:
    for name in (*NATIVE, "cartpole_shaped"):
        config = config_of(name)
        env: Any = envs.make(config, 1)
        assert set(config.shapings) == set(env.abilities.shapings)


# Any Gymnasium environment.


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "Taxi-v4", "FrozenLake-v1", "Blackjack-v1"])
def test_gym_adapter_is_gymnasium(env_id: str) -> None:
    env = make("gym", 3, f"id={env_id}", "max_steps=30")
    assert env.metadata["autoreset_mode"] is gymnasium.vector.AutoresetMode.DISABLED
    references = gymnasium_envs(env_id, 3, max_episode_steps=30)
    if env_id == "Blackjack-v1":  # a Tuple of integers
        references = [gymnasium.wrappers.FlattenObservation(each) for each in references]
    seed = seeds(3)
    obs, _ = env.reset(seed=seed)
    for i, reference in enumerate(references):
        np.testing.assert_array_equal(reference.reset(seed=int(seed[i]) >> 33)[0], obs[i])
    actions, over = random_actions(env, 35), np.zeros(3, bool)
    for action in actions:
        obs, reward, terminated, truncated, _ = env.step(action)
        for i, reference in enumerate(references):
            if over[i]:  # it stays as it ended
                assert reward[i] == 0 and (terminated[i] or truncated[i])
            else:
                expected = reference.step(action[i])
                np.testing.assert_array_equal(obs[i], expected[0])
                assert (reward[i], terminated[i], truncated[i]) == expected[1:4]
        over = over | terminated | truncated
    assert over.all()


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "Taxi-v4", "Acrobot-v1"])
def test_gym_adapter_resumes_exactly(env_id: str) -> None:
    env = make("gym", 3, f"id={env_id}", "max_steps=90")
    actions = random_actions(env, 130)
    env.reset(seed=seeds(3))
    episode = 0

    def run(env: Any, actions: np.ndarray, episode: int) -> tuple[list[Any], int]:
        steps = []
        for action in actions:
            steps.append(env.step(action))
            done = steps[-1][2] | steps[-1][3]
            if done.any():
                episode += 1
                env.reset(seed=seeds(3, 10 * episode), options={"reset_mask": done})
        return steps, episode

    for stop in (0, 7, 70):  # at the start, in the first block of actions, after it has grown
        env.reset(seed=seeds(3))
        _, episode = run(env, actions[:stop], 0)
        state = {key: value.copy() for key, value in env.state().items()}
        assert all(value.shape[0] == 3 for value in state.values())
        other = make("gym", 3, f"id={env_id}", "max_steps=90")
        other.load_state(state)
        for key, value in state.items():
            np.testing.assert_array_equal(other.state()[key], value)
        expected, _ = run(env, actions[stop:], episode)
        for one, two in zip(run(other, actions[stop:], episode)[0], expected, strict=True):
            assert_equal_steps(one, two)


@pytest.mark.parametrize("name", [*NATIVE, "gym"])
def test_state_holds_nothing_of_earlier_episodes(name: str) -> None:
    """Equal futures have equal states, so that a checkpoint is a function of them."""
    extra = ["id=Pendulum-v1"] if name == "gym" else []
    env, fresh = make(name, 2, *extra), make(name, 2, *extra)
    actions = random_actions(env, 12)
    env.reset(seed=seeds(2))
    for action in actions:
        env.step(action)
    for steps in (0, 4):
        for each in (env, fresh):
            each.reset(seed=seeds(2, 5))
            for action in actions[:steps]:
                each.step(action)
        for key, value in fresh.state().items():
            np.testing.assert_array_equal(env.state()[key], value)


def test_gym_state_pads_with_zeros() -> None:
    env = make("gym", 2, "id=Pendulum-v1")
    env.reset(seed=seeds(2))
    for t, action in enumerate(random_actions(env, 12)):
        if t == 8:
            env.reset(seed=seeds(2, 5), options={"reset_mask": np.array([True, False])})
        env.step(action)
    actions = env.state()["actions"]
    assert actions.shape == (2, 12, 1) and actions[0, :4].all() and actions[1].all()
    assert not actions[0, 4:].any()


def test_actions_are_recorded_by_value() -> None:
    env, other = make("gym", 1, "id=Pendulum-v1"), make("gym", 1, "id=Pendulum-v1")
    env.reset(seed=seeds(1))
    action = np.array([[1.5]], np.float32)
    obs = env.step(action)[0]
    action[:] = -1.5
    other.load_state(env.state())
    np.testing.assert_array_equal(env.state()["actions"], [[[1.5]]])
    np.testing.assert_array_equal(other.reset(options={"reset_mask": np.zeros(1, bool)})[0], obs)


class Forgetful(gymnasium.Env):
    """Its episodes depend on how many there were before: no state can be made from a seed."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space = gymnasium.spaces.Discrete(2)
    count = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.count += 1
        return np.array([float(self.count)]), {}

    def step(self, action: Any) -> Any:
        return np.array([float(action)]), 0.0, False, False, {"count": self.count}


class Nested(Forgetful):
    observation_space = gymnasium.spaces.Dict(  # type: ignore[assignment]
        a=gymnasium.spaces.Discrete(2),
        b=gymnasium.spaces.Tuple([gymnasium.spaces.Box(0, 9, (2,)), gymnasium.spaces.Discrete(3)]),
    )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        return {"a": 1, "b": (np.array([5.0, 6.0], np.float32), 2)}, {}


class Wordy(Forgetful):
    observation_space = gymnasium.spaces.Text(3)  # type: ignore[assignment]


class Broken(Forgetful):
    def step(self, action: Any) -> Any:
        raise RuntimeError("the motor is stuck")


@pytest.fixture
def ids() -> Any:
    for cls in (Forgetful, Nested, Wordy, Broken):
        gymnasium.register(f"test/{cls.__name__}-v0", cls)  # type: ignore[arg-type]
    yield
    for cls in (Forgetful, Nested, Wordy, Broken):
        del gymnasium.registry[f"test/{cls.__name__}-v0"]


def test_self_test_tells_exact_from_inexact(ids: None) -> None:
    assert make("gym", 1, "id=CartPole-v1").self_test() is None
    assert make("gym", 1, "id=Pendulum-v1").self_test() is None
    problem = make("gym", 1, "id=test/Forgetful-v0").self_test()
    assert problem == "test/Forgetful-v0: obs differs at step 0 of the same episode played twice"


def test_errors_of_an_env_say_where(ids: None) -> None:
    env = make("gym", 2, "id=test/Broken-v0")
    env.reset(seed=seeds(2))
    with pytest.raises(RuntimeError, match="the motor is stuck") as caught:
        env.step(np.array([0, 0]))
    assert caught.value.__notes__ == [
        f"in test/Broken-v0, sub-env 0, episode of seed {int(seeds(1)[0]) >> 33}, step 1"
    ]


def test_info_reaches_the_caller(ids: None) -> None:
    env = make("gym", 2, "id=test/Forgetful-v0")
    env.reset(seed=seeds(2))
    assert env.step(np.array([0, 1]))[4]["count"].tolist() == [1, 1]


def test_gym_wrappers_and_kwargs() -> None:
    env = make("gym", 2, "id=FrozenLake-v1", "kwargs={is_slippery: false, map_name: 8x8}")
    assert env.single_observation_space.n == 64
    env.reset(seed=seeds(2))
    assert env.step(np.array([2, 1]))[0].tolist() == [1, 8]
    env = make(
        "gym", 2, "id=Pendulum-v1", "wrappers=[{FrameStackObservation: {stack_size: 3}}, FlattenObservation]"
    )
    obs, _ = env.reset(seed=seeds(2))
    assert obs.shape == (2, 9) and env.self_test() is None
    np.testing.assert_array_equal(obs[:, :3], obs[:, 6:])
    stacked = env.step(np.zeros((2, 1)))[0]
    np.testing.assert_array_equal(stacked[:, :6], obs[:, 3:])


REFUSED = [
    ("gym", ["id=CartPol-v1"], "did you mean CartPole-v1"),
    ("gym", ["id=pendulum-v1"], "did you mean Pendulum-v1"),
    ("gym", ["id=antigravity:CartPole-v1"], "would import antigravity"),
    ("gym", ["id=CartPole-v1", "wrappers=[FlatenObservation]"], "did you mean FlattenObservation"),
    ("gym", ["id=CartPole-v1", "wrappers=[NormalizeReward]"], "wrappers has NormalizeReward"),
    ("gym", ["id=CartPole-v1", "wrappers=[{ClipAction: 3}]"], "arguments"),
    ("gym", ["id=CartPole-v1", "kwargs={render_mode: human}"], "kwargs has render_mode"),
    ("gym", ["id=CartPole-v1", "kwargs=[render_mode]"], "kwargs is ['render_mode']"),
    ("cartpole", ["reward.shaping=centring"], "reward.shaping is centring: it may be centering"),
    ("pendulum", ["reward.shaping=centering"], "this env has none"),
    ("cartpole", ["max_steps=0"], "max_steps is 0"),
    ("pendulum", ["n_torques=1"], "n_torques is 1"),
    ("frozen_lake", ["map=SFX/FFG"], "'X' is no tile"),
    ("frozen_lake", ["map=[SFX,FFG]"], "'X' is no tile"),
    ("frozen_lake", ["map=[[S,G]]"], "its rows are no texts"),
    ("frozen_lake", ["map=4"], "its rows are no texts"),
    ("frozen_lake", ["map=SFF/FG"], "rows differ in length"),
    ("frozen_lake", ["map=FFF/FFG"], "it has no S"),
    ("frozen_lake", ["map=SFF/FFF"], "it has no G"),
    ("frozen_lake", ["map=5x5"], "it must be 4x4, 8x8"),
    ("frozen_lake", ["success_rate=1.5"], "at most 1"),
    ("cliff_walking", ["fall=die"], "one of restart, terminate"),
    ("cliff_walking", ["start=top"], "one of corner, first_column"),
    ("dyna_maze", ["map=[S.,.g]"], "'g' is no tile"),
    ("dyna_maze", ["map=[SG,.]"], "rows differ in length"),
    ("dyna_maze", ["map=[S.,..]"], "it has no G"),
    ("dyna_maze", ["change_after=9"], "later and change_after go together"),
    ("dyna_maze", ["map=[SS,.G]", "continuing=true"], "a continuing maze has one S"),
    ("shortcut_maze", ["later=[S..,..G]"], "the size of map"),
    ("shortcut_maze", ["change_after=null"], "later and change_after go together"),
    ("windy_gridworld", ["wind=[0,0,1]"], "fewer than 8 columns"),
    ("bandit", ["arms=0"], "arms is 0"),
]


@pytest.mark.parametrize(("name", "overrides", "message"), REFUSED)
def test_bad_values_are_refused(name: str, overrides: list[str], message: str) -> None:
    found = violations(config_of(name, *overrides))
    assert len(found) == 1 and message in found[0]
    assert "antigravity" not in sys.modules


def test_envs_that_cannot_be_made_are_refused(ids: None) -> None:
    config = config_of("gym", "id=CartPol-v1")
    with pytest.raises(ValueError, match="did you mean"):
        envs.make(config, 1)
    config = config_of("gym", "id=CartPole-v1", "kwargs={colour: red}")
    with pytest.raises(ValueError, match=r"CartPole-v1 cannot be made.*colour"):
        envs.make(config, 1)
    config = config_of("gym", "id=no_such_module_here:X-v0", "allow_import=true")
    with pytest.raises(ValueError, match=r"cannot be made.*no_such_module_here"):
        envs.make(config, 1)
    with pytest.raises(ValueError, match=r"Text.* is not made of arrays or integers"):
        envs.make(config_of("gym", "id=test/Wordy-v0"), 1)


def test_a_missing_package_is_named_with_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("gymnasium.envs.box2d")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "Box2D", None)  # an import of it fails
    with pytest.raises(ConfigError, match=r"Box2D is not installed(.|\n)*rlrun\[box2d\]"):
        envs.make(config_of("lunar_lander"), 1)


def test_dict_and_tuple_observations_are_flattened(ids: None) -> None:
    env = make("gym", 2, "id=test/Nested-v0")
    obs, _ = env.reset(seed=seeds(2))
    assert obs.tolist() == [[0.0, 1.0, 5.0, 6.0, 0.0, 0.0, 1.0]] * 2  # a: one of 2; b: two numbers, one of 3
    assert envs.spaces(env)[0].shape == (7,)


def test_import_is_allowed_only_by_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_envs.py").write_text(
        "import gymnasium\n"
        "from gymnasium.envs.classic_control.cartpole import CartPoleEnv\n"
        "gymnasium.register('Theirs-v0', CartPoleEnv, max_episode_steps=9)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert violations(config_of("gym", "id=their_envs:Theirs-v0")) != []
    assert "their_envs" not in sys.modules
    env = make("gym", 1, "id=their_envs:Theirs-v0", "allow_import=true")
    assert env.spec.max_episode_steps == 9
    del gymnasium.registry["Theirs-v0"], sys.modules["their_envs"]


# Spaces.


class WithSpaces:
    def __init__(self, obs: gymnasium.Space, action: gymnasium.Space) -> None:
        self.single_observation_space, self.single_action_space = obs, action


def test_spaces_are_converted() -> None:
    from gymnasium import spaces as gym

    def convert(obs: Any, action: Any) -> Any:
        return envs.spaces(WithSpaces(obs, action))  # type: ignore[arg-type]

    box = gym.Box(np.array([-1, -2], np.float32), np.array([3, np.inf], np.float32))
    assert convert(box, gym.Discrete(3)) == (
        Box((2,), (-1.0, -2.0), (3.0, float("inf")), "float32"),
        Discrete(3),
    )
    image = gym.Box(0, 255, (2, 1), np.uint8)
    assert convert(image, gym.MultiDiscrete([2, 5])) == (
        Box((2, 1), (0.0, 0.0), (255.0, 255.0), "uint8"),
        MultiDiscrete((2, 5)),
    )
    assert convert(gym.MultiBinary(3), gym.Discrete(2))[0] == MultiDiscrete((2, 2, 2))
    with pytest.raises(ValueError, match=r"observation space is Dict"):
        convert(gym.Dict({"a": box}), gym.Discrete(2))
    with pytest.raises(ValueError, match="action space is Tuple"):
        convert(box, gym.Tuple([gym.Discrete(2)]))
    with pytest.raises(ValueError, match="counts from 0"):
        convert(box, gym.Discrete(2, start=1))


def test_spaces_of_ours() -> None:
    obs, action = envs.spaces(make("pendulum", 2))
    assert obs == Box((3,), (-1.0, -1.0, -8.0), (1.0, 1.0, 8.0), "float32")
    assert action == Box((1,), (-2.0,), (2.0,), "float32")
    assert envs.spaces(make("pendulum_discrete", 2))[1] == Discrete(11)
    assert envs.spaces(make("frozen_lake_8x8", 2)) == (Discrete(64), Discrete(4))
    assert envs.spaces(make("bandit", 2, "arms=4")) == (Discrete(1), Discrete(4))
    for name in NATIVE:
        env = make(name, 3)
        assert env.observation_space.contains(env.reset(seed=1)[0])
        obs = env.step(random_actions(env, 1)[0])[0]
        assert env.observation_space.contains(obs)


# Pictures, and what importing costs.


@pytest.mark.skipif(importlib.util.find_spec("pygame") is None, reason="pygame is not installed")
@pytest.mark.parametrize("name", [*NATIVE, "gym"])
def test_frames_show_the_state(name: str) -> None:
    env = make(name, 2, *(["id=CartPole-v1"] if name == "gym" else []))
    env.reset(seed=seeds(2))
    before = env.render_frame(0)
    assert before.dtype == np.uint8 and before.ndim == 3 and before.shape[2] == 3 and before.std() > 0
    moves = name.startswith(("frozen", "taxi", "point"))  # action 0 may change nothing
    shape = env.single_action_space.shape
    action = np.ones((2, *shape)) if shape else np.full(2, int(moves))
    for _ in range(6):
        env.step(action)
    after = env.render_frame(0)
    assert (after != before).any()
    np.testing.assert_array_equal(env.render_frame(0), after)
    other = make(name, 2, *(["id=CartPole-v1"] if name == "gym" else []))
    other.load_state(env.state())
    np.testing.assert_array_equal(other.render_frame(0), after)
    env.reset(seed=seeds(2))  # the same episode, from its beginning
    np.testing.assert_array_equal(env.render_frame(0), before)
    assert len(env.render()) == 2
    env.close()


def test_missing_pygame_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pygame", None)
    for env in (make("cartpole", 1), make("gym", 1, "id=CartPole-v1")):
        env.reset(seed=seeds(1))
        with pytest.raises(ImportError, match=r"rlrun\[render\]"):
            env.render_frame(0)


def test_configs_import_neither_gymnasium_nor_torch() -> None:
    code = (
        "import sys; from rlrun import registry; from rlrun.config import catalog; "
        "configs = [catalog.load('env', kind).config for kind in registry.builtin('env')]; "
        "assert {'CartPoleConfig', 'GymConfig'} <= {config.__name__ for config in configs}; "
        "sys.exit(bool({'gymnasium', 'torch', 'pygame'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=CONF.parent).returncode == 0


def test_envs_are_vector_envs() -> None:
    for name in NATIVE:
        assert isinstance(make(name, 2), NativeVectorEnv)
    assert isinstance(make("gym", 1, "id=CartPole-v1"), GymVectorEnv)
    env = make("pendulum", 2)
    assert isinstance(env, gymnasium.vector.VectorEnv)
    recorded = gymnasium.wrappers.vector.RecordEpisodeStatistics(env)
    recorded.reset(seed=1)
    assert recorded.step(np.zeros((2, 1)))[0].shape == (2, 3)
