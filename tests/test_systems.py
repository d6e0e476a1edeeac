"""Nothing that is imported, and nothing that a run needs, exists on Linux alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import rlrun

SITE = Path(rlrun.__file__).parent.parent
# A system without these: libraries may have looked for them already, rlrun has not.
POOR = """
import ctypes, os, signal, sys
import gymnasium, hydra, matplotlib, numpy, rich, safetensors.torch, tensorboard, torch
import torch.utils.tensorboard
missing = "fcntl resource termios pwd grp pty tty posix syslog select msvcrt".split()
sys.modules.update(dict.fromkeys(missing))
absent = "fork O_NOFOLLOW O_NONBLOCK O_CLOEXEC O_DIRECTORY sched_getaffinity getuid geteuid uname mkfifo"
for name in absent.split():
    delattr(os, name)
for name in "SIGHUP SIGALRM SIGUSR1 SIGUSR2 SIGQUIT setitimer alarm".split():
    delattr(signal, name)
def library(name):
    raise TypeError("there is no library without a name")
ctypes.CDLL = library
"""
EVERYTHING = """
import importlib, pkgutil, rlrun
for module in pkgutil.walk_packages(rlrun.__path__, "rlrun."):
    if module.name != "rlrun.__main__":
        importlib.import_module(module.name)
"""
RUN = """
from pathlib import Path
from rlrun.config import ConfigError
from rlrun.runs.folder import RunFolder
words = ["algo=q_learning", "total_steps=300", "eval.episodes=2", "out=runs", "log.plot=false"]
run = RunFolder(rlrun.run(words, quiet=True).folder)
assert rlrun.load(run.path).act(0)[0] in range(4)
assert sorted(path.name for path in run.path.glob("lock*")) == ["lock"]
said = []
with run.lock(said.append):
    assert len(said) == 1 and "lock.held" in said[0]
    try:
        with run.lock():
            raise AssertionError("locked twice")
    except ConfigError as refusal:
        assert "is in use" in refusal.lines[0] and "delete" in refusal.lines[1]
with run.lock():
    pass
"""


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(SITE)}
    line = [sys.executable, "-c", code]
    return subprocess.run(
        line, capture_output=True, text=True, env=environment, cwd=folder, timeout=120, check=False
    )


def test_a_run_needs_nothing_of_linux(tmp_path: Path) -> None:
    """Where there are no file locks, a file stands for one, and it is said."""
    done = python(POOR + EVERYTHING + RUN, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "this system has no file locks" in done.stderr


@pytest.mark.parametrize("module", ["import fcntl", "os.fork()"])
def test_what_is_blocked_would_be_noticed(module: str, tmp_path: Path) -> None:
    assert python(POOR + module, tmp_path).returncode == 1
