"""Action masks: what is forbidden is never done, and counts in no target."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from masked_corridor import OPTIMUM
from support import QUIET, Trial, small

import rlrun
from rlrun.config import ConfigError
from rlrun.config.compose import compose
from rlrun.core import Spec, TransitionTable
from rlrun.data.steps import load as load_steps
from rlrun.parts.distributions import Categorical, MultiCategorical
from rlrun.parts.explore import epsilon_greedy
from rlrun.parts.masks import allowed, nth
from rlrun.registry import entry_of
from rlrun.rng import Stream
from rlrun.runs.load import load
from rlrun.runs.record import record
from rlrun.runs.task import Task
from rlrun.spaces import Discrete
from rlrun.state import select
from rlrun.testing import algorithm_checks, check_env
from rlrun.testing.trial import assert_close

CORRIDOR = ("env=gym", "env.id=MaskedCorridor-v0", "imports=[masked_corridor]")
SILENT = tuple(f"{key}={value}" for key, value in QUIET.items() if "eval" not in key)
# Enough for the optimum with every seed that was tried, and no more.
LEARNERS: dict[str, tuple[str, ...]] = {
    "dqn": ("total_steps=3000", "algo.learning_starts=200", "algo.reward_scale=1"),
    "ppo": ("total_steps=12000",),
    "lstm_ppo": ("total_steps=16000",),
    "sarsa": ("total_steps=4000", "env.kwargs={obs: discrete}"),
}


def learn(algo: str, folder: Path, *more: str) -> Any:
    overrides = [f"algo={algo}", *CORRIDOR, "replicas=3", "eval.episodes=5", *LEARNERS.get(algo, ())]
    return rlrun.run([*overrides, *SILENT, f"out={folder}", *more], quiet=True)


@pytest.mark.parametrize("algo", LEARNERS)
def test_the_optimum_is_reached_where_half_of_the_actions_are_allowed(algo: str, tmp_path: Path) -> None:
    scores = [row["eval_return"] for row in learn(algo, tmp_path).summary["replicas"]]
    assert scores == pytest.approx([OPTIMUM] * 3)


def test_offline_from_random_steps(tmp_path: Path) -> None:
    """The data hold the masks; without them CQL is refused."""
    run = learn("dqn", tmp_path, "total_steps=500").folder
    record(run, 40, tmp_path / "steps", mode="random")
    data = load_steps(tmp_path / "steps")
    assert data.mask is not None and data.mask[np.arange(len(data.action)), data.action].all()
    assert data.mask.sum(1).tolist() == [2] * len(data.mask)
    where = (
        "data=file",
        f"data.path={tmp_path / 'steps'}",
        "total_steps=1500",
        "algo.alpha=0.1",
        "algo.reward_scale=1",
    )
    scores = [row["eval_return"] for row in learn("cql", tmp_path, *where).summary["replicas"]]
    assert scores == pytest.approx([OPTIMUM] * 3)
    without = record(
        learn("dqn", tmp_path, "total_steps=500", "env.kwargs={says: no}").folder, 2, tmp_path / "no"
    )
    assert without["episodes"] == 2
    with pytest.raises(ConfigError, match="no action masks of 4 columns"):
        learn("cql", tmp_path, "data=file", f"data.path={tmp_path / 'no'}")


def test_a_policy_asks_for_the_mask_and_keeps_to_it(tmp_path: Path) -> None:
    policy = load(learn("ppo", tmp_path, "total_steps=512").folder, mode="sample")
    obs, mask = np.eye(7, dtype=np.float32)[:4], np.eye(4, dtype=bool)
    assert policy.act(obs, mask=mask)[0].tolist() == [0, 1, 2, 3]
    assert policy.act(obs[0], mask=[0, 0, 1, 0])[0] == 2
    for wrong, said in ((None, "give mask="), ([1, 1], "4 truths"), (np.zeros((4, 4)), "allows nothing")):
        with pytest.raises(ValueError, match=said):
            policy.act(obs, mask=wrong)


@pytest.mark.parametrize("algo", ["dqn", "lstm_dqn", "ppo", "lstm_ppo", "dyna_q_plus"])
def test_the_contract_holds_with_masks(algo: str) -> None:
    """Replicas are lone runs, and an interrupted run goes on to the same bits."""
    obs = ("env.kwargs={obs: discrete}",) if algo == "dyna_q_plus" else ()
    checks = algorithm_checks(algo, *CORRIDOR, *obs)
    checks["resume_is_uninterrupted"]()
    config = small(algo, *CORRIDOR, *obs, dtype="float64", seed=11, replicas=3)
    batch, lone = Trial.of(config), Trial.of(replace(config, seed=12, replicas=1))
    for trial in (batch, lone):
        trial.train(60)
    assert_close(select(batch.algo.state(), 1), lone.algo.state())


@pytest.mark.parametrize("says", ["method", "info", "parts"])
def test_either_way_of_saying_what_is_allowed(says: str) -> None:
    """`info["action_mask"]` and `action_masks()` train to the same bits; a tuple is one part an integer."""
    multi = str(says == "parts").lower()
    config = compose(["algo=ppo", *CORRIDOR, f"env.kwargs={{says: {says}, multi: {multi}}}", "num_envs=2"])
    trial = Trial.of(config)
    assert trial.task.masks
    trial.train(2)
    if says != "parts":
        other = Trial.of(compose(["algo=ppo", *CORRIDOR, "num_envs=2"]))
        other.train(2)
        assert all(torch.equal(leaf, other.state()[name]) for name, leaf in trial.state().items())


@pytest.mark.parametrize(
    ("says", "words"),
    [
        ("too long", "action mask is float64 [7]: it must be 4 truths"),
        ("not always", "info has no action_mask, which that of its first reset had"),
        ("nothing is allowed", "its action mask allows nothing\nin a trial"),
    ],
)
def test_a_wrong_mask_is_named(says: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(Exception) as found:
        learn("ppo", tmp_path, f"env.kwargs={{says: {says}}}")
    assert words in str(found.value)


@pytest.mark.parametrize("says", ["info", "method", "parts"])
def test_an_env_with_masks_is_checked_by_actions_that_it_allows(says: str) -> None:
    """check_env plays at random, and a forbidden action raises here."""
    multi = str(says == "parts").lower()
    check_env("MaskedCorridor-v0", f"env.kwargs={{says: {says}, multi: {multi}}}")


def test_an_algorithm_may_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose(["algo=dqn", "env=gym", "env.id=Taxi-v4"])
    assert Task.of(config).masks
    monkeypatch.setattr(entry_of(config.algo).build, "takes_masks", False)
    assert not Task.of(config).masks


def hand() -> tuple[torch.Tensor, torch.Tensor]:
    logits = torch.tensor([[[1.0, 2.0, 3.0]], [[0.0, 5.0, 0.0]]])
    return logits, torch.tensor([[[True, False, True]], [[True, False, False]]])


def test_a_masked_softmax() -> None:
    """Probabilities, entropy and gradients are those of a softmax over what is allowed, alone."""
    logits, mask = hand()
    logits.requires_grad_()
    policy = Categorical(logits, mask)
    alone = Categorical(logits[:1, :, [0, 2]])
    assert policy.log_probs[0, 0, [0, 2]].tolist() == alone.log_probs[0, 0].tolist()
    assert policy.entropy()[0].item() == pytest.approx(alone.entropy().item())
    assert policy.entropy()[1].item() == 0.0
    (policy.entropy().sum() + policy.log_prob(torch.tensor([[2], [0]])).sum()).backward()
    assert logits.grad is not None and logits.grad.isfinite().all() and not logits.grad[~mask].any()
    draws = Categorical(logits[:, [0] * 500], mask[:, [0] * 500]).sample(Stream((1, 2), "a"))
    assert set(draws[0].tolist()) == {0, 2} and set(draws[1].tolist()) == {0}


def test_a_masked_vector_of_integers() -> None:
    mask = torch.tensor([[[False, True, True, False, False]]])
    policy = MultiCategorical(torch.zeros(1, 1, 5), (2, 3), mask)
    assert policy.mode().tolist() == [[[1, 0]]] and policy.entropy().item() == 0.0


def test_random_actions_are_uniform_over_what_is_allowed() -> None:
    mask = torch.tensor([True, False, True, True]).expand(1, 6000, 4)
    greedy = torch.zeros(1, 6000, dtype=torch.int64)
    taken = epsilon_greedy(greedy, 4, np.array([1.0]), Stream((1,), "a"), mask)
    counts = torch.bincount(taken.flatten(), minlength=4).tolist()
    assert counts[1] == 0 and min(counts[0], *counts[2:]) > 1850
    assert nth(np.array([[False, True, False, True]] * 2), np.array([0, 1])).tolist() == [1, 3]


def test_a_soft_maximum_over_what_is_allowed() -> None:
    q, mask = hand()
    soft = allowed(q, mask).logsumexp(-1)
    assert soft.flatten().tolist() == pytest.approx([np.log(np.exp(1) + np.exp(3)), 0.0], rel=1e-6)


def built(algo: str, spec: Spec, *overrides: str) -> Any:
    config = compose([f"algo={algo}", *overrides])
    return entry_of(config.algo).build(spec, config.algo, config.model)


@pytest.mark.parametrize("algo", ["value_iteration", "policy_iteration"])
def test_dynamic_programming_with_a_table_of_what_is_allowed(algo: str) -> None:
    """State 0 leads to state 1, where the better action is forbidden, and state 1 to the end."""
    probability = np.zeros((3, 2, 3))
    probability[0, :, 1] = probability[1, :, 2] = probability[2, :, 2] = 1.0
    reward = np.array([[0.0, 0.0], [1.0, 5.0], [0.0, 0.0]])
    legal = np.array([[True, True], [True, False], [True, True]])
    table = TransitionTable(probability, reward, np.array([False, False, True]), legal=legal)
    learner = built(algo, Spec(Discrete(3), Discrete(2), 1, (1,), 100, table=table), "algo.gamma=0.5")
    for _ in range(10):
        learner.update(None, step=np.zeros(1, np.int64))
    assert learner.v.tolist() == [[0.5, 1.0, 0.0]]


@pytest.mark.parametrize("algo", ["mppi", "random_shooting", "cem"])
def test_a_plan_begins_with_what_is_allowed(algo: str) -> None:
    trial = Trial.of(compose([f"algo={algo}", "env=cartpole", "num_envs=3"]))
    obs, first = torch.zeros(1, 3, 4), torch.ones(1, 3, dtype=torch.bool)
    mask = torch.tensor([[[True, False], [False, True], [True, True]]])
    step = np.zeros(1, np.int64)
    modes: tuple[Any, ...] = ("greedy", "sample", "explore")
    for mode in modes:
        act = trial.algo.act(
            obs, trial.algo.initial_memory(3), first, step=step, mode=mode, rng=Stream((1,), "a"), mask=mask
        )  # type: ignore[call-arg]
        assert act.action[0, :2].tolist() == [0, 1]


def test_a_mask_is_of_the_shape_that_is_asked_for(tmp_path: Path) -> None:
    """As many truths in another order would be other actions' truths."""
    policy = load(learn("ppo", tmp_path, "total_steps=512").folder)
    obs = np.eye(7, dtype=np.float32)[:2]
    for shape in ((4, 2), (8,), (2, 2, 2)):
        with pytest.raises(ValueError, match="it must be 2 times 4 truths"):
            policy.act(obs, mask=np.ones(shape))
