"""Value iteration: the optimal values, when it stops, and its policy as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from rlrun import envs, runner
from rlrun.algos.value_iteration import ValueIteration, ValueIterationConfig, draw_policy
from rlrun.compose import compose
from rlrun.config import ConfigError
from rlrun.core import Discrete, Spec, TransitionTable
from rlrun.rng import Stream

STEP = np.zeros(1, np.int64)


def agent(
    table: TransitionTable, *, gamma: float = 0.9, theta: float = 1e-10, seeds: tuple[int, ...] = (1,)
) -> ValueIteration:
    states, actions = table.reward.shape
    spec = Spec(Discrete(states), Discrete(actions), 1, seeds, 10_000, table=table)  # of dtype float32
    return ValueIteration(spec, ValueIterationConfig(gamma, theta), None)


def sweep(algo: ValueIteration, limit: int = 10_000) -> int:
    """Sweep until every replica has converged; how many sweeps that took."""
    for count in range(1, limit):
        algo.update(None, step=STEP)
        if algo.converged().all():
            return count
    raise AssertionError("it does not converge")


def chain() -> TransitionTable:
    """Three states in a row and an end: action 0 stays (reward 0), action 1 goes on (reward 1)."""
    probability, reward = np.zeros((4, 2, 4)), np.zeros((4, 2))
    for s in range(3):
        probability[s, 0, s] = probability[s, 1, s + 1] = 1.0
        reward[s, 1] = 1.0
    probability[3, :, 3] = 1.0
    return TransitionTable(probability, reward, np.array([False, False, False, True]))


def linear_program(table: TransitionTable, gamma: float) -> np.ndarray:
    """The least v with v(s) >= r(s, a) + gamma * E v(s') for all s, a; 0 at the end (Puterman 6.9)."""
    states, actions = table.reward.shape
    alive = np.flatnonzero(~table.terminal)
    rows, bounds = [], []
    for s in alive:
        for a in range(actions):
            rows.append(gamma * table.probability[s, a] - np.eye(states)[s])
            bounds.append(-table.reward[s, a])
    limits = [(0.0, 0.0) if end else (None, None) for end in table.terminal]
    solved = linprog(np.ones(states), np.array(rows), np.array(bounds), bounds=limits, method="highs")
    assert solved.success
    return solved.x


@pytest.mark.parametrize(
    ("env", "gamma"),
    [
        (["env=frozen_lake"], 0.99),
        (["env=frozen_lake_8x8"], 0.99),
        (["env=frozen_lake"], 1.0),
        (["env=frozen_lake", "env.slippery=false"], 0.9),
        (["env=cliff_walking"], 0.99),
        (["env=cliff_walking"], 1.0),
        (["env=cliff_walking", "env.slippery=true"], 0.95),
        (["env=cliff_walking", "env.fall=terminate"], 0.95),
    ],
)
def test_it_equals_the_linear_program(env: list[str], gamma: float) -> None:
    config = compose(["algo=value_iteration", *env])
    table = envs.make(config.env, 1).table
    algo = agent(table, gamma=gamma, theta=config.algo.theta)
    sweep(algo)
    assert algo.v.dtype == torch.float64
    np.testing.assert_allclose(algo.v[0].numpy(), linear_program(table, gamma), rtol=0, atol=1e-6)


def test_a_chain_by_hand() -> None:
    algo = agent(chain(), gamma=0.5)
    residuals = [algo.update(None, step=STEP)["loss/residual"].item() for _ in range(4)]
    assert algo.v[0].tolist() == [1.75, 1.5, 1.0, 0.0]
    assert residuals == [1.0, 0.5, 0.25, 0.0]
    obs = torch.tensor([[0, 2, 3]])
    q = algo.q(obs, (), obs == 0)[0]
    assert q.tolist() == [[0.875, 1.75], [0.5, 1.0], [0.0, 0.0]]
    assert algo.value(obs, (), obs == 0)[0].tolist() == [1.75, 1.0, 0.0]


def test_a_sweep_is_synchronous() -> None:
    algo = agent(chain(), gamma=0.5)
    algo.update(None, step=STEP)
    assert algo.v[0].tolist() == [1.0, 1.0, 1.0, 0.0]  # in place, states 0 and 1 would differ by now


def test_terminal_states_carry_no_value() -> None:
    table = chain()
    table.reward[3] = 100.0  # whatever the table says of what comes after
    algo = agent(table, gamma=0.5)
    sweep(algo)
    assert algo.v[0].tolist() == [1.75, 1.5, 1.0, 0.0]


def test_the_greedy_policy_takes_the_first_of_equal_actions() -> None:
    table = chain()
    table.probability[:3, 0] = table.probability[:3, 1]
    table.reward[:3, 0] = 1.0 - 1e-13  # equal but for rounding
    table.reward[1, 0] = 0.9  # truly worse
    algo, rng = agent(table), Stream((1,), "test")
    sweep(algo)
    obs = torch.tensor([[0, 1, 2]])
    action = algo.act(obs, (), obs == 0, step=STEP, mode="greedy", rng=rng).action
    assert action.tolist() == [[0, 1, 0]]
    assert rng.counter.tolist() == [0]


def test_it_has_converged_once_no_value_moves() -> None:
    algo = agent(chain(), gamma=0.5, theta=0.3, seeds=(1, 2))
    assert algo.converged().tolist() == [False, False]
    algo.v[1] = torch.tensor([1.75, 1.5, 1.0, 0.0])
    algo.update(None, step=STEP)
    assert algo.converged().tolist() == [False, True]
    assert sweep(algo) == 2  # the third residual is 0.25
    assert all(len(leaf) == 2 for leaf in algo.state().values())


def test_a_run_ends_by_convergence_and_resumes_as_converged(tmp_path: Path) -> None:
    def run(*overrides: str) -> Any:
        quiet = (f"out={tmp_path}", "log.plot=false", "log.tensorboard=false", "eval.episodes=200")
        return runner.execute(compose(["algo=value_iteration", "replicas=2", *quiet, *overrides]), quiet=True)

    result = run()
    summary = result.summary
    assert summary["env_steps"] == 0
    assert 100 < summary["updates"] < 10_000
    assert all(row["steps"] == summary["updates"] for row in summary["replicas"])
    _, algo = runner.restore(result.folder)
    config = compose(["algo=value_iteration"])
    expected = linear_program(envs.make(config.env, 1).table, 0.99)
    np.testing.assert_allclose(algo.v.numpy(), np.stack([expected] * 2), rtol=0, atol=1e-6)
    # The optimal policy crosses the ice in about 3 of 4 tries of at most 100 steps.
    assert 0.62 < summary["aggregate"]["mean"] < 0.86
    capped = run("total_steps=7").summary
    assert capped["updates"] == 7


def test_an_env_without_a_table_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs a known transition table"):
        runner.Task.of(compose(["algo=value_iteration", "env=bandit", "env.max_steps=10"]))


def policy_of(*overrides: str, gamma: float) -> list[str]:
    table = envs.make(compose(["algo=value_iteration", *overrides]).env, 1).table
    algo = agent(table, gamma=gamma, seeds=(1, 2))
    sweep(algo)
    return algo.describe(1).splitlines()


def test_the_cliffs_policy_as_arrows() -> None:
    rows = [row.split() for row in policy_of("env=cliff_walking", gamma=1.0)]
    for row in rows[:2]:
        assert row == ["↓→"] * 11 + ["↓"]  # both lead on: ties are shown
    assert rows[2] == ["→"] * 11 + ["↓"]
    assert rows[3][0] == "↑" and rows[3][-1] == "."


def test_the_lakes_policy_as_arrows() -> None:
    """The known optimal policy on slippery ice; its holes and its goal are dots."""
    rows = [row.split() for row in policy_of("env=frozen_lake", gamma=0.99)]
    assert rows == [["←", "↑", "↑", "↑"], ["←", ".", "←→", "."], ["↑", "↓", "←", "."], [".", "→", "↓", "."]]


def test_a_table_without_a_grid_shows_numbers() -> None:
    table = chain()
    chosen = np.array([[False, True], [True, True], [True, False], [True, True]])
    assert draw_policy(table, chosen).split() == ["1", "01", "0", "."]
