"""How a run ends when it is told to, when its env ends it, and when the disk is full; what is left then."""

from __future__ import annotations

import errno
import itertools
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from run_folders import write_run
from support import final_state, session, small, train_until
from test_resume import ended as exit_status

from rlrun import api, cli
from rlrun.cli import train as cli_train
from rlrun.collector import Collector, Pulse
from rlrun.config import ConfigError
from rlrun.config.compose import compose
from rlrun.envs.abilities import Trial
from rlrun.files import WriteError
from rlrun.report.compare import comparison
from rlrun.runs import checkpoint, identity, log, run, watchdog
from rlrun.runs.checkpoint import CheckpointError
from rlrun.runs.folder import RunFolder
from rlrun.runs.process import Failed, Stopped, contained, deferred, stoppable
from rlrun.runs.session import Session

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

TRAIN = ["algo=q_learning", "env=frozen_lake", "total_steps=300", "eval.episodes=2", "eval.during=2"]
TRAIN += ["checkpoint.every_steps=100", "log.every=20", "log.plot=false", "log.tensorboard=false"]


def fork(work: Callable[[], int]) -> int:
    """A child with its output in a file of the working directory; its process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        os.dup2(os.open("output", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644), 2)
        sys.stdout = sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
        code = work()
    finally:
        os._exit(code)


def ended(pid: int, seconds: float) -> int:
    """The child's exit code; it must end in time."""
    code = exit_status(pid, seconds)
    if code is None:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise AssertionError("the child did not end")
    return code


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def status_of(folder: Path) -> dict[str, Any]:
    (file,) = folder.rglob("status.json")
    found: dict[str, Any] = json.loads(file.read_text())
    return found


