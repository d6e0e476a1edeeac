"""What SAC, TD3 and DDPG promise alike, with memory or without: answers known by hand."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from actor_critics import (
    ASYMMETRIC,
    LSTM,
    MLP,
    NO_STEP,
    make,
    rollout,
    with_constant_critics,
)
from handmade import GAMMA, constant, windows
from support import Trial, small

from rlrun.config import ConfigError
from rlrun.config.compose import compose
from rlrun.models import GRUConfig
from rlrun.rng import Stream
from rlrun.runs.task import Task
from rlrun.spaces import Box

RECIPES = ("sac", "td3", "ddpg")
every = pytest.mark.parametrize("recipe", RECIPES)
GRU = GRUConfig(
    [6], 8, 1, 0.0, [8], "tanh", "uniform", False, True
)  # with an encoder, a head, the last action
LOW, HIGH = (torch.tensor(bound, dtype=torch.float64) for bound in (ASYMMETRIC.low, ASYMMETRIC.high))


def targets(algo: Any, batch: Any) -> torch.Tensor:
    """The targets of a batch's learned steps, [R, S, B]."""
    learned = algo.learned(batch)
    actor = (algo.trace(algo.actor, batch, learned),) if hasattr(algo, "temperature") else ()
    return algo.target(batch, learned, *actor)


# Targets and time.


@every
@windows
def test_targets_by_hand(
    recipe: str, terminated: list[int], truncated: list[int], total: float, discount: float
) -> None:
    """Rewards 1, 2, 4; the target networks say 10 and, of two the lesser, 7; next to no temperature."""
    algo = with_constant_critics(make(recipe, n_step=3, **({"alpha": 1e-12} if recipe == "sac" else {})))
    target = targets(algo, rollout(3, [1.0, 2.0, 4.0], terminated, truncated))
    assert target.shape == (2, 1, 4) and not target.requires_grad
    value = total + discount * (10.0 if recipe == "ddpg" else 7.0)
    torch.testing.assert_close(target, torch.full((2, 1, 4), value, dtype=torch.float64))


@every
def test_recurrent_targets_by_hand(recipe: str) -> None:
    """Every learned step has one; windows stop at an episode's end and at the sequence's."""
    algo = make(recipe, LSTM, n_step=2, burn_in=1, **({"alpha": 1e-12} if recipe == "sac" else {}))
    value = 10.0 if recipe == "ddpg" else 7.0
    batch = rollout(5, [99.0, 1.0, 2.0, 4.0, 8.0], [0, 0, 1, 0, 0])
    target = targets(with_constant_critics(algo), batch)
    by_hand = [1 + 2 * GAMMA, 2, 4 + 8 * GAMMA + GAMMA**2 * value, 8 + GAMMA * value]
    expected = torch.tensor(by_hand, dtype=torch.float64).view(1, 4, 1).expand(2, 4, 4)
    torch.testing.assert_close(target, expected)


def test_recurrent_targets_look_at_the_windows_end() -> None:
    """With the memory of the step that the window ends with, not of the one that it begins with."""
    algo = make("td3", LSTM, n_step=2, target_noise=0.0)
    batch = rollout(4, 0.0, False, [0, 1, 0, 0])
    each = torch.arange(4).view(1, 4, 1).expand(2, 4, 4)
    actor = algo.trace(algo.target_actor, batch, batch, ahead=True)
    action = actor.beyond(batch.next_obs, each).tanh()
    q = algo.judge_ahead(batch, batch, batch.next_obs, each, action)  # one step on, from everywhere
    discount = torch.tensor([GAMMA**2, GAMMA, GAMMA**2, GAMMA], dtype=torch.float64).view(1, 4, 1)
    torch.testing.assert_close(targets(algo, batch), discount * q[:, [1, 1, 3, 3]])


@every
def test_rewards_are_scaled_and_bootstraps_are_not(recipe: str) -> None:
    own = {"alpha": 1e-12} if recipe == "sac" else {}
    algo = with_constant_critics(make(recipe, n_step=2, reward_scale=0.1, **own))
    value = 0.1 * (1 + 2 * GAMMA) + GAMMA**2 * (10.0 if recipe == "ddpg" else 7.0)
    target = targets(algo, rollout(2, [1.0, 2.0]))
    torch.testing.assert_close(target, torch.full((2, 1, 4), value, dtype=torch.float64))


