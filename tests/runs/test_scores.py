"""What has a score and what has none: replicas that failed, scores that are no numbers, nothing learned."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import Trial, episodes, final_state, session, small, train_until
from test_resume import ended, fork, outcome

from rlrun import cli, registry
from rlrun.config import ConfigError
from rlrun.config.compose import compose
from rlrun.config.run import CheckpointConfig, RunConfig
from rlrun.core import Algorithm
from rlrun.evals.episodes import Episodes
from rlrun.report.table import results_table
from rlrun.runs import checkpoint
from rlrun.runs import task as tasks
from rlrun.runs.kept import POLICY
from rlrun.runs.load import load, restore
from rlrun.runs.record import record
from rlrun.runs.run import evaluate, execute, resume
from rlrun.runs.task import Task

SERIES = [
    "env=trading", "algo=dqn", "model.hidden=[8]", "total_steps=60", "algo.learning_starts=20",
    "log.tensorboard=false", "log.plot=false", "env.max_steps=20",
]  # fmt: skip
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["env=trading"], ["env=trading", "eval=episodes", "eval=walk_forward"]),
        (["env=series", "env.path=wti_daily"], ["env=series", "eval=walk_forward"]),
        (["env=trading", "eval.choose=best", "algo=lstm_ppo"], ["eval=walk_forward"]),
        (["env=trading", "eval=online"], ["eval=online", "eval=walk_forward"]),
        (["env=trading", "eval=walk_forward", "algo=bc"], ["algo=bc data=cartpole_expert", "data=none"]),
        (
            ["env=trading", "eval=walk_forward", "algo=cql", "data=none"],
            ["algo=cql", "an algorithm that acts"],
        ),
        (
            ["env=trading", "eval=walk_forward", "algo=gail", "data=point_wrong_way"],
            ["algo=gail", "data=none"],
        ),
        (["env=trading", "eval=walk_forward", "data=file", "data.path=x"], ["data=file", "data=none"]),
        (["env=trading", "eval=walk_forward", "init_from=RUN"], ["init_from=RUN", "leave it out"]),
    ],
)
def test_what_would_judge_on_rows_that_were_learned_from_is_refused(
    overrides: list[str],
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(overrides) == 2
    out, err = capsys.readouterr()
    assert out == "" and 2 <= len(err.splitlines()) <= 3 and not list(tmp_path.iterdir())
    for word in words:
        assert word in err


def test_what_keeps_to_its_windows_is_not() -> None:
    """An expert that learns inside of them, too; elsewhere logged steps and episodes are as they were."""
    Task.of(compose(["env=trading", "eval=walk_forward", "algo=gail", "data=none"]))
    Task.of(compose(["algo=bc"]))


def test_a_time_series_judged_by_episodes_earlier_is_read_but_not_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(tasks, "_in_time", lambda *arguments: None)
        run = execute(compose([*SERIES, "eval.episodes=1", "eval.during=1"]), folder=tmp_path / "run")
    assert record(run.folder, 2, tmp_path / "steps")["episodes"] == 2
    load(run.folder)
    for scored in (evaluate, resume_again):
        with pytest.raises(ConfigError, match="eval=walk_forward"):
            scored(run.folder)


def resume_again(folder: Path) -> None:
    (folder / "summary.json").unlink()
    resume(folder)


# A replica fails at a step, in the middle of a run.


def failing(
    monkeypatch: pytest.MonkeyPatch, config: RunConfig, rows: Callable[[np.ndarray], np.ndarray], what: str
) -> None:
    """Make weights or rewards NaN where `rows`, of the step [R] of an update, says so."""
    kind = registry.entry_of(config.algo).build
    update = kind.update

    def poisoned(self: Any, rollout: Any, *, step: np.ndarray) -> dict[str, torch.Tensor]:
        index = torch.from_numpy(np.flatnonzero(rows(step)))
        if what == "weights":
            for leaf in self.state(("weights",)).values():
                if leaf.is_floating_point():
                    leaf[index] = torch.nan
        else:
            reward = rollout.reward.clone()
            reward[index] = torch.nan
            rollout = rollout.with_(reward=reward)
        return update(self, rollout, step=step)

    monkeypatch.setattr(kind, "update", poisoned)


def at(replicas: list[int], low: int, high: int) -> Callable[[np.ndarray], np.ndarray]:
    def rows(step: np.ndarray) -> np.ndarray:
        return np.isin(np.arange(len(step)), replicas) & (low <= step) & (step < high)

    return rows


def often(config: RunConfig, **main: Any) -> RunConfig:
    """Saved so often that what was there at the failure is long pruned when the run ends."""
    return replace(config, checkpoint=CheckpointConfig(1e6, 50), **main)


@pytest.mark.parametrize("what", ["weights", "rewards"])
@pytest.mark.parametrize("algo", ["dqn", "lstm_ppo", "sac", "q_learning"])
def test_the_last_finite_policy_of_a_failed_replica_is_kept(
    algo: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And it has no score, however often it is judged again."""
    config = often(small(algo, replicas=3, total_steps=1200))
    failing(monkeypatch, config, at([1], 600, 10**9 if what == "rewards" else 640), what)
    run = execute(config, folder=tmp_path / "run")
    assert run.exit_code == 1
    policies = restore(run.folder)[1].state(POLICY)
    fresh = Trial.of(config).algo.state(POLICY)
    assert all(bool(leaf.isfinite().all()) for leaf in policies.values())
    weights = [name for name in policies if fresh[name].is_floating_point()]
    assert any(not torch.equal(policies[name][1], fresh[name][1]) for name in weights), "it had learned"

    capsys.readouterr()
    run.policy(1)
    assert "replica 1 failed" in (said := capsys.readouterr().err) and "last finite policy" in said
    run.policy(0)
    assert capsys.readouterr().err == ""

    for found in (run.summary, evaluate(run.folder)):
        first, failed, last = found["replicas"]
        assert "at step 6" in failed["failed"] and failed["eval_return"] is None and failed["steps"] < 700
        assert "failed" not in first | last
        assert found["aggregate"]["mean"] == pytest.approx((first["eval_return"] + last["eval_return"]) / 2)
        text = results_table(found)
        assert f"replica 1 failed: {failed['failed']}" in text and "over 2 of 3 replicas:   median" in text


