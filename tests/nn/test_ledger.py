"""What tensors would take is what they take, and counting it takes nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rlrun import nn
from rlrun.config.compose import compose
from rlrun.nn import ledger as ledgers
from rlrun.nn.ledger import Ledger
from rlrun.rng import Stream, sparing
from rlrun.runs.task import Task, build


def held(overrides: list[str], *, shapes: bool) -> int:
    """Bytes that an algorithm holds once it is built."""
    config = compose(overrides)
    ledger = Ledger(shapes=shapes)
    with ledger:
        algo = build(config, replace(Task.of(config).spec(), seeds=(1,)))
        assert algo.rollout_steps >= 0
        return ledger.live


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize("recipe", ["dqn", "lstm_ppo", "gru_dqn", "sac", "q_learning", "cem", "ucb", "gail"])
def test_shapes_alone_tell_as_much_as_the_tensors(recipe: str) -> None:
    really = held([f"algo={recipe}"], shapes=False)
    assert held([f"algo={recipe}"], shapes=True) == pytest.approx(really, rel=1e-3) and really > 0


def test_what_is_held_is_counted_and_what_was_freed_is_not() -> None:
    ledger = Ledger(shapes=False)
    before = torch.zeros(1000)
    with ledger:
        kept = torch.zeros(10, 100)
        view = kept.T[:50]
        view += before[:10]
        del view
        torch.ones(5000)
        assert ledger.live == 4000
        assert ledger.most() == 24_000
        assert ledger.most() == 4000  # since it was last asked


def test_counting_what_is_large_takes_no_memory() -> None:
    counted = []

    def work(ledger: Ledger) -> None:
        with ledger:
            a = torch.zeros(50_000, 50_000)
            b = (a @ a + 1.0).relu()
            if bool((b > 0).any()) and b.sum().item() == 1:  # the number that stands for all
                counted.append((ledger.shapes, ledger.live, b.numpy().shape, b.mean().tolist()))

    before = resident()
    nn.count(work)
    assert counted == [(True, 20_000_000_000, (50_000, 50_000), 0.0)]
    assert resident() - before < 200_000_000


@pytest.mark.parametrize("make", [lambda: torch.arange(10**9), lambda: torch.zeros(9).repeat(10**9)])
def test_no_operation_takes_much_before_shapes_are_asked(make: object) -> None:
    before, modes = resident(), []

    def work(ledger: Ledger) -> None:
        modes.append(ledger.shapes)
        with ledger:
            make()  # type: ignore[operator]

    nn.count(work)
    assert modes == [False, True]
    assert resident() - before < 200_000_000


def test_what_goes_on_for_ever_is_left() -> None:
    ledger, rounds = Ledger(shapes=True, operations=100), 0
    with pytest.raises(ledgers._Enough), ledger:
        while (torch.zeros(3).sum() > -1).item():
            rounds += 1
    assert rounds < 100


def test_sizes_beyond_64_bits_are_said() -> None:
    with pytest.raises(MemoryError), Ledger(shapes=True):
        torch.zeros(2**62, 2**62)


def test_sparing_draws_no_large_blocks() -> None:
    with sparing(10**6) as drawn:
        small, large = Stream((1, 2), "x").numbers(20), Stream((1, 2), "x").numbers(10**12)
    assert np.array_equal(small, Stream((1, 2), "x").numbers(20))
    assert large.shape == (2, 10**12) and large[1, -1] == 0.5
    assert drawn == [2 * 10**12]
    with pytest.raises(MemoryError), sparing(10**6):
        Stream((1, 2), "x").numbers(2**62)
