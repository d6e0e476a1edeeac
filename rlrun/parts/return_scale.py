"""The unit in which an algorithm learns: rewards of any size become returns of about one.

Dividing rewards by the running deviation of the discounted return is what Engstrom et al. found
behind much of PPO's success ("Implementation matters in deep policy gradients", 2020). Replayed
rewards are scaled when they are learned from, so that old ones move along as the scale does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from rlrun import nn
from rlrun.core import Rollout, Spec
from rlrun.lazy import torch
from rlrun.parts.numbers import number
from rlrun.state import Stateful

if TYPE_CHECKING:
    from torch import Tensor

AUTO = "auto"
_EARLY, _TURNS = 2000, 16  # env steps of which every one counts, and then the rollouts of which one does


class ReturnScale(Stateful):
    """What rewards are multiplied by: a number, or one over the running deviation of the return.

    The mean is not subtracted, so a reward keeps its sign. The return under way in each env
    is carried from rollout to rollout. Of a policy that only acts, what is left is the unit
    of its values: `scale` [R, 1, 1]. A number is saved nowhere: the config has it.
    """

    def __init__(self, spec: Spec, gamma: Any, scale: Any = AUTO) -> None:
        """`gamma` and `scale` as a config has them: numbers, or arrays [R]; `scale` may be "auto"."""
        dtype = getattr(torch, spec.dtype)
        self.fixed = not isinstance(scale, str)
        if self.fixed:
            self._scale = torch.ones(spec.replicas, 1, 1, dtype=dtype, device=spec.device)
            self._scale *= number(scale, spec, 3)
            return
        self.gamma = torch.as_tensor(number(gamma, spec, 3), dtype=dtype, device=spec.device)
        self.running = torch.zeros(spec.replicas, spec.num_envs, dtype=dtype, device=spec.device)
        self.norm = nn.RunningNorm(spec.replicas, 1, dtype, spec.device)
        self._scale = self.norm.scale  # changed in place

    def take_in(self, rollout: Rollout, step: np.ndarray | None = None) -> None:
        """Learn from a rollout's rewards [R, T, N], which follow on those taken in before.

        Where rollouts are a few steps long, `step` [R] saves time: beyond the first 2,000 env steps one
        rollout in sixteen counts, for all of them.
        """
        if self.fixed:
            return
        tensors = rollout.reward, rollout.valid, rollout.first, self.running, self.gamma
        xp, (reward, counts, first, running, gamma) = nn.arrays(*tensors)
        counts = counts & xp.isfinite(reward)  # what is not finite fails a replica elsewhere
        decay, rows, sums = gamma * ~first, xp.empty_like(reward), running
        for t in range(reward.shape[1]):
            sums = xp.where(counts[:, t], reward[:, t] + decay[:, t] * sums, sums)
            rows[:, t] = sums
        running[...] = sums
        weight = None
        if step is not None:
            turn = step // (reward.shape[1] * reward.shape[2]) % _TURNS
            weight = np.where(step < _EARLY, 1, np.where(turn == 0, _TURNS, 0))
            if not weight.any():
                return
        self.norm.update(torch.as_tensor(rows)[..., None], torch.as_tensor(counts), weight=weight)

    @property
    def saved(self) -> Mapping[str, str]:  # type: ignore[override]
        return {} if self.fixed else {"running": "optimizer", "norm": "normalizer"}

    @property
    def scale(self) -> Tensor:
        """What rewards are multiplied by, [R, 1, 1]."""
        return self._scale
