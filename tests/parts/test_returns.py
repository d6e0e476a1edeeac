"""Returns and advantages: arrays worked out by hand, and a slow reference on random episodes."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlrun.parts.returns import discounted, gae, n_step
from rlrun.parts.sequences import explained_variance


def column(values: list[float]) -> torch.Tensor:
    """Numbers in time order as [1, T, 1], float64."""
    return torch.tensor(values, dtype=torch.float64).view(1, -1, 1)


def flags(values: list[int]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.bool).view(1, -1, 1)


def listed(tensor: torch.Tensor) -> list[float]:
    return tensor.view(-1).tolist()


def test_n_step_by_hand() -> None:
    """Two episodes: one terminates at t = 1, the next is cut by the clock at t = 4."""
    reward = column([1, 2, 4, 8, 16, 32])
    terminated, truncated = flags([0, 1, 0, 0, 0, 0]), flags([0, 0, 0, 0, 1, 0])
    total, discount, last = n_step(reward, terminated, truncated, 0.5, 3)
    assert listed(total) == [1 + 1, 2, 4 + 4 + 4, 8 + 8, 16, 32]
    assert listed(discount) == [0, 0, 0.125, 0.25, 0.5, 0.5]  # gamma to the steps taken; 0 where terminated
    assert listed(last) == [1, 1, 4, 4, 4, 5]


def test_one_step_is_the_plain_target() -> None:
    total, discount, last = n_step(column([1, 2]), flags([0, 1]), flags([0, 0]), 0.9, 1)
    assert (listed(total), listed(discount), listed(last)) == ([1, 2], [0.9, 0], [0, 1])


def test_gae_by_hand() -> None:
    reward, value, after = column([1, 1, 1]), column([0.5, 1, 2]), column([1, 4, 3])
    # gamma 0.5, lambda 0.5; t = 1 is truncated: it bootstraps from its true successor, worth 4
    terminated, ended = flags([0, 0, 1]), flags([0, 1, 1])
    advantage = gae(reward, value, after, terminated, ended, 0.5, 0.5)
    delta = [1 + 0.5 - 0.5, 1 + 2 - 1, 1 - 2]
    assert listed(advantage) == [delta[0] + 0.25 * delta[1], delta[1], delta[2]]


def test_discounted_by_hand() -> None:
    assert listed(discounted(column([1, 2, 4, 8]), flags([0, 1, 0, 0]), 0.5)) == [2, 2, 8, 8]


episodes = st.integers(1, 12).flatmap(
    lambda steps: st.tuples(
        st.lists(st.floats(-10, 10, width=32), min_size=steps, max_size=steps),
        st.lists(st.sampled_from(["on", "on", "terminated", "truncated"]), min_size=steps, max_size=steps),
        st.lists(st.floats(-10, 10, width=32), min_size=2 * steps, max_size=2 * steps),
    )
)


@given(episodes, st.integers(1, 6), st.floats(0, 1), st.data())
@settings(max_examples=150, deadline=None)
def test_n_step_is_the_slow_reference(episode: tuple, n: int, gamma: float, data: st.DataObject) -> None:
    rewards, ends, _ = episode
    steps = len(rewards)
    starts = data.draw(st.integers(1, steps))
    terminated, truncated = (flags([int(e == kind) for e in ends]) for kind in ("terminated", "truncated"))
    total, discount, last = n_step(column(rewards), terminated, truncated, gamma, n, starts)
    assert total.shape == discount.shape == last.shape == (1, starts, 1)
    for t in range(starts):
        value, factor, k = 0.0, 1.0, t
        while True:
            value += factor * rewards[k]
            factor *= gamma
            if ends[k] != "on" or k + 1 == min(t + n, steps):
                break
            k += 1
        assert int(last[0, t, 0]) == k
        np.testing.assert_allclose(float(total[0, t, 0]), value, atol=1e-9)
        np.testing.assert_allclose(
            float(discount[0, t, 0]), 0.0 if ends[k] == "terminated" else factor, atol=1e-12
        )


@given(episodes, st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=150, deadline=None)
def test_gae_is_the_slow_reference(episode: tuple, gamma: float, lam: float) -> None:
    """Equal to the weighted sum of TD errors up to the episode's end, and float64 throughout."""
    rewards, ends, values = episode
    steps = len(rewards)
    value, after = values[:steps], values[steps:]
    terminated, ended = (
        flags([int(e in kinds) for e in ends]) for kinds in (("terminated",), ("terminated", "truncated"))
    )
    advantage = gae(column(rewards), column(value), column(after), terminated, ended, gamma, lam)
    assert advantage.dtype == torch.float64
    togo = discounted(column(rewards), ended, gamma)
    for t in range(steps):
        total, returns, weight, discount = 0.0, 0.0, 1.0, 1.0
        for k in range(t, steps):
            total += weight * (rewards[k] + gamma * after[k] * (ends[k] != "terminated") - value[k])
            returns += discount * rewards[k]
            weight, discount = weight * gamma * lam, discount * gamma
            if ends[k] != "on":
                break
        np.testing.assert_allclose(float(advantage[0, t, 0]), total, atol=1e-9)
        np.testing.assert_allclose(float(togo[0, t, 0]), returns, atol=1e-9)


def test_replicas_and_envs_do_not_mix() -> None:
    """Every column of [R, T, N] alone gives the same numbers."""
    generator = torch.Generator().manual_seed(0)
    reward = torch.rand(3, 7, 2, generator=generator, dtype=torch.float64)
    terminated = torch.rand(3, 7, 2, generator=generator) < 0.2
    truncated = torch.rand(3, 7, 2, generator=generator) < 0.2
    whole = n_step(reward, terminated, truncated, 0.9, 3)
    for r in range(3):
        for e in range(2):
            cut = (slice(r, r + 1), slice(None), slice(e, e + 1))
            alone = n_step(reward[cut], terminated[cut], truncated[cut], 0.9, 3)
            assert all(torch.equal(a[cut], b) for a, b in zip(whole, alone, strict=True))


def test_explained_variance_by_hand() -> None:
    """Of valid steps alone: targets 1 and 5 have the variance 4; of one replica's a quarter is left."""
    target = torch.tensor([[[1.0], [5.0], [99.0]], [[2.0], [2.0], [7.0]]])  # [R, T, N]
    error = torch.tensor([[[0.0], [2.0], [50.0]], [[1.0], [3.0], [0.0]]])
    valid = torch.tensor([[[True], [True], [False]]] * 2)
    assert explained_variance(error, target, valid).tolist() == [0.75, 0.0]  # the other's are all the same
    assert explained_variance(0.0 * error, target, valid).tolist() == [1.0, 0.0]
