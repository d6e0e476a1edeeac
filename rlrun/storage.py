"""One replay buffer of sequences: a transition is length 1, n-step length n, recurrent length L.

A ring of rows, each row one time step of N envs for R replicas. Sequences are drawn over
(start row, env), uniformly, in order of time, or by priority (Schaul et al., "Prioritized
experience replay", 2016), and never cross the write head; they may span an episode's end,
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

_FIELDS = ("obs", "action", "reward", "terminated", "truncated", "next_obs", "first", "valid")
_FLOOR = 1e-6  # added to priorities, so that nothing is lost for good


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
        self.size, self.head = 0, 0
        if not state:
            return
        rows = {name: value for name, value in state.items() if name != "cursor"}
        if not self._rings:  # else the steps stay where recorded functions look for them
            self._allocate(rows)
        self.size, self.head = state["cursor"][0].tolist()
        for name, value in rows.items():
            self._views[name][:, : self.size] = value


class SequentialReplay(Replay):
    """Draws one stretch of time for each minibatch: sequence b + 1 learns on where b ends.

    The stretch begins at a random step of one env, and goes on `stride` rows a sequence,
    the steps that each is learned from; at the newest row it continues at the oldest.
    """

    def __init__(self, capacity: int, num_envs: int, stride: int) -> None:
        super().__init__(capacity, num_envs)
        self.stride = stride

    def _begin(self, batch_size: int, length: int, rng: Stream) -> np.ndarray:
        row, env = np.divmod(super()._begin(1, length, rng), self.num_envs)
        row = (row + self.stride * np.arange(batch_size)) % (self.size - length + 1)
        return row * self.num_envs + env


class PrioritizedReplay(Replay):
    """Draws sequences of one length in proportion to priority ** alpha (Schaul et al. 2016).

    A step is drawn once its whole sequence is there, and begins with the highest priority
    that its replica has known. A batch says in `info` which `cell` of the ring each of its
    sequences begins at, for `reprioritise`, and with which `probability` it was drawn, [R, B].

    Drawing sums the weights of all cells: for 50,000 of them that takes 60 us a replica,
    where a sum tree takes 250 and as much again to be kept.
    """

    def __init__(self, capacity: int, num_envs: int, length: int, alpha: float) -> None:
        super().__init__(capacity, num_envs)
        self.length, self.alpha = length, alpha

    def _allocate(self, values: Mapping[str, Tensor]) -> None:
        super()._allocate(values)
        kinds: dict[str, Any] = {"dtype": torch.float64, "device": values["reward"].device}
        replicas = len(values["reward"])
        self._weight = torch.zeros(replicas, self.rows, self.num_envs, **kinds)  # 0: not to be drawn
        self._highest = torch.ones(replicas, 1, 1, **kinds)  # priority

    def add(self, rollout: Rollout) -> None:
        super().add(rollout)
        # Of the rows below, the first ones now have a whole sequence; the others await theirs.
        whole = self.size - self.length + 1
        ages = np.arange(max(whole - rollout.reward.shape[1], 0), self.size)
        rows = torch.from_numpy((self._oldest + ages) % self.rows)
        self._weight[:, rows] = 0.0
        self._weight[:, rows[ages < whole]] = self._highest**self.alpha

    def draw(self, batch_size: int, length: int, rng: Stream) -> Draw:
        assert length == self.length, "priorities are those of sequences of one length"
        weight = self._weight.view(len(self._weight), -1)[:, : len(self)]
        sums = weight.cumsum(1)
        total = sums[:, -1:].contiguous()
        # Never above the sum, and above 0: rounding cannot lead to a cell of weight 0.
        point = torch.minimum(rng.uniform(batch_size).to(total) * total, total)
        cell = torch.searchsorted(sums, point).clamp_(max=len(self) - 1)  # only a NaN is beyond
        begin = (cell.cpu().numpy() - self._oldest * self.num_envs) % (self.rows * self.num_envs)
        return Draw(self._cells(begin, length), {"cell": cell, "probability": weight.gather(1, cell) / total})

    def reprioritise(self, cell: Tensor, priority: Tensor) -> None:
        """New priorities [R, B], at least 0, for the sequences that begin at these cells [R, B]."""
        priority = priority.to(self._weight) + _FLOOR
        self._highest = torch.maximum(self._highest, priority.amax(1).view_as(self._highest))
        self._weight.view(len(self._weight), -1).scatter_(1, cell, priority**self.alpha)

    def state(self) -> dict[str, Tensor]:
        state = super().state()
        if state:
            state |= {"weight": self._weight[:, : self.size], "highest": self._highest}
        return state

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        super().load_state({name: leaf for name, leaf in state.items() if name not in ("weight", "highest")})
        if self._rings:
            self._weight.zero_()
            self._highest.fill_(1.0)
        if state:
            self._weight[:, : self.size] = state["weight"]
            self._highest.copy_(state["highest"])


def _values(rollout: Rollout) -> dict[str, Tensor]:
    return {name: getattr(rollout, name) for name in _FIELDS} | {
        f"extras.{name}": value for name, value in rollout.extras.items()
    }
