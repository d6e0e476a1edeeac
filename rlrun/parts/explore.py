"""Choosing actions: the best ones, and at random, each replica from its own stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rlrun.config import key
from rlrun.lazy import torch
from rlrun.parts.masks import nth

if TYPE_CHECKING:
    from torch import Tensor

    from rlrun.rng import Stream


@dataclass
class EpsilonConfig:
    kind: str = key("how epsilon falls", choices=("linear", "exponential", "constant"))
    start: float = key("probability of a random action at step 0", above=0, max=1, per_replica=True)
    end: float = key("probability at the end of the fall and after", min=0, max=1, per_replica=True)
    fraction: float = key("share of the run over which it falls", min=0, max=1, per_replica=True)


def best(q: Tensor) -> Tensor:
    """Which actions are as good as any, bool like q [..., A]; rounding errors make no difference."""
    top = q.amax(-1, keepdim=True)
    tolerance = 1e-8 if q.dtype == torch.float64 else 1e-6
    return q >= top - tolerance * top.abs().clamp(min=1.0)


def epsilon_greedy(
    greedy: Tensor, n: int, epsilon: np.ndarray, rng: Stream, mask: Tensor | None = None
) -> Tensor:
    """Replace actions [R, N] by uniform ones in 0 .. n - 1 with probability epsilon [R].

    One number decides both: below epsilon, u / epsilon is uniform again. With a mask [R, N, n]
    they are uniform over what it allows.
    """
    u = rng.numbers(greedy.shape[1])
    at_random = u < epsilon[:, None]
    if not np.count_nonzero(at_random):  # several times as fast as at_random.any()
        return greedy
    count = n if mask is None else mask.sum(-1).cpu().numpy()
    with np.errstate(divide="ignore"):  # epsilon may be 0: then nothing is chosen at random
        uniform = np.minimum(u / epsilon[:, None] * count, count - 1).astype(np.int64)
    if mask is not None:
        uniform = nth(mask.cpu().numpy(), uniform)
    return torch.from_numpy(np.where(at_random, uniform, greedy.cpu().numpy())).to(greedy.device)


def sample_logits(logits: Tensor, rng: Stream) -> Tensor:
    """Sample [R, N] from softmax(logits [R, N, A]) by the Gumbel trick: a NaN stays in its row."""
    return (logits + rng.gumbel(*logits.shape[1:])).argmax(-1)
