"""The k-armed bandit testbed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rlrun.config import key
from rlrun.envs import EnvConfig
from rlrun.registry import register

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv


@dataclass
class BanditConfig(EnvConfig):
    arms: int = key("how many arms there are", min=1)
    mean: float = key("centre of the arms' mean rewards")
    spread: float = key("standard deviation of the arms' mean rewards", min=0)
    noise: float = key("standard deviation of a reward about its arm's mean", min=0)

    endless: ClassVar[bool] = True  # without max_steps no episode ends


@register("env", "bandit", BanditConfig)
def bandit(config: BanditConfig, num_envs: int) -> VectorEnv:
    from rlrun.envs.vector.bandit import Bandit

    return Bandit(
        num_envs,
        config.max_steps,
        arms=config.arms,
        mean=config.mean,
        spread=config.spread,
        noise=config.noise,
    )
