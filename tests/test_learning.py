"""The rows of benchmarks/learning.py that take seconds; `make learn` measures all of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from learning import ROWS, Row

from rlrun.config.catalog import recipes
from rlrun.config.compose import compose
from rlrun.runs.run import execute

QUICK = [row for row in ROWS if row.quick]


@pytest.mark.parametrize("row", QUICK, ids=[row.overrides for row in QUICK])
def test_reaches(row: Row, tmp_path: Path) -> None:
    config = compose([*row.command.split(), "log.tensorboard=false", "log.plot=false"])
    execute(config, folder=tmp_path / "run")
    assert row.failures(row.scores(tmp_path / "run")) == []


def test_every_algorithm_has_evidence() -> None:
    shown = {word.removeprefix("algo=") for row in ROWS for word in row.command.split()}
    assert [name for name in recipes("algo") if name not in shown] == []


def test_a_claim_can_fail() -> None:
    import numpy as np

    row = Row("algo=dqn", ("median >= 3", "worst >= 2", "best <= 4"))
    assert row.failures(np.array([2.0, 3.0, 4.0])) == []
    assert len(row.failures(np.array([1.0, 2.0, 5.0]))) == 3
