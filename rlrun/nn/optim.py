"""Adam over one flat vector of parameters per replica.

Kingma and Ba, "Adam: a method for stochastic optimization" (2015). All parameters become
views of one tensor [R, P] and their gradients are gathered in another, so that a step is a
dozen element-wise operations whatever the number of layers. Replicas share nothing:
gradients are clipped, and steps counted, one by one, and a replica whose gradient is not
finite stays exactly as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain

import numpy as np
import torch
from torch import Tensor, nn

from rlrun.state import copy_leaves


def flatten(modules: nn.Module | Iterable[nn.Module]) -> Tensor:
    """Pack all parameters, each [R, ...], into one tensor [R, P] that they become views of.

    A target network follows by `target_flat.copy_(flat)` or `target_flat.lerp_(flat, tau)`.
    Packing a module again leaves the earlier tensor behind.
    """
    return _pack(_parameters(modules))


def _parameters(modules: nn.Module | Iterable[nn.Module]) -> list[nn.Parameter]:
    if isinstance(modules, nn.Module):
        modules = [modules]
    return list(dict.fromkeys(chain.from_iterable(module.parameters() for module in modules)))


def _pack(parameters: list[nn.Parameter]) -> Tensor:
    rows = [(p.mT if _by_column(p) else p).detach() for p in parameters]
    flat = torch.cat([row.reshape(len(row), -1) for row in rows], 1)
    for p, view in zip(parameters, _views(flat, parameters), strict=True):
        p.data = view
    return flat


def _views(flat: Tensor, parameters: list[nn.Parameter]) -> list[Tensor]:
    """The part of flat [R, P] that belongs to each parameter, in its shape and order of storage."""
    parts = zip(flat.split([p[0].numel() for p in parameters], 1), parameters, strict=True)
    return [part.view(p.mT.shape).mT if _by_column(p) else part.view(p.shape) for part, p in parts]


def _by_column(p: Tensor) -> bool:
    """Whether these are matrices [R, in, out] that are stored column by column, and shall stay so."""
    return p.ndim == 3 and p.stride(1) == 1 and p.stride(2) != 1


class Adam:
    """Minimises losses [R]; `flat` [R, P] holds the parameters of the given modules.

    `max_grad_norm` bounds each replica's gradient: its global norm (clip="norm") or every
    element of it (clip="value"). It and `eps` are numbers, or one for each replica [R].
    Only the given modules' gradients are computed, and none is left behind in `.grad`.
    """

    def __init__(
        self,
        modules: nn.Module | Iterable[nn.Module],
        *,
        eps: float | np.ndarray = 1e-8,
        max_grad_norm: float | np.ndarray | None = None,
        clip: str = "norm",
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        self._parameters = _parameters(modules)
        self.flat = _pack(self._parameters)
        self.max_grad_norm, self.clip = max_grad_norm, clip
        self._moments = torch.zeros_like(self.flat).repeat(2, 1, 1)  # unbiased means of grad and grad^2
        self._news = torch.zeros_like(self._moments)  # grad and grad^2, then scratch
        self._m, self._v = self._moments.unbind()
        self._grad, self._square = self._news.unbind()
        self._grads = _views(self._grad, self._parameters)
        # Constants are tensors: arithmetic with Python's numbers takes twice as long.
        self._inf, self._tiny = self.flat.new_tensor([torch.inf, 1e-6]).unbind()
        self._eps = self._constant(eps)
        self._max = self._inf if max_grad_norm is None else self._constant(max_grad_norm)
        # 1 - beta^t after t steps, [2, R, 1]: in float64, for float32 loses half of its digits in the
        # first steps, and not quite 0 before them, so that it can be divided by.
        decays = torch.tensor(betas, dtype=torch.float64, device=self.flat.device).view(2, 1, 1)
        self._one_less, self._one = 1.0 - decays, torch.ones_like(decays)
        self._correction = torch.full_like(decays, 1e-300).repeat(1, len(self.flat), 1)
        self._weights = torch.zeros_like(self._moments[..., :1])
        self._rates = torch.zeros_like(self._m[:, :1])

    def _constant(self, value: float | np.ndarray) -> Tensor:
        """A number for all replicas, or [R, 1]."""
        constant = self.flat.new_tensor(value)
        return constant.unsqueeze(1) if constant.ndim else constant

    def step(self, loss: Tensor, learning_rate: float | np.ndarray | Tensor) -> Tensor:
        """One step down loss [R]; returns the gradient norms before clipping, [R], detached.

        `learning_rate` is a number, or one for each replica [R]. Where the norm is not
        finite, parameters, moments and count stay as they are.
        """
        if isinstance(learning_rate, float):  # made, not converted: that can be recorded
            learning_rate = self._one.new_full((1,), learning_rate)
        rates = torch.as_tensor(learning_rate, dtype=torch.float64, device=self.flat.device).view(-1, 1)
        if loss.shape != self.flat.shape[:1]:
            raise ValueError(f"loss has shape {tuple(loss.shape)}, it must be {tuple(self.flat.shape[:1])}")
        # Replicas share no parameter: the gradient of the sum is R separate gradients.
        # (With `grad_outputs` torch would import sympy here: half a second.)
        grads = torch.autograd.grad(loss.sum(), self._parameters, materialize_grads=True)
        torch._foreach_copy_(self._grads, grads)
        with torch.no_grad():
            return self._apply(rates)

    def _apply(self, learning_rate: Tensor) -> Tensor:
        grad, square = self._grad, self._square
        norm = torch.linalg.vector_norm(grad, dim=1, keepdim=True)  # [R, 1], as all below
        finite = norm < self._inf
        # A replica whose norm is not finite gets a zero gradient, zero weights in the averages
        # and a zero rate: every update adds exactly nothing.
        by_norm = self.max_grad_norm is not None and self.clip == "norm"
        grad.mul_((self._max / (norm + self._tiny)).clamp_(max=1.0) if by_norm else finite).nan_to_num_(0.0)
        if self.max_grad_norm is not None and self.clip == "value":
            grad.clamp_(-self._max, self._max)
        torch.mul(grad, grad, out=square)

        # (1 - beta) / (1 - beta^t): with these weights a mean that began at zero has no bias.
        weights = self._one_less * finite
        self._correction.lerp_(self._one, weights)
        self._moments.lerp_(self._news, torch.div(weights, self._correction, out=self._weights))
        deviation = torch.sqrt(self._v, out=square).add_(self._eps)
        rates = torch.mul(learning_rate, finite, out=self._rates)
        self.flat.addcmul_(torch.div(self._m, deviation, out=grad), rates, value=-1.0)
        return norm.squeeze(1)

    def state(self) -> dict[str, Tensor]:
        return {"m": self._m, "v": self._v, "correction": self._correction.squeeze(2).T}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        copy_leaves(self.state(), dict(state), "optimizer")
