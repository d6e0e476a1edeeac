"""Ordinary PyTorch modules as R replicas: a slow path whose point is that it is plainly right.

`Copies` stacks the parameters of R equal modules and calls each replica in turn. It
carries user-defined bodies, and torch's own LSTM as a reference for the hand-written one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from rlrun.core import Memory
from rlrun.nn.linear import Init
from rlrun.nn.lstm import LSTM
from rlrun.nn.record import recordable

TORCH_GATES = ("input", "forget", "cell", "output")  # the order of rows in nn.LSTM


class Copies(nn.Module):
    """R modules of one structure as one: parameters and buffers stacked, [R, ...].

    The modules run in eval mode and must be pure functions of their parameters and
    inputs, as `pure` has it, without shapes that depend on values.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self._template = (modules[0].eval(),)  # in a tuple: its own parameters are not ours
        self.recordable = recordable(modules[0])
        for name, _ in modules[0].named_parameters():
            values = torch.stack([module.get_parameter(name).detach() for module in modules])
            self.register_parameter(_flat_name(name), nn.Parameter(values))
        for name, _ in modules[0].named_buffers():
            self.register_buffer(_flat_name(name), torch.stack([m.get_buffer(name) for m in modules]))
        self._names = [name for name, _ in modules[0].named_parameters()]
        self._buffer_names = [name for name, _ in modules[0].named_buffers()]

    def each(self, *args: Any) -> list[Any]:
        """The outputs of every replica's module; tensors in `args`, also inside tuples, are [R, ...]."""
        # unbind, because the gradients of R slices would each be as large as the whole
        weights = {name: getattr(self, _flat_name(name)).unbind() for name in self._names}
        buffers = {name: getattr(self, _flat_name(name)).unbind() for name in self._buffer_names}
        replicas = len(args[0])
        return [
            functional_call(
                self._template[0],
                {name: leaf[r] for name, leaf in (weights | buffers).items()},
                tuple(_replica(arg, r) for arg in args),
            )
            for r in range(replicas)
        ]

    def forward(self, x: Tensor) -> Tensor:
        """[R, rows, in] -> [R, rows, out]."""
        return torch.stack(self.each(x))


def _flat_name(name: str) -> str:
    return name.replace(".", "/")  # a parameter's name may not hold a dot


def _replica(arg: Any, r: int) -> Any:
    return tuple(a[r] for a in arg) if isinstance(arg, tuple) else arg[r]


class NNLSTM(nn.Module):
    """torch.nn.LSTM, one per replica, in `LSTM`'s place; equal to it from the same seed.

    torch has two biases a layer: the second starts at zero.
    """

    def __init__(self, in_features: int, hidden: int, layers: int, forget_bias: float, init: Init) -> None:
        super().__init__()
        self.out_features, self.num_layers = hidden, layers
        ours = LSTM(in_features, hidden, layers, forget_bias, init)
        weights = [torch_parameters(ours, r) for r in range(init.replicas)]
        modules = []
        for values in weights:
            with torch.random.fork_rng(devices=[]):  # its own first weights are drawn and dropped
                module = nn.LSTM(in_features, hidden, layers, dtype=init.dtype, device=init.device)
            module.load_state_dict(values)
            modules.append(module)
        self.copies = Copies(modules)

    def initial_memory(self, num_envs: int) -> Memory:
        """Zeros, as at the start of an episode: (h, c) of each layer in turn, [R, N, H]."""
        bias = next(self.copies.parameters())
        shape = (len(bias), num_envs, self.out_features)
        return tuple(bias.new_zeros(shape) for _ in range(2 * self.num_layers))

    def forward(self, x: Tensor, memory: Memory, first: Tensor) -> tuple[Tensor, Memory]:
        """x [R, T, N, I], memory before step 0, first [R, T, N] -> h [R, T, N, H], memory after.

        nn.LSTM knows no resets, so the sequence is cut wherever any environment has one.
        """
        T = x.shape[1]
        cuts = [0] + [t for t in range(1, T) if first[:, t].any()] + [T]
        outputs = []
        for start, stop in pairwise(cuts):
            out, memory = self._segment(x[:, start:stop], memory, first[:, start])
            outputs.append(out)
        return torch.cat(outputs, 1), memory

    def unroll(self, x: Tensor, memory: Memory, first: Tensor) -> tuple[Tensor, Memory]:
        """As `forward`, with the memory after every step: leaves [R, T, N, H]."""
        outputs, memories = [], []
        for x_t, first_t in zip(x.unbind(1), first.unbind(1), strict=True):
            out, memory = self.step(x_t, memory, first_t)
            outputs.append(out)
            memories.append(memory)
        return torch.stack(outputs, 1), tuple(torch.stack(leaf, 1) for leaf in zip(*memories, strict=True))

    def step(self, x: Tensor, memory: Memory, first: Tensor) -> tuple[Tensor, Memory]:
        """One step: x [R, N, I], first [R, N] -> h [R, N, H], memory after."""
        out, memory = self._segment(x.unsqueeze(1), memory, first)
        return out.squeeze(1), memory

    def _segment(self, x: Tensor, memory: Memory, first: Tensor) -> tuple[Tensor, Memory]:
        memory = tuple(leaf.masked_fill(first.unsqueeze(-1), 0.0) for leaf in memory)
        h, c = torch.stack(memory[0::2], 1), torch.stack(memory[1::2], 1)  # [R, layers, N, H]
        results = self.copies.each(x, (h, c))
        out = torch.stack([out for out, _ in results])
        h = torch.stack([h for _, (h, _) in results])
        c = torch.stack([c for _, (_, c) in results])
        return out, tuple(leaf for k in range(self.num_layers) for leaf in (h[:, k], c[:, k]))


def torch_parameters(lstm: LSTM, replica: int) -> dict[str, Tensor]:
    """The state dict of the torch.nn.LSTM that equals one replica of ours."""
    out: dict[str, Tensor] = {}
    for k, layer in enumerate(lstm._layers):
        w, u, b = (
            torch.cat([layer.gate(gate)[part][replica].detach().mT for gate in TORCH_GATES])
            for part in range(3)  # W, U, b
        )
        out |= {f"weight_ih_l{k}": w, f"weight_hh_l{k}": u}
        out |= {f"bias_ih_l{k}": b.squeeze(-1), f"bias_hh_l{k}": torch.zeros_like(b.squeeze(-1))}
    return out