PHASES: dict[str, tuple[Any, str, str]] = {  # where it hangs, and what is left: nothing, or a status
    "composing": (cli_train, "_hydra_arguments", ""),
    "building": (run, "build", ""),
    "self-test": (identity, "surroundings", ""),
    "restoring": (Session, "__init__", "interrupted"),
    "env": (Collector, "_step", "interrupted"),
    "evaluation": (Session, "_judge", "interrupted"),
    "judging": (run, "summarise", "interrupted"),
    "closing": (log.MetricsFile, "close", "interrupted"),
    "drawing": (api, "draw", "finished"),
}
SIGNALS = itertools.cycle([(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])


@pytest.mark.parametrize(("phase", "kind"), list(zip(PHASES, SIGNALS, strict=False)))
def test_a_signal_ends_any_phase_in_two_seconds(
    phase: str, kind: tuple[signal.Signals, int], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its exit code, though what runs swallows whatever is raised in it; nothing is half written."""
    owner, name, left = PHASES[phase]

    def hang(*args: Any, **kwargs: Any) -> None:
        Path("reached").touch()
        while True:
            with suppress(BaseException):
                time.sleep(60)

    monkeypatch.setattr(owner, name, hang)
    pid = fork(lambda: cli.main([*TRAIN, "out=runs"]))
    while not Path("reached").exists():
        assert os.waitpid(pid, os.WNOHANG) == (0, 0), Path("output").read_text()
        time.sleep(0.01)
    os.kill(pid, kind[0])
    assert ended(pid, 2.0 + 2.0) == kind[1]  # seconds for a machine that has other things to do
    said = Path("output").read_text()
    assert f"stopped by {kind[0].name} where it was" in said and "Traceback" not in said
    states = [json.loads(file.read_text())["status"] for file in here.rglob("status.json")]
    assert states == ([left] if left else [])
    if left == "interrupted":
        monkeypatch.undo()
        monkeypatch.chdir(here)
        (folder,) = Path("runs").glob("*/*")
        assert api.resume(folder, quiet=True).exit_code == 0


@pytest.mark.parametrize(("phase", "kind"), list(zip(PHASES, SIGNALS, strict=False)))
def test_what_comes_back_is_ended_in_order(
    phase: str, kind: tuple[signal.Signals, int], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, name, left = PHASES[phase]
    original = getattr(owner, name)

    def signalled(*args: Any, **kwargs: Any) -> Any:
        setattr(owner, name, original)
        os.kill(os.getpid(), kind[0])
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, signalled)
    done = {"judging": "finished", "closing": "finished"}  # it was nearly there
    assert cli.main([*TRAIN, "out=runs"]) == kind[1]
    found = [json.loads(file.read_text())["status"] for file in here.rglob("status.json")]
    assert found == ([done.get(phase, left)] if left else [])
    assert bool(list(here.iterdir())) == bool(left)  # no folder of a run that never began


def test_signals_are_as_they_were_afterwards() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with pytest.raises(Stopped) as stop, stoppable(), deferred():
        os.kill(os.getpid(), signal.SIGHUP)
        reached = True
    assert reached and stop.value.exit_code == stop.value.code == 129
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    try:
        with stoppable():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before[2])


def test_a_child_of_a_run_has_its_own_signals(here: Path) -> None:
    """An env's worker that is terminated does not end the run, and Ctrl-C reaches the run alone."""
    with stoppable():
        pid = fork(lambda: time.sleep(5) or 0)  # type: ignore[func-returns-value]
        time.sleep(0.1)
        os.kill(pid, signal.SIGINT)
        time.sleep(0.1)
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)
        os.kill(pid, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM


class Rude(gymnasium.Env[np.int64, np.int64]):
    """Raises in its step number `at`, counted over episodes."""

    observation_space = gymnasium.spaces.Discrete(3)
    action_space = gymnasium.spaces.Discrete(2)
    raised: ClassVar[BaseException]
    at: ClassVar[int]

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 30}

    def __init__(self, render_mode: str | None = None) -> None:
        self.steps, self.render_mode = 0, render_mode

    def render(self) -> Any:
        return np.zeros((8, 8, 3), np.uint8)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.int64, dict[str, Any]]:
        super().reset(seed=seed)
        return np.int64(0), {}

    def step(self, action: np.int64) -> tuple[np.int64, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        if self.steps == self.at:
            raise self.raised
        return np.int64(self.steps % 3), 1.0, self.steps % 10 == 0, False, {}


RUDE = ["algo=q_learning", "env=gym", "env.id=Rude-v0", "total_steps=300", *TRAIN[3:]]


@pytest.fixture
def rude(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gymnasium.registry, "Rude-v0", gymnasium.envs.registration.EnvSpec("Rude-v0", Rude))
    monkeypatch.setattr(
        "rlrun.envs.vector.gym.trial", lambda *parts: Trial(None)
    )  # which would meet it first


@pytest.mark.parametrize(
    "raised",
    [
        SystemExit(0),
        SystemExit(3),
        SystemExit("done"),
        KeyboardInterrupt(),
        GeneratorExit(),
        MemoryError("too much"),
        RecursionError("too deep"),
        type("Own", (BaseException,), {})("own"),
    ],
    ids=repr,
)
def test_what_an_env_raises_ends_its_run_as_failed(
    raised: BaseException, rude: None, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Rude.raised, Rude.at = raised, 250
    assert cli.main([*RUDE, "out=runs"]) == 1
    out, err = capsys.readouterr()
    assert type(raised).__name__ in err and "test_process.py" in err
    assert "goes on from step 200" in err.splitlines()[-1]
    assert not out and "Traceback" not in err
    found = status_of(here)
    assert (found["status"], found["step"]) == ("failed", 200) and type(raised).__name__ in found["reason"]


@pytest.mark.parametrize("verb", ["evaluate", "play", "record", "resume"])
def test_what_an_env_raises_ends_a_verb_with_a_line(
    verb: str, rude: None, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Rude.raised, Rude.at = SystemExit(0), 10**9
    folder = run.execute(compose(RUDE), folder=here / "run").folder
    if verb == "resume":
        (folder / "summary.json").unlink()
    monkeypatch.setattr(Rude, "at", 3)
    assert cli.main([verb, str(folder)]) == 1
    assert "SystemExit: 0 (test_process.py:" in capsys.readouterr().err


def test_a_sweep_goes_on_after_a_job_that_failed(
    rude: None, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever its env raised: a ValueError of an env is no bad config."""
    Rude.raised, Rude.at = ValueError("mine"), 250
    assert cli.main(["-m", *RUDE, "out=runs", "total_steps=300,200"]) == 1
    assert "rlrun: 1/2 total_steps=300: failed: Rude-v0: ValueError: mine" in capsys.readouterr().err
    states = [json.loads(file.read_text())["status"] for file in here.rglob("status.json")]
    assert sorted(states) == ["failed", "finished"]


def test_what_raises_elsewhere_ends_a_command_with_a_line() -> None:
    with pytest.raises(Failed, match=r"SystemExit: 0 \(test_process.py:\d+ in test_what"), contained():
        sys.exit(0)
    with pytest.raises(Stopped), contained():
        raise Stopped(signal.SIGTERM)


def test_a_full_disk_at_any_write(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be written is named, and the run goes on from its last checkpoint to the same bits."""
    config = compose(TRAIN)
    whole = run.execute(config, folder=here / "whole").folder
    fsync, left, codes = os.fsync, [0, 0], itertools.cycle([errno.ENOSPC, errno.EDQUOT, errno.EIO])

    def full(handle: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(left[1], os.strerror(left[1]))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", full)
    for points in itertools.count(0, 5):
        folder, left = here / str(points), [points, next(codes)]
        try:
            api.train(config, folder=folder, quiet=True)
            break
        except (Failed, WriteError) as error:
            assert str(error).startswith(f"{folder}/")
            assert f" could not be written: {os.strerror(left[1])}" in str(error)
            assert error.__cause__ is None and error.__suppress_context__
        left = [10**6, 0]
        resumed = (folder / "run.json").exists()
        api.resume(folder, quiet=True) if resumed else api.train(config, folder=folder, quiet=True)
        assert (folder / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert points > 20


@pytest.mark.parametrize(("word", "scored"), [("log.every=1", False), ("log.plot=true", True)])
def test_a_full_disk_is_told_in_a_line(word: str, scored: bool, here: Path) -> None:
    """Also where only the pictures do not fit: the scores are shown all the same."""

    def limited() -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, resource.RLIM_INFINITY))
        return cli.main([*TRAIN, word])

    assert ended(fork(limited), 60) == 1
    said = Path("output").read_text()
    assert said.count("could not be written: File too large; rlrun re") == 1 and "Traceback" not in said
    assert ("median" in said) == scored


def test_the_status_moves_with_every_checkpoint(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int]] = []
    write = RunFolder.set_status

    def noted(self: RunFolder, status: str, step: int, reason: str = "") -> None:
        write(self, status, step, reason)
        seen.append((self.status()["status"], self.status()["step"]))
        assert abs(self.status()["time"] - time.time()) < 60

    monkeypatch.setattr(RunFolder, "set_status", noted)
    run.execute(compose(TRAIN), folder=here / "run")
    assert seen == [("running", 0), ("running", 0)] + [("running", n) for n in (100, 200, 300)] + [
        ("finished", 300)
    ]


def test_a_killed_run_does_not_run(here: Path) -> None:
    """Who looks does not stop who is about to train."""
    write_run(here, [1.0], *TRAIN)
    killed = write_run(here, None, *TRAIN)
    killed.set_status("running", 4321)
    assert comparison(here).rows[0]["unfinished"] == ["killed at step 4,321"]
    with killed.lock():
        assert comparison(here).rows[0]["unfinished"] == ["running at step 4,321"]
    assert not killed.in_use


def test_a_folder_in_use_is_refused_before_anything_is_built(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*args: Any) -> None:
        raise AssertionError("torch and the networks come after the lock")

    folder = run.execute(compose(TRAIN), folder=here / "run").folder
    (folder / "summary.json").unlink()
    monkeypatch.setattr(run, "computing", slow)
    monkeypatch.setattr(run, "build", slow)
    with RunFolder(folder).lock():
        assert cli.main(["resume", str(folder)]) == 2
        with pytest.raises(ConfigError, match="in use"):
            run.resume(folder)
    for begun in (False, True):
        new = RunFolder(here / f"new{begun}")
        if begun:
            new.path.mkdir()
            with new.lock(), pytest.raises(ConfigError, match="in use"):
                run.execute(compose(TRAIN), folder=new.path)
            assert new.lock_file.exists()


@pytest.mark.parametrize("damage", ["gone", "empty", "no status", "damaged"])
def test_lost_checkpoints_stop_a_resume_unless_told(
    damage: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = compose(TRAIN)
    whole = run.execute(config, folder=here / "whole").folder
    folder = run.execute(config, folder=here / "run").folder
    (folder / "summary.json").unlink()
    RunFolder(folder).set_status("running", 300)
    for path in sorted((folder / "ckpt").rglob("*"), reverse=True):
        if damage == "damaged":
            path.name == "state.json" and path.write_text("{}")
        else:
            path.rmdir() if path.is_dir() else path.unlink()
    if damage != "empty" and damage != "damaged":
        (folder / "ckpt").rmdir()
    if damage == "no status":
        (folder / "status.json").write_text("{")
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert cli.main(["resume", str(folder)]) == 2
    assert "--restart" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    with pytest.raises(CheckpointError):
        run.resume(folder)
    assert cli.main(["resume", str(folder), "--restart"]) == 0
    assert (folder / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


TAGS = (
    "loss/a|b",
    "loss/|sum",
    "two\nlines",
    "'\"\\",
    "é→😀",
    "\ud800",
    "/",
    "a/",
    "",
    "[1]",
    '["a"]',
    "\x00",
    "x" * 5000,
)


def test_a_metric_may_have_any_name(here: Path) -> None:
    """In metrics.jsonl, in a checkpoint, in TensorBoard; records are under way when it is written."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    config = small("sarsa", total_steps=300)
    config = replace(config, log=replace(config.log, tensorboard=True, every=50))

    def named(folder: Path, saved: checkpoint.Checkpoint | None = None) -> Session:
        found = session(config, folder, saved)
        update, values = found.algo.update, itertools.count(found.clock.updates)

        def more(*args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
            value = torch.full((len(found.learned),), float(next(values)))
            return {**update(*args, **kwargs), **dict.fromkeys(TAGS, value)}

        found.algo.update = more  # type: ignore[method-assign]
        return found

    train_until(named(here / "whole"))
    train_until(named(here / "run"), 37)
    train_until(named(here / "run", checkpoint.load(here / "run/ckpt")[0]))
    lines = [json.loads(line) for line in (here / "whole/metrics.jsonl").read_text().splitlines()]
    assert set(TAGS) <= {tag for line in lines for tag in line}
    assert (here / "run/metrics.jsonl").read_bytes() == (here / "whole/metrics.jsonl").read_bytes()
    one, other = final_state(here / "run"), final_state(here / "whole")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name].nan_to_num(7), other[name].nan_to_num(7)) for name in one)
    events = [
        e
        for file in (here / "whole/tb").rglob("*")
        if file.is_file()
        for e in EventFileLoader(str(file)).Load()
    ]
    shown = {value.tag for event in events for value in event.summary.value}
    assert {tag.replace("\ud800", "?") for tag in TAGS} <= shown


def test_an_env_that_hangs_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """Once for each doubling of the time, with what runs and where; steps begin it anew."""
    with watchdog.watched(0.2):
        for _ in range(10):
            Pulse.steps += 1
            time.sleep(0.05)
        assert not capsys.readouterr().err
        time.sleep(0.7)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" s:")[0] for line in lines] == [
        "rlrun: no step for 0.2",
        "rlrun: no step for 0.4",
    ]
    assert "preparation (test_process.py:" in lines[0] and "in test_an_env_that_hangs_is_named" in lines[0]


@pytest.mark.parametrize(
    ("calls", "phase"),
    [
        (["rlrun.trainer", "rlrun.collector", "rlrun.algos.dqn"], "training step"),
        (["rlrun.trainer", "rlrun.algos.dqn", "rlrun.nn.network"], "update"),
        (["rlrun.runs.session", "rlrun.evals.episodes", "rlrun.collector"], "evaluation"),
        (["rlrun.runs.session", "rlrun.runs.checkpoint"], "checkpoint"),
        (["rlrun.api", "rlrun.report.curve"], "drawing"),
        (["rlrun.runs.task", "rlrun.envs.gym"], "preparation"),
    ],
)
def test_the_outermost_call_tells_the_phase(calls: list[str], phase: str) -> None:
    def told() -> str:
        return watchdog._doing(sys._getframe())

    for name in reversed(calls):
        names = {"__name__": name, "inner": told}
        exec("def outer(): return inner()", names)
        told = names["outer"]  # type: ignore[assignment]
    assert told().startswith(f"{phase} (test_process.py:")


def test_a_signal_that_a_library_swallows_is_no_bad_config(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it left half done would be refused, in words about nothing that the user wrote."""

    def swallowed(*_: Any) -> None:
        with suppress(BaseException):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        raise ConfigError("unknown key defaults")

    monkeypatch.setattr("rlrun.config.compose.resolve", swallowed)
    assert cli.main(TRAIN) == 143
    assert "unknown key" not in capsys.readouterr().err
