"""Upper confidence bounds for bandits: UCB1 (Auer, Cesa-Bianchi and Fischer, "Finite-time
analysis of the multiarmed bandit problem", 2002; Sutton and Barto, "Reinforcement
Learning", 2018, section 2.7), with their incremental means (2.4) and constant steps (2.5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rlrun.config import ConfigError, key
from rlrun.core import Act, Algorithm, Discrete, Memory, Mode, Rollout, Spec
from rlrun.lazy import torch
from rlrun.registry import register
from rlrun.rng import Stream

if TYPE_CHECKING:
    from torch import Tensor

    from rlrun.config import RunConfig


@dataclass
class UCBConfig:
    c: float = key("weight of the bonus c * sqrt(ln t / n)", min=0)
    step_size: float | None = key("weight of a new reward; null: 1 / n, the sample average", above=0, max=1)
    initial_value: float = key("what arms are worth before their first reward; high is optimistic")

    def problems(self) -> list[str]:
        if self.initial_value and self.step_size is None:
            return [
                f"initial_value is {self.initial_value}: a sample average forgets it at the first reward; "
                "set step_size too"
            ]
        return []

    def conflicts(self, run: RunConfig) -> list[str]:
        found = []
        if run.num_envs > 1:
            found.append(
                f"num_envs is {run.num_envs}: algo=ucb pulls one arm at a time, of one bandit; "
                "use replicas for more bandits"
            )
        reward = run.env.reward
        if (reward.scale, reward.shift, reward.shaping) != (1.0, 0.0, None):
            found.append(
                "env.reward changes the reward, and algo=ucb reports the reward that it learns from: "
                "leave it as it is, and set algo.c instead"
            )
        return found


@register("algo", "ucb", UCBConfig)
class UCB(Algorithm):
    """Pull the arm that may be the best: the mean of its rewards and a bonus for being rarely tried."""

    saved: ClassVar = {"counts": "weights", "means": "weights"}
    obs_kinds = ("discrete",)

    def __init__(self, spec: Spec, config: UCBConfig, model: Any) -> None:
        assert isinstance(spec.action, Discrete)
        if spec.obs != Discrete(1):
            raise ConfigError("algo=ucb plays bandits, which have one state", "use env=bandit")
        self.spec, self.config = spec, config
        shape = (spec.replicas, spec.action.n)
        self.counts = torch.zeros(shape, dtype=torch.int64, device=spec.device)
        self.means = torch.full(
            shape, config.initial_value, dtype=getattr(torch, spec.dtype), device=spec.device
        )

    def act(
        self, obs: Tensor, memory: Memory, first: Tensor, *, step: np.ndarray, mode: Mode, rng: Stream
    ) -> Act:
        if mode != "explore":
            tried = torch.where(self.counts > 0, self.means, -torch.inf)
            return Act(tried.argmax(-1, keepdim=True).expand(obs.shape))
        bounds = self.bounds()
        ties = rng.uniform(self.counts.shape[1])  # [R, K]
        action = torch.where(bounds == bounds.amax(-1, keepdim=True), ties, 0.0).argmax(-1, keepdim=True)
        return Act(action)

    def bounds(self) -> Tensor:
        """The upper confidence bounds [R, K] before the next pull; infinite for untried arms."""
        counts = self.counts.to(self.means.dtype)
        pulls = counts.sum(-1, keepdim=True) + 1.0  # t, counting the pull to come
        bonus = self.config.c * (pulls.log() / counts.clamp(min=1.0)).sqrt()
        return torch.where(counts > 0.0, self.means + bonus, torch.inf)

    def q(self, obs: Tensor, memory: Memory, first: Tensor) -> Tensor:
        """The estimated mean reward of every arm, [R, N, K]."""
        return self.means[:, None].expand(*obs.shape, -1)

    def update(self, rollout: Rollout | None, *, step: np.ndarray) -> dict[str, Tensor]:
        """`train/reward` is the mean reward a step, `loss/error` how far it was from the arm's mean."""
        assert rollout is not None
        action, reward, valid = rollout.action[:, 0], rollout.reward[:, 0], rollout.valid[:, 0]  # [R, 1]
        self.counts.scatter_add_(1, action, valid.long())
        count = self.counts.gather(1, action).clamp(min=1).to(reward.dtype)
        weight = 1.0 / count if self.config.step_size is None else self.config.step_size
        error = reward - self.means.gather(1, action)
        learned = valid & error.isfinite()  # a reward that is no number must not spoil the mean
        self.means.scatter_add_(1, action, torch.where(learned, weight * error, 0.0))
        return {"train/reward": reward[:, 0].clone(), "loss/error": error[:, 0].abs()}
