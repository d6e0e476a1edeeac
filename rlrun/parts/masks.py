"""What may be done where an env forbids some actions (Huang and Ontanon, "A closer look at invalid
action masking in policy gradient algorithms", 2022).

A mask is bool [..., A], true where an action is allowed; without one all are. What is not
allowed is worth the least that a number can be: no maximum takes it, a softmax gives it 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rlrun.lazy import torch
from rlrun.parts.sequences import take_steps

if TYPE_CHECKING:
    from torch import Tensor

    from rlrun.core import Rollout


def allowed(values: Tensor, mask: Tensor | None) -> Tensor:
    """Action values or logits [..., A], the least number where the mask [..., A] forbids an action."""
    return values if mask is None else values.masked_fill(~mask, torch.finfo(values.dtype).min)


def allowed_after(values: Tensor, batch: Rollout, last: Tensor) -> Tensor:
    """The same of values [R, S, B, A] at what follows the steps `last` [R, S, B] of a batch."""
    return values if batch.next_mask is None else allowed(values, take_steps(batch.next_mask, last))


def pick(mask: np.ndarray, choices: tuple[int, ...], share: np.ndarray) -> np.ndarray:
    """Actions int64 [rows, integers] that a mask [rows, A] allows, by how far each lies along those that it
    does, `share` [rows, integers] in [0, 1)."""
    parts = np.split(mask, np.cumsum(choices)[:-1], -1)
    columns = zip(parts, share.T, strict=True)
    return np.stack([nth(part, (u * part.sum(-1)).astype(np.int64)) for part, u in columns], -1)


def nth(mask: Any, n: Any) -> Any:
    """The n-th of the allowed actions, from 0: mask [..., A], n [...] -> int64 [...], arrays or tensors."""
    return (mask.cumsum(-1) <= n[..., None]).sum(-1)
