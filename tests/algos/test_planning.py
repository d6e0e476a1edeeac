"""Planners: true laws, bounds, fresh plans after a reset, and scores against an exact solution."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import Trial, small

from rlrun import envs
from rlrun.algos.imagination import Ensemble
from rlrun.algos.mpc import MPC, CategoricalPlans, NormalPlans
from rlrun.collector import Collector
from rlrun.config import ConfigError
from rlrun.config.compose import compose
from rlrun.core import Rollout, Spec
from rlrun.rng import Stream
from rlrun.runs.run import execute
from rlrun.runs.task import Task, build
from rlrun.spaces import Box, Discrete

PLANNERS = ("random_shooting", "cem", "mppi")


@pytest.mark.parametrize("name", ["cartpole", "pendulum", "pendulum_discrete", "cartpole_shaped"])
def test_dynamics_are_the_envs(name: str) -> None:
    """Step for step from what is observed, with the training reward, ends and any leading axes."""
    config = compose(["algo=cem", f"env={name}", "env.max_steps=null"]).env
    env = envs.make(config, 64)
    laws, reward_of = envs.dynamics(config, env), envs.reward_function(config, env)
    assert laws is not None
    env.action_space.seed(3)
    obs, ends = env.reset(seed=5)[0], 0
    for _ in range(60):
        action = env.action_space.sample()
        exact = _state(name, obs)  # from exactly what is seen, not from what rounding hides
        env.load_state(env.state() | {"physics": exact})  # type: ignore[attr-defined]
        after, reward, terminated, _, _ = env.step(action)
        if reward_of is not None:
            reward = reward_of(reward, obs, action, after)
        seen, done = torch.from_numpy(obs).double().view(4, 16, -1), torch.from_numpy(action)
        next_obs, earned, over = laws(seen, done.view(4, 16, *action.shape[1:]))
        np.testing.assert_allclose(next_obs.view(64, -1), after, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(earned.view(-1), reward, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(over.view(-1), terminated)
        ends += terminated.sum()
        obs = after
        if terminated.any():
            obs = env.reset(options={"reset_mask": terminated})[0]
    assert (ends > 0) == name.startswith("cartpole")


def _state(name: str, obs: np.ndarray) -> np.ndarray:
    x = obs.astype(float)
    return x if name.startswith("cartpole") else np.stack((np.arctan2(x[:, 1], x[:, 0]), x[:, 2]), 1)


@pytest.mark.parametrize("env", ["cartpole_masked", "pendulum_masked", "acrobot"])
def test_unknown_dynamics_are_refused(env: str) -> None:
    with pytest.raises(ConfigError, match=r"lacks\n.*algo\.dynamics=learned"):
        Task.of(compose(["algo=cem", f"env={env}"]))
    Task.of(compose(["algo=cem_learned", f"env={env}"]))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("algo.n_elites=300", "at most n_candidates"),
        ("algo.temperature=1", "one of them must be null"),
        ("algo.ensemble.batch_size=1000000", "batch_size is 1000000"),
        ("algo.ensemble.train_every=3 num_envs=2", "algo.ensemble.train_every is 3"),
        ("algo.dynamics=learned env=catch", "vectors of floats"),
    ],
)
def test_refusals(overrides: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config = compose(["algo=cem", *overrides.split()])
        build(config, Task.of(config).spec())


class Line:
    """Laws of a point on a line: it moves by the action; `reward` is a function of where it gets."""

    def __init__(self, reward: Any, end: float = np.inf) -> None:
        self.reward, self.end = reward, end

    def __call__(self, obs: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, ...]:
        move = action[..., 0] if action.is_floating_point() else action - 1.0
        after = obs + move.unsqueeze(-1)
        return after, self.reward(after[..., 0]), after[..., 0] >= self.end


def planner(algo: str, laws: Any, *, discrete: bool = False, **own: Any) -> MPC:
    config = compose([f"algo={algo}"])
    action = Discrete(3) if discrete else Box((1,), (-0.5,), (1.5,))
    values = {"horizon": 4, "n_candidates": 400, "correlation": 0.0} | own
    spec = Spec(Box((1,), (-10.0,), (10.0,)), action, 1, (1, 2), 100, dtype="float64", dynamics=laws)
    return MPC(spec, replace(config.algo, **values), config.model)


def act(algo: MPC, obs: torch.Tensor, memory: Any, first: bool, mode: str = "greedy") -> Any:
    flags = torch.full(obs.shape[:2], first)
    rng = Stream((1, 2), "test")
    return algo.act(obs, memory, flags, step=np.zeros(2, np.int64), mode=mode, rng=rng)  # type: ignore[arg-type]


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("algo", PLANNERS)
def test_the_best_action_is_found(algo: str, discrete: bool) -> None:
    """Go to 0 in one step: from x the action is -x, as far as the bounds [-0.5, 1.5] let it be."""
    own = {} if algo != "mppi" else {"temperature": 0.02}
    plan = planner(algo, Line(lambda x: -x.square()), discrete=discrete, horizon=2, gamma=0.5, **own)
    x = torch.tensor([-3.0, -1.0, 0.0, 1.0], dtype=torch.float64)
    obs = x.view(1, 4, 1).repeat(2, 1, 1)
    action = act(plan, obs, plan.initial_memory(4), True).action
    if discrete:
        assert (action - 1 == torch.tensor([1, 1, 0, -1])).all()
    else:
        expected = (-x).clamp(-0.5, 1.5).view(1, 4, 1).expand(2, -1, -1)
        torch.testing.assert_close(action, expected, atol=0.25, rtol=0.0)
        assert (action >= -0.5).all() and (action <= 1.5).all()


def test_returns_are_discounted_and_end_with_the_episode() -> None:
    """Reward 1 a step; the second step of [1, 1, 1, 1] reaches the end at 2, and nothing follows."""
    plan = planner("cem", Line(torch.ones_like, end=2.0), gamma=0.5)
    actions = torch.tensor([[1.0] * 4, [0.0] * 4], dtype=torch.float64)  # two candidates [K, H]
    actions = actions.T.view(1, 4, 2, 1, 1).expand(2, -1, -1, -1, -1)
    returns = plan.imagine(torch.zeros(2, 1, 1, dtype=torch.float64), actions)
    assert returns[:, :, 0].tolist() == [[1.5, 1.875]] * 2


def test_weights_of_candidates() -> None:
    returns = torch.tensor([1.0, 3.0, 2.0, 3.0], dtype=torch.float64).view(1, 4, 1)
    laws = Line(lambda x: x)
    best = planner("random_shooting", laws).weigh(returns)
    assert best.flatten().tolist() == [0.0, 0.5, 0.0, 0.5]  # ties count alike
    elite = planner("cem", laws, n_elites=3).weigh(returns).flatten()
    torch.testing.assert_close(elite, torch.tensor([0.0, 1.0, 1.0, 1.0], dtype=torch.float64) / 3)
    soft = planner("mppi", laws, temperature=2.0).weigh(returns).flatten()
    torch.testing.assert_close(soft, (returns.flatten() / 2.0).softmax(0))
    worst = torch.finfo(torch.float64).min  # an impossible future counts nothing, and spoils nothing
    assert planner("mppi", laws).weigh(torch.full_like(returns, worst)).isfinite().all()


@pytest.mark.parametrize("algo", ["cem", "mppi"])
def test_the_plan_is_shifted_and_forgotten(algo: str) -> None:
    """The memory is the plan less its first step; where an episode begins it makes no difference."""
    plan = planner(algo, Line(lambda x: -x.square()))
    obs = torch.full((2, 2, 1), -3.0, dtype=torch.float64)
    fresh, stale = plan.initial_memory(2), (torch.full((2, 2, 4, 1), 0.9, dtype=torch.float64),)
    one, other = act(plan, obs, fresh, True), act(plan, obs, stale, True)
    assert torch.equal(one.action, other.action) and torch.equal(one.memory[0], other.memory[0])
    assert not torch.equal(one.action, act(plan, obs, stale, False).action)
    assert (one.memory[0][:, :, -1] == 0.0).all() and (one.memory[0][:, :, 0] > 0.3).all()
    again = plan.improve(torch.zeros(2, 4, 1, 2, 1, dtype=torch.float64), obs, plan.points)[0]
    assert torch.equal(one.memory[0][:, :, :-1], again[:, 1:].squeeze(2).transpose(1, 2))


def test_noise_is_uniform_whatever_the_correlation() -> None:
    """And categories come as often as their probabilities say."""
    spec = Spec(Box((1,), (-1.0,), (1.0,)), Discrete(3), 1, (1,), 100, dtype="float64")
    plans = CategoricalPlans(spec, Discrete(3), 0.5)
    probabilities = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64).view(1, 1, 1, 1, 3)
    noise = Stream((3,), "test").normal(1, 20_000, 1, 1)
    share = plans.fit(plans.draw((probabilities,), noise), torch.full((1, 1, 20_000, 1, 1), 1 / 20_000))[0]
    torch.testing.assert_close(share, probabilities, atol=0.01, rtol=0.0)
    mixed = plans.around(probabilities)[0].flatten()
    torch.testing.assert_close(mixed, probabilities.flatten() / 2 + 1 / 6)
    algo = planner("random_shooting", Line(lambda x: x), correlation=0.9, n_candidates=5000)
    noise = torch.einsum("gh,rihknc->rigknc", algo.factor, torch.special.ndtri(algo.points))
    steps = noise[0, 0, :, :, 0, 0]
    torch.testing.assert_close(
        torch.corrcoef(steps)[0], 0.9 ** torch.arange(4.0).double(), atol=0.03, rtol=0.0
    )
    low_high = torch.special.ndtr(steps).mean(1), torch.special.ndtr(steps).std(1)
    torch.testing.assert_close(low_high[0], torch.full_like(low_high[0], 0.5), atol=0.02, rtol=0.0)
    torch.testing.assert_close(low_high[1], torch.full_like(low_high[1], 12**-0.5), atol=0.02, rtol=0.0)


def test_normal_plans_fit_their_candidates() -> None:
    plans = NormalPlans(
        Spec(Box((1,), (0.0,), (1.0,)), Box((1,), (0.0,), (4.0,)), 1, (1,), 1), Box((1,), (0.0,), (4.0,)), 0.5
    )
    candidates = torch.tensor([-1.0, 0.0, 1.0]).view(1, 1, 3, 1, 1)
    mean, deviation = plans.fit(candidates, torch.tensor([0.5, 0.0, 0.5]).view(1, 1, 3, 1, 1))
    assert (mean.item(), deviation.item()) == (0.0, 1.0)
    assert plans.actions(candidates).flatten().tolist() == [0.0, 2.0, 4.0]
    assert plans.encode(plans.actions(candidates)).flatten().tolist() == [-1.0, 0.0, 1.0]


def learned(**own: Any) -> tuple[Trial, Ensemble]:
    config = small("cem_learned", replicas=2, dtype="float64")
    ensemble = replace(config.algo.ensemble, **own)
    trial = Trial.of(replace(config, algo=replace(config.algo, ensemble=ensemble)))
    assert isinstance(trial.algo, MPC) and isinstance(trial.algo.dynamics, Ensemble)
    return trial, trial.algo.dynamics


def test_members_differ_in_weights_and_in_what_they_are_shown() -> None:
    _, ensemble = learned(members=3)
    weights = ensemble.net.head.layers[0].weight.detach()  # [R * E, in, out]
    assert len(weights) == 6 and len({w.sum().item() for w in weights}) == 6
    numbers = torch.arange(2 * 3 * 16.0).view(2, 48)
    assert torch.equal(ensemble.deal(numbers).view(2, 48), numbers)
    assert ensemble.deal(numbers).shape == (6, 16)


def test_an_ensemble_learns_laws_rewards_and_ends() -> None:
    """Moves that a wall stops, rewards and ends are predicted on fresh steps."""
    _, ensemble = learned(members=2, learning_rate=3e-3, batch_size=64, gradient_steps=400)
    rng = Stream((5, 6), "test")
    rollout = _random_steps(rng, 400)
    assert "loss/dynamics" in ensemble.learn(rollout, 1)
    fresh = _random_steps(rng, 100)
    with torch.no_grad():
        obs, reward, over = ensemble(
            *(x.unsqueeze(1).expand(-1, 2, *x.shape[1:]) for x in (fresh.obs, fresh.action))
        )
    assert obs.shape == (2, 2, 100, 1, 3) and reward.shape == (2, 2, 100, 1)
    assert (obs.mean(1) - fresh.next_obs).abs().mean() < 0.06
    assert (reward.mean(1) - fresh.reward).abs().mean() < 0.18
    assert (over == fresh.terminated.unsqueeze(1)).double().mean() > 0.95


def _random_steps(rng: Stream, steps: int) -> Rollout:
    obs = 2.0 * rng.uniform(steps, 1, 3) - 1.0
    action = 4.0 * rng.uniform(steps, 1, 1) - 2.0
    after = (obs + 0.25 * action).clamp(-1.0, 1.0)
    over = after[..., 0] >= 0.5
    no = torch.zeros_like(over)
    return Rollout(obs, action, 3.0 * after[..., 0], over, no, after, no, ~no)


def test_random_actions_come_first() -> None:
    """Before learning_starts actions are uniform in the bounds; from then on they are planned."""
    trial, _ = learned(learning_starts=200)
    assert isinstance(trial.collector, Collector)
    actions = trial.collector.collect(trial.algo, 200, np.zeros(2, np.int64)).action / 2.0  # in [-1, 1]
    assert actions.mean().abs() < 0.15 and (actions.std() - 3**-0.5).abs() < 0.06


def test_load_plans_without_the_run(tmp_path: Path) -> None:
    """A loaded policy has the laws again, and acts as the trained one."""
    for name in ("cem", "cem_learned"):
        config = small(name)
        result = execute(replace(config, total_steps=60), folder=tmp_path / name)
        policy = result.policy()
        obs = np.array([1.0, 0.0, 0.5], np.float32)
        action, memory = policy.act(obs)
        assert action.shape == (1,) and abs(action[0]) <= 2.0 and len(memory) == 1
        assert np.array_equal(policy.act(obs)[0], action)
        assert not np.array_equal(policy.act(-obs, memory)[0], action)


def test_the_grid_is_the_optimum_and_planners_come_near() -> None:
    """A coarse grid plays within a few of a fine one's -136; CEM and MPPI get within 20 of it."""
    import pendulum_grid as grid

    grid.ANGLES, grid.SPEEDS, grid.TORQUES = 180, 161, 11
    grid.values.cache_clear()
    best = grid.solved(grid.starts(2, 20)).mean()
    grid.values.cache_clear()
    assert -141.0 < best < -135.0
    for name in ("cem", "mppi"):
        config = compose([f"algo={name}", "seed=2", "eval.episodes=20"])
        trial = Trial.of(config)
        score = trial.task.evaluation.final(trial.algo, trial.clock.step, {}).results[0]["eval_return"]
        assert best - 20.0 <= score <= best + 5.0, (name, score, best)
