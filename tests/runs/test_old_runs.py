"""Run folders of earlier releases are loaded, judged, resumed and compared: for ever.

`tests/fixtures/make_run.py` has made them. Their numbers are compared loosely: the machine is another one.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from fixtures.make_run import shown

import rlrun
from rlrun import cli
from rlrun.runs.folder import RunFolder

FIXTURES = Path(__file__).parents[1] / "fixtures"
OLD = sorted(FIXTURES.glob("run-*"))


@pytest.fixture(params=OLD, ids=lambda path: path.name)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return Path(shutil.copytree(request.param, tmp_path / "run"))


def test_there_are_some_and_they_are_small() -> None:
    assert OLD
    for folder in OLD:
        assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 200_000


def test_its_policy_is_what_it_was(old: Path) -> None:
    policy, memory = rlrun.load(old, replica=1), None
    for obs, expected in zip(shown(), json.loads((old / "expected.json").read_text()), strict=True):
        np.testing.assert_allclose(policy.q(obs, memory), expected["q"], atol=1e-4)
        action, memory = policy.act(obs, memory)
        assert action.tolist() == expected["action"]


def test_it_is_judged_again(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = RunFolder(old).summary()["replicas"]
    assert cli.main(["evaluate", str(old), "--json"]) == 0
    after = json.loads(capsys.readouterr().out)["replicas"]
    assert [row["seed"] for row in after] == [row["seed"] for row in before]
    for row, known in zip(after, before, strict=True):
        assert abs(row["eval_return"] - known["eval_return"]) < 20


def test_it_is_resumed(old: Path) -> None:
    """From the checkpoint before the last, as a run that was killed."""
    run = RunFolder(old)
    steps, records = run.summary()["env_steps"], run.metrics.read_text().splitlines()
    shutil.rmtree(max(run.checkpoints.iterdir()))
    run.summary_file.unlink()
    assert cli.main(["resume", str(old)]) == 0
    assert run.status()["status"] == "finished" and run.summary()["env_steps"] == steps
    assert len(run.metrics.read_text().splitlines()) == len(records)


def test_it_is_compared_and_reported(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", str(old)]) == 0
    assert str(old) in capsys.readouterr().out.replace("\n", "")
    assert cli.main(["report", str(old)]) == 0
    assert "median" in capsys.readouterr().out
