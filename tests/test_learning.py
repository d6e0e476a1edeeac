"""Every recipe learns its home task: scores of final policies on 100 fresh episodes.

Several replicas train in one program, and it is the median (and the worst) that counts.
Where memory is claimed, the same task without it must fail: the evidence is two-sided.
`make learn` runs all of these; those that take seconds are part of the fast suite.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rlrun import runner
from rlrun.compose import compose

slow = pytest.mark.slow
# overrides: median at least, worst at least
REACHES = {
    "algo=bc env=cartpole replicas=5": (450, 400),
    "algo=bc env=cartpole replicas=5 data.episodes=1": (450, 0),
    "algo=value_iteration env=frozen_lake": (0.6, 0.6),
    "algo=lstm_dqn env=cartpole replicas=5": (490, 400),
    "algo=lstm_dqn env=cartpole_masked replicas=5": (450, 195),
    "algo=lstm_ppo env=cartpole_masked replicas=5": (480, 400),
    "algo=ppo env=cartpole replicas=10": (490, 475),
    "algo=dqn env=cartpole replicas=10": (490, 400),
    "algo=dqn env=pendulum_discrete replicas=5": (-170, -250),
    "algo=sac env=pendulum replicas=3": (-170, -250),
    "algo=reinforce env=cartpole replicas=5": (400, 300),
    "algo=ppo env=pendulum replicas=3": (-300, -500),
}
QUICK = (
    "algo=bc env=cartpole replicas=5",
    "algo=value_iteration env=frozen_lake",
    "algo=ppo env=cartpole replicas=10",
    "algo=lstm_ppo env=cartpole_masked replicas=5",
)
QUIET = ["log.tensorboard=false", "log.plot=false"]


def scores(overrides: str, folder: Path) -> np.ndarray:
    result = runner.execute(compose([*overrides.split(), *QUIET, f"out={folder}"]), quiet=True)
    return np.array([row["eval_return"] for row in result.summary["replicas"]])


@pytest.mark.parametrize(
    "overrides", [name if name in QUICK else pytest.param(name, marks=slow) for name in REACHES]
)
def test_reaches(overrides: str, tmp_path: Path) -> None:
    median, worst = REACHES[overrides]
    found = scores(overrides, tmp_path)
    assert np.median(found) >= median and found.min() >= worst, found


@slow
@pytest.mark.parametrize("algo", ["dqn", "ppo"])
def test_without_memory_the_masked_task_is_not_learned(algo: str, tmp_path: Path) -> None:
    assert scores(f"algo={algo} env=cartpole_masked replicas=3", tmp_path).max() <= 60
