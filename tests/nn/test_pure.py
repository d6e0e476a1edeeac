"""A module of somebody's own is a function of its weights and inputs, or is refused by name."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch import nn as torch_nn
from torch.nn import functional

from rlrun import nn, registry
from rlrun.config import ConfigError
from rlrun.core import Spec
from rlrun.rng import Stream
from rlrun.spaces import Box, Discrete

FEATURES = 6
OBS = Box((FEATURES,), (0.0,) * FEATURES, (1.0,) * FEATURES)


@dataclass
class TheirConfig:
    build: Any


@pytest.fixture(autouse=True)
def register() -> Iterator[None]:
    registry.register("model", "theirs", TheirConfig)(lambda config, in_features: config.build(in_features))
    yield
    del registry._entries["model", "theirs"], registry._by_config[TheirConfig]


def network(build: Callable[[int], Any]) -> nn.Network:
    spec = Spec(OBS, Discrete(3), 2, (1, 2), 100)
    return nn.build_network(TheirConfig(build), OBS, [nn.Head(3)], Stream(spec.seeds, "init"), spec)


class Doubling(torch_nn.Module):
    """In training only."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2.0 if self.training else x


class LastNorm(torch_nn.BatchNorm1d):
    """Batch statistics of features that come last."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class Function(torch_nn.Module):
    """A layer, and whatever a function does to its outputs."""

    def __init__(self, function: Callable[[torch_nn.Module, Tensor], Tensor], **parts: Any) -> None:
        super().__init__()
        self.layer, self.function = torch_nn.Linear(FEATURES, 8), function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, self.layer(x))


def layers(*last: torch_nn.Module) -> torch_nn.Module:
    """A body whose `core` ends in these."""
    core = torch_nn.Sequential(torch_nn.Linear(FEATURES, 8), torch_nn.ReLU(), *last)
    return torch_nn.Sequential(dict_of(core=core, out=torch_nn.Linear(8, 4)))


def dict_of(**parts: torch_nn.Module) -> Any:
    from collections import OrderedDict

    return OrderedDict(parts)


def picture(module: torch_nn.Module) -> torch_nn.Module:
    return layers(torch_nn.Unflatten(1, (2, 2, 2)), module, torch_nn.Flatten())


def attention(**how: Any) -> torch_nn.Module:
    part = torch_nn.MultiheadAttention(4, 2, batch_first=True, **how)

    def attend(self: Any, x: Tensor) -> Tensor:
        tokens = x.view(-1, 2, 4)
        return self.part(tokens, tokens, tokens)[0].flatten(1)

    return Function(attend, part=part)


def recurrent(**how: Any) -> torch_nn.Module:
    part = torch_nn.LSTM(4, 8, batch_first=True, **how)
    return Function(lambda self, x: self.part(x.view(-1, 2, 4))[0][:, -1], part=part)


def remember(self: Any, x: Tensor) -> Tensor:
    self.before = x + getattr(self, "before", 0.0)
    return self.before


RANDOM = "draws PyTorch's own random numbers"
REFUSED: dict[str, tuple[Callable[[], torch_nn.Module], str]] = {
    "dropout": (lambda: layers(torch_nn.Dropout(0.1)), f"core.2: Dropout {RANDOM}"),
    "alpha dropout": (lambda: layers(torch_nn.AlphaDropout()), f"core.2: AlphaDropout {RANDOM}"),
    "dropout of channels": (lambda: picture(torch_nn.Dropout2d()), f"core.3: Dropout2d {RANDOM}"),
    "a random slope": (lambda: layers(torch_nn.RReLU()), f"core.2: RReLU {RANDOM}"),
    "a function's dropout": (
        lambda: Function(lambda self, x: functional.dropout(x, 0.5, self.training)),
        f"theirs: Function {RANDOM}",
    ),
    "a dropout that is always on": (
        lambda: Function(lambda self, x: functional.dropout(x, 0.5)),
        f"theirs: Function {RANDOM}",
    ),
    "dropout behind zeros": (
        lambda: Function(lambda self, x: functional.dropout(x * 0.0, training=self.training)),
        f"theirs: Function {RANDOM}",
    ),
    "dropout in an LSTM": (lambda: recurrent(num_layers=2, dropout=0.5), f"part: LSTM {RANDOM}"),
    "dropout in attention": (
        lambda: attention(dropout=0.5),
        f"part: MultiheadAttention {RANDOM}",
    ),
    "batch statistics": (
        lambda: layers(torch_nn.BatchNorm1d(8)),
        "core.2: BatchNorm1d changes its running_mean",
    ),
    "batch statistics of pictures": (
        lambda: picture(torch_nn.BatchNorm2d(2)),
        "core.3: BatchNorm2d changes its running_mean",
    ),
    "batch statistics that are not kept": (
        lambda: layers(torch_nn.BatchNorm1d(8, track_running_stats=False)),
        "core.2: BatchNorm1d cannot be run: ValueError: Expected more than 1 value",
    ),
    "those of pictures": (
        lambda: picture(torch_nn.BatchNorm2d(2, track_running_stats=False)),
        "core.3: BatchNorm2d lets a row of a batch depend on the others",
    ),
    "statistics of instances": (
        lambda: picture(torch_nn.InstanceNorm2d(2, track_running_stats=True)),
        "core.3: InstanceNorm2d changes its running_mean",
    ),
    "a norm by power iteration": (
        lambda: torch_nn.utils.parametrizations.spectral_norm(torch_nn.Linear(FEATURES, 4)),
        "parametrizations.weight.0: _SpectralNorm changes its _u",
    ),
    "a mode": (
        lambda: layers(Doubling(), torch_nn.ReLU()),
        "core.2: Doubling does something else in training than in evaluation",
    ),
    "a mode of its own": (
        lambda: Function(lambda self, x: x + 1.0 if self.training else x),
        "theirs: Function does something else in training than in evaluation",
    ),
    "another generator": (
        lambda: Function(lambda self, x: x + float(np.random.default_rng().random())),
        "theirs: Function does something else each time that it is run",
    ),
    "what was before": (lambda: Function(remember), "theirs: Function does something else each time"),
    "the mean of a batch": (
        lambda: Function(lambda self, x: x - x.mean(0)),
        "theirs: Function lets a row of a batch depend on the others",
    ),
    "rows taken for a sequence": (
        lambda: Function(lambda self, x: self.part(x)[0], part=torch_nn.LSTM(8, 8)),
        "part: LSTM lets a row of a batch depend on the others",
    ),
    "no tensor": (lambda: Function(lambda self, x: (x, x)), "cannot be run: ValueError: it gives tuple"),
    "one row for all": (lambda: Function(lambda self, x: x.sum(0)), r"cannot be run: .*gives \[8\]"),
    "a size that does not fit": (
        lambda: torch_nn.Sequential(torch_nn.Linear(FEATURES, 4), torch_nn.Linear(5, 4)),
        "theirs: 1: Linear cannot be run: RuntimeError: mat1 and mat2",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_function_of_its_inputs_is_refused(what: str) -> None:
    build, words = REFUSED[what]
    with pytest.raises(ConfigError, match=words) as refusal:
        network(lambda in_features: build())
    assert len(refusal.value.lines) == 3 and refusal.value.lines[0].startswith("model=theirs: ")
    assert "LayerNorm" in refusal.value.lines[2] or "cannot be run" in refusal.value.lines[0]


def frozen(module: torch_nn.Module) -> torch_nn.Module:
    return module.eval()


ALLOWED: dict[str, Callable[[], torch_nn.Module]] = {
    "a dropout of nothing": lambda: layers(torch_nn.Dropout(0.0)),
    "a frozen batch norm": lambda: layers(frozen(torch_nn.BatchNorm1d(8))),
    "a frozen dropout": lambda: layers(frozen(torch_nn.Dropout(0.5))),
    "layer norm": lambda: layers(torch_nn.LayerNorm(8)),
    "group norm": lambda: layers(torch_nn.GroupNorm(2, 8)),
    "instance norm": lambda: picture(torch_nn.InstanceNorm2d(2)),
    "attention": attention,
    "a transformer": lambda: layers(
        torch_nn.Unflatten(1, (2, 4)),
        torch_nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True),
        torch_nn.Flatten(),
    ),
    "an LSTM": recurrent,
    "weight norm": lambda: torch_nn.utils.parametrizations.weight_norm(torch_nn.Linear(FEATURES, 4)),
    "a branch": lambda: Function(lambda self, x: x * 2.0 if x.isfinite().all() else x),
    "a constant": lambda: Function(lambda self, x: torch.zeros_like(x)),
}


@pytest.mark.parametrize("what", ALLOWED)
def test_what_is_one_is_run_and_learns(what: str) -> None:
    build = ALLOWED[what]
    before = torch.get_rng_state()
    net = network(lambda in_features: build())
    assert torch.equal(before, torch.get_rng_state())
    obs = torch.rand(2, 5, 2, FEATURES, generator=torch.Generator().manual_seed(0))
    first = torch.zeros(2, 5, 2, dtype=torch.bool)
    out, _ = net(obs, (), first)
    step, _ = net.step(obs[:, 3], (), first[:, 3])
    torch.testing.assert_close(step, out[:, 3], rtol=1e-4, atol=1e-5)
    nn.Adam(net).step(out.square().mean((1, 2, 3)), 1e-3)


class Core(torch_nn.Module):
    """A memory of somebody's own: a running sum of features, behind some layers."""

    def __init__(self, width: int, init: Any, inner: torch_nn.Module | None = None) -> None:
        super().__init__()
        self.inner = torch_nn.Sequential(torch_nn.LayerNorm(width), inner or torch_nn.Identity())
        self.gain = torch_nn.Parameter(init.zeros(1, width) + 1.0)
        self.out_features, self.runs = width, 0

    def initial_memory(self, num_envs: int) -> tuple[Tensor, ...]:
        return (self.gain.new_zeros(len(self.gain), num_envs, self.out_features),)

    def step(self, x: Tensor, memory: Any, first: Tensor) -> tuple[Tensor, Any]:
        self.runs += 1
        h = self.inner(x) * self.gain + memory[0].masked_fill(first.unsqueeze(-1), 0.0)
        return h, (h,)

    def unroll(self, x: Tensor, memory: Any, first: Tensor) -> tuple[Tensor, Any]:
        steps = []
        for x_t, first_t in zip(x.unbind(1), first.unbind(1), strict=True):
            h, memory = self.step(x_t, memory, first_t)
            steps.append(h)
        return torch.stack(steps, 1), (torch.stack(steps, 1),)

    def forward(self, x: Tensor, memory: Any, first: Tensor) -> tuple[Tensor, Any]:
        h, _ = self.unroll(x, memory, first)
        return h, (h[:, -1],)


