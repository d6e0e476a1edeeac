"""Distributions over actions, and how a network's output becomes one.

Nothing here knows about axes other than the last, so the same code serves acting
[R, N, A], rollouts [R, T, N, A] and minibatches [R, B, A]. Random numbers come from a
replica's own `Stream`: categories by the Gumbel trick, where a NaN stays in its row
(torch.distributions raises for all of them). The squashed Gaussian is that of Haarnoja et
al., "Soft actor-critic" (2018), appendix C.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from rlrun.config import ConfigError
from rlrun.core import Spec
from rlrun.lazy import torch
from rlrun.parts.masks import allowed
from rlrun.parts.numbers import number
from rlrun.spaces import Box, Discrete, MultiDiscrete, Space

if TYPE_CHECKING:
    from torch import Tensor

    from rlrun.rng import Stream

_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


class Distribution(Protocol):
    """Actions with leading axes [R, ...]; log_prob and entropy have just those."""

    def sample(self, rng: Stream) -> Tensor: ...
    def mode(self) -> Tensor: ...
    def log_prob(self, action: Tensor) -> Tensor: ...
    def entropy(self) -> Tensor: ...


class Categorical:
    """Integers 0 .. A - 1 with probabilities softmax(logits [..., A]), of those that a mask allows."""

    __slots__ = ("log_probs",)

    def __init__(self, logits: Tensor, mask: Tensor | None = None) -> None:
        self.log_probs = allowed(logits, mask).log_softmax(-1)

    def sample(self, rng: Stream) -> Tensor:
        return (self.log_probs + rng.gumbel(*self.log_probs.shape[1:])).argmax(-1)

    def mode(self) -> Tensor:
        return self.log_probs.argmax(-1)

    def log_prob(self, action: Tensor) -> Tensor:
        return self.log_probs.gather(-1, action.unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> Tensor:
        return -(self.log_probs.exp() * self.log_probs).sum(-1)


class MultiCategorical:
    """A vector of independent integers, from the logits [..., sum(nvec)] of all of them, and their masks."""

    __slots__ = ("parts",)

    def __init__(self, logits: Tensor, nvec: tuple[int, ...], mask: Tensor | None = None) -> None:
        self.parts = [Categorical(part) for part in allowed(logits, mask).split(nvec, -1)]

    def sample(self, rng: Stream) -> Tensor:
        return torch.stack([part.sample(rng) for part in self.parts], -1)

    def mode(self) -> Tensor:
        return torch.stack([part.mode() for part in self.parts], -1)

    def log_prob(self, action: Tensor) -> Tensor:
        columns = zip(self.parts, action.unbind(-1), strict=True)
        return torch.stack([part.log_prob(column) for part, column in columns]).sum(0)

    def entropy(self) -> Tensor:
        return torch.stack([part.entropy() for part in self.parts]).sum(0)


@dataclass(frozen=True, slots=True)
class Gaussian:
    """Independent normals: mean [..., A], log_std of any shape that broadcasts against it."""

    mean: Tensor
    log_std: Tensor

    def sample(self, rng: Stream) -> Tensor:
        noise = rng.normal(*self.mean.shape[1:]).to(self.mean.dtype)
        return torch.addcmul(self.mean, self.log_std.exp(), noise)

    def mode(self) -> Tensor:
        return self.mean

    def log_prob(self, action: Tensor) -> Tensor:
        error = (action - self.mean) * (-self.log_std).exp()
        return (-0.5 * error.square() - self.log_std - _HALF_LOG_2PI).sum(-1)

    def entropy(self) -> Tensor:
        return (self.log_std.expand_as(self.mean) + (0.5 + _HALF_LOG_2PI)).sum(-1)


class Bounds:
    """The affine map of [-1, 1] to a Box's bounds; elements without both bounds keep their unit,
    as do those of a single value, which every action has.

    The Box is flat here, [..., A], and an action never leaves it, whatever the rounding.
    """

    def __init__(self, box: Box, dtype: str = "float32", device: str = "cpu") -> None:
        kinds = {"dtype": getattr(torch, dtype), "device": device}
        self.low, self.high = torch.tensor(box.low, **kinds), torch.tensor(box.high, **kinds)
        self.finite = self.low.isfinite() & self.high.isfinite()
        # Halves first: the width of the widest Box overflows.
        half = self.high / 2.0 - self.low / 2.0
        self.scale = torch.where(self.finite & (half > 0.0), half, 1.0)
        self.offset = torch.where(self.finite, self.high / 2.0 + self.low / 2.0, 0.0)

    def apply(self, unit: Tensor) -> Tensor:
        """From [-1, 1] to the bounds; what lies outside is clipped."""
        return torch.addcmul(self.offset, unit, self.scale).clamp(self.low, self.high)

    def invert(self, action: Tensor) -> Tensor:
        """From the bounds to [-1, 1]."""
        return (action - self.offset) / self.scale


def finite_bounds(box: Box, spec: Spec) -> Bounds:
    """The bounds of an action space that has some on every side.

    Raises:
        ConfigError: it has not.
    """
    bounds = Bounds(box, spec.dtype, spec.device)
    if not bounds.finite.all():
        raise ConfigError(
            "this algorithm needs actions with finite bounds, and this env's have none",
            "env=gym can give it some: env.wrappers=[{RescaleAction: {min_action: -1, max_action: 1}}]",
        )
    return bounds


@dataclass(frozen=True, slots=True)
class SquashedGaussian:
    """bounds(tanh(u)) of a normal u with mean and log_std [..., A]; the bounds must be finite.

    There is no closed form of the entropy: minus the mean of `rsample`'s log_prob estimates it.
    """

    mean: Tensor
    log_std: Tensor
    bounds: Bounds

    def rsample(self, rng: Stream) -> tuple[Tensor, Tensor]:
        """An action [..., A] through which gradients flow, and its log_prob [...]."""
        raw = Gaussian(self.mean, self.log_std).sample(rng)
        return self.bounds.apply(raw.tanh()), self._log_prob(raw)

    def sample(self, rng: Stream) -> Tensor:
        return self.rsample(rng)[0]

    def mode(self) -> Tensor:
        """The squashed mean: the median of the distribution, the usual greedy action."""
        return self.bounds.apply(self.mean.tanh())

    def log_prob(self, action: Tensor) -> Tensor:
        """Density at an action inside the bounds; loses precision next to them (rsample does not)."""
        limit = 1.0 - torch.finfo(action.dtype).eps
        return self._log_prob(self.bounds.invert(action).clamp(-limit, limit).atanh())

    def _log_prob(self, raw: Tensor) -> Tensor:
        # log(1 - tanh(u)^2) = 2 (log 2 - u - softplus(-2 u)), finite where the left side is not
        squash = 2.0 * (math.log(2.0) - raw - torch.nn.functional.softplus(-2.0 * raw))
        normal = Gaussian(self.mean, self.log_std).log_prob(raw)
        return normal - (squash + self.bounds.scale.log()).sum(-1)


class ActionHead:
    """Makes distributions for an action space from `size` network outputs.

    A Box's distribution is over `raw` actions, whose unit is half the width of the bounds;
    `action` clips them into the Box. Its deviation is no output but a parameter of its own,
    `parameters["log_std"]` [R, 1, A], to be optimised and saved with the network.
    """

    def __init__(self, size: int, make: Callable[[Tensor, Tensor | None], Distribution]) -> None:
        self.size = size
        self.parameters = torch.nn.ParameterDict()
        self.distribution = make  # of raw actions, for network outputs [R, ..., size] and a mask of them
        self.raw = False  # whether raw actions and the env's differ

    def action(self, raw: Tensor) -> Tensor:
        """What the env is given, [R, ..., *action shape]."""
        return raw


class GaussianHead(ActionHead):
    """For a Box: see `ActionHead`."""

    def __init__(self, box: Box, spec: Spec, log_std: Any) -> None:
        super().__init__(box.size, lambda mean, mask: Gaussian(mean, self.log_std(mean.ndim)))
        kinds = {"dtype": getattr(torch, spec.dtype), "device": spec.device}
        self._log_std = torch.nn.Parameter(
            torch.zeros(spec.replicas, 1, box.size, **kinds) + number(log_std, spec, 3)
        )
        self.parameters["log_std"] = self._log_std
        self._bounds, self._shape = Bounds(box, spec.dtype, spec.device), box.shape
        self.raw = True

    def log_std(self, ndim: int) -> Tensor:
        """The log deviations with singleton axes between replica and action, `ndim` in all."""
        replicas, _, size = self._log_std.shape
        return self._log_std.view(replicas, *[1] * (ndim - 2), size)

    def action(self, raw: Tensor) -> Tensor:
        return self._bounds.apply(raw).unflatten(-1, self._shape)


def action_head(spec: Spec, log_std: float = 0.0) -> ActionHead:
    """The head for `spec.action`; `log_std` is where a Box's log deviation begins."""
    space: Space = spec.action
    if isinstance(space, Discrete):
        return ActionHead(space.n, Categorical)
    if isinstance(space, MultiDiscrete):
        nvec = space.nvec
        return ActionHead(sum(nvec), lambda logits, mask: MultiCategorical(logits, nvec, mask))
    return GaussianHead(space, spec, log_std)
