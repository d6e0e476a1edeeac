"""Long short-term memory, written by hand with a replica axis and resets.

Hochreiter and Schmidhuber, "Long short-term memory" (1997), with the forget gate of Gers,
Schmidhuber and Cummins, "Learning to forget" (2000). At each step, where `first` is false
or else from h = c = 0:

    cell   g = tanh(x Wg + h Ug + bg)        forget f = sigmoid(x Wf + h Uf + bf)
    input  i = sigmoid(x Wi + h Ui + bi)     output o = sigmoid(x Wo + h Uo + bo)
    c = f c + i g                            h = o tanh(c)

Each gate has weights of its own, 4H(I + H + 1) numbers a layer. They are stored side by
side in the order cell, input, forget, output: in the backward pass the three gates that
act on c are one product. Backpropagation through time is written out too: what depends on
the inputs alone is computed for all steps at once, and so are the gradients of the
weights; only the recurrence itself runs step by step.

tanh(x) is computed as 1 - 2 sigmoid(-2x): on a CPU torch's sigmoid is several times as
fast as its tanh, and one call serves all four gates.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from rlrun.core import Memory
from rlrun.nn.linear import Init
from rlrun.nn.stack import Stack

GATES = ("cell", "input", "forget", "output")


class LSTMLayer(nn.Module):
    """One layer: weights [R, I, 4H] from its input, [R, H, 4H] from its own output, bias [R, 1, 4H]."""

    def __init__(self, in_features: int, hidden: int, forget_bias: float, init: Init) -> None:
        super().__init__()
        self.hidden = hidden
        bias = init.zeros(1, 4 * hidden)
        bias[..., self.columns("forget")] = forget_bias
        self.weight_input = nn.Parameter(init.matrix(in_features, hidden, fan=hidden, blocks=4))
        self.weight_hidden = nn.Parameter(init.matrix(hidden, hidden, fan=hidden, blocks=4))
        self.bias = nn.Parameter(bias)
        self._parameters_in_order = (self.weight_input, self.weight_hidden, self.bias)

    def columns(self, gate: str) -> slice:
        """Where in the last axis of each parameter a gate stands: cell, input, forget or output."""
        start = GATES.index(gate) * self.hidden
        return slice(start, start + self.hidden)

    def gate(self, gate: str) -> tuple[Tensor, Tensor, Tensor]:
        """One gate's own weights: views W [R, I, H], U [R, H, H] and b [R, 1, H]."""
        columns = self.columns(gate)
        return tuple(p[..., columns] for p in self._parameters_in_order)  # type: ignore[return-value]

    def initial_memory(self, num_envs: int) -> Memory:
        h = self.bias.new_zeros(len(self.bias), num_envs, self.hidden)
        return h, h.clone()

    def forward(self, x: Tensor, h: Tensor, c: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        """x [R, T, N, I], h and c [R, N, H], first [R, T, N] -> h and c, each [R, T, N, H]."""
        h_all, c_all = _Sequence.apply(x, h, c, first, *self._parameters_in_order)
        return h_all.transpose(0, 1), c_all.transpose(0, 1)

    def step(self, x: Tensor, h: Tensor, c: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
        """x [R, N, I], h and c [R, N, H], keep [R, N, 1], 0 at an episode's start, else 1 -> h and c."""
        weight_input, weight_hidden, bias = self._parameters_in_order
        gates = torch.baddbmm(torch.baddbmm(bias, x, weight_input), h * keep, weight_hidden)
        g, others = gates.split((self.hidden, 3 * self.hidden), -1)
        i, f, o = others.sigmoid().chunk(3, -1)
        c = torch.addcmul(f * (c * keep), i, g.tanh())
        return o * c.tanh(), c


class LSTM(Stack):
    """Stacked LSTM layers; memory is (h, c) of each layer in turn."""

    recordable = True
    Layer = LSTMLayer
    leaves = 2


class _Sequence(torch.autograd.Function):
    """A layer over T steps, and its backpropagation through time.

    Time goes first inside, so that every step works on contiguous memory: `unbind` once,
    because a slice a step would cost a call a step, and in autograd a copy of everything.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, h: Tensor, c: Tensor, first: Tensor, w: Tensor, u: Tensor, b: Tensor
    ) -> tuple[Tensor, Tensor]:
        (R, T, N, _), H = x.shape, h.shape[-1]
        rows = x.reshape(R, T * N, -1)
        gates = torch.baddbmm(b, rows, w).view(R, T, N, 4 * H).transpose(0, 1).contiguous()
        gates[..., :H].mul_(-2.0)  # the cell gate, as -2x
        recurrent = u.clone()
        recurrent[..., :H].mul_(-2.0)
        keep = (~first).to(x.dtype).transpose(0, 1).unsqueeze(-1).contiguous()  # [T, R, N, 1]
        before, after = gates.new_empty(2, T, 2, R, N, H).unbind()  # each step's h and c
        sigmoid_c = gates.new_empty(T, R, N, H)
        steps = zip(
            keep.unbind(),
            gates.unbind(),
            *(gate.unbind() for gate in gates.chunk(4, -1)),
            before.unbind(),
            after.unbind(),
            *(part.unbind() for states in (before, after) for part in states.unbind(1)),
            sigmoid_c.unbind(),
            strict=True,
        )
        mul, addcmul = torch.mul, torch.addcmul
        now, minus_two = torch.stack((h, c)), gates.new_full((), -2.0)  # a tensor is quicker than a number
        # g and t stand for sigmoids s, whose tanh is 1 - 2s: i tanh = i - 2 i s.
        for keep_t, gates_t, g, i, f, o, before_t, after_t, h_0, c_0, h_t, c_t, t in steps:
            mul(now, keep_t, out=before_t)
            gates_t.baddbmm_(h_0, recurrent).sigmoid_()
            addcmul(i, i, g, value=-2.0, out=c_t).addcmul_(f, c_0)
            addcmul(o, o, mul(c_t, minus_two, out=t).sigmoid_(), value=-2.0, out=h_t)
            now = after_t
        h_before, c_before = before.unbind(1)
        ctx.save_for_backward(rows, w, u, keep, gates, h_before, c_before, sigmoid_c)
        ctx.set_materialize_grads(False)
        return after[:, 0], after[:, 1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_h: Tensor | None, grad_c: Tensor | None) -> tuple[Tensor | None, ...]:
        rows, w, u, keep, gates, h_before, c_before, sigmoid_c = ctx.saved_tensors
        T, R, N, H = sigmoid_c.shape
        if grad_h is None:
            grad_h = torch.zeros_like(sigmoid_c)
        s, i, f, o = gates.chunk(4, -1)
        # All that the recurrence multiplies with is known beforehand: `d_gates` starts as the
        # derivative of c (of h, for the output gate) by the gates before their nonlinearity.
        d_gates = torch.addcmul(gates, gates, gates, value=-1.0)
        d_g, d_i, d_f, d_o = d_gates.chunk(4, -1)
        d_g.mul_(i).mul_(4.0)
        d_i.mul_(torch.rsub(s, 1.0, alpha=2.0))
        d_f.mul_(c_before)
        d_o.mul_(torch.rsub(sigmoid_c, 1.0, alpha=2.0))
        c_from_h = torch.addcmul(sigmoid_c, sigmoid_c, sigmoid_c, value=-1.0).mul_(o).mul_(4.0)
        c_from_c = f * keep
        into_c = d_gates[..., : 3 * H].unflatten(-1, (3, H))
        grads_h = grad_h.unbind()
        steps = zip(
            d_gates.unbind(),
            into_c.unbind(),
            d_o.unbind(),
            c_from_h.unbind(),
            c_from_c.unbind(),
            keep.unbind(),
            (torch.zeros_like(grads_h[0]), *grads_h[:-1]),  # of h before the step, from elsewhere
            grad_c.unbind() if grad_c is not None else [None] * T,
            strict=True,
        )
        back = u.mT
        dh, dc = grads_h[-1], gates.new_zeros(R, N, H)
        each_dc = dc.unsqueeze(-2)
        for d_t, into_c_t, d_o_t, c_from_h_t, c_from_c_t, keep_t, grad_t, grad_c_t in reversed(list(steps)):
            if grad_c_t is not None:
                dc.add_(grad_c_t)
            dc.addcmul_(dh, c_from_h_t)
            into_c_t.mul_(each_dc)
            d_o_t.mul_(dh)
            dh = torch.addcmul(grad_t, torch.bmm(d_t, back), keep_t)
            dc.mul_(c_from_c_t)
        d_rows = d_gates.transpose(0, 1).reshape(R, T * N, 4 * H)
        h_rows = h_before.transpose(0, 1).reshape(R, T * N, H)
        dx = torch.bmm(d_rows, w.mT).view(R, T, N, -1) if ctx.needs_input_grad[0] else None
        return (
            dx,
            dh,
            dc,
            None,
            torch.bmm(rows.mT, d_rows),
            torch.bmm(h_rows.mT, d_rows),
            d_rows.sum(1, keepdim=True),
        )
