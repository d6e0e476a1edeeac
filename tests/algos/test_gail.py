"""GAIL: the expert is copied, right or wrong, and the env's reward is never looked at."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from probes import PROBES, Probe, probe
from support import Trial, assert_same_bits, final_state, session, small, train_until

from rlrun.algos.gail import GAIL, Discriminator, Steps, Teacher
from rlrun.config import ConfigError
from rlrun.config.compose import compose
from rlrun.config.run import RunConfig
from rlrun.core import Spec
from rlrun.data import steps as logged
from rlrun.data.sources import FileConfig
from rlrun.rng import Stream
from rlrun.runs import checkpoint
from rlrun.runs.load import restore
from rlrun.runs.run import evaluate, execute
from rlrun.spaces import Box, Discrete, MultiDiscrete, Space

OBS = Box((2,), (-1.0, -1.0), (1.0, 1.0))
PROBES["leave"] = Probe([[1]], [[0, -1]], [[0, 0]], [0], max_steps=10)  # action 1 ends the episode
TAUGHT, SHOWN = 19, 2  # rollouts of the small run: 300 and 24 steps, 16 each


def discriminator(action: Space, **changes: Any) -> Discriminator:
    config = compose(["algo=gail"]).algo.discriminator
    config.network.hidden = [16]
    config.learning_rate = 0.01
    for name, value in changes.items():
        setattr(config, name, value)
    return Discriminator(Spec(OBS, action, 1, (1, 2), 100, dtype="float64"), config)


def steps(obs: Any, action: Any) -> Steps:
    """The same in both replicas."""
    leaves = (torch.from_numpy(np.asarray(leaf)) for leaf in (obs, action, np.ones(len(obs), bool)))
    return Steps(*(leaf.expand(2, *leaf.shape) for leaf in leaves))


def points(count: int = 300, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1.0, 1.0, (count, 2))


# The discriminator


def test_first_loss_by_hand() -> None:
    """Where nothing is known every logit is 0: log 2, and the slope of 0 is punished by its square."""
    judge = discriminator(Discrete(3), gradient_steps=1, gradient_penalty=0.0)
    for parameter in judge.body.parameters():
        parameter.data.zero_()
    some = steps(points(), np.arange(300) % 3)
    metrics = judge.update(some, some)
    torch.testing.assert_close(metrics["loss/discriminator"], torch.full((2,), math.log(2.0)).double())
    assert (metrics["train/discriminator_accuracy"] == 0).all()


@pytest.mark.parametrize(
    ("action", "expert", "student"),
    [
        (Discrete(3), np.full(300, 2), np.full(300, 1)),
        (Box((1,), (-2.0,), (2.0,)), np.full((300, 1), 1.5), np.full((300, 1), -1.5)),
        (MultiDiscrete((2, 3)), np.tile([0, 2], (300, 1)), np.tile([0, 1], (300, 1))),
    ],
    ids=["discrete", "box", "multi_discrete"],
)
def test_the_expert_scores_higher(action: Space, expert: np.ndarray, student: np.ndarray) -> None:
    """Pitfall 27: the sign. Here only the actions tell them apart."""
    judge = discriminator(action, gradient_steps=100)
    real, fake = steps(points(), expert), steps(points(seed=1), student)
    metrics = judge.update(real, fake)
    with torch.no_grad():
        assert (judge.logit(judge.inputs(real)) > 0.5).all()
        assert (judge.logit(judge.inputs(fake)) < -0.5).all()
    assert (metrics["train/discriminator_accuracy"] > 0.9).all()


def test_equals_cannot_be_told_apart() -> None:
    judge = discriminator(Discrete(3), gradient_steps=200)
    action = np.arange(300) % 3
    metrics = judge.update(steps(points(), action), steps(points(seed=1), action))
    assert (metrics["train/discriminator_accuracy"] - 0.5).abs().max() < 0.08
    assert (metrics["loss/discriminator"] - math.log(2.0)).abs().max() < 0.1


def test_the_penalty_makes_the_slope_one() -> None:
    """A linear judge has one slope; under a heavy penalty it is 1, whatever there is to tell."""
    judge = discriminator(Discrete(3), gradient_steps=400, gradient_penalty=1e4)
    judge.body = type(judge.body)(5, [], "tanh", _init(), [(1, 1.0)])
    judge.optim = type(judge.optim)(judge.body)
    judge.update(steps(points(), np.full(300, 2)), steps(points(seed=1), np.full(300, 1)))
    weight = judge.body.layers[0].weight.detach()
    torch.testing.assert_close(weight.square().sum((1, 2)).sqrt(), torch.ones(2).double(), atol=1e-3, rtol=0)


def _init() -> Any:
    from rlrun.nn import Init

    return Init(Stream((1, 2), "x"), "uniform", torch.float64)


def test_invalid_steps_teach_nothing() -> None:
    """Fillers are masked on either side."""
    judges = [discriminator(Discrete(3), gradient_steps=3) for _ in range(2)]
    real, fake = steps(points(), np.arange(300) % 3), steps(points(seed=1), np.arange(300) % 2)
    valid = (torch.arange(300) % 4 > 0).expand(2, 300)
    metrics = []
    for judge, junk in zip(judges, (7.0, -9.0), strict=True):
        obs = torch.where(valid[..., None], fake.obs, junk)
        metrics.append(judge.update(real, Steps(obs, fake.action, valid)))
    torch.testing.assert_close(*metrics)
    assert_same_bits(judges[0].state(), judges[1].state())


# The reward


@pytest.mark.parametrize(
    ("reward", "at_zero", "sign"),
    [("logit", 0.0, 0), ("positive", math.log(2), 1), ("negative", -math.log(2), -1)],
)
def test_rewards_by_hand(reward: str, at_zero: float, sign: int) -> None:
    """l, -log(1 - D) and log D with D = sigmoid(l): all rise with l, the second above 0, the third below."""
    config = small("gail")
    algo = Trial.of(replace(config, algo=replace(config.algo, reward=reward))).algo
    assert isinstance(algo, GAIL)
    logits = torch.linspace(-4.0, 4.0, 9)
    algo.discriminator.logit = lambda inputs: logits[None]  # type: ignore[method-assign]
    some = Steps(torch.zeros(1, 9, 2), torch.zeros(1, 9, 2), torch.ones(1, 9, dtype=torch.bool))
    found = algo.reward(some)[0]
    expert = logits.double().sigmoid()
    by_hand = {
        "logit": expert.log() - (1 - expert).log(),
        "positive": -(1 - expert).log(),
        "negative": expert.log(),
    }
    torch.testing.assert_close(found.double(), by_hand[reward], atol=1e-5, rtol=1e-5)
    assert found[4].item() == pytest.approx(at_zero) and (found.diff() > 0).all()
    assert sign == 0 or (found * sign > 0).all()


@pytest.mark.parametrize(("reward", "leaves"), [("positive", False), ("negative", True)])
def test_a_reward_of_one_sign_decides_how_long_one_lives(reward: str, leaves: bool, tmp_path: Path) -> None:
    """Pitfall 27: without any expert's help, which is why nothing is proved where episodes end."""
    run = cloning("leave", 0, tmp_path, reward=reward, gamma=0.9)
    run.algo.discriminator.gradient_steps = 0
    trial = Trial.of(run)
    assert isinstance(trial.algo, GAIL)
    for parameter in trial.algo.discriminator.body.parameters():
        parameter.data.zero_()
    trial.train(10**9)
    assert chosen(trial) == int(leaves)


