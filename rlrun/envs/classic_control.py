"""CartPole, Pendulum and Acrobot: Gymnasium's physics, batched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rlrun.config import key
from rlrun.envs import EnvConfig
from rlrun.registry import register

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv


@dataclass
class CartPoleConfig(EnvConfig):
    velocities: bool = key("observe the velocities too; without them the task needs memory")

    shapings: ClassVar[tuple[str, ...]] = ("centering",)

    @property
    def score_bounds(self) -> tuple[float | None, float | None]:  # type: ignore[override]
        return 0.0, self.max_steps


@register("env", "cartpole", CartPoleConfig)
def cartpole(config: CartPoleConfig, num_envs: int) -> VectorEnv:
    from rlrun.envs.vector.cartpole import CartPole

    return CartPole(num_envs, config.max_steps, velocities=config.velocities)


@dataclass
class PendulumConfig(EnvConfig):
    velocities: bool = key("observe the angular velocity too; without it the task needs memory")
    n_torques: int | None = key("evenly spaced torques to choose from; null: any torque", min=2, max=1000)

    score_bounds: ClassVar[tuple[float | None, float | None]] = (None, 0.0)


@register("env", "pendulum", PendulumConfig)
def pendulum(config: PendulumConfig, num_envs: int) -> VectorEnv:
    from rlrun.envs.vector.pendulum import Pendulum

    return Pendulum(num_envs, config.max_steps, velocities=config.velocities, n_torques=config.n_torques)


@dataclass
class AcrobotConfig(EnvConfig):
    """Nothing of its own."""

    @property
    def score_bounds(self) -> tuple[float | None, float | None]:  # type: ignore[override]
        return self.max_steps and -float(self.max_steps), 0.0


@register("env", "acrobot", AcrobotConfig)
def acrobot(config: AcrobotConfig, num_envs: int) -> VectorEnv:
    from rlrun.envs.vector.acrobot import Acrobot

    return Acrobot(num_envs, config.max_steps)
