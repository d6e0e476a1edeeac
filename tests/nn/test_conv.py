"""Convolutions: against torch's own, replica by replica, for every layout of a picture."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlrun import nn
from rlrun.cli.main import main
from rlrun.config import ConfigError
from rlrun.config.compose import compose
from rlrun.core import Spec
from rlrun.nn.conv import rows_axis
from rlrun.rng import Stream
from rlrun.runs.run import execute
from rlrun.spaces import Box, Discrete

KERNELS = [nn.Kernel(4, 3, 2), nn.Kernel(5, 2, 1)]


def conv(shape: tuple[int, ...], extra: int = 0, seeds: tuple[int, ...] = (1, 2, 3)) -> nn.Conv:
    init = nn.Init(Stream(seeds, "init"), "orthogonal", torch.float64)
    return nn.Conv(shape, int(np.prod(shape)) + extra, KERNELS, "relu", init)


@pytest.mark.parametrize("shape", [(9, 8, 3), (3, 9, 8), (9, 8)])
def test_it_is_torchs_for_every_replica(shape: tuple[int, ...]) -> None:
    layer = conv(shape, extra=2)
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((3, 6, int(np.prod(shape)) + 2)))
    out = layer(x)
    assert out.shape == (3, 6, layer.out_features)
    (out**2).sum().backward()
    own = [(w.grad.clone(), b.grad.clone()) for w, b in zip(layer.weights, layer.biases, strict=True)]
    layer.zero_grad()
    for r in range(3):
        picture = x[r, :, :-2].reshape(6, *shape)
        if len(shape) == 2:
            picture = picture.unsqueeze(1)
        elif shape[-1] == 3:
            picture = picture.permute(0, 3, 1, 2)
        for weight, bias, kernel in zip(layer.weights, layer.biases, KERNELS, strict=True):
            picture = torch.relu(torch.nn.functional.conv2d(picture, weight[r], bias[r, 0], kernel.stride))
        expected = torch.cat((picture.flatten(1), x[r, :, -2:]), -1)
        torch.testing.assert_close(out[r], expected, rtol=1e-10, atol=1e-10)
        (expected**2).sum().backward()
    for (weight, bias), w, b in zip(own, layer.weights, layer.biases, strict=True):
        torch.testing.assert_close(weight, w.grad, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(bias, b.grad, rtol=1e-10, atol=1e-10)


def test_a_replica_is_a_lone_layer_of_its_seed() -> None:
    together, alone = conv((9, 8, 3)), conv((9, 8, 3), seeds=(2,))
    for one, other in zip(together.parameters(), alone.parameters(), strict=True):
        assert torch.equal(one[1:2], other)
    filters = together.weights[0][0].flatten(1)
    torch.testing.assert_close(filters @ filters.mT, 2.0 * torch.eye(4, dtype=torch.float64))


HEIGHTS = {
    **{(9, 8): 0, (9, 8, 3): 0, (3, 9, 8): 1, (9, 8, 1): 0, (1, 9, 8): 1, (84, 84, 4): 0, (4, 84, 84): 1},
    **{(7, 6, 6): 1, (6, 6, 7): 0, (4, 4, 4): 0, (3, 32, 3): 0, (10, 5, 1): 0, (1, 10, 5): 1},
    **{(4, 84, 84, 3): 1, (4, 3, 84, 84): 2, (4, 6, 6, 7): 1, (4, 10, 5, 1): 1},
}


@pytest.mark.parametrize("shape", HEIGHTS)
def test_rows_and_columns_are_the_two_that_are_alike(shape: tuple[int, ...]) -> None:
    assert rows_axis(shape) == HEIGHTS[shape]


@cache
def recipe(model: str) -> Any:
    return compose(["algo=dqn", "env=catch", f"model={model}"]).model


def network(model: str, obs: Box, seeds: tuple[int, ...]) -> nn.Network:
    config = recipe(model)
    spec = Spec(obs, Discrete(3), 2, seeds, 100, dtype="float64")
    return nn.build_network(config, obs, [nn.Head(3)], Stream(spec.seeds, "init"), spec)


def of_layout(pictures: torch.Tensor, layout: str) -> torch.Tensor:
    """[..., H, W, C] as they are, or [..., C, H, W]."""
    return pictures if layout == "last" else pictures.movedim(-1, -3).contiguous()


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("replicas", [1, 2, 5])
@pytest.mark.parametrize("layout", ["first", "last"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("model", ["cnn", "nature_cnn", "cnn_lstm"])
def test_pictures_of_every_layout(model: str, channels: int, layout: str, replicas: int, dtype: str) -> None:
    """Steps, sequences and gradients; a replica is a lone network, and the other layout's is the same."""
    size = (38, 40) if model == "nature_cnn" else (9, 8)
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (replicas, 3, 2, *size, channels), generator=generator).to(torch.uint8)
    pictures = of_layout(pictures, layout)
    if dtype == "float32":
        pictures = pictures.double() / 255.0
    count = pictures[0, 0, 0].numel()
    obs = Box(tuple(pictures.shape[3:]), (0.0,) * count, (255.0,) * count, dtype)
    seeds = tuple(range(1, replicas + 1))
    net = network(model, obs, seeds)
    first = torch.zeros(replicas, 3, 2, dtype=torch.bool)
    first[:, 0], first[0, 2, 1] = True, True

    out, _ = net(pictures, net.initial_memory(2), first)
    assert torch.equal(net.unroll(pictures, net.initial_memory(2), first)[0], out)
    memory = net.initial_memory(2)
    for t in range(3):
        step, memory = net.step(pictures[:, t], memory, first[:, t])
        torch.testing.assert_close(step, out[:, t], rtol=1e-10, atol=1e-10)
    out.square().sum().backward()
    for name, p in net.named_parameters():
        assert p.grad is not None and bool(p.grad.isfinite().all()), name
    assert all(bool((w.grad != 0.0).any((1, 2, 3, 4)).all()) for w in convolution(net).weights)

    lone = network(model, obs, seeds[-1:])
    for name, p in lone.named_parameters():
        assert torch.equal(p[0], net.get_parameter(name)[-1])
    r = slice(replicas - 1, None)
    alone, _ = lone(pictures[r], lone.initial_memory(2), first[r])
    torch.testing.assert_close(alone, out[r], rtol=1e-9, atol=1e-9)
    alone.square().sum().backward()
    for name, p in lone.named_parameters():
        torch.testing.assert_close(p.grad, net.get_parameter(name).grad[r], rtol=1e-7, atol=1e-9)

    turned = of_layout(pictures, "first") if layout == "last" else pictures.movedim(-3, -1).contiguous()
    other = network(model, replace(obs, shape=tuple(turned.shape[3:])), seeds)
    assert rows_axis(tuple(turned.shape[3:])) == (layout == "last")
    torch.testing.assert_close(other(turned, other.initial_memory(2), first)[0], out, rtol=1e-9, atol=1e-9)


