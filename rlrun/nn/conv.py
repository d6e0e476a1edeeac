"""Convolutions over pictures with a replica axis: one grouped product serves all replicas.

Which axis of a picture holds the channels is told from its shape, as in Gymnasium's own
environments: [H, W], [H, W, C] (colours) or [C, H, W] (stacked frames), C the smaller.
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
        if len(shape) not in (2, 3):
            raise ConfigError(
                f"model: convolutions read pictures, and these observations have shape {list(shape)}",
                "use model=mlp or model=lstm",
            )
        self._shape = shape if len(shape) == 3 else (*shape, 1)
        self._channels_last = len(shape) == 2 or shape[2] <= shape[0]
        height, width, channels = self._shape if self._channels_last else (*self._shape[1:], self._shape[0])
        self._pixels = math.prod(shape)
        gain = math.sqrt(2.0) if init.kind == "orthogonal" else 1.0
        self._strides, self._activation = [kernel.stride for kernel in kernels], ACTIVATIONS[activation]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for kernel in kernels:
            fan = channels * kernel.size**2
            weight = init.matrix(fan, kernel.channels, fan=fan, gain=gain)  # [R, fan, out]
            shaped = weight.mT.reshape(-1, kernel.channels, channels, kernel.size, kernel.size)
            self.weights.append(nn.Parameter(shaped.contiguous()))
            self.biases.append(nn.Parameter(init.bias(kernel.channels, fan=fan, gain=gain)))
            if kernel.size > min(height, width):
                raise ConfigError(
                    f"model.kernels has {kernel.size}, and only {height} x {width} pixels reach that layer",
                    f"the pictures are {list(shape)}: use smaller kernels and strides, or fewer layers",
                )
            height, width = ((n - kernel.size) // kernel.stride + 1 for n in (height, width))
            channels = kernel.channels
        self.out_features = channels * height * width + in_features - self._pixels

    def forward(self, x: Tensor) -> Tensor:
        R, rows = x.shape[:2]
        picture = x[..., : self._pixels].reshape(R, rows, *self._shape).transpose(0, 1)
        if self._channels_last:
            picture = picture.permute(0, 1, 4, 2, 3)
        y = picture.reshape(rows, -1, *picture.shape[3:])  # [rows, R * C, H, W]
        for weight, bias, stride in zip(self.weights, self.biases, self._strides, strict=True):
            y = torch.conv2d(y, weight.flatten(0, 1), bias.flatten(), stride, groups=R)
            y = self._activation(y)
        y = y.view(rows, R, -1).transpose(0, 1)
        return torch.cat((y, x[..., self._pixels :]), -1)
