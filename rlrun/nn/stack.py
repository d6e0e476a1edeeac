"""Layers with memory on top of each other: what an LSTM and a GRU share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from torch import Tensor, nn

from rlrun.core import Memory
from rlrun.nn.linear import Init


class Stack(nn.Module):
    """Memory is the leaves of each layer in turn, [R, N, H]; a layer's first leaf is its output, h.

    A layer is made as `Layer(in_features, hidden, forget_bias, init)` and has
    `initial_memory(num_envs)`, `forward(x, *leaves, first)` and `step(x, *leaves, keep)`,
    which return its leaves after every step, and after the one.
    """

    Layer: ClassVar[Any]
    leaves: ClassVar[int]  # of memory, a layer

    def __init__(self, in_features: int, hidden: int, layers: int, forget_bias: float, init: Init) -> None:
        super().__init__()
        self.out_features = hidden
        widths = [in_features] + [hidden] * (layers - 1)
        made = [self.Layer(width, hidden, forget_bias, init) for width in widths]
        self.layers = nn.ModuleList(made)
        self._layers = tuple(made)  # quicker to read than a registered module

    def initial_memory(self, num_envs: int) -> Memory:
        """Zeros, as at the start of an episode."""
        return tuple(leaf for layer in self._layers for leaf in layer.initial_memory(num_envs))

    def forward(self, x: Tensor, memory: Memory, first: Tensor) -> tuple[Tensor, Memory]:
        """x [R, T, N, I], memory before step 0, first [R, T, N] -> h [R, T, N, H], memory after."""
        x, memories = self.unroll(x, memory, first)
        return x, tuple(leaf[:, -1] for leaf in memories)

    def unroll(self, x: Tensor, memory: Memory, first: Tensor) -> tuple[Tensor, Memory]:
        """As `forward`, with the memory after every step: leaves [R, T, N, H]."""
        after: list[Tensor] = []
        for layer, leaves in self._with(memory):
            own = layer(x, *leaves, first)
            x = own[0]
            after += own
        return x, tuple(after)

    def step(self, x: Tensor, memory: Memory, first: Tensor) -> tuple[Tensor, Memory]:
        """One step: x [R, N, I], first [R, N] -> h [R, N, H], memory after."""
        keep = (~first).to(x.dtype).unsqueeze(-1)
        after: list[Tensor] = []
        for layer, leaves in self._with(memory):
            own = layer.step(x, *leaves, keep)
            x = own[0]
            after += own
        return x, tuple(after)

    def _with(self, memory: Memory) -> Iterator[tuple[Any, Memory]]:
        """Each layer and its leaves."""
        for k, layer in enumerate(self._layers):
            yield layer, memory[k * self.leaves : (k + 1) * self.leaves]
