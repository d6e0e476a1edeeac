"""What algorithms that go down a gradient share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlrun import nn
from rlrun.config import key
from rlrun.parts.schedules import Schedule, schedule


@dataclass
class AdamConfig:
    """How an optimiser is set; the step sizes themselves stand in what inherits from this."""

    lr_schedule: str = key("how learning rates fall to 0 over the run", choices=("linear", "constant"))
    adam_eps: float = key("Adam's epsilon", above=0, per_replica=True)
    max_grad_norm: float | None = key("gradient clipping, per replica; null: none", above=0, per_replica=True)
    clip: str = key("clip by the global norm, or each element by value", choices=("norm", "value"))

    def adam(self, modules: Any) -> Any:
        """An optimiser of these modules' parameters."""
        return nn.Adam(modules, eps=self.adam_eps, max_grad_norm=self.max_grad_norm, clip=self.clip)

    def rate(self, start: float, total_steps: int) -> Schedule:
        """The step size [R] by env steps [R], from `start`."""
        return schedule(self.lr_schedule, start, 0.0, total_steps)

    def planned(self, rate: Schedule, step: np.ndarray) -> dict[str, np.ndarray]:
        """The step size [R] for who watches, where it changes."""
        return {} if self.lr_schedule == "constant" else {"train/learning_rate": rate(step)}


@dataclass
class GradientConfig(AdamConfig):
    learning_rate: float = key("Adam's step size at the start", above=0, per_replica=True)
