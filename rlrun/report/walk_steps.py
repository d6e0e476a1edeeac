"""What every policy did in a walk-forward run's tests, as `test_steps.csv.gz` has it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlrun.runs.folder import RunFolder

_IDENTITY = ("time", "replica", "seed", "fold", "t")


@dataclass(frozen=True)
class Played:
    """What one policy did on one fold's test window; `seed` is None for a baseline."""

    policy: str
    fold: int
    seed: int | None
    time: np.ndarray  # [steps], of the row at which each step is booked
    columns: Mapping[str, np.ndarray]  # score, and what else was recorded, [steps]

    @property
    def score(self) -> float:
        return float(self.columns["score"].sum())

    @property
    def ruin(self) -> Any:
        """When the account was ruined; None if it was not."""
        ruined = self.columns.get("ruined")
        return None if ruined is None or not ruined.any() else self.time[int((ruined > 0).argmax())]


@dataclass(frozen=True)
class Tests:
    """What every policy did in all tests: the agent's by fold and seed, a baseline's by fold (seed None)."""

    folds: list[int]
    seeds: list[int]
    baselines: list[str]  # the headline's first
    played: Mapping[tuple[str, int, int | None], Played]

    @classmethod
    def of(cls, played: Iterable[Played], plan: Mapping[str, Any]) -> Tests:
        """Those of a plan's folds."""
        by = {(one.policy, one.fold, one.seed): one for one in played}
        seeds = sorted({seed for _, _, seed in by if seed is not None})
        return cls([fold["fold"] for fold in plan["folds"]], seeds, plan["baselines"], by)

    def agent(self, fold: int, seed: int) -> Played:
        return self.played["agent", fold, seed]

    def baseline(self, name: str, fold: int) -> Played:
        return self.played[name, fold, None]

    @property
    def agents(self) -> Iterator[Played]:
        """The agent's, fold by fold."""
        return (self.agent(fold, seed) for fold in self.folds for seed in self.seeds)

    @property
    def scores(self) -> np.ndarray:
        """The agent's, [K, S]."""
        return np.array([one.score for one in self.agents]).reshape(len(self.folds), len(self.seeds))

    @property
    def time(self) -> np.ndarray:
        """Of all steps, fold by fold, [T]."""
        return np.concatenate([self.agent(fold, self.seeds[0]).time for fold in self.folds])

    def whole(self, policy: str, seed: int | None = None) -> dict[str, np.ndarray]:
        """The columns of one policy over all folds in order, [T] each."""
        parts = [self.played[policy, fold, seed].columns for fold in self.folds]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def each_seed(self) -> list[dict[str, np.ndarray]]:
        """The agent's `whole`, of every seed."""
        return [self.whole("agent", seed) for seed in self.seeds]


def played_in(run: RunFolder, baselines: Sequence[str]) -> Iterator[Played]:
    """The agent's part of each replica, and each baseline's once a fold."""
    table = run.read_steps()
    columns: dict[str, dict[str, np.ndarray]] = {policy: {} for policy in ("agent", *baselines)}
    for key in table.keys() - {*_IDENTITY}:
        policy, name = _owner(key, baselines)
        columns[policy][name] = np.array(table[key], np.float64)
    if any("score" not in own for own in columns.values()):
        raise ValueError(f"{run.steps.name} lacks a score")
    replica, seen = np.array(table["replica"], np.int64), set()
    for one in np.unique(replica).tolist():
        rows = np.flatnonzero(replica == one)
        fold, seed = int(table["fold"][rows[0]]), int(table["seed"][rows[0]])
        time = times([table["time"][i] for i in rows.tolist()])
        for policy, own in columns.items():
            if policy == "agent" or fold not in seen:
                mine = {name: values[rows] for name, values in own.items()}
                yield Played(policy, fold, seed if policy == "agent" else None, time, mine)
        seen.add(fold)


def _owner(key: str, baselines: Sequence[str]) -> tuple[str, str]:
    """Whose column it is, and of what: `score_noop` is the score of noop."""
    for name in sorted(baselines, key=len, reverse=True):  # one name may end like another
        if key.endswith(f"_{name}"):
            return name, key.removesuffix(f"_{name}")
    return "agent", key


def times(labels: Sequence[Any]) -> np.ndarray:
    """int64, or datetime64[ns], from what `rlrun.data.times.label` made of it."""
    if all(str(label).lstrip("-").isdigit() for label in labels):
        return np.array([int(label) for label in labels], np.int64)
    return np.array(labels, "datetime64[ns]")
