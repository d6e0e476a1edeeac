"""A point on a square, with a goal, for a fixed number of steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rlrun.config import key
from rlrun.envs import EnvConfig
from rlrun.registry import register

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv


@dataclass
class PointConfig(EnvConfig):
    goal: list[float] = key("x and y of the place where to be; the square is -1 to 1", min=-1, max=1)
    moves: bool = key("choose from five moves: stay, east, north, west, south; false: any velocity")

    endless: ClassVar[bool] = True  # nothing but max_steps ends an episode
    score_bounds: ClassVar[tuple[float | None, float | None]] = (None, 0.0)

    def problems(self) -> list[str]:
        found = super().problems()
        return found if len(self.goal) == 2 else [*found, f"goal is {self.goal}: it must be x and y"]


@register("env", "point", PointConfig)
def point(config: PointConfig, num_envs: int) -> VectorEnv:
    from rlrun.envs.vector.point import Point

    return Point(num_envs, config.max_steps, goal=config.goal, moves=config.moves)
