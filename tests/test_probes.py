"""Values known in closed form: the right number for right code, another for each classic bug.

Every probe runs for every algorithm that can have the bug, with tiny networks and high
learning rates, and gamma = 1/2, so that values are quick to learn and far from one another.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from probes import PROBES, ProbeEnv, build, chosen, probe
from support import Trial, builder, known

from rlrun.config.compose import compose
from rlrun.config.run import RunConfig
from rlrun.envs.abilities import abilities
from rlrun.evals.play import run_episodes
from rlrun.parts.masks import allowed
from rlrun.runs.load import load
from rlrun.runs.run import execute

GAMMA = 0.5
SETTINGS: dict[str, Any] = {
    "model.hidden": "[16]",
    "model.encoder": "[]",
    "model.hidden_size": 16,
    "model.head": "[]",
    "model.normalize_obs": "false",
    "model.activation": "tanh",
    "algo.gamma": GAMMA,
    "algo.lr_schedule": "linear",
    "algo.reward_scale": 1.0,
    "algo.normalize_returns": "false",
    "algo.buffer_size": 2000,
    "algo.batch_size": 32,
    "algo.learning_starts": 100,
    "algo.train_every": 8,
    "algo.n_step": 1,
    "algo.sequence_length": 4,
    "algo.burn_in": 0,
    "algo.target.tau": 0.1,
    "algo.epsilon.kind": "constant",
    "algo.epsilon.start": 0.3,
    "algo.epsilon.end": 0.3,
    "algo.learning_rate": 0.01,
    "algo.actor_learning_rate": 0.01,
    "algo.critic_learning_rate": 0.01,
    "algo.alpha_learning_rate": 0,
    "algo.alpha": 0.02,
    "algo.max_grad_norm": 10,
    "algo.epochs": 8,
    "algo.n_minibatches": 2,
    "algo.rollout_steps": 16,
    "algo.chunk_length": 4,
    "algo.baseline": "value",
    "total_steps": 4000,
    "num_envs": 8,
    "log.tensorboard": "false",
}
ONE_STEP = {
    "algo.chunk_length": None,
    "algo.epochs": 1,
    "algo.n_minibatches": 1,
    "algo.learning_rate": 0.03,
    "total_steps": 6000,
}
TABULAR = (
    "sarsa",
    "expected_sarsa",
    "q_learning",
    "double_q_learning",
    "n_step_sarsa",
    "dyna_q",
    "dyna_q_plus",
)
OWN: dict[str, dict[str, Any]] = {
    "ppo": {"algo.chunk_length": None},
    "a2c": ONE_STEP | {"algo.rollout_steps": 2, "total_steps": 12_000},
    "lstm_a2c": ONE_STEP | {"algo.rollout_steps": 2},
    "actor_critic": ONE_STEP | {"algo.rollout_steps": 1},
    **{algo: {"algo.learning_rate": 0.1, "num_envs": 4, "algo.planning_steps": 2} for algo in TABULAR},
    "dyna_q_plus": {"algo.learning_rate": 0.1, "num_envs": 4, "algo.planning_steps": 2, "algo.kappa": 1e-4},
    "reinforce": {"total_steps": 8000},
}
ACTOR_CRITICS = ("ppo", "lstm_ppo", "a2c", "lstm_a2c", "actor_critic")
VALUES = ("dqn", "mini_rainbow", "lstm_dqn", *ACTOR_CRITICS, *TABULAR)  # bootstrap, and say what they think
CRITICS = ("sac", "td3")  # of actions; DDPG is TD3 with less
POLICIES = (*VALUES, "reinforce", "lstm_reinforce", *CRITICS)


@cache
def _recipe(algo: str) -> RunConfig:
    home = [f"algo={algo}", "env=pendulum" if "box" in builder(algo).action_kinds[:1] else "env=cartpole"]
    home = [f"algo={algo}"] if algo in TABULAR else home
    wanted = SETTINGS | OWN.get(algo, {})
    return compose([*home, *known(compose(home), wanted)])


def config(
    algo: str, name: str, autoreset: str = "native", action: str | None = None, **main: Any
) -> RunConfig:
    """A recipe's config on a probe; `main` replaces main keys, or keys of the algorithm."""
    if name == "successor" and algo.startswith("lstm"):
        name = "successor_4"
    base = _recipe(algo)
    own = {key: main.pop(key) for key in list(main) if hasattr(base.algo, key)}
    kinds = builder(algo)
    env = probe(
        name,
        indices="box" not in kinds.obs_kinds,
        action=kinds.action_kinds[0] if action is None else action,
        autoreset=autoreset,
    )
    return replace(base, env=env, algo=replace(base.algo, **own), **main)


def trained(run: RunConfig) -> Trial:
    trial = Trial.of(run)
    trial.train(10**9)
    return trial


