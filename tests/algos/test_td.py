"""Tabular TD: which value is backed up, when, and into which entry of which table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from rlrun.algos.dyna_q import DynaQ, DynaQConfig
from rlrun.algos.td import TD, TDConfig
from rlrun.config import ConfigError
from rlrun.config.compose import compose
from rlrun.core import Rollout, Spec
from rlrun.parts.explore import EpsilonConfig
from rlrun.rng import Stream
from rlrun.runs.task import Task, build
from rlrun.spaces import Discrete
from rlrun.state import select
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
    target: str = "sarsa",
    double: bool = False,
    n_step: int = 1,
    epsilon: float = 0.2,
    planning: int | None = None,
    kappa: float = 0.0,
) -> TD:
    """TD learning, or Dyna-Q where there are `planning` steps."""
    spec = Spec(Discrete(states), Discrete(actions), num_envs, seeds, 1000, dtype="float64")
    constant = EpsilonConfig("constant", epsilon, epsilon, 1.0)
    values = (gamma, learning_rate, "constant", initial_value, target, double, n_step, constant)
    if planning is None:
        return TD(spec, TDConfig(*values), None)
    return DynaQ(spec, DynaQConfig(*values, planning, kappa), None)


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
    algo.table[0, 0, 1] = torch.tensor([1.0, 5.0])
    algo.update(one_step(0, 1, 2.0, 1), step=STEP)
    assert algo.table[0, 0, 0].tolist() == [0.0, 0.0]
    algo.update(one_step(1, 0, 0.0, 2), step=STEP)
    # The action taken is worth 1; the greedy one, 5, would be Q-learning.
    assert algo.table[0, 0, 0].tolist() == pytest.approx([0.0, 0.1 * (2.0 + 0.5 * 1.0)])
    assert algo.table[0, 0, 1].tolist() == [1.0, 5.0]


def test_a_terminal_step_is_learned_from_at_once_and_without_a_successor() -> None:
    algo = agent(initial_value=7.0)
    algo.update(one_step(0, 1, 2.0, 1, terminated=True), step=STEP)
    assert algo.table[0, 0, 0, 1].item() == pytest.approx(7.0 + 0.1 * (2.0 - 7.0))
    algo.update(one_step(2, 0, 1.0, 3), step=STEP)  # the next episode: nothing had been waiting
    expected = torch.full((4, 2), 7.0, dtype=torch.float64)
    expected[0, 1] = 6.5
    torch.testing.assert_close(algo.table[0, 0], expected)


def test_a_truncated_step_falls_back_on_the_expected_value() -> None:
    algo = agent(epsilon=0.2)
    algo.table[0, 0, 1] = torch.tensor([1.0, 5.0])
    algo.update(one_step(0, 1, 2.0, 1, truncated=True), step=STEP)
    policy_value = 0.8 * 5.0 + 0.2 * 3.0
    assert algo.table[0, 0, 0, 1].item() == pytest.approx(0.1 * (2.0 + 0.5 * policy_value))


def test_terminated_wins_where_the_clock_ends_too() -> None:
    algo = agent(initial_value=3.0)
    algo.update(one_step(0, 0, 2.0, 1, terminated=True, truncated=True), step=STEP)
    assert algo.table[0, 0, 0, 0].item() == pytest.approx(3.0 + 0.1 * (2.0 - 3.0))


def test_the_last_two_steps_are_learned_in_their_order() -> None:
    algo = agent(learning_rate=0.5, gamma=1.0, initial_value=4.0)
    algo.update(one_step(0, 0, -1.0, 0), step=STEP)  # against a wall: the same entry twice
    algo.update(one_step(0, 0, -1.0, 1, terminated=True), step=STEP)
    first = 4.0 + 0.5 * (-1.0 + 4.0 - 4.0)
    assert algo.table[0, 0, 0, 0].item() == pytest.approx(first + 0.5 * (-1.0 - first))


def test_corrections_of_one_entry_add_up_over_envs() -> None:
    algo = agent(num_envs=3)
    algo.update(one_step([[0, 0, 2]], [[1, 1, 1]], [[1.0, 2.0, 4.0]], 3, terminated=True), step=STEP)
    assert algo.table[0, 0, 0, 1].item() == pytest.approx(0.1 * (1.0 + 2.0))
    assert algo.table[0, 0, 2, 1].item() == pytest.approx(0.4)


def test_a_filler_step_neither_counts_nor_loses_what_waits() -> None:
    algo = agent()
    algo.table[0, 0, 1] = torch.tensor([1.0, 5.0])
    algo.update(one_step(0, 0, 2.0, 1), step=STEP)
    before = {name: leaf.clone() for name, leaf in algo.state().items()}
    algo.update(one_step(2, 1, 100.0, 3, terminated=True, valid=False), step=STEP)
    for name, leaf in algo.state().items():
        assert torch.equal(leaf, before[name]), name
    algo.update(one_step(1, 1, 0.0, 2), step=STEP)
    assert algo.table[0, 0, 0, 0].item() == pytest.approx(0.1 * (2.0 + 0.5 * 5.0))


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
    assert algo.table[0, 0, :, 0].tolist() == [1.75, 1.5, 1.0, 0.0]


def test_several_envs_equal_the_textbook_loop() -> None:
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
    np.testing.assert_allclose(algo.table[:, 0].numpy(), q, rtol=0, atol=1e-12)


def play(algo: TD, q: list[float], mode: Any, rng: Stream, count: int = 1) -> np.ndarray:
    algo.table[:, :, 0] = torch.tensor(q, dtype=torch.float64)
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


def trained(*overrides: str) -> tuple[TD, np.ndarray]:
    """The agent after a run, and its mean return [R] over the run's last quarter."""
    config = compose(["algo=sarsa", *overrides])
    task = Task.of(config)
    algo, collector = build(config, task.spec()), task.collector()
    assert isinstance(algo, TD)
    clock = Clock(algo.spec.replicas, config.total_steps)
    everyone = np.ones(algo.spec.replicas, bool)

    def on_step(clock: Clock, metrics: Any) -> None:
        if clock.step.max() == config.total_steps * 3 // 4:
            collector.stats.take(everyone)  # the sums begin anew

    train(algo, collector, clock, on_step)
    return algo, collector.stats.take(everyone).get("return", np.zeros(algo.spec.replicas))


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


