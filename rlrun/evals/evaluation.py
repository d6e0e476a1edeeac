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
from typing import TYPE_CHECKING, Any

import numpy as np

from rlrun.core import Algorithm

if TYPE_CHECKING:
    from rlrun.collector import Collector


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
