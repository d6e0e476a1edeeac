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
from rlrun.nn.stack import Stack


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

    def initial_memory(self, num_envs: int) -> Memory:
        return (self.bias.new_zeros(len(self.bias), num_envs, self.hidden),)

    def forward(self, x: Tensor, h: Tensor, first: Tensor) -> Memory:
        """x [R, T, N, I], h [R, N, H], first [R, T, N] -> (h,), [R, T, N, H]."""
        R, T, N, _ = x.shape
        weight_input, _, bias, _ = self._parameters_in_order
        inputs = torch.baddbmm(bias, x.reshape(R, T * N, -1), weight_input).view(R, T, N, -1)
        keep = (~first).to(x.dtype).unsqueeze(-1)
        steps = []
        for inputs_t, keep_t in zip(inputs.unbind(1), keep.unbind(1), strict=True):
            h = self._advance(inputs_t, h, keep_t)
            steps.append(h)
        return (torch.stack(steps, 1),)

    def step(self, x: Tensor, h: Tensor, keep: Tensor) -> Memory:
        """x [R, N, I], h [R, N, H], keep [R, N, 1], which is 0 at an episode's start, else 1 -> (h,)."""
        weight_input, _, bias, _ = self._parameters_in_order
        return (self._advance(torch.baddbmm(bias, x, weight_input), h, keep),)

    def _advance(self, inputs: Tensor, h: Tensor, keep: Tensor) -> Tensor:
        _, weight_hidden, _, bias_hidden = self._parameters_in_order
        h = h * keep
        sizes = (2 * self.hidden, self.hidden)
        inputs_rz, inputs_n = inputs.split(sizes, -1)
        hidden_rz, hidden_n = torch.bmm(h, weight_hidden).split(sizes, -1)
        r, z = (inputs_rz + hidden_rz).sigmoid().chunk(2, -1)
        n = tanh_(torch.addcmul(inputs_n, r, hidden_n + bias_hidden))
        return torch.lerp(n, h, z)


class GRU(Stack):
    """Stacked GRU layers; memory is the h of each layer."""

    recordable = True
    Layer = GRULayer
    leaves = 1
