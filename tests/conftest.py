"""What every test relies on: one thread, so that timings and bits are those of a run.

Recorded functions are held against the plain ones again and again where every algorithm is tried, with
every memory, with numbers of its own in each replica, and in folds: it takes a sixth of a training's time.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import pytest
import torch

torch.set_num_threads(1)

CHECKED = {
    "algos", "evals", "nn", "test_contract.py", "test_masks.py", "test_matrix.py", "test_testing.py",
    "test_variants.py",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _recorded_is_plain(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if CHECKED & {request.path.name, request.path.parent.name}:
        monkeypatch.setenv("RLRUN_CHECK", "1")
