"""A sweep is counted and looked at before it begins."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from rlrun import cli
from rlrun.config import ConfigError, catalog
from rlrun.config.sweep import sweep
from rlrun.sweeps import check


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("overrides", "jobs"),
    [
        (["seed=1,2,3"], 3),
        (["seed=range(1,100000000)"], 99_999_999),
        (["seed=range(10,1,-2)"], 5),
        (["seed=shuffle(range(0,1000000000))"], 10**9),
        (["algo.gamma=range(0,1,0.0000001)"], 10**7),
        (["seed=choice(1,2)", "algo=dqn,ppo", "replicas=range(5)"], 20),
        (["algo=glob(*)"], len(catalog.recipes("algo"))),
        (["algo=glob(*dqn,exclude=[lstm*,gru*])"], 4),
        (["seed=3"], 1),
    ],
)
def test_jobs_are_counted_without_being_made(overrides: list[str], jobs: int) -> None:
    began = time.process_time()
    assert len(sweep(overrides)) == jobs
    assert time.process_time() - began < 5.0


@pytest.mark.parametrize(
    "override",
    ["seed=range(5,1)", "seed=range(0,5,0)", "algo.gamma=range(0,1,0)", "algo.gamma=interval(0,1)"],
)
def test_what_has_no_values_or_no_end_is_refused(override: str, empty_folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"range|interval"):
        sweep([override])
    assert cli.main(["-m", override]) == 2
    assert not list(empty_folder.iterdir())


def test_every_combination_of_what_is_chosen_is_looked_at_and_every_other_value() -> None:
    asked = sweep(["algo=dqn,ppo", "seed=1,2,3", "env=cartpole,acrobot", "num_envs=4"])
    assert asked.fixed == ["num_envs=4"]
    probes = [" ".join(job) for job in asked.probes()]
    first = [f"algo={a} seed=1 env={e}" for a in ("dqn", "ppo") for e in ("cartpole", "acrobot")]
    assert probes == [*first, "algo=dqn seed=2 env=cartpole", "algo=dqn seed=3 env=cartpole"]


RECIPE = """# @package _global_
# A sweep of its own.
hydra:
  mode: MULTIRUN
  sweeper:
    params:
      algo: {algos}
      seed: range(1,20000)
