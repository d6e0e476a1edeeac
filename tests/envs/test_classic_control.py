"""Classic control: equal to Gymnasium's step for step; masked and shaped variants."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
from native_envs import (
    NATIVE,
    assert_equal_steps,
    config_of,
    follow,
    gymnasium_envs,
    make,
    random_actions,
    seeds,
)

from rlrun import envs


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
