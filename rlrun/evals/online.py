"""Judging by what the agent earned while it learned: its last record of the training metrics.

For bandits, where there is nothing to replay afterwards, and for questions about learning
itself, such as SARSA's on the cliff.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlrun.config import ConfigError
from rlrun.evaluate import Evaluation, Replica
from rlrun.registry import entry_of, register

if TYPE_CHECKING:
    from rlrun.config import RunConfig
    from rlrun.core import Algorithm


@dataclass
class OnlineConfig:
    """Nothing to set: `log.every` says over how many of the last steps the agent is judged."""

    def conflicts(self, run: RunConfig) -> list[str]:
        algo: Any = entry_of(run.algo).build
        if algo.rollout_steps:
            return []
        return ["eval=online judges what is earned while learning, and algo never acts: use eval=episodes"]


@register("eval", "online", OnlineConfig)
class Online(Evaluation):
    """The mean return of the last record, or the mean reward a step where no episode ever ends."""

    def __init__(self, config: OnlineConfig, run: RunConfig) -> None:
        self.replicas = [Replica(i, run.seed + i) for i in range(run.replicas)]
        self.every = run.total_steps

    def periodic(self, algo: Algorithm, step: np.ndarray) -> dict[str, np.ndarray]:
        return {}

    def final(
        self, algo: Algorithm, step: np.ndarray, folder: Path | None, last: Mapping[str, np.ndarray]
    ) -> list[dict[str, Any]]:
        """Also every other training metric by its name: optimal, regret, length.

        Raises:
            ConfigError: there is no record, as when a run is judged again later.
        """
        if not last:
            raise ConfigError(
                "eval=online judged this run while it learned, and that cannot be replayed",
                "its figures are in summary.json and metrics.jsonl",
            )
        nothing = np.full(len(self.replicas), np.nan)
        returns = last.get("train/return", nothing)
        score = returns if np.isfinite(returns).any() else last.get("train/reward", nothing)
        metrics = {tag.removeprefix("train/"): v for tag, v in last.items() if tag.startswith("train/")}
        return [
            {"eval_return": _number(score[r]), "eval_return_std": None, "eval_episodes": 0}
            | {name: _number(value[r]) for name, value in metrics.items()}
            for r in range(len(self.replicas))
        ]


def _number(value: np.floating[Any]) -> float | None:
    return float(value) if np.isfinite(value) else None  # JSON has no NaN