class Willing(Core):
    recordable = True


class Silent(Willing):
    """What it inherits, it does not say itself."""


def plan(core: Callable[..., Any]) -> Any:
    return nn.Plan(encoder=[], head=[8], activation="relu", init="uniform", core=core)


@pytest.mark.parametrize(
    ("inner", "words"),
    [
        (torch_nn.Dropout(0.2), f"core.inner.1: Dropout {RANDOM}"),
        (LastNorm(FEATURES), "core.inner.1: LastNorm changes its running_mean"),
    ],
)
def test_a_core_is_no_exception(inner: torch_nn.Module, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"model=theirs: {words}")):
        network(lambda in_features: plan(lambda width, init: Willing(width, init, inner)))
    net = network(lambda in_features: plan(lambda width, init: Core(width, init, torch_nn.Dropout(0.0))))
    assert isinstance(net.core, Core) and net.core.inner[1].training  # left in the mode that it was in


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda n: plan(Core), False),
        (lambda n: plan(Willing), True),
        (lambda n: plan(Silent), False),
        (lambda n: plan(None), True),
        (lambda n: plan(lambda width, init: nn.LSTM(width, 4, 1, 1.0, init)), True),
        (lambda n: plan(lambda width, init: type("Mine", (nn.LSTM,), {})(width, 4, 1, 1.0, init)), False),
        (lambda n: torch_nn.Linear(n, 4), False),
        (lambda n: said(torch_nn.Linear(n, 4)), True),
    ],
)
def test_what_is_theirs_is_recorded_if_it_says_so(build: Callable[[int], Any], says: bool) -> None:
    net = network(build)
    assert net.recordable is says and net.target().recordable is says
    core, runs = net.core, getattr(net.core, "runs", 0)
    recorded = nn.Recorded(lambda x, first: net(x, net.initial_memory(2), first)[0], when=net.recordable)
    for _ in range(5):
        recorded(torch.rand(2, 3, 2, FEATURES), torch.zeros(2, 3, 2, dtype=torch.bool))
    if isinstance(core, Core):
        assert core.runs - runs == 3 * (3 if says else 5)  # of the steps 1, 2 and 4, or of all


