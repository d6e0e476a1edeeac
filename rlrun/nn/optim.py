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

from rlrun.core import copy_leaves


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
    flat = torch.cat([p.detach().reshape(len(p), -1) for p in parameters], 1)
    columns = flat.split([p[0].numel() for p in parameters], 1)
    for p, column in zip(parameters, columns, strict=True):
        p.data = column.view(p.shape)
    return flat


class Adam:
    """Minimises losses [R]; `flat` [R, P] holds the parameters of the given modules.

    `max_grad_norm` bounds each replica's gradient: its global norm (clip="norm") or every
    element of it (clip="value"). Only the given modules' gradients are computed, and
    none is left behind in `.grad`.
    """

    def __init__(
        self,
        modules: nn.Module | Iterable[nn.Module],
        *,
        eps: float = 1e-8,
        max_grad_norm: float | None = None,
        clip: str = "norm",
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        self._parameters = _parameters(modules)
        self.flat = _pack(self._parameters)
        self.eps, self.max_grad_norm, self.clip = eps, max_grad_norm, clip
        self._grad = torch.zeros_like(self.flat)
        self._m = torch.zeros_like(self.flat)
        self._v = torch.zeros_like(self.flat)
        self._scratch = torch.empty_like(self.flat)
        self._ones = self.flat.new_ones(len(self.flat))
        self._max = self.flat.new_tensor(torch.inf if max_grad_norm is None else max_grad_norm)
        exact = torch.tensor(betas, dtype=torch.float64, device=self.flat.device).view(2, 1, 1)
        self._betas = exact
        self._weights = (1.0 - exact).to(self.flat.dtype)
        self._count = exact.new_zeros(len(self.flat), 1)

    def step(self, loss: Tensor, learning_rate: float | np.ndarray) -> Tensor:
        """One step down loss [R]; returns the gradient norms before clipping, [R], detached.

        `learning_rate` is a number, or one for each replica [R]. Where the norm is not
        finite, parameters, moments and count stay as they are.
        """
        rates = torch.as_tensor(learning_rate, dtype=torch.float64).to(self.flat.device).view(-1, 1)
        if loss.shape != self._ones.shape:
            raise ValueError(f"loss has shape {tuple(loss.shape)}, it must be {tuple(self._ones.shape)}")
        # Replicas share no parameter: the gradient of the sum is R separate gradients.
        # (With `grad_outputs` torch would import sympy here: half a second.)
        grads = torch.autograd.grad(loss.sum(), self._parameters, materialize_grads=True)
        torch.cat([grad.reshape(len(grad), -1) for grad in grads], 1, out=self._grad)
        with torch.no_grad():
            return self._apply(rates)

    def _apply(self, learning_rate: Tensor) -> Tensor:
        grad, scratch = self._grad, self._scratch
        norm = torch.linalg.vector_norm(grad, dim=1, keepdim=True)  # [R, 1], as all below
        finite = norm < torch.inf
        # A replica whose norm is not finite gets a zero gradient, zero weights in the averages
        # and a zero rate: every update adds exactly nothing.
        grad.nan_to_num_(0.0)
        if self.max_grad_norm is None:
            grad.mul_(finite)
        elif self.clip == "norm":
            grad.mul_(torch.div(self._max, norm + 1e-6).clamp_(max=1.0).nan_to_num_(0.0))
        else:
            grad.mul_(finite).clamp_(-self.max_grad_norm, self.max_grad_norm)
        weight_m, weight_v = (self._weights * finite).unbind()
        self._m.lerp_(grad, weight_m)
        self._v.lerp_(torch.mul(grad, grad, out=scratch), weight_v)

        # In float64: 1 - beta^t loses half of float32's digits in the first steps.
        correction_m, correction_v = torch.rsub(self._betas ** (self._count + 1.0), 1.0).unbind()
        self._count.add_(finite)
        deviation = correction_v.sqrt_()
        rate = (deviation / correction_m).mul_(finite).mul_(learning_rate)
        torch.sqrt(self._v, out=scratch).add_((self.eps * deviation).to(grad.dtype))
        self.flat.addcmul_(torch.div(self._m, scratch, out=scratch), rate.to(grad.dtype), value=-1.0)
        return norm.squeeze(1)

    def state(self) -> dict[str, Tensor]:
        return {"m": self._m, "v": self._v, "count": self._count.squeeze(1)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        copy_leaves(self.state(), dict(state), "optimizer")
