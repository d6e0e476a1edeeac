"""The bandit testbed and the point, by hand."""

from __future__ import annotations

import numpy as np
from native_envs import (
    make,
    seeds,
)


def test_bandit_is_the_testbed() -> None:
    env = make("bandit", 2000)
    obs, _ = env.reset(seed=seeds(2000))
    means = env.state()["means"]
    assert means.shape == (2000, 10) and obs.shape == (2000,) and not obs.any()
    assert abs(means.mean()) < 0.03 and abs(means.std() - 1) < 0.03
    arms = np.arange(2000) % 10
    noise = []
    for _ in range(20):
        _, reward, terminated, truncated, info = env.step(arms)
        noise.append(reward - means[np.arange(2000), arms])
        assert not terminated.any() and not truncated.any()
        np.testing.assert_array_equal(info["optimal"], means.argmax(1) == arms)
        np.testing.assert_allclose(info["regret"], means.max(1) - means[np.arange(2000), arms])
    assert env.abilities.metrics == ("reward", "regret", "optimal") and env.abilities.sums == ("regret",)
    assert abs(np.mean(noise)) < 0.03 and abs(np.std(noise) - 1) < 0.02
    assert abs(np.corrcoef(noise[0], noise[1])[0, 1]) < 0.1  # anew at every step
    _, _, _, _, best = env.step(means.argmax(1))
    assert best["optimal"].all() and not best["regret"].any()


def test_bandit_options() -> None:
    env = make("bandit", 3, "arms=4", "mean=5", "spread=0", "noise=0")
    env.reset(seed=seeds(3))
    _, reward, _, _, info = env.step(np.array([0, 1, 3]))
    assert reward.tolist() == [5, 5, 5] and info["optimal"].tolist() == [1, 1, 1]  # all tie


def test_point_by_hand() -> None:
    """A tenth of the velocity a step, inside the square; the reward is minus the distance then left."""
    env, choosing = make("point", 2, "goal=[1,0]"), make("point_discrete", 5, "goal=[1,0]")
    for each in (env, choosing):
        each.reset(seed=0)
        state = each.state()
        state["place"][:] = [0.95, 0.5]
        each.load_state(state)
    obs, reward, *_ = env.step(np.array([[0.3, -1.0], [9.0, -9.0]], np.float32))
    np.testing.assert_allclose(obs, [[0.98, 0.4], [1.0, 0.4]], atol=1e-6)
    np.testing.assert_allclose(reward, [-np.hypot(0.02, 0.4), -0.4], atol=1e-6)
    obs, *_ = choosing.step(np.arange(5))  # stay, east, north, west, south
    np.testing.assert_allclose(obs, [[0.95, 0.5], [1, 0.5], [0.95, 0.6], [0.85, 0.5], [0.95, 0.4]], atol=1e-6)
