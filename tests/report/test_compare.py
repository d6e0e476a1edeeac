"""The table over runs: one experiment a row, ranked within a task, and nothing claimed without its n."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from run_folders import write_run

from rlrun import cli
from rlrun.report.compare import compare, rows


def test_folds_are_averaged_before_an_interval_is_taken_as_summary_json_does(tmp_path: Path) -> None:
    fold_effect = np.array([0.0, 10.0, 20.0, 30.0, 50.0])
    scores = (fold_effect[:, None] + np.array([-1.0, 0.0, 1.0])).ravel().tolist()
    run = write_run(tmp_path, scores, "algo=dqn", "env=trading", "eval=walk_forward", "replicas=3", folds=5)
    (row,) = rows([tmp_path])
    total = run.summary()["aggregate"]
    assert {name: row[name] for name in total} == total
    assert (row["n"], row["over"], row["replicas"]) == (5, "folds", 15)
    assert row["interval"][1] - row["interval"][0] > 40  # as 15 seeds it would be 20 wide


def test_runs_that_differ_in_seeds_and_places_alone_are_one_experiment(tmp_path: Path) -> None:
    write_run(tmp_path, [1.0, 2.0], "algo=dqn", "replicas=2")
    write_run(
        tmp_path, [3.0], "algo=dqn", "seed=3", "threads=2", "log.plot=false", "checkpoint.every_seconds=5"
    )
    write_run(tmp_path, [3.0], "algo=dqn", "seed=3")  # the same seed again is no new evidence
    write_run(tmp_path, [9.0], "algo=dqn", "algo.gamma=0.5")
    other, pooled = rows([tmp_path])
    assert other["median"] == 9.0 and other["n"] == 1 and other["interval"] is None
    assert pooled["median"] == 2.0 and pooled["n"] == 3 and len(pooled["runs"]) == 3
    assert pooled["seconds"] == 4.5


def test_what_has_no_score_comes_last_and_never_counts_as_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path, None, "algo=ppo")
    write_run(tmp_path, [None], "algo=a2c")
    write_run(tmp_path, [float("nan"), float("inf")], "algo=reinforce", "replicas=2")
    write_run(tmp_path, [-5.0, None, -7.0], "algo=dqn", "replicas=3")
    table = rows([tmp_path])
    assert Path(table[0]["runs"][0]).parent.name == "dqn"
    assert [row["median"] for row in table] == [-6.0, None, None, None]
    assert (table[0]["replicas"], table[0]["unscored"], table[0]["n"], table[0]["worst"]) == (2, 1, 2, -7.0)
    assert compare([tmp_path]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[3].split()[:3] == ["2", "of", "3"] and "none, n=2 seeds" in lines[3]
    assert any("none, n=0 seeds" in line and "interrupted at step 3,000" in line for line in lines[4:])
    assert compare([tmp_path], as_json=True) == 0
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail)["runs"] == table


def test_an_interval_is_shown_with_its_n_and_within_the_tasks_bounds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path, [500.0, 500.0, 100.0], "algo=dqn", "replicas=3")
    write_run(tmp_path, [40.0], "algo=ppo")
    compare([tmp_path])
    out = capsys.readouterr().out
    assert "0.00 .. 500.0, n=3 seeds" in out and "none, n=1 seed " in out


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (["eval.episodes=20"], "eval.episodes=20"),
        (["eval.mode=sample"], "eval.mode=sample"),
        (["env.max_steps=70"], "env.max_steps=70"),
        (["env=acrobot"], "env=acrobot"),
        (["eval=online"], "eval=online"),
    ],
)
def test_different_tasks_are_not_ranked_against_each_other(
    changes: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path, [1.0], "algo=dqn")
    write_run(tmp_path, [100.0], "algo=dqn", *changes)
    assert {row["task"].count(told) for row in rows([tmp_path])} == {0, 1}
    compare([tmp_path])
    out = capsys.readouterr().out
    assert out.count("median") == 2 and told in out and "2 tasks: scores are ranked within each" in out


def test_what_belongs_to_training_makes_no_other_task(tmp_path: Path) -> None:
    write_run(tmp_path, [1.0], "algo=dqn")
    write_run(tmp_path, [2.0], "algo=dqn", "env.reward.scale=0.1")
    write_run(tmp_path, [3.0], "algo=ppo", "eval.every=100", "eval.during=2")
    write_run(tmp_path, [4.0], "algo=bc", "data=cartpole_expert", sha="0123")
    table = rows([tmp_path])
    assert [row["median"] for row in table] == [4.0, 3.0, 2.0, 1.0]
    assert {row["task"] for row in table} == {"env=cartpole eval=episodes"}


def test_other_data_are_another_task(tmp_path: Path) -> None:
    how = "algo=dqn", "env=trading", "eval=walk_forward"
    write_run(tmp_path, [1.0, 2.0, 3.0], *how, folds=3, sha="0123")
    write_run(tmp_path, [1.0, 2.0, 3.0], *how, folds=3, sha="4567")
    assert [row["task"].split("=")[-1] for row in rows([tmp_path])] == ["0123", "4567"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"config": 3}', "[" * 100_000, '{"a":' * 100_000])
def test_damaged_runs_are_refused(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(tmp_path, [1.0], "algo=dqn")
    for file in (folder.summary_file, folder.record):
        file.write_text(text)
        assert cli.main(["compare", str(tmp_path)]) == 2
        assert "damaged" in capsys.readouterr().err


def test_runs_without_any_summary_are_refused_and_a_damaged_status_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path, None, "algo=dqn").status_file.write_text("{")
    assert cli.main(["compare", str(tmp_path)]) == 2
    assert "no finished run" in capsys.readouterr().err
    write_run(tmp_path, [1.0], "algo=ppo")
    assert cli.main(["compare", str(tmp_path)]) == 0
    assert "(unfinished)" in capsys.readouterr().out
