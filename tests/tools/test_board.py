"""`rlrun board`: names, links, means of seeds in several folders, and the server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_folders import write_run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from rlrun.cli.main import main
from rlrun.runs import events
from rlrun.runs.events import EventFile
from rlrun.runs.folder import RunFolder
from rlrun.tools.board import Board
from rlrun.tools.means import shared
from rlrun.tools.names import cut, safe

PPO = ["algo=ppo", "env=cartpole"]


def make(parent: Path, *overrides: str, curve: tuple[float, ...] = (), every: int = 10) -> RunFolder:
    """A run of one seed with TensorBoard files, and evaluations at multiples of `every`."""
    metrics = [{"step": every * (i + 1), "replica": 0, "eval/return": v} for i, v in enumerate(curve)]
    run = write_run(parent, [1.0], *overrides, metrics=metrics)
    file = EventFile(run.folder_for(run.tensorboard / run.replicas()[0].label))
    file.add(1, events.scalars({"eval/return": 1.0}))
    file.close()
    return run


def links(board: Board) -> dict[str, str]:
    """What stands in the board's folder, and where it leads to."""
    found = (path for path in board.folder.rglob("*") if path.is_symlink())
    return {str(path.relative_to(board.folder)): os.readlink(path) for path in found}


@pytest.fixture
def shown(tmp_path: Path) -> Iterator[Callable[[], Board]]:
    """Makes the board over the runs in tmp_path/runs."""
    with ExitStack() as open_boards:

        def look() -> Board:
            folder = tmp_path / "links"
            folder.mkdir()
            board = open_boards.enter_context(closing(Board([tmp_path / "runs"], folder)))
            board.refresh()
            return board

        yield look


def test_names_say_what_differs_and_no_more(tmp_path: Path, shown: Callable[[], Board]) -> None:
    runs = tmp_path / "runs"
    make(runs, *PPO, "algo.learning_rate=0.001", "algo.gamma=0.9")
    make(runs, *PPO, "algo.learning_rate=0.01", "algo.gamma=0.9", "seed=3")
    make(runs, *PPO, "algo.learning_rate=0.001", "algo.gamma=0.9", "seed=2")
    make(runs, "algo=dqn", "env=cartpole")
    assert set(links(shown())) == {
        "ppo-cartpole/lr=0.001/seed=1",
        "ppo-cartpole/lr=0.001/seed=2",
        "ppo-cartpole/lr=0.01/seed=3",
        "dqn-cartpole/seed=1",
    }


def test_a_job_of_a_sweep_goes_by_the_sweep_and_what_differs(
    tmp_path: Path, shown: Callable[[], Board]
) -> None:
    for i, words in enumerate((["algo=dqn"], ["algo=dqn", "seed=2"], ["algo=ppo", "algo.gamma=0.9"])):
        run = make(tmp_path / "made", *words, "env=cartpole")
        job = tmp_path / "runs/sweeps/mine" / str(i)
        job.parent.mkdir(parents=True, exist_ok=True)
        run.path.rename(job)
    assert set(links(shown())) == {"mine/dqn/seed=1", "mine/dqn/seed=2", "mine/ppo/seed=1"}


def test_a_run_that_was_trained_further_is_no_seed_of_the_others(
    tmp_path: Path, shown: Callable[[], Board]
) -> None:
    make(tmp_path / "runs", *PPO)
    further = make(tmp_path / "runs", *PPO, "seed=2")
    further.record.write_text(json.dumps(json.loads(further.record.read_text()) | {"extended": [100]}))
    assert {name.split("/")[1] for name in links(shown())} == {"seed=1", "extended=_100_"}


def test_the_same_job_twice_has_two_names(tmp_path: Path, shown: Callable[[], Board]) -> None:
    first, second = (make(tmp_path / "runs", *PPO) for _ in range(2))
    assert links(shown()) == {
        "ppo-cartpole/seed=1": str(first.tensorboard / "seed=1"),
        f"ppo-cartpole/seed=1 {second.path.name}": str(second.tensorboard / "seed=1"),
    }


def test_names_are_safe() -> None:
    assert safe("../a b/ü|x=1e-3") == "_a_b___x=1e-3"
    assert len(cut("x" * 300)) < 100 and cut("x" * 300) != cut("x" * 301) and cut("short") == "short"


def test_what_comes_and_goes_is_followed(tmp_path: Path, shown: Callable[[], Board]) -> None:
    runs = tmp_path / "runs"
    first = make(runs, *PPO, "algo.gamma=0.9")
    board = shown()
    assert set(links(board)) == {"ppo-cartpole/seed=1"}
    other = make(runs, *PPO, "algo.gamma=0.99")
    board.refresh()
    assert set(links(board)) == {"ppo-cartpole/gamma=0.9/seed=1", "ppo-cartpole/gamma=0.99/seed=1"}
    shutil.rmtree(first.path)
    board.refresh()
    assert links(board) == {"ppo-cartpole/seed=1": str(other.tensorboard / "seed=1")}


