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
from tensorboard.backend.event_processing import event_accumulator

from rlrun import envs
from rlrun.api import train
from rlrun.config import ConfigError
from rlrun.config.compose import compose
from rlrun.config.run import RunConfig
from rlrun.evals.folds import Fold
from rlrun.evals.walk_forward import WalkForward
from rlrun.runs.load import load
from rlrun.runs.policy import Policy
from rlrun.runs.run import execute, resume
from rlrun.runs.task import Task
from rlrun.state import select

ROWS, FOLDS, SEEDS = 600, 3, 2
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


SEEN = ["env.features=[default,zscore load 5,mean price 3,volatility price 4,hour]", "env.lag={load: 2h}"]


def prices(path: Path, poison: slice = slice(0)) -> Path:
    """A CSV of a random walk and a load, with rows of garbage of the same kind that they may have."""
    rng, other = np.random.default_rng(0), np.random.default_rng(1)
    walk, load = 50.0 * np.exp(np.cumsum(rng.normal(0, 0.01, ROWS))), rng.normal(40e3, 5e3, ROWS)
    walk[poison], load[poison] = (
        other.uniform(1, 500, len(walk[poison])),
        other.uniform(0, 9e4, len(walk[poison])),
    )
    times = np.datetime64("2020-01-01T00:00") + np.timedelta64(1, "h") * np.arange(ROWS)
    rows = zip(times.astype(str).tolist(), walk.tolist(), load.tolist(), strict=True)
    path.write_text("time,price,load\n" + "".join(f"{t},{p!r},{x!r}\n" for t, p, x in rows))
    return path


def config(agent: str, data: Path, *more: str) -> RunConfig:
    words = ["env=series", f"env.path={data}", "env.price=price", *AGENTS[agent], *COMMON, "total_steps=2000"]
    return compose([*words, *more])


def laid_out(chosen: RunConfig) -> tuple[list[Fold], int]:
    """The folds, and the data row of usable row 0."""
    evaluation = Task.of(chosen).evaluation
    assert isinstance(evaluation, WalkForward)
    return list(evaluation.split.folds), evaluation.split.lookback


def of_fold(number: int) -> range:
    """The replicas of a fold."""
    return range(number * SEEDS, (number + 1) * SEEDS)