# The rest of the family.


class Textbook:
    """One env's learning as the book writes it: plain loops, a list of what waits, nothing batched."""

    def __init__(self, algo: TD, replica: int) -> None:
        config = algo.config
        self.q = np.zeros((algo.tables, algo.states, algo.actions)) + config.initial_value
        self.config, self.replica, self.actions = config, replica, algo.actions
        self.epsilon, self.waiting = config.epsilon.start, []  # type: ignore[var-annotated]
        self.coins, self.plans = Stream(algo.spec.seeds, "double"), Stream(algo.spec.seeds, "planning")
        self.model: dict[tuple[int, int], tuple[float, int, bool]] = {}
        self.tried: dict[tuple[int, int], int] = {}

    def after(self, s: int, table: int) -> float:
        chooser, judge = self.q[table], self.q[-1 - table]
        greedy = max(range(self.actions), key=lambda a: chooser[s, a])
        if self.config.target == "q_learning":
            return float(judge[s, greedy])
        each = self.epsilon / self.actions
        return float(
            sum((each + (1 - self.epsilon) * (a == greedy)) * judge[s, a] for a in range(self.actions))
        )

    def learn(self, table: int, s: int, a: int, target: float) -> None:
        self.q[table, s, a] += self.config.learning_rate * (target - self.q[table, s, a])

    def oldest(self, table: int, worth: float) -> None:
        gain = sum(self.config.gamma**i * r for i, (_, _, r) in enumerate(self.waiting))
        s, a, _ = self.waiting.pop(0)
        count = len(self.waiting) + 1
        self.learn(table, s, a, gain + self.config.gamma**count * worth)

    def step(self, s: int, a: int, r: float, s_next: int, end: bool, cut: bool, now: int) -> None:
        n, late = self.config.n_step, self.config.target == "sarsa"
        table = int(self.coins.numbers(1)[self.replica, 0] * 2) if self.config.double else 0
        if late and len(self.waiting) == n:
            self.oldest(table, float(self.q[-1 - table, s, a]))
        self.waiting.append((s, a, r))
        if end or cut:
            worth = 0.0 if end else self.after(s_next, table)
            while self.waiting:
                self.oldest(table, worth)
        elif not late and len(self.waiting) == n:
            self.oldest(table, self.after(s_next, table))
        if isinstance(self.config, DynaQConfig):
            self.model[s, a], self.tried[s, a] = (r, s_next, end), now
            self.plan(self.config.planning_steps, self.config.kappa, now)

    def plan(self, steps: int, kappa: float, now: int) -> None:
        draws = self.plans.numbers(steps, 1, 2)[self.replica, :, 0]
        tosses = self.coins.numbers(steps, 1)[self.replica, :, 0] if self.config.double else np.zeros(steps)
        for (u, w), toss in zip(draws, tosses, strict=True):
            seen = sorted({s for s, _ in self.model})
            s = seen[int(u * len(seen))]
            open_to = [a for a in range(self.actions) if kappa or (s, a) in self.model]
            a = open_to[int(w * len(open_to))]
            r, s_next, end = self.model.get((s, a), (0.0, s, False))
            table = int(toss * 2)
            r += kappa * (now - self.tried.get((s, a), 0)) ** 0.5
            self.learn(table, s, a, r + self.config.gamma * (0.0 if end else self.after(s_next, table)))


