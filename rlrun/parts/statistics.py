"""What training episodes came to: return and length of those that ended, and what envs report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from rlrun.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


class EpisodeStatistics:
    """Counts the steps of R x N envs, and means over episodes until they are taken.

    `metrics` names the arrays that an env reports with every step, `sums` those of them that
    are added up over the run instead of averaged.
    """

    def __init__(self, replicas: int, num_envs: int, metrics: tuple[str, ...], sums: tuple[str, ...]) -> None:
        self.metrics, self._sum_names = metrics, sums
        self.episode_return = np.zeros((replicas, num_envs))
        self.episode_length = np.zeros((replicas, num_envs), np.int64)
        self._totals: dict[str, np.ndarray] = {}  # since they were last taken, [R]
        self._sums: dict[str, np.ndarray] = {}  # over the run until then, [R]

    def step(self, reward: np.ndarray) -> None:
        """Every env took a step, with the task's own reward [R, N]."""
        self.episode_return += reward
        self.episode_length += 1

    def begin(self, mask: np.ndarray) -> None:
        """Episodes begin where `mask` [R, N] is true."""
        self.episode_return[mask] = 0.0
        self.episode_length[mask] = 0

    def end(self, ended: np.ndarray) -> None:
        """The episodes under way where `ended` [R, N] is true count from now on."""
        self._add("episodes", ended)
        self._add("return", np.where(ended, self.episode_return, 0.0))
        self._add("length", np.where(ended, self.episode_length, 0))

    def report(self, info: Mapping[str, np.ndarray], valid: np.ndarray) -> None:
        """What the env said in T steps, [R, T, N] each."""
        self._add("steps", valid)
        for name, value in info.items():
            self._add(f"info.{name}", np.where(valid, value, 0.0))

    def _add(self, name: str, value: np.ndarray) -> None:
        self._totals[name] = self._totals.get(name, 0.0) + value.sum(tuple(range(1, value.ndim)))

    def take(self, replicas: np.ndarray) -> dict[str, np.ndarray]:
        """Means [R] over what ended since they were last taken (NaN where nothing did).

        The env's `sums` come as totals over the whole run. `replicas` [R] says whose means begin anew.
        """
        totals, out = self._totals, {}
        with np.errstate(invalid="ignore", divide="ignore"):
            if "episodes" in totals:
                out["return"] = totals["return"] / totals["episodes"]
                out["length"] = totals["length"] / totals["episodes"]
            if "steps" in totals:
                out |= {name: totals[f"info.{name}"] / totals["steps"] for name in self.metrics}
        for name in self._sum_names if "steps" in totals else ():
            before = self._sums.get(name, np.zeros(len(replicas)))
            out[f"total_{name}"] = before + totals[f"info.{name}"]
            self._sums[name] = np.where(replicas, out[f"total_{name}"], before)
        self._totals = {name: np.where(replicas, 0.0, value) for name, value in totals.items()}
        return out

    def begin_anew(self) -> None:
        """Forget everything but the episodes under way."""
        self._totals, self._sums = {}, {}

    def state(self) -> dict[str, Tensor]:
        """Leaves [R, ...]."""
        arrays = {"episode_return": self.episode_return, "episode_length": self.episode_length}
        arrays |= {f"totals.{name}": value for name, value in self._totals.items()}
        arrays |= {f"sums.{name}": value for name, value in self._sums.items()}
        return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in arrays.items()}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over what `state` has of it, as arrays; ValueError where these are of another shape."""
        own = {"episode_return": self.episode_return, "episode_length": self.episode_length}
        sums = {name: own["episode_return"][:, 0] for name in state if name.startswith(("totals.", "sums."))}
        for name, array in (own | sums).items():
            if (state[name].shape, state[name].dtype) != (array.shape, array.dtype):
                raise ValueError(f"{name}: saved as {state[name].dtype} {list(state[name].shape)}")
        self.episode_return, self.episode_length = state["episode_return"], state["episode_length"]
        self._totals = {name[7:]: value for name, value in state.items() if name.startswith("totals.")}
        self._sums = {name[5:]: value for name, value in state.items() if name.startswith("sums.")}
