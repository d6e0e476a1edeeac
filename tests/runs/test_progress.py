"""What is said while a run goes on: where it is, how far, and what to type afterwards."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import rlrun
from rlrun import cli
from rlrun.config import catalog
from rlrun.runs import log
from rlrun.runs.folder import RunFolder
from rlrun.runs.log import Progress, fitting, progress

ROOT = Path(rlrun.__file__).parent.parent
RUN: Any = SimpleNamespace(
    folder=RunFolder("outputs/ppo-cartpole/now"), config=SimpleNamespace(total_steps=1000, choices={})
)
UCB = ["algo=ucb", "total_steps=200", "log.plot=false", "log.tensorboard=false"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        """What was shown, without what moves the cursor."""
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.getvalue())
        return [line for line in re.split(r"[\r\n]+", plain) if line.strip()]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(log, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


@pytest.mark.parametrize(
    ("step", "done", "seconds", "expected"),
    [
        (0, 0, 0.0, ["  0%", "eta --:--", "0/1,000 steps"]),
        (10, 0, 5.0, ["  1%", "eta --:--", "10/1,000 steps"]),  # a resumed run that has not stepped yet
        (10, 10, 0.0, ["  1%", "eta --:--", "10/1,000 steps"]),
        (500, 500, 50.0, [" 50%", "eta 50s", "10 steps/s", "500/1,000 steps"]),
        (900, 100, 10.0, [" 90%", "eta 10s", "10 steps/s", "900/1,000 steps"]),
        (10, 1, 2.0, ["  1%", "eta 33:00", "0.5 steps/s", "10/1,000 steps"]),
        (1, 1, 20.0, ["  0%", "eta 5:33:00", "0.05 steps/s", "1/1,000 steps"]),
        (1, 1, 500.0, ["  0%", "eta 5d 18h", "0.002 steps/s", "1/1,000 steps"]),
        (999, 999, 0.001, [" 99%", "eta 0s", "999,000 steps/s", "999/1,000 steps"]),
        (1500, 1500, 10.0, ["100%", "eta 0s", "150 steps/s", "1,000/1,000 steps"]),  # the last rollout
    ],
)
def test_how_far_a_run_is(step: int, done: int, seconds: float, expected: list[str]) -> None:
    assert progress(step, 1000, done, seconds, "steps") == expected


def test_a_line_keeps_what_is_most_useful() -> None:
    pieces = [" 50%", "eta 50s", "10 steps/s", "eval/return 312", "500/1,000 steps", "ppo-cartpole"]
    assert fitting(pieces, 200) == "  ".join(pieces)
    assert fitting(pieces, 50) == " 50%  eta 50s  10 steps/s  eval/return 312"
    assert fitting(pieces, 30) == " 50%  eta 50s  10 steps/s"
    assert fitting(pieces, 12) == " 50%"
    for width in range(4, 90):
        assert len(fitting(pieces, width)) <= width


@pytest.mark.parametrize("width", [120, 50, 40, 30])
def test_percent_and_eta_are_seen_on_a_narrow_terminal(
    width: int, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    newest = {"eval/return": np.array([np.nan, 312.0]), "train/return": np.array([np.nan, np.inf])}
    shown = Progress("steps", newest)
    shown.open(RUN)
    for step in (0, 250, 500, 1200):
        shown.update(step)
        clock[0] += 1.0
    shown.close()
    told, *lines = screen.lines()
    assert told == "rlrun: run outputs/ppo-cartpole/now"
    assert lines[0].startswith(" 25%  eta 3s") and lines[-1].startswith("100%  eta 0s")
    assert all(len(line.rstrip()) <= width for line in lines)
    assert not re.search(r"nan|inf|-\d|1,200/", screen.getvalue())
    assert ("eval/return 312" in lines[0]) == (width > 40)


def test_a_resumed_run_counts_its_own_steps(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    shown = Progress("steps", {}, every_seconds=1.0)
    shown.open(RUN)
    clock[0] += 60.0  # it is built, and torch imported
    for step in (800, 800, 810):
        shown.update(step)
        clock[0] += 1.0
    told, *lines = capsys.readouterr().err.splitlines()
    assert told == "rlrun: run outputs/ppo-cartpole/now"
    assert lines[0].startswith(" 80%  eta --:--  800/1,000 steps")
    assert lines[-1].startswith(" 81%  eta 38s  5 steps/s  810/1,000 steps")


@pytest.mark.parametrize("name", ["plain", "two words", "it's", "-dash", 'a"b;c'])
def test_the_folder_and_what_to_type_next_can_be_copied(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    quoted = name.replace("'", "\\'")
    assert cli.main([*UCB, f"out='{quoted}'"]) == 0
    out, err = capsys.readouterr()
    (run,) = (tmp_path / name).glob("*/*")
    assert err.splitlines()[0].startswith("rlrun: run ")
    told = [err.splitlines()[0].split(maxsplit=1)[1]]  # `rlrun: run FOLDER`
    told += [line for line in out.splitlines() if line.startswith("run ")]
    for line in told:
        assert (tmp_path / shlex.split(line)[-1]).resolve() == run
    (following,) = [line for line in out.splitlines() if line.startswith("next ")]
    assert shlex.split(following)[1:3] == ["rlrun", "play"]
    assert (tmp_path / shlex.split(following)[3]).resolve() == run
    assert cli.main(["resume", shlex.split(following)[3]]) == 0
    again = shlex.split(capsys.readouterr().err.split("; ")[1])
    assert again[:2] == ["rlrun", "evaluate"] and (tmp_path / again[2]).resolve() == run


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # nobody writes to it any more
        return b""


def test_the_folder_is_one_line_on_a_narrow_terminal_too(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "30", "TERM": "xterm"}
    line = [sys.executable, "-m", "rlrun", *UCB]
    streams = {"stdout": subprocess.DEVNULL, "stderr": theirs}
    with subprocess.Popen(line, cwd=tmp_path, env=environment, **streams) as process:
        os.close(theirs)
        text = b"".join(iter(partial(_read, ours), b""))
    os.close(ours)
    assert process.returncode == 0
    (run,) = (tmp_path / "outputs").glob("*/*")
    screen = Terminal()
    screen.write(text.decode())
    assert f"rlrun: run {run.relative_to(tmp_path)}" in screen.lines()
    assert screen.lines()[-1].startswith("100%  eta 0s")


def test_a_preset_that_applies_is_named_with_how_to_do_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf/tuned").mkdir(parents=True)
    (tmp_path / "conf/tuned/ucb_bandit.yaml").write_text("# @package _global_\n# Mine.\nalgo:\n  c: 9.0\n")
    assert cli.main([*UCB, "--json"]) == 0
    out, err = capsys.readouterr()
    (line,) = [line for line in err.splitlines() if "tuned" in line]
    assert "tuned=ucb_bandit applies" in line and "'~tuned' leaves them out" in line
    assert RunFolder(json.loads(out)["run"]).config().algo.c == 9.0
    assert cli.main([*UCB, "~tuned", "--json"]) == 0
    out, err = capsys.readouterr()
    assert "tuned" not in err and RunFolder(json.loads(out)["run"]).config().algo.c != 9.0
    assert cli.main(["describe", "algo/ucb"]) == 0
    assert "tuned values apply with env=bandit; '~tuned' leaves them out" in capsys.readouterr().out


def test_a_recipe_of_ones_own_that_is_not_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """rlrun's file of that name goes first: said of the working directory's, refused of --config-dir's."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf/algo").mkdir(parents=True)
    own, ours = tmp_path / "conf/algo/ucb.yaml", catalog.recipes("algo")["ucb"]
    own.write_text(ours.read_text() + "# Mine.\n")
    assert cli.main(UCB) == 0
    said = f"conf/algo/ucb.yaml is not read: {ours} goes first; give yours a name of its own"
    assert said in " ".join(capsys.readouterr().err.split())
    assert cli.main([*UCB, "--config-dir", "conf"]) == 2
    out, err = capsys.readouterr()
    assert "conf/algo/ucb.yaml is not read" in err and not out
    (tmp_path / "conf/algo/dqn.yaml").write_text("# What double_dqn begins with.\n")
    assert cli.main(["algo=double_dqn", "--config-dir", "conf"]) == 2
    assert "conf/algo/dqn.yaml is not read" in capsys.readouterr().err
    own.write_text(ours.read_text())  # a copy of the whole folder says the same
    assert cli.main([*UCB, "--config-dir", "conf"]) == 0
    assert "is not read" not in capsys.readouterr().err
