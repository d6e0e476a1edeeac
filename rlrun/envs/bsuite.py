"""Small tasks that ask one question each: memory (`recall`), reading a picture (`catch`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rlrun.config import key
from rlrun.envs import EnvConfig
from rlrun.registry import register

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv


@dataclass
class RecallConfig(EnvConfig):
    delay: int = key("steps from the cue to the question", min=1)
    continuous: bool = key("answer by a number in +-1; false: by one of two actions")

    score_bounds: ClassVar[tuple[float | None, float | None]] = (-1.0, 1.0)


@register("env", "recall", RecallConfig)
def recall(config: RecallConfig, num_envs: int) -> VectorEnv:
    from rlrun.envs.vector.bsuite import Recall

    return Recall(num_envs, config.max_steps, delay=config.delay, continuous=config.continuous)


@dataclass
class CatchConfig(EnvConfig):
    rows: int = key("rows of the board: the steps of an episode, and one", min=2, max=1000)
    columns: int = key("columns of the board", min=2, max=1000)

    score_bounds: ClassVar[tuple[float | None, float | None]] = (-1.0, 1.0)


@register("env", "catch", CatchConfig)
def catch(config: CatchConfig, num_envs: int) -> VectorEnv:
    from rlrun.envs.vector.bsuite import Catch

    return Catch(num_envs, config.max_steps, rows=config.rows, columns=config.columns)
