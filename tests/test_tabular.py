"""SARSA: which value is backed up, when, and into which entry of the table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from rlrun import runner
from rlrun.algos.dqn import EpsilonConfig
from rlrun.algos.sarsa import SARSA, SARSAConfig
from rlrun.compose import compose
from rlrun.config import ConfigError
from rlrun.core import Discrete, Rollout, Spec, select
from rlrun.rng import Stream
from rlrun.trainer import Clock, train

STEP = np.zeros(1, np.int64)


def agent(
    states: int = 4,
    actions: int = 2,
    *,
    seeds: tuple[int, ...] = (1,),
    num_envs: int = 1,
    gamma: float = 0.5,
    learning_rate: float = 0.1,
    initial_value: float = 0.0,
    epsilon: float = 0.2,
) -> SARSA:
    spec = Spec(Discrete(states), Discrete(actions), num_envs, seeds, 1000, dtype="float64")
    constant = EpsilonConfig("constant", epsilon, epsilon, 1.0)
    return SARSA(spec, SARSAConfig(gamma, learning_rate, "constant", initial_value, constant), None)


def one_step(
    obs: Any,
    action: Any,
    reward: Any,
    next_obs: Any,
    *,
    terminated: Any = False,
    truncated: Any = False,
    valid: Any = True,
) -> Rollout:
    """A rollout of T = 1 from values that broadcast to [R, N]."""
    arrays = np.broadcast_arrays(np.atleast_2d(obs), action, reward, next_obs, terminated, truncated, valid)
    kinds = (np.int64, np.int64, np.float64, np.int64, bool, bool, bool)
    tensors = [torch.from_numpy(a.astype(kind))[:, None] for a, kind in zip(arrays, kinds, strict=True)]
    s, a, r, s_next, end, cut, counted = tensors
    return Rollout(s, a, r, end, cut, s_next, torch.zeros_like(end), counted)


def test_a_step_waits_for_the_action_after_it() -> None:
    algo = agent()
    algo.table[0, 1] = torch.tensor([1.0, 5.0])
    algo.update(one_step(0, 1, 2.0, 1), step=STEP)
    assert algo.table[0, 0].tolist() == [0.0, 0.0]
    algo.update(one_step(1, 0, 0.0, 2), step=STEP)
    # The action taken is worth 1; the greedy one, 5, would be Q-learning.
    assert algo.table[0, 0].tolist() == pytest.approx([0.0, 0.1 * (2.0 + 0.5 * 1.0)])
    assert algo.table[0, 1].tolist() == [1.0, 5.0]


def test_a_terminal_step_is_learned_from_at_once_and_without_a_successor() -> None:
    algo = agent(initial_value=7.0)
    algo.update(one_step(0, 1, 2.0, 1, terminated=True), step=STEP)
    assert algo.table[0, 0, 1].item() == pytest.approx(7.0 + 0.1 * (2.0 - 7.0))
    algo.update(one_step(2, 0, 1.0, 3), step=STEP)  # the next episode: nothing had been waiting
    expected = torch.full((4, 2), 7.0, dtype=torch.float64)
    expected[0, 1] = 6.5
    torch.testing.assert_close(algo.table[0], expected)


def test_a_truncated_step_falls_back_on_the_expected_value() -> None:
    algo = agent(epsilon=0.2)
    algo.table[0, 1] = torch.tensor([1.0, 5.0])
    algo.update(one_step(0, 1, 2.0, 1, truncated=True), step=STEP)
    policy_value = 0.8 * 5.0 + 0.2 * 3.0
    assert algo.table[0, 0, 1].item() == pytest.approx(0.1 * (2.0 + 0.5 * policy_value))


def test_terminated_wins_where_the_clock_ends_too() -> None:
    algo = agent(initial_value=3.0)
    algo.update(one_step(0, 0, 2.0, 1, terminated=True, truncated=True), step=STEP)
    assert algo.table[0, 0, 0].item() == pytest.approx(3.0 + 0.1 * (2.0 - 3.0))


def test_the_last_two_steps_are_learned_in_their_order() -> None:
    algo = agent(learning_rate=0.5, gamma=1.0, initial_value=4.0)
    algo.update(one_step(0, 0, -1.0, 0), step=STEP)  # against a wall: the same entry twice
    algo.update(one_step(0, 0, -1.0, 1, terminated=True), step=STEP)
    first = 4.0 + 0.5 * (-1.0 + 4.0 - 4.0)
    assert algo.table[0, 0, 0].item() == pytest.approx(first + 0.5 * (-1.0 - first))


def test_corrections_of_one_entry_add_up_over_envs() -> None:
    algo = agent(num_envs=3)
    algo.update(one_step([[0, 0, 2]], [[1, 1, 1]], [[1.0, 2.0, 4.0]], 3, terminated=True), step=STEP)
    assert algo.table[0, 0, 1].item() == pytest.approx(0.1 * (1.0 + 2.0))
    assert algo.table[0, 2, 1].item() == pytest.approx(0.4)


def test_a_filler_step_neither_counts_nor_loses_what_waits() -> None:
    algo = agent()
    algo.table[0, 1] = torch.tensor([1.0, 5.0])
    algo.update(one_step(0, 0, 2.0, 1), step=STEP)
    before = {name: leaf.clone() for name, leaf in algo.state().items()}
    algo.update(one_step(2, 1, 100.0, 3, terminated=True, valid=False), step=STEP)
    for name, leaf in algo.state().items():
        assert torch.equal(leaf, before[name]), name
    algo.update(one_step(1, 1, 0.0, 2), step=STEP)
    assert algo.table[0, 0, 0].item() == pytest.approx(0.1 * (2.0 + 0.5 * 5.0))


def test_the_loss_is_the_mean_error_of_an_episodes_steps() -> None:
    algo = agent(num_envs=2, gamma=1.0, learning_rate=1e-9)
    sizes = []
    for end in (False, False, True):
        metrics = algo.update(one_step([[0, 1]], 0, [[3.0, -5.0]], [[0, 1]], terminated=end), step=STEP)
        sizes.append(metrics["loss/td"].item())
    assert np.mean(sizes) == pytest.approx((3.0 + 5.0) / 2)


def test_a_chain_gets_its_exact_values() -> None:
    algo = agent(4, 1, learning_rate=1.0)
    for _ in range(3):  # values move back one state an episode
        for s in range(3):
            algo.update(one_step(s, 0, 1.0, s + 1, terminated=s == 2), step=STEP)
    assert algo.table[0, :, 0].tolist() == [1.75, 1.5, 1.0, 0.0]


def test_random_steps_equal_the_textbook_loop() -> None:
    R, N, S, A, alpha, gamma, epsilon = 3, 2, 5, 3, 0.3, 0.9, 0.2
    algo = agent(S, A, seeds=(1, 2, 3), num_envs=N, learning_rate=alpha, gamma=gamma, epsilon=epsilon)
    q = np.zeros((R, S, A))
    waiting: dict[tuple[int, int], tuple[int, int, float]] = {}
    numbers = np.random.default_rng(0)
    obs = numbers.integers(S, size=(R, N))
    for _ in range(300):
        action, next_obs = numbers.integers(A, size=(R, N)), numbers.integers(S, size=(R, N))
        reward = numbers.normal(size=(R, N))
        terminated, truncated = (numbers.random((R, N)) < 0.15 for _ in range(2))
        algo.update(
            one_step(obs, action, reward, next_obs, terminated=terminated, truncated=truncated), step=STEP
        )
        old = q.copy()
        for (r, n), (s, a, earned) in waiting.items():
            q[r, s, a] += alpha * (earned + gamma * old[r, obs[r, n], action[r, n]] - old[r, s, a])
        old = q.copy()
        for r, n in np.ndindex(R, N):
            s, a = obs[r, n], action[r, n]
            waiting.pop((r, n), None)
            if terminated[r, n]:
                q[r, s, a] += alpha * (reward[r, n] - old[r, s, a])
            elif truncated[r, n]:
                after = old[r, next_obs[r, n]]
                worth = (1 - epsilon) * after.max() + epsilon * after.mean()
                q[r, s, a] += alpha * (reward[r, n] + gamma * worth - old[r, s, a])
            else:
                waiting[r, n] = s, a, reward[r, n]
        begin = terminated | truncated
        obs = np.where(begin, numbers.integers(S, size=(R, N)), next_obs)
    np.testing.assert_allclose(algo.table.numpy(), q, rtol=0, atol=1e-12)


def play(algo: SARSA, q: list[float], mode: Any, rng: Stream, count: int = 1) -> np.ndarray:
    algo.table[:, 0] = torch.tensor(q, dtype=torch.float64)
    obs = torch.zeros((algo.spec.replicas, count), dtype=torch.int64)
    step = np.zeros(algo.spec.replicas, np.int64)
    return algo.act(obs, (), obs.bool(), step=step, mode=mode, rng=rng).action.numpy()


def test_ties_are_broken_at_random_while_exploring_only() -> None:
    algo, rng = agent(actions=3, epsilon=1e-9), Stream((1,), "test")
    chosen = play(algo, [2.0, -1.0, 2.0], "explore", rng, 4000)
    assert set(chosen.ravel()) == {0, 2}
    assert abs((chosen == 0).mean() - 0.5) < 0.04
    drawn = rng.counter.copy()
    assert set(play(algo, [-1.0, 2.0, 2.0], "greedy", rng, 50).ravel()) == {1}
    assert (rng.counter == drawn).all()


def test_epsilon_is_the_probability_of_any_action() -> None:
    chosen = play(agent(actions=4, epsilon=0.4), [0.0, 3.0, 1.0, 2.0], "explore", Stream((1,), "test"), 8000)
    shares = np.bincount(chosen.ravel(), minlength=4) / chosen.size
    np.testing.assert_allclose(shares, [0.1, 0.7, 0.1, 0.1], atol=0.025)


def test_the_draws_do_not_depend_on_the_table() -> None:
    counters = []
    for q in ([1.0, 0.0], [1.0, 1.0]):
        rng = Stream((1, 2), "test")
        play(agent(seeds=(1, 2)), q, "explore", rng, 3)
        counters.append(rng.counter)
    assert (counters[0] == counters[1]).all() and counters[0].all()


def trained(*overrides: str) -> tuple[SARSA, np.ndarray]:
    """SARSA after a run on the cliff, and its mean return [R] over the run's last quarter."""
    config = compose(["algo=sarsa", *overrides])
    task = runner.Task.of(config)
    algo, collector = runner.build(config, task.spec()), task.collector()
    assert isinstance(algo, SARSA)
    clock = Clock(algo.spec.replicas, config.total_steps)
    everyone = np.ones(algo.spec.replicas, bool)

    def on_step(clock: Clock, metrics: Any) -> None:
        if clock.step.max() == config.total_steps * 3 // 4:
            collector.take_stats(everyone)  # the sums begin anew

    train(algo, collector, clock, on_step)
    return algo, collector.take_stats(everyone).get("return", np.zeros(algo.spec.replicas))