# What is copied


def cloning(name: str, action: int, path: Path, **changes: Any) -> RunConfig:
    """GAIL on a probe, with an expert that does one thing only."""
    base = compose(
        ["algo=gail", "env=point_discrete", "data=point_discrete_wrong_way", "log.tensorboard=false"]
    )
    network = replace(base.algo.discriminator.network, hidden=[16])
    judge = replace(
        base.algo.discriminator, network=network, batch_size=32, gradient_steps=10, learning_rate=0.01
    )
    own = {"rollout_steps": 16, "epochs": 4, "learning_rate": 0.01, "discriminator": judge}
    run = replace(base, env=probe(name), algo=replace(base.algo, **own | changes), total_steps=3000)
    ones, never = np.ones((20, 1), np.float32), np.zeros(20, bool)
    written = {
        "obs": ones,
        "action": np.full(20, action),
        "reward": np.zeros(20),
        "terminated": ~never,
        "truncated": never,
        "next_obs": ones,
    }
    logged.save(path / "set", written, {})
    run.data = FileConfig(str(path / "set"), None)
    run.model.hidden = [16]
    return run


def chosen(trial: Trial) -> int:
    """The greedy action of a probe with one state."""
    first = torch.ones(1, 1, dtype=torch.bool)
    act = trial.algo.act(
        torch.ones(1, 1, 1), (), first, step=trial.clock.step, mode="greedy", rng=Stream((1,), "x")
    )
    return int(act.action)