@every
@pytest.mark.parametrize("end, value", [("truncated", 2.0), ("terminated", 1.0)])
def test_a_reward_of_one_forever_or_once(recipe: str, end: str, value: float) -> None:
    """Every step ends its episode: by the clock it is worth 1 / (1 - gamma) = 2, by the task 1."""
    own = {"alpha": 1e-12, "alpha_learning_rate": 0.0} if recipe == "sac" else {}
    algo = make(recipe, gamma=0.5, critic_learning_rate=0.01, target__tau=0.3, target__every=1, **own)
    step = rollout(1, 1.0, **{end: True})
    step = step.with_(obs=torch.ones_like(step.obs), next_obs=torch.ones_like(step.obs))
    for _ in range(200):
        metrics = algo.update(step, step=NO_STEP)
    torch.testing.assert_close(metrics["train/q"], torch.full((2,), value).double(), rtol=0.03, atol=0.0)


@every
def test_target_networks_move_when_they_are_due(recipe: str) -> None:
    algo = make(recipe, target__tau=0.5, target__every=3)
    begin = algo.sync.target.clone()
    assert torch.equal(begin, algo.critic_optim.flat)
    for _ in range(2):
        algo.update(rollout(4), step=NO_STEP)
    assert torch.equal(algo.sync.target, begin) and not torch.equal(algo.critic_optim.flat, begin)
    algo.update(rollout(4), step=NO_STEP)
    torch.testing.assert_close(algo.sync.target, 0.5 * begin + 0.5 * algo.critic_optim.flat)
    assert (algo.sync.target != begin).float().mean() > 0.9  # all of them


@every
def test_target_networks_that_are_never_due_keep_their_first_weights(recipe: str) -> None:
    algo = make(recipe, target__every=10**6)
    begin = {name: leaf.clone() for name, leaf in algo.state().items() if name.startswith("target")}
    for _ in range(5):
        algo.update(rollout(4), step=NO_STEP)
    state = algo.state()
    assert begin and all(torch.equal(state[name], leaf) for name, leaf in begin.items())


@pytest.mark.parametrize(
    "num_envs, train_every, gradient_steps, starts, expected",
    [(1, 1, 1, 100, 101), (4, 1, 1, 100, 104), (2, 4, 3, 100, 78), (4, 4, 1, 0, 50), (1, 1, 1, 0, 200)],
)
def test_updates_per_env_step(
    num_envs: int, train_every: int, gradient_steps: int, starts: int, expected: int
) -> None:
    """200 env steps, the first update once `learning_starts` of them are stored."""
    config = small("sac", num_envs=num_envs, total_steps=200)
    config.algo.train_every, config.algo.gradient_steps = train_every, gradient_steps
    config.algo.learning_starts, config.algo.batch_size, config.algo.n_step = starts, 2, 1
    trial = Trial.of(config)
    trial.train(1000)
    assert trial.clock.step.tolist() == [200]
    assert trial.algo.sync.count.tolist() == [expected]  # type: ignore[attr-defined]


@every
@pytest.mark.parametrize("model", [MLP, LSTM])
def test_invalid_steps_are_not_learned_from(recipe: str, model: Any) -> None:
    """Fillers with absurd rewards in half of the envs change nothing."""
    clean, odd = (make(recipe, model) for _ in range(2))
    valid = torch.tensor([True, True, False, False]).expand(2, 4, 4)
    batch = rollout(4, 1.0, valid=valid)
    for algo, reward in ((clean, batch.reward), (odd, torch.where(valid, batch.reward, 1e6))):
        for _ in range(2):
            algo.learn(batch.with_(reward=reward), NO_STEP)
    assert torch.equal(clean.critic_optim.flat, odd.critic_optim.flat)
    assert torch.equal(clean.actor_optim.flat, odd.actor_optim.flat)


