"""Dynamic programming: the optimal values and actions, when it stops, and its policy as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from rlrun import envs
from rlrun.algos.dynamic_programming import (
    PolicyIteration,
    PolicyIterationConfig,
    ValueIteration,
    ValueIterationConfig,
)
from rlrun.api import train
from rlrun.config import ConfigError
from rlrun.config.compose import compose
from rlrun.core import Spec, TransitionTable
from rlrun.parts.explore import best
from rlrun.report.grid import policy_text
from rlrun.rng import Stream
from rlrun.runs.load import restore
from rlrun.runs.task import Task
from rlrun.spaces import Discrete

STEP = np.zeros(1, np.int64)


METHODS = ("value_iteration", "policy_iteration")
both = pytest.mark.parametrize("method", METHODS)


def agent(
    table: TransitionTable,
    method: str = "value_iteration",
    *,
    gamma: float = 0.9,
    theta: float = 1e-10,
    seeds: tuple[int, ...] = (1,),
) -> ValueIteration:
    states, actions = table.reward.shape
    spec = Spec(Discrete(states), Discrete(actions), 1, seeds, 10_000, table=table)  # of dtype float32
    if method == "policy_iteration":
        return PolicyIteration(spec, PolicyIterationConfig(gamma, theta), None)
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


TASKS: list[tuple[list[str], float]] = [
    (["env=frozen_lake"], 0.99),
    (["env=frozen_lake_8x8"], 0.99),
    (["env=frozen_lake"], 1.0),
    (["env=frozen_lake", "env.slippery=false"], 0.9),
    (["env=frozen_lake", "env.slippery=false"], 1.0),
    (["env=frozen_lake_8x8", "env.slippery=false"], 0.95),
    (["env=frozen_lake", "env.map=[SFFS,FHFF,FFFH,HGFG]"], 0.9),
    (["env=cliff_walking"], 0.99),
    (["env=cliff_walking"], 1.0),
    (["env=cliff_walking", "env.slippery=true"], 0.95),
    (["env=cliff_walking", "env.fall=terminate", "env.start=first_column"], 0.95),
    (["env=windy_gridworld"], 1.0),
    (["env=dyna_maze"], 0.95),
    (["env=taxi"], 0.99),
]


def table_of(*overrides: str) -> TransitionTable:
    return envs.make(compose(["algo=value_iteration", *overrides]).env, 1).abilities.table


@pytest.mark.parametrize(("env", "gamma"), TASKS)
def test_both_equal_the_linear_program(env: list[str], gamma: float) -> None:
    """In their values, and in their optimal actions with every tie."""
    table = table_of(*env)
    v = linear_program(table, gamma)
    q = table.reward + gamma * table.probability @ v
    live = ~table.terminal
    for method in METHODS:
        algo = agent(table, method, gamma=gamma)
        count = sweep(algo)
        assert count < 20 or method == "value_iteration"
        assert algo.v.dtype == torch.float64
        np.testing.assert_allclose(algo.v[0].numpy(), v, rtol=0, atol=1e-6)
        chosen = best(algo.look_ahead()[0]).numpy()
        np.testing.assert_array_equal(chosen[live], (q >= q.max(-1, keepdims=True) - 1e-6)[live])


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


def test_a_policy_is_solved_and_then_improved() -> None:
    """The chain's uniform policy at gamma = 1/2: v = 1/2 + (v + v') / 4 is 26/27, 8/9, 2/3."""
    algo = agent(chain(), "policy_iteration", gamma=0.5)
    residual = algo.update(None, step=STEP)["loss/residual"].item()
    np.testing.assert_allclose(algo.v[0].numpy(), [26 / 27, 8 / 9, 2 / 3, 0], rtol=0, atol=1e-12)
    assert residual == pytest.approx(1 + 4 / 9 - 26 / 27)  # the first state's: going on, then as before
    assert isinstance(algo, PolicyIteration) and algo.policy[0, :3].tolist() == [[0.0, 1.0]] * 3
    assert algo.update(None, step=STEP)["loss/residual"].item() == pytest.approx(0.0, abs=1e-12)
    assert algo.v[0].tolist() == [1.75, 1.5, 1.0, 0.0]


def test_a_policy_that_ends_never_gives_way_to_one_that_does_not() -> None:
    """With gamma = 1 and a reward at the end alone, going round in circles looks as good as going on."""
    table = chain()
    table.reward[:2] = 0.0
    algo = agent(table, "policy_iteration", gamma=1.0)
    sweep(algo)
    assert algo.v[0].tolist() == [1.0, 1.0, 1.0, 0.0]


def test_where_a_policy_has_no_value_its_replica_fails() -> None:
    table = chain()
    table.probability[2, 1] = table.probability[2, 0]  # there is no end any more
    algo = agent(table, "policy_iteration", gamma=1.0)
    assert not algo.update(None, step=STEP)["loss/residual"].isfinite().any()
    assert not algo.converged().any()


@both
def test_terminal_states_carry_no_value(method: str) -> None:
    table = chain()
    table.reward[3] = 100.0  # whatever the table says of what comes after
    algo = agent(table, method, gamma=0.5)
    sweep(algo)
    assert algo.v[0].tolist() == [1.75, 1.5, 1.0, 0.0]


@both
def test_the_greedy_policy_takes_the_first_of_equal_actions(method: str) -> None:
    table = chain()
    table.probability[:3, 0] = table.probability[:3, 1]
    table.reward[:3, 0] = 1.0 - 1e-13  # equal but for rounding
    table.reward[1, 0] = 0.9  # truly worse
    algo, rng = agent(table, method), Stream((1,), "test")
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
        return train(compose(["algo=value_iteration", "replicas=2", *quiet, *overrides]))

    result = run()
    summary = result.summary
    assert summary["env_steps"] == 0
    assert 100 < summary["updates"] < 10_000
    assert all(row["steps"] == summary["updates"] for row in summary["replicas"])
    _, algo = restore(result.folder)
    config = compose(["algo=value_iteration"])
    expected = linear_program(envs.make(config.env, 1).abilities.table, 0.99)
    np.testing.assert_allclose(algo.v.numpy(), np.stack([expected] * 2), rtol=0, atol=1e-6)
    # The optimal policy crosses the ice in about 3 of 4 tries of at most 100 steps.
    assert 0.62 < summary["aggregate"]["mean"] < 0.86
    capped = run("total_steps=7").summary
    assert capped["updates"] == 7


def test_an_env_without_a_table_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs a known transition table"):
        Task.of(compose(["algo=value_iteration", "env=bandit", "env.max_steps=10"]))


@both
def test_an_env_whose_walls_change_has_no_table(method: str) -> None:
    with pytest.raises(ConfigError, match="needs a known transition table"):
        Task.of(compose([f"algo={method}", "env=shortcut_maze"]))


def policy_of(*overrides: str, gamma: float) -> list[str]:
    table = table_of(*overrides)
    algo = agent(table, gamma=gamma, seeds=(1, 2))
    sweep(algo)
    states = torch.arange(len(table.terminal)).expand(2, -1)
    return policy_text(
        table, algo.q(states, (), torch.ones_like(states, dtype=torch.bool))[1].numpy()
    ).splitlines()


def test_the_cliffs_policy_as_arrows() -> None:
    rows = [row.split() for row in policy_of("env=cliff_walking", gamma=1.0)]
    for row in rows[:2]:
        assert row == ["↓→"] * 11 + ["↓"]  # both lead on: ties are shown
    assert rows[2] == ["→"] * 11 + ["↓"]
    assert rows[3] == ["↑"] + ["#"] * 10 + ["."]  # nobody comes to stand on the cliff


def test_the_lakes_policy_as_arrows() -> None:
    """The known optimal policy on slippery ice; its holes and its goal are dots."""
    rows = [row.split() for row in policy_of("env=frozen_lake", gamma=0.99)]
    assert rows == [["←", "↑", "↑", "↑"], ["←", ".", "←→", "."], ["↑", "↓", "←", "."], [".", "→", "↓", "."]]


def test_a_mazes_walls_are_no_part_of_its_policy() -> None:
    rows = [row.split() for row in policy_of("env=dyna_maze", gamma=0.95)]
    assert rows[0][-2:] == ["#", "."] and rows[3][2] == "#" and rows[3][-1] == "↑"


def test_a_table_without_a_grid_shows_numbers() -> None:
    q = np.array([[0.0, 1.0], [1.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    assert policy_text(chain(), q).split() == ["1", "01", "0", "."]


def test_a_policy_is_printed_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*overrides: str) -> Path:
        quiet = (f"out={tmp_path}", "log.tensorboard=false", "eval.episodes=2")
        return train(compose(["algo=policy_iteration", *quiet, *overrides])).folder

    folder = run("env=cliff_walking")
    assert "↓→" in capsys.readouterr().out
    from PIL import Image

    with Image.open(folder / "policy.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape[0] > 300 and pixels.shape[1] > 2 * pixels.shape[0]  # 4 x 12 cells
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 30  # a colour for each value
    assert not (run("env=cliff_walking", "log.plot=false") / "policy.png").exists()
    capsys.readouterr()
    assert not (run("env=taxi") / "policy.png").exists()
    assert "500 states without a grid" in capsys.readouterr().out
