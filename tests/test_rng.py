"""Random streams: independent by seed and purpose, restorable, and distributed as they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlrun.rng import Stream, child, keys, uniforms


@given(
    st.lists(st.integers(0, 2**63), min_size=1, max_size=5),
    st.lists(st.integers(1, 40), min_size=1, max_size=8),
)
@settings(max_examples=60, deadline=None)
def test_replica_draws_what_a_lone_run_draws(seeds: list[int], sizes: list[int]) -> None:
    """Whatever the number of replicas and the sizes of draws; blocks are refilled on the way."""
    batch, lone = Stream(seeds, "x"), Stream(seeds[-1:], "x")
    for n in sizes:
        assert torch.equal(batch.uniform(n)[-1:], lone.uniform(n))
    assert (batch.counter == sum(sizes)).all() and (lone.counter == sum(sizes)).all()


def test_draws_do_not_depend_on_how_they_are_cut() -> None:
    one, many = Stream([1, 2], "x"), Stream([1, 2], "x")
    pieces = [many.uniform(n) for n in (1, 70_000, 3, 17, 200_000)]  # beyond a block
    assert torch.equal(one.uniform(270_021), torch.cat(pieces, 1))


def test_shapes() -> None:
    stream = Stream([1, 2, 3], "x")
    assert stream.uniform(4, 5).shape == (3, 4, 5)
    assert stream.uniform().shape == (3,)
    assert stream.normal(2).dtype == torch.float64
    assert (stream.counter == 4 * 5 + 1 + 2).all()


def test_counter_restores_the_position() -> None:
    stream = Stream([3, 4], "x")
    stream.uniform(1000)
    saved = {name: leaf.clone() for name, leaf in stream.state().items()}
    expected = stream.normal(50)
    fresh = Stream([3, 4], "x")
    fresh.uniform(7)
    fresh.load_state(saved)
    assert torch.equal(fresh.normal(50), expected)


def test_counters_of_replicas_may_differ() -> None:
    stream, lone = Stream([3, 4], "x"), Stream([4], "x")
    stream.counter = np.array([5, 100])
    lone.counter = np.array([100])
    assert torch.equal(stream.uniform(10)[1:], lone.uniform(10))
    assert stream.counter.tolist() == [15, 110]


def test_state_of_another_number_of_replicas_is_refused() -> None:
    with pytest.raises(ValueError, match="replicas"):
        Stream([1, 2], "x").load_state(Stream([1], "x").state())


def test_seeds_and_purposes_are_independent() -> None:
    draws = [Stream([seed], purpose).uniform(4096)[0] for seed in (0, 1, 2**32) for purpose in ("a", "b")]
    correlation = np.corrcoef(torch.stack(draws).numpy())
    assert np.abs(correlation - np.eye(len(draws))).max() < 0.08
    assert len({float(d[0]) for d in draws}) == len(draws)


def test_children_are_independent() -> None:
    key = child(keys([1], "env")[:, None], np.arange(256))  # neighbours in index
    draws = uniforms(key.reshape(-1, 1), np.arange(256))
    correlation = np.corrcoef(draws)
    assert np.abs(correlation - np.eye(256)).max() < 0.35  # 5.5 standard errors
    assert len(np.unique(key)) == 256


def test_open_interval() -> None:
    """Even the extreme bit patterns stay inside (0, 1): log and the inverse normal stay finite."""
    bits = np.array([0, 2**64 - 1], np.uint64)
    values = (bits >> np.uint64(12)).astype(np.float64) * 2.0**-52 + 2.0**-53
    assert values[0] > 0.0 and values[1] < 1.0
    draw = Stream([0], "x").uniform(1 << 20)
    assert 0.0 < float(draw.min()) < 1e-5 and 1.0 - 1e-5 < float(draw.max()) < 1.0


def test_uniformity() -> None:
    """Chi-squared over 100 cells: 99 degrees of freedom, deviation 14."""
    draws = Stream([5], "x").uniform(1 << 18).numpy()[0]
    count = np.histogram(draws, 100, (0, 1))[0]
    expected = draws.size / 100
    assert 45 < ((count - expected) ** 2 / expected).sum() < 170
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.01


def test_normal_moments() -> None:
    draws = Stream([5], "x").normal(1 << 18)[0]
    assert abs(float(draws.mean())) < 0.01
    assert abs(float(draws.var()) - 1.0) < 0.01
    assert abs(float((draws**3).mean())) < 0.03
    assert abs(float((draws**4).mean()) - 3.0) < 0.1


def test_gumbel_samples_softmax() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)
    picks = (logits + Stream([5], "x").gumbel(100_000, 3)[0]).argmax(-1)
    share = torch.bincount(picks, minlength=3) / len(picks)
    assert torch.allclose(share.double(), logits.softmax(0), atol=0.006)


@given(st.integers(1, 2**40))
@settings(max_examples=100, deadline=None)
def test_integers_are_below_high(high: int) -> None:
    draws = Stream([high], "x").integers(high, 64)
    assert draws.dtype == torch.int64 and int(draws.min()) >= 0 and int(draws.max()) < high


def test_the_largest_uniform_never_rounds_up_to_high() -> None:
    high = np.concatenate([np.arange(1, 5000), 2 ** np.arange(1, 52), 2 ** np.arange(1, 52) + 1]).astype(
        float
    )
    assert ((1.0 - 2.0**-53) * high < high).all()


def test_integers_are_uniform() -> None:
    count = torch.bincount(Stream([5], "x").integers(6, 60_000)[0])
    assert count.shape == (6,) and (count - 10_000).abs().max() < 500


def test_permutation() -> None:
    order = Stream([1, 2], "x").permutation(50)
    assert torch.equal(order.sort(-1).values, torch.arange(50).expand(2, 50))
    assert not torch.equal(order[0], order[1])
