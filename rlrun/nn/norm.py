"""Running mean and variance of inputs, per replica.

Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample
variances" (1979): exact for any split of the rows into chunks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rlrun.nn.tape import Tape

CLIP = 10.0
ENOUGH = 10_000  # rows after which the inputs of a policy that learns stay in their units
_ROUNDING = 1e-6  # a deviation below this part of the mean is float32's rounding, and no variation


class RunningNorm(nn.Module):
    """Statistics of the rows seen so far, each replica's of its own; mean 0 and variance 1 before any.

    Buffers `mean` and `var` [R, F] and `count` [R] are float64. `scale` and `shift`
    [R, 1, F] are what `normalise` needs of them, ready in the inputs' type.
    """

    mean: Tensor
    var: Tensor
    count: Tensor
    scale: Tensor
    shift: Tensor

    def __init__(self, replicas: int, size: int, dtype: torch.dtype, device: str = "cpu") -> None:
        super().__init__()
        zeros = torch.zeros(replicas, size, dtype=torch.float64, device=device)
        self.register_buffer("mean", zeros)
        self.register_buffer("var", torch.ones_like(zeros))
        self.register_buffer("count", zeros.new_zeros(replicas))
        self.register_buffer("scale", torch.ones(replicas, 1, size, dtype=dtype, device=device))
        self.register_buffer("shift", torch.zeros(replicas, 1, size, dtype=dtype, device=device))
        self._settled = False  # whether every replica has seen enough; found out anew after a resume

    @torch.no_grad()
    def update(
        self, x: Tensor, valid: Tensor, enough: int | None = None, *, weight: np.ndarray | None = None
    ) -> None:
        """Take in x [R, ..., F] where valid [R, ...] is true; nothing more after `enough` rows of a replica.

        Each row counts as `weight` [R] of them do, if that is given.
        A policy whose inputs change their meaning while it learns has to learn them anew: PPO with
        statistics that go on for ever loses two in five CartPole seeds, and none with 10,000 rows.
        """
        if self._settled:
            return
        xp, (x, valid, *own) = arrays(x, valid, self.mean, self.var, self.count, self.scale, self.shift)
        mean, var, count, scale, shift = own
        replicas, _, size = scale.shape
        valid = valid.reshape(replicas, -1, 1)
        if enough is not None:
            valid = valid & (count < enough)[:, None, None]
        x = xp.where(valid, x.reshape(replicas, -1, size), 0.0) + 0.0 * mean[:, None]  # in float64
        rows = valid.sum(1)  # [R, 1]
        center = x.sum(1) / rows.clip(1)
        off = xp.where(valid, x - center[:, None], 0.0)
        squares = (off * off).sum(1)
        if weight is not None:
            many: Any = weight if xp is np else torch.from_numpy(weight).to(self.mean.device)
            rows, squares = rows * many[:, None], squares * many[:, None]
        seen, delta = count[:, None], center - mean
        total = (seen + rows).clip(1.0)
        squares = seen * var + squares + delta * delta * (seen * rows / total)
        mean[...] = xp.where(rows > 0, mean + delta * (rows / total), mean)
        var[...] = xp.where(rows > 0, squares / total, var)
        count[...] = count + rows[:, 0]
        edge = _ROUNDING * mean
        factor = xp.where(var > edge * edge + 1e-60, var, 1.0) ** -0.5
        scale[...] = factor[:, None]
        shift[...] = (-mean * factor)[:, None]
        if enough is not None:
            self._settled = bool((self.count >= enough).all())

    def normalise(self, x: Tensor) -> Tensor:
        """x [R, rows, F] as (x - mean) / deviation, clipped to +-10."""
        return torch.addcmul(self.shift, x, self.scale).clamp_(-CLIP, CLIP)


def arrays(*tensors: Tensor) -> tuple[Any, list[Any]]:
    """numpy and views of tensors that are all on the CPU, else torch and the tensors themselves.

    For sums that are made at every env step: numpy takes a fifth of PyTorch's time for a few rows. A gradient
    step that is recorded must be PyTorch's alone.
    """
    if Tape.listening or any(each.device.type != "cpu" for each in tensors):
        return torch, list(tensors)
    return np, [each.numpy() for each in tensors]
