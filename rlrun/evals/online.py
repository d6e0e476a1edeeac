"""Judging by what the agent earned while it learned: its last record of the training metrics.

For tasks that never end, such as bandits, and for questions about learning itself, such as
SARSA's on the cliff. Judged again later, it is the greedy policy that counts, without
learning: on fresh episodes, or from where training stopped if no episode ever ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rlrun.config import ConfigError, key
from rlrun.evals.episodes import Episodes, EpisodesConfig
from rlrun.evals.evaluation import NOT_JUDGED, Evaluation, Later, Replica, Scores
from rlrun.registry import entry_of, register

if TYPE_CHECKING:
    from rlrun.config.run import RunConfig
    from rlrun.core import Algorithm


@dataclass
class OnlineConfig:
    """`log.every` says over how many of the last steps the agent is judged."""

    episodes: int = key("episodes of `rlrun evaluate`, where episodes end", min=1, max=1_000_000)

    def conflicts(self, run: RunConfig) -> list[str]:
        algo: Any = entry_of(run.algo).build
        found = []
        if not algo.rollout_steps:
            words = "judges what is earned while learning, and algo never acts"
            found.append(f"eval=online {words}: use eval=episodes")
        if run.stop.judges:
            found.append(f"{NOT_JUDGED}, and eval=online has none: use eval=episodes, or stop.episodes")
        return found

    def choosing(self) -> dict[str, Any]:
        """What of this config decides which policies come out of training: nothing."""
        return {}


@register("eval", "online", OnlineConfig)
class Online(Evaluation):
    """The mean return of the last record, or the mean reward a step where no episode ever ends."""

    def __init__(self, config: OnlineConfig, run: RunConfig) -> None:
        self.config, self.run = config, run
        self.replicas = [Replica(i, run.seed + i) for i in range(run.replicas)]
        self.every = run.total_steps

    def periodic(self, algo: Algorithm, step: np.ndarray) -> dict[str, np.ndarray]:
        return {}

    def final(self, algo: Algorithm, step: np.ndarray, last: Mapping[str, np.ndarray]) -> Scores:
        """Also every other training metric by its name: optimal, regret, total_regret, length."""
        return self._scores({tag[6:]: value for tag, value in last.items() if tag.startswith("train/")})

    def again(self, algo: Algorithm, step: np.ndarray, how: Later) -> Scores:
        """Where no episode ever ends, for as many steps as the run had.

        Raises:
            ConfigError: other episodes are asked for where none ever ends.
        """
        if not self.run.env.never_ends:
            config = EpisodesConfig(self.config.episodes, 1, None, "last", "greedy")
            return Episodes(config, self.run).again(algo, step, how)
        if how.episodes is not None or how.purpose != "test":
            raise ConfigError(
                "this run's env never ends: there are no episodes to choose (--episodes, --seed)",
                "its policy is judged from where training stopped, for as many steps as that took",
            )
        collector, everyone = how.training(), np.ones(len(self.replicas), bool)
        collector.stats.begin_anew()
        for _ in range(-(-self.run.total_steps // self.run.num_envs)):
            collector.collect(algo, 1, step, mode="greedy")
        return self._scores(collector.stats.take(everyone))

    def _scores(self, found: Mapping[str, np.ndarray]) -> Scores:
        nothing = np.full(len(self.replicas), np.nan)
        returns = found.get("return", nothing)
        score = returns if np.isfinite(returns).any() else found.get("reward", nothing)
        return Scores(
            [
                {"eval_return": _number(score[r]), "eval_return_std": None, "eval_episodes": 0}
                | {name: _number(value[r]) for name, value in found.items()}
                for r in range(len(self.replicas))
            ]
        )


def _number(value: np.floating[Any]) -> float | None:
    return float(value) if np.isfinite(value) else None  # JSON has no NaN