def said(module: torch_nn.Module) -> torch_nn.Module:
    module.recordable = True  # type: ignore[assignment]
    return module


def test_an_algorithms_own_code_is_recorded_if_it_says_so() -> None:
    from support import Trial, small

    from rlrun.algos.dqn import DQN

    class Mine(DQN):
        """What it does to the loss, nobody knows."""

    class Theirs(DQN):
        recordable = True

    config = small("dqn")
    task = Trial.of(config).task
    for kind, forms in ((DQN, 8), (Mine, 0), (Theirs, 8)):
        assert kind(task.spec(), config.algo, config.model).train_step._most == forms


MODULE = """
from dataclasses import dataclass
from torch import nn
from rlrun.config import key
from rlrun.models import MLPConfig
from rlrun.registry import register

@dataclass
class LooseConfig(MLPConfig):
    p: float = key("dropout")

@register("model", "loose", LooseConfig)
def loose(config, in_features):
    return nn.Sequential(nn.Linear(in_features, 8), nn.ReLU(), nn.Dropout(config.p))
"""
RECIPE = """
defaults:
  - /schema/model/loose@_here_
  - _self_
p: 0.1
hidden: []
activation: relu
init: uniform
normalize_obs: false
"""


def test_it_is_refused_before_a_folder_is_made(tmp_path: Path) -> None:
    (tmp_path / "loose.py").write_text(MODULE)
    recipe = tmp_path / "conf" / "model" / "loose.yaml"
    recipe.parent.mkdir(parents=True)
    recipe.write_text(RECIPE)
    command = [sys.executable, "-m", "rlrun", "algo=dqn", "model=loose", "imports=[loose]", "out=runs"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 3 and "model=loose: 2: Dropout draws" in done.stderr
    assert not (tmp_path / "runs").exists()
