"""Any Gymnasium environment: the same steps, exact resume, and errors that say where."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from native_envs import (
    assert_equal_steps,
    config_of,
    gymnasium_envs,
    make,
    random_actions,
    seeds,
)

from rlrun import envs
from rlrun.boundary import EnvError
from rlrun.config import ConfigError
from rlrun.config.keys import violations


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
    assert make("gym", 1, "id=CartPole-v1").self_test() == (None, ())
    assert make("gym", 1, "id=Pendulum-v1").self_test() == (None, ())
    problem = make("gym", 1, "id=test/Forgetful-v0").self_test().inexact
    assert problem == "test/Forgetful-v0: obs differs at step 0 of the same episode played twice"


def test_errors_of_an_env_say_where(ids: None) -> None:
    env = make("gym", 2, "id=test/Broken-v0")
    env.reset(seed=seeds(2))
    with pytest.raises(EnvError, match="the motor is stuck") as caught:
        env.step(np.array([0, 0]))
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert caught.value.lines[1] == f"in sub-env 0, episode of seed {int(seeds(1)[0]) >> 33}, step 1"


def test_gym_wrappers_and_kwargs() -> None:
    env = make("gym", 2, "id=FrozenLake-v1", "kwargs={is_slippery: false, map_name: 8x8}")
    assert env.single_observation_space.n == 64
    env.reset(seed=seeds(2))
    assert env.step(np.array([2, 1]))[0].tolist() == [1, 8]
    env = make(
        "gym", 2, "id=Pendulum-v1", "wrappers=[{FrameStackObservation: {stack_size: 3}}, FlattenObservation]"
    )
    obs, _ = env.reset(seed=seeds(2))
    assert obs.shape == (2, 9) and env.self_test().inexact is None
    np.testing.assert_array_equal(obs[:, :3], obs[:, 6:])
    stacked = env.step(np.zeros((2, 1)))[0]
    np.testing.assert_array_equal(stacked[:, :6], obs[:, 3:])


def test_envs_that_cannot_be_made_are_refused(ids: None) -> None:
    config = config_of("gym", "id=CartPol-v1")
    with pytest.raises(ValueError, match="did you mean"):
        envs.make(config, 1)
    config = config_of("gym", "id=CartPole-v1", "kwargs={colour: red}")
    with pytest.raises(ValueError, match=r"CartPole-v1 cannot be made.*colour"):
        envs.make(config, 1)
    config = config_of("gym", "id=no_such_module_here:X-v0", "allow_import=true")
    with pytest.raises(ValueError, match=r"env.id: cannot import 'no_such_module_here'"):
        config.prepare()
    with pytest.raises(ValueError, match=r"Text(.|\n)*must be a Box"):
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
    """And finds a module of the working directory, as `imports` does."""
    (tmp_path / "their_envs.py").write_text(
        "import gymnasium\n"
        "from gymnasium.envs.classic_control.cartpole import CartPoleEnv\n"
        "gymnasium.register('Theirs-v0', CartPoleEnv, max_episode_steps=9)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert violations(config_of("gym", "id=their_envs:Theirs-v0")) != []
    assert "their_envs" not in sys.modules
    env = make("gym", 1, "id=their_envs:Theirs-v0", "allow_import=true")
    assert env.spec.max_episode_steps == 9
    del gymnasium.registry["Theirs-v0"], sys.modules["their_envs"]
