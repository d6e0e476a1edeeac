"""Each job of a sweep is done once, whatever comes between; the others never mind."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import rlrun
from rlrun import cli
from rlrun.config import ConfigError
from rlrun.runs.folder import RunFolder
from rlrun.sweeps.folder import SweepFolder

TINY = ["algo=q_learning", "env=cliff_walking", "total_steps=300", "log.tensorboard=false", "log.plot=false"]
LONG = ["algo=q_learning", "env=cliff_walking", "total_steps=100000000", "checkpoint.every_steps=200"]
FRAGILE = """
import gymnasium as gym
import os

class Fragile(gym.Env):
    observation_space, action_space = gym.spaces.Discrete(2), gym.spaces.Discrete(2)

    def __init__(self, breaks=False):
        self.breaks, self.steps = breaks, 0

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        return 0, {}

    def step(self, action):
        self.steps += 1
        if self.breaks and self.steps > 150 and not os.path.exists("mended"):
            raise RuntimeError("it broke")
        return 1, 1.0, self.steps % 10 == 0, False, {}

gym.register("Fragile-v0", Fragile)
"""
BREAKS = [
    *TINY[:1],
    "env=gym",
    "env.id=fragile:Fragile-v0",
    "env.allow_import=true",
    "env.kwargs={breaks:false},{breaks:true}",
    *TINY[2:],
    "sweep=mine",
]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file of the run folders inside."""
    files = [file for run in RunFolder.under(folder) for file in run.path.rglob("*") if file.is_file()]
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_the_same_command_does_nothing_twice(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["-m", *TINY, "seed=1,2", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert [job["state"] for job in first["jobs"]] == ["finished"] * 2
    assert len(first["runs"]) == 2 and first["runs"][0]["env_steps"] == 300
    before = contents(here)
    assert cli.main(["-m", *TINY, "seed=1,2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == first
    assert contents(here) == before
    assert cli.main(["-m", *TINY, "seed=1,2,3", "--json"]) == 0  # one job joins
    third = json.loads(capsys.readouterr().out)
    assert third["sweep"] == first["sweep"] and len(third["runs"]) == 3
    assert contents(here).items() >= before.items()


def test_a_job_is_known_by_what_it_computes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not by its folder's name, and not by how it is watched."""
    assert cli.main(["-m", *TINY, "seed=1,2", "sweep=mine"]) == 0
    before = contents(here)
    again = ["-m", *TINY, "algo=q_learning,sarsa", "seed=1", "sweep=mine", "log.every=7"]
    assert cli.main(again) == 0
    folder = SweepFolder.at(Path("outputs/sweeps/mine"))
    assert folder.states["algo-q_learning"].run == "seed-1"
    assert contents(here).items() >= before.items()
    assert len(RunFolder.under(folder.path)) == 3


def test_a_job_that_fails_stops_nobody_and_is_tried_again_only_if_asked(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "fragile.py").write_text(FRAGILE)
    assert cli.main(["-m", *BREAKS]) == 1
    out, err = capsys.readouterr()
    assert "1 of 2 failed" in out and err.count("it broke") == 1
    folder = Path("outputs/sweeps/mine")
    states = SweepFolder.at(folder).states
    assert sorted(each.state for each in states.values()) == ["failed", "finished"]
    assert "RuntimeError: it broke" in (folder / "logs" / "kwargs-breaks-True.txt").read_text()
    (here / "mended").touch()
    assert cli.main(["-m", *BREAKS]) == 1
    assert "it broke" not in capsys.readouterr().err
    finished = contents(folder / "kwargs-breaks-False")
    assert cli.main(["sweep", "resume", str(folder), "--retry-failed"]) == 2
    assert "--allow-import" in capsys.readouterr().err
    assert cli.main(["sweep", "resume", str(folder), "--retry-failed", "--allow-import"]) == 0
    assert contents(folder / "kwargs-breaks-False") == finished


def wait_for(folder: Path, count: int) -> None:
    """Until so many runs have a checkpoint."""
    until = time.monotonic() + 60
    while len(list(folder.glob("*/ckpt/0*"))) < count and time.monotonic() < until:
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_their_sweep_and_save(number: signal.Signals, here: Path) -> None:
    line = [sys.executable, "-m", "rlrun", "-m", *LONG, "seed=1,2", "jobs=2", "sweep=mine"]
    parent = subprocess.Popen(line, stderr=subprocess.PIPE, text=True)
    folder = here / "outputs/sweeps/mine"
    wait_for(folder, 2)
    workers = [int(pid) for pid in Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()]
    assert len(workers) == 2 and all(os.getpgid(pid) == pid for pid in workers)  # sessions of their own
    parent.send_signal(number)
    said = parent.communicate(timeout=30)[1]
    assert parent.returncode == (143 if number == signal.SIGTERM else -9)
    assert ("2 of 2 not finished; rlrun sweep resume" in said) == (number == signal.SIGTERM)
    runs = RunFolder.under(folder)
    until = time.monotonic() + 10
    while any(run.state[0] != "interrupted" for run in runs) and time.monotonic() < until:
        time.sleep(0.05)
    assert [run.state[0] for run in runs] == ["interrupted"] * 2
    assert all(run.state[1] > 0 for run in runs)
    assert SweepFolder.at(folder).count("interrupted" if number == signal.SIGTERM else "pending") == 2


def test_a_worker_that_is_killed_is_named_and_gone_on_with(here: Path) -> None:
    line = [sys.executable, "-m", "rlrun", "-m", *TINY, "total_steps=2500", "checkpoint.every_steps=100"]
    line += ["seed=1,2", "jobs=1", "sweep=mine"]
    folder = here / "outputs/sweeps/mine"
    parent = subprocess.Popen(line, stderr=subprocess.PIPE, text=True)
    wait_for(folder, 1)
    os.kill(int(Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text()), signal.SIGKILL)
    said = parent.communicate(timeout=60)[1]
    assert parent.returncode == 1 and "1/2 seed=1: interrupted: killed by SIGKILL" in said
    assert "2/2 seed=2: " in said
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "1/2 seed=1: " in done.stderr and "2/2" not in done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-m", "seed=1,2", "jobs=0"], "jobs is 0"),
        (["-m", "seed=1,2", "jobs=many"], "jobs is many"),
        (["-m", "seed=1,2", "sweep=a/b"], "sweep is a/b"),
        (["-m", "seed=1,2", "sweep=.."], "sweep is .."),
        (["seed=1", "jobs=2"], "jobs= is a sweep's"),
        (["sweep", "resume", "nowhere"], "nowhere does not exist"),
        (["sweep", "resume", "."], "has no sweep.json"),
        (["sweep", "resum", "x"], "did you mean resume?"),
    ],
)
def test_what_a_sweep_cannot_be_told(
    words: list[str], says: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 2
    assert says in capsys.readouterr().err
    assert not list(here.iterdir())


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"schema": 9, "jobs": []}', '{"schema": 1, "jobs": [3]}'])
def test_a_damaged_sweep_is_refused(text: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "sweep.json").write_text(text)
    assert cli.main(["sweep", "resume", "."]) == 2
    assert "sweep.json" in capsys.readouterr().err


@pytest.mark.parametrize("row", [{"name": "../x"}, {"name": ".."}, {"run": "../x"}, {"run": "/tmp"}])
def test_a_strangers_sweep_leads_nowhere_else(
    row: dict[str, str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = {"name": "seed-1", "label": "seed=1", "words": [*TINY, "seed=1"], "state": "pending"} | row
    (here / "inside").mkdir()
    (here / "inside" / "sweep.json").write_text(json.dumps({"schema": 1, "jobs": [job]}))
    assert cli.main(["sweep", "resume", "inside"]) == 2
    assert "is no folder's name" in capsys.readouterr().err
    assert [path.name for path in here.rglob("*")] == ["inside", "sweep.json"]


@pytest.mark.parametrize("word", ["imports=[evil]", "+env.allow_import=true", "hydra.searchpath=[file://.]"])
def test_a_strangers_sweep_imports_nothing_unasked(
    word: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = {"name": "seed-1", "label": "seed=1", "words": [*TINY, word], "state": "pending"}
    (here / "sweep.json").write_text(json.dumps({"schema": 1, "jobs": [job]}))
    assert cli.main(["sweep", "resume", "."]) == 2
    assert "--allow-import" in capsys.readouterr().err


def test_a_damaged_run_is_in_no_other_jobs_way(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damaged = here / "outputs/sweeps/mine/seed-1"
    damaged.mkdir(parents=True)
    (damaged / "run.json").write_text("{")
    assert cli.main(["-m", *TINY, "seed=1,2", "sweep=mine"]) == 1
    out, err = capsys.readouterr()
    assert "1 of 2 failed" in out and "1/2 seed=1: failed: " in err and "run.json is damaged" in err
    assert (damaged / "run.json").read_text() == "{"


def test_what_hydra_runs_is_for_the_command_line(here: Path) -> None:
    with pytest.raises(ConfigError, match="rlrun -m"):
        rlrun.sweep([*TINY, "hydra.sweep.subdir=x${hydra:job.num}"], seed=[1, 2])
    assert not list(here.iterdir())


def test_two_processes_never_work_on_one_sweep(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with SweepFolder(Path("outputs/sweeps/mine")).lock(print):
        assert cli.main(["-m", *TINY, "seed=1,2", "sweep=mine"]) == 2
    assert "is in use" in capsys.readouterr().err


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_a_launcher_does_the_same_jobs(launcher: str, here: Path) -> None:
    """Into the same folders: without it nothing is left to do."""
    line = ["-m", *TINY, "seed=1,2", "sweep=mine"]
    assert cli.main([*line, f"hydra/launcher={launcher}", "jobs=2"]) == 0
    folder = SweepFolder.at(here / "outputs/sweeps/mine")
    assert {each.run for each in folder.states.values()} == {"seed-1", "seed-2"}
    assert "median" in (folder.logs / "seed-1.txt").read_text()
    before = contents(folder.path)
    assert cli.main(line) == 0
    assert contents(folder.path) == before
    logs = folder.logs / "seed-1.txt", folder.logs / "seed-2.txt"
    shutil.rmtree(folder.path / "seed-1")
    logs[0].unlink()
    resume = ["sweep", "resume", str(folder.path), f"hydra/launcher={launcher}"]
    assert cli.main(resume) == 0
    assert (folder.path / "seed-1" / "summary.json").is_file() and "median" in logs[0].read_text()
    assert cli.main([*resume, "seed=3"]) == 2
    recipe = here / "conf" / "hydra" / "launcher" / "theirs.yaml"
    recipe.parent.mkdir(parents=True)
    recipe.write_text("_target_: some.where.Launcher\n")
    for unknown in ("nope", "theirs"):
        assert cli.main([*resume[:-1], f"hydra/launcher={unknown}"]) == 2


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="it is installed")
def test_a_launcher_that_is_missing_names_its_extra(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["-m", *TINY, "seed=1,2", "hydra/launcher=ray"]) == 2
    assert "pip install 'rlrun[ray]'" in capsys.readouterr().err
    assert not list(here.iterdir())
