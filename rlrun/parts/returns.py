"""Returns and advantages: pure functions of rollouts, axes [R, T, ...], no state.

`ended` is terminated or truncated: nothing flows across it. `discount` is data, never a
flag: gamma to the power of the steps taken, and 0 where the task terminated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from rlrun.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

Gamma: TypeAlias = "float | Tensor"  # one for all replicas, or float64 [R]


def n_step(
    reward: Tensor, terminated: Tensor, truncated: Tensor, gamma: Gamma, n: int, starts: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """n-step returns without their bootstrap (Watkins 1989; Sutton and Barto 2018, 7.1):

        total_t = r_t + gamma r_{t+1} + ... + gamma^{m-1} r_{t+m-1},    discount_t = gamma^m

    with m = n where the episode goes on for so long, and discount 0 where the task ended.
    A window stops at the episode's end and at the end of the sequence, whichever is first,
    so late positions use fewer steps. The target is `total + discount * v(next_obs[last])`.

    Args:
        reward, terminated, truncated: [R, T, ...]; starts: first positions that are wanted.
    Returns:
        total, discount, last: [R, starts, ...]; `last` is the time index (int64) of the
        window's final step.
    """
    length = reward.shape[1]
    starts = length if starts is None else starts
    total = reward[:, :starts]
    time = torch.arange(starts, device=reward.device).view(-1, *[1] * (reward.ndim - 2))
    last = time.expand(total.shape)
    discount = torch.ones_like(total) * _factor(gamma, total)
    n = min(n, length)
    if n == 1:
        return total, discount * ~terminated[:, :starts], last
    padded = reward.new_zeros(reward.shape[0], length + n, *reward.shape[2:])
    goes_on = torch.zeros_like(padded, dtype=torch.bool)  # whether a window may pass this step
    padded[:, :length] = reward
    goes_on[:, : length - 1] = ~(terminated | truncated)[:, :-1]
    alive = goes_on[:, :starts]  # whether a window reaches step k
    for k in range(1, n):
        total = total + _factor(gamma**k, total) * (alive * padded[:, k : k + starts])
        discount = torch.where(alive, _factor(gamma ** (k + 1), total), discount)
        last = last + alive
        alive = alive & goes_on[:, k : k + starts]
    return total, discount * ~terminated.gather(1, last), last


def _factor(gamma: Gamma, like: Tensor) -> Any:
    """What `like` [R, ...] may be multiplied by."""
    return gamma.to(like.dtype).view(-1, *[1] * (like.ndim - 1)) if isinstance(gamma, torch.Tensor) else gamma


def gae(
    reward: Tensor,
    value: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    ended: Tensor,
    gamma: Gamma,
    gae_lambda: Gamma,
) -> Tensor:
    """Generalised advantage estimation (Schulman et al. 2016), all [R, T, N]:

        delta_t     = r_t + gamma v(next_obs_t) (1 - terminated_t) - v(obs_t)
        advantage_t = delta_t + gamma lambda (1 - ended_t) advantage_{t+1}

    `next_value` is the value of the true successor, so that a truncated step bootstraps
    from where the clock stopped it and a terminated one from nothing.
    """
    delta = reward + _factor(gamma, reward) * next_value * ~terminated - value
    decay = _factor(gamma * gae_lambda, delta) * (~ended).to(delta.dtype)
    advantage = torch.empty_like(delta)
    running = torch.zeros_like(delta[:, 0])
    for t in range(delta.shape[1] - 1, -1, -1):
        running = torch.addcmul(delta[:, t], decay[:, t], running, out=advantage[:, t])
    return advantage


def discounted(reward: Tensor, ended: Tensor, gamma: Gamma) -> Tensor:
    """Rewards to go within each episode, [R, T, N]: no bootstrap (Williams 1992):

    total_t = r_t + gamma (1 - ended_t) total_{t+1}
    """
    zero = torch.zeros_like(reward)
    return gae(reward, zero, zero, ended, ended, gamma, 1.0)