def convolution(net: nn.Network) -> nn.Conv:
    return next(module for module in net.modules() if isinstance(module, nn.Conv))


@pytest.mark.parametrize("shape", [(4, 15, 14, 3), (4, 3, 15, 14)])
def test_stacked_pictures_are_pictures_of_more_channels(shape: tuple[int, ...]) -> None:
    stack, flat = conv(shape), conv((12, 15, 14))
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((3, 6, *shape)))
    planes = x if shape[1] == 3 else x.movedim(-1, 3)
    assert torch.equal(stack(x.flatten(2)), flat(planes.flatten(2)))


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"convolutions read pictures.*\[4\]"):
        conv((4,))
    with pytest.raises(ConfigError, match=r"at least 5 x 5 pixels.*\[3, 4, 1\] have 3 x 4\n.*smaller"):
        conv((3, 4, 1))
    conv((5, 5, 1))
    with pytest.raises(ConfigError, match="not 1 channels, 2 kernels, 2 strides"):
        compose(["algo=dqn", "env=catch", "model=cnn", "model.channels=[8]"])


def test_too_small_a_picture_is_refused_before_a_folder_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["algo=dqn", "env=catch", "model=nature_cnn", f"out={tmp_path}/runs"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and "at least 36 x 36 pixels" in lines[0] and "10 x 5" in lines[0]
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("model", ["cnn", "cnn_lstm"])
def test_steps_equal_the_sequence(model: str) -> None:
    """With bytes scaled to 0 .. 1, and an extra input behind the picture."""
    config = recipe(model)
    obs = Box((10, 5, 1), (0.0,) * 50, (255.0,) * 50, "uint8")
    spec = Spec(obs, Discrete(3), 2, (1, 2), 100, dtype="float64")
    net = nn.build_network(config, obs, [nn.Head(3)], Stream(spec.seeds, "init"), spec, extra_inputs=1)
    pictures = torch.randint(0, 256, (2, 6, 2, 10, 5, 1), generator=torch.Generator().manual_seed(0))
    pictures, extra = pictures.to(torch.uint8), torch.linspace(-1, 1, 24).double().view(2, 6, 2, 1)
    first = torch.zeros(2, 6, 2, dtype=torch.bool)
    first[:, 0], first[0, 3, 1] = True, True
    whole, _ = net(pictures, net.initial_memory(2), first, extra=extra)
    memory = net.initial_memory(2)
    for t in range(6):
        out, memory = net.step(pictures[:, t], memory, first[:, t], extra[:, t])
        torch.testing.assert_close(out, whole[:, t], rtol=1e-10, atol=1e-10)


def test_every_algorithm_of_pictures_trains(tmp_path: Path) -> None:
    config = compose(["algo=dqn", "env=catch", "model=cnn", "replicas=2", "total_steps=1500"])
    config = replace(config, log=replace(config.log, tensorboard=False, plot=False))
    result = execute(config, folder=tmp_path / "run")
    policy = result.policy(1)
    action, _ = policy.act(np.zeros((10, 5, 1), np.uint8))
    assert action in (0, 1, 2)