@pytest.mark.parametrize("choose", ["last", "best"])
def test_a_failed_replica_keeps_the_best_where_it_chose(
    choose: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the last, what it was when it failed, if that is finite: bad rewards move no weights."""
    config = small("dqn", replicas=2, total_steps=1200, eval=episodes(choose=choose, every=200))
    after: dict[int, dict[str, torch.Tensor]] = {}  # the replica's policy after the update at a step
    judged: list[dict[str, torch.Tensor]] = []

    def row(algo: Algorithm) -> dict[str, torch.Tensor]:
        return {name: leaf[1].clone() for name, leaf in algo.state(POLICY).items()}

    def periodic(self: Episodes, algo: Algorithm, step: np.ndarray) -> dict[str, np.ndarray]:
        judged.append(row(algo))
        return {"eval/return": np.full(2, -len(judged), float)}  # the first one is the best

    failing(monkeypatch, config, at([1], 900, 10**9), "rewards")
    kind = registry.entry_of(config.algo).build
    update = kind.update

    def watched(self: Any, rollout: Any, *, step: np.ndarray) -> dict[str, torch.Tensor]:
        found = update(self, rollout, step=step)
        after[int(step[1])] = after.get(int(step[1]), row(self))  # its step stands still once it failed
        return found

    monkeypatch.setattr(kind, "update", watched)
    monkeypatch.setattr(Episodes, "periodic", periodic)
    run = execute(config, folder=tmp_path / "run")
    end = run.summary["replicas"][1]["steps"]
    expected = judged[0] if choose == "best" else after[max(step for step in after if step < end)]
    for name, leaf in restore(run.folder)[1].state(POLICY).items():
        assert torch.equal(leaf[1], expected[name]), name


@pytest.mark.parametrize("choose", ["last", "best"])
def test_a_replica_that_fails_at_once_keeps_what_it_began_with(
    choose: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small("dqn", replicas=2, total_steps=400, eval=episodes(choose=choose, every=200, during=1))
    fresh = Trial.of(config).algo.state(("weights",))
    failing(monkeypatch, config, at([1], 0, 10**9), "weights")
    run = execute(config, folder=tmp_path / "run")
    for name, leaf in restore(run.folder)[1].state(("weights",)).items():
        assert torch.equal(leaf[1], fresh[name][1]), name


def test_all_replicas_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small("dqn", replicas=2, total_steps=400)
    failing(monkeypatch, config, at([0, 1], 100, 10**9), "weights")
    run = execute(config, folder=tmp_path / "run")
    assert run.exit_code == 1 and run.summary["aggregate"]["median"] is None
    assert all(bool(leaf.isfinite().all()) for leaf in restore(run.folder)[1].state(POLICY).values())
    capsys.readouterr()
    assert cli.main(["evaluate", str(run.folder)]) == 1
    out = capsys.readouterr().out
    assert "no replica has a score" in out and "replica 0 failed" in out and "replica 1 failed" in out
    assert cli.main(["evaluate", str(run.folder), "--json"]) == 1
    assert all("step 1" in row["failed"] for row in json.loads(capsys.readouterr().out)["replicas"])


@pytest.mark.parametrize("algo", ["lstm_dqn", "sarsa"])
@pytest.mark.parametrize("death", [300, 700, 1000])
def test_a_run_that_is_killed_around_a_failure_ends_as_if_it_had_not_been(
    algo: str, death: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By SIGKILL, before and after the failure at step 600, the last checkpoints from then pruned or not."""
    config = often(small(algo, replicas=2, total_steps=1200))
    failing(monkeypatch, config, at([1], 600, 640), "weights")
    assert execute(config, folder=tmp_path / "whole").exit_code == 1
    kind = registry.entry_of(config.algo).build
    update = kind.update

    def dying(self: Any, rollout: Any, *, step: np.ndarray) -> dict[str, torch.Tensor]:
        if step.max() >= death:
            os.kill(os.getpid(), signal.SIGKILL)
        return update(self, rollout, step=step)

    with monkeypatch.context() as patch:
        patch.setattr(kind, "update", dying)
        assert ended(fork(lambda: execute(config, folder=tmp_path / "part").exit_code), 60) == -signal.SIGKILL
    assert checkpoint.numbers(tmp_path / "part" / "ckpt")
    assert resume(tmp_path / "part").exit_code == 1
    assert outcome(tmp_path / "part") == outcome(tmp_path / "whole")


def test_many_failed_replicas_are_counted_and_named() -> None:
    rows = [
        {
            "replica": i,
            "seed": i,
            "fold": None,
            "eval_return": None,
            "eval_episodes": None,
            "failed": f"x at {i}",
        }
        for i in range(30)
    ]
    rows.append(rows[0] | {"replica": 30, "seed": 30, "eval_return": 1.0, "eval_episodes": 1})
    del rows[30]["failed"]
    total = {"median": 1.0, "mean": 1.0, "iqm": 1.0, "interval": None}
    text = results_table({"replicas": rows, "aggregate": total})
    assert "1 of 31" in text and "replica 19 failed: x at 19" in text and "and 10 more" in text
    assert "over 1 of 31 replicas" in text


# A score that is not finite is never better.

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([NAN, 1.0, NAN, 2.0, NAN], 3),
        ([NAN, -5.0, NAN, -7.0, INF], 1),
        ([3.0, NAN, INF, -INF, 2.0], 0),
        ([INF, -INF, 0.0, NAN, NAN], 2),
        ([NAN, NAN, INF, -INF, NAN], None),
    ],
)
@pytest.mark.parametrize("mode", ["max", "min"])
def test_a_score_that_is_not_finite_is_never_better(
    scores: list[float], best: int | None, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NaN first, between and last; where there is nothing else, the last policy counts, and that is said."""
    sign = 1.0 if mode == "max" else -1.0
    told: Iterator[float] = iter(scores)
    seen: list[dict[str, torch.Tensor]] = []

    def periodic(self: Episodes, algo: Algorithm, step: np.ndarray) -> dict[str, np.ndarray]:
        self.best = ("eval/return", mode)
        seen.append({name: leaf.clone() for name, leaf in algo.state(POLICY).items()})
        return {"eval/return": np.array([sign * next(told)])}

    monkeypatch.setattr(Episodes, "periodic", periodic)
    config = small("dqn", total_steps=500, eval=episodes(choose="best", every=100))
    run = execute(config, folder=tmp_path / "run")
    for name, leaf in restore(run.folder)[1].state(POLICY).items():
        assert torch.equal(leaf, seen[-1 if best is None else best][name]), name
    said = "eval/return was never a finite number: the last policy was judged"
    assert run.summary["notes"] == ([said] if best is None else [])


def test_a_final_score_that_is_not_finite_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    played = Episodes.play

    def infinite(self: Episodes, *arguments: Any, **more: Any) -> Any:
        found = played(self, *arguments, **more)
        found.returns[0, 0] = INF
        return found

    monkeypatch.setattr(Episodes, "play", infinite)
    with np.errstate(invalid="ignore"):
        run = execute(small("sarsa", replicas=2, total_steps=100), folder=tmp_path / "run")
    first, second = json.loads((run.folder / "summary.json").read_text(), parse_constant=pytest.fail)[
        "replicas"
    ]
    assert first["eval_return"] is None and run.summary["aggregate"]["mean"] == second["eval_return"]
    assert "over 1 of 2 replicas" in results_table(run.summary)


# A run that learned nothing says so.


@pytest.mark.parametrize("algo", ["dqn", "lstm_dqn", "prioritized_dqn", "sac", "lstm_td3", "cem_learned"])
def test_a_run_in_which_nothing_was_learned_says_so(algo: str, tmp_path: Path) -> None:
    config = small(algo, total_steps=60, replicas=2)
    part = getattr(config.algo, "ensemble", config.algo)
    part.learning_starts = 10_000
    run = execute(config, folder=tmp_path / "run")
    note = run.summary["notes"][0]
    assert note.startswith("nothing was learned: no update changed a weight")
    assert ("learning_starts is 10,000, total_steps 60" in note) == (part is config.algo)
    assert [row["learned"] for row in run.summary["replicas"]] == [False, False]
    assert note in results_table(run.summary)
    status = json.loads((run.folder / "status.json").read_text())
    assert status["status"] == "finished" and note in status["reason"] and run.exit_code == 0


@pytest.mark.parametrize("algo", ["dyna_q", "dyna_q_plus"])
def test_a_run_that_learned_does_not(algo: str, tmp_path: Path) -> None:
    """On a task that rewards soon; every other algorithm's own does, see test_verbs."""
    config = replace(small(algo, total_steps=600), env=small("sarsa").env)
    assert execute(config, folder=tmp_path / "run").summary["notes"] == []


@pytest.mark.parametrize(("stop", "learns"), [(10, True), (60, True), (10, False)])
def test_what_was_learned_is_known_after_a_resume(stop: int, learns: bool, tmp_path: Path) -> None:
    """Whether the updates that learned came before the interruption or after."""
    config = small("dqn", total_steps=400)
    config.algo.learning_starts = 100 if learns else 1000
    train_until(session(config, tmp_path / "run"), stop)
    saved, _ = checkpoint.load(tmp_path / "run" / "ckpt")
    again = session(config, tmp_path / "run", saved)
    if stop == 60:  # nothing is learned from here on
        again.algo.update = lambda rollout, *, step: {}  # type: ignore[method-assign]
    train_until(again)
    assert again.learned.tolist() == [learns]


def test_an_algorithm_need_not_report_anything_to_have_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small("sarsa", total_steps=300)
    kind = registry.entry_of(config.algo).build
    update = kind.update

    def silent(self: Any, rollout: Any, *, step: np.ndarray) -> dict[str, torch.Tensor]:
        update(self, rollout, step=step)
        return {}

    monkeypatch.setattr(kind, "update", silent)
    assert execute(config, folder=tmp_path / "run").summary["notes"] == []


def test_what_is_kept_in_case_of_a_failure_is_not_in_the_last_checkpoint(tmp_path: Path) -> None:
    execute(small("dqn", total_steps=300), folder=tmp_path / "run")
    assert not [name for name in final_state(tmp_path / "run") if name.startswith("tensors/kept/")]