@pytest.mark.parametrize("agent", AGENTS)
def test_what_follows_a_folds_fit_rows_does_not_reach_its_state(agent: str, tmp_path: Path) -> None:
    clean = config(agent, prices(tmp_path / "clean.csv"), *SEEN)
    folds, first = laid_out(clean)
    data = prices(tmp_path / "poisoned.csv", slice(folds[1].fit[1] + first, None))
    trials = [Trial.of(chosen) for chosen in (clean, config(agent, data, *SEEN))]
    for trial in trials:
        trial.train(ROWS // trial.algo.rollout_steps)  # once through the longest window
    one, other = (trial.algo.state() for trial in trials)
    scaling = [trial.task.evaluation.scaling for trial in trials]
    for replica in of_fold(1):
        assert_same_bits(select(one, replica), select(other, replica))
        assert scaling[0][replica].tobytes() == scaling[1][replica].tobytes()
    with pytest.raises(AssertionError):  # the test can fail: the next fold did see the garbage
        assert_same_bits(select(one, of_fold(2)[0]), select(other, of_fold(2)[0]))
    assert (scaling[0][of_fold(2)] != scaling[1][of_fold(2)]).any()


@pytest.mark.parametrize("agent", AGENTS)
def test_what_follows_a_folds_validation_does_not_reach_what_it_tests(agent: str, tmp_path: Path) -> None:
    """Nor do rows before a window that slides; and garbage in a test changes nothing before it."""
    common = [
        *SEEN,
        f"out={tmp_path}",
        "eval.scheme=sliding",
        "eval.train_size=140",
        "eval.validation.every=300",
        "total_steps=900",
    ]
    clean = config(agent, prices(tmp_path / "clean.csv"), *common)
    folds, first = laid_out(clean)
    middle = sum(folds[1].test) // 2 + first
    poisons = {
        "after validation": slice(folds[1].train[1] + first, None),
        "another fold": slice(0, folds[1].fit[0]),  # of the first row it sees
        "in the test": slice(middle, None),
    }
    base = execute(clean).folder
    expected, before = final_state(base), steps_of(base)
    for name, rows in poisons.items():
        folder = execute(config(agent, prices(tmp_path / "poisoned.csv", rows), *common)).folder
        found = final_state(folder)
        for replica in of_fold(1):
            assert_same_bits(select(expected, replica), select(found, replica))
        other = of_fold(0 if name == "another fold" else 2)[0]
        with pytest.raises(AssertionError):  # the control: a fold that did see the garbage
            assert_same_bits(select(expected, other), select(found, other))
        tested = [
            [row for row in rows if int(row["replica"]) in of_fold(1) and int(row["t"]) < middle]
            for rows in (before, steps_of(folder))
        ]
        assert len(tested[0]) > 20 * SEEDS
        assert (tested[0] == tested[1]) == (name != "after validation")


def steps_of(folder: Path) -> list[dict[str, str]]:
    text = gzip.decompress((folder / "test_steps.csv.gz").read_bytes()).decode()
    return list(csv.DictReader(io.StringIO(text)))


def test_a_run_leaves_its_folds_its_test_steps_and_a_report(tmp_path: Path) -> None:
    data = prices(tmp_path / "prices.csv")
    result = train(config("dqn", data, f"out={tmp_path}"))
    rows = result.summary["replicas"]
    assert [(r["fold"], r["seed"]) for r in rows] == [(f, s) for f in range(FOLDS) for s in (1, 2)]
    plan = json.loads((result.folder / "folds.json").read_text())
    steps = steps_of(result.folder)
    for row in rows:
        mine = [s for s in steps if int(s["replica"]) == row["replica"]]
        begin, end = plan["folds"][row["fold"]]["test"]
        last = row["fold"] == FOLDS - 1  # the data end: the last row has no successor to score
        assert len(mine) == end - begin - last
        assert int(mine[0]["t"]) == begin + plan["lookback"] + 1  # the row that the first step reached
        assert sum(float(s["score"]) for s in mine) == pytest.approx(row["eval_return"], abs=1e-9)
        assert row["baselines"]["noop"] == 0.0
    assert (result.folder / "report.md").exists()


def test_a_table_with_gaps_is_judged_without_looking_across_them(tmp_path: Path) -> None:
    lines = prices(tmp_path / "whole.csv").read_text().splitlines()
    cut = [*lines[:100], *lines[130:300], *lines[310:]]  # of 600 hours
    (tmp_path / "cut.csv").write_text("\n".join(cut) + "\n")
    gaps = ["env.step=1h", "env.on_gap=segment", f"out={tmp_path}"]
    result = train(config("lstm_dqn", tmp_path / "cut.csv", *SEEN, *gaps))
    plan = json.loads((result.folder / "folds.json").read_text())
    assert plan["notes"][0].startswith(
        "2 gaps of 40 rows in all, the longest of 30 rows after 2020-01-05T02:00"
    )
    assert "2 gaps of 40 rows" in (result.folder / "report.md").read_text()
    steps = [row for row in steps_of(result.folder) if row["replica"] == "0"]
    begin, end = plan["folds"][0]["test"]
    assert len(steps) == end - begin
    times = np.array([row["time"] for row in steps], "datetime64[h]")
    (after,) = np.flatnonzero(np.diff(times) > np.timedelta64(1, "h")) + 1
    assert float(steps[after]["score"]) == 0.0 and float(steps[after]["traded"]) == 0.0  # passed over
    assert float(steps[after]["score_buy_and_hold"]) == 0.0
    with pytest.raises(ConfigError, match="10 rows missing"):
        Task.of(config("dqn", tmp_path / "cut.csv", "env.step=1h"))


def test_tensorboard_has_a_run_for_each_replica_and_their_means(tmp_path: Path) -> None:
    data = prices(tmp_path / "p.csv")
    folder = execute(config("ppo", data, f"out={tmp_path}", "log.tensorboard=true", "total_steps=500")).folder
    names = {f"seed={seed},fold={fold}" for fold in range(FOLDS) for seed in (1, 2)}
    assert {path.name for path in (folder / "tb").iterdir()} == names | {"mean"}
    events = event_accumulator.EventAccumulator(str(folder / "tb/mean")).Reload()
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for event in events.Scalars("val/score"):
        own = [r["val/score"] for r in records if r["step"] == event.step and "val/score" in r]
        assert len(own) == FOLDS * SEEDS and event.value == pytest.approx(np.mean(own), rel=1e-5)
    assert len(events.Scalars("val/score")) > 0


def test_a_loaded_policy_takes_raw_columns(tmp_path: Path) -> None:
    """It standardises them as the env did for it, by its own fold's numbers."""
    chosen = config("dqn", prices(tmp_path / "p.csv"), *SEEN, f"out={tmp_path}", "total_steps=500")
    folder = execute(chosen).folder
    evaluation = Task.of(chosen).evaluation
    saved = final_state(folder)["tensors/normalizer/scaling"].numpy()
    assert saved.dtype == np.float64 and saved.tobytes() == evaluation.scaling.tobytes()
    raw, own = envs.make(chosen.env, 1), envs.make(chosen.env, 1)
    for replica in (0, 5):
        policy, scaling = load(folder, replica), saved[replica]
        window = {"window": evaluation.windows["test"][replica]}
        seen, _ = raw.reset(seed=0, options=window)
        scaled, _ = own.reset(seed=0, options=window | {"scaling": scaling})
        for _ in range(20):
            np.testing.assert_allclose((seen - scaling[0]) / scaling[1], scaled, rtol=1e-3, atol=1e-3)
            network = replace_scaling(policy, None)
            np.testing.assert_allclose(policy.q(seen), network.q(scaled), rtol=1e-3, atol=1e-3)
            action, _ = policy.act(seen)
            seen, scaled = raw.step(action)[0], own.step(action)[0]
        assert not np.allclose(policy.q(scaled), network.q(scaled))  # what is scaled already is not raw


def replace_scaling(policy: Policy, scaling: np.ndarray | None) -> Policy:
    return Policy(policy._algo, policy._spec, 500, "greedy", scaling)


def test_the_policy_is_chosen_on_validation_for_each_replica(tmp_path: Path) -> None:
    data = prices(tmp_path / "prices.csv")
    result = execute(config("dqn", data, f"out={tmp_path}", "eval.validation.every=200"))
    records = [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()]
    chosen = final_state(result.folder)["tensors/session/best"]
    for row in result.summary["replicas"]:
        seen = [r["val/score"] for r in records if r["replica"] == row["replica"] and "val/score" in r]
        assert len(seen) > 5  # as often as it is told
        assert row["val_score"] == max(seen) == chosen[row["replica"]]


def test_one_fold_of_a_plan_is_trained_as_it_is_beside_the_others(tmp_path: Path) -> None:
    data = prices(tmp_path / "prices.csv")
    rows = []
    for more in ([], ["eval.folds=[1]"]):
        result = train(config("dqn", data, f"out={tmp_path}", "dtype=float64", *more))
        rows.append([row for row in result.summary["replicas"] if row["fold"] == 1])
        plan = json.loads((result.folder / "folds.json").read_text())
        assert [fold["fold"] for fold in plan["folds"]] == ([1] if more else [0, 1, 2])
    for one, other in zip(*rows, strict=True):
        assert (one["seed"], one["test_rows"], one["baselines"]) == (
            other["seed"],
            other["test_rows"],
            other["baselines"],  # what is held on to between tests pays no round trip in this one
        )
        assert one["eval_return"] == pytest.approx(other["eval_return"], abs=1e-6)
    with pytest.raises(ConfigError, match="it must name some of 0 to 2, each once"):
        config("dqn", data, "eval.folds=[1,1]")


def test_what_is_held_on_to_pays_one_round_trip_over_all_tests(tmp_path: Path) -> None:
    """Last price over first price, less its cost: no row is lost, and none is counted twice."""
    result = train(config("ppo", prices(tmp_path / "p.csv"), f"out={tmp_path}", "env.cost=0.01"))
    rows = [row for row in result.summary["replicas"] if row["seed"] == 1]
    held = sum(row["baselines"]["buy_and_hold"] for row in rows)
    price = [float(line.split(",")[1]) for line in (tmp_path / "p.csv").read_text().splitlines()[1:]]
    plan = json.loads((result.folder / "folds.json").read_text())
    first, last = plan["folds"][0]["test"][0] + plan["lookback"], len(price) - 1
    assert held == pytest.approx(np.log(price[last] / price[first] * 0.99**2), abs=1e-12)


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
    prices(data, slice(300, None))
    with pytest.raises(ConfigError, match="have changed"):
        resume(result.folder)


def test_a_folder_that_holds_a_run_is_not_overwritten(tmp_path: Path) -> None:
    chosen = config("dqn", prices(tmp_path / "prices.csv"), f"out={tmp_path}", "total_steps=100")
    result = execute(chosen)
    with pytest.raises(ConfigError, match="holds a run already"):
        execute(chosen, folder=result.folder)
