"""Convolutions over pictures with a replica axis: one grouped product serves all replicas.

Which axes of a picture are its rows and columns is told from its shape: [H, W], [H, W, C]
(colours) or [C, H, W] (stacked frames), and either of the last two stacked, [K, H, W, C]. H and
W are the two that are alike; where that does not tell, C is the smaller, and the last if none is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rlrun.config import ConfigError
from rlrun.nn.linear import ACTIVATIONS, Init


class Kernel(NamedTuple):
    """One layer: `size` x `size` patches, every `stride` pixels, to `channels` features each."""

    channels: int
    size: int
    stride: int


class Conv(nn.Module):
    """Layers of convolutions without padding, an activation after each; flat in, flat out.

    [R, rows, F] -> [R, rows, out]: the first features are the picture, those behind it
    (a critic's action, the previous action) are passed on as they are.
    """

    def __init__(
        self, shape: tuple[int, ...], in_features: int, kernels: Sequence[Kernel], activation: str, init: Init
    ) -> None:
        """`shape` is that of one picture.

        Raises:
            ConfigError: it is no picture, or too small for the layers.
        """
        super().__init__()
        if len(shape) not in (2, 3, 4):
            raise ConfigError(
                f"model: convolutions read pictures, and these observations have shape {list(shape)}",
                "use model=mlp or model=lstm",
            )
        h = rows_axis(shape)
        height, width = shape[h : h + 2]
        needed = smallest(kernels)
        if min(height, width) < needed:
            raise ConfigError(
                f"model: these convolutions need pictures of at least {needed} x {needed} pixels, and those "
                f"of shape {list(shape)} have {height} x {width}",
                "use smaller model.kernels and model.strides, or fewer; model=cnn is sized for small ones",
            )
        self._shape, self._pixels = shape, math.prod(shape)
        self._size, channels = (height, width), self._pixels // (height * width)
        # [R, rows, *shape] -> [rows, R, *channels, H, W]
        others = [axis for axis in range(len(shape)) if axis not in (h, h + 1)]
        self._order = (1, 0, *(2 + axis for axis in (*others, h, h + 1)))
        gain = math.sqrt(2.0) if init.kind == "orthogonal" else 1.0
        self._strides, self._activation = [kernel.stride for kernel in kernels], ACTIVATIONS[activation]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for kernel in kernels:
            fan = channels * kernel.size**2
            weight = init.matrix(fan, kernel.channels, fan=fan, gain=gain)  # [R, fan, out]
            shaped = weight.mT.reshape(-1, kernel.channels, channels, kernel.size, kernel.size)
            self.weights.append(nn.Parameter(shaped.contiguous()))
            self.biases.append(nn.Parameter(init.bias(kernel.channels, fan=fan, gain=gain)))
            height, width = ((n - kernel.size) // kernel.stride + 1 for n in (height, width))
            channels = kernel.channels
        self.out_features = channels * height * width + in_features - self._pixels

    def forward(self, x: Tensor) -> Tensor:
        R, rows = x.shape[:2]
        picture = x[..., : self._pixels].reshape(R, rows, *self._shape).permute(self._order)
        y = picture.reshape(rows, -1, *self._size)  # [rows, R * C, H, W]
        for weight, bias, stride in zip(self.weights, self.biases, self._strides, strict=True):
            y = torch.conv2d(y, weight.flatten(0, 1), bias.flatten(), stride, groups=R)
            y = self._activation(y)
        # Not a view: of channels that came last, a lone replica's still lie last in memory.
        y = y.reshape(rows, R, -1).transpose(0, 1)
        return torch.cat((y, x[..., self._pixels :]), -1)


def rows_axis(shape: tuple[int, ...]) -> int:
    """The axis of a picture that counts its rows of pixels; that of its columns follows."""
    if len(shape) == 2:
        return 0
    a, b, c = shape[-3:]
    channels_last = a == b if (a == b) != (b == c) else c <= a
    return len(shape) - (3 if channels_last else 2)


def smallest(kernels: Sequence[Kernel]) -> int:
    """The fewest pixels across that leave the last layer one to give."""
    pixels = 1
    for kernel in reversed(kernels):
        pixels = (pixels - 1) * kernel.stride + kernel.size
    return pixels
