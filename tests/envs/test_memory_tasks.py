"""Tasks that need memory, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from native_envs import (
    make,
    seeds,
)


@pytest.mark.parametrize("delay", [1, 20])
def test_recall_by_hand(delay: int) -> None:
    """The cue is seen once, the question `delay` steps later, and only that action counts."""
    env = make("recall", 64, f"delay={delay}")
    obs, _ = env.reset(seed=seeds(64))
    cue = obs[:, 0].copy()
    assert set(cue) == {-1.0, 1.0} and (obs[:, 1] == 0).all() and abs(cue.mean()) < 0.4
    for t in range(1, delay + 1):
        obs, reward, terminated, truncated, _ = env.step(np.full(64, t % 2))
        assert (obs == [0.0, t == delay]).all() and not reward.any() and not (terminated | truncated).any()
    _, reward, terminated, _, _ = env.step(np.ones(64, np.int64))
    assert terminated.all() and (reward == cue).all()
    env = make("recall_continuous", 2, f"delay={delay}")
    cue = env.reset(seed=seeds(2))[0][:, :1]
    answers = [0.0 * cue] * delay + [0.5 * cue]
    assert [env.step(answer)[1].tolist() for answer in answers] == [[0.0, 0.0]] * delay + [[0.5, 0.5]]


def test_catch_by_hand() -> None:
    env = make("catch", 32, "rows=4", "columns=3")
    obs, _ = env.reset(seed=seeds(32))
    assert obs.shape == (32, 4, 3, 1) and obs.dtype == np.uint8 and (obs[:, 3, :, 0] == [0, 255, 0]).all()
    ball = obs[:, 0, :, 0].argmax(1)
    assert set(ball.tolist()) == {0, 1, 2}
    for row in (1, 2):
        obs, reward, terminated, _, _ = env.step(np.where(ball == 2, 2, 1))
        assert (obs[:, row, :, 0].argmax(1) == ball).all() and not reward.any() and not terminated.any()
    obs, reward, terminated, _, _ = env.step(np.ones(32, np.int64))
    np.testing.assert_array_equal(reward, np.where(ball == 0, -1.0, 1.0))  # nobody went left
    assert terminated.all()
