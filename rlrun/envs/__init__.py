"""Environments: Gymnasium vector envs, one instance of M = R * N sub-environments per program.

Configs and builders live in the modules of this package, which import neither gymnasium
nor torch; the classes they build live in `rlrun.envs.vector` and are imported when needed.
What an environment offers beyond Gymnasium's API is said by its `Abilities`; `state()` and
`load_state()` make a resume exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from rlrun.boundary import fault
from rlrun.config import ConfigError, key
from rlrun.envs.abilities import Abilities as Abilities
from rlrun.envs.abilities import abilities as abilities
from rlrun.registry import entry_of
from rlrun.spaces import Space

if TYPE_CHECKING:
    import numpy as np
    from gymnasium.vector import VectorEnv
    from torch import Tensor

    from rlrun.core import Dynamics
    from rlrun.envs.abilities import Reward


@dataclass
class RewardConfig:
    """What the agent learns from; reported returns are always the env's own."""

    scale: float = key("factor on the training reward")
    shift: float = key("added to the training reward after scaling")
    shaping: str | None = key("a training reward of the env's that stands in for its own; null: none")


@dataclass
class EnvConfig:
    """The part that all environments share."""

    max_steps: int | None = key("steps after which an episode is truncated; null: never", min=1)
    reward: RewardConfig = key("the training reward")

    shapings: ClassVar[tuple[str, ...]] = ()  # what reward.shaping may be
    slow: ClassVar[bool] = False  # stepped one by one in Python: few copies at a time
    endless: ClassVar[bool] = False  # without max_steps no episode ever ends
    # Whether its data lie in time, so that walk-forward can split them; None: its envs know.
    time_indexed: ClassVar[bool | None] = False
    tabular: ClassVar[bool] = False  # it may know its transitions as a table
    # The least and the most that an episode can return (or a step earn, where none ends); None: not known.
    score_bounds: ClassVar[tuple[float | None, float | None]] = (None, None)

    @property
    def never_ends(self) -> bool:
        return self.endless and self.max_steps is None

    def prepare(self) -> None:
        """Import what it names. Only the words of one's own command line are prepared, and no run folder's.

        Raises:
            ConfigError: what it names is not there.
        """

    def problems(self) -> list[str]:
        shaping = self.reward.shaping
        if shaping is None or shaping in self.shapings:
            return []
        known = "it may be " + ", ".join(self.shapings) if self.shapings else "this env has none"
        return [f"reward.shaping is {shaping}: {known}, or null"]


def make(config: EnvConfig, num_envs: int) -> VectorEnv:
    """The vector env of `num_envs` sub-environments that a config describes.

    Raises:
        ConfigError: the environment cannot be built; the message says why.
    """
    entry = entry_of(config)
    try:
        return entry.build(config, num_envs)
    except BaseException as error:  # whatever a plug-in raises
        raise ConfigError(*fault(error, f"env={entry.kind} cannot be made", "").lines) from error


def spaces(env: VectorEnv) -> tuple[Space, Space]:
    """Observation and action space of one sub-environment, as agents see them.

    Raises:
        ConfigError: a space is none of Box, Discrete, MultiDiscrete and MultiBinary, or one
            that nothing can hold.
    """
    from rlrun.envs.vector.spaces import space_of

    return (
        space_of(env.single_observation_space, "observation"),
        space_of(env.single_action_space, "action"),
    )


def reward_function(config: EnvConfig, env: VectorEnv, scale_by: np.ndarray | None = None) -> Reward | None:
    """The training reward as a function of (reward, obs, action, next_obs), [...] each.

    `scale_by` [R] is what each replica's is multiplied by besides. None where the env's own reward
    is used as it is.
    """
    reward = config.reward
    scale: Any = reward.scale if scale_by is None else reward.scale * scale_by[:, None]
    shift = reward.shift
    if reward.shaping is None and scale_by is None and scale == 1.0 and shift == 0.0:
        return None
    shapings = abilities(env).shapings
    shape = None if reward.shaping is None else shapings[reward.shaping]

    def transformed(own: np.ndarray, obs: np.ndarray, action: np.ndarray, next_obs: np.ndarray) -> Any:
        return scale * (own if shape is None else shape(own, obs, action, next_obs)) + shift

    return transformed


def dynamics(config: EnvConfig, env: VectorEnv) -> Dynamics | None:
    """The env's own laws, earning what is earned in training; None where it does not offer them."""
    laws: Dynamics | None = abilities(env).dynamics
    reward = reward_function(config, env)
    if laws is None or reward is None:
        return laws

    def rewarded(obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        next_obs, own, terminated = laws(obs, action)
        return next_obs, reward(own, obs, action, next_obs), terminated

    return rewarded
