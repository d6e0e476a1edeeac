"""Judging: own seeds, own envs, the env's own returns, and no episode that knows of another."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from probes import build, probe
from support import ALGORITHMS, Trial, act_once, builder, episodes, small

from rlrun import envs
from rlrun.config.compose import compose
from rlrun.core import Act, Algorithm
from rlrun.envs import RewardConfig
from rlrun.evals.play import ActionValues, run_episodes
from rlrun.rng import Stream, child, keys
from rlrun.runs.load import restore
from rlrun.runs.run import execute


class Guess(Algorithm):
    """Remembers the first observation, and guesses at random in mode "sample"."""

    def __init__(self, replicas: int) -> None:
        self.replicas = replicas

    def initial_memory(self, num_envs: int) -> tuple[torch.Tensor, ...]:
        return (torch.zeros(self.replicas, num_envs),)

    def act(self, obs, memory, first, *, step, mode, rng) -> Act:  # type: ignore[no-untyped-def]
        cue = torch.where(first, obs[..., 0], memory[0])
        if mode == "sample":
            return Act((rng.uniform(obs.shape[1]) < 0.5).long(), (cue,))
        return Act((cue > 0).long(), (cue,))

    def update(self, rollout, *, step):  # type: ignore[no-untyped-def]
        return {}


def play(
    replicas: int, parallel: int, episodes: int = 9, *, name: str = "recall", mode: str = "greedy", **more
):  # type: ignore[no-untyped-def]
    env = build(probe(name, autoreset=more.pop("autoreset", "native")), replicas * parallel)
    seeds = more.pop("seeds", tuple(range(1, replicas + 1)))
    return run_episodes(
        Guess(replicas),
        env,
        seeds,
        episodes,
        purpose="eval",
        mode=mode,
        step=np.zeros(replicas, np.int64),
        **more,
    )[0]


@pytest.mark.parametrize("autoreset", ["native", "NEXT_STEP", "SAME_STEP", "DISABLED"])
def test_memory_wins_every_episode(autoreset: str) -> None:
    """Also in the second and third round: memory begins anew, and no filler step is counted."""
    scores = play(2, 4, autoreset=autoreset)
    assert scores.returns.shape == (2, 9)
    assert (scores.returns == 1).all() and (scores.lengths == 3).all()


class Weighing(Guess):
    """Its values of the two actions: what it sees, and what it remembered before it acted."""

    def q(self, obs, memory, first):  # type: ignore[no-untyped-def]
        return torch.stack([obs[..., 0], memory[0] + 10 * first], -1)


def test_action_values_are_those_by_which_it_acted() -> None:
    """With the memory before the step; of the episodes that are asked for alone."""
    env = build(probe("recall"), 4)
    played, _ = run_episodes(
        Weighing(1), env, (1,), 6, purpose="eval", mode="greedy", step=np.zeros(1, np.int64), looks=16
    )
    assert played.q is not None
    seen, remembered = played.q.reshape(6, 4, 2).transpose(2, 0, 1)  # two rounds of three steps, of four
    counted = np.isfinite(seen)
    assert counted[:3].all() and counted[3:, :2].all() and not counted[3:, 2:].any()
    begin = np.arange(6) % 3 == 0
    assert (remembered[begin][counted[begin]] == 10).all()
    assert (remembered[1:3] == seen[0]).all()  # the cue
    assert played.distributions("eval")["eval/q"] is played.q
    assert play(1, 4).distributions("eval") == {}


@pytest.mark.parametrize("steps, every", [(5, 1), (7, 1), (8, 2), (16, 4), (1000, 256)])
def test_a_long_evaluation_is_looked_at_from_one_end_to_the_other(steps: int, every: int) -> None:
    values = ActionValues(Weighing(1), 4)
    for t in range(steps):
        obs, first = torch.full((1, 1, 1), float(t)), torch.zeros(1, 1, dtype=torch.bool)
        values.look(obs, (torch.zeros(1, 1),), first, torch.tensor([[[True, False]]]))
        values.count(np.ones((1, 1), bool))
    kept = values.all()
    assert kept is not None and kept[0, ::2].tolist() == list(range(0, steps, every))
    assert np.isnan(kept[0, 1::2]).all()  # an action that is not allowed is worth nothing


def test_of_many_action_values_few_steps_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlrun.evals.play._MOST", 12)  # three steps of two sub-envs with two actions
    env = build(probe("recall"), 2)
    step = np.zeros(1, np.int64)
    played, _ = run_episodes(Weighing(1), env, (1,), 12, purpose="eval", mode="greedy", step=step, looks=16)
    assert played.q is not None and 4 <= played.q.shape[1] <= 12


def test_how_many_are_played_at_a_time_changes_nothing() -> None:
    """Neither does which episodes are played beside one another."""
    config = small("lstm_dqn", replicas=2)
    trial = Trial.of(config)
    trial.train(30)
    played = []
    for parallel in (1, 3, 6):
        env = envs.make(config.env, 2 * parallel)
        step = np.zeros(2, np.int64)
        played.append(run_episodes(trial.algo, env, (1, 2), 6, purpose="eval", mode="greedy", step=step)[0])
    for other in played[1:]:
        assert np.array_equal(played[0].returns, other.returns)
        assert np.array_equal(played[0].lengths, other.lengths)
    assert len(np.unique(played[0].lengths)) > 1


@pytest.mark.parametrize("mode", ["greedy", "sample"])
def test_a_replica_is_judged_as_a_lone_run_is(mode: str) -> None:
    """Episodes of unequal lengths, in several rounds: what others draw and play is not seen."""
    config = small("ppo", replicas=3)
    trial, lone = Trial.of(config), Trial.of(replace(config, seed=2, replicas=1))
    for name, leaf in lone.algo.state().items():
        leaf.copy_(trial.algo.state()[name][1:2])
    scores = []
    for one, seeds in ((trial, (1, 2, 3)), (lone, (2,))):
        env = envs.make(config.env, len(seeds) * 4)
        step = np.zeros(len(seeds), np.int64)
        scores.append(run_episodes(one.algo, env, seeds, 11, purpose="eval", mode=mode, step=step)[0])  # type: ignore[arg-type]
    assert np.array_equal(scores[0].returns[1], scores[1].returns[0])
    assert np.array_equal(scores[0].lengths[1], scores[1].lengths[0])


def test_sampling_differs_between_episodes_and_replicas() -> None:
    scores = play(3, 8, 64, mode="sample")
    assert all(abs(row.mean()) < 0.5 for row in scores.returns)
    assert not np.array_equal(scores.returns[0], scores.returns[1])
    assert not np.array_equal(scores.returns[0, :8], scores.returns[0, 8:16])
    assert np.array_equal(scores.returns, play(3, 8, 64, mode="sample").returns)


def test_training_and_evaluation_never_share_a_seed() -> None:
    episodes = np.arange(1000)
    families = [child(keys([seed], p), episodes) for seed in (1, 2) for p in ("eval", "test", "env")]
    training = child(child(keys([1], "env")[:, None], np.arange(8)[None])[..., None], episodes).ravel()
    everything = np.concatenate([*families, training])
    assert len(np.unique(everything)) == len(everything)


def test_reported_return_is_the_envs_own() -> None:
    """CartPole's is an integer, at most the steps of an episode, whatever the agent learns from."""
    config = small("dqn", replicas=2)
    shaped = replace(config, env=replace(config.env, reward=RewardConfig(0.1, -7.3, "centering")))
    for one in (config, shaped):
        evaluation = Trial.of(one).task.evaluation
        trial = Trial.of(one)
        scores = evaluation.play(trial.algo, 5, "eval", trial.clock.step)  # type: ignore[attr-defined]
        assert (scores.returns == scores.lengths).all() and (scores.returns <= 30).all()
        trial.train(40)
        assert trial.collector is not None
        stats = trial.collector.stats.take(np.ones(2, bool))
        assert np.array_equal(stats["return"], stats["length"])


