"""Policies that are set aside while a run goes on: what counts in the end, where that is not the last one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from rlrun.core import Algorithm
from rlrun.lazy import torch
from rlrun.state import State, Stateful

if TYPE_CHECKING:
    from torch import Tensor

POLICY = ("weights", "normalizer")  # the roles that acting depends on


class Kept:
    """A finite policy of every replica, at first the one that it began with.

    Those of the `settled` replicas are what is judged and loaded: the best so far, or where the
    replica ended before the others, by failing or otherwise. The rest is there in case it fails.
    """

    def __init__(self, algo: Algorithm, replicas: int) -> None:
        self._algo = algo
        self._replicas = replicas
        self.settled = np.zeros(replicas, bool)
        self.policies: State = {name: leaf.detach().clone() for name, leaf in algo.state(POLICY).items()}
        self.begun = self._prints()

    def set_aside(self, rows: np.ndarray) -> None:
        """Copy the present policies of `rows` [R], but for one that is no longer finite."""
        if not rows.any():
            return
        state = self._algo.state(POLICY)
        # What was infinite from the start, such as the score of nothing so far, is no fault.
        sound = [
            (leaf.isfinite() | (leaf == self.policies[name])).reshape(self._replicas, -1).all(1)
            for name, leaf in state.items()
        ]
        if sound:
            self.policies = chosen(self.policies, state, rows & torch.stack(sound).all(0).cpu().numpy())

    def settle(self, rows: np.ndarray) -> None:
        """Set these policies aside for good; of one that is not finite, the last one that was."""
        self.set_aside(rows)
        self.settled = self.settled | rows

    def use(self) -> None:
        """Put the settled policies in place of the present ones."""
        if self.settled.any():
            self._algo.load_state(chosen(self._algo.state(POLICY), self.policies, self.settled), POLICY)

    def learned(self) -> np.ndarray:
        """Whose weights [R] are no longer those that it began with."""
        return np.array([now != then for now, then in zip(self._prints(), self.begun, strict=True)])

    def _prints(self) -> list[str]:
        """A hash of each replica's weights."""
        leaves = [leaf.detach().cpu().contiguous().numpy() for leaf in trained(self._algo)]
        return [
            hashlib.blake2b(b"".join(leaf[r].tobytes() for leaf in leaves), digest_size=8).hexdigest()
            for r in range(self._replicas)
        ]


def trained(part: Any) -> list[Tensor]:
    """The weights [R, ...] that learning moves; a network's buffers are statistics of what it was shown."""
    if isinstance(part, Stateful):
        parts = [getattr(part, name) for name, role in part.saved.items() if role in ("weights", "own")]
        return [leaf for each in parts for leaf in trained(each)]
    if hasattr(part, "named_parameters"):
        return [leaf for _, leaf in part.named_parameters()]
    return list(part.state().values()) if hasattr(part, "state") else [part]


def chosen(state: Mapping[str, Tensor], kept: Mapping[str, Tensor], rows: np.ndarray) -> State:
    """A copy of the leaves that `kept` has: its `rows` [R], and the others of `state`."""
    if rows.all():
        return {name: leaf.detach().clone() for name, leaf in kept.items()}
    index = torch.from_numpy(np.flatnonzero(rows))
    out = {name: state[name].detach().clone() for name in kept}
    for name, leaf in kept.items():
        out[name][index] = leaf[index]
    return out
