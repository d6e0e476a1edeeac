"""What happens around the loop: the means of metrics between records."""

from __future__ import annotations

import numpy as np
import torch

from rlrun.runs.means import Means


def test_a_mean_is_over_all_updates_whatever_else_they_reported() -> None:
    """An algorithm may report one tag at every update, and others only now and then."""
    means = Means(2)
    assert means.add({"loss/a": torch.tensor([1.0, 2.0]), "loss/b": torch.tensor([1.0, 1.0])}) is None
    assert means.add({"loss/a": torch.tensor([3.0, 4.0])}) is None
    first = means.take(np.array([True, False]))
    assert first["loss/a"].tolist() == [2.0, 3.0] and first["loss/b"].tolist() == [1.0, 1.0]
    means.add({"loss/a": torch.tensor([5.0, 6.0])})
    second = means.take(np.array([True, True]))  # the first replica's began anew
    assert second["loss/a"].tolist() == [5.0, 4.0]
    assert np.isnan(second["loss/b"][0]) and second["loss/b"][1] == 1.0


def test_what_is_not_finite_is_told_and_left_out() -> None:
    means = Means(2)
    bad = means.add({"loss/a": torch.tensor([torch.nan, 2.0])})
    assert bad is not None and bad.tolist() == [True, False]
    found = means.take(np.array([True, True]))["loss/a"]
    assert np.isnan(found[0]) and found[1] == 2.0