def visits(trial: Trial) -> dict[int, tuple[float, int]]:
    """What a greedy walk thinks of each state, and does there: {state: (value, action)}.

    Memory is carried along, so that a recurrent network sees what it saw in training.
    """
    config = trial.task.config
    table = PROBES[config.env.name]
    env = build(replace(config.env, autoreset="native"), len(table.starts))
    algo, seen = trial.algo, {}
    states = np.array(table.starts)
    env.reset(seed=0)
    env._state[:] = states  # type: ignore[attr-defined]
    obs = env._observe()  # type: ignore[attr-defined]
    memory, first = algo.initial_memory(len(states)), torch.ones(1, len(states), dtype=torch.bool)
    for _ in range(6):
        tensor = torch.from_numpy(np.asarray(obs))[None]
        masks = abilities(env).masks
        mask = torch.from_numpy(masks() | (states < 0)[:, None])[None] if masks else None
        how: dict[str, Any] = {} if mask is None else {"mask": mask}
        with torch.no_grad():
            act = algo.act(tensor, memory, first, step=trial.clock.step, mode="greedy", rng=None, **how)  # type: ignore[arg-type]
            if hasattr(algo, "q"):
                value = allowed(algo.q(tensor, memory, first), mask)[0].max(-1).values
            elif hasattr(algo, "value"):
                value = algo.value(tensor, memory, first)[0]
            else:
                value = torch.full((len(states),), torch.nan)
        action = act.action[0].numpy()
        which = chosen(action)
        for i, state in enumerate(states):
            if state >= 0 and int(state) not in seen:
                seen[int(state)] = (float(value[i]), int(which[i]))
        obs = env.step(action)[0]
        states = env._state.copy()  # type: ignore[attr-defined]
        memory, first = act.memory, torch.zeros_like(first)
    return seen


def assert_values(trial: Trial, expected: Mapping[int, float], within: float = 0.12) -> None:
    found = {state: value for state, (value, _) in visits(trial).items()}
    for state, value in expected.items():
        assert abs(found[state] - value) < within, f"state {state} is worth {value}, learned {found}"


EXPECTED = {
    "constant": {0: 1.0},
    "obs": {0: -1.0, 1: 1.0},
    "two_step": {0: GAMMA, 1: 1.0},
    "truncation": {0: 1 / (1 - GAMMA)},
    "successor": {0: GAMMA**2 / (1 - GAMMA), 1: GAMMA / (1 - GAMMA), 2: 1 / (1 - GAMMA)},
    "masked": {0: -GAMMA, 1: -1.0},
    "corridor": {state: GAMMA ** (5 - state) for state in range(6)},
}


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("algo", VALUES)
def test_values(algo: str, name: str) -> None:
    assert_values(trained(config(algo, name)), EXPECTED[name])


LEARNS_IN_UNITS_OF_ITS_OWN = [
    *(
        (algo, "reward_scale", scale, times)
        for algo in ("dqn", "mini_rainbow", "lstm_dqn")
        for scale, times in ((0.1, 1.0), (3.0, 1.0), (0.05, 20.0))
    ),
    *((algo, "normalize_returns", True, times) for algo in ACTOR_CRITICS for times in (1.0, 20.0)),
]


