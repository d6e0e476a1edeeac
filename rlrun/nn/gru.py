"""Gated recurrent unit with a replica axis and resets.

Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical
machine translation" (2014), in the form that PyTorch and cuDNN compute. At each step,
where `first` is false or else from h = 0:

    reset  r = sigmoid(x Wr + h Ur + br)     new n = tanh(x Wn + bn + r (h Un + dn))
    update z = sigmoid(x Wz + h Uz + bz)     h = (1 - z) n + z h
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlrun.core import Memory
from rlrun.nn.linear import Init, tanh_


class GRU(nn.Module):
    """Stacked GRU layers; memory is the h of each layer, leaves [R, N, H]."""

    def __init__(self, in_features: int, hidden: int, layers: int, forget_bias: float, init: Init) -> None:
        super().__init__()
        self.out_features = hidden
        widths = [in_features] + [hidden] * (layers - 1)
        cells = [GRULayer(width, hidden, forget_bias, init) for width in widths]
        self.layers = nn.ModuleList(cells)
        self._layers = tuple(cells)  # quicker to read than a registered module

    def initial_memory(self, num_envs: int) -> Memory:
        """Zeros, as at the start of an episode."""
        return tuple(layer.initial_memory(num_envs) for layer in self._layers)

    def forward(self, x: Tensor, memory: Memory, first: Tensor) -> tuple[Tensor, Memory]:
        """x [R, T, N, I], memory before step 0, first [R, T, N] -> h [R, T, N, H], memory after."""
        x, memories = self.unroll(x, memory, first)
        return x, tuple(leaf[:, -1] for leaf in memories)

    def unroll(self, x: Tensor, memory: Memory, first: Tensor) -> tuple[Tensor, Memory]:
        """As `forward`, with the memory after every step: leaves [R, T, N, H]."""
        leaves: list[Tensor] = []
        for layer, h in zip(self._layers, memory, strict=True):
            x = layer(x, h, first)
            leaves.append(x)
        return x, tuple(leaves)

    def step(self, x: Tensor, memory: Memory, first: Tensor) -> tuple[Tensor, Memory]:
        """One step: x [R, N, I], first [R, N] -> h [R, N, H], memory after."""
        keep = (~first).to(x.dtype).unsqueeze(-1)
        leaves: list[Tensor] = []
        for layer, h in zip(self._layers, memory, strict=True):
            x = layer.step(x, h, keep)
            leaves.append(x)
        return x, tuple(leaves)


class GRULayer(nn.Module):
    """One layer; the columns of its parameters are reset, update, new: [R, I, 3H], [R, H, 3H], [R, 1, 3H].

    `forget_bias` is the update gate's: that gate is what keeps the old h. `bias_hidden`
    [R, 1, H] is dn, the only bias that the reset gate multiplies.
    """

    def __init__(self, in_features: int, hidden: int, forget_bias: float, init: Init) -> None:
        super().__init__()
        self.hidden = hidden
        bias = init.zeros(1, 3 * hidden)
        bias[..., hidden : 2 * hidden] = forget_bias
        self.weight_input = nn.Parameter(init.matrix(in_features, hidden, fan=hidden, blocks=3))
        self.weight_hidden = nn.Parameter(init.matrix(hidden, hidden, fan=hidden, blocks=3))
        self.bias = nn.Parameter(bias)
        self.bias_hidden = nn.Parameter(init.zeros(1, hidden))
        self._parameters_in_order = (self.weight_input, self.weight_hidden, self.bias, self.bias_hidden)

    def initial_memory(self, num_envs: int) -> Tensor:
        return self.bias.new_zeros(len(self.bias), num_envs, self.hidden)

    def forward(self, x: Tensor, h: Tensor, first: Tensor) -> Tensor:
        """x [R, T, N, I], h [R, N, H], first [R, T, N] -> h [R, T, N, H]."""
        R, T, N, _ = x.shape
        weight_input, _, bias, _ = self._parameters_in_order
        inputs = torch.baddbmm(bias, x.reshape(R, T * N, -1), weight_input).view(R, T, N, -1)
        keep = (~first).to(x.dtype).unsqueeze(-1)
        steps = []
        for inputs_t, keep_t in zip(inputs.unbind(1), keep.unbind(1), strict=True):
            h = self._advance(inputs_t, h, keep_t)
            steps.append(h)
        return torch.stack(steps, 1)

    def step(self, x: Tensor, h: Tensor, keep: Tensor) -> Tensor:
        """x [R, N, I], h [R, N, H], keep [R, N, 1], which is 0 at an episode's start, else 1 -> h."""
        weight_input, _, bias, _ = self._parameters_in_order
        return self._advance(torch.baddbmm(bias, x, weight_input), h, keep)

    def _advance(self, inputs: Tensor, h: Tensor, keep: Tensor) -> Tensor:
        _, weight_hidden, _, bias_hidden = self._parameters_in_order
        h = h * keep
        sizes = (2 * self.hidden, self.hidden)
        inputs_rz, inputs_n = inputs.split(sizes, -1)
        hidden_rz, hidden_n = torch.bmm(h, weight_hidden).split(sizes, -1)
        r, z = (inputs_rz + hidden_rz).sigmoid().chunk(2, -1)
        n = tanh_(torch.addcmul(inputs_n, r, hidden_n + bias_hidden))
        return torch.lerp(n, h, z)
