"""Who follows a run: the metrics file, and listeners of plug-ins."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from functools import partialmethod
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rlrun.cli.main import main
from rlrun.config import ConfigError
from rlrun.config.compose import compose
from rlrun.config.plain import config_hash, from_dict, to_dict
from rlrun.runs import log
from rlrun.runs.checkpoint import CheckpointError
from rlrun.runs.folder import RunFolder
from rlrun.runs.identity import job_hash
from rlrun.runs.listener import Guarded, Listener
from rlrun.runs.log import MetricsFile
from rlrun.runs.run import execute
from rlrun.runs.tensorboard import TensorBoard

EXAMPLE = Path(__file__).parents[2] / "examples" / "csv_listener"
TINY = ["algo=q_learning", "env=cliff_walking", "replicas=2", "eval.episodes=2", "eval.during=2"]
TINY += ["log.tensorboard=false", "log.plot=false", "log.every=50"]


def arrays(**values: float) -> dict[str, np.ndarray]:
    return {tag: np.array([value]) for tag, value in values.items()}


def opened(folder: Path, mark: int) -> MetricsFile:
    file = MetricsFile()
    file.open(SimpleNamespace(folder=RunFolder(folder)))  # type: ignore[arg-type]
    file.rewind(0, mark)
    return file


def test_metrics_are_cut_back_to_the_mark(tmp_path: Path) -> None:
    due, path = np.array([True]), RunFolder(tmp_path).metrics
    file = opened(tmp_path, 0)
    file.record(np.array([1]), due, arrays(a=1.0, b=float("nan")))
    mark = file.mark()
    file.record(np.array([2]), due, arrays(a=2.0))
    file.record(np.array([3]), due, arrays(b=float("inf")))  # nothing finite: no line
    file.close(None)
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"step": 1, "replica": 0, "a": 1.0},
        {"step": 2, "replica": 0, "a": 2.0},
    ]
    again = opened(tmp_path, mark)
    again.record(np.array([2]), due, arrays(a=5.0))
    again.close(None)
    assert [json.loads(line)["a"] for line in path.read_text().splitlines()] == [1.0, 5.0]


def test_metrics_shorter_than_their_checkpoint_says(tmp_path: Path) -> None:
    """Cutting would fill the file up with zeros."""
    RunFolder(tmp_path).metrics.write_text("short\n")
    with pytest.raises(CheckpointError, match="shorter"):
        opened(tmp_path, 100)
    assert RunFolder(tmp_path).metrics.read_text() == "short\n"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A working directory with the CSV listener's module and YAML."""
    folder = tmp_path / "mine"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(folder)
    return folder


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_example_writes_what_metrics_jsonl_has(example: Path, tmp_path: Path) -> None:
    """One row a value, the same numbers; a listener changes nothing else, its hashes included."""
    config = compose([*TINY, "total_steps=400", "listener=csv", f"out={tmp_path}"])
    plain = compose([*TINY, "total_steps=400", f"out={tmp_path}", "imports=[csv_listener]"])
    run, alone = RunFolder(execute(config).folder), RunFolder(execute(plain).folder)
    records = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    expected = [
        (record["step"], f"seed={1 + record['replica']}", tag, value)
        for record in records
        for tag, value in record.items()
        if tag not in ("step", "replica")
    ]
    found = [(int(r["step"]), r["replica"], r["tag"], float(r["value"])) for r in rows(run.path)]
    assert sorted(found) == sorted(expected) and len(found) > 10
    assert run.metrics.read_bytes() == alone.metrics.read_bytes()
    assert config_hash(from_dict(to_dict(config))) == config_hash(config)
    one, other = (r.read()["job_hash"] for r in (run, alone))
    assert one == other == job_hash(plain, None)


