"""Judging an agent: own environments, own seeds, and nothing of the agent is changed.

`run_episodes` plays; an `Evaluation` decides what is played when: `Episodes` here, on
seeds that training never used, walk-forward in `walk_forward.py`. The trainer knows only
this interface.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from rlrun import envs
from rlrun.collector import mode_of, reset
from rlrun.core import Algorithm, Mode
from rlrun.lazy import torch
from rlrun.rng import Stream, child, keys

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv

    from rlrun.collector import Collector
    from rlrun.config import RunConfig
    from rlrun.evals.episodes import EpisodesConfig


@dataclass(frozen=True)
class Replica:
    """One of the R runs of a program: a seed, and a fold under walk-forward."""

    index: int
    seed: int
    fold: int | None = None

    @property
    def label(self) -> str:
        return f"seed={self.seed}" + ("" if self.fold is None else f",fold={self.fold}")


@dataclass(frozen=True)
class Scores:
    """What was played; every array is [R, episodes]."""

    returns: np.ndarray
    lengths: np.ndarray
    info: dict[str, np.ndarray]  # sums over the episode of the env's metrics

    def means(self, prefix: str) -> dict[str, np.ndarray]:
        """Mean return and length of each replica, [R], by tag."""
        return {f"{prefix}/return": self.returns.mean(1), f"{prefix}/length": self.lengths.mean(1)}


def run_episodes(
    algo: Algorithm,
    env: VectorEnv,
    seeds: tuple[int, ...],
    episodes: int,
    *,
    purpose: str,
    mode: Mode,
    step: np.ndarray,
    device: str = "cpu",
    dtype: str = "float32",
    options: Mapping[str, Any] | None = None,
    record: tuple[str, ...] = (),
) -> tuple[Scores, dict[str, np.ndarray]]:
    """Play `episodes` whole episodes for each replica; episode i of a seed is always the same.

    `purpose` names the seeds' family ("eval", "test"); the env has R * P sub-envs, and
    episodes are played P at a time. Returns the scores, and the info arrays named in
    `record` as [R, P, steps] of the last round.
    """
    replicas = len(seeds)
    parallel = env.num_envs // replicas
    lead = (replicas, parallel)
    obs_space, _ = envs.spaces(env)
    obs_type = getattr(torch, dtype if obs_space.dtype.startswith("float") else obs_space.dtype)
    names = tuple(getattr(env, "metrics", ()))
    base = keys(seeds, purpose)[:, None]
    returns, lengths = (np.zeros((replicas, episodes)) for _ in range(2))
    sums = {name: np.zeros((replicas, episodes)) for name in names}
    trace: dict[str, list[np.ndarray]] = {name: [] for name in record}
    everyone = np.ones(lead, bool)

    for begin in range(0, episodes, parallel):
        count = min(parallel, episodes - begin)
        # A stream per round: the length of one replica's episodes must not move another's draws.
        rng = Stream(seeds, f"{purpose}/act/{begin}", device)
        index = np.arange(begin, begin + parallel)[None]
        seed = child(base, index)
        obs = reset(env, seed, everyone, options or {})
        first, running = everyone, np.broadcast_to(np.arange(parallel) < count, lead)
        memory = algo.initial_memory(parallel)
        total, length = np.zeros(lead), np.zeros(lead, np.int64)
        info_total = {name: np.zeros(lead) for name in names}
        trace = {name: [] for name in record}
        with torch.no_grad():
            while running.any():
                act = algo.act(
                    torch.from_numpy(obs.reshape(*lead, *obs_space.shape)).to(device, obs_type),
                    memory,
                    torch.from_numpy(first).to(device),
                    step=step,
                    mode=mode,
                    rng=rng,
                )
                memory = act.memory
                action = act.action.cpu().numpy()
                obs, reward, terminated, truncated, info = env.step(action.reshape(-1, *action.shape[2:]))
                total += np.where(running, reward.reshape(lead), 0.0)
                length += running
                for name in names:
                    info_total[name] += np.where(running, np.asarray(info[name]).reshape(lead), 0.0)
                for name in record:
                    trace[name].append(np.where(running, np.asarray(info[name]).reshape(lead), np.nan))
                first = (terminated | truncated).reshape(lead)
                running = running & ~first
                if running.any() and first.any() and mode_of(env) == "Disabled":
                    obs = reset(env, seed, first, options or {})  # padding; not counted
        window = slice(begin, begin + count)
        returns[:, window], lengths[:, window] = total[:, :count], length[:, :count]
        for name in names:
            sums[name][:, window] = info_total[name][:, :count]
    return Scores(returns, lengths, sums), {name: np.stack(rows, -1) for name, rows in trace.items()}


@dataclass(frozen=True)
class Later:
    """How a run that ended earlier is judged again."""

    episodes: int | None  # None: as many as the run itself
    purpose: str  # the family of their seeds: "test" is that of the run itself
    training: Callable[[], Collector]  # gives the training envs as the run left them


class Evaluation(ABC):
    """What is played when, and on which replicas the program trains."""

    replicas: list[Replica]
    best: tuple[str, str] | None = None  # tag and "max" or "min": the policy is chosen on it
    every: int  # env steps between periodic evaluations

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(replica.seed for replica in self.replicas)

    def training_options(self, num_envs: int) -> dict[str, Any]:
        """Reset options of the training envs, arrays over the R * N sub-envs."""
        return {}

    def prepare(self, folder: Path) -> None:  # noqa: B027 (most write nothing)
        """Write what must be on disk before training begins."""

    @abstractmethod
    def periodic(self, algo: Algorithm, step: np.ndarray) -> dict[str, np.ndarray]:
        """Tags and values [R] at an evaluation during training."""

    @abstractmethod
    def final(
        self, algo: Algorithm, step: np.ndarray, folder: Path | None, last: Mapping[str, np.ndarray]
    ) -> list[dict[str, Any]]:
        """One result per replica: at least eval_return, eval_return_std and eval_episodes.

        `last` holds the newest recorded value [R] of every tag; it is empty when a run is
        judged again later.
        """

    def again(self, algo: Algorithm, step: np.ndarray, how: Later) -> list[dict[str, Any]]:
        """Like `final`, for a run that ended earlier."""
        return self.final(algo, step, None, {})


class Episodes(Evaluation):
    """Whole episodes on seeds of their own: one family while training, a fresh one at the end."""

    def __init__(self, config: EpisodesConfig, run: RunConfig) -> None:
        self.config, self.run = config, run
        self.replicas = [Replica(i, run.seed + i) for i in range(run.replicas)]
        self.every = config.every or max(run.total_steps // 20, 1)
        self.best = ("eval/return", "max") if config.choose == "best" else None
        self._envs: dict[int, VectorEnv] = {}

    def play(self, algo: Algorithm, episodes: int, purpose: str, step: np.ndarray) -> Scores:
        """Scores of `episodes` episodes for every replica."""
        # Whatever R is: a sampled policy's draws are [R, parallel], and a lone run makes the same.
        parallel = min(episodes, 8 if self.run.env.slow else 128)
        if parallel not in self._envs:
            self._envs[parallel] = envs.make(self.run.env, len(self.replicas) * parallel)
        return run_episodes(
            algo,
            self._envs[parallel],
            self.seeds,
            episodes,
            purpose=purpose,
            mode=cast(Mode, self.config.mode),
            step=step,
            device=self.run.device,
            dtype=self.run.dtype,
        )[0]

    def periodic(self, algo: Algorithm, step: np.ndarray) -> dict[str, np.ndarray]:
        return self.play(algo, self.config.during, "eval", step).means("eval")

    def final(
        self, algo: Algorithm, step: np.ndarray, folder: Path | None, last: Mapping[str, np.ndarray]
    ) -> list[dict[str, Any]]:
        return self.results(algo, self.config.episodes, "test", step)

    def again(self, algo: Algorithm, step: np.ndarray, how: Later) -> list[dict[str, Any]]:
        return self.results(algo, how.episodes or self.config.episodes, how.purpose, step)

    def results(self, algo: Algorithm, episodes: int, purpose: str, step: np.ndarray) -> list[dict[str, Any]]:
        """A result per replica on the seeds of `purpose`."""
        scores = self.play(algo, episodes, purpose, step)
        return [
            {
                "eval_return": float(scores.returns[i].mean()),
                "eval_return_std": float(scores.returns[i].std()),
                "eval_length": float(scores.lengths[i].mean()),
                "eval_episodes": episodes,
            }
            for i in range(len(self.replicas))
        ]
