"""A run folder from the outside: its record, reports made again, and what loading leaves alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support import small

import rlrun
from rlrun import api, cli
from rlrun.config.compose import compose
from rlrun.runs.folder import RunFolder
from rlrun.runs.identity import job_hash
from rlrun.runs.run import execute

WALK = [
    "algo=dqn", "env=trading", "eval=walk_forward", "eval.n_folds=2", "replicas=2", "total_steps=600",
    "algo.learning_starts=100", "log.tensorboard=false", "model.hidden=[8]",
]  # fmt: skip


@pytest.fixture(scope="module")
def walk_forward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs")
    return rlrun.run([*WALK, f"out={out}"], quiet=True).folder


def test_a_report_is_made_again_from_the_files(
    walk_forward: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder(walk_forward)
    made = (run.report, run.report_json, run.curve, run.equity, run.folds)
    before = {file: file.read_bytes() for file in made}
    for file in made:
        file.unlink()
    assert cli.main(["report", str(walk_forward)]) == 0
    assert "median" in capsys.readouterr().out
    assert {file: file.read_bytes() for file in made} == before


def test_a_walk_forward_test_is_scored_once(walk_forward: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded = RunFolder(walk_forward).summary()
    assert cli.main(["evaluate", str(walk_forward), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["recorded"] and shown["replicas"] == recorded["replicas"]
    assert cli.main(["evaluate", str(walk_forward)]) == 0
    assert "the recorded test" in capsys.readouterr().out
    for asked in (["--episodes", "5"], ["--seed", "7"]):
        assert cli.main(["evaluate", str(walk_forward), *asked]) == 2
        assert "scored once" in capsys.readouterr().err


def test_a_report_needs_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = execute(small("q_learning", total_steps=100), folder=tmp_path / "run").folder
    (folder / "summary.json").unlink()
    assert cli.main(["report", str(folder)]) == 2
    assert "rlrun resume" in capsys.readouterr().err


def test_loading_leaves_the_process_alone(tmp_path: Path) -> None:
    folder = execute(replace(small("dqn", total_steps=100), threads=2), folder=tmp_path / "run").folder
    before = torch.get_num_threads()
    rlrun.load(folder)
    assert torch.get_num_threads() == before
    api.evaluate(folder, episodes=1)
    assert torch.get_num_threads() == before


def test_replicas_are_numbered_by_seed_fold_and_variant(walk_forward: Path) -> None:
    record = RunFolder(walk_forward).read()
    named = [(r["seed"], r["fold"], r["variant"]) for r in record["replicas"]]
    assert named == [(1, 0, 0), (2, 0, 0), (1, 1, 0), (2, 1, 0)]
    assert [r["variant"] for r in RunFolder(walk_forward).summary()["replicas"]] == [0] * 4


def test_a_job_is_what_decides_the_policies() -> None:
    def job(*overrides: str) -> str:
        return job_hash(compose(["algo=dqn", *overrides]), None)

    same = ("log.plot=false", "out=elsewhere", "threads=2", "checkpoint.every_seconds=1", "eval.episodes=7")
    assert {job(text) for text in same} == {job()}
    other = ("algo.gamma=0.9", "seed=2", "replicas=2", "dtype=float64", "eval.choose=best")
    assert len({job(text) for text in other}) == len(other) and job() not in {job(text) for text in other}
    assert job("eval.choose=best") != job("eval.choose=best", "eval.during=3")
    assert job_hash(compose(["algo=dqn"]), "some data") != job()
