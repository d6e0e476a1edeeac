"""One replay buffer of sequences: a transition is length 1, n-step length n, recurrent length L.

A ring of rows, each row one time step of N envs for R replicas. Sequences are drawn over
(start row, env), uniformly here, and never cross the write head; they may span an episode's end,
where `first` clears memory and n-step returns stop.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rlrun.core import Rollout
from rlrun.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from rlrun.rng import Stream


class Draw(NamedTuple):
    """Which stored steps make up a minibatch, and what is to be known of the choice."""

    cells: Tensor  # int64 [R, L, B]
    info: Mapping[str, Tensor] = {}  # [R, B]


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
        self._rings: dict[torch.dtype, Tensor] = {}  # [R * rows * N, columns]
        self._shapes: dict[torch.dtype, dict[str, torch.Size]] = {}  # the fields of each, in order
        self._widths: dict[torch.dtype, list[int]] = {}  # the columns of each of these fields
        self._views: dict[str, Tensor] = {}  # each field's part of its ring, [R, rows, N, ...]
        self._rows: dict[str, Any] = {}  # the same to write to, as arrays where they are on the CPU
        self._on_cpu = True

    def __len__(self) -> int:
        """Env steps stored per replica."""
        return self.size * self.num_envs

    def filled(self, step: np.ndarray) -> np.ndarray:
        """How many transitions each replica [R] has in it, for who watches."""
        return np.full(step.shape, float(len(self)))

    def step_size(self, rollout: Rollout) -> int:
        """Bytes of one env step, such as those of a rollout."""
        return sum(value.shape[3:].numel() * value.element_size() for value in _values(rollout).values())

    def add(self, rollout: Rollout) -> None:
        """Copy T rows in, over the oldest ones when full."""
        values: dict[str, Any] = _values(rollout)
        steps = rollout.reward.shape[1]
        if not self._rings:
            self._allocate(values)
        if self._on_cpu:  # where NumPy is twice as quick to copy a few rows
            values = {name: value.detach().numpy() for name, value in values.items()}
        if steps > self.rows:
            values = {name: value[:, -self.rows :] for name, value in values.items()}
            steps = self.rows
        until_wrap = min(steps, self.rows - self.head)
        for name, value in values.items():
            ring = self._rows[name]
            if until_wrap == steps:
                ring[:, self.head : self.head + steps] = value
            else:
                ring[:, self.head :] = value[:, :until_wrap]
                ring[:, : steps - until_wrap] = value[:, until_wrap:]
        self.head = (self.head + steps) % self.rows
        self.size = min(self.size + steps, self.rows)

    def _allocate(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            self._shapes.setdefault(value.dtype, {})[name] = value.shape[3:]
            self._widths.setdefault(value.dtype, []).append(value.shape[3:].numel())
        replicas, _, envs = values["reward"].shape
        device = values["reward"].device
        for dtype, widths in self._widths.items():
            ring = torch.zeros((replicas, self.rows, envs, sum(widths)), dtype=dtype, device=device)
            self._rings[dtype] = ring.view(-1, sum(widths))
            self._views |= self._split(dtype, ring)
        self._on_cpu = device.type == "cpu"
        self._rows = {name: view.numpy() if self._on_cpu else view for name, view in self._views.items()}
        self._offset = np.arange(replicas)[:, None, None] * (self.rows * envs)

    def _split(self, dtype: torch.dtype, columns: Tensor) -> dict[str, Tensor]:
        """The fields of a dtype, as views of their columns [..., width]."""
        shapes = self._shapes[dtype]
        if not any(shapes.values()):  # all scalars
            return dict(zip(shapes, columns.unbind(-1), strict=True))
        parts = columns.split_with_sizes(self._widths[dtype], -1)
        return {
            name: part.unflatten(-1, shape) if len(shape) > 1 else part if shape else part.squeeze(-1)
            for (name, shape), part in zip(shapes.items(), parts, strict=True)
        }

    def sample(self, batch_size: int, length: int, rng: Stream) -> Rollout:
        """B sequences of `length` consecutive rows per replica, [R, L, B, ...].

        `memory` is the stored state before step 0 where `extras` hold "memory.0", ...
        """
        return self.at(self.draw(batch_size, length, rng))

    def draw(self, batch_size: int, length: int, rng: Stream) -> Draw:
        """As `sample`, without reading the steps yet."""
        return Draw(self._cells(self._begin(batch_size, length, rng), length))

    def _begin(self, batch_size: int, length: int, rng: Stream) -> np.ndarray:
        """Where sequences begin, int64 [R, B]: row * N + env, rows counted from the oldest."""
        starts = self.size - length + 1
        return (rng.numbers(batch_size) * (starts * self.num_envs)).astype(np.int64)

    @property
    def _oldest(self) -> int:
        return self.head if self.size == self.rows else 0

    def _cells(self, begin: np.ndarray, length: int) -> Tensor:
        cells = begin[:, None] + (np.arange(length)[:, None] + self._oldest) * self.num_envs
        if self.size == self.rows:  # else no sequence can run over the ring's end
            cells %= self.rows * self.num_envs
        cells += self._offset
        return torch.from_numpy(cells).to(self._views["reward"].device)

    def at(self, draw: Draw | Rollout) -> Rollout:
        """The steps that were drawn, [R, L, B, ...]; steps that have been read already stay as they are."""
        if isinstance(draw, Rollout):
            return draw
        fields: dict[str, Any] = {}
        for dtype, ring in self._rings.items():
            fields |= self._split(dtype, torch.embedding(ring, draw.cells))  # the quickest gather of rows
        extras = {name[7:]: fields.pop(name) for name in self._views if name.startswith("extras.")}
        leaves = sum(name.startswith("memory.") for name in extras)
        memory = tuple(extras.pop(f"memory.{i}")[:, 0] for i in range(leaves))
        return Rollout(**fields, memory=memory, extras=extras, info=draw.info)

    def state(self) -> dict[str, Tensor]:
        """The filled rows and the cursor; every leaf [R, ...]."""
        if not self.size:
            return {}
        cursor = torch.tensor([[self.size, self.head]]).repeat(len(self._offset), 1)
        return {"cursor": cursor} | {name: view[:, : self.size] for name, view in self._views.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state()`; ValueError where that is of another buffer."""
        self.size, self.head = 0, 0
        if not state:
            return
        self._check(state)
        rows = {name: value for name, value in state.items() if name != "cursor"}
        if not self._rings:  # else the steps stay where recorded functions look for them
            self._allocate(rows)
        self.size, self.head = state["cursor"][0].tolist()
        for name, value in rows.items():
            self._views[name][:, : self.size] = value

    def _check(self, state: Mapping[str, Tensor]) -> None:
        """ValueError unless these are the rows [R, size, N, ...] of a buffer like this one."""
        cursor = state["cursor"]
        lead = state["reward"].shape
        size, head = cursor[0].tolist()
        whole = cursor.dtype == torch.int64 and cursor.shape == (lead[0], 2) and len(lead) == 3
        if not whole or (cursor != cursor[0]).any() or lead[1:] != (size, self.num_envs):
            raise ValueError(f"replay: {list(cursor.shape)} cursors do not fit steps {list(lead)}")
        if not 0 < size <= self.rows or not 0 <= head < self.rows or (size < self.rows and head != size):
            raise ValueError(f"replay: {size} rows up to {head} do not fit the {self.rows} of this config")
        for name, leaf in state.items():
            if name != "cursor" and leaf.shape[:3] != lead:
                raise ValueError(f"replay.{name}: saved shape {list(leaf.shape)}, others have {list(lead)}")


def _values(rollout: Rollout) -> dict[str, Tensor]:
    return rollout.fields() | {f"extras.{name}": value for name, value in rollout.extras.items()}
