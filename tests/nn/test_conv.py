"""Convolutions: against torch's own, replica by replica, for every layout of a picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rlrun import nn
from rlrun.config import ConfigError
from rlrun.config.compose import compose
from rlrun.core import Spec
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


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"convolutions read pictures.*\[4\]"):
        conv((4,))
    with pytest.raises(ConfigError, match="only 1 x 1 pixels reach that layer"):
        conv((3, 3, 1))
    with pytest.raises(ConfigError, match="not 1 channels, 2 kernels, 2 strides"):
        compose(["algo=dqn", "env=catch", "model=cnn", "model.channels=[8]"])


@pytest.mark.parametrize("model", ["cnn", "cnn_lstm"])
def test_steps_equal_the_sequence(model: str) -> None:
    """With bytes scaled to 0 .. 1, and an extra input behind the picture."""
    config = compose(["algo=ppo", "env=catch", f"model={model}"]).model
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
