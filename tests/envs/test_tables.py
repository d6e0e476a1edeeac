"""Finite worlds: equal to Gymnasium's, and to their own transition tables."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from native_envs import (
    gymnasium_envs,
    make,
    seeds,
)

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
