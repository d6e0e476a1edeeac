"""Replay by how much is still to be learned: Schaul et al., "Prioritized experience replay" (2016)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rlrun.config import key
from rlrun.core import Rollout
from rlrun.lazy import torch
from rlrun.parts.replay import Draw, Replay

if TYPE_CHECKING:
    from torch import Tensor

    from rlrun.rng import Stream

_FLOOR = 1e-6  # added to priorities, so that nothing is lost for good


@dataclass
class PriorityConfig:
    alpha: float = key(
        "how much the error counts; 0 draws uniformly, 1 in proportion", min=0, max=1, per_replica=True
    )
    beta: float = key(
        "share of the bias to correct at the start; all of it at the end", min=0, max=1, per_replica=True
    )
    eta: float = key(
        "weight of a sequence's largest error, against its mean one", min=0, max=1, per_replica=True
    )


class PrioritizedReplay(Replay):
    """Draws sequences of one length in proportion to priority ** alpha (Schaul et al. 2016).

    A step is drawn once its whole sequence is there, and begins with the highest priority
    that its replica has known. A batch says in `info` which `cell` of the ring each of its
    sequences begins at, for `reprioritise`, and with which `probability` it was drawn, [R, B].

    Drawing sums the weights of all cells: for 50,000 of them that takes 60 us a replica,
    where a sum tree takes 250 and as much again to be kept.
    """

    def __init__(self, capacity: int, num_envs: int, length: int, alpha: float | Tensor) -> None:
        """`alpha` is a number, or one for each replica, [R, 1]."""
        super().__init__(capacity, num_envs)
        self.length, self.alpha = length, alpha

    def step_size(self, rollout: Rollout) -> int:
        return super().step_size(rollout) + 8  # its weight

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
        self._weight[:, rows[ages < whole]] = (self._highest[..., 0] ** self.alpha).unsqueeze(-1)

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


def importance(probability: Tensor, beta: Tensor) -> Tensor:
    """Weights (min p / p) ** beta of sequences drawn with p [R, B], beta [R]: the rarest weighs 1, [R, B]."""
    return (probability.amin(1, keepdim=True) / probability) ** beta.to(probability).unsqueeze(1)


def priority(error: Tensor, eta: float | Tensor) -> Tensor:
    """Of sequences, by the errors [R, S, B] of their steps: [R, B] (Kapturowski et al. 2019).

    eta is a number, or one for each replica, [R, 1].
    """
    size = error.abs()
    return eta * size.amax(1) + (1.0 - eta) * size.mean(1)
