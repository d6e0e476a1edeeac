"""One replay buffer of sequences: a transition is length 1, n-step length n, recurrent length L.

A ring of rows, each row one time step of N envs for R replicas. Sequences are drawn
uniformly over (start row, env) and never cross the write head; they may span an episode's
end, where `first` clears memory and n-step returns stop.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rlrun.core import Rollout
from rlrun.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from rlrun.rng import Stream

_FIELDS = ("obs", "action", "reward", "terminated", "truncated", "next_obs", "first", "valid")


class Replay:
    """Uniform replay for R replicas; sampling returns a `Rollout` of [R, L, B, ...]."""

    def __init__(self, capacity: int, num_envs: int) -> None:
        """`capacity` is in env steps per replica; whole rows of `num_envs` are kept."""
        self.rows = max(capacity // num_envs, 1)
        self.num_envs = num_envs
        self.size = 0  # rows filled
        self.head = 0  # next row to write
        self._data: dict[str, Tensor] = {}

    def __len__(self) -> int:
        """Env steps stored per replica."""
        return self.size * self.num_envs

    def add(self, rollout: Rollout) -> None:
        """Copy T rows in, over the oldest ones when full."""
        values = {name: getattr(rollout, name) for name in _FIELDS} | {
            f"extras.{name}": value for name, value in rollout.extras.items()
        }
        steps = rollout.reward.shape[1]
        if not self._data:
            self._allocate(values)
        if steps > self.rows:
            values = {name: value[:, -self.rows :] for name, value in values.items()}
            steps = self.rows
        until_wrap = min(steps, self.rows - self.head)
        for name, value in values.items():
            ring = self._data[name]
            ring[:, self.head : self.head + until_wrap] = value[:, :until_wrap]
            if until_wrap < steps:
                ring[:, : steps - until_wrap] = value[:, until_wrap:]
        self.head = (self.head + steps) % self.rows
        self.size = min(self.size + steps, self.rows)

    def _allocate(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            shape = (value.shape[0], self.rows, *value.shape[2:])
            self._data[name] = torch.zeros(shape, dtype=value.dtype, device=value.device)
        replicas, _, envs = values["reward"].shape
        device = values["reward"].device
        self._offset = torch.arange(replicas, device=device).view(-1, 1, 1) * (self.rows * envs)

    def sample(self, batch_size: int, length: int, rng: Stream) -> Rollout:
        """B sequences of `length` consecutive rows per replica, [R, L, B, ...].

        `memory` is the stored state before step 0 where `extras` hold "memory.0", ...
        """
        starts = self.size - length + 1
        choice = rng.integers(starts * self.num_envs, batch_size)  # [R, B]
        row, env = choice // self.num_envs, choice % self.num_envs
        oldest = self.head if self.size == self.rows else 0
        time = torch.arange(oldest, oldest + length, device=choice.device)
        index = (row[:, None, :] + time[:, None]) % self.rows  # [R, L, B]
        flat = (index * self.num_envs + env[:, None, :] + self._offset).view(-1)
        shape = (choice.shape[0], length, batch_size)
        taken = {
            name: ring.view(-1, *ring.shape[3:]).index_select(0, flat).view(*shape, *ring.shape[3:])
            for name, ring in self._data.items()
        }
        extras = {name[7:]: taken.pop(name) for name in list(taken) if name.startswith("extras.")}
        memory = tuple(
            extras.pop(f"memory.{i}")[:, 0] for i in range(sum("memory." in name for name in extras))
        )
        return Rollout(**taken, memory=memory, extras=extras)

    def state(self) -> dict[str, Tensor]:
        """The filled rows and the cursor; every leaf [R, ...]."""
        if not self._data:
            return {}
        replicas = self._offset.shape[0]
        cursor = torch.tensor([[self.size, self.head]]).repeat(replicas, 1)
        return {"cursor": cursor} | {name: ring[:, : self.size] for name, ring in self._data.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        if not state:
            self._data, self.size, self.head = {}, 0, 0
            return
        self.size, self.head = state["cursor"][0].tolist()
        values = {name: value for name, value in state.items() if name != "cursor"}
        if not self._data:
            self._allocate(values)
        for name, value in values.items():
            self._data[name][:, : self.size] = value