def test_final_scores_come_from_seeds_that_periodic_ones_did_not_use() -> None:
    trial = Trial.of(small("dqn", eval=episodes(episodes=20, during=20, every=None)))
    evaluation, step = trial.task.evaluation, trial.clock.step
    periodic, again = (evaluation.play(trial.algo, 20, p, step) for p in ("eval", "test"))  # type: ignore[attr-defined]
    assert not np.array_equal(periodic.returns, again.returns)
    results = evaluation.scores(trial.algo, 20, "test", step).results  # type: ignore[attr-defined]
    assert results[0]["eval_return"] == again.returns.mean() and results[0]["eval_episodes"] == 20


def test_metrics_are_summed_and_recorded() -> None:
    """A bandit's info, summed over each episode; `record` gives it step by step."""
    config = compose(["algo=ucb", "env.max_steps=7"])
    trial = Trial.of(config)
    env = envs.make(config.env, 3)
    name = env.abilities.metrics[0]  # type: ignore[attr-defined]
    scores, trace = run_episodes(
        trial.algo, env, (1,), 3, purpose="eval", mode="explore", step=np.zeros(1, np.int64), record=(name,)
    )
    assert trace[name].shape == (1, 3, 7)
    np.testing.assert_allclose(scores.info[name], trace[name].sum(-1))


