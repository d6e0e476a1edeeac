"""Going on: a run trained further is one begun longer, and a fork is what its source would have become."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from run_folders import write_run
from support import Trial, assert_same_bits, final_state, small

from rlrun import cli
from rlrun.algos.td import TD
from rlrun.config import ConfigError
from rlrun.config.run import CheckpointConfig, RunConfig
from rlrun.report.compare import comparison
from rlrun.runs.folder import RunFolder
from rlrun.runs.run import Result, execute, fork, resume
from rlrun.runs.session import Session

CONSTANT = "algo.lr_schedule=constant"
CASES = {
    "dqn": ("algo.epsilon.kind=constant", CONSTANT),
    "ppo": (CONSTANT,),
    "q_learning": ("algo.epsilon.kind=constant", CONSTANT, "eval.choose=best"),
}


def config_of(algo: str, total_steps: int = 200, **main: Any) -> RunConfig:
    """Nothing in it depends on total_steps but the intervals; a checkpoint every 50 steps."""
    saving = CheckpointConfig(1e6, 50)
    return small(
        algo, *CASES[algo], **{"replicas": 2, "total_steps": total_steps, "checkpoint": saving} | main
    )


def longer(config: RunConfig, total_steps: int) -> RunConfig:
    """Begun with more steps, and with intervals as many steps long."""
    log = replace(config.log, every=config.total_steps // 100)
    return replace(
        config, total_steps=total_steps, log=log, eval=replace(config.eval, every=config.total_steps // 20)
    )


def lines(folder: Path) -> list[str]:
    return RunFolder(folder).metrics.read_text().splitlines()


def same(a: Path, b: Path) -> None:
    """Two runs have the same state, metrics and scores."""
    assert_same_bits(final_state(a), final_state(b))
    assert lines(a) == lines(b)
    one, other = (RunFolder(path).summary()["replicas"] for path in (a, b))
    assert one == other


def crash(monkeypatch: pytest.MonkeyPatch, update: int, work: Callable[[], Result]) -> None:
    """Let `work` die after an update, without a word, as by kill -9."""
    on_step = Session.on_step

    def dying(self: Session, clock: Any, metrics: Any) -> None:
        on_step(self, clock, metrics)
        if clock.updates >= update:
            raise KeyError("killed")

    with monkeypatch.context() as patch, pytest.raises(KeyError, match="killed"):
        patch.setattr(Session, "on_step", dying)
        work()


@pytest.mark.parametrize("algo", CASES)
def test_a_run_that_is_trained_further_is_one_begun_longer(algo: str, tmp_path: Path) -> None:
    config = config_of(algo)
    execute(config, folder=tmp_path / "run")
    resume(tmp_path / "run", changes={"total_steps": 400})
    execute(longer(config, 400), folder=tmp_path / "longer")
    same(tmp_path / "run", tmp_path / "longer")
    one, other = (RunFolder(tmp_path / name).read_record() for name in ("run", "longer"))
    assert one["config"] == other["config"] and one["config_hash"] == other["config_hash"]
    assert one["extended"] == [200] and one["job_hash"] != other["job_hash"]  # schedules might have told


@pytest.mark.parametrize("step", [204, 320])
def test_killed_while_it_is_trained_further(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before and after the first checkpoint there; a plain resume goes on."""
    config = config_of("q_learning")
    execute(config, folder=tmp_path / "run")
    execute(longer(config, 400), folder=tmp_path / "longer")
    crash(
        monkeypatch, updates_at(config, step), lambda: resume(tmp_path / "run", changes={"total_steps": 400})
    )
    resume(tmp_path / "run")
    same(tmp_path / "run", tmp_path / "longer")


