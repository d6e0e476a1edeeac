"""What a position earns and costs: as a share of the account, or as a number of contracts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Account:
    """The arithmetic of one kind of account; every array is [M], money in the price's currency."""

    start: float  # the equity that it begins with
    gain: Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    """(position, price before, price after, equity) -> money"""
    cost: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    """(moved, price, equity) -> money, of moving the position by so much"""
    score: Callable[[np.ndarray, np.ndarray], np.ndarray]
    """(equity before, equity after) -> what a step adds to the score"""


def share(cost: float, fee: float) -> Account:
    """A position is a share of the equity, held there whatever the price does; from 1, prices > 0.

    Keeping the share means trading a little at every row, which is not charged: a short that
    loses is made smaller for nothing. The score is the log growth of the account.
    """
    return Account(
        1.0,
        lambda position, before, after, equity: equity * position * (after / before - 1.0),
        lambda moved, price, equity: moved * equity * (cost + fee / price),
        lambda before, after: np.log(after / before),
    )


def fixed(cost: float, fee: float, unit: float, capital: float) -> Account:
    """A position is a number of contracts of `unit` of the priced thing; any price, 0 and below too.

    The score is the money earned per unit of the thing.
    """
    return Account(
        capital,
        lambda position, before, after, equity: unit * position * (after - before),
        lambda moved, price, equity: unit * moved * (cost * np.abs(price) + fee),
        lambda before, after: (after - before) / unit,
    )
