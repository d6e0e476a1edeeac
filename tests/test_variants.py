"""Replicas whose numbers differ: each is the lone run of its numbers, and each number counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from support import ALGORITHMS, Trial, builder, small, value_at

from rlrun.config.keys import violations
from rlrun.config.run import RunConfig
from rlrun.parts.distributions import action_head
from rlrun.parts.numbers import vary, varying
from rlrun.runs.task import Task, build
from rlrun.state import select
from rlrun.trainer import Clock

NEAR, FAR = (0.9, 0.8, 0.7, 1.1, 1.2, 1.3), (0.01, 5.0)  # factors


def others(config: RunConfig, key: str, count: int, factors: tuple[float, ...]) -> list[Any]:
    """So many other values of a key, within its bounds."""
    own = value_at(config, key)
    if isinstance(own, int):
        return [own + k for k in range(1, count + 1)]
    near = [own * f for f in factors] if own else [0.5, 0.6, 0.7, 1.5, 1.6, 1.7]
    if factors == FAR and own < 0.05:  # a rare act made rarer still leaves no trace in so few updates
        near.reverse()
    return [v for v in near if not violations(vary(config.algo, [{key: v}]))][:count]


def marked(config: RunConfig, count: int, factors: tuple[float, ...] = NEAR) -> dict[str, list[Any]]:
    """Other values of every key that may differ and that the rest of the config leaves free."""
    found = {key: others(config, key, count, factors) for key in varying(config.algo)}
    return {key: values for key, values in found.items() if len(values) == count}


def program(config: RunConfig, variants: list[dict[str, Any]], seeds: tuple[int, ...] = ()) -> Trial:
    """A trial whose replicas have these numbers."""
    task = Task.of(config)
    spec = replace(task.spec(), variants=tuple(variants))
    collector = task.collector()
    if seeds:
        spec = replace(spec, seeds=seeds)
        collector = type(collector)(
            task.env, task.obs, task.action, seeds, config.num_envs, dtype=config.dtype,
            metrics=collector.stats.metrics,
        )  # fmt: skip
    return Trial(task, build(config, spec), collector, Clock(len(spec.seeds), config.total_steps))


def lone(config: RunConfig, numbers: Mapping[str, Any], seed: int) -> Trial:
    return Trial.of(replace(config, algo=vary(config.algo, [numbers]), seed=seed, replicas=1))


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_replicas_of_differing_numbers_are_lone_runs(algo: str) -> None:
    """All keys that may differ do, in three replicas; the middle one is its lone run after 200 updates."""
    steps = 20_000 if builder(algo).whole_episodes else 4_000
    config = small(algo, dtype="float64", seed=11, replicas=3, total_steps=steps)
    values = marked(config, 3)
    assert values and len(list(varying(config.algo))) - len(values) <= 1
    variants = [{key: three[r] for key, three in values.items()} for r in range(3)]
    batch, alone = program(config, variants), lone(config, variants[1], 12)
    batch.train(200)
    alone.train(200)
    # An env whose episode has ended steps on while others' go on: where it is then is of no account.
    whole = builder(algo).whole_episodes
    own, expected = select(batch.state(), 1), alone.state()
    assert own.keys() == expected.keys()
    for name, leaf in own.items():
        if whole and name.startswith("collector/"):
            continue
        torch.testing.assert_close(
            leaf,
            expected[name],
            rtol=1e-6,
            atol=1e-6,
            equal_nan=True,
            msg=lambda m, name=name: f"{name}: {m}",
        )
    assert batch.clock.step[1] == alone.clock.step[0]


# What a recipe makes no use of, or does not come to in so few updates.
PRIORITY = {"algo.priority.alpha", "algo.priority.beta", "algo.priority.eta"}
DISCRETE, CONSTANT = {"algo.log_std"}, {"algo.epsilon.end", "algo.epsilon.fraction"}
TEMPERATURE = {"algo.continuous.temperature", "algo.continuous.temperature_learning_rate"}
INERT: dict[str, set[str]] = {
    "dqn": PRIORITY, "mini_rainbow": set(), "lstm_dqn": PRIORITY, "ppo": DISCRETE, "lstm_ppo": DISCRETE,
    "a2c": DISCRETE | {"algo.clip_range"}, "reinforce": DISCRETE, "sac": set(), "td3": set(), "bc": set(),
    "gail": set(), "cql": TEMPERATURE | {"algo.continuous.actor_learning_rate"}, "cql_continuous": set(),
    "mppi": {"algo.ensemble.learning_rate"}, "cem_learned": set(), "q_learning": CONSTANT,
    "n_step_sarsa": CONSTANT, "dyna_q_plus": CONSTANT, "value_iteration": {"algo.theta"},
    "policy_iteration": {"algo.theta"},
    "epsilon_greedy": set(), "ucb": set(), "softmax": set(), "gradient_bandit": set(),
    "thompson_gaussian": set(),
}  # fmt: skip


@pytest.mark.parametrize("algo", INERT)
def test_every_number_counts(algo: str) -> None:
    """Replicas of one seed that differ in a single key each: none ends as the first does."""
    config = small(algo, total_steps=700)
    values = {key: value for key, (value,) in marked(config, 1, FAR).items()}
    variants = [{}, *({key: value} for key, value in values.items())]
    config = replace(config, replicas=len(variants))
    trial = program(config, variants, seeds=(7,) * len(variants))
    trial.train(80)
    leaves = [leaf.numpy() for leaf in trial.state().values()]
    same = {
        key
        for r, key in enumerate(values, 1)
        if all(np.array_equal(leaf[0], leaf[r], equal_nan=leaf.dtype.kind == "f") for leaf in leaves)
    }
    assert same == INERT[algo]


def test_gaussian_policies_begin_with_deviations_of_their_own() -> None:
    spec = replace(Task.of(small("sac", replicas=2)).spec(), dtype="float64")
    head = action_head(spec, np.array([-1.0, 0.5]))
    assert head.parameters["log_std"].flatten(1).unique(dim=1).tolist() == [[-1.0], [0.5]]


def test_what_may_not_differ_is_named() -> None:
    config = small("dqn")
    with pytest.raises(
        ValueError, match=r"algo\.batch_size cannot differ between replicas; algo\.adam_eps, "
    ):
        vary(config.algo, [{"algo.batch_size": 4}, {}])
    with pytest.raises(
        ValueError, match=r"algo\.max_grad_norm cannot differ"
    ):  # of what is null there is no array
        vary(replace(config.algo, max_grad_norm=None), [{"algo.max_grad_norm": 4.0}, {}])


def test_a_number_that_all_share_stays_a_number() -> None:
    """So that an ordinary run pays nothing for it."""
    config = small("dqn").algo
    varied = vary(config, [{"algo.gamma": 0.9, "algo.epsilon.end": 0.1}, {"algo.gamma": 0.9}])
    assert varied.gamma == 0.9 and isinstance(varied.gamma, float)
    assert varied.epsilon.end.tolist() == [0.1, config.epsilon.end]
    assert [f.name for f in fields(varied) if isinstance(getattr(varied, f.name), np.ndarray)] == []
