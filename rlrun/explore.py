"""Choosing actions at random, each replica from its own stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlrun.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from rlrun.rng import Stream


def epsilon_greedy(greedy: Tensor, n: int, epsilon: Tensor, rng: Stream) -> Tensor:
    """Replace actions [R, N] by uniform ones in 0 .. n - 1 with probability epsilon [R].

    One number decides both: below epsilon, u / epsilon is uniform again.
    """
    u = rng.uniform(greedy.shape[1])
    eps = epsilon.to(u.dtype)[:, None]
    return torch.where(u < eps, (u / eps * n).long().clamp_(max=n - 1), greedy)


def sample_logits(logits: Tensor, rng: Stream) -> Tensor:
    """Sample [R, N] from softmax(logits [R, N, A]) by the Gumbel trick: a NaN stays in its row."""
    return (logits + rng.gumbel(*logits.shape[1:])).argmax(-1)