def test_killed_while_the_folder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before run.json is written anew it is the run that it was."""
    execute(config_of("q_learning"), folder=tmp_path / "run")
    before = final_state(tmp_path / "run"), RunFolder(tmp_path / "run").summary()["replicas"]

    def dying(self: RunFolder, record: Any, overrides: Any = None) -> None:
        raise KeyError("killed")

    with monkeypatch.context() as patch, pytest.raises(KeyError):
        patch.setattr(RunFolder, "_write_record", dying)
        resume(tmp_path / "run", changes={"total_steps": 400})
    resume(tmp_path / "run")
    assert_same_bits(final_state(tmp_path / "run"), before[0])
    assert RunFolder(tmp_path / "run").summary()["replicas"] == before[1]


def test_an_interrupted_run_goes_on_to_another_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of("q_learning", 400)
    crash(monkeypatch, 75, lambda: execute(config, folder=tmp_path / "run"))
    resume(tmp_path / "run", changes={"total_steps": 240, "checkpoint.every_steps": 25})
    shorter = replace(longer(config, 240), checkpoint=CheckpointConfig(1e6, 25))
    execute(shorter, folder=tmp_path / "shorter")
    same(tmp_path / "run", tmp_path / "shorter")


def test_a_schedule_follows_the_new_total(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A learning rate that falls to 0 at step 200 is half of what it was, there, once 400 are asked for."""
    config = small("sarsa", "algo.lr_schedule=linear", "algo.learning_rate=0.5", total_steps=200)
    execute(config, folder=tmp_path / "run")
    rates = []
    build = TD.update

    def update(self: TD, rollout: Any, *, step: Any) -> Any:
        rates.append(float(self.learning_rate(step)[0]))
        return build(self, rollout, step=step)

    monkeypatch.setattr(TD, "update", update)
    resume(tmp_path / "run", changes={"total_steps": 400})
    assert rates[0] == 0.25


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("total_steps=200", None),
        ("total_steps=199", "at step 200 already, and total_steps=199 is not above that"),
        ("total_steps=0", "it must be at least 1"),
        ("total_steps=9k", "write 9000"),
        ("total_step=900", "did you mean total_steps"),
        ("algo.gamma=0.5", "rlrun fork .* algo.gamma=VALUE starts a new run"),
        ("env.max_steps=5", "env.max_steps cannot change when a run goes on"),
        ("log.every=9", "log.every cannot change when a run goes on"),
        ("+total_steps=900", "must be KEY=VALUE"),
        ("checkpoint.every_steps=0", "it must be at least 1"),
    ],
)
def test_what_a_resume_refuses(
    finished: Path, words: str, told: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(finished)
    assert cli.main(["resume", str(finished), words]) == (2 if told else 0)
    error = capsys.readouterr().err
    if told:
        assert_said(error, told)
    else:
        assert "had ended already" in error
    assert contents(finished) == before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("", r"come to its end .total_steps=200.: nothing is left to train\n.*a larger one"),
        ("total_steps=150", "at step 200 already"),
        ("seed=5 total_steps=400", "seed cannot change in a fork"),
        ("replicas=3", "replicas cannot change in a fork"),
        ("num_envs=3", "num_envs cannot change"),
        ("dtype=float64", "dtype cannot change"),
        ("env.max_steps=5", "env.max_steps cannot change"),
        ("model.hidden=[4]", "model.hidden cannot change"),
        ("algo=sarsa", "algo cannot change"),
        ("eval=online", "eval cannot change"),
        ("init_from=x", "init_from cannot change"),
        ("algo.gama=0.5 total_steps=400", "did you mean algo.gamma"),
        ("algo.gamma=2 total_steps=400", "algo.gamma is 2.0: it must be at most 1"),
        ("total_steps=400 --step 77", "no checkpoint at step 77: the last ones are at 200 and 150"),
    ],
)
def test_what_a_fork_refuses(
    finished: Path, words: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["fork", str(finished), f"out={tmp_path / 'forks'}", *words.split()]) == 2
    assert_said(capsys.readouterr().err, told)
    assert not (tmp_path / "forks").exists()


def test_a_state_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    """A replay of another size."""
    folder = execute(config_of("dqn"), folder=tmp_path / "run").folder
    out = tmp_path / "forks"
    changes = {"algo.buffer_size": 100, "total_steps": 400, "out": str(out)}
    with pytest.raises(ConfigError, match="does not fit: replay"):
        fork(folder, changes)
    assert not out.exists()


def test_replicas_that_ended_apart_do_not_go_on(tmp_path: Path) -> None:
    """Whole episodes: the first to have its steps waits for the others, which train its weights on."""
    config = small("reinforce", replicas=3, total_steps=200)
    folder = execute(config, folder=tmp_path / "run").folder
    before = contents(folder)
    with pytest.raises(ConfigError, match="ended before others did, and only its policy was kept"):
        resume(folder, changes={"total_steps": 400})
    assert contents(folder) == before
    alone = execute(replace(config, replicas=1), folder=tmp_path / "alone").folder
    assert resume(alone, changes={"total_steps": 400}).summary["replicas"][0]["steps"] >= 400


