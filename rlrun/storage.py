"""One replay buffer of sequences: a transition is length 1, n-step length n, recurrent length L.

A ring of rows, each row one time step of N envs for R replicas. Sequences are drawn
uniformly over (start row, env) and never cross the write head; they may span an episode's
end, where `first` clears memory and n-step returns stop.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rlrun.core import Rollout
from rlrun.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from rlrun.rng import Stream

_FIELDS = ("obs", "action", "reward", "terminated", "truncated", "next_obs", "first", "valid")


class Replay:
    """Uniform replay for R replicas; sampling returns a `Rollout` of [R, L, B, ...].

    Fields of one dtype share one ring [R, rows, N, columns], so that sampling is a gather
    per dtype, not one per field.
    """

    def __init__(self, capacity: int, num_envs: int) -> None:
        """`capacity` is in env steps per replica; whole rows of `num_envs` are kept."""
        self.rows = max(capacity // num_envs, 1)
        self.num_envs = num_envs
        self.size = 0  # rows filled
        self.head = 0  # next row to write
        self._rings: dict[torch.dtype, Tensor] = {}
        self._fields: dict[str, tuple[torch.dtype, slice, torch.Size]] = {}  # where each stands
        self._views: dict[str, Tensor] = {}  # each field's part of its ring, [R, rows, N, ...]

    def __len__(self) -> int:
        """Env steps stored per replica."""
        return self.size * self.num_envs

    def add(self, rollout: Rollout) -> None:
        """Copy T rows in, over the oldest ones when full."""
        values = _values(rollout)
        steps = rollout.reward.shape[1]
        if not self._rings:
            self._allocate(values)
        if steps > self.rows:
            values = {name: value[:, -self.rows :] for name, value in values.items()}
            steps = self.rows
        until_wrap = min(steps, self.rows - self.head)
        for name, value in values.items():
            ring = self._views[name]
            if until_wrap == steps:
                ring[:, self.head : self.head + steps] = value
            else:
                ring[:, self.head :] = value[:, :until_wrap]
                ring[:, : steps - until_wrap] = value[:, until_wrap:]
        self.head = (self.head + steps) % self.rows
        self.size = min(self.size + steps, self.rows)

    def _allocate(self, values: Mapping[str, Tensor]) -> None:
        widths: dict[torch.dtype, int] = {}
        for name, value in values.items():
            begin = widths.get(value.dtype, 0)
            widths[value.dtype] = begin + value.shape[3:].numel()
            self._fields[name] = value.dtype, slice(begin, widths[value.dtype]), value.shape[3:]
        replicas, _, envs = values["reward"].shape
        device = values["reward"].device
        self._rings = {
            dtype: torch.zeros((replicas, self.rows, envs, width), dtype=dtype, device=device)
            for dtype, width in widths.items()
        }
        for name, (dtype, columns, shape) in self._fields.items():
            part = self._rings[dtype][..., columns]
            self._views[name] = part.unflatten(-1, shape) if shape else part.squeeze(-1)
        self._offset = torch.arange(replicas, device=device).view(-1, 1, 1) * (self.rows * envs)

    def sample(self, batch_size: int, length: int, rng: Stream) -> Rollout:
        """B sequences of `length` consecutive rows per replica, [R, L, B, ...].

        `memory` is the stored state before step 0 where `extras` hold "memory.0", ...
        """
        envs, starts = self.num_envs, self.size - length + 1
        oldest = self.head if self.size == self.rows else 0
        begin = rng.integers(starts * envs, 1, batch_size) + oldest * envs  # cell of the first row
        if length > 1:
            begin = begin + torch.arange(length, device=begin.device)[:, None] * envs
        cells = (begin % (self.rows * envs) + self._offset).view(-1)
        lead = (len(self._offset), length, batch_size)
        taken = {
            dtype: ring.view(-1, ring.shape[3]).index_select(0, cells) for dtype, ring in self._rings.items()
        }
        fields: dict[str, Any] = {
            name: taken[dtype][:, columns].view(*lead, *shape)
            for name, (dtype, columns, shape) in self._fields.items()
        }
        extras = {name[7:]: fields.pop(name) for name in self._fields if name.startswith("extras.")}
        leaves = sum(name.startswith("memory.") for name in extras)
        memory = tuple(extras.pop(f"memory.{i}")[:, 0] for i in range(leaves))
        return Rollout(**fields, memory=memory, extras=extras)

    def state(self) -> dict[str, Tensor]:
        """The filled rows and the cursor; every leaf [R, ...]."""
        if not self._rings:
            return {}
        cursor = torch.tensor([[self.size, self.head]]).repeat(len(self._offset), 1)
        return {"cursor": cursor} | {name: view[:, : self.size] for name, view in self._views.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self._rings, self._fields, self._views, self.size, self.head = {}, {}, {}, 0, 0
        if not state:
            return
        rows = {name: value for name, value in state.items() if name != "cursor"}
        self._allocate(rows)
        self.size, self.head = state["cursor"][0].tolist()
        for name, value in rows.items():
            self._views[name][:, : self.size] = value


def _values(rollout: Rollout) -> dict[str, Tensor]:
    return {name: getattr(rollout, name) for name in _FIELDS} | {
        f"extras.{name}": value for name, value in rollout.extras.items()
    }
