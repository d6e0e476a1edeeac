"""Tabular temporal differences, on-policy: SARSA (Rummery and Niranjan, "On-line Q-learning
using connectionist systems", 1994; Sutton and Barto, "Reinforcement Learning", 2018, 6.4).

A table of a few hundred numbers gains nothing from a GPU and little from torch: an update
is a dozen NumPy operations on views of the tensors that make up the state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rlrun.config import key
from rlrun.core import Act, Algorithm, Discrete, Memory, Mode, Rollout, Spec
from rlrun.explore import EpsilonConfig
from rlrun.lazy import torch
from rlrun.registry import register
from rlrun.rng import Stream
from rlrun.schedules import schedule

if TYPE_CHECKING:
    from torch import Tensor

    from rlrun.config import RunConfig


@dataclass
class SARSAConfig:
    gamma: float = key("discount factor", min=0, max=1)
    learning_rate: float = key("step size (alpha) at the start", above=0, max=1)
    lr_schedule: str = key("how the step size falls to 0 over the run", choices=("linear", "constant"))
    initial_value: float = key("action values before learning; high ones are optimistic")
    epsilon: EpsilonConfig = key("random actions while training")

    def conflicts(self, run: RunConfig) -> list[str]:
        """All envs may correct one entry at once: with a total step of 2 or more that diverges."""
        if self.learning_rate * run.num_envs < 2:
            return []
        return [
            f"algo.learning_rate is {self.learning_rate}: times num_envs ({run.num_envs}) it must be below 2,"
            " for all envs may correct one entry at once"
        ]


@register("algo", "sarsa", SARSAConfig)
class SARSA(Algorithm):
    """Learn the values of the epsilon-greedy policy that acts, one step late.

    The action at t is the a' of the step before, so that step waits until the next
    collect. A step that ends an episode is learned from at once: it has no a'. Where the
    clock ended it, the expected value under the policy stands in.
    """

    saved: ClassVar = {"table": "weights", "pending": "replay", "pending_reward": "replay"}
    obs_kinds = ("discrete",)

    def __init__(self, spec: Spec, config: SARSAConfig, model: Any) -> None:
        assert isinstance(spec.obs, Discrete) and isinstance(spec.action, Discrete)
        self.spec, self.config = spec, config
        self.states, self.actions = spec.obs.n, spec.action.n
        dtype = getattr(torch, spec.dtype)
        self.table = torch.full((spec.replicas, self.states, self.actions), config.initial_value, dtype=dtype)
        # The step that waits, as obs * A + action; -1 where none does.
        self.pending = torch.full((spec.replicas, spec.num_envs), -1, dtype=torch.int64)
        self.pending_reward = torch.zeros((spec.replicas, spec.num_envs), dtype=dtype)
        # NumPy's views of them, with the first cell and the first row of each replica.
        self._cells = self.table.numpy().reshape(-1)  # [R * S * A]
        self._rows = self.table.numpy().reshape(-1, self.actions)  # [R * S, A]
        self._pending, self._reward = self.pending.numpy(), self.pending_reward.numpy()
        replica = np.arange(spec.replicas)[:, None]
        self._first_row, self._first_cell = (replica * n for n in (self.states, self.states * self.actions))
        epsilon = config.epsilon
        self.epsilon = schedule(epsilon.kind, epsilon.start, epsilon.end, epsilon.fraction * spec.total_steps)
        self.learning_rate = schedule(config.lr_schedule, config.learning_rate, 0.0, spec.total_steps)

    def act(
        self, obs: Tensor, memory: Memory, first: Tensor, *, step: np.ndarray, mode: Mode, rng: Stream
    ) -> Act:
        q = self.lookup(_array(obs))
        if mode != "explore":
            return Act(torch.from_numpy(q.argmax(-1)))
        # With probability epsilon all actions are candidates, else the greedy ones.
        u = rng.numbers(obs.shape[1], self.actions + 1)
        explore = u[..., :1] < self.epsilon(step)[:, None, None]
        candidate = (q == q.max(-1, keepdims=True)) | explore
        return Act(torch.from_numpy((candidate * u[..., 1:]).argmax(-1)))

    def q(self, obs: Tensor, memory: Memory, first: Tensor) -> Tensor:
        """Action values [R, N, A]."""
        return torch.from_numpy(self.lookup(_array(obs)))

    def lookup(self, obs: np.ndarray) -> np.ndarray:
        """The table's rows [R, N, A] of obs [R, N]."""
        return self._rows[self._first_row + obs]

    def expected_value(self, obs: np.ndarray, step: np.ndarray) -> np.ndarray:
        """What the epsilon-greedy policy is worth at obs [R, N] by the table, [R, N]."""
        q, epsilon = self.lookup(obs), self.epsilon(step)[:, None]
        return (1.0 - epsilon) * q.max(-1) + epsilon * q.mean(-1)

    def update(self, rollout: Rollout | None, *, step: np.ndarray) -> dict[str, Tensor]:
        """`loss/td` is the mean size of the errors, one a step."""
        assert rollout is not None
        names = ("obs", "action", "reward", "terminated", "truncated", "valid")
        obs, action, reward, terminated, truncated, valid = (
            _array(getattr(rollout, name))[:, 0] for name in names
        )
        alpha = self.learning_rate(step)[:, None]
        pair = obs * self.actions + action
        next_value = self._cells[self._first_cell + pair]
        waiting = (self._pending >= 0) & valid
        error = self._learn(self._pending, self._reward, next_value, waiting, alpha)
        done = (terminated | truncated) & valid
        if done.any():  # elsewhere this adds nothing, to the bit
            expected = self.expected_value(_array(rollout.next_obs)[:, 0], step)
            error += self._learn(pair, reward, np.where(terminated, 0.0, expected), done, alpha)
        np.copyto(self._pending, np.where(done, -1, pair), where=valid)
        np.copyto(self._reward, reward, where=valid)
        return {"loss/td": torch.from_numpy(error.mean(1)).to(self.spec.device)}

    def _learn(
        self,
        pair: np.ndarray,
        reward: np.ndarray,
        next_value: np.ndarray,
        mask: np.ndarray,
        alpha: np.ndarray,
    ) -> np.ndarray:
        """Move the entries of `pair` towards reward + gamma * next_value, all [R, N]; |error|.

        Where several envs correct one entry, their corrections add up.
        """
        cell = self._first_cell + pair
        target = reward + self.config.gamma * next_value
        error = np.where(mask, target - self._cells[cell], 0.0)
        change = np.where(np.isfinite(error), alpha * error, 0.0)  # NaN is reported, never stored
        np.add.at(self._cells, cell, change.astype(self._cells.dtype, copy=False))
        return np.abs(error)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.cpu().numpy()
