"""What every test relies on: one thread, so that timings and bits are those of a run.

Recorded functions are held against the plain ones again and again, in subprocesses too.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported
os.environ.setdefault("RLRUN_CHECK", "1")

import torch

torch.set_num_threads(1)