@pytest.mark.parametrize("expert", [0, 1])
def test_the_expert_is_copied_even_where_it_errs(expert: int, tmp_path: Path) -> None:
    """The env pays +1 for action 1 and -1 for action 0; either expert's student does as its expert does."""
    trial = Trial.of(cloning("action", expert, tmp_path))
    trial.train(10**9)
    assert chosen(trial) == expert


def test_the_wrong_way_is_copied_from_one_episode() -> None:
    """On a task of fixed length: where the env pays for one corner, and the one expert goes to the other."""
    overrides = ["algo=gail", "data=point_wrong_way", "data.episodes=1", "total_steps=16000", "replicas=2"]
    trial = Trial.of(compose([*overrides, "env.goal=[0.6,0.6]"]))
    trial.train(10**9)
    scores = trial.task.evaluation.periodic(trial.algo, trial.clock.step)["eval/return"]
    assert (scores < -90).all()  # the expert gets -105, random actions -66, and who goes the right way -7


# The teacher


def test_first_the_teacher_learns_then_it_shows_then_the_student_learns() -> None:
    trial = Trial.of(small("gail", replicas=2))
    algo, seen = trial.algo, []
    assert isinstance(algo, GAIL) and isinstance(algo.expert, Teacher)
    assert (algo.expert.lessons, algo.expert.shows, algo.begin) == (TAUGHT, SHOWN, (TAUGHT + SHOWN) * 16)
    states = {
        "student": algo.student.state,
        "teacher": algo.expert.ppo.state,
        "judge": algo.discriminator.state,
    }
    before = {name: _copy(state()) for name, state in states.items()}
    for update in range(TAUGHT + SHOWN + 3):
        trial.train(1, lambda clock, metrics: seen.append(set(metrics)))
        now = {name: _copy(state()) for name, state in states.items()}
        moved = {
            name for name in states if any(not torch.equal(before[name][k], v) for k, v in now[name].items())
        }
        if update < TAUGHT:
            assert (
                moved == {"teacher"} and "loss/teacher_policy" in seen[-1] and "loss/policy" not in seen[-1]
            )
        elif update < TAUGHT + SHOWN:
            assert moved == set() and not seen[-1]
        else:
            assert moved == {"student", "judge"} and {"loss/policy", "loss/discriminator"} <= seen[-1]
        before = now


def _copy(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: leaf.clone() for name, leaf in state.items()}


def test_what_is_shown_are_greedy_steps_one_env_after_the_other() -> None:
    trial = Trial.of(small("gail", replicas=2))
    algo = trial.algo
    assert isinstance(algo, GAIL) and isinstance(algo.expert, Teacher)
    trial.train(TAUGHT)
    assert algo.teacher is not None and not algo.expert.valid.any()
    trial.train(SHOWN)
    assert algo.teacher is None and algo.expert.valid.all()
    obs, action = (
        algo.expert.obs,
        algo.expert.action,
    )  # [R, 24, ...]: 8 of one env, 8 of the other, 8 of the first
    first = torch.zeros(2, 24, dtype=torch.bool)
    act = algo.expert.ppo.act(obs, (), first, step=trial.clock.step, mode="greedy", rng=Stream((1, 2), "x"))
    torch.testing.assert_close(act.action, action)
    landed = (obs + 0.1 * action).clamp(-1.0, 1.0)  # the point's own law
    for begin in (0, 8, 16):
        inside = slice(begin, begin + 7), slice(begin + 1, begin + 8)
        gap = (landed[:, inside[0]] - obs[:, inside[1]]).abs().amax(-1)
        assert ((gap < 1e-5) | (gap > 1e-2)).all() and (gap < 1e-5).double().mean() > 0.8  # but for resets
    assert (landed[:, 7] - obs[:, 8]).abs().amax(-1).min() > 1e-3


