"""Killed runs come back to the same bits; signals save; a run folder has one owner.

Runs are forked off: the children need not import torch again, so that a kill can come at
any moment of a run that lasts a second.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support import Trial, final_state, small

from rlrun import cli, registry
from rlrun.config import ConfigError
from rlrun.config.compose import compose
from rlrun.config.run import CheckpointConfig, RunConfig
from rlrun.files import write_atomic
from rlrun.runs import checkpoint
from rlrun.runs import folder as run_folder
from rlrun.runs.folder import RunFolder
from rlrun.runs.run import execute, resume

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

# A second or so of training each, so that kills fall before, between and after checkpoints.
RUNS = {"lstm_dqn": 250, "ppo": 60, "lstm_ppo": 40, "sarsa": 3000, "sac": 250}


def fork(work: Callable[[], int | None]) -> int:
    """Run `work` in a child with its output in a file; the child's process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        code = work() or 0
    finally:
        os._exit(code)


def ended(pid: int, seconds: float) -> int | None:
    """The child's exit status (-9 if killed), or None if it still runs after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return None


def wait_for(condition: Callable[[], bool], pid: int, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert os.waitpid(pid, os.WNOHANG) == (0, 0), "the child ended"
        assert time.monotonic() < deadline
        time.sleep(0.005)


def config_of(algo: str) -> RunConfig:
    """A run of about `RUNS[algo]` updates that saves a dozen times, with records and evaluations between."""
    config = small(algo, replicas=2)
    trial = Trial.of(config)
    trial.train(3)
    steps = int(trial.clock.step[0]) // 3 * RUNS[algo]
    config = replace(config, total_steps=steps, checkpoint=CheckpointConfig(1e6, max(steps // 12, 1)))
    if hasattr(config.eval, "every"):
        config = replace(config, eval=replace(config.eval, every=steps // 7))
    return config


def start_or_resume(config: RunConfig, folder: Path) -> int:
    if (folder / "run.json").exists():
        return resume(folder).exit_code
    return execute(config, folder=folder).exit_code


def outcome(folder: Path) -> dict[str, Any]:
    """What two equal runs must share: weights, everything else that is saved, metrics, scores."""
    summary = json.loads((folder / "summary.json").read_text())
    files = {
        str(path.relative_to(folder)): path.read_bytes()
        for pattern in ("metrics.jsonl", "folds.json", "test_steps.csv.gz", "ckpt/*/*.safetensors")
        for path in folder.glob(pattern)
        if "ckpt" not in path.parts or path.parent.name == newest(folder)
    }
    assert f"ckpt/{newest(folder)}/tensors.safetensors" in files
    return files | {"summary": {k: v for k, v in summary.items() if "second" not in k}}


def newest(folder: Path) -> str:
    return f"{max(checkpoint.numbers(folder / 'ckpt')):08d}"


def kill_and_resume(config: RunConfig, folder: Path, delays: list[float], seconds: float) -> int:
    """Kill -9 after each delay (a share of the run), then let it finish; how many kills hit."""
    hits = 0
    for share in delays:
        pid = fork(lambda: start_or_resume(config, folder))
        status = ended(pid, share * seconds)
        if status is not None:
            assert status == 0
            break
        os.kill(pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status == 0:  # it ended on its own just before
            break
        assert status == -signal.SIGKILL
        hits += 1
    pid = fork(lambda: start_or_resume(config, folder))
    assert ended(pid, 120) == 0
    return hits


def uninterrupted(config: RunConfig, folder: Path) -> float:
    begin = time.monotonic()
    assert ended(fork(lambda: start_or_resume(config, folder)), 120) == 0
    return time.monotonic() - begin


def walk_forward() -> RunConfig:
    overrides = [
        "algo=dqn",
        "env=trading",
        "eval=walk_forward",
        "eval.n_folds=2",
        "total_steps=1200",
        "num_envs=2",
    ]
    quiet = ["log.tensorboard=false", "log.plot=false", "algo.learning_starts=100", "algo.batch_size=16"]
    config = compose([*overrides, *quiet, "model.hidden=[8]", "eval.stats.n_boot=100"])
    return replace(config, checkpoint=CheckpointConfig(1e6, 100))


@pytest.mark.parametrize("what", [*RUNS, "walk_forward"])
def test_five_kills_at_random_moments(what: str, tmp_path: Path) -> None:
    """Over a few runs, at any moment from the first write on, in training or between folds."""
    config = walk_forward() if what == "walk_forward" else config_of(what)
    seconds = uninterrupted(config, tmp_path / "whole")
    chance, hits, run = random.Random(7), 0, 0
    while hits < 5:
        run += 1
        delays = [chance.uniform(0.0, 0.5) for _ in range(5)]
        hits += kill_and_resume(config, tmp_path / f"{run}", delays, seconds)
        assert outcome(tmp_path / f"{run}") == outcome(tmp_path / "whole")


def test_checkpoints_change_nothing(tmp_path: Path) -> None:
    """After every update, or only at the end: the same bits."""
    config = small("lstm_dqn", total_steps=240)
    states = []
    for name, settings in (("often", CheckpointConfig(0.0, None)), ("never", CheckpointConfig(1e6, None))):
        execute(replace(config, checkpoint=settings), folder=tmp_path / name)
        states.append(final_state(tmp_path / name))
    assert states[0].keys() == states[1].keys()
    for name, leaf in states[0].items():
        assert torch.equal(leaf.nan_to_num(7.0), states[1][name].nan_to_num(7.0)), name
    one, other = ((tmp_path / name / "metrics.jsonl").read_bytes() for name in ("often", "never"))
    assert one == other


@pytest.mark.parametrize("crash", ["run.json", "status.json", "summary.json"])
def test_killed_around_the_files_of_the_folder(
    crash: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Just after run.json, just before the first status, and just before the summary."""
    # A bandit's scores are its last records: they too must outlive training.
    config = small("ucb" if crash == "summary.json" else "sarsa", total_steps=600)
    execute(config, folder=tmp_path / "whole")
    write = write_atomic

    def dying(path: Path, data: bytes) -> None:
        if path.name == crash and crash != "run.json":
            os._exit(9)
        write(path, data)
        if path.name == crash:
            os._exit(9)

    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "write_atomic", dying)
        assert ended(fork(lambda: execute(config, folder=tmp_path / "dead").exit_code), 60) == 9
    assert resume(tmp_path / "dead").exit_code == 0
    assert outcome(tmp_path / "dead") == outcome(tmp_path / "whole")