@every
@pytest.mark.parametrize("model", [MLP, LSTM])
def test_each_loss_moves_its_own_networks_only(recipe: str, model: Any) -> None:
    """The actor climbs what the critics say and does not bend it; the critics leave the actor alone."""
    flat = {}
    for frozen in ("actor", "critic"):
        algo = make(recipe, model, **({"policy_delay": 1} if recipe != "sac" else {}))
        rate = f"{frozen}_rate"
        setattr(algo, rate, lambda step: np.zeros(2))
        before = {name: getattr(algo, f"{name}_optim").flat.clone() for name in ("actor", "critic")}
        algo.learn(rollout(algo.length, 1.0), NO_STEP)
        flat[frozen] = {
            name: not torch.equal(getattr(algo, f"{name}_optim").flat, value)
            for name, value in before.items()
        }
    assert flat == {"actor": {"actor": False, "critic": True}, "critic": {"actor": True, "critic": False}}


# Actions.


@every
@pytest.mark.parametrize("mode", ["explore", "sample", "greedy"])
def test_actions_never_leave_an_asymmetric_box(recipe: str, mode: str) -> None:
    algo = make(recipe)
    for parameter in algo.actor.parameters():
        parameter.data.mul_(30.0)  # far into the saturation of tanh
    obs, first = torch.randn(2, 500, 3, dtype=torch.float64), torch.zeros(2, 500, dtype=torch.bool)
    action = algo.act(obs, (), first, step=NO_STEP, mode=mode, rng=Stream((1, 2), "x")).action
    assert action.shape == (2, 500, 2)
    assert (action >= LOW).all() and (action <= HIGH).all()
    assert (action.amin((0, 1)) < LOW + 0.1).all() and (action.amax((0, 1)) > HIGH - 0.1).all()  # and fill it


@every
def test_no_opinion_is_the_middle_of_the_box(recipe: str) -> None:
    algo = make(recipe)
    constant(algo.actor, 0.0)
    obs, first = torch.randn(2, 5, 3, dtype=torch.float64), torch.zeros(2, 5, dtype=torch.bool)
    action = algo.act(obs, (), first, step=NO_STEP, mode="greedy", rng=Stream((1, 2), "x")).action
    torch.testing.assert_close(action, ((LOW + HIGH) / 2).expand(2, 5, 2))
    torch.testing.assert_close(algo.bounds.invert(action), torch.zeros(2, 5, 2).double())  # as critics see it


@every
def test_the_first_steps_are_uniform_and_each_replica_has_its_own_clock(recipe: str) -> None:
    algo = make(recipe, learning_starts=10)
    obs, first = torch.zeros(2, 4000, 3, dtype=torch.float64), torch.zeros(2, 4000, dtype=torch.bool)

    def act(mode: str) -> torch.Tensor:
        step, rng = np.array([9, 10]), Stream((1, 2), "x")
        return algo.bounds.invert(algo.act(obs, (), first, step=step, mode=mode, rng=rng).action)

    early, late = act("explore")
    assert early.mean(0).abs().max() < 0.05  # the box's centre
    assert (early.square().mean(0) - 1.0 / 3.0).abs().max() < 0.03  # and a uniform's variance
    policy = algo.choose(algo.actor.step(obs, (), first)[0], "explore", Stream((1, 2), "x"))
    torch.testing.assert_close(late, policy[1].clamp(-1.0, 1.0))
    again = algo.choose(algo.actor.step(obs, (), first)[0], "sample", Stream((1, 2), "x"))
    torch.testing.assert_close(act("sample"), again.clamp(-1.0, 1.0))  # evaluation never draws uniformly


@every
def test_stored_actions_are_those_that_were_executed(recipe: str) -> None:
    trial = Trial.of(small(recipe, replicas=2))
    executed = []
    env_step = trial.task.env.step

    def step(actions: np.ndarray) -> Any:
        executed.append(actions.copy())
        return env_step(actions)

    trial.task.env.step = step  # type: ignore[method-assign]
    trial.train(30)
    stored = trial.algo.state()["replay.action"]
    steps = np.stack(executed).reshape(len(executed), 2, -1, 1).swapaxes(0, 1)
    np.testing.assert_array_equal(stored.numpy(), steps)
    assert np.abs(steps).max() > 1.5 and np.abs(steps).max() <= 2.0