def test_schedules_span_each_one_s_own_part(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = Trial.of(small("gail", total_steps=800))
    algo, rates = trial.algo, []
    assert isinstance(algo, GAIL) and isinstance(algo.expert, Teacher)
    for ppo in (algo.expert.ppo, algo.student):
        update = ppo.update

        def noted(rollout: Any, *, step: Any, ppo: Any = ppo, update: Any = update) -> Any:
            rates.append(float(ppo.learning_rate(step)[0]) / trial.task.config.algo.learning_rate)
            return update(rollout, step=step)

        monkeypatch.setattr(ppo, "update", noted)
    trial.train(10**9)
    teacher, student = rates[:TAUGHT], rates[TAUGHT:]
    np.testing.assert_allclose(teacher, 1.0 - np.arange(TAUGHT) / TAUGHT)
    assert len(student) == 50 - TAUGHT - SHOWN  # 800 steps, 16 at a time
    np.testing.assert_allclose(student, 1.0 - np.arange(len(student)) / len(student))


@pytest.mark.parametrize("data", ["none", "point_wrong_way"])
def test_the_student_never_sees_the_reward(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """NaN in its place changes no bit, once there is an expert."""
    trials = []
    for poisoned in (False, True):
        run = replace(small("gail"), data=compose(["algo=gail", f"data={data}"]).data)
        trial = Trial.of(run)
        if data == "none":
            trial.train(TAUGHT + SHOWN)
        assert isinstance(trial.algo, GAIL) and trial.algo.teacher is None
        update = trial.algo.update
        if poisoned:

            def blind(rollout: Any, *, step: Any, update: Any = update) -> Any:
                return update(rollout.with_(reward=torch.full_like(rollout.reward, torch.nan)), step=step)

            monkeypatch.setattr(trial.algo, "update", blind)
        trial.train(10)
        trials.append(trial)
    assert_same_bits(trials[0].algo.state(), trials[1].algo.state())


@pytest.mark.parametrize("stop", [TAUGHT - 3, TAUGHT, TAUGHT + 1, TAUGHT + SHOWN])
def test_resume_in_every_part(stop: int, tmp_path: Path) -> None:
    config = small("gail", total_steps=500, replicas=2)
    train_until(session(config, tmp_path / "whole"))
    train_until(session(config, tmp_path / "part"), stop)
    saved, notes = checkpoint.load(tmp_path / "part" / "ckpt")
    assert not notes
    train_until(session(config, tmp_path / "part", saved))
    assert_same_bits(final_state(tmp_path / "whole"), final_state(tmp_path / "part"))
    metrics = [(tmp_path / run / "metrics.jsonl").read_bytes() for run in ("whole", "part")]
    assert metrics[0] == metrics[1]


@pytest.mark.parametrize("data", ["none", "point_wrong_way"])
def test_a_trained_student_needs_neither_teacher_nor_data(data: str, tmp_path: Path) -> None:
    chosen = compose(["algo=gail", f"data={data}"]).data
    if data != "none":
        chosen.path = str(shutil.copytree(logged.SHIPPED / data, tmp_path / "set"))
    config = replace(small("gail", total_steps=400 if data == "none" else 100), data=chosen)
    result = execute(config, folder=tmp_path / "run")
    shutil.rmtree(tmp_path / "set", ignore_errors=True)
    assert [row["eval_return"] for row in evaluate(result.folder)["replicas"]] == [
        row["eval_return"] for row in result.summary["replicas"]
    ]
    names = restore(result.folder)[1].state(("weights", "normalizer"))
    assert names and all(name.startswith(("student.nets.", "student.return_scale.norm.")) for name in names)
    action, _ = result.policy().act(np.zeros((5, 2), np.float32))
    assert action.shape == (5, 2) and np.abs(action).max() <= 1.0


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["total_steps=20000"], "algo.teacher_steps and algo.demo_steps take 20992 of them"),
        (["algo.reward=survive"], "algo.reward is survive"),
        (["algo.discriminator.network.hidden=[0]"], "every width must be at least 1"),
        (["algo.n_minibatches=1000"], "algo.n_minibatches is 1000"),
    ],
)
def test_refusals(overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        compose(["algo=gail", *overrides])
    assert words in str(refusal.value) and len(refusal.value.lines) <= 3


def test_with_data_all_steps_are_the_students() -> None:
    run = compose(["algo=gail", "data=point_wrong_way", "total_steps=20000"])
    assert Trial.of(run).algo.begin == 0  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="data=cartpole_expert does not fit env=point"):
        Trial.of(compose(["algo=gail", "data=cartpole_expert"]))
