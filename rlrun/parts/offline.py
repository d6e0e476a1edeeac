"""What algorithms that learn from logged steps only share: how minibatches are drawn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from rlrun.config import ConfigError
from rlrun.core import MASKS, Dataset, Rollout, Spec
from rlrun.lazy import torch
from rlrun.rng import Stream
from rlrun.spaces import Space

if TYPE_CHECKING:
    from torch import Tensor


class LoggedReplay:
    """A data set as replay: it draws what a `Replay` that holds the same steps would draw.

    One copy of the steps serves all replicas, and no checkpoint holds them.
    """

    def __init__(self, data: Dataset, spec: Spec, length: int) -> None:
        """Sequences will have `length` steps.

        Raises:
            ConfigError: the data have fewer steps, or lack the action masks that the env has.
        """

        def numbers(array: np.ndarray, space: Space | None = None) -> Tensor:
            kind = spec.dtype if space is None or space.dtype.startswith("float") else space.dtype
            return torch.from_numpy(array).to(spec.device, getattr(torch, kind))

        flags = {name: getattr(data, name) for name in ("terminated", "truncated", "first")}
        flags["valid"] = np.ones_like(data.first)
        self.steps: dict[str, Any] = {
            name: torch.from_numpy(flag).to(spec.device) for name, flag in flags.items()
        }
        if spec.masks:
            columns = sum(spec.action.choices)
            if data.mask is None or data.next_mask is None or data.mask.shape[1:] != (columns,):
                raise ConfigError(
                    f"the data have no action masks of {columns} columns, and this environment has them",
                    "record the steps in it: rlrun record RUN",
                )
            self.steps |= {name: torch.from_numpy(getattr(data, name)).to(spec.device) for name in MASKS}
        self.steps["obs"] = numbers(data.obs, spec.obs)
        self.steps["next_obs"] = numbers(data.next_obs, spec.obs)
        self.steps["action"] = numbers(data.action, spec.action)
        self.steps["reward"] = numbers(data.reward)
        self.replicas, self.length = spec.replicas, length
        self.starts = len(data.reward) - length + 1
        if self.starts < 1:
            raise ConfigError(
                f"a sequence has {length} steps, and the data have {len(data.reward)}",
                "lower algo.n_step, algo.sequence_length or algo.burn_in, or choose longer data",
            )

    def in_order(self, size: int = 4096) -> Iterator[Rollout]:
        """All steps from the first to the last, so many at a time, [R, T, 1, ...]; not copies."""
        views = {name: leaf[None, :, None] for name, leaf in self.steps.items()}
        whole: dict[str, Any] = {
            name: view.expand(self.replicas, *view.shape[1:]) for name, view in views.items()
        }
        for begin in range(0, self.starts + self.length - 1, size):
            yield Rollout(**{name: leaf[:, begin : begin + size] for name, leaf in whole.items()})

    def sample(self, batch_size: int, rng: Stream) -> Rollout:
        """B sequences of consecutive steps per replica, [R, L, B, ...]."""
        begin = (rng.numbers(1, batch_size) * self.starts).astype(np.int64)  # [R, 1, B]
        steps = torch.from_numpy(begin + np.arange(self.length)[:, None]).to(self.steps["reward"].device)
        return Rollout(**{name: leaf[steps] for name, leaf in self.steps.items()})
