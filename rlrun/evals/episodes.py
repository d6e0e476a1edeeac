"""Judging by whole episodes, on seeds that training never used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from rlrun import envs
from rlrun.config import key
from rlrun.core import Algorithm, Mode
from rlrun.evals.evaluation import Evaluation, Later, Replica, Scores
from rlrun.evals.play import LOOKS, Played, run_episodes
from rlrun.registry import register

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv

    from rlrun.config.run import RunConfig


@dataclass
class EpisodesConfig:
    episodes: int = key("episodes of the final evaluation, on fresh seeds", min=1, max=1_000_000)
    during: int = key("episodes of each evaluation while training", min=1, max=1_000_000)
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

    def plays(self, run: RunConfig) -> tuple[int, int]:
        """Copies of the env at a time, and episodes at most, of each replica."""
        most = max(self.episodes, self.during)
        return at_once(most, run.env.slow), most

    def choosing(self) -> dict[str, Any]:
        """What of this config decides which policies come out of training: nothing, if the last counts."""
        return {} if self.choose == "last" else {f.name: getattr(self, f.name) for f in fields(self)}


def at_once(episodes: int, slow: bool) -> int:
    """How many of a replica's episodes are played side by side, of an env that is `slow` or not.

    Whatever R is: a sampled policy's draws are [R, P], and a lone run makes the same.
    """
    return min(episodes, 8 if slow else 128)


@register("eval", "episodes", EpisodesConfig)
class Episodes(Evaluation):
    """Whole episodes on seeds of their own: one family while training, a fresh one at the end."""

    def __init__(self, config: EpisodesConfig, run: RunConfig) -> None:
        self.config, self.run = config, run
        self.replicas = [Replica(i, run.seed + i) for i in range(run.replicas)]
        self.every = config.every or max(run.total_steps // 20, 1)
        self.best = ("eval/return", "max") if config.choose == "best" else None
        self._envs: dict[int, VectorEnv] = {}

    def play(
        self,
        algo: Algorithm,
        episodes: int,
        purpose: str,
        step: np.ndarray,
        mode: str | None = None,
        looks: int = 0,
    ) -> Played:
        """Scores of `episodes` episodes for every replica, in the run's own mode unless one is given."""
        parallel = at_once(episodes, self.run.env.slow)
        if parallel not in self._envs:
            self._envs[parallel] = envs.make(self.run.env, len(self.replicas) * parallel)
        return run_episodes(
            algo,
            self._envs[parallel],
            self.seeds,
            episodes,
            purpose=purpose,
            mode=cast(Mode, mode or self.config.mode),
            step=step,
            device=self.run.device,
            dtype=self.run.dtype,
            limit=self.run.longest_episode,
            looks=looks,
        )[0]

    def periodic(self, algo: Algorithm, step: np.ndarray) -> dict[str, np.ndarray]:
        played = self.play(algo, self.config.during, "eval", step, looks=LOOKS)
        return played.means("eval") | played.distributions("eval")

    def final(self, algo: Algorithm, step: np.ndarray, last: Mapping[str, np.ndarray]) -> Scores:
        """A stochastic policy also shows, in fewer episodes, what it returns in the other mode."""
        scores = self.scores(algo, self.config.episodes, "test", step)
        if not algo.stochastic:
            return scores
        other = "sample" if self.config.mode == "greedy" else "greedy"
        played = self.play(algo, self.config.during, f"test in mode {other}", step, other)
        means = [
            {
                f"{other}_return": float(returns.mean()),
                f"{other}_return_std": float(returns.std()),
                f"{other}_episodes": len(returns),
            }
            for returns in played.returns
        ]
        return Scores([own | more for own, more in zip(scores.results, means, strict=True)])

    def again(self, algo: Algorithm, step: np.ndarray, how: Later) -> Scores:
        return self.scores(algo, how.episodes or self.config.episodes, how.purpose, step)

    def scores(self, algo: Algorithm, episodes: int, purpose: str, step: np.ndarray) -> Scores:
        """A result per replica on the seeds of `purpose`."""
        played = self.play(algo, episodes, purpose, step)
        return Scores(
            [
                {
                    "eval_return": float(played.returns[i].mean()),
                    "eval_return_std": float(played.returns[i].std()),
                    "eval_length": float(played.lengths[i].mean()),
                    "eval_episodes": episodes,
                }
                for i in range(len(self.replicas))
            ]
        )
