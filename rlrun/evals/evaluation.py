"""Judging an agent: own environments, own seeds, and nothing of the agent is changed.

An `Evaluation` says which replicas a program trains and on what, and plays and scores when
it is asked to. It writes nothing: what becomes of scores is the run folder's business.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rlrun.core import Algorithm

if TYPE_CHECKING:
    from rlrun.collector import Collector

NOT_JUDGED = "stop.eval_return and stop.patience go by evaluations while training"


@dataclass(frozen=True)
class Replica:
    """One of the R runs of a program: a seed, a fold under walk-forward, and a variant of the config."""

    index: int
    seed: int
    fold: int | None = None
    variant: int = 0

    @property
    def label(self) -> str:
        """How it is named, in TensorBoard too: seed=1, or seed=1,fold=0."""
        fold = "" if self.fold is None else f",fold={self.fold}"
        return f"seed={self.seed}{fold}" + (f",variant={self.variant}" if self.variant else "")

    @property
    def row(self) -> dict[str, Any]:
        """What it is called in run.json and in summary.json."""
        return {"replica": self.index, "seed": self.seed, "fold": self.fold, "variant": self.variant}


@dataclass(frozen=True)
class StepTable:
    """Scored steps, one a row, ready to be written."""

    header: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Scores:
    """What judging found."""

    results: list[dict[str, Any]]  # a replica each: at least eval_return, eval_return_std, eval_episodes
    steps: StepTable | None = None


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
    plan: Mapping[str, Any] | None = None  # which part of the data is trained and judged on, as JSON
    scaling: np.ndarray | None = None  # mean and deviation [R, 2, F] by which observations are standardised
    reward_scale: np.ndarray | None = None  # what training rewards are multiplied by, [R]
    remarks: Sequence[str] = ()  # what should be said before training, and stops nothing
    holds_back: ClassVar[bool] = False  # judges on rows of a time series that training never sees
    once: ClassVar[bool] = False  # the final score is taken a single time: looking again would be choosing

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(replica.seed for replica in self.replicas)

    def training_options(self, num_envs: int) -> dict[str, Any]:
        """Reset options of the training envs, arrays over the R * N sub-envs."""
        return {}

    @abstractmethod
    def periodic(self, algo: Algorithm, step: np.ndarray) -> dict[str, np.ndarray]:
        """Tags and values [R] at an evaluation during training; of what has a distribution, [R, K]."""

    @abstractmethod
    def final(self, algo: Algorithm, step: np.ndarray, last: Mapping[str, np.ndarray]) -> Scores:
        """The scores of the run; `last` holds the newest recorded value [R] of every tag.

        Of the tag that policies are chosen on it is the one that each was chosen for.
        """

    @abstractmethod
    def again(self, algo: Algorithm, step: np.ndarray, how: Later) -> Scores:
        """Like `final`, for a run that ended earlier; never asked of one that scores `once`."""
