"""Stop rules: each replica by its own evaluations or episodes, where the lone run of its seed stops too."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_folders import write_run
from runs.test_going import crash, same
from support import assert_same_bits, small

from rlrun import cli
from rlrun.config import ConfigError
from rlrun.config.compose import compose
from rlrun.config.plain import config_hash, from_dict, to_dict
from rlrun.config.run import CheckpointConfig, RunConfig, StopConfig
from rlrun.report.table import results_table
from rlrun.runs.ends import Ends
from rlrun.runs.folder import RunFolder
from rlrun.runs.load import Saved
from rlrun.runs.run import execute, fork, resume

ALL, NAN = np.ones(3, bool), float("nan")
STEP = np.array([100, 1100, 20_000])


def ends(**rules: Any) -> Ends:
    names = ("eval_return", "patience", "episodes", "minutes")
    return Ends(StopConfig(**dict.fromkeys(names) | rules), 3)


def judge(rule: Ends, *values: float, rows: np.ndarray = ALL, sign: int = 1) -> list[bool]:
    return rule.judged(rows, STEP, np.array(values), "eval/return", sign).tolist()


def test_a_return_that_is_reached() -> None:
    rule = ends(eval_return=500.0)
    assert judge(rule, 499.9, NAN, 500.0) == [False, False, True]
    assert rule.stopped == {2: "return 500 at step 20,000"}


def test_a_score_that_is_good_where_it_is_low() -> None:
    assert judge(ends(eval_return=2.0), 1.9, 2.0, 2.1, sign=-1) == [True, True, False]


def test_patience_counts_evaluations_without_a_better_one() -> None:
    """An equal one, and one that is no number, are not better."""
    rule = ends(patience=2)
    assert judge(rule, 1.0, 1.0, 5.0) == [False] * 3
    assert judge(rule, 1.0, 2.0, 6.0) == [False] * 3
    assert judge(rule, NAN, 1.5, 7.0) == [True, False, False]
    assert rule.stopped == {0: "no better return in 2 evaluations at step 100"}


def test_only_replicas_that_are_judged_lose_patience() -> None:
    rule = ends(patience=1)
    judge(rule, 1.0, 1.0, 1.0)
    assert judge(rule, 0.0, 0.0, 0.0, rows=np.array([False, True, False])) == [False, True, False]


def test_episodes_and_minutes() -> None:
    rule = ends(episodes=10, minutes=2.0)
    assert rule.spent(ALL, STEP, np.array([9, 10, 12]), 60.0).tolist() == [False, True, True]
    assert rule.spent(np.array([True, False, False]), STEP, np.array([9, 11, 12]), 120.0).tolist()[0]
    assert rule.stopped == {
        0: "2 minutes at step 100",
        1: "10 episodes at step 1,100",
        2: "12 episodes at step 20,000",
    }


RULES = {
    "patience": {"patience": 2},
    "episodes": {"episodes": 9},
    "return": {"eval_return": 15.0},
}


def config_of(rule: str, **main: Any) -> RunConfig:
    """Three replicas, of which each rule stops one long before another."""
    names = ("eval_return", "patience", "episodes", "minutes")
    stop = StopConfig(**dict.fromkeys(names) | RULES[rule])
    own = ("algo.learning_rate=0.02", "algo.double=true", "algo.epsilon.fraction=0.2")
    config = small("dqn", *own, replicas=3, total_steps=600, dtype="float64", stop=stop, **main)
    return replace(config, checkpoint=CheckpointConfig(1e6, 50))


@pytest.mark.parametrize("rule", RULES)
def test_a_replica_that_stops_is_the_lone_run_of_its_seed(rule: str, tmp_path: Path) -> None:
    config = config_of(rule)
    batch = execute(config, folder=tmp_path / "batch")
    rows = batch.summary["replicas"]
    assert any("stopped" in row for row in rows) and len({row["steps"] for row in rows}) > 1
    policies = Saved.of(batch.folder).state
    for r, row in enumerate(rows):
        lone = execute(replace(config, seed=config.seed + r, replicas=1), folder=tmp_path / f"{r}")
        (alone,) = lone.summary["replicas"]
        for name in ("steps", "eval_return", "stopped"):
            assert row.get(name) == alone.get(name), name
        for name, leaf in Saved.of(lone.folder).state.items():
            if name.startswith("net"):
                np.testing.assert_allclose(policies[name][r].numpy(), leaf[0].numpy(), atol=1e-9)


@pytest.mark.parametrize("rule", RULES)
def test_a_kill_changes_nothing(rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it comes: also between evaluations that are counted, and after a replica has stopped."""
    config = config_of(rule)
    whole = execute(config, folder=tmp_path / "whole")
    crash(monkeypatch, whole.summary["updates"] // 2, lambda: execute(config, folder=tmp_path / "part"))
    crash(monkeypatch, whole.summary["updates"] - 1, lambda: resume(tmp_path / "part"))
    resume(tmp_path / "part")
    same(tmp_path / "part", tmp_path / "whole")


def test_a_run_ends_when_all_have_stopped(tmp_path: Path) -> None:
    result = execute(config_of("episodes"), folder=tmp_path / "run")
    assert result.summary["env_steps"] < 3 * 600
    assert all("episodes at step" in row["stopped"] for row in result.summary["replicas"])
    assert RunFolder(result.folder).status()["status"] == "finished"
    with pytest.raises(ConfigError, match=r"come to its end \(.*episodes at step .*nothing is left to train"):
        resume(result.folder, changes={"total_steps": 900})
    with pytest.raises(ConfigError, match=r"nothing is left to train\nrlrun fork .* stop.KEY=VALUE"):
        fork(result.folder, {"algo.gamma": 0.9})


def test_who_was_stopped_stays_so_when_the_others_go_on(tmp_path: Path) -> None:
    folder = execute(config_of("return"), folder=tmp_path / "run").folder
    before, policies = RunFolder(folder).summary()["replicas"], Saved.of(folder).state
    stopped = [row["replica"] for row in before if "stopped" in row]
    assert stopped and len(stopped) < 3
    after = resume(folder, changes={"total_steps": 700}).summary["replicas"]
    for old, new in zip(before, after, strict=True):
        kept = old["replica"] in stopped
        assert ("stopped" not in old or old == new) and (kept or new["steps"] > old["steps"])
    now = Saved.of(folder).state
    nets = [name for name in now if name.startswith("net")]
    assert_same_bits({n: policies[n] for n in nets}, {n: now[n] for n in nets}, stopped)


def test_a_fork_with_another_rule_goes_on(tmp_path: Path) -> None:
    """Stopped by patience after three evaluations; without it, what never had it."""
    config = replace(config_of("patience", out=str(tmp_path / "forks")), replicas=1)
    first = execute(config, folder=tmp_path / "run")
    assert "stopped" in first.summary["replicas"][0]
    result = fork(tmp_path / "run", {"stop.patience": None})
    free = replace(config, stop=replace(config.stop, patience=None))
    never = execute(free, folder=tmp_path / "never")
    assert result.summary["replicas"] == never.summary["replicas"]
    begin = first.summary["replicas"][0]["steps"]
    lines = RunFolder(never.folder).metrics.read_text().splitlines()
    after = [line for line in lines if json.loads(line)["step"] > begin]
    assert RunFolder(result.folder).metrics.read_text().splitlines() == after


def test_one_that_is_stopped_with_its_last_step_has_none_left(tmp_path: Path) -> None:
    """Another rule gives it no more than total_steps."""
    config = replace(config_of("return"), replicas=1, total_steps=180)
    stop, judged = replace(config.stop, eval_return=1.0), replace(config.eval, every=180)
    config = replace(config, stop=stop, eval=judged)
    (row,) = execute(config, folder=tmp_path / "run").summary["replicas"]
    assert row["stopped"].endswith("at step 180") and row["steps"] == 180
    with pytest.raises(ConfigError, match=r"come to its end .total_steps=180."):
        fork(tmp_path / "run", {"stop.eval_return": None})


def test_under_walk_forward_validation_decides(tmp_path: Path) -> None:
    overrides = ("env=synthetic", "env.rows=1500", "eval=walk_forward", "eval.n_folds=2")
    more = ("eval.stats.n_boot=100", "eval.validation.every=40", "stop.patience=1", "~tuned")
    result = execute(small("dqn", *overrides, *more, total_steps=400), folder=tmp_path / "run")
    for row in result.summary["replicas"]:
        records = RunFolder(result.folder).read_metrics(["val/score"])
        scores = {each["step"]: each["val/score"] for each in records if each["replica"] == row["replica"]}
        if "stopped" in row:
            assert row["stopped"] == f"no better score in 1 evaluations at step {row['steps']:,}"
            *before, last = scores.values()
            assert max(scores) == row["steps"] and last <= max(before) and before == sorted(before)
    assert any("stopped" in row for row in result.summary["replicas"])


def test_rules_that_say_nothing_are_not_there() -> None:
    """So that hashes and run.json are those of before there were rules."""
    config = compose(["algo=dqn"])
    assert "stop" not in to_dict(config) and from_dict(to_dict(config)) == config
    ruled = compose(["algo=dqn", "stop.patience=3"])
    assert to_dict(ruled)["stop"]["patience"] == 3 and from_dict(to_dict(ruled)) == ruled
    assert config_hash(ruled) != config_hash(config)
    assert config_hash(compose(["algo=dqn", "stop.patience=null"])) == config_hash(config)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["stop.patience=0"], "stop.patience is 0: it must be at least 1"),
        (["stop.minutes=0"], "stop.minutes is 0.0: it must be above 0"),
        (["stop.reward_threshold=500"], "did you mean stop.eval_return"),
        (["stop.patience=x"], "it must be an integer or null"),
        (["algo=ucb", "stop.patience=3"], "eval=online has none"),
        (["algo=bc", "stop.episodes=3"], "algo never acts"),
        (
            ["env=trading", "eval=walk_forward", "eval.validation.size=0", "stop.eval_return=1"],
            "set eval.validation.size",
        ),
    ],
)
def test_what_is_refused(words: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told) as error:
        compose(words)
    assert len(error.value.lines) <= 3


def test_a_return_goes_by_its_own_word() -> None:
    """Which no field of a dataclass may have."""
    assert compose(["stop.return=500"]).stop.eval_return == 500.0


def test_the_table_says_who_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path, [1.0, 2.0, 3.0], "replicas=3", steps=[500, 1200, 3000])
    summary = run.summary()
    summary["replicas"][0]["stopped"] = "return 500 at step 500"
    assert "\nreplica 0 stopped: return 500 at step 500\n" in results_table(summary, run)
    summary["replicas"][1]["stopped"] = "return 501 at step 1,200"
    assert "\n2 of 3 replicas stopped early, at steps 500 to 1,200\n" in results_table(summary, run)
    run.write_summary(summary)
    assert cli.main(["report", str(run)]) == 0
    assert "2 of 3 replicas stopped early" in capsys.readouterr().out