VARIANTS: list[dict[str, Any]] = [
    {"target": target, "double": double, "n_step": n_step}
    for target in ("sarsa", "expected_sarsa", "q_learning")
    for double in (False, True)
    for n_step in (1, 3)
]
VARIANTS += [
    {"target": "q_learning", "planning": 4},
    {"target": "q_learning", "planning": 4, "kappa": 0.3},
    {"target": "expected_sarsa", "planning": 3, "double": True},
    {"target": "sarsa", "planning": 2, "n_step": 2},
]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: "-".join(f"{k}={x}" for k, x in v.items()))
def test_random_steps_equal_the_textbook(variant: dict[str, Any]) -> None:
    R, S, A = 3, 5, 3
    algo = agent(S, A, seeds=(1, 2, 3), learning_rate=0.3, gamma=0.9, initial_value=0.5, **variant)
    books = [Textbook(algo, r) for r in range(R)]
    numbers = np.random.default_rng(0)
    obs = numbers.integers(S, size=(R, 1))
    for now in range(150):
        action, next_obs = numbers.integers(A, size=(R, 1)), numbers.integers(S, size=(R, 1))
        reward = numbers.normal(size=(R, 1))
        terminated, truncated = (numbers.random((R, 1)) < 0.1 for _ in range(2))
        step = one_step(obs, action, reward, next_obs, terminated=terminated, truncated=truncated)
        algo.update(step, step=np.full(R, now))
        for r, book in enumerate(books):
            values = (x[r, 0] for x in (obs, action, reward, next_obs, terminated, truncated))
            book.step(*values, now)
        obs = np.where(terminated | truncated, numbers.integers(S, size=(R, 1)), next_obs)
    np.testing.assert_allclose(algo.table.numpy(), np.stack([b.q for b in books]), rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("target", "worth"), [("sarsa", 1.0), ("expected_sarsa", 0.8 * 5.0 + 0.2 * 3.0), ("q_learning", 5.0)]
)
def test_the_three_targets_differ(target: str, worth: float) -> None:
    """A step into a state whose actions are worth 1 and 5, where the bad one is taken next."""
    algo = agent(target=target, epsilon=0.2)
    algo.table[0, 0, 1] = torch.tensor([1.0, 5.0])
    algo.update(one_step(0, 1, 2.0, 1), step=STEP)
    assert (algo.table[0, 0, 0, 1] == 0.0) == (target == "sarsa")  # the others need not wait
    algo.update(one_step(1, 0, 0.0, 2, terminated=True), step=STEP)
    assert algo.table[0, 0, 0, 1].item() == pytest.approx(0.1 * (2.0 + 0.5 * worth))


@pytest.mark.parametrize("target", ["sarsa", "expected_sarsa", "q_learning"])
@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_n_step_windows_stop_at_an_episodes_end(target: str, end: str) -> None:
    """Rewards 1, 2, 4 with n = 2 and gamma = 1/2; what comes after the end pays 1000."""
    algo = agent(6, 2, target=target, n_step=2, learning_rate=1.0, epsilon=0.5)
    algo.table[0, 0, 5] = 16.0  # the value of the last successor, whatever the action
    for s, reward in enumerate((1.0, 2.0, 4.0)):
        algo.update(one_step(s, 0, reward, 5 if s == 2 else s + 1, **{end: s == 2}), step=STEP)
    for s in (3, 4, 4, 4):
        algo.update(one_step(s, 1, 1000.0, 4), step=STEP)
    worth = 16.0 if end == "truncated" else 0.0
    # Q(0) = 1 + 2/2 + Q(2)/4, and Q(2) was still 0; Q(1) = 2 + 4/2 + worth/4; Q(2) = 4 + worth/2
    assert algo.table[0, 0, :3, 0].tolist() == [2.0, 4.0 + worth / 4, 4.0 + worth / 2]