def test_replicas_are_lone_runs() -> None:
    short = ("total_steps=300", "env.max_steps=40", "num_envs=2", "dtype=float64")
    both, _ = trained(*short, "seed=5", "replicas=2")
    for r in range(2):
        alone, _ = trained(*short, f"seed={5 + r}")
        for name, leaf in select(both.state(), r).items():
            assert torch.equal(leaf, alone.state()[name]), name
    assert not torch.equal(both.table[0], both.table[1])


def test_what_waits_is_part_of_the_state() -> None:
    def steps() -> list[Rollout]:
        return [one_step(s, s % 2, 1.0 + s, (s + 1) % 4, terminated=s == 3) for s in range(4)]

    whole = agent()
    for rollout in steps():
        whole.update(rollout, step=STEP)
    first, second = agent(), agent()
    for rollout in steps()[:2]:
        first.update(rollout, step=STEP)
    second.load_state({name: leaf.clone() for name, leaf in first.state().items()})
    for rollout in steps()[2:]:
        second.update(rollout, step=STEP)
    assert torch.equal(second.table, whole.table)
    assert all(len(leaf) == 1 for leaf in whole.state().values())


def test_nan_stays_in_its_replica() -> None:
    poisoned, clean = agent(seeds=(1, 2)), agent(seeds=(1, 2))
    for s in range(4):
        for algo, bad in ((poisoned, np.nan), (clean, 1.0)):
            reward = [[bad], [2.0]]
            metrics = algo.update(one_step([[s], [s]], 0, reward, 0, terminated=s == 3), step=np.zeros(2))
            if algo is poisoned and s > 0:  # the first step only waits
                assert metrics["loss/td"].isfinite().tolist() == [False, True]
    assert torch.equal(poisoned.table[1], clean.table[1])
    assert poisoned.table.isfinite().all()  # what was learned before can still be loaded


def test_a_step_size_that_diverges_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"algo.learning_rate is 0.5"):
        compose(["algo=sarsa", "algo.learning_rate=0.5", "num_envs=4"])


def test_on_the_cliff_it_earns_what_the_safe_path_does() -> None:
    """Sutton and Barto, example 6.6: Q-learning falls off the edge too often, for about -50."""
    _, returns = trained("algo.learning_rate=0.5", "replicas=30", "total_steps=8000")
    assert -36.0 < returns.mean() < -17.0
