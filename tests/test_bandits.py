"""UCB1: the bonus, the means, and Sutton and Barto's ten-armed testbed; judging online."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlrun import runner
from rlrun.algos.ucb import UCB, UCBConfig
from rlrun.compose import compose
from rlrun.config import ConfigError
from rlrun.core import Discrete, Rollout, Spec, select
from rlrun.rng import Stream

OBS = torch.zeros((1, 1), dtype=torch.int64)
STEP = np.zeros(1, np.int64)


def agent(
    arms: int = 3,
    *,
    seeds: tuple[int, ...] = (1,),
    c: float = 2.0,
    step_size: float | None = None,
    initial_value: float = 0.0,
) -> UCB:
    spec = Spec(Discrete(1), Discrete(arms), 1, seeds, 1000, dtype="float64")
    return UCB(spec, UCBConfig(c, step_size, initial_value), None)


def choose(algo: UCB, rng: Stream, mode: Any = "explore") -> np.ndarray:
    obs = OBS.expand(algo.spec.replicas, 1)
    return algo.act(obs, (), obs == 0, step=STEP, mode=mode, rng=rng).action[:, 0].numpy()


def pull(algo: UCB, arm: Any, reward: Any, valid: bool = True) -> dict[str, torch.Tensor]:
    shape = (algo.spec.replicas, 1, 1)
    arms = torch.as_tensor(arm).reshape(-1, 1, 1).expand(shape)
    rewards = torch.as_tensor(reward, dtype=torch.float64).reshape(-1, 1, 1).expand(shape)
    no = torch.zeros(shape, dtype=torch.bool)
    obs = torch.zeros(shape, dtype=torch.int64)
    return algo.update(Rollout(obs, arms, rewards, no, no, obs, no, no | valid), step=STEP)


def test_every_arm_is_tried_once_first_and_in_random_order() -> None:
    algo, rng = agent(5, seeds=tuple(range(40))), Stream(range(40), "test")
    order = []
    for _ in range(5):
        order.append(choose(algo, rng))
        pull(algo, order[-1], -100.0)  # poor, and yet all the others come before a second try
    tried = np.stack(order, 1)
    assert (np.sort(tried) == np.arange(5)).all()
    assert len({tuple(row) for row in tried}) > 20
    assert (algo.counts == 1).all()


def test_bounds_and_picks_by_hand() -> None:
    algo = agent(c=2.0)
    algo.counts[0] = torch.tensor([5, 1, 2])
    algo.means[0] = torch.tensor([3.0, 0.5, 1.0])
    bonus = [2.0 * math.sqrt(math.log(9) / n) for n in (5, 1, 2)]  # t = 9: the pull to come
    assert algo.bounds()[0].tolist() == pytest.approx([3.0 + bonus[0], 0.5 + bonus[1], 1.0 + bonus[2]])
    assert choose(algo, Stream((1,), "test")) == [0]  # 4.33, 3.46, 3.10
    algo.means[0, 0] = 2.0  # 3.33: the arm that is worse by its mean is pulled
    assert choose(algo, Stream((1,), "test")) == [1]
    algo.config.c = 0.5
    assert choose(algo, Stream((1,), "test")) == [0]


def test_an_untried_arm_has_an_infinite_bound_and_nothing_is_divided_by_zero() -> None:
    algo = agent()
    assert algo.bounds()[0].tolist() == [math.inf] * 3
    pull(algo, 0, 1e9)
    assert algo.bounds()[0].tolist()[1:] == [math.inf] * 2
    assert algo.means[0].tolist() == [1e9, 0.0, 0.0]


def test_means_are_those_of_the_rewards() -> None:
    algo = agent(4, seeds=(1, 2, 3))
    numbers = np.random.default_rng(0)
    arms, rewards = numbers.integers(4, size=(200, 3)), numbers.normal(1000.0, 1.0, (200, 3))
    for arm, reward in zip(arms, rewards, strict=True):
        metrics = pull(algo, arm, reward)
        assert metrics["train/reward"].tolist() == pytest.approx(reward.tolist())
    for r, k in np.ndindex(3, 4):
        own = rewards[arms[:, r] == k, r]
        assert algo.counts[r, k].item() == len(own)
        assert algo.means[r, k].item() == pytest.approx(np.mean(own), rel=1e-12)


def test_a_constant_step_weighs_recent_rewards_and_the_initial_value() -> None:
    algo = agent(step_size=0.1, initial_value=5.0)
    for reward in (1.0, -2.0, 4.0):
        pull(algo, 1, reward)
    expected = 0.9**3 * 5.0 + 0.1 * (0.9**2 * 1.0 + 0.9 * -2.0 + 4.0)
    assert algo.means[0].tolist() == pytest.approx([5.0, expected, 5.0])


def test_a_step_that_is_not_valid_changes_nothing() -> None:
    algo = agent()
    pull(algo, 1, 3.0)
    pull(algo, 2, 9.0, valid=False)
    assert algo.counts[0].tolist() == [0, 1, 0]
    assert algo.means[0].tolist() == [0.0, 3.0, 0.0]


def test_the_best_guess_is_a_tried_arm_and_draws_nothing() -> None:
    algo, rng = agent(), Stream((1,), "test")
    pull(algo, 1, -3.0)
    pull(algo, 2, -1.0)
    assert choose(algo, rng, "greedy") == [2]  # not the untried one, worth 0 by default
    assert rng.counter.tolist() == [0]
    assert choose(algo, rng) == [0]
    drawn = rng.counter.copy()
    choose(algo, rng)
    assert (rng.counter == 2 * drawn).all() and drawn[0] == 3


def test_equal_bounds_are_broken_at_random() -> None:
    algo = agent(seeds=tuple(range(400)))
    for arm in range(3):
        pull(algo, arm, [0.0, 1.0, 1.0][arm])
    chosen = choose(algo, Stream(range(400), "test"))
    assert set(chosen) == {1, 2}
    assert abs((chosen == 1).mean() - 0.5) < 0.1


def test_nan_stays_in_its_replica() -> None:
    algo, rng = agent(seeds=(1, 2)), Stream((1, 2), "test")
    for _ in range(5):
        metrics = pull(algo, choose(algo, rng), [math.nan, 1.0])
    assert torch.isfinite(metrics["train/reward"]).tolist() == [False, True]
    assert algo.means[1].tolist() == pytest.approx([1.0] * 3) and algo.counts[1].sum() == 5
    assert torch.isfinite(algo.means[0]).all()  # what was learned before can still be loaded


def run(tmp_path: Path, *overrides: str) -> runner.Result:
    quiet = ("checkpoint.every_seconds=1000", "log.plot=false", "log.tensorboard=false")
    config = compose(["algo=ucb", f"out={tmp_path}", *quiet, *overrides])
    return runner.execute(config, quiet=True)


def test_the_ten_armed_testbed(tmp_path: Path) -> None:
    """c = 2: 85.5 % optimal actions over the steps 901 to 1000 (an independent simulation, R = 20000)."""
    rows = run(tmp_path, "replicas=2000").summary["replicas"]
    optimal, regret = (np.array([row[name] for row in rows]) for name in ("optimal", "regret"))
    error = optimal.std() / math.sqrt(len(rows))
    assert error < 0.01
    assert abs(optimal.mean() - 0.855) < 4 * error
    rewards = np.array([row["eval_return"] for row in rows])
    best = 1.5388  # the expected largest of ten standard normal numbers
    assert abs(rewards.mean() - (best - regret.mean())) < 4 * rewards.std() / math.sqrt(len(rows))


def test_the_last_record_is_the_result(tmp_path: Path) -> None:
    result = run(tmp_path, "replicas=2", "total_steps=50", "log.every=20")
    records = [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()]
    for row in result.summary["replicas"]:
        own = [record for record in records if record["replica"] == row["replica"]]
        assert [record["step"] for record in own] == [20, 40, 50]
        assert row["eval_return"] == own[-1]["train/reward"]
        assert row["regret"] == own[-1]["train/regret"]
    with pytest.raises(ConfigError, match="cannot be replayed"):
        runner.evaluate(result.folder)


def test_online_judges_by_returns_where_episodes_end(tmp_path: Path) -> None:
    result = run(tmp_path, "env.max_steps=5", "total_steps=20", "log.every=10")
    row = result.summary["replicas"][0]
    last = json.loads((result.folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert row["eval_return"] == last["train/return"]
    assert row["eval_return"] == pytest.approx(5 * row["reward"], rel=1e-5)


def test_replicas_are_lone_runs(tmp_path: Path) -> None:
    def state(*overrides: str) -> dict[str, torch.Tensor]:
        short = ("total_steps=200", "dtype=float64", *overrides)
        return runner.restore(run(tmp_path, *short).folder)[1].state()

    both = state("replicas=2", "seed=7")
    for r in range(2):
        alone = state(f"seed={7 + r}")
        for name, leaf in select(both, r).items():
            assert torch.equal(leaf, alone[name]), name


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["num_envs=2"], "num_envs is 2"),
        (["algo.initial_value=5"], "initial_value is 5"),
        (["algo.c=-1"], "algo.c is -1"),
        (["env.reward.scale=2"], "env.reward changes the reward"),
        (["algo=value_iteration", "eval=online"], "algo never acts"),
    ],
)
def test_what_makes_no_sense_is_refused(overrides: list[str], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        compose(["algo=ucb", *overrides] if "algo=" not in overrides[0] else overrides)


def test_other_tasks_than_bandits_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one state"):
        run(tmp_path, "env=frozen_lake")
    assert not list(tmp_path.iterdir())
