"""torch, imported at first use.

Importing it takes 1.5 CPU seconds. `rlrun list`, `--help` and every refusal of a bad config
must answer in a fraction of that, yet an algorithm's config and its mathematics belong in
one file. So files that hold a config say `from rlrun.lazy import torch`, and pay for it when
they first touch it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
else:

    class _Lazy:
        def __init__(self, name: str) -> None:
            self._name = name

        def __getattr__(self, attribute: str) -> Any:
            value = getattr(importlib.import_module(self._name), attribute)
            setattr(self, attribute, value)  # the next access is an ordinary attribute
            return value

    torch = _Lazy("torch")

__all__ = ["torch"]
