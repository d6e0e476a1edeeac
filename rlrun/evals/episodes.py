"""Judging by whole episodes, on seeds that training never used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlrun.config import key
from rlrun.registry import register

if TYPE_CHECKING:
    from rlrun.config import RunConfig
    from rlrun.evaluate import Episodes


@dataclass
class EpisodesConfig:
    episodes: int = key("episodes of the final evaluation, on fresh seeds", min=1)
    during: int = key("episodes of each evaluation while training", min=1)
    every: int | None = key("env steps between evaluations; null: a twentieth of the run", min=1)
    choose: str = key(
        "which policy is judged in the end: the last, or the one of each replica's best evaluation",
        choices=("last", "best"),
    )
    mode: str = key("the best guess, or the stochastic policy as it is", choices=("greedy", "sample"))

    def conflicts(self, run: RunConfig) -> list[str]:
        if run.env.never_ends:
            return ["eval=episodes needs episodes that end: set env.max_steps, or use eval=online"]
        return []


@register("eval", "episodes", EpisodesConfig)
def build(config: EpisodesConfig, run: RunConfig) -> Episodes:
    from rlrun.evaluate import Episodes

    return Episodes(config, run)
