"""Tabular temporal differences (Sutton and Barto, "Reinforcement Learning", 2018, chapters 6 and 7).

One class, for they differ in what a step is worth after its rewards: SARSA takes the value of
the action that comes next (Rummery and Niranjan, "On-line Q-learning using connectionist
systems", 1994), expected SARSA the mean over the policy (van Seijen et al., "A theoretical
and empirical analysis of expected Sarsa", 2009), and Q-learning the best (Watkins, "Learning
from delayed rewards", 1989). Any of them takes several steps' rewards, and two tables
(van Hasselt, "Double Q-learning", 2010).

A table of a few hundred numbers gains nothing from a GPU and little from torch: an update
is a dozen NumPy operations on views of the tensors that make up the state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rlrun.config import key
from rlrun.core import Act, Algorithm, Memory, Mode, Rollout, Spec
from rlrun.lazy import torch
from rlrun.parts.explore import EpsilonConfig
from rlrun.parts.numbers import column, number
from rlrun.parts.schedules import schedule
from rlrun.registry import register
from rlrun.rng import Stream
from rlrun.spaces import Discrete

if TYPE_CHECKING:
    from torch import Tensor

    from rlrun.config.run import RunConfig


@dataclass
class TDConfig:
    gamma: float = key("discount factor", min=0, max=1, per_replica=True)
    learning_rate: float = key("step size (alpha) at the start", above=0, max=1, per_replica=True)
    lr_schedule: str = key("how the step size falls to 0 over the run", choices=("linear", "constant"))
    initial_value: float = key("action values before learning; high ones are optimistic", per_replica=True)
    target: str = key(
        "what a successor is worth: the action taken there, the policy's mean, or the best action",
        choices=("sarsa", "expected_sarsa", "q_learning"),
    )
    double: bool = key("two tables: one chooses the successor's action, the other values it")
    n_step: int = key("rewards before the successor that is bootstrapped from", min=1, max=10_000)
    epsilon: EpsilonConfig = key("random actions while training")

    def conflicts(self, run: RunConfig) -> list[str]:
        """All envs may correct one entry at once: with a total step of 2 or more that diverges."""
        if self.learning_rate * run.num_envs < 2:
            return []
        return [
            f"algo.learning_rate is {self.learning_rate}: times num_envs ({run.num_envs}) it must be below 2,"
            " for all envs may correct one entry at once"
        ]


@register("algo", "td", TDConfig)
class TD(Algorithm):
    """Move the value of what was done n steps ago towards its rewards and the value of where they led.

    With SARSA's target a step waits for the action after its n-th reward, which is that of
    the next collect. At an episode's end all that waits is learned from at once, with the
    rewards that there were: nothing is worth anything beyond a termination, and where the
    clock ended it the policy's value stands in (SARSA's has no next action: its mean).
    """

    family = "temporal difference"
    takes_masks = True
    saved: ClassVar = {"table": "weights", "pending": "replay", "pending_reward": "replay", "coins": "random"}
    obs_kinds = ("discrete",)

    def __init__(self, spec: Spec, config: TDConfig, model: Any) -> None:
        assert isinstance(spec.obs, Discrete) and isinstance(spec.action, Discrete)
        self.spec, self.config = spec, config
        self.states, self.actions, self.tables = spec.obs.n, spec.action.n, 1 + config.double
        dtype = getattr(torch, spec.dtype)
        shape = (spec.replicas, self.tables, self.states, self.actions)
        self.table = torch.zeros(shape, dtype=dtype) + number(config.initial_value, spec, 4)
        # The last n steps, the newest last, as obs * A + action; -1 where there is none.
        waiting = (spec.replicas, spec.num_envs, config.n_step)
        self.pending = torch.full(waiting, -1, dtype=torch.int64)
        self.pending_reward = torch.zeros(waiting, dtype=dtype)
        self.coins = Stream(spec.seeds, "double")  # which of two tables learns
        # NumPy's views of them, with the first cell and the first row of each replica.
        self._cells = self.table.numpy().reshape(-1)  # [R * K * S * A]
        self._rows = self.table.numpy().reshape(-1, self.actions)  # [R * K * S, A]
        self._pending, self._reward = self.pending.numpy(), self.pending_reward.numpy()
        first = np.arange(spec.replicas)[:, None] * self.tables * self.states
        self._first_row, self._first_cell = first, first * self.actions
        self._powers = column(config.gamma, 3) ** np.arange(config.n_step + 1)  # [n + 1], or [R, 1, n + 1]
        epsilon = config.epsilon
        self.epsilon = schedule(epsilon.kind, epsilon.start, epsilon.end, epsilon.fraction * spec.total_steps)
        self.learning_rate = schedule(config.lr_schedule, config.learning_rate, 0.0, spec.total_steps)

    def act(
        self,
        obs: Tensor,
        memory: Memory,
        first: Tensor,
        *,
        step: np.ndarray,
        mode: Mode,
        rng: Stream,
        mask: Tensor | None = None,
    ) -> Act:
        q = self.lookup(_array(obs)).sum(2)  # [R, N, A]
        may = _array(mask) if mask is not None else True
        q = _allowed(q, may)
        if mode != "explore":
            return Act(torch.from_numpy(q.argmax(-1)))
        # With probability epsilon all actions are candidates, else the greedy ones.
        u = rng.numbers(obs.shape[1], self.actions + 1)
        explore = u[..., :1] < self.epsilon(step)[:, None, None]
        candidate = ((q == q.max(-1, keepdims=True)) | explore) & may
        return Act(torch.from_numpy((candidate * u[..., 1:]).argmax(-1)))

    def q(self, obs: Tensor, memory: Memory, first: Tensor) -> Tensor:
        """Action values [R, N, A], the mean of two tables."""
        return torch.from_numpy(self.lookup(_array(obs)).mean(2))

    def schedules(self, step: np.ndarray) -> dict[str, np.ndarray]:
        return {"train/epsilon": self.epsilon(step)}

    def lookup(self, obs: np.ndarray) -> np.ndarray:
        """The tables' rows [R, N, K, A] of obs [R, N]."""
        return self._rows[(self._first_row + obs)[..., None] + np.arange(self.tables) * self.states]

    def value(
        self, obs: np.ndarray, learner: np.ndarray, step: np.ndarray, may: np.ndarray | bool = True
    ) -> np.ndarray:
        """What a successor obs [R, N] is worth to the tables `learner` that learn from it, [R, N].

        `may` [R, N, A] says which actions are allowed there.
        """
        q = self.lookup(obs)
        index = learner[..., None, None]
        chooser = np.take_along_axis(q, index, 2)[:, :, 0]  # [R, N, A]
        judge = np.take_along_axis(q, self.tables - 1 - index, 2)[:, :, 0]
        best = np.take_along_axis(judge, _allowed(chooser, may).argmax(-1)[..., None], -1)[..., 0]
        if self.config.target == "q_learning":
            return best
        epsilon = self.epsilon(step)[:, None]
        return (1.0 - epsilon) * best + epsilon * judge.mean(-1, where=may)

    def update(self, rollout: Rollout, *, step: np.ndarray) -> dict[str, Tensor]:
        """`loss/td` is the mean size of the errors, one a step."""
        names = ("obs", "action", "reward", "terminated", "truncated", "valid", "next_obs")
        obs, action, reward, terminated, truncated, valid, next_obs = (
            _array(getattr(rollout, name))[:, 0] for name in names
        )
        pair = obs * self.actions + action
        learner = self.toss(pair.shape[1])
        error = np.zeros(pair.shape)
        waits = self.config.target == "sarsa"
        if waits:
            judge = self.tables - 1 - learner
            taken = self._cells[self._first_cell + judge * self.states * self.actions + pair]
            error += self._learn(0, taken, learner, valid, step)
        np.copyto(self._pending, _shifted(self._pending, pair), where=valid[..., None])
        np.copyto(self._reward, _shifted(self._reward, reward), where=valid[..., None])
        done = (terminated | truncated) & valid
        due = done if waits else valid
        if due.any():  # elsewhere this adds nothing, to the bit
            may = True if rollout.next_mask is None else _array(rollout.next_mask)[:, 0]
            after = np.where(terminated, 0.0, self.value(next_obs, learner, step, may))
            for age in range(self.config.n_step if done.any() else 1):
                error += self._learn(age, after, learner, due, step)
                due = done
            self._pending[done] = -1
        return {"loss/td": torch.from_numpy(error.mean(1)).to(self.spec.device)}

    def toss(self, *shape: int) -> np.ndarray:
        """Which table learns, [R, *shape]: drawn where there are two."""
        if self.tables == 1:
            return np.zeros((self.spec.replicas, *shape), np.int64)
        return (self.coins.numbers(*shape) * 2).astype(np.int64)

    def _learn(
        self, age: int, after: np.ndarray, learner: np.ndarray, mask: np.ndarray, step: np.ndarray
    ) -> np.ndarray:
        """Learn from what waits at `age` (0 is the oldest), where there is something; |error| [R, N]."""
        pair, rewards = self._pending[..., age], self._reward[..., age:]
        n = rewards.shape[-1]
        target = (rewards * self._powers[..., :n]).sum(-1) + self._powers[..., n] * after
        return self.correct(pair, target, learner, mask & (pair >= 0), step)

    def correct(
        self, pair: np.ndarray, target: np.ndarray, learner: np.ndarray, mask: np.ndarray, step: np.ndarray
    ) -> np.ndarray:
        """Move the learning tables' entries of `pair` towards the target, all [R, N]; |error|.

        Where several envs correct one entry, their corrections add up.
        """
        cell = self._first_cell + learner * self.states * self.actions + pair
        error = np.where(mask, target - self._cells[cell], 0.0)
        # NaN is reported, never stored
        change = np.where(np.isfinite(error), self.learning_rate(step)[:, None] * error, 0.0)
        np.add.at(self._cells, cell, change.astype(self._cells.dtype, copy=False))
        return np.abs(error)


def _allowed(q: np.ndarray, may: np.ndarray | bool) -> np.ndarray:
    """Action values [..., A], without those that are not allowed."""
    return q if may is True else np.where(may, q, -np.inf)


def _shifted(waiting: np.ndarray, newest: np.ndarray) -> np.ndarray:
    """What waits, [R, N, n], without its oldest and with `newest` [R, N]."""
    return np.concatenate([waiting[..., 1:], newest[..., None]], -1)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.cpu().numpy()
