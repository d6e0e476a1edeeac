"""What an environment may not change in the process that it runs in."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def staying() -> Iterator[None]:
    """Whatever an environment does, the working directory and PyTorch's gradients stay as they are.

    Paths of the run are relative to the one, and its losses need the others.
    """
    here, torch = os.getcwd(), sys.modules.get("torch")
    graded = torch is None or torch.is_grad_enabled()
    try:
        yield
    finally:
        if os.getcwd() != here:
            os.chdir(here)
        torch = sys.modules.get("torch")  # perhaps it was the environment that imported it
        if torch is not None and torch.is_grad_enabled() != graded:
            torch.set_grad_enabled(graded)
