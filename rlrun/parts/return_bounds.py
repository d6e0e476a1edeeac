"""What no return can be beyond: the least and the largest reward so far, earned for ever.

A network that comes to think too much of a few states teaches that to all others. Clipping targets
to what rewards can pay, r / (1 - gamma), ends this; it is how Andrychowicz et al. trained critics
("Hindsight experience replay", 2017, appendix A), there with a task's known rewards.
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

_LEAST = 1e-9  # that a discount factor is below 1: where nothing is discounted nothing is bounded


class ReturnBounds(Stateful):
    """What the rewards so far, earned for ever, come to at least and at most: [R, 1, 1].

    0 is always between the two: an episode may end at any time. As long as no reward has been
    seen nothing is known, and nothing bounded.
    """

    def __init__(self, spec: Spec, gamma: Any, on: bool = True) -> None:
        """`gamma` as a config has it, a number or an array [R]; what is not `on` bounds nothing."""
        self.on = on
        if not on:
            return
        dtype = getattr(torch, spec.dtype)
        unknown = torch.full((spec.replicas, 1, 1), np.inf, dtype=dtype, device=spec.device)
        self.low, self.high = -unknown, unknown
        horizon = number(1.0 / np.maximum(1.0 - gamma, _LEAST), spec, 3)
        self.horizon = torch.as_tensor(horizon, dtype=dtype, device=spec.device)

    @property
    def saved(self) -> Mapping[str, str]:  # type: ignore[override]
        return {"low": "optimizer", "high": "optimizer"} if self.on else {}

    def take_in(self, rollout: Rollout) -> None:
        """Look at the rewards [R, T, N] that count."""
        if not self.on:
            return
        tensors = rollout.reward, rollout.valid, self.low, self.high, self.horizon
        xp, (reward, counts, low, high, horizon) = nn.arrays(*tensors)
        total = reward * horizon
        if xp is np and np.count_nonzero((low <= total) & (total <= high) & (low > -np.inf)) == total.size:
            return  # nothing new, as nearly always
        total = xp.where(counts & xp.isfinite(reward), total, 0.0)
        for bound, pick, new in ((low, xp.minimum, xp.amin), (high, xp.maximum, xp.amax)):
            so_far = xp.where(xp.isinf(bound), 0.0, bound)  # infinite: nothing was known
            bound[...] = pick(so_far, new(total, (1, 2))[:, None, None])

    def clip(self, target: Tensor, scale: Tensor) -> Tensor:
        """Targets [R, ...] of rewards that were multiplied by `scale` [R, 1, 1]."""
        return target.clamp(self.low * scale, self.high * scale) if self.on else target