def test_a_walk_forward_run_ends_where_it_ended(tmp_path: Path) -> None:
    folder = write_run(tmp_path, [1.0, 2.0], "algo=dqn", "env=trading", "eval=walk_forward", folds=2).path
    before = contents(folder)
    for go_on in (resume, fork):
        with pytest.raises(ConfigError, match="walk-forward run, which is tested once"):
            go_on(folder, changes={"total_steps": 400})
    assert contents(folder) == before


@pytest.mark.parametrize("algo", CASES)
def test_a_fork_without_changes_is_what_its_source_becomes(
    algo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(algo, out=str(tmp_path / "forks"))
    crash(monkeypatch, 1 + updates_at(config, 125), lambda: execute(config, folder=tmp_path / "run"))
    step = RunFolder(tmp_path / "run").status()["step"]
    result = fork(tmp_path / "run", {})
    resume(tmp_path / "run")
    assert_same_bits(final_state(result.folder), final_state(tmp_path / "run"))
    after = [line for line in lines(tmp_path / "run") if json.loads(line)["step"] > step]
    assert 0 < step < 200 and lines(result.folder) == after
    assert result.summary["replicas"] == RunFolder(tmp_path / "run").summary()["replicas"]


def updates_at(config: RunConfig, step: int) -> int:
    """The number of the update that comes to a step."""
    trial = Trial.of(config)
    trial.train(1)
    return step // int(trial.clock.step[0])


def test_a_fork_with_changes_tells_where_it_is_from(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["total_steps=400", "algo.learning_rate=0.01", f"out={tmp_path / 'forks'}", "step=150"]
    assert cli.main(["fork", str(finished), *words, "--json"]) == 0
    folder = RunFolder(json.loads(capsys.readouterr().out)["run"])
    record, source = folder.read_record(), RunFolder(finished).read_record()
    assert record["config"]["algo"]["learning_rate"] == 0.01
    assert record["config"]["log"]["every"] == 2 and record["config"]["eval"]["every"] == 10
    told = record["fork_of"]
    assert told["step"] == 150 and told["config_hash"] == source["config_hash"]
    assert os.path.samefile(folder.path / told["run"], finished)
    assert json.loads(lines(folder.path)[0])["step"] == 152
    assert all(row["steps"] == 400 for row in folder.summary()["replicas"])
    assert cli.main(["report", str(folder)]) == 0
    assert f"a fork of {finished} at step 150" in capsys.readouterr().out
    assert len(comparison([folder.path, finished]).rows) == 2  # no seeds more of one experiment


def test_a_fork_goes_on_after_a_kill(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {"total_steps": 400, "algo.gamma": 0.9, "out": str(tmp_path / "whole")}
    whole = fork(finished, changes)
    crash(monkeypatch, 1, lambda: fork(finished, changes | {"out": str(tmp_path / "part")}))
    (part,) = RunFolder.under(tmp_path / "part")
    resume(part.path)
    same(part.path, whole.folder)


def test_a_fork_that_lost_its_checkpoints_does_not_begin_at_step_0(finished: Path, tmp_path: Path) -> None:
    folder = RunFolder(fork(finished, {"total_steps": 400, "out": str(tmp_path / "forks")}).folder)
    folder.summary_file.unlink()
    folder.checkpoints.rename(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="is a fork: there is no step 0"):
        resume(folder.path, restart=True)
    with pytest.raises(ConfigError, match="its checkpoints are gone"):
        resume(folder.path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 200 steps, with checkpoints at 150 and 200; nobody changes it."""
    return execute(config_of("q_learning"), folder=tmp_path_factory.mktemp("going") / "finished").folder


def contents(folder: Path) -> dict[str, bytes]:
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: data for name, data in files.items() if name != "lock"}


def assert_said(error: str, pattern: str) -> None:
    """In at most three lines."""
    assert re.search(pattern, error) and "Traceback" not in error
    assert 0 < len([line for line in error.splitlines() if "differ" not in line]) <= 3