@pytest.mark.parametrize(("algo", "name", "value", "times"), LEARNS_IN_UNITS_OF_ITS_OWN)
def test_values_are_in_units_of_the_tasks_rewards(
    algo: str, name: str, value: Any, times: float, tmp_path: Path
) -> None:
    """Whatever learning scales them by: `policy.q`, `policy.value`, train/q and loss/value."""
    run = config(algo, "truncation", **{name: value})
    run = replace(run, env=replace(run.env, reward=replace(run.env.reward, scale=times)), out=str(tmp_path))
    assert execute(run, folder=tmp_path / "run").exit_code == 0
    policy, expected = load(tmp_path / "run"), times * EXPECTED["truncation"][0]
    obs = np.ones(1, np.float32)
    if policy.has("q"):
        assert policy.q(obs).max() == pytest.approx(expected, rel=0.05)
    else:
        assert policy.value(obs) == pytest.approx(expected, rel=0.05)
    tag, wanted = ("train/q", expected) if policy.has("q") else ("loss/value", 0.0)
    lines = (json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    (last,) = [line for line in lines if tag in line][-1:]
    assert last[tag] == pytest.approx(wanted, rel=0.05, abs=0.01 * times**2)


@pytest.mark.parametrize(
    "algo", ["dqn", "mini_rainbow", "lstm_dqn", "n_step_sarsa", "expected_sarsa", "q_learning"]
)
@pytest.mark.parametrize("name", ["corridor", "successor", "truncation"])
def test_values_with_several_steps_a_target(algo: str, name: str) -> None:
    """Windows stop at an episode's end, bootstrap from its true successor, discount by gamma^n."""
    assert_values(trained(config(algo, name, n_step=3)), EXPECTED[name])


@pytest.mark.parametrize("algo", ["ppo", "lstm_ppo"])
@pytest.mark.parametrize("gae_lambda", [0.0, 1.0])
def test_values_at_either_end_of_lambda(algo: str, gae_lambda: float) -> None:
    assert_values(trained(config(algo, "successor", gae_lambda=gae_lambda)), EXPECTED["successor"])


@pytest.mark.parametrize("algo", VALUES)
def test_values_of_one_env_are_those_of_several(algo: str) -> None:
    own: dict[str, Any] = {"learning_rate": 0.02} if algo in TABULAR else {}
    own |= {"total_steps": 2000} if algo in ACTOR_CRITICS else {}
    assert_values(trained(config(algo, "successor", num_envs=1, **own)), EXPECTED["successor"], 0.2)


@pytest.mark.parametrize("mode", ["NEXT_STEP", "SAME_STEP", "DISABLED"])
@pytest.mark.parametrize("algo", ["dqn", "lstm_dqn", "ppo", "lstm_ppo", "actor_critic"])
def test_values_do_not_depend_on_the_autoreset_mode(algo: str, mode: str) -> None:
    """And what the clock counts are real steps: filler steps are neither learned from nor counted."""
    ProbeEnv.steps = 0
    trial = trained(config(algo, "successor", autoreset=mode))
    assert int(trial.clock.step[0]) == ProbeEnv.steps
    assert_values(trial, EXPECTED["successor"], 0.2)


@pytest.mark.parametrize("algo", POLICIES)
def test_the_action_matters(algo: str) -> None:
    trial = trained(config(algo, "action"))
    assert visits(trial)[0][1] == 1
    if algo in VALUES:
        assert_values(trial, {0: 1.0})


@pytest.mark.parametrize("algo", POLICIES)
def test_the_right_action_depends_on_the_observation(algo: str) -> None:
    seen = visits(trained(config(algo, "obs_action")))
    assert (seen[0][1], seen[1][1]) == (0, 1)


@pytest.mark.parametrize("action", ["box", "multi_discrete"])
@pytest.mark.parametrize("algo", ["ppo", "lstm_a2c", "reinforce"])
def test_other_actions_depend_on_the_observation_too(algo: str, action: str) -> None:
    """A number in asymmetric bounds, and two integers that must both be right."""
    seen = visits(trained(config(algo, "obs_action", action=action)))
    assert (seen[0][1], seen[1][1]) == (0, 1)


def test_both_action_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bad action's value too, which acting never shows."""
    for algo in ("dqn", "lstm_dqn", *TABULAR):
        trial = trained(config(algo, "action"))
        obs = torch.ones(1, 1, 1) if algo not in TABULAR else torch.zeros(1, 1, dtype=torch.int64)
        with torch.no_grad():
            q = trial.algo.q(obs, trial.algo.initial_memory(1), torch.ones(1, 1, dtype=torch.bool))  # type: ignore[attr-defined]
        assert torch.allclose(
            q.flatten().double(), torch.tensor([-1.0, 1.0], dtype=torch.float64), atol=0.1
        ), algo


@pytest.mark.parametrize(
    ("algo", "name"),
    [
        *((algo, name) for algo in CRITICS for name in ("truncation", "successor", "corridor")),
        ("lstm_sac", "truncation"),
        ("lstm_td3", "successor"),
    ],
)
def test_critics_of_actions(algo: str, name: str) -> None:
    """What they make of the steps in replay; SAC's entropy is worth at most alpha log 2 a step here."""
    trial = trained(config(algo, name))
    learner: Any = trial.algo
    batch = learner.replay.sample(64, learner.length, learner.rng)
    learned = learner.learned(batch)
    with torch.no_grad():
        q = torch.stack([critic.out.squeeze(-1) for critic in learner.judge(batch, learned)])
    for state, value in EXPECTED[name].items():
        here = (learned.obs == torch.tensor(PROBES[name].obs[state])).all(-1)
        assert here.any() and abs(float(q[:, here].mean()) - value) < 0.15, (state, value)


def score(trial: Trial, episodes: int = 64) -> float:
    """Mean return of greedy episodes."""
    env = build(trial.task.config.env, 32)
    scores, _ = run_episodes(
        trial.algo, env, (1,), episodes, purpose="test", mode="greedy", step=trial.clock.step
    )
    return float(scores.returns.mean())


@pytest.mark.parametrize("algo", ["lstm_dqn", "lstm_ppo", "lstm_sac", "lstm_td3"])
def test_memory_wins_the_recall_task(algo: str) -> None:
    run = config(algo, "recall", total_steps=5_000 if algo.endswith(CRITICS) else 12_000)
    assert score(trained(replace(run, algo=replace(run.algo, gamma=0.9)))) > 0.8


@pytest.mark.parametrize("algo", ["dqn", "ppo", "sac", "td3"])
def test_without_memory_recall_is_chance(algo: str) -> None:
    assert abs(score(trained(config(algo, "recall")), 256)) < 0.25


@pytest.mark.parametrize("algo", ["lstm_dqn", "lstm_ppo", "lstm_a2c", "lstm_reinforce"])
def test_the_previous_episode_is_forgotten(algo: str) -> None:
    """Its last observation holds the answer; whoever gets more than chance carries memory over."""
    trial = trained(config(algo, "leak"))
    assert trial.collector is not None
    trial.collector.stats.take(np.ones(1, bool))
    for _ in range(40):
        trial.collector.collect(trial.algo, 16, trial.clock.step)
    earned = trial.collector.stats.take(np.ones(1, bool))["return"][0]
    assert abs(earned) < 0.2
