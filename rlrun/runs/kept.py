"""Policies that are set aside while a run goes on: what counts in the end, where that is not the last one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from rlrun.core import Algorithm
from rlrun.lazy import torch
from rlrun.state import State

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
        state = {name: leaf.detach() for name, leaf in self._algo.state(POLICY).items()}
        for name, leaf in state.items():
            # What was infinite from the start, such as the score of nothing so far, is no fault.
            sound = leaf.isfinite() | (leaf == self.policies[name])
            rows = rows & sound.reshape(self._replicas, -1).all(1).cpu().numpy()
        self.policies = chosen(self.policies, state, rows)

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
        leaves = [
            leaf.detach().cpu().contiguous().numpy() for leaf in self._algo.state(("weights",)).values()
        ]
        return [
            hashlib.blake2b(b"".join(leaf[r].tobytes() for leaf in leaves), digest_size=8).hexdigest()
            for r in range(self._replicas)
        ]


def chosen(state: Mapping[str, Tensor], kept: Mapping[str, Tensor], rows: np.ndarray) -> State:
    """A copy of the leaves that `kept` has: its `rows` [R], and the others of `state`."""
    out = {}
    for name, leaf in kept.items():
        index = torch.from_numpy(np.flatnonzero(rows)).to(leaf.device)
        out[name] = state[name].detach().index_copy(0, index, leaf[index])
    return out