def test_one_table_chooses_and_the_other_values() -> None:
    algo = agent(target="q_learning", double=True, gamma=1.0, learning_rate=1.0, seeds=tuple(range(8)))
    algo.table[:, 0, 1] = torch.tensor([3.0, 7.0], dtype=torch.float64)  # chooses action 1
    algo.table[:, 1, 1] = torch.tensor([20.0, 10.0], dtype=torch.float64)  # chooses action 0
    algo.update(one_step(np.zeros((8, 1)), 0, 0.0, 1), step=np.zeros(8))
    learned = algo.table[:, :, 0, 0].tolist()
    assert {tuple(pair) for pair in learned} == {(10.0, 0.0), (0.0, 3.0)}  # either table, by its coin
    obs = torch.ones((8, 1), dtype=torch.int64)
    assert algo.q(obs, (), obs.bool())[0, 0].tolist() == [11.5, 8.5]
    act = algo.act(obs, (), obs.bool(), step=np.zeros(8), mode="greedy", rng=Stream((1,), "test"))
    assert (act.action == 0).all()  # by the sum of both


def left_shares(double: bool, runs: int = 2000, episodes: int = 300) -> np.ndarray:
    """How often `left` is taken, [episodes]: Sutton and Barto, example 6.7.

    From A, right ends the episode and left leads to B, both for nothing; B's ten actions
    all end it, with rewards of mean -0.1 and deviation 1.
    """
    algo = agent(
        3,
        10,
        seeds=tuple(range(runs)),
        gamma=1.0,
        learning_rate=0.1,
        epsilon=0.1,
        target="q_learning",
        double=double,
    )
    numbers, rng = np.random.default_rng(0), Stream(algo.spec.seeds, "test")
    step, shares = np.zeros(runs, np.int64), np.zeros(episodes)
    b = torch.ones((runs, 1), dtype=torch.int64)
    for episode in range(episodes):
        q = algo.table[:, :, 0, :2].sum(1).numpy()  # A has two actions only: left and right
        tie = numbers.random((runs, 2)) * (q == q.max(-1, keepdims=True))
        action = np.where(numbers.random(runs) < 0.1, numbers.integers(2, size=runs), tie.argmax(-1))[:, None]
        left = action == 0
        shares[episode] = left.mean()
        algo.update(
            one_step(np.zeros((runs, 1)), action, 0.0, np.where(left, 1, 2), terminated=~left), step=step
        )
        action = algo.act(b, (), b.bool(), step=step, mode="explore", rng=rng).action.numpy()
        reward = numbers.normal(-0.1, 1.0, (runs, 1))
        algo.update(one_step(b.numpy(), action, reward, 2, terminated=True, valid=left), step=step)
    return shares


def test_maximization_bias() -> None:
    """Figure 6.5 with ten actions in B: Q-learning is drawn to the left for long, double Q-learning
    soon is not; 5 % is best, and 95 % the most that an epsilon of 0.1 allows."""
    single, double = left_shares(False), left_shares(True)
    assert single[15:35].mean() > 0.85 and double[15:35].mean() < 0.45
    assert 0.10 < single[-50:].mean() < 0.16
    assert 0.05 < double[-50:].mean() < 0.09


def walk_errors(n_step: int, learning_rate: float, runs: int = 100) -> float:
    """RMS error over the first 10 episodes of the 19-state random walk (Sutton and Barto, figure 7.2)."""
    algo = agent(21, 1, seeds=tuple(range(runs)), gamma=1.0, learning_rate=learning_rate, n_step=n_step)
    truth = np.arange(-18, 20, 2) / 20
    numbers = np.random.default_rng(0)
    obs, left = np.full((runs, 1), 10), np.full(runs, 10)
    errors = np.zeros(runs)
    while left.any():
        next_obs = obs + np.where(numbers.random((runs, 1)) < 0.5, -1, 1)
        end = (next_obs == 0) | (next_obs == 20)
        reward = np.where(end, np.sign(next_obs - 10.0), 0.0)
        running = left[:, None] > 0
        algo.update(one_step(obs, 0, reward, next_obs, terminated=end, valid=running), step=np.zeros(runs))
        ended = (end & running)[:, 0]
        values = algo.table[:, 0, 1:20, 0].numpy()
        errors += ended * np.sqrt(((values - truth) ** 2).mean(1))
        left -= ended
        obs = np.where(end, 10, next_obs)
    return float(errors.mean() / 10)


