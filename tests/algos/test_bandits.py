"""Bandits: every rule by hand, the testbed against a plain simulation, regret, and judging online."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from rlrun import cli, envs
from rlrun.algos import bandits
from rlrun.algos.bandits import (
    UCB,
    Bandit,
    EpsilonGreedy,
    EpsilonGreedyConfig,
    GradientBandit,
    GradientBanditConfig,
    Softmax,
    SoftmaxConfig,
    Thompson,
    ThompsonConfig,
    ThompsonGaussian,
    ThompsonGaussianConfig,
    UCBConfig,
    sample_gamma,
)
from rlrun.config import ConfigError
from rlrun.config.compose import compose
from rlrun.core import Rollout, Spec
from rlrun.report.film import film as play
from rlrun.report.table import number, results_table
from rlrun.rng import Stream
from rlrun.runs.load import restore, training_envs
from rlrun.runs.run import Result, evaluate, execute
from rlrun.spaces import Discrete
from rlrun.state import select

MANY = tuple(range(4000))  # replicas that make a frequency
FAMILY = {
    EpsilonGreedy: EpsilonGreedyConfig(None, 0.0, 0.1, False),
    UCB: UCBConfig(None, 0.0, 2.0),
    Softmax: SoftmaxConfig(None, 0.0, 0.5, "mean"),
    GradientBandit: GradientBanditConfig(0.1, True),
    Thompson: ThompsonConfig(1.0, 1.0),
    ThompsonGaussian: ThompsonGaussianConfig(0.0, 1.0, 1.0),
}
every_kind = pytest.mark.parametrize("kind", FAMILY, ids=lambda kind: kind.__name__)


def agent(kind: type[Bandit], arms: int = 3, *, seeds: tuple[int, ...] = (1,), **changes: Any) -> Any:
    """An algorithm of the family in float64, with some keys of its config changed."""
    config = type(FAMILY[kind])(**(vars(FAMILY[kind]) | changes))
    return kind(Spec(Discrete(1), Discrete(arms), 1, seeds, 1000, dtype="float64"), config, None)


def choose(algo: Bandit, rng: Stream, mode: Any = "explore", step: int = 0) -> np.ndarray:
    """The arm of every replica, [R]."""
    obs = torch.zeros((algo.spec.replicas, 1), dtype=torch.int64)
    steps = np.full(algo.spec.replicas, step)
    return algo.act(obs, (), obs == 0, step=steps, mode=mode, rng=rng).action[:, 0].numpy()


def frequencies(algo: Bandit, step: int = 0) -> np.ndarray:
    """How often the arms are chosen [K], over many replicas in one state."""
    chosen = choose(algo, Stream(algo.spec.seeds, "test"), step=step)
    return np.bincount(chosen, minlength=algo.arms) / len(chosen)


def pull(algo: Bandit, arm: Any, reward: Any, valid: bool = True) -> dict[str, torch.Tensor]:
    shape = (algo.spec.replicas, 1, 1)
    arms = torch.as_tensor(arm).reshape(-1, 1, 1).expand(shape)
    rewards = torch.as_tensor(reward, dtype=algo.means.dtype).reshape(-1, 1, 1).expand(shape)
    no = torch.zeros(shape, dtype=torch.bool)
    obs = torch.zeros(shape, dtype=torch.int64)
    rollout = Rollout(obs, arms, rewards, no, no, obs, no, no | valid)
    return algo.update(rollout, step=np.zeros(algo.spec.replicas, np.int64))


# What all have in common.


@every_kind
def test_means_are_those_of_the_rewards(kind: type[Bandit]) -> None:
    algo = agent(kind, 4, seeds=(1, 2, 3))
    numbers = np.random.default_rng(0)
    arms, rewards = numbers.integers(4, size=(200, 3)), numbers.normal(1000.0, 1.0, (200, 3))
    for arm, reward in zip(arms, rewards, strict=True):
        pull(algo, arm, reward)
    for r, k in np.ndindex(3, 4):
        own = rewards[arms[:, r] == k, r]
        assert algo.counts[r, k].item() == len(own)
        assert algo.means[r, k].item() == pytest.approx(np.mean(own), rel=1e-12)
    obs = torch.zeros((3, 2), dtype=torch.int64)
    assert torch.equal(algo.q(obs, (), obs == 0)[:, 1], algo.means)


@pytest.mark.parametrize("kind", [EpsilonGreedy, UCB, Softmax])
def test_a_constant_step_weighs_recent_rewards_and_the_initial_value(kind: type[Bandit]) -> None:
    algo = agent(kind, step_size=0.1, initial_value=5.0)
    for reward in (1.0, -2.0, 4.0):
        pull(algo, 1, reward)
    expected = 0.9**3 * 5.0 + 0.1 * (0.9**2 * 1.0 + 0.9 * -2.0 + 4.0)
    assert algo.means[0].tolist() == pytest.approx([5.0, expected, 5.0])


@every_kind
def test_a_step_that_is_not_valid_changes_nothing(kind: type[Bandit]) -> None:
    algo = agent(kind)
    pull(algo, 1, 1.0)
    before = {name: leaf.clone() for name, leaf in algo.state().items()}
    pull(algo, 2, 9.0, valid=False)
    assert all(torch.equal(leaf, before[name]) for name, leaf in algo.state().items())
    assert algo.counts[0].tolist() == [0, 1, 0]


@every_kind
def test_nan_stays_in_its_replica(kind: type[Bandit]) -> None:
    algo, rng = agent(kind, seeds=(1, 2)), Stream((1, 2), "test")
    for _ in range(5):
        metrics = pull(algo, choose(algo, rng), [math.nan, 1.0])
    assert torch.isfinite(metrics["loss/error"]).tolist() == [False, True]
    assert algo.counts.sum(1).tolist() == [0, 5]
    assert all(torch.isfinite(leaf).all() for leaf in algo.state().values())  # still of use


@every_kind
def test_before_any_reward_all_arms_are_alike(kind: type[Bandit]) -> None:
    """Ties are broken at random: four standard errors about a quarter."""
    error = math.sqrt(0.25 * 0.75 / len(MANY))
    assert np.abs(frequencies(agent(kind, 4, seeds=MANY)) - 0.25).max() < 4 * error


@every_kind
def test_the_best_guess_draws_nothing(kind: type[Bandit]) -> None:
    algo, rng = agent(kind), Stream((1,), "test")
    for arm, rewards in enumerate(([0, 0, 0, 1], [1, 1, 0, 1], [0, 1, 1, 0])):
        for reward in rewards:
            pull(algo, arm, float(reward))
    assert choose(algo, rng, "greedy") == [1]
    assert rng.counter.tolist() == [0]


# Epsilon-greedy.


def test_epsilon_is_the_chance_of_any_arm() -> None:
    algo = agent(EpsilonGreedy, 4, seeds=MANY, epsilon=0.4)
    pull(algo, 2, 1.0)
    error = math.sqrt(0.25 / len(MANY))
    assert np.abs(frequencies(algo) - [0.1, 0.1, 0.7, 0.1]).max() < 4 * error
    algo.config.epsilon = 0.0
    assert frequencies(algo).tolist() == [0, 0, 1, 0]
    pull(algo, 3, 1.0)  # as good as the other, and so as often pulled
    assert np.abs(frequencies(algo) - [0, 0, 0.5, 0.5]).max() < 4 * error


def test_a_decaying_epsilon_goes_by_the_env_step() -> None:
    algo = agent(EpsilonGreedy, 4, seeds=MANY, epsilon=8.0, decay=True)
    pull(algo, 2, 1.0)
    steps = np.array([0, 6, 7, 8, 15, 799])  # before the pulls 1, 7, 8, 9, 16 and 800
    assert algo.epsilon(steps).tolist() == pytest.approx([1, 1, 1, 8 / 9, 0.5, 0.01])
    error = math.sqrt(0.25 / len(MANY))
    assert np.abs(frequencies(algo, step=3) - 0.25).max() < 4 * error
    assert np.abs(frequencies(algo, step=15) - [0.125, 0.125, 0.625, 0.125]).max() < 4 * error


def test_optimism_tries_every_arm_and_forgets() -> None:
    algo, rng = agent(EpsilonGreedy, 5, epsilon=0.0, step_size=0.5, initial_value=10.0), Stream((1,), "test")
    for _ in range(5):
        pull(algo, choose(algo, rng), 1.0)
    assert algo.counts[0].tolist() == [1] * 5
    assert algo.means[0].tolist() == [5.5] * 5  # still too high, and halfway to the truth
    assert choose(agent(EpsilonGreedy, initial_value=5.0), rng, "greedy") == [0]


# Upper confidence bounds.


def test_every_arm_is_tried_once_first_and_in_random_order() -> None:
    algo, rng = agent(UCB, 5, seeds=tuple(range(40))), Stream(range(40), "test")
    order = []
    for _ in range(5):
        order.append(choose(algo, rng))
        pull(algo, order[-1], -100.0)  # poor, and yet all the others come before a second try
    tried = np.stack(order, 1)
    assert (np.sort(tried) == np.arange(5)).all()
    assert len({tuple(row) for row in tried}) > 20
    assert (algo.counts == 1).all()


def test_bounds_and_picks_by_hand() -> None:
    algo = agent(UCB, c=2.0)
    algo.counts[0] = torch.tensor([5, 1, 2])
    algo.means[0] = torch.tensor([3.0, 0.5, 1.0])
    bonus = [2.0 * math.sqrt(math.log(9) / n) for n in (5, 1, 2)]  # t = 9: the pull to come
    assert algo.bounds()[0].tolist() == pytest.approx([3.0 + bonus[0], 0.5 + bonus[1], 1.0 + bonus[2]])
    assert choose(algo, Stream((1,), "test")) == [0]  # 4.33, 3.46, 3.10
    algo.means[0, 0] = 2.0  # 3.33: the arm that is worse by its mean is pulled
    assert choose(algo, Stream((1,), "test")) == [1]
    algo.c = 0.5
    assert choose(algo, Stream((1,), "test")) == [0]


def test_an_untried_arm_has_an_infinite_bound_and_nothing_is_divided_by_zero() -> None:
    algo = agent(UCB)
    assert algo.bounds()[0].tolist() == [math.inf] * 3
    pull(algo, 0, -3.0)
    assert algo.bounds()[0].tolist()[1:] == [math.inf] * 2
    assert algo.means[0].tolist() == [-3.0, 0.0, 0.0]  # no reward was made up
    assert choose(algo, Stream((1,), "test"), "greedy") == [0]  # an untried arm is no best guess


# Softmax.


@pytest.mark.parametrize(("over", "worth"), [("mean", [1.0, 0.5, 0.0]), ("total", [1.0, 1.0, 0.0])])
def test_softmax_frequencies(over: str, worth: list[float]) -> None:
    algo = agent(Softmax, seeds=MANY, temperature=0.5, over=over)
    for arm, reward in ((0, 1.0), (1, 0.25), (1, 0.75)):
        pull(algo, arm, reward)
    expected = np.exp(np.array(worth) / 0.5) / np.exp(np.array(worth) / 0.5).sum()
    assert np.abs(frequencies(algo) - expected).max() < 4 * math.sqrt(0.25 / len(MANY))


def test_softmax_of_large_values() -> None:
    algo = agent(Softmax, seeds=MANY, temperature=1.0)
    for arm, reward in ((0, 1e6), (1, 1e6 - 1.0), (2, -1e6)):
        pull(algo, arm, reward)
    expected = [1 / (1 + math.exp(-1)), 1 / (1 + math.exp(1)), 0.0]
    assert np.abs(frequencies(algo) - expected).max() < 4 * math.sqrt(0.25 / len(MANY))


# The gradient bandit.


def test_preferences_by_hand() -> None:
    """Two arms: the first reward is its own baseline; then r - mean, times one minus the probability."""
    algo = agent(GradientBandit, 2, learning_rate=0.5)
    pull(algo, 0, 3.0)
    assert algo.preferences[0].tolist() == [0.0, 0.0]
    pull(algo, 1, 5.0)  # baseline 3: H += 0.5 * 2 * (-1/2, 1/2)
    assert algo.preferences[0].tolist() == pytest.approx([-0.5, 0.5])
    pull(algo, 1, 1.0)  # baseline 4, probability of arm 1: 1 / (1 + 1/e)
    p = 1 / (1 + math.exp(-1.0))
    assert algo.preferences[0].tolist() == pytest.approx([-0.5 + 1.5 * (1 - p), 0.5 - 1.5 * (1 - p)])
    plain = agent(GradientBandit, 2, learning_rate=0.5, baseline=False)
    pull(plain, 0, 3.0)
    assert plain.preferences[0].tolist() == pytest.approx([0.75, -0.75])


def test_preferences_become_probabilities() -> None:
    algo = agent(GradientBandit, seeds=MANY)
    algo.preferences += torch.tensor([math.log(5.0), math.log(3.0), math.log(2.0)])
    assert np.abs(frequencies(algo) - [0.5, 0.3, 0.2]).max() < 4 * math.sqrt(0.25 / len(MANY))


def test_a_baseline_makes_an_offset_irrelevant() -> None:
    """Rewards about 0 and about +1000 lead to the same preferences; without a baseline they do not."""
    numbers = np.random.default_rng(1)
    pulls = [(int(arm), float(r)) for arm, r in zip(numbers.integers(3, size=300), numbers.normal(size=300))]  # noqa: B905
    for baseline in (True, False):
        low, high = (agent(GradientBandit, baseline=baseline) for _ in range(2))
        for arm, reward in pulls:
            pull(low, arm, reward)
            pull(high, arm, reward + 1000.0)
        assert torch.isfinite(high.preferences).all()
        assert torch.allclose(low.preferences, high.preferences, atol=1e-6) == baseline


@pytest.mark.parametrize("baseline", [True, False])
def test_rewards_about_a_thousand_do_not_overflow(baseline: bool) -> None:
    """In float32, preferences beyond 88 would: softmax has to shift them first."""
    spec = Spec(Discrete(1), Discrete(4), 1, (1, 2, 3), 1000)
    algo, rng = GradientBandit(spec, GradientBanditConfig(0.4, baseline), None), Stream((1, 2, 3), "test")
    numbers = np.random.default_rng(0)
    for _ in range(300):
        arms = choose(algo, rng)
        pull(algo, arms, 1000.0 + arms + numbers.normal(size=3))
    assert torch.isfinite(algo.preferences).all() and torch.isfinite(algo.means).all()
    assert algo.preferences.sum(1).abs().max() < 1e-3 * algo.preferences.abs().max()
    if baseline:
        assert choose(algo, rng, "greedy").tolist() == [3, 3, 3]
    else:
        assert algo.preferences.abs().max() > 88  # so the shift was needed


# Thompson sampling.


@pytest.mark.parametrize("shape", [1.0, 1.5, 4.0, 300.0])
def test_gamma_numbers(shape: float) -> None:
    found = sample_gamma(torch.full((40, 250), shape, dtype=torch.float64), Stream(range(40), "test"))
    assert stats.kstest(found.numpy().ravel(), stats.gamma(shape).cdf).pvalue > 1e-3


def test_gamma_numbers_after_five_failures() -> None:
    """Uniforms so high that no try is accepted: something finite must come, and from every replica."""

    class Unlucky(Stream):
        def uniform(self, *shape: int) -> torch.Tensor:
            return torch.full((2, *shape), 1.0 - 2.0**-53, dtype=torch.float64)

        def normal(self, *shape: int) -> torch.Tensor:
            return torch.full((2, *shape), -9.0, dtype=torch.float64)

    found = sample_gamma(torch.tensor([[1.0, 5.0]] * 2, dtype=torch.float64), Unlucky((1, 2), "test"))
    assert found.flatten().tolist() == pytest.approx([2 / 3, 14 / 3] * 2)


def test_beta_posterior_and_the_chance_of_being_best() -> None:
    algo = agent(Thompson, 2, seeds=MANY)
    for reward in (1.0, 1.0):
        pull(algo, 1, reward)
    alpha, beta = algo.posterior()
    assert alpha[0].tolist() == [1, 3] and beta[0].tolist() == [1, 1]
    # Uniform against the largest of three uniforms: the latter wins three times in four.
    assert abs(frequencies(algo)[1] - 0.75) < 4 * math.sqrt(0.25 * 0.75 / len(MANY))
    pull(algo, 1, 0.0)
    assert algo.posterior()[1][0].tolist() == [1, 2]
    assert algo.guess()[0].tolist() == pytest.approx([0.5, 0.6])
    biased = agent(Thompson, 2, alpha=5.0, beta=2.0)
    assert biased.guess()[0].tolist() == pytest.approx([5 / 7] * 2)


def test_gaussian_posterior_and_the_chance_of_being_best() -> None:
    algo = agent(ThompsonGaussian, 2, seeds=MANY, prior_mean=1.0, prior_spread=2.0, noise=3.0)
    for reward in (2.0, 6.0):
        pull(algo, 1, reward)
    precision = 1 / 4 + 2 / 9
    mean, deviation = algo.posterior()
    assert mean[0].tolist() == pytest.approx([1.0, (1 / 4 + 8 / 9) / precision])
    assert deviation[0].tolist() == pytest.approx([2.0, precision**-0.5])
    chance = stats.norm.cdf((mean[0, 1] - 1.0) / math.sqrt(4.0 + 1 / precision))
    assert abs(frequencies(algo)[1] - chance) < 4 * math.sqrt(0.25 / len(MANY))


# The testbed, against a plain simulation that shares nothing with the package.


def simulate(rule: str, runs: int, steps: int, *, arms: int = 10, mean: float = 0.0, **p: Any) -> np.ndarray:
    """Mean reward, share of optimal pulls and regret at every step, [3, steps]."""
    random = np.random.default_rng(7)
    bernoulli = rule == "beta"
    q = random.random((runs, arms)) if bernoulli else random.normal(mean, 1.0, (runs, arms))
    rows, best = np.arange(runs), q.argmax(1)
    estimate, count = np.full((runs, arms), p.get("initial", 0.0)), np.zeros((runs, arms))
    preference, average = np.zeros((runs, arms)), np.zeros(runs)
    out = np.zeros((3, steps))
    for t in range(1, steps + 1):
        if rule in ("ucb", "epsilon"):
            value = estimate
            if rule == "ucb":
                bonus = p["c"] * np.sqrt(np.log(t) / np.maximum(count, 1))
                value = np.where(count == 0, 1e9, estimate + bonus)
            ties = value == value.max(1, keepdims=True)
            action = (random.random((runs, arms)) * ties).argmax(1)
            epsilon = min(1.0, p["decay"] / t) if "decay" in p else p.get("epsilon", 0.0)
            action = np.where(random.random(runs) < epsilon, random.integers(arms, size=runs), action)
        elif rule in ("softmax", "gradient"):
            worth = preference if rule == "gradient" else estimate / p["temperature"]
            weight = np.exp(worth - worth.max(1, keepdims=True))
            chance = weight / weight.sum(1, keepdims=True)
            action = (chance.cumsum(1) < random.random((runs, 1))).sum(1).clip(max=arms - 1)
        elif rule == "beta":
            action = random.beta(1 + estimate * count, 1 + count - estimate * count).argmax(1)
        else:
            variance = 1 / (1 + count)
            action = random.normal(estimate * count * variance, np.sqrt(variance)).argmax(1)
        value = q[rows, action]
        reward = (random.random(runs) < value) * 1.0 if bernoulli else random.normal(value, 1.0)
        out[:, t - 1] = reward.mean(), (action == best).mean(), (q.max(1) - value).mean()
        count[rows, action] += 1
        if rule == "gradient":
            compared = (average if t > 1 else reward) if p["baseline"] else 0.0
            hit = np.zeros((runs, arms))
            hit[rows, action] = 1.0
            preference += p["alpha"] * (reward - compared)[:, None] * (hit - chance)
            average += (reward - average) / t
        step_size = p.get("step_size", 1 / count[rows, action])
        estimate[rows, action] += step_size * (reward - estimate[rows, action])
    return out


TESTBED = {  # rlrun's overrides: the simulation's rule; those of Figures 2.2 to 2.5 first
    "algo=epsilon_greedy algo.epsilon=0": {"rule": "epsilon"},
    "algo=epsilon_greedy algo.epsilon=0.01": {"rule": "epsilon", "epsilon": 0.01},
    "algo=epsilon_greedy": {"rule": "epsilon", "epsilon": 0.1},
    "algo=epsilon_greedy algo.step_size=0.1 algo.initial_value=5 algo.epsilon=0": {
        "rule": "epsilon",
        "step_size": 0.1,
        "initial": 5.0,
    },
    "algo=ucb": {"rule": "ucb", "c": 2.0},
    "algo=gradient_bandit env.mean=4": {"rule": "gradient", "mean": 4.0, "alpha": 0.1, "baseline": True},
    "algo=gradient_bandit env.mean=4 algo.learning_rate=0.4 algo.baseline=false": {
        "rule": "gradient",
        "mean": 4.0,
        "alpha": 0.4,
        "baseline": False,
    },
    "algo=decaying_epsilon": {"rule": "epsilon", "decay": 20.0},
    "algo=softmax": {"rule": "softmax", "temperature": 0.2},
    "algo=thompson": {"rule": "beta"},
    "algo=thompson_gaussian": {"rule": "gaussian"},
}
RUNS, STEPS, WINDOW = 1000, 300, 100


def run(folder: Path, *overrides: str) -> Result:
    quiet = ("checkpoint.every_seconds=1000", "log.plot=false", "log.tensorboard=false")
    first = () if any(text.startswith("algo=") for text in overrides) else ("algo=ucb",)
    return execute(compose([*first, f"out={folder}", *quiet, *overrides]))


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("overrides", TESTBED)
def test_the_testbed(overrides: str, tmp_path: Path) -> None:
    """Reward, optimal pulls and regret over each hundred steps are those of the simulation."""
    result = run(tmp_path, *overrides.split(), f"replicas={RUNS}", f"total_steps={STEPS}")
    expected = simulate(runs=2 * RUNS, steps=STEPS, **TESTBED[overrides])
    lines = records(result.folder)
    for end in range(WINDOW, STEPS + 1, WINDOW):
        rows = [line for line in lines if line["step"] == end]
        for name, curve in zip(("reward", "optimal", "regret"), expected, strict=True):
            found = np.array([row[f"train/{name}"] for row in rows])
            error = found.std() * math.sqrt(1 / RUNS + 1 / (2 * RUNS))
            assert abs(found.mean() - curve[end - WINDOW : end].mean()) < 4 * error, (name, end)
    total = np.array([row["total_regret"] for row in result.summary["replicas"]])
    assert abs(total.mean() - expected[2].sum()) < 4 * total.std() * math.sqrt(1.5 / RUNS)


def test_thompson_sampling_beats_never_learning_and_its_regret_flattens(tmp_path: Path) -> None:
    """Two arms, 0.4 and 0.6: a coin would lose 0.1 a step, 100 in all."""
    overrides = ("algo=thompson", "env.arms=2", "env.means=[0.4,0.6]", "replicas=300", "total_steps=1000")
    result = run(tmp_path, *overrides)
    total = np.array([row["total_regret"] for row in result.summary["replicas"]])
    assert 3.0 < total.mean() < 20.0  # Lai and Robbins: ln(1000) * 0.2 / KL(0.4, 0.6) = 17
    early, late = (
        np.mean([r["train/regret"] for r in records(result.folder) if r["step"] == step])
        for step in (100, 1000)
    )
    assert late < early / 5


# Environments.


def make(*overrides: str, num: int = 1) -> Any:
    env: Any = envs.make(compose(["algo=ucb", *overrides]).env, num)
    env.reset(seed=np.arange(num, dtype=np.uint64) * 7919 + 1)
    return env


def test_bernoulli_arms_pay_one_or_nothing() -> None:
    env = make("env=bandit_bernoulli", num=3000)
    means = env.state()["means"]
    assert stats.kstest(means.ravel(), stats.uniform.cdf).pvalue > 1e-3
    fixed = make("env=bandit_bernoulli", "env.arms=3", "env.means=[0.0,0.3,1.0]", num=3000)
    paid = []
    for arm in range(3):
        _, reward, _, _, info = fixed.step(np.full(3000, arm))
        assert set(np.unique(reward)) <= {0.0, 1.0}
        assert np.array_equal(info["reward"], reward)
        assert info["regret"] == pytest.approx(1.0 - [0.0, 0.3, 1.0][arm])
        paid.append(reward.mean())
    assert paid[0] == 0.0 and abs(paid[1] - 0.3) < 4 * math.sqrt(0.21 / 3000) and paid[2] == 1.0


def test_means_that_drift() -> None:
    """Exercise 2.5: equal at first, then a random walk; regret is against the best arm of the moment."""
    env = make("env=bandit_drifting", num=2000)
    before = env.state()["means"]
    assert not before.any()
    rows, walks = np.arange(2000), []
    for t in range(100):
        arm = (rows + t) % 10
        _, _, _, _, info = env.step(arm)
        np.testing.assert_allclose(info["regret"], before.max(1) - before[rows, arm])
        np.testing.assert_array_equal(info["optimal"], before[rows, arm] == before.max(1))
        after = env.state()["means"]
        walks.append(after - before)
        before = after
    steps = np.stack(walks)  # [T, M, K]
    assert abs(steps.mean()) < 4 * 0.01 / math.sqrt(steps.size)
    assert steps.std() == pytest.approx(0.01, rel=0.01)
    assert before.std() == pytest.approx(0.1, rel=0.03)  # a hundred independent steps
    assert abs(np.corrcoef(steps[0].ravel(), steps[1].ravel())[0, 1]) < 4 / math.sqrt(20_000)
    assert abs(np.corrcoef(steps[:, :, 0].ravel(), steps[:, :, 1].ravel())[0, 1]) < 4 / math.sqrt(200_000)


def test_drift_does_not_depend_on_the_arms_pulled() -> None:
    one, other = make("env=bandit_drifting"), make("env=bandit_drifting")
    for t in range(20):
        one.step(np.array([0]))
        other.step(np.array([t % 10]))
    np.testing.assert_array_equal(one.state()["means"], other.state()["means"])


def test_drifting_probabilities_stay_probabilities() -> None:
    env = make("env=bandit_bernoulli", "env.drift=0.3", num=200)
    for _ in range(50):
        env.step(np.zeros(200, np.int64))
        means = env.state()["means"]
        assert means.min() >= 0.0 and means.max() <= 1.0
    assert stats.kstest(means.ravel(), stats.uniform.cdf).pvalue > 1e-3  # reflection keeps them uniform


# Judging online, and again later.


def test_the_last_record_is_the_result(tmp_path: Path) -> None:
    result = run(tmp_path, "replicas=2", "total_steps=50", "log.every=20")
    for row in result.summary["replicas"]:
        own = [line for line in records(result.folder) if line["replica"] == row["replica"]]
        assert [line["step"] for line in own] == [20, 40, 50]
        assert row["eval_return"] == row["reward"] == own[-1]["train/reward"]
        assert row["regret"] == own[-1]["train/regret"]
        by_hand = sum(line["train/regret"] * n for line, n in zip(own, (20, 20, 10), strict=True))
        assert row["total_regret"] == own[-1]["train/total_regret"] == pytest.approx(by_hand)


def test_the_reward_that_counts_is_the_bandits_own(tmp_path: Path) -> None:
    """Epsilon-greedy chooses alike whatever factor its rewards have, and the report has none."""
    plain, scaled = (
        run(tmp_path / name, "algo=epsilon_greedy", "replicas=2", "total_steps=100", *extra)
        for name, extra in (("plain", ()), ("scaled", ("env.reward.scale=4",)))
    )
    for one, other in zip(plain.summary["replicas"], scaled.summary["replicas"], strict=True):
        assert one["eval_return"] == other["eval_return"] and one["optimal"] == other["optimal"]


def test_the_table_shows_regret(tmp_path: Path) -> None:
    result = run(tmp_path, "replicas=2", "total_steps=100")
    heading, _, *rows = results_table(result.summary).splitlines()
    assert "reward a step" in heading and "regret in all" in heading
    first = result.summary["replicas"][0]
    assert f"{first['optimal']:.1%}" in rows[0] and number(first["total_regret"]) in rows[0]
    many = results_table(result.summary | {"replicas": result.summary["replicas"] * 11})
    mean = np.mean([row["total_regret"] for row in result.summary["replicas"]])
    assert f"{number(mean)} in all" in many


def test_a_failed_replica_has_its_reason_in_the_table(tmp_path: Path) -> None:
    rows = run(tmp_path, "replicas=2", "total_steps=50").summary
    rows["replicas"][1] |= {"eval_return": None, "failed": "loss/error is nan"}
    assert "failed" in (table := results_table(rows)) and "loss/error is nan" in table


def test_online_judges_by_returns_where_episodes_end(tmp_path: Path) -> None:
    result = run(tmp_path, "env.max_steps=5", "total_steps=20", "log.every=10")
    row = result.summary["replicas"][0]
    last = records(result.folder)[-1]
    assert row["eval_return"] == last["train/return"]
    assert row["eval_return"] == pytest.approx(5 * row["reward"], rel=1e-5)


def test_replicas_are_lone_runs(tmp_path: Path) -> None:
    def state(*overrides: str) -> dict[str, torch.Tensor]:
        short = ("total_steps=200", "dtype=float64", *overrides)
        return restore(run(tmp_path, *short).folder)[1].state()

    both = state("replicas=2", "seed=7")
    for r in range(2):
        alone = state(f"seed={7 + r}")
        for name, leaf in select(both, r).items():
            assert torch.equal(leaf, alone[name]), name


def test_judged_again_it_is_the_greedy_arm_of_the_very_bandit(tmp_path: Path) -> None:
    """Without learning: every step has the regret of the best guess, on the means that were learned."""
    result = run(tmp_path, "replicas=5", "total_steps=200", "env.noise=0.5")
    collector = training_envs(result.folder)
    means = collector.env.state()["means"]  # type: ignore[attr-defined]
    algo = restore(result.folder)[1]
    arm = choose(algo, Stream(range(5), "test"), "greedy")  # type: ignore[arg-type]
    regret = means.max(1) - means[np.arange(5), arm]
    before = (result.folder / "summary.json").read_bytes()
    one, two = (evaluate(result.folder)["replicas"] for _ in range(2))
    assert one == two and (result.folder / "summary.json").read_bytes() == before
    for r, row in enumerate(one):
        assert row["regret"] == pytest.approx(regret[r]) and row["optimal"] == float(regret[r] == 0)
        assert row["total_regret"] == pytest.approx(200 * regret[r])
        assert abs(row["eval_return"] - means[r, arm[r]]) < 4 * 0.5 / math.sqrt(200)
    alone = training_envs(result.folder, 3)
    assert np.array_equal(alone.env.state()["means"], means[3:4])  # type: ignore[attr-defined]


def test_judged_again_where_episodes_end(tmp_path: Path) -> None:
    """Greedy episodes on fresh seeds, as many as asked for."""
    result = run(tmp_path, "algo=ppo", "env=cartpole", "eval=online", "total_steps=1024", "model.hidden=[8]")
    rows, others = (evaluate(result.folder, 30, seed)["replicas"] for seed in (None, 5))
    assert rows[0]["eval_episodes"] == 30 and rows[0]["eval_return_std"] > 0
    assert rows[0]["eval_return"] != others[0]["eval_return"]
    assert evaluate(result.folder)["replicas"][0]["eval_episodes"] == 100


def test_other_episodes_of_what_never_ends_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(tmp_path, "total_steps=20").folder
    for option in ("--episodes", "--seed"):
        assert cli.main(["evaluate", str(folder), option, "3"]) == 2
        assert "never ends" in capsys.readouterr().err
    assert cli.main(["record", str(folder), "--out", str(tmp_path / "data")]) == 2
    assert "never ends" in capsys.readouterr().err and not (tmp_path / "data").exists()


def test_a_bandit_is_played_from_where_training_stopped(tmp_path: Path) -> None:
    from PIL import Image

    result = run(tmp_path, "replicas=2", "total_steps=60", "env.noise=0")
    total = play(result.folder, tmp_path / "play.gif", replica=1)
    env = training_envs(result.folder, 1).env
    state = env.state()  # type: ignore[attr-defined]
    assert state["pulls"].sum() == 60
    mean = state["means"][0, result.policy(1).act(0)[0]]
    with Image.open(tmp_path / "play.gif") as picture:
        frames = getattr(picture, "n_frames")  # noqa: B009 (not in the stubs)
    assert total == pytest.approx((frames - 1) * mean) and frames > 50


def test_pictures_show_means_and_pulls(monkeypatch: pytest.MonkeyPatch) -> None:
    env = make(num=2)
    before = env.render_frame(0)
    assert before.dtype == np.uint8 and before.shape == (400, 600, 3)
    env.step(np.array([3, 4]))
    assert (env.render_frame(0) != before).any() and (env.render_frame(0) != env.render_frame(1)).any()
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"rlrun\[render\]"):
        env.render_frame(0)


# What makes no sense.


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ("algo=ucb num_envs=2", "num_envs is 2"),
        ("algo=thompson num_envs=2", "num_envs is 2"),
        ("algo=ucb algo.initial_value=5", "initial_value is 5"),
        ("algo=ucb algo.c=-1", "algo.c is -1"),
        ("algo=epsilon_greedy algo.epsilon=1.5", "at most 1"),
        ("algo=softmax algo.temperature=0", "temperature is 0"),
        ("algo=softmax algo.over=total algo.step_size=0.1", "over is total"),
        ("algo=softmax algo.over=total algo.initial_value=1", "over is total"),
        ("algo=thompson env=bandit", "use algo=thompson_gaussian"),
        ("algo=thompson env=cartpole", "Beta prior"),
        ("algo=thompson env.reward.scale=2", "env.reward changes"),
        ("algo=thompson_gaussian algo.noise=0", "noise is 0"),
        ("algo=ucb env=bandit_bernoulli env.mean=0.8", "no probabilities"),
        ("algo=ucb env=bandit_bernoulli env.arms=2 env.means=[0.5,1.5]", "no probabilities"),
        ("algo=ucb env=bandit_bernoulli env.noise=1", "set it to 0"),
        ("algo=ucb env.means=[1,2]", "means has 2"),
        ("algo=ucb eval=episodes", "never end|needs episodes that end"),
        ("algo=value_iteration eval=online", "algo never acts"),
    ],
)
def test_what_makes_no_sense_is_refused(overrides: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        compose(overrides.split())


def test_other_tasks_than_bandits_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one state"):
        run(tmp_path, "env=frozen_lake")
    assert not list(tmp_path.iterdir())


def test_the_family_is_complete() -> None:
    """Every class that is registered there takes part in these tests."""
    own = {kind for kind in vars(bandits).values() if isinstance(kind, type) and issubclass(kind, Bandit)}
    assert own - {Bandit} == set(FAMILY)