"""


def test_a_recipes_own_sweep_counts(empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = empty_folder / "conf" / "experiment" / "mine.yaml"
    recipe.parent.mkdir(parents=True)
    recipe.write_text(RECIPE.format(algos="dqn,ppo"))
    assert len(sweep(["experiment=mine"])) == 2 * 19_999
    assert len(sweep(["experiment=mine", "seed=1,2"])) == 4  # the command line has the last word
    assert cli.main(["experiment=mine"]) == 2
    assert "39,998 jobs" in capsys.readouterr().err
    recipe.write_text(RECIPE.format(algos="dqn,sac"))
    assert cli.main(["experiment=mine", "seed=1", "env=cartpole"]) == 2
    assert "in the job algo=sac" in capsys.readouterr().err
    assert [path.name for path in empty_folder.iterdir()] == ["conf"]


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["algo=dqn", "env=cartpole,trading"], ["in the job env=trading", "time series"]),
        (["algo=dqn,sac", "env=pendulum,cartpole"], ["in the job algo=dqn env=pendulum"]),
        (
            ["algo=dqn", "algo.buffer_size=1000,100000000000000"],
            ["memory", "in the job algo.buffer_size=1000000"],
        ),
        (["algo=ppo", "seed=1,2", "out=file"], ["file is no folder"]),
        (["algo=ppo", "seed=1,2", "hydra.sweep.subdir=" + "x" * 300], ["File name too long"]),
        (["replicas=1,1000000000"], ["lower replicas=1000000000", "in the job replicas=1000000000"]),
        (["init_from=nowhere,null"], ["nowhere is not a run folder", "in the job init_from=nowhere"]),
        (["seed=range(1,10002)"], ["10,001 jobs", "--yes"]),
        (["seed=range(1,100000000)", "--yes"], ["99,999,999 jobs"]),
    ],
)
def test_a_bad_sweep_is_refused_before_its_first_job(
    overrides: list[str], says: list[str], empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (empty_folder / "file").touch()
    assert cli.main(["-m", *overrides]) == 2
    out, err = capsys.readouterr()
    assert not out and len(err.splitlines()) <= 4
    assert all(words in err for words in says)
    assert [path.name for path in empty_folder.iterdir()] == ["file"]


def test_looking_takes_no_longer_than_it_may(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check, "PATIENCE", 0.0)
    began = time.process_time()
    asked = sweep(["algo=glob(*dqn)", "env=cartpole,acrobot", "seed=range(1,5000)"])
    check.checked(asked, Path("outputs/sweeps/mine"), yes=True)
    assert time.process_time() - began < 5.0
    assert "not all jobs could be checked" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["hydra.run.dir=/proc/x", "total_steps=10"], "hydra.run.dir is /proc/x"),
        (["hydra.run.dir=mine", "algo=dqn", "env=pendulum"], "cannot work with box actions"),
        (["hydra.run.dir=mine", "algo=dqn", "init_from=nowhere"], "nowhere is not a run folder"),
        (["hydra.job.chdir=maybe"], "hydra.job.chdir"),
        (["hydra.nope=1"], "unknown key hydra.nope"),
        (["hydra/launcher=nope"], "there is no config hydra/launcher/nope"),
    ],
)
def test_what_hydra_cannot_do_is_refused(
    overrides: list[str], says: str, empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(overrides) == 2
    err = capsys.readouterr().err
    assert says in err and len(err.splitlines()) <= 4
    assert not list(empty_folder.iterdir())


def test_what_hydra_itself_stumbles_over_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stumbles(*_: object) -> None:
        raise TypeError("odd\nand odder")

    monkeypatch.setattr("hydra.main", stumbles)
    assert cli.main(["-m", "seed=1,2", "hydra.sweep.subdir=of-hydras"]) == 2
    assert capsys.readouterr().err.startswith(
        "rlrun: Hydra cannot do this: TypeError: odd\n       raised at test_sweep.py:"
    )


@pytest.mark.parametrize("words", ["--config-dir= algo=dqn", "--package nope --cfg job", "--cfg jobs"])
def test_flags_that_mean_nothing_are_bad_usage(words: str, empty_folder: Path) -> None:
    assert cli.main(words.split()) == 2
    assert not list(empty_folder.iterdir())


SEARCHER = """_target_: some.where.Search
direction: minimize
n_trials: 3
"""


def test_a_search_may_choose_from_intervals_and_looks_for_the_highest_score(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = empty_folder / "conf" / "hydra" / "sweeper" / "mine.yaml"
    recipe.parent.mkdir(parents=True)
    recipe.write_text(SEARCHER)
    handed: list[list[str]] = []
    monkeypatch.setattr("rlrun.cli.train._hydra_main", lambda flags, words, as_json: handed.append(words))
    words = ["hydra/sweeper=mine", "algo=dqn", "env=cartpole", "algo.gamma=interval(0.9,0.99)"]
    monkeypatch.setattr(check, "MANY", 3)
    cli.main(["-m", *words, "seed=1,2,3,4"])  # how many jobs that makes is the sweeper's business
    assert handed.pop()[-1] == "hydra.sweeper.direction=maximize"
    assert "direction=maximize" in capsys.readouterr().err
    cli.main(["-m", *words, "hydra.sweeper.direction=minimize"])
    assert handed.pop() == [*words, "hydra.sweeper.direction=minimize"]
    for bad, said in {
        "algo.gamma=interval(0.9,1.5)": "at most 1",  # the ends stand for all of it
        "algo.batch_size=interval(8,64)": "batch_size",  # a float, where an integer must be
        "algo.gama=interval(0,1)": "did you mean algo.gamma",
    }.items():
        assert cli.main(["-m", *words[:3], bad]) == 2
        assert said in capsys.readouterr().err
    assert not handed
    assert cli.main(["-m", *words[1:]]) == 2
    assert "hydra/sweeper=optuna" in capsys.readouterr().err