def test_resume_of_a_damaged_checkpoint_falls_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One generation back, with a note, and to the same bits; a finished run is returned as it is."""
    config = replace(small("sarsa", total_steps=900), checkpoint=CheckpointConfig(1e6, 100))
    whole = execute(config, folder=tmp_path / "whole")
    execute(config, folder=tmp_path / "part")
    expected = outcome(tmp_path / "whole")
    again = resume(tmp_path / "whole")
    assert again.summary == whole.summary
    (tmp_path / "part" / "summary.json").unlink()
    path = tmp_path / "part" / "ckpt" / newest(tmp_path / "part") / "tensors.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    resume(tmp_path / "part")
    assert "is damaged" in capsys.readouterr().err
    assert outcome(tmp_path / "part") == expected


def test_resume_keeps_the_trained_start(tmp_path: Path) -> None:
    """A run with init_from that died before its first checkpoint starts from those weights again."""
    source = execute(small("sarsa", total_steps=300), folder=tmp_path / "source")
    config = replace(small("sarsa", total_steps=300), seed=9, init_from=str(source.folder))
    execute(config, folder=tmp_path / "whole")
    execute(config, folder=tmp_path / "part")
    for name in ("summary.json", "status.json", "metrics.jsonl"):
        (tmp_path / "part" / name).unlink()
    for path in sorted((tmp_path / "part" / "ckpt").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    resume(tmp_path / "part")
    assert outcome(tmp_path / "part") == outcome(tmp_path / "whole")


def endless(tmp_path: Path) -> list[str]:
    """The command line of a run that does not end by itself."""
    return [
        "algo=sarsa",
        "total_steps=1000000000",
        f"out={tmp_path}",
        "log.tensorboard=false",
        "log.every=500",
    ]


def test_signals_and_locks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """SIGTERM: 143, SIGINT: 130, each with a checkpoint; the same folder twice is refused meanwhile."""
    pid = fork(lambda: cli.main(endless(tmp_path)))
    found: list[Path] = []

    def started() -> bool:
        found[:] = tmp_path.glob("*/*/status.json")
        return bool(found)

    wait_for(started, pid)
    folder = found[0].parent
    begin = time.monotonic()
    with pytest.raises(ConfigError, match="in use"):
        resume(folder)
    assert time.monotonic() - begin < 5
    wait_for(lambda: written(folder) > 0, pid)
    os.kill(pid, signal.SIGTERM)
    assert ended(pid, 10) == 143
    steps = [stopped(folder, "SIGTERM")]

    pid = fork(lambda: cli.main(["resume", str(folder)]))
    wait_for(lambda: json.loads(found[0].read_text())["status"] == "running", pid)
    before = written(folder)
    wait_for(lambda: written(folder) > before, pid)
    os.kill(pid, signal.SIGINT)
    assert ended(pid, 10) == 130
    steps.append(stopped(folder, "SIGINT"))
    assert steps[1] > steps[0] > 0

    pid = fork(lambda: cli.main(["resume", str(folder)]))  # free at once after kill -9
    wait_for(lambda: json.loads(found[0].read_text())["status"] == "running", pid)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with RunFolder(folder).lock():
        pass


def written(folder: Path) -> int:
    """Bytes of metrics so far."""
    metrics = folder / "metrics.jsonl"
    return metrics.stat().st_size if metrics.exists() else 0


def stopped(folder: Path, name: str) -> int:
    """Checks what a stopped run leaves; how many updates its checkpoint holds."""
    status = json.loads((folder / "status.json").read_text())
    assert status["status"] == "interrupted" and name in status["reason"]
    saved, notes = checkpoint.load(folder / "ckpt")
    assert not notes
    assert (folder / "metrics.jsonl").stat().st_size == saved.state["metrics_bytes"] > 0
    return int(saved.state["updates"])


def test_a_second_signal_exits_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though an update hangs, so that the first signal is not yet obeyed."""
    config = small("sarsa", total_steps=600)

    def hang(self: Any, rollout: Any, *, step: Any) -> dict[str, Any]:
        (tmp_path / "hangs").touch()
        end = time.monotonic() + 60
        while time.monotonic() < end:
            time.sleep(0.01)
        return {}

    monkeypatch.setattr(registry.entry_of(config.algo).build, "update", hang)
    pid = fork(lambda: execute(config, folder=tmp_path / "run").exit_code)
    wait_for((tmp_path / "hangs").exists, pid)
    os.kill(pid, signal.SIGTERM)
    assert ended(pid, 0.3) is None
    os.kill(pid, signal.SIGTERM)
    assert ended(pid, 3) == 143
