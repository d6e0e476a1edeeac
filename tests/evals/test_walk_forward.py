"""Walk-forward in a run: folds x seeds in one program, and nothing of a fold's future in its state."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import numpy as np
import pytest
from support import Trial, assert_same_bits, final_state

from rlrun.api import train
from rlrun.config import ConfigError
from rlrun.config.compose import compose
from rlrun.config.run import RunConfig
from rlrun.evals.walk_forward import WalkForward
from rlrun.runs.run import execute, resume
from rlrun.runs.task import Task
from rlrun.state import select

ROWS, FOLDS, SEEDS = 400, 3, 2
COMMON = [
    "eval=walk_forward", f"eval.n_folds={FOLDS}", f"replicas={SEEDS}", "env.lookback=4", "num_envs=2",
    "log.tensorboard=false", "log.plot=false",
]  # fmt: skip
AGENTS = {
    "dqn": ["algo=dqn", "model.hidden=[8]", "algo.learning_starts=50", "algo.batch_size=16", "algo.n_step=3"],
    "lstm_dqn": [
        "algo=lstm_dqn", "model.hidden_size=8", "model.head=[]", "algo.learning_starts=50",
        "algo.batch_size=4", "algo.train_every=8", "algo.sequence_length=6", "algo.burn_in=2",
        "algo.n_step=3",
    ],
    "ppo": ["algo=ppo", "model.hidden=[8]", "algo.rollout_steps=32", "algo.epochs=2", "algo.n_minibatches=2"],
    "lstm_ppo": [
        "algo=lstm_ppo", "model.hidden_size=8", "algo.rollout_steps=32", "algo.epochs=2",
        "algo.n_minibatches=2",
    ],
    "prioritized_dqn": [
        "algo=prioritized_dqn", "model.hidden=[8]", "algo.learning_starts=50", "algo.batch_size=16",
    ],
    "lstm_a2c": ["algo=lstm_a2c", "model.hidden_size=8"],
}  # fmt: skip


def prices(path: Path, poison_from: int | None = None) -> Path:
    """A CSV of a random walk; from a row on, garbage of the same kind that a price may have."""
    walk = 50.0 * np.exp(np.cumsum(np.random.default_rng(0).normal(0, 0.01, ROWS)))
    if poison_from is not None:
        walk[poison_from:] = np.random.default_rng(1).uniform(1.0, 500.0, ROWS - poison_from)
    path.write_text("time,price\n" + "".join(f"{t},{p!r}\n" for t, p in enumerate(walk.tolist())))
    return path


def config(agent: str, data: Path, *more: str) -> RunConfig:
    return compose(["env=series", f"env.path={data}", *AGENTS[agent], *COMMON, "total_steps=2000", *more])


@pytest.mark.parametrize("agent", AGENTS)
def test_what_follows_a_folds_training_data_does_not_reach_its_state(agent: str, tmp_path: Path) -> None:
    clean = Trial.of(config(agent, prices(tmp_path / "clean.csv")))
    evaluation = clean.task.evaluation
    assert isinstance(evaluation, WalkForward)
    fold = evaluation.split.folds[1]
    end = fold.fit[1] + evaluation.split.lookback  # the first data row that the fit window does not hold
    poisoned = Trial.of(config(agent, prices(tmp_path / "poisoned.csv", end)))
    for trial in (clean, poisoned):
        trial.train(ROWS // trial.algo.rollout_steps)  # once through the longest window
    own = [r.index for r in evaluation.replicas if r.fold == fold.number]
    later = [r.index for r in evaluation.replicas if r.fold == fold.number + 1]
    one, other = clean.algo.state(), poisoned.algo.state()
    for replica in own:
        assert_same_bits(select(one, replica), select(other, replica))
    with pytest.raises(AssertionError):  # the test can fail: the next fold did see the garbage
        assert_same_bits(select(one, later[0]), select(other, later[0]))


def test_a_run_leaves_its_folds_its_test_steps_and_a_report(tmp_path: Path) -> None:
    data = prices(tmp_path / "prices.csv")
    result = train(config("dqn", data, f"out={tmp_path}"))
    rows = result.summary["replicas"]
    assert [(r["fold"], r["seed"]) for r in rows] == [(f, s) for f in range(FOLDS) for s in (1, 2)]
    plan = json.loads((result.folder / "folds.json").read_text())
    text = gzip.decompress((result.folder / "test_steps.csv.gz").read_bytes()).decode()
    steps = list(csv.DictReader(io.StringIO(text)))
    for row in rows:
        mine = [s for s in steps if int(s["replica"]) == row["replica"]]
        begin, end = plan["folds"][row["fold"]]["test"]
        last = row["fold"] == FOLDS - 1  # the data end: the last row has no successor to score
        assert len(mine) == end - begin - last
        assert int(mine[0]["t"]) == begin + plan["lookback"] + 1  # the row that the first step reached
        assert sum(float(s["pnl"]) for s in mine) == pytest.approx(row["eval_return"], abs=1e-9)
        assert row["baselines"]["noop"] == 0.0
    assert (result.folder / "report.md").exists()


def test_the_policy_is_chosen_on_validation_for_each_replica(tmp_path: Path) -> None:
    data = prices(tmp_path / "prices.csv")
    result = execute(config("dqn", data, f"out={tmp_path}"))
    records = [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()]
    chosen = final_state(result.folder)["tensors/session/best"]
    for row in result.summary["replicas"]:
        seen = [r["val/score"] for r in records if r["replica"] == row["replica"] and "val/score" in r]
        assert len(seen) > 5
        assert row["val_score"] == max(seen) == chosen[row["replica"]]


def test_an_env_without_time_is_refused() -> None:
    with pytest.raises(ConfigError, match="time order"):
        compose(["algo=dqn", "env=cartpole", "eval=walk_forward"])


def test_an_unknown_baseline_is_refused(tmp_path: Path) -> None:
    chosen = config("dqn", prices(tmp_path / "p.csv"), "eval.baselines=[noop,magic]", "eval.baseline=noop")
    with pytest.raises(ConfigError, match="magic"):
        Task.of(chosen)


def test_resuming_on_other_data_is_refused(tmp_path: Path) -> None:
    data = prices(tmp_path / "prices.csv")
    result = execute(config("dqn", data, f"out={tmp_path}", "total_steps=100"))
    (result.folder / "summary.json").unlink()  # as if it had been killed while judging
    prices(data, poison_from=300)
    with pytest.raises(ConfigError, match="have changed"):
        resume(result.folder)


def test_a_folder_that_holds_a_run_is_not_overwritten(tmp_path: Path) -> None:
    chosen = config("dqn", prices(tmp_path / "prices.csv"), f"out={tmp_path}", "total_steps=100")
    result = execute(chosen)
    with pytest.raises(ConfigError, match="holds a run already"):
        execute(chosen, folder=result.folder)
