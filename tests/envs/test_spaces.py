"""Spaces, ours and Gymnasium's."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from native_envs import (
    NATIVE,
    make,
    random_actions,
)

from rlrun import envs
from rlrun.spaces import Box, Discrete, MultiDiscrete


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
    assert convert(box, gym.Discrete(2, start=1))[1].write(np.array([0, 1])).tolist() == [1, 2]


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