def test_the_example_loses_nothing_by_a_kill(example: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    common = [*TINY, "total_steps=3000", "listener=[csv]", "checkpoint.every_steps=500"]
    execute(compose([*common, f"out={tmp_path}"]), folder=whole)
    killed = tmp_path / "killed"
    code = (
        "import os, signal, sys; from pathlib import Path; import csv_listener as c; "
        "from rlrun.config.compose import compose; from rlrun.runs.run import execute; "
        "record = c.Csv.record\n"
        "def dying(self, step, due, values):\n"
        "    record(self, step, due, values); self.file.flush()\n"
        "    if step.max() > 1700: os.kill(os.getpid(), signal.SIGKILL)\n"
        "c.Csv.record = dying\n"
        f"execute(compose(sys.argv[1:]), folder=Path({str(killed)!r}))"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(example), *sys.path])}
    done = subprocess.run([sys.executable, "-c", code, *common], env=env, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert rows(killed) != rows(whole)
    assert main(["resume", str(killed), "--allow-import"]) == 0
    assert rows(killed) == rows(whole)


def follow(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fails: str = ""
) -> tuple[list[str], list[str], RunFolder]:
    """The calls, what was said, and the run folder of a run whose listener may fail in one method."""
    config = compose([*TINY, "total_steps=400", "listener=csv"])
    csv_listener, calls, said = sys.modules["csv_listener"], [], []

    def called(self: Listener, *arguments: Any, name: str) -> None:
        calls.append(name)
        if name == fails:
            raise OSError("no connection")
        if name in ("record", "distribution"):
            arguments[0][:] = 0  # env steps: its own copy
        if name == "close":
            assert sorted(arguments[0])[0] == "aggregate"

    for name in ("open", "rewind", "record", "distribution", "mark", "close"):
        monkeypatch.setattr(csv_listener.Csv, name, partialmethod(called, name=name))
    monkeypatch.setattr("rlrun.runs.run.say", said.append)
    return calls, said, RunFolder(execute(config, folder=tmp_path / "run").folder)


def test_order_of_calls(example: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls, said, run = follow(monkeypatch, tmp_path)
    assert calls[:2] == ["open", "rewind"] and calls[-2:] == ["mark", "close"]
    assert set(calls[2:-2]) == {"record", "distribution"} and not said
    assert run.summary()["env_steps"] == 2 * 400


def test_each_method_may_be_left_out() -> None:
    """Also by a class that is no Listener."""
    said: list[str] = []
    records: list[float] = []
    plain = SimpleNamespace(record=lambda step, due, values: records.append(values["a"][0]))
    listener = Guarded("plain", plain, said.append)  # type: ignore[arg-type]
    step, due = np.array([1]), np.array([True])
    listener.rewind(0, 0)
    listener.record(step, due, arrays(a=2.0))
    listener.distribution(step, due, {"eval/q": np.ones((1, 3))})
    assert listener.mark() == 0
    listener.close(None)
    assert records == [2.0] and not said


@pytest.mark.parametrize("fails", ["open", "rewind", "record", "distribution", "mark", "close"])
def test_one_that_fails_is_said_and_left_out(
    example: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fails: str
) -> None:
    calls, said, run = follow(monkeypatch, tmp_path, fails)
    assert calls.count(fails) == 1 and calls[-1] == fails
    assert len(said) == 1 and "listener csv is left out" in said[0] and "no connection" in said[0]
    assert run.status()["status"] == "finished"


def test_bad_listeners_are_refused(example: Path, tmp_path: Path) -> None:
    for overrides, words in {
        ("listener=cvs",): "did you mean csv",
        ("listener=csv", "listener.csv.fil=x"): "did you mean listener.csv.file",
        ("+listener.other=1",): "listener",
    }.items():
        with pytest.raises(ConfigError, match=words):
            compose([*TINY, *overrides])


@pytest.mark.parametrize("chosen", ["listener=csv", "listener=[csv]"])
def test_where_no_plug_in_brings_one(
    chosen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="there is no listener 'csv'\nnone is there"):
        compose([*TINY, chosen])
    assert main(["list", "listener"]) == 0
    assert "a plug-in brings conf/listener/NAME.yaml" in capsys.readouterr().out


def test_who_listened_is_not_needed_to_read_a_run(example: Path, tmp_path: Path) -> None:
    """Trained where the logger is installed, judged where it is not; only going on needs it."""
    folder = tmp_path / "run"
    execute(compose([*TINY, "total_steps=400", "listener=csv"]), folder=folder)
    record = RunFolder(folder).record
    known = json.loads(record.read_text())
    known["config"] |= {"imports": [], "listener": {"mine": {"kind": "elsewhere"}}}
    record.write_text(json.dumps(known))
    assert main(["evaluate", str(folder)]) == main(["report", str(folder)]) == 0
    assert main(["resume", str(folder)]) == 2


def test_run_json_of_before_listeners(example: Path) -> None:
    data = to_dict(compose(TINY))
    del data["listener"]
    assert from_dict(data) == compose(TINY)


def test_listeners_are_listed_and_described(example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "listener"]) == 0
    assert "csv  The metrics as CSV" in capsys.readouterr().out
    assert main(["describe", "csv"]) == 0
    assert "listener.csv.file" in capsys.readouterr().out


def test_what_follows_every_run_is_one_of_them() -> None:
    assert all(issubclass(each, Listener) for each in (log.MetricsFile, log.Progress, TensorBoard))
