"""What algorithms that learn from a replay buffer share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rlrun.config import key
from rlrun.core import Rollout
from rlrun.lazy import torch
from rlrun.parts.return_scale import AUTO
from rlrun.state import copy_leaves

if TYPE_CHECKING:
    from torch import Tensor

    from rlrun.config.run import RunConfig


@dataclass
class TargetConfig:
    tau: float = key(
        "weight of the new parameters at each sync; 1 copies them", above=0, max=1, per_replica=True
    )
    every: int = key("gradient steps, env steps or episodes between syncs", min=1, per_replica=True)
    unit: str = key("what `every` counts, per replica", choices=("updates", "steps", "episodes"))


class TargetSync:
    """Lets a target network's parameters follow the online ones, both flat, [R, P].

    `updated` after every gradient step and `collected` for every rollout, before learning
    from it: the one that knows the config's unit counts, and syncs when due. Replicas end
    their episodes at different times, so each has its own count.
    """

    def __init__(self, config: TargetConfig, online: Tensor, target: Tensor) -> None:
        self.config, self.online, self.target = config, online, target
        self.differs = any(isinstance(n, np.ndarray) for n in (config.tau, config.every))  # by replica
        self.count = np.zeros(len(online), np.int64)  # updates, env steps or episodes so far

    def updated(self) -> None:
        """Count one gradient step of every replica."""
        if self.config.unit == "updates":
            self.count += 1
            if self.differs:
                self._follow(self.count % self.config.every == 0)
            elif self.count[-1] % self.config.every == 0:
                self.target.lerp_(self.online, self.config.tau)

    def collected(self, rollout: Rollout) -> None:
        """Count a rollout's env steps, or the episodes that ended in it."""
        if self.config.unit != "updates":
            counted = rollout.valid & rollout.ended if self.config.unit == "episodes" else rollout.valid
            before = self.count // self.config.every
            self.count += counted.sum((1, 2)).cpu().numpy()
            self._follow(self.count // self.config.every > before)

    def _follow(self, due: np.ndarray) -> None:
        """Sync the replicas that are `due` [R]."""
        weight = torch.from_numpy(self.config.tau * due)
        self.target.lerp_(self.online, weight.to(self.target).unsqueeze(1))

    def state(self) -> dict[str, Tensor]:
        return {"count": torch.from_numpy(self.count)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        copy_leaves(self.state(), state, "sync")


@dataclass
class BufferConfig:
    """What is kept of the steps, and how much of it is learned from how often."""

    buffer_size: int = key("env steps kept for replay, per replica", min=1)
    batch_size: int = key("sequences in a minibatch", min=1)
    learning_starts: int = key("env steps before the first update; all but DQN act at random in them", min=0)
    train_every: int = key("env steps between updates", min=1)
    gradient_steps: int = key("gradient steps in an update", min=1)

    def problems(self) -> list[str]:
        return [
            f"{name} is {value}: it must be at most buffer_size ({self.buffer_size})"
            for name, value in (("learning_starts", self.learning_starts), ("batch_size", self.batch_size))
            if value > self.buffer_size
        ]

    def cadence(self, num_envs: int) -> tuple[int, int]:
        """Rows of `num_envs` env steps to collect, and how often to update after them.

        One update per `train_every` env steps: several a row where a row is more than that.
        """
        return max(self.train_every // num_envs, 1), max(num_envs // self.train_every, 1)

    def conflicts(self, run: RunConfig) -> list[str]:
        every, envs = self.train_every, run.num_envs
        if every % envs == 0 or envs % every == 0:
            return []
        return [f"algo.train_every is {every}: num_envs ({envs}) must divide it, or be a multiple"]


@dataclass
class SequenceConfig:
    """Which part of a sequence is learned from, and towards what."""

    reward_scale: float | int | str = key(
        "rewards are multiplied by this before learning; auto: by one over the return's running deviation",
        above=0,
        word=AUTO,
        per_replica=True,
    )
    n_step: int = key("steps of reward in a target", min=1)
    sequence_length: int = key("with memory: steps of a sequence that are learned from", min=1)
    burn_in: int = key("with memory: steps before them that only refresh it", min=0)
    target: TargetConfig = key("how target networks follow")

    def length(self, recurrent: bool) -> int:
        """Steps of a sequence: an n-step window, or with memory the burn-in and the learned steps."""
        return self.burn_in + self.sequence_length if recurrent else self.n_step


@dataclass
class ReplayConfig(SequenceConfig, BufferConfig):
    """Sequences from a buffer."""

    def conflicts(self, run: RunConfig) -> list[str]:
        found = super().conflicts(run)
        length, rows = self.length(run.recurrent), self.buffer_size // run.num_envs
        if rows < length:
            found.append(
                f"algo.buffer_size is {self.buffer_size}: {rows} steps of each env; a sequence has {length}"
            )
        return found
