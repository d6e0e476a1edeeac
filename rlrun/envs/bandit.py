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
    rewards: str = key("normal numbers, or 0 and 1", choices=("gaussian", "bernoulli"))
    arms: int = key("how many arms there are", min=1, max=100_000)
    means: list[float] | None = key("the arms' mean rewards; null: drawn for each bandit, as below")
    mean: float = key("centre of the arms' mean rewards")
    spread: float = key("their standard deviation about it; bernoulli: how far they may lie", min=0)
    noise: float = key("standard deviation of a reward about its arm's mean; bernoulli: 0", min=0)
    drift: float = key("standard deviation of the change of every mean after each step", min=0)

    endless: ClassVar[bool] = True

    def problems(self) -> list[str]:
        found = super().problems()
        if self.means is not None and len(self.means) != self.arms:
            found.append(
                f"means has {len(self.means)} numbers: it must have one for each of the {self.arms} arms"
            )
        if self.rewards == "bernoulli":
            bounds = self.means or [self.mean - self.spread, self.mean + self.spread]
            if min(bounds) < 0 or max(bounds) > 1:
                low, high = min(bounds), max(bounds)
                found.append(f"rewards is bernoulli: means from {low:g} to {high:g} are no probabilities")
            if self.noise:
                found.append(f"noise is {self.noise}: rewards of 0 and 1 have their own; set it to 0")
        return found


@register("env", "bandit", BanditConfig)
def bandit(config: BanditConfig, num_envs: int) -> VectorEnv:
    from rlrun.envs.vector.bandit import Bandit

    return Bandit(
        num_envs,
        config.max_steps,
        rewards=config.rewards,
        arms=config.arms,
        means=config.means,
        mean=config.mean,
        spread=config.spread,
        noise=config.noise,
        drift=config.drift,
    )