# Memory.


def memories(algo: Any, batch: Any) -> list[Any]:
    """The traces of the actor and of all critics, online and target."""
    learned = algo.learned(batch)
    targets = [algo.trace(target, batch, learned, judges=True, ahead=True) for target in algo.targets]
    return [algo.trace(algo.actor, batch, learned), *algo.judge(batch, learned), *targets]


@every
@pytest.mark.parametrize("model", [LSTM, GRU])
def test_step_by_step_is_the_sequence(recipe: str, model: Any) -> None:
    """Episodes end inside; actor and critics are stepped as one acts, with the actions really taken."""
    algo = make(recipe, model, sequence_length=7)
    batch = rollout(7, 0.0, [0, 0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 0, 0])
    unit = algo.bounds.invert(batch.action)
    for k, trace in enumerate(memories(algo, batch)):
        memory = trace.network.initial_memory(4)
        for t in range(7):
            extra = {"extra": unit[:, t]} if k else {}
            out, memory = trace.network.step(batch.obs[:, t], memory, batch.first[:, t], **extra)
            memory = trace.network.remember(memory, batch.action[:, t])
            torch.testing.assert_close(out, trace.out[:, t], rtol=1e-6, atol=1e-9)


@every
@pytest.mark.parametrize("model", [LSTM, GRU])
def test_acting_is_the_sequence(recipe: str, model: Any) -> None:
    """What the policy does while it remembers is what it is taught."""
    algo = make(recipe, model, sequence_length=6)
    batch = rollout(6, 0.0, [0, 0, 1, 0, 0, 0])
    memory, taken = algo.initial_memory(4), []
    for t in range(6):
        act = algo.act(
            batch.obs[:, t], memory, batch.first[:, t], step=NO_STEP, mode="greedy", rng=Stream((1, 2), "x")
        )
        memory = act.memory
        taken.append(act.action)
    batch = batch.with_(action=torch.stack(taken, 1))
    out = algo.trace(algo.actor, batch, algo.learned(batch)).out
    taught = algo.bounds.apply(algo.choose(out, "greedy", Stream((1, 2), "x")))
    torch.testing.assert_close(taught, batch.action, rtol=1e-6, atol=1e-9)


@every
@pytest.mark.parametrize("model", [MLP, LSTM, GRU])
def test_the_action_taken_instead_of_itself_changes_nothing(recipe: str, model: Any) -> None:
    """A critic asked about the action that was taken says what it said; about another, something else."""
    algo = make(recipe, model)
    batch = rollout(algo.length, 0.0, [0] * (algo.length - 1) + [1])
    learned = algo.learned(batch)
    unit = algo.unit(learned)
    for trace in algo.judge(batch, learned):
        torch.testing.assert_close(trace.instead(learned, unit), trace.out)
        assert (trace.instead(learned, -unit) - trace.out).abs().min() > 1e-9


@every
@pytest.mark.parametrize("model", [LSTM, GRU])
def test_beyond_a_step_is_the_next_one(recipe: str, model: Any) -> None:
    """Within an episode; where it was cut by the clock, it is the step that would have come, not the next."""
    algo = make(recipe, model, sequence_length=6)
    batch = rollout(6, 0.0, False, [0, 0, 1, 0, 0, 0])
    learned = algo.learned(batch)
    last = torch.arange(6).view(1, 6, 1).expand(2, 6, 4)
    unit = algo.bounds.invert(batch.action)
    following = torch.cat((unit[:, 1:], unit[:, :1]), 1)
    for k, trace in enumerate(memories(algo, batch)):
        ahead = trace.beyond(learned.next_obs, last, following if k else None)
        for t in (0, 1, 3, 4):
            torch.testing.assert_close(ahead[:, t], trace.out[:, t + 1])
        uncut = batch.with_(
            first=torch.zeros_like(batch.first),
            obs=torch.cat((batch.obs[:, :3], batch.next_obs[:, 2:3], batch.obs[:, 4:]), 1),
        )
        again = algo.trace(trace.network, uncut, uncut, judges=bool(k))
        torch.testing.assert_close(ahead[:, 2], again.out[:, 3])
        assert (ahead[:, 2] - trace.out[:, 3]).abs().min() > 1e-9


