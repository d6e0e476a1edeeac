"""What every test relies on: one thread, so that timings and bits are those of a run."""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import torch

torch.set_num_threads(1)
