"""The unit of learning: the deviation of the running discounted return, or a number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from handmade import rewards

from rlrun import run
from rlrun.config import ConfigError
from rlrun.config.compose import compose
from rlrun.core import Spec
from rlrun.parts import return_scale
from rlrun.parts.return_scale import ReturnScale
from rlrun.runs.run import resume
from rlrun.spaces import Discrete
from rlrun.testing.trial import Trial

SPEC = Spec(Discrete(2), Discrete(2), 3, (1, 2), 100, dtype="float64")


def test_it_is_the_deviation_of_the_running_discounted_return() -> None:
    """A slow reference over three rollouts, with episode ends inside and steps that do not count."""
    generator = torch.Generator().manual_seed(0)
    scale, running, seen = ReturnScale(SPEC, 0.9), np.zeros((2, 3)), [[], []]
    for _ in range(3):
        reward = torch.randn(2, 7, 3, generator=generator, dtype=torch.float64) * 5.0 + 3.0
        first = torch.rand(2, 7, 3, generator=generator) < 0.3
        valid = torch.rand(2, 7, 3, generator=generator) < 0.8
        scale.take_in(rewards(reward, first, valid))
        for r in range(2):
            for t in range(7):
                for n in range(3):
                    if valid[r, t, n]:
                        running[r, n] = reward[r, t, n] + (0.0 if first[r, t, n] else 0.9 * running[r, n])
                        seen[r].append(running[r, n])
        deviation = torch.tensor([np.std(values) for values in seen]).view(2, 1, 1)
        torch.testing.assert_close(scale.scale, 1.0 / deviation)


def test_of_short_rollouts_one_in_sixteen_counts_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first steps, a replica's own; the return under way misses none."""
    monkeypatch.setattr(return_scale, "_EARLY", 30)
    generator = torch.Generator().manual_seed(0)
    scale, running = ReturnScale(SPEC, 0.9), np.zeros((2, 3))
    seen: list[list[float]] = [[], []]
    for k in range(100):
        reward = torch.randn(2, 1, 3, generator=generator, dtype=torch.float64) * 5.0 + 3.0
        first = torch.rand(2, 1, 3, generator=generator) < 0.2
        step = np.array([3 * k, 3 * k + 300])
        scale.take_in(rewards(reward, first, torch.ones_like(first)), step)
        running = reward[:, 0].numpy() + np.where(first[:, 0], 0.0, 0.9 * running)
        for r in range(2):
            times = 1 if step[r] < 30 else 16 if step[r] // 3 % 16 == 0 else 0
            seen[r] += times * running[r].tolist()
    np.testing.assert_allclose(scale.running, running)
    deviation = torch.tensor([np.std(values) for values in seen], dtype=torch.float64).view(2, 1, 1)
    torch.testing.assert_close(scale.scale, 1.0 / deviation)


@pytest.mark.parametrize("unit", [1e-6, 1e-3, 1e3, 1e6])
def test_scaled_rewards_know_no_unit(unit: float) -> None:
    reward = torch.randn(2, 50, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    first, valid = torch.rand(2, 50, 3) < 0.1, torch.ones(2, 50, 3, dtype=torch.bool)
    one, other = ReturnScale(SPEC, 0.99), ReturnScale(SPEC, 0.99)
    one.take_in(rewards(reward, first, valid))
    other.take_in(rewards(reward * unit, first, valid))
    torch.testing.assert_close(reward * unit * other.scale, reward * one.scale)


def test_a_number_stays_as_it_is_and_is_saved_nowhere() -> None:
    scale = ReturnScale(SPEC, 0.9, np.array([0.5, 2.0]))
    scale.take_in(rewards(torch.ones(2, 4, 3), torch.zeros(2, 4, 3) > 0, torch.ones(2, 4, 3) > 0))
    assert scale.scale.flatten().tolist() == [0.5, 2.0] and scale.state() == {}


@pytest.mark.parametrize("word", ["atuo", "1,0", "mean"])
def test_only_one_word_may_stand_for_the_number(word: str) -> None:
    with pytest.raises(ConfigError, match=r"reward_scale is .* must be a number above 0, or auto"):
        compose(["algo=dqn", f"algo.reward_scale='{word}'"])


@pytest.mark.parametrize("algo", ["dqn", "sac", "td3", "lstm_dqn"])
def test_replicas_scale_as_lone_runs_do_and_resume_is_exact(algo: str, tmp_path: Path) -> None:
    small = [f"algo={algo}", "algo.reward_scale=auto", "total_steps=400", "algo.learning_starts=64"]
    small += ["algo.batch_size=8", "num_envs=2", "algo.train_every=4", "eval.episodes=2", "eval.during=2"]
    small += ["log.tensorboard=false", "log.plot=false"]
    config = compose([*small, "replicas=2"])
    whole, lone = Trial.of(config), Trial.of(compose([*small, "seed=2"]))
    whole.train(60)
    lone.train(60)
    state = {name: leaf.clone() for name, leaf in whole.algo.state().items()}
    scales = [name for name in state if "return_scale.norm.scale" in name]
    assert scales and all((state[name] != 1).all() for name in scales)
    torch.testing.assert_close(state[scales[0]][1:], lone.algo.state()[scales[0]])
    again = Trial.of(config)
    again.algo.load_state(state)
    assert all(torch.equal(leaf, state[name]) for name, leaf in again.algo.state().items())
    done = run([*small, f"out={tmp_path}"], quiet=True)
    assert resume(done.folder).summary == done.summary