def test_no_link_of_a_run_is_followed(tmp_path: Path, shown: Callable[[], Board]) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    run, other = (make(tmp_path / "runs", *PPO) for _ in range(2))
    (run.tensorboard / "seed=2").symlink_to(elsewhere)
    (run.tensorboard / "seed=3").mkdir()
    (run.tensorboard / "seed=3/deeper").symlink_to("/")
    shutil.rmtree(other.tensorboard)
    other.tensorboard.symlink_to(elsewhere)
    assert list(links(shown())) == ["ppo-cartpole/seed=1"]


def test_a_damaged_run_is_left_out_and_said(tmp_path: Path, shown: Callable[[], Board]) -> None:
    make(tmp_path / "runs", *PPO)
    bad = make(tmp_path / "runs", *PPO, "seed=2")
    record = json.loads(bad.record.read_text())
    for damage in ({"algo": 3}, {"total_steps": 10**400}, {"algo": {"kind": "ppo", "gamma": 10**400}}):
        bad.record.write_text(json.dumps(record | {"config": record["config"] | damage}))
        board = shown()
        assert list(links(board)) == ["ppo-cartpole/seed=1"] and bad.path in board.left_out
        shutil.rmtree(board.folder)


def test_seeds_in_several_folders_have_a_mean(tmp_path: Path, shown: Callable[[], Board]) -> None:
    runs = tmp_path / "runs"
    make(runs, *PPO, "seed=1", curve=(1.0, 2.0, 3.0, 4.0))
    make(runs, *PPO, "seed=2", curve=(3.0, 6.0, 9.0))
    live = make(runs, *PPO, "seed=3", curve=(5.0, 1.0))
    with live.metrics.open("a") as file:
        file.write('{"step": 30, "repl')  # a line under way
    board = shown()

    def mean(tag: str = "eval/return") -> list[tuple[int, float]]:
        told = EventAccumulator(str(board.folder / "ppo-cartpole/mean")).Reload()
        return [(event.step, event.value) for event in told.Scalars(tag)]

    assert mean() == [(10, 3.0), (20, 3.0)]
    assert mean("quartiles/eval/return/q75") == [(10, 4.0), (20, 4.0)]
    with live.metrics.open("a") as file:
        file.write('ica": 0, "eval/return": 3.0}\n')
    board.refresh()
    assert mean() == [(10, 3.0), (20, 3.0), (30, 5.0)]
    make(runs, *PPO, "seed=4", curve=(7.0, 3.0))  # and now all of it is another
    board.refresh()
    assert mean() == [(10, 4.0), (20, 3.0)]


def test_shared_steps_are_those_that_all_curves_cover() -> None:
    steps, values = shared([([10, 20, 30], [1.0, 2.0, 3.0]), ([15, 25, 40], [0.0, 10.0, 40.0])])
    assert steps.tolist() == [15, 20, 25, 30]
    np.testing.assert_allclose(values, [[1.5, 2.0, 2.5, 3.0], [0.0, 5.0, 10.0, 20.0]])
    assert shared([([10, 20], [1.0, 2.0])], after=10)[0].tolist() == [20]


def test_the_first_columns_are_those_that_tell_runs_apart(tmp_path: Path, shown: Callable[[], Board]) -> None:
    runs = tmp_path / "runs"
    for words in (["algo=ppo", "algo.gamma=0.9"], ["algo=ppo"], ["algo=dqn"]):
        make(runs, *words, "env=cartpole")
    board = shown()

    def first() -> set[str]:
        (place,) = board.folder.glob("columns*")
        told = EventAccumulator(str(place)).Reload()
        content = told.SummaryMetadata(metadata.EXPERIMENT_TAG).plugin_data.content
        experiment: Any = metadata.parse_experiment_plugin_data(content)
        assert experiment.metric_infos[0].name.tag == "eval/final"
        assert "algo.clip_range" in {info.name for info in experiment.hparam_infos}
        return {info.name for info in experiment.hparam_infos if info.differs}

    assert first() == {"algo", "algo.gamma"}  # not what dqn and ppo have and the other has not
    make(runs, "algo=ppo", "env=acrobot", "algo.gamma=0.9")
    board.refresh()
    assert {"algo", "algo.gamma", "env"} <= first()


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["board", *words]) == 2
    told = capsys.readouterr().err
    assert 1 < len(told.splitlines()) <= 3
    return told


def test_nothing_to_show_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "does not exist" in refused(capsys, str(tmp_path / "nowhere"))
    assert "there is no run under" in refused(capsys, str(tmp_path))
    write_run(tmp_path, [1.0], *PPO)
    assert "log.tensorboard=false" in refused(capsys, str(tmp_path))


def test_a_port_that_is_taken_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path, *PPO)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"port {port} cannot be had" in refused(capsys, str(tmp_path), "--port", port)
    assert "is not a port" in refused(capsys, str(tmp_path), "--port", "70000")


def test_it_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    make(tmp_path / "runs", *PPO)
    line = [sys.executable, "-m", "rlrun", "board", "runs", "--json"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stdout is not None
        try:
            told = json.loads(process.stdout.readline())
            until, listed = time.monotonic() + 20, set[str]()
            while time.monotonic() < until and len(listed) < 2:
                with urllib.request.urlopen(told["url"] + "data/runs", timeout=5) as answer:
                    listed = set(json.load(answer))
                time.sleep(0.1)
            assert listed == {"ppo-cartpole/seed=1", "columns 1"}
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
    assert not Path(told["logdir"]).exists()
