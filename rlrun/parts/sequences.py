"""Small operations on sequences [R, T, N, ...] that several families of algorithms share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rlrun.core import Memory, Rollout
from rlrun.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


def branch(net: Any, obs: Tensor, memories: Memory, first: Tensor, action: Tensor | None = None) -> Tensor:
    """One step of the network from each of many memories at once: outputs [R, T, N, out].

    obs [R, T, N, ...], memories with leaves [R, T, N, ...], first [R, T, N], and the action
    [R, T, N, A] of a network that judges actions. So what a step would be worth with other
    actions is asked without a second pass over the sequence.
    """
    flat = tuple(leaf.flatten(1, 2) for leaf in memories)
    extra = {} if action is None else {"extra": action.flatten(1, 2)}
    out, _ = net.step(obs.flatten(1, 2), flat, first.flatten(1, 2), **extra)
    return out.view(*first.shape, -1)


def successor(net: Any, batch: Rollout, memories: Memory) -> Tensor:
    """The network's output at next_obs after every step, [R, T, N, out].

    One parallel step from the memory after each step, as `unroll` returns it: this
    bootstraps a truncated episode exactly, where no later row of the sequence could.
    """
    return branch(net, batch.next_obs, memories, torch.zeros_like(batch.first))


def mean_weight(valid: Tensor, dtype: torch.dtype) -> Tensor:
    """Weights [R, T, N] whose product with values sums to their mean over valid steps."""
    weight = valid.to(dtype)
    return weight / weight.sum((1, 2), keepdim=True).clamp_(min=1.0)


def masked_mean(value: Tensor, valid: Tensor) -> Tensor:
    """Mean over everything but R, of valid steps only: [R]."""
    return (value * mean_weight(valid, value.dtype)).sum((1, 2))


def explained_variance(error: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """How much of the targets' variance is accounted for when `error` is left of them: [R], 1 is all of it.

    0 where the targets are all the same.
    """
    left, whole = (
        masked_mean((each - masked_mean(each, valid)[:, None, None]).square(), valid)
        for each in (error, target)
    )
    return torch.where(whole > 1e-8, 1.0 - left / whole, 0.0)


def take_steps(sequence: Tensor, last: Tensor) -> Tensor:
    """sequence [R, L, B, ...] at the time indices `last` [R, S, B]."""
    if sequence.shape[1] == 1:
        return sequence
    index = last.view(*last.shape, *[1] * (sequence.ndim - 3)).expand(*last.shape, *sequence.shape[3:])
    return sequence.gather(1, index)
