"""Native environments, beside what `rlrun.testing` checks of every one."""

from __future__ import annotations

import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from native_envs import (
    CONF,
    NATIVE,
    config_of,
    make,
    random_actions,
    seeds,
)

from rlrun.config.keys import violations
from rlrun.envs.vector.base import NativeVectorEnv, normals
from rlrun.envs.vector.gym import GymVectorEnv


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


def test_foreign_state_is_refused() -> None:
    state = make("cartpole", 2).state()
    with pytest.raises(ValueError, match="another env"):
        make("pendulum", 2).load_state(state)
    with pytest.raises(ValueError, match=r"seed is \(2,\)"):
        make("cartpole", 3).load_state(state)
    with pytest.raises(ValueError, match="another env"):
        make("gym", 2, "id=CartPole-v1").load_state(state)


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


REFUSED = [
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