@every
@pytest.mark.parametrize("model", [LSTM, GRU])
def test_memory_is_cleared_at_an_episodes_start(recipe: str, model: Any) -> None:
    """Observations and actions of the episode before reach nothing in the next one, those of its own do."""
    algo = make(recipe, model, sequence_length=6)
    batch = rollout(6, 0.0, [0, 0, 1, 0, 0, 0])
    other = rollout(6, 0.0, [0, 0, 1, 0, 0, 0], seed=1)

    def swapped(*steps: int) -> Any:
        obs, action = batch.obs.clone(), batch.action.clone()
        for t in steps:
            obs[:, t], action[:, t] = other.obs[:, t], other.action[:, t]
        return batch.with_(obs=obs, action=action)

    both = zip(
        memories(algo, batch), memories(algo, swapped(0, 1, 2)), memories(algo, swapped(3)), strict=True
    )
    for one, before, own in both:
        assert torch.equal(one.out[:, 3:], before.out[:, 3:])
        assert (one.out[:, 2] != before.out[:, 2]).all()
        assert (one.out[:, 5] != own.out[:, 5]).all() and torch.equal(one.out[:, :3], own.out[:, :3])


@every
def test_burn_in_refreshes_memory_and_is_not_learned_from(recipe: str) -> None:
    """Its rewards are without effect, its observations are not; no gradient flows into it."""
    plain, paid, seen = (make(recipe, LSTM, burn_in=2, sequence_length=3) for _ in range(3))
    batch = rollout(5, 1.0)
    reward, obs = batch.reward.clone(), batch.obs.clone()
    reward[:, :2] = 1e6
    obs[:, :2] = 0.0
    changes: tuple[dict[str, Any], ...] = ({}, {"reward": reward}, {"obs": obs})
    for algo, change in zip((plain, paid, seen), changes, strict=True):
        for _ in range(2):
            algo.learn(batch.with_(**change), NO_STEP)
    assert torch.equal(plain.critic_optim.flat, paid.critic_optim.flat)
    assert not torch.equal(plain.critic_optim.flat, seen.critic_optim.flat)
    obs = batch.obs.clone().requires_grad_()
    burnt = batch.with_(obs=obs)
    for trace in (
        plain.trace(plain.actor, burnt, plain.learned(burnt)),
        *plain.judge(burnt, plain.learned(burnt)),
    ):
        (slope,) = torch.autograd.grad(trace.out.sum(), obs)
        assert not slope[:, :2].any() and slope[:, 2:].any()


@every
def test_gradients_reach_back_through_time(recipe: str) -> None:
    """A loss on the last step only: the first observation matters to it, for actor and critics."""
    algo = make(recipe, LSTM, sequence_length=5)
    obs = rollout(5).obs.requires_grad_()
    batch = rollout(5).with_(obs=obs)
    for trace in memories(algo, batch)[: 1 + len(algo.critics)]:
        (slope,) = torch.autograd.grad(trace.out[:, -1].sum(), obs)
        assert slope[:, 0].abs().max() > 1e-8


@every
def test_critics_have_a_memory_of_actions(recipe: str) -> None:
    """An earlier action changes what the critics, but not the actor, make of a later step."""
    algo = make(recipe, LSTM, sequence_length=4)
    batch = rollout(4)
    action = batch.action.clone()
    action[:, 1] = rollout(4, seed=1).action[:, 1]
    actor, *critics = zip(memories(algo, batch), memories(algo, batch.with_(action=action)), strict=True)
    assert torch.equal(actor[0].out, actor[1].out)
    assert all((one.out[:, 3] != other.out[:, 3]).all() for one, other in critics)


