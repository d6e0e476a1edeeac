"""Linear layers with a replica axis, and how weights are drawn.

Weights are [R, in, out], so that one batched product serves all replicas. Initial values
are uniform with the bound 1/sqrt(in), PyTorch's own, or orthogonal (Saxe et al., "Exact
solutions to the nonlinear dynamics of learning in deep linear neural networks", 2014).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from rlrun.config import ConfigError
from rlrun.core import Spec
from rlrun.rng import Stream

# Weights of fewer columns are stored column by column: a CPU multiplies by them up to five times as fast.
NARROW = 16


def tanh_(x: Tensor) -> Tensor:
    """tanh(x) = 1 - 2 sigmoid(-2x), overwriting x: on a CPU several times as fast as torch's tanh."""
    return torch.rsub(x.mul_(-2.0).sigmoid_(), 1.0, alpha=2.0)


# In place: the product that an activation follows is needed nowhere else, by autograd neither.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu_, "tanh": tanh_}


@dataclass(frozen=True)
class Init:
    """Draws initial weights from a stream, in float64, replica r's from its own seed only."""

    stream: Stream
    kind: str  # uniform | orthogonal
    dtype: torch.dtype = torch.float32
    device: str = "cpu"
    left: list[float] = field(default_factory=lambda: [math.inf])  # numbers to be drawn yet, a replica

    @classmethod
    def of(cls, spec: Spec, stream: Stream, kind: str) -> Init:
        """That of a network for a spec, which says how many numbers it may have."""
        left: list[list[float]] = [] if spec.most is None else [[spec.most]]
        return cls(stream, kind, getattr(torch, spec.dtype), spec.device, *left)

    @property
    def replicas(self) -> int:
        return len(self.stream.counter)

    def matrix(self, rows: int, columns: int, *, fan: int, gain: float = 1.0, blocks: int = 1) -> Tensor:
        """[R, rows, blocks * columns]: orthogonal blocks times gain, or uniform +-gain / sqrt(fan)."""
        if self.kind == "uniform":
            return self._uniform(gain / math.sqrt(fan), rows, blocks * columns)
        self._afford(rows * blocks * columns)
        tall = (max(rows, columns), min(rows, columns))
        q, r = torch.linalg.qr(self.stream.normal(blocks, *tall))
        q = q * r.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)  # makes the distribution uniform
        if rows < columns:
            q = q.mT
        return self._cast(gain * q.transpose(1, 2).reshape(-1, rows, blocks * columns))

    def bias(self, columns: int, *, fan: int, gain: float = 1.0) -> Tensor:
        """[R, 1, columns]: uniform as the weights are, or zero."""
        if self.kind == "uniform":
            return self._uniform(gain / math.sqrt(fan), 1, columns)
        return self.zeros(1, columns)

    def _afford(self, numbers: int) -> None:
        """ConfigError where these are more than are left: known before there is memory for them."""
        self.left[0] -= numbers
        if self.left[0] < 0:
            raise ConfigError("the config's network is larger than the one that was saved")

    def zeros(self, *shape: int) -> Tensor:
        """[R, *shape] of zeros."""
        self._afford(math.prod(shape))
        return torch.zeros(self.replicas, *shape, dtype=self.dtype, device=self.device)

    def _uniform(self, bound: float, *shape: int) -> Tensor:
        self._afford(math.prod(shape))
        return self._cast((2.0 * self.stream.uniform(*shape) - 1.0) * bound)

    def _cast(self, values: Tensor) -> Tensor:
        return values.to(self.device, self.dtype, copy=True).contiguous()


class Linear(nn.Module):
    """x @ weight + bias: [R, rows, in] -> [R, rows, sum(sizes)].

    The columns of each size are drawn on their own, with a gain of their own.
    """

    def __init__(self, in_features: int, sizes: Sequence[int], gains: Sequence[float], init: Init) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, sum(sizes)
        blocks = list(zip(sizes, gains, strict=True))
        weights = [init.matrix(in_features, size, fan=in_features, gain=gain) for size, gain in blocks]
        biases = [init.bias(size, fan=in_features, gain=gain) for size, gain in blocks]
        weight = torch.cat(weights, -1)
        if self.out_features < NARROW:
            weight = weight.mT.contiguous().mT
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.cat(biases, -1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight)


class MLP(nn.Module):
    """Linear layers with an activation after each: [R, rows, in] -> [R, rows, out].

    `outputs`, as (size, gain) pairs, adds a last layer without activation.
    """

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int],
        activation: str,
        init: Init,
        outputs: Sequence[tuple[int, float]] = (),
    ) -> None:
        super().__init__()
        gain = math.sqrt(2.0) if init.kind == "orthogonal" else 1.0
        layers = []
        width = in_features
        for size in hidden:
            layers.append(Linear(width, [size], [gain], init))
            width = size
        if outputs:
            sizes, gains = zip(*outputs, strict=True)
            layers.append(Linear(width, sizes, gains, init))
            width = layers[-1].out_features
        self.out_features = width
        self.layers = nn.ModuleList(layers)
        # Attributes of a module are slow to read: hold the parameters themselves, which keep
        # their identity when an optimiser packs their values.
        pairs = [(layer.bias, layer.weight) for layer in layers]
        self._hidden = tuple(pairs[: len(hidden)])
        self._outputs = tuple(pairs[len(hidden) :])
        self._activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        baddbmm, activation = torch.baddbmm, self._activation
        for bias, weight in self._hidden:
            x = activation(baddbmm(bias, x, weight))
        for bias, weight in self._outputs:
            x = baddbmm(bias, x, weight)
        return x
