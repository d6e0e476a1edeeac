"""Native environments as tests make them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from rlrun import envs
from rlrun.config.keys import violations
from rlrun.config.sources import installed
from rlrun.rng import keys

CONF = Path(__file__).parents[1] / "conf"


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
    config.prepare()
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
