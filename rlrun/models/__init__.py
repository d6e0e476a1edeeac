"""The kinds of network bodies: what each is made of, as a config and a torch-free builder.

A kind of your own registers in the same way, with a function that returns a plain
torch.nn.Module: see `rlrun.nn.network`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

from rlrun import nn
from rlrun.config import key
from rlrun.registry import register

ACTIVATIONS = ("relu", "tanh")
INITS = ("uniform", "orthogonal")


def _widths(path: str, sizes: list[int]) -> list[str]:
    if len(sizes) > 100:
        return [f"{path} has {len(sizes)} widths: it may have 100 at most"]
    return [f"{path} is {sizes}: every width must be at least 1"] if min(sizes, default=1) < 1 else []


@dataclass
class MLPConfig:
    """A multilayer perceptron: no memory."""

    hidden: list[int] = key("widths of the hidden layers")
    activation: str = key("relu or tanh", choices=ACTIVATIONS)
    init: str = key(
        "initial weights: uniform up to 1/sqrt(in), or orthogonal", choices=("uniform", "orthogonal")
    )
    normalize_obs: bool = key("scale observations by their running mean and deviation, clipped to +-10")

    def problems(self) -> list[str]:
        return _widths("hidden", self.hidden)


@dataclass
class ConvConfig:
    """Convolutions over a picture, without padding: one number a layer in each list."""

    channels: list[int] = key("features of each convolution")
    kernels: list[int] = key("width of its square patches, in pixels")
    strides: list[int] = key("pixels from one patch to the next")

    def problems(self) -> list[str]:
        lists = {name: getattr(self, name) for name in ("channels", "kernels", "strides")}
        found = [problem for name, sizes in lists.items() for problem in _widths(name, sizes)]
        if len({len(sizes) for sizes in lists.values()}) > 1 or not self.channels:
            lengths = ", ".join(f"{len(sizes)} {name}" for name, sizes in lists.items())
            found.append(f"channels has one number a layer, as have kernels and strides: not {lengths}")
        return found

    def convolutions(self) -> Any:
        return [nn.Kernel(*layer) for layer in zip(self.channels, self.kernels, self.strides, strict=True)]


@dataclass
class CNNConfig(MLPConfig, ConvConfig):
    """Convolutions over a picture, and an MLP."""

    def problems(self) -> list[str]:
        return ConvConfig.problems(self) + MLPConfig.problems(self)


@dataclass
class RecurrentConfig:
    """An MLP encoder, a memory, and an MLP head."""

    recurrent: ClassVar[bool] = True

    encoder: list[int] = key("widths of the layers before the memory; empty: none")
    hidden_size: int = key("width of the memory", min=1)
    layers: int = key("stacked memory layers", min=1, max=100)
    forget_bias: float = key("initial bias of the gate that keeps the memory (forget; a GRU's update gate)")
    head: list[int] = key("widths of the layers after the memory; empty: none")
    activation: str = key("relu or tanh, of encoder and head", choices=ACTIVATIONS)
    init: str = key(
        "initial weights: uniform up to 1/sqrt(in), or orthogonal", choices=("uniform", "orthogonal")
    )
    normalize_obs: bool = key("scale observations by their running mean and deviation, clipped to +-10")
    previous_action: bool = key("show the network the action before, one-hot if discrete")

    def problems(self) -> list[str]:
        return _widths("encoder", self.encoder) + _widths("head", self.head)


@dataclass
class LSTMConfig(RecurrentConfig):
    """Long short-term memory, written by hand."""


@dataclass
class GRUConfig(RecurrentConfig):
    """Gated recurrent units."""


@dataclass
class CNNLSTMConfig(RecurrentConfig, ConvConfig):
    """Convolutions over a picture before the hand-written LSTM."""

    def problems(self) -> list[str]:
        return ConvConfig.problems(self) + RecurrentConfig.problems(self)


@dataclass
class NNLSTMConfig(RecurrentConfig):
    """torch.nn.LSTM, a slow reference for `lstm`."""


@register("model", "mlp", MLPConfig)
def mlp(config: MLPConfig, in_features: int) -> Any:
    return nn.Plan(encoder=(), head=config.hidden, activation=config.activation, init=config.init)


@register("model", "cnn", CNNConfig)
def cnn(config: CNNConfig, in_features: int) -> Any:
    return dataclasses.replace(mlp(config, in_features), convolutions=config.convolutions())


@register("model", "cnn_lstm", CNNLSTMConfig)
def cnn_lstm(config: CNNLSTMConfig, in_features: int) -> Any:
    return dataclasses.replace(_recurrent(config, nn.LSTM), convolutions=config.convolutions())


@register("model", "lstm", LSTMConfig)
def lstm(config: LSTMConfig, in_features: int) -> Any:
    return _recurrent(config, nn.LSTM)


@register("model", "gru", GRUConfig)
def gru(config: GRUConfig, in_features: int) -> Any:
    return _recurrent(config, nn.GRU)


@register("model", "nn_lstm", NNLSTMConfig)
def nn_lstm(config: NNLSTMConfig, in_features: int) -> Any:
    return _recurrent(config, nn.NNLSTM)


def _recurrent(config: RecurrentConfig, layer: Any) -> Any:
    def core(width: int, init: Any) -> Any:
        return layer(width, config.hidden_size, config.layers, config.forget_bias, init)

    return nn.Plan(config.encoder, config.head, config.activation, config.init, core)