@pytest.mark.parametrize("choose", ["last", "best"])
def test_the_chosen_policy_is_the_one_that_is_judged(choose: str, tmp_path: Path) -> None:
    """Every episode of this evaluation is the same, so the best score must come back in the end."""
    overrides = ["algo=dqn", "env=cartpole", "model.hidden=[8]", "total_steps=3000", "replicas=2"]
    overrides += [f"eval.choose={choose}", "eval.every=300", "log.tensorboard=false", "log.plot=false"]
    result = execute(compose([*overrides, f"out={tmp_path}"]))
    records = [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()]
    task, algo = restore(result.folder)
    again = task.evaluation.periodic(algo, np.full(2, 3000))["eval/return"]  # the very same episodes
    for replica in range(2):
        seen = [r["eval/return"] for r in records if r["replica"] == replica and "eval/return" in r]
        assert again[replica] == (max(seen) if choose == "best" else seen[-1])
    assert result.summary["policy"] == ("last" if choose == "last" else "best eval/return")


@pytest.mark.parametrize("algo", [a for a in ALGORITHMS if builder(a).family not in ("bandit", "planning")])
def test_an_algorithm_is_called_stochastic_if_sampling_it_draws(algo: str) -> None:
    """Planners draw where they search, and bandits are judged while they learn."""
    trial = Trial.of(small(algo, replicas=1))
    rng = Stream(trial.task.evaluation.seeds, "test")
    act_once(trial, "sample", rng)
    assert trial.algo.stochastic == bool(rng.counter.any())


@pytest.mark.parametrize(("mode", "other"), [("greedy", "sample"), ("sample", "greedy")])
def test_a_stochastic_policy_is_also_shown_in_the_other_mode_and_its_scores_are_the_same(
    mode: str, other: str
) -> None:
    trial = Trial.of(small("ppo", replicas=2, eval=episodes(episodes=9, during=4, mode=mode)))
    evaluation, algo, step = trial.task.evaluation, trial.algo, trial.clock.step
    both = evaluation.final(algo, step, {}).results
    algo.stochastic = False
    own = evaluation.final(algo, step, {}).results
    for one, two in zip(own, both, strict=True):
        assert not any(key.startswith(other) for key in one)
        assert {key: two[key] for key in one} == one
        assert two[f"{other}_episodes"] == 4 and two[f"{other}_return"] > 0
    assert both[0][f"{other}_return"] != both[1][f"{other}_return"]
