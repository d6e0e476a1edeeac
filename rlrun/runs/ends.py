"""When replicas come to their end before `total_steps`: the rules of the section `stop`.

Every replica has its own: one that stops in a batch stops where the lone run of its seed would.
What counts are evaluations while training (under walk-forward validation's score), never a test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from rlrun.config.run import StopConfig
from rlrun.lazy import torch
from rlrun.runs.log import say
from rlrun.state import State, copy_leaves

if TYPE_CHECKING:
    from torch import Tensor


class Ends:
    """Which replicas were stopped by a rule, and the update with which each ended."""

    def __init__(self, rules: StopConfig, replicas: int) -> None:
        self.rules = rules
        self.stopped: dict[int, str] = {}  # why
        self.at = np.zeros(replicas, np.int64)  # the update that a replica ended with; 0 while it runs
        self._best = np.full(replicas, np.nan)  # evaluation so far, where high is good
        self._since = np.zeros(replicas, np.int64)  # evaluations in a row without a better one

    @property
    def counts(self) -> bool:
        """Whether a rule goes by what was spent, rather than by evaluations."""
        return self.rules.episodes is not None or self.rules.minutes is not None

    def spent(self, rows: np.ndarray, step: np.ndarray, episodes: np.ndarray, seconds: float) -> np.ndarray:
        """Which of `rows` [R] have had their `episodes` [R] or minutes."""
        none = np.zeros_like(rows)
        over = none if self.rules.episodes is None else rows & (episodes >= self.rules.episodes)
        self._stop(over, step, lambda r: f"{episodes[r]:,} episodes")
        late = none if self.rules.minutes is None else rows & ~over & (seconds >= 60 * self.rules.minutes)
        self._stop(late, step, lambda r: f"{seconds / 60:.3g} minutes")
        return over | late

    def judged(
        self, rows: np.ndarray, step: np.ndarray, value: np.ndarray, tag: str, sign: int
    ) -> np.ndarray:
        """Which of `rows` [R] an evaluation stops; `value` [R] times `sign` is high where it is good."""
        name, score = tag.rpartition("/")[2], sign * value
        better = rows & np.isfinite(score) & ~(score <= self._best)
        self._best[better] = score[better]
        self._since[rows] = np.where(better, 0, self._since + 1)[rows]
        enough, patience = self.rules.eval_return, self.rules.patience
        reached = np.zeros_like(rows) if enough is None else rows & (score >= sign * enough)
        self._stop(reached, step, lambda r: f"{name} {value[r]:.4g}")
        stuck = np.zeros_like(rows) if patience is None else rows & ~reached & (self._since >= patience)
        self._stop(stuck, step, lambda r: f"no better {name} in {self._since[r]} evaluations")
        return reached | stuck

    def _stop(self, rows: np.ndarray, step: np.ndarray, why: Callable[[int], str]) -> None:
        for r in np.flatnonzero(rows).tolist():
            self.stopped[r] = f"{why(r)} at step {step[r]:,}"
            say(f"replica {r} stopped: {self.stopped[r]}")

    def state(self) -> State:
        """Leaves [R]; none where no rule needs any."""
        if self.rules.patience is None:
            return {}
        return {"best": torch.from_numpy(self._best), "since": torch.from_numpy(self._since)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """A fork may have a rule that its source had not: that begins with the fork."""
        if state and self.rules.patience is not None:
            copy_leaves(self.state(), state, "ends")
