"""Elements of a space as the features that a network reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlrun.config import ConfigError
from rlrun.spaces import Box, Discrete, MultiDiscrete, Space, size


def picture_of(space: Space) -> tuple[int, ...]:
    """The shape of the picture that an observation's first features are, or of all where there is none.

    Raises:
        ConfigError: there are several.
    """
    pictures = [part.name for part in getattr(space, "parts", ()) if part.is_picture]
    if len(pictures) > 1:
        raise ConfigError(
            f"model: convolutions read one picture, and these observations have {', '.join(pictures)}",
            "keep one by env.wrappers=[{FilterObservation: {filter_keys: [...]}}], or use model=mlp",
        )
    return getattr(space, "picture", ()) or space.shape


class Encoding:
    """Elements of a space as rows of features: [R, ..., *shape] -> [R, rows, F].

    Boxes are flattened, bytes and pictures are scaled to 0 .. 1 by their bounds, integers become one-hot.
    """

    def __init__(self, space: Space, dtype: torch.dtype, device: torch.device) -> None:
        self.size, self.dtype, self.device, self.shape = size(space), dtype, device, space.shape
        self.scale: Any = None
        self.offset: Any = None
        if isinstance(space, Box) and (scaling := space.scaling) is not None:
            offset, scale = scaling[0], 1.0 / scaling[1]
            self.scale = self._numbers(scale)
            self.offset = self._numbers(offset) if offset.any() else None
        self.classes: Tensor | None = None
        self.columns: Tensor | None = None
        if isinstance(space, Discrete):
            self.classes = torch.arange(space.n, device=device)
        elif isinstance(space, MultiDiscrete):
            sizes = torch.tensor(space.nvec)
            self.columns = torch.arange(len(sizes)).repeat_interleave(sizes).to(device)
            self.classes = torch.cat([torch.arange(n) for n in space.nvec]).to(device)

    def __call__(self, values: Tensor) -> Tensor:
        if self.classes is None:
            x = values.reshape(values.shape[0], -1, self.size)
            if x.dtype != self.dtype:
                x = x.to(self.dtype)
            if self.offset is not None:
                x = x - self.offset
            return x if self.scale is None else x * self.scale
        if self.columns is None:
            return (values.reshape(len(values), -1, 1) == self.classes).to(self.dtype)
        rows = values.reshape(len(values), -1, self.shape[0])
        return (rows[..., self.columns] == self.classes).to(self.dtype)

    def _numbers(self, each: np.ndarray) -> Any:
        """One number per feature, or one for all where they are alike."""
        same = bool((each == each[0]).all())
        return float(each[0]) if same else torch.from_numpy(each).to(self.device, self.dtype)

    def zeros(self, *lead: int) -> Tensor:
        dtype = self.dtype if self.classes is None else torch.int64
        return torch.zeros(*lead, *self.shape, dtype=dtype, device=self.device)
