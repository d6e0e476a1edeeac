"""What every test relies on: one thread, the `slow` mark, and quiet runs in folders of their own."""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, so that timings and bits are those of a run

import pytest
import torch

torch.set_num_threads(1)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes a while; left out by `-m 'not slow'`")
    # A loss of [B] against [B, 1] broadcasts to [B, B]: PyTorch only warns.
    config.addinivalue_line("filterwarnings", "error:Using a target size")
