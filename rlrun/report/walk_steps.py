"""What every policy did in a walk-forward run's tests, as `test_steps.csv.gz` has it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