def test_a_few_steps_are_better_than_one_or_many() -> None:
    errors = {n: walk_errors(n, alpha) for n, alpha in ((1, 0.8), (4, 0.4), (64, 0.1))}
    assert errors[4] < errors[1] - 0.01 and errors[4] < errors[64] - 0.05, errors
    assert errors[4] == pytest.approx(0.26, abs=0.02)


# Planning.


def test_only_what_was_tried_is_planned_on() -> None:
    algo = agent(target="q_learning", planning=200, learning_rate=0.5, initial_value=1.0)
    algo.update(one_step(0, 1, 2.0, 1), step=STEP)
    expected = torch.ones((4, 2), dtype=torch.float64)
    expected[0, 1] = 2.0 + 0.5 * 1.0  # as if it had been seen for ever
    torch.testing.assert_close(algo.table[0, 0], expected)


def test_planning_does_not_bootstrap_from_an_end() -> None:
    for end, worth in (({"terminated": True}, 0.0), ({"truncated": True}, 8.0)):
        algo = agent(target="q_learning", planning=200, learning_rate=0.5, initial_value=8.0)
        algo.update(one_step(0, 1, 2.0, 1, **end), step=STEP)
        assert algo.table[0, 0, 0, 1].item() == pytest.approx(2.0 + 0.5 * worth)


def test_planning_carries_a_reward_back_at_once() -> None:
    def learned(planning: int) -> list[float]:
        algo = agent(4, 1, target="q_learning", learning_rate=1.0, planning=planning)
        for s in range(3):
            algo.update(one_step(s, 0, float(s == 2), s + 1, terminated=s == 2), step=STEP)
        return algo.table[0, 0, :3, 0].tolist()

    assert learned(0) == [0.0, 0.0, 1.0]
    assert learned(60) == [0.25, 0.5, 1.0]


def test_the_model_is_of_the_last_step() -> None:
    algo = agent(target="q_learning", planning=100, gamma=0.0, learning_rate=0.5)
    for reward in (5.0, -3.0):
        algo.update(one_step(0, 0, reward, 1), step=STEP)
    assert algo.table[0, 0, 0, 0].item() == pytest.approx(-3.0)


def test_states_and_their_actions_are_equally_likely() -> None:
    """State 0 with one action that was tried, state 2 with two: not three equal pairs."""
    algo = agent(4, 3, planning=9000)
    assert isinstance(algo, DynaQ)
    algo.tried[0, 0, 1] = algo.tried[0, 2, 0] = algo.tried[0, 2, 2] = 5
    state, action = (x.ravel() for x in algo.imagine(1))
    pairs, counts = np.unique(3 * state + action, return_counts=True)
    assert pairs.tolist() == [1, 6, 8]
    np.testing.assert_allclose(counts / 9000, [0.5, 0.25, 0.25], atol=0.025)


def test_the_bonus_grows_with_the_time_since_a_try() -> None:
    """At step 100, with gamma 0: kappa * sqrt(100) for what was never tried, less for what was."""
    algo = agent(3, 3, target="q_learning", planning=300, kappa=0.1, gamma=0.0, learning_rate=0.5)
    algo.update(one_step(0, 0, 2.0, 1), step=np.array([36]))
    algo.update(one_step(0, 1, 1.0, 1), step=np.array([100]))
    expected = [2.0 + 0.1 * np.sqrt(64), 1.0, 0.1 * np.sqrt(100)]
    np.testing.assert_allclose(algo.table[0, 0, 0].numpy(), expected, atol=1e-9)
    assert not algo.table[0, 0, 1:].any()  # a state that was never left is no part of the model


# On their tasks.


def online(*overrides: str) -> np.ndarray:
    """The mean return [R] of the episodes of a run's last quarter."""
    return trained(*overrides)[1]


def test_on_the_cliff_sarsa_walks_safely_and_q_learning_does_not() -> None:
    """Sutton and Barto, example 6.6: about -25 and -50 while they learn, at step size 0.5."""
    common = ("algo.learning_rate=0.5", "replicas=30", "total_steps=8000")
    means = {a: online(f"algo={a}", *common).mean() for a in ("sarsa", "expected_sarsa", "q_learning")}
    assert -36.0 < means["sarsa"] < -17.0
    assert -30.0 < means["expected_sarsa"] < -17.0
    assert -62.0 < means["q_learning"] < -38.0