@every
def test_sequences_from_replay_are_consecutive_steps(recipe: str) -> None:
    """A full ring, its head in the middle: no sequence crosses it, every `first` follows an end."""
    algo = make(recipe, LSTM, buffer_size=40, sequence_length=4, burn_in=1, learning_starts=10**6)
    for count in range(9):  # 27 rows into 10
        batch = rollout(3, 0.0, [0, 0, count % 2], seed=count)
        time = torch.arange(count * 3, count * 3 + 3, dtype=torch.float64).view(1, 3, 1, 1)
        batch.first[:, 0] = count % 2 == 0
        algo.update(batch.with_(obs=batch.obs * 0 + time), step=NO_STEP)
    drawn = algo.replay.sample(500, algo.length, algo.rng)
    assert drawn.obs.shape[1] == 5
    assert (drawn.obs.diff(dim=1) == 1.0).all() and float(drawn.obs.min()) == 17.0
    assert torch.equal(drawn.first[:, 1:], drawn.ended[:, :-1])


@every
def test_replicas_share_nothing(recipe: str) -> None:
    """Nor with memory: one replica's rewards leave the other's weights alone, bit for bit."""
    clean, odd = (make(recipe, LSTM) for _ in range(2))
    batch = rollout(4, 1.0)
    reward = batch.reward.clone()
    reward[1] = float("nan")
    for _ in range(3):
        clean.learn(batch, NO_STEP)
        odd.learn(batch.with_(reward=reward), NO_STEP)
    for name in ("actor_optim", "critic_optim", "sync"):
        one, other = (
            getattr(getattr(a, name), "flat", getattr(getattr(a, name), "target", None)) for a in (clean, odd)
        )
        assert torch.equal(one[0], other[0]) and bool(other.isfinite().all()), name


def test_losses_of_a_recurrent_critic_by_hand() -> None:
    """The mean squared error of valid steps, summed over both critics."""
    algo = with_constant_critics(make("td3", LSTM))
    batch = rollout(4, 1.0, True)  # every target is 1
    learned = algo.learned(batch)
    loss, q = algo.critic_loss(algo.judge(batch, learned), algo.target(batch, learned), learned)
    torch.testing.assert_close(loss, torch.full((2,), 2 * 99.0**2, dtype=torch.float64))
    torch.testing.assert_close(q.double(), torch.full((2,), 100.0, dtype=torch.float64))


# Refusals.


@every
@pytest.mark.parametrize(
    "overrides, words",
    [
        (["num_envs=3", "algo.train_every=2"], ["algo.train_every is 2", "num_envs (3)"]),
        (["algo.buffer_size=100"], ["learning_starts is 500", "buffer_size (100)", "batch_size is 256"]),
        (["algo.gamma=1.5"], ["algo.gamma is 1.5", "at most 1"]),
        (["model=lstm", "num_envs=50000", "algo.train_every=50000"], ["2 steps of each env; a sequence has"]),
    ],
)
def test_refusals(recipe: str, overrides: list[str], words: list[str]) -> None:
    with pytest.raises(ConfigError) as refusal:
        compose([f"algo={recipe}", *overrides])
    assert all(word in str(refusal.value) for word in words), str(refusal.value)


@every
def test_unbounded_actions_are_refused(recipe: str) -> None:
    with pytest.raises(ConfigError, match="finite bounds"):
        make(recipe, action=Box((2,), (-math.inf, -1.0), (math.inf, 1.0)))


@every
def test_discrete_actions_are_refused(recipe: str) -> None:
    with pytest.raises(ConfigError, match=f"algo={recipe} cannot work with discrete actions"):
        Task.of(compose([f"algo={recipe}", "env=cartpole"]))


@every
def test_the_recipe_says_everything(recipe: str) -> None:
    assert compose([f"algo={recipe}"]).choices["env"] == "pendulum"
    assert compose([f"algo={recipe}", "env=cartpole"]).choices["env"] == "cartpole"  # the command line wins
    memory = compose([f"algo=lstm_{recipe}"])
    assert memory.recurrent and memory.choices["env"] == "pendulum_masked"
    assert type(memory.algo) is type(compose([f"algo={recipe}"]).algo)
    assert copy.copy(memory.algo).sequence_length > 1
