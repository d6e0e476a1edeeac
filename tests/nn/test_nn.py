"""Networks: against torch's own layers, steps against sequences, replicas against lone runs."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from rlrun import nn, registry, state
from rlrun.core import Spec
from rlrun.models import GRUConfig, LSTMConfig, MLPConfig, NNLSTMConfig
from rlrun.nn.lstm import GATES, _Sequence
from rlrun.nn.reference import torch_parameters
from rlrun.rng import Stream
from rlrun.spaces import Box, Discrete, MultiDiscrete, Space

RECURRENT = [LSTMConfig, GRUConfig, NNLSTMConfig]


def box(size: int, dtype: str = "float32") -> Box:
    return Box((size,), (-1.0,) * size, (1.0,) * size, dtype)


def mlp(**changes):
    return MLPConfig(
        **({"hidden": [8, 8], "activation": "tanh", "init": "uniform", "normalize_obs": False} | changes)
    )


def recurrent(kind, **changes):
    values = {
        "encoder": [7],
        "hidden_size": 5,
        "layers": 2,
        "forget_bias": 1.0,
        "head": [6],
        "activation": "relu",
        "init": "orthogonal",
        "normalize_obs": True,
        "previous_action": True,
    }
    return kind(**(values | changes))


OBS, ACTION = box(4), Discrete(3)
HEADS = (nn.Head(3),)


def spec_of(seeds=(3, 4, 5), obs: Space = OBS, action: Space = ACTION, dtype="float64") -> Spec:
    return Spec(obs, action, 2, tuple(seeds), 100, dtype=dtype)


def build(config, heads=HEADS, spec: Spec | None = None, **kinds) -> nn.Network:
    spec = spec or spec_of()
    return nn.build_network(config, spec.obs, heads, Stream(spec.seeds, "init"), spec, **kinds)


def init_of(kind="uniform", seeds=(0, 1), dtype=torch.float64) -> nn.Init:
    return nn.Init(Stream(seeds, "init"), kind, dtype)


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def flags(*shape: int, seed: int = 0, probability: float = 0.3) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed + 99).random(shape) < probability)


def actions_of(space: Space, *lead: int) -> torch.Tensor:
    rng = np.random.default_rng(7)
    if isinstance(space, Box):
        return torch.from_numpy(rng.standard_normal((*lead, *space.shape)))
    high = space.n if isinstance(space, Discrete) else np.array(space.nvec)
    return torch.from_numpy(rng.integers(0, high, (*lead, *space.shape)))


def torch_gradients(layer, r: int) -> dict[str, torch.Tensor]:
    """The gradients of replica r of one of our LSTM layers, in torch's layout."""
    parts = (layer.weight_input, layer.weight_hidden, layer.bias)
    order = ("input", "forget", "cell", "output")
    w, u, b = (torch.cat([p.grad[r][:, layer.columns(gate)].mT for gate in order]) for p in parts)
    return {"weight_ih": w, "weight_hh": u, "bias_ih": b.squeeze(-1), "bias_hh": b.squeeze(-1)}


# --- the LSTM -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("T", "N", "I", "H", "layers"), [(1, 1, 1, 1, 1), (7, 3, 4, 5, 1), (5, 2, 3, 4, 2), (12, 1, 6, 2, 3)]
)
def test_lstm_equals_torch_forward_and_backward(T, N, I, H, layers):  # noqa: E741
    ours = nn.LSTM(I, H, layers, 0.7, init_of())
    with torch.no_grad():
        for p in ours.parameters():  # biases of any value, not only those of the start
            p.add_(0.3 * numbers(*p.shape, seed=p.numel()))
    R = 2
    x = numbers(R, T, N, I).requires_grad_()
    memory = tuple(numbers(R, N, H, seed=k).requires_grad_() for k in range(2 * layers))
    never = torch.zeros(R, T, N, dtype=torch.bool)
    out, after = ours(x, memory, never)
    weights = [numbers(*t.shape, seed=50 + k) for k, t in enumerate((out, *after))]
    sum((t * w).sum() for t, w in zip((out, *after), weights, strict=True)).backward()

    for r in range(R):
        theirs = torch.nn.LSTM(I, H, layers, dtype=torch.float64)
        theirs.load_state_dict(torch_parameters(ours, r))
        x_r = x.detach()[r].clone().requires_grad_()
        h = torch.stack([m.detach()[r] for m in memory[0::2]]).requires_grad_()
        c = torch.stack([m.detach()[r] for m in memory[1::2]]).requires_grad_()
        out_r, (h_after, c_after) = theirs(x_r, (h, c))
        leaves = [leaf for k in range(layers) for leaf in (h_after[k], c_after[k])]
        sum((t * w[r]).sum() for t, w in zip((out_r, *leaves), weights, strict=True)).backward()

        close = {"rtol": 0, "atol": 1e-10}
        torch.testing.assert_close(out[r], out_r, **close)
        for k, leaf in enumerate(leaves):
            torch.testing.assert_close(after[k][r], leaf, **close)
        torch.testing.assert_close(x.grad[r], x_r.grad, **close)
        for k in range(layers):
            torch.testing.assert_close(memory[2 * k].grad[r], h.grad[k], **close)
            torch.testing.assert_close(memory[2 * k + 1].grad[r], c.grad[k], **close)
            for name, gradient in torch_gradients(ours.layers[k], r).items():
                torch.testing.assert_close(gradient, getattr(theirs, f"{name}_l{k}").grad, **close)


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 6), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(0, 1000))
def test_lstm_gradients_with_resets_equal_autograd(T, N, I, H, seed):  # noqa: E741
    """The same weights step by step, through autograd instead of the hand-written backward pass."""
    lstm = nn.LSTM(I, H, 2, 1.0, init_of(seeds=(seed, seed + 1)))
    x, first = numbers(2, T, N, I, seed=seed), flags(2, T, N, seed=seed)
    memory = tuple(numbers(2, N, H, seed=seed + k).requires_grad_() for k in range(4))
    gradients = []
    for by_step in (False, True):
        x_ = x.clone().requires_grad_()
        if by_step:
            after, rows = memory, []
            for t in range(T):
                out, after = lstm.step(x_[:, t], after, first[:, t])
                rows.append(out)
            out = torch.stack(rows, 1)
        else:
            out, after = lstm(x_, memory, first)
        loss = (out * numbers(*out.shape, seed=1)).sum() + sum(a.square().sum() for a in after)
        gradients.append(torch.autograd.grad(loss, [x_, *memory, *lstm.parameters()]))
    for ours, reference in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, reference, rtol=0, atol=1e-10)


def test_lstm_gradcheck_with_resets():
    lstm = nn.LSTM(2, 3, 1, 1.0, init_of())
    layer = lstm.layers[0]
    first = flags(2, 4, 2)
    assert first[:, 1:].any() and not first.all()

    def with_parameters(x, h, c, w, u, b):
        return _Sequence.apply(x, h, c, first, w, u, b)

    inputs = [numbers(2, 4, 2, 2), numbers(2, 2, 3), numbers(2, 2, 3, seed=1)]
    inputs += [p.detach().clone() for p in layer.parameters()]
    assert gradcheck(with_parameters, [i.requires_grad_() for i in inputs])


@pytest.mark.parametrize(("I", "H", "layers"), [(4, 32, 1), (3, 5, 2)])
def test_lstm_has_four_gates_with_weights_of_their_own(I, H, layers):  # noqa: E741
    lstm = nn.LSTM(I, H, layers, 1.0, init_of(seeds=(0,)))
    expected = 4 * H * (I + H + 1) + (layers - 1) * 4 * H * (H + H + 1)
    assert sum(p.numel() for p in lstm.parameters()) == expected
    layer = lstm.layers[0]
    columns = [set(range(4 * H)[layer.columns(gate)]) for gate in GATES]
    assert sum(len(c) for c in columns) == len(set.union(*columns)) == 4 * H
    for k, gate in enumerate(GATES):  # each matters, and in a way of its own
        x, first = numbers(1, 3, 1, I), torch.zeros(1, 3, 1, dtype=torch.bool)
        before = lstm(x, lstm.initial_memory(1), first)[0]
        with torch.no_grad():
            layer.gate(gate)[1].add_(0.5 + k)
        assert not torch.allclose(before, lstm(x, lstm.initial_memory(1), first)[0], atol=1e-3)


@pytest.mark.parametrize("init", ["uniform", "orthogonal"])
def test_forget_bias_stands_at_the_forget_gate_alone(init):
    layer = nn.LSTM(3, 4, 1, 2.5, init_of(init)).layers[0]
    for gate in GATES:
        expected = 2.5 if gate == "forget" else 0.0
        assert (layer.gate(gate)[2] == expected).all()
    # with closed input gates and no recurrence, the memory decays by sigmoid(forget_bias)
    lstm = nn.LSTM(3, 4, 1, 2.5, init_of(init))
    with torch.no_grad():
        lstm.layers[0].weight_input.zero_()
        lstm.layers[0].weight_hidden.zero_()
    c = numbers(2, 1, 4)
    _, (_, after) = lstm.step(numbers(2, 1, 3), (torch.zeros_like(c), c), torch.zeros(2, 1, dtype=torch.bool))
    torch.testing.assert_close(after, c * torch.sigmoid(torch.tensor(2.5, dtype=torch.float64)))
    reference = nn.NNLSTM(3, 4, 1, 2.5, init_of(init)).copies
    assert (reference.get_parameter("bias_ih_l0")[:, 4:8] == 2.5).all()


# --- the GRU --------------------------------------------------------------------------------


@pytest.mark.parametrize(("T", "N", "I", "H", "layers"), [(1, 1, 1, 1, 1), (6, 3, 4, 5, 1), (5, 2, 3, 4, 2)])
def test_gru_equals_torch_forward_and_backward(T, N, I, H, layers):  # noqa: E741
    ours = nn.GRU(I, H, layers, 0.5, init_of())
    with torch.no_grad():
        for p in ours.parameters():
            p.add_(0.3 * numbers(*p.shape, seed=p.numel()))
    x = numbers(2, T, N, I).requires_grad_()
    memory = tuple(numbers(2, N, H, seed=k).requires_grad_() for k in range(layers))
    out, after = ours(x, memory, torch.zeros(2, T, N, dtype=torch.bool))
    weight = numbers(*out.shape, seed=9)
    ((out * weight).sum() + sum(a.square().sum() for a in after)).backward()
    for r in range(2):
        theirs = torch.nn.GRU(I, H, layers, dtype=torch.float64)
        values = {}
        for k, layer in enumerate(ours.layers):
            zeros = torch.zeros(2 * H, dtype=torch.float64)
            values[f"weight_ih_l{k}"] = layer.weight_input[r].mT
            values[f"weight_hh_l{k}"] = layer.weight_hidden[r].mT
            values[f"bias_ih_l{k}"] = layer.bias[r, 0]
            values[f"bias_hh_l{k}"] = torch.cat((zeros, layer.bias_hidden[r, 0]))
        theirs.load_state_dict(values)
        x_r = x.detach()[r].clone().requires_grad_()
        h = torch.stack([m.detach()[r] for m in memory]).requires_grad_()
        out_r, h_after = theirs(x_r, h)
        ((out_r * weight[r]).sum() + h_after.square().sum()).backward()
        close = {"rtol": 0, "atol": 1e-10}
        torch.testing.assert_close(out[r], out_r, **close)
        torch.testing.assert_close(torch.stack([a[r] for a in after]), h_after, **close)
        torch.testing.assert_close(x.grad[r], x_r.grad, **close)
        for k, layer in enumerate(ours.layers):
            torch.testing.assert_close(memory[k].grad[r], h.grad[k], **close)
            hidden_bias = getattr(theirs, f"bias_hh_l{k}").grad[2 * H :]
            torch.testing.assert_close(layer.bias_hidden.grad[r, 0], hidden_bias, **close)
            torch.testing.assert_close(layer.bias.grad[r, 0], getattr(theirs, f"bias_ih_l{k}").grad, **close)
            for name, p in (("ih", layer.weight_input), ("hh", layer.weight_hidden)):
                torch.testing.assert_close(p.grad[r].mT, getattr(theirs, f"weight_{name}_l{k}").grad, **close)


# --- steps, sequences, resets ---------------------------------------------------------------

SPACES = [Discrete(3), MultiDiscrete((2, 3)), box(2)]


@pytest.mark.parametrize("kind", RECURRENT)
@pytest.mark.parametrize("action_space", SPACES, ids=lambda s: s.kind)
def test_steps_equal_the_sequence_with_resets_inside(kind, action_space):
    spec = spec_of(action=action_space)
    net = build(recurrent(kind), [nn.Head(3), nn.Head(1)], spec)
    R, T, N = 3, 9, 4
    obs, first = numbers(R, T, N, 4), flags(R, T, N)
    net.update_normalizer(obs, torch.ones_like(first))
    action = actions_of(action_space, R, T, N)
    memory = before = net.remember(
        tuple(m + 0.3 if m.is_floating_point() else m for m in net.initial_memory(N)),
        actions_of(action_space, R, N),
    )
    assert net.recurrent and first[:, 1:].any() and not first[:, 0].all()
    with torch.no_grad():
        out, after = net(obs, memory, first, action)
        out_too, memories = net.unroll(obs, memory, first, action)
        for t in range(T):
            row, memory = net.step(obs[:, t], memory, first[:, t])
            memory = net.remember(memory, action[:, t])
            torch.testing.assert_close(row, out[:, t], rtol=0, atol=1e-10)
            for leaf, leaves in zip(memory, memories, strict=True):
                torch.testing.assert_close(leaf, leaves[:, t], rtol=0, atol=1e-10)
        torch.testing.assert_close(out, out_too, rtol=0, atol=1e-10)
        for leaf, end, start in zip(memory, after, before, strict=True):
            torch.testing.assert_close(leaf, end, rtol=0, atol=1e-10)
            assert end.shape == start.shape and end.dtype == start.dtype
        # cutting the sequence anywhere changes nothing
        half, memory = net(obs[:, :4], before, first[:, :4], action[:, :4])
        rest, _ = net(obs[:, 4:], memory, first[:, 4:], action[:, 4:])
        torch.testing.assert_close(torch.cat((half, rest), 1), out, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", RECURRENT)
def test_first_forgets_everything_and_only_there(kind):
    net = build(recurrent(kind))
    R, T, N = 3, 6, 2
    obs, action = numbers(R, T, N, 4), actions_of(Discrete(3), R, T, N)
    first = torch.zeros(R, T, N, dtype=torch.bool)
    first[1, 3, 0] = True
    memory = tuple(m + 1 for m in net.initial_memory(N))
    other_obs, other_action = obs.clone(), action.clone()
    other_obs[:, :3] += 1.0
    other_action[:, :3] = (action[:, :3] + 1) % 3
    with torch.no_grad():
        out, _ = net(obs, memory, first, action)
        other, _ = net(other_obs, net.initial_memory(N), first, other_action)
        fresh, _ = net(
            obs[:, 3:],
            net.initial_memory(N),
            torch.ones_like(first[:, 3:]) & (torch.arange(3) == 0)[:, None],
            action[:, 3:],
        )
    torch.testing.assert_close(out[1, 3:, 0], other[1, 3:, 0], rtol=0, atol=1e-12)
    torch.testing.assert_close(out[1, 3:, 0], fresh[1, :, 0], rtol=0, atol=1e-12)
    remembering = torch.ones(R, N, dtype=torch.bool)
    remembering[1, 0] = False
    assert ((out - other)[:, 3].abs().amax(-1) > 1e-6)[remembering].all()


def test_the_previous_action_is_seen_one_step_late():
    net = build(recurrent(LSTMConfig))
    obs, first = numbers(3, 5, 2, 4), torch.zeros(3, 5, 2, dtype=torch.bool)
    action = actions_of(Discrete(3), 3, 5, 2)
    changed = action.clone()
    changed[:, 2] = (action[:, 2] + 1) % 3
    with torch.no_grad():
        out, _ = net(obs, net.initial_memory(2), first, action)
        other, _ = net(obs, net.initial_memory(2), first, changed)
    differs = (out != other).any(-1)
    assert not differs[:, :3].any() and differs[:, 3].all()
    with pytest.raises(ValueError, match="previous_action"):
        net(obs, net.initial_memory(2), first)


def test_nn_lstm_is_lstm_from_the_same_seed():
    plan = {"previous_action": False, "normalize_obs": False}
    ours, theirs = build(recurrent(LSTMConfig, **plan)), build(recurrent(NNLSTMConfig, **plan))
    obs, first = numbers(3, 6, 2, 4), flags(3, 6, 2)
    results = []
    for net in (ours, theirs):
        out, _ = net(obs, net.initial_memory(2), first)
        results.append((out, *torch.autograd.grad(out.square().sum(), list(net.head.parameters()))))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def test_float32_step_is_close_to_the_sequence():
    net = build(recurrent(LSTMConfig), spec=spec_of(dtype="float32"))
    obs, first = numbers(3, 20, 2, 4).float(), flags(3, 20, 2, probability=0.1)
    action = actions_of(Discrete(3), 3, 20, 2)
    memory = net.initial_memory(2)
    with torch.no_grad():
        out, _ = net(obs, memory, first, action)
        assert out.dtype == torch.float32
        for t in range(20):
            row, memory = net.step(obs[:, t], memory, first[:, t])
            memory = net.remember(memory, action[:, t])
            torch.testing.assert_close(row, out[:, t], rtol=0, atol=1e-6)


# --- what goes in and what comes out --------------------------------------------------------


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_mlp_is_the_textbook_formula(activation):
    net = build(mlp(activation=activation), [nn.Head(2), nn.Head(1)])
    obs = numbers(3, 5, 2, 4)
    out, memory = net(obs, (), flags(3, 5, 2))
    assert memory == () and out.shape == (3, 5, 2, 3) and not net.recurrent
    for r in range(3):
        x = obs[r]
        for k, layer in enumerate(net.head.layers):
            x = x @ layer.weight[r] + layer.bias[r]
            x = x if k == 2 else getattr(torch, activation)(x)
        torch.testing.assert_close(out[r], x, rtol=0, atol=1e-12)
    row, _ = net.step(obs[:, 2], (), flags(3, 2))
    torch.testing.assert_close(row, out[:, 2], rtol=0, atol=1e-12)


def test_observations_are_encoded():
    first = torch.zeros(2, 1, 2, dtype=torch.bool)
    never = mlp(hidden=[])

    def weights_of(space: Space, heads=HEADS, **kinds):
        net = build(never, heads, spec_of((0, 1), space), **kinds)
        return net, net.head.layers[0].weight, net.head.layers[0].bias

    net, weight, bias = weights_of(Discrete(5))
    out, _ = net(torch.tensor([[[0, 4]], [[3, 3]]]), (), first)
    torch.testing.assert_close(out[0, 0, 1], weight[0, 4] + bias[0, 0])
    torch.testing.assert_close(out[1, 0, 0], weight[1, 3] + bias[1, 0])

    net, weight, bias = weights_of(MultiDiscrete((2, 3)))
    out, _ = net(torch.tensor([[[[1, 0], [0, 2]]], [[[1, 1], [0, 0]]]]), (), first)
    torch.testing.assert_close(out[0, 0, 1], weight[0, 0] + weight[0, 4] + bias[0, 0])
    torch.testing.assert_close(out[1, 0, 0], weight[1, 1] + weight[1, 3] + bias[1, 0])

    net, weight, bias = weights_of(Box((2, 2), (0.0,) * 4, (255.0,) * 4, "uint8"))
    pixels = torch.full((2, 1, 2, 2, 2), 255, dtype=torch.uint8)
    out, _ = net(pixels, (), first)
    torch.testing.assert_close(out[:, 0, 0], weight.sum(1) + bias[:, 0])

    net, weight, bias = weights_of(box(4), extra_inputs=2)
    obs, extra = numbers(2, 1, 2, 4), numbers(2, 1, 2, 2, seed=3).requires_grad_()
    out, _ = net(obs, (), first, extra=extra)
    torch.testing.assert_close(out[:, 0], torch.cat((obs, extra), -1)[:, 0] @ weight + bias)
    row, _ = net.step(obs[:, 0], (), first[:, 0], extra=extra[:, 0])
    torch.testing.assert_close(row, out[:, 0])
    (slope,) = torch.autograd.grad(out.sum(), extra)  # a critic's slope by its action
    torch.testing.assert_close(slope[:, 0, 1], weight[:, 4:].sum(-1))


def test_dueling_advantages_are_centred_over_actions():
    net = build(mlp(), [nn.Head(4)], dueling=True)
    plain = net.head(numbers(3, 6, 4))  # [R, rows, advantages and value]
    out, _ = net(numbers(3, 6, 4).unsqueeze(2), (), flags(3, 6, 1))
    assert out.shape == (3, 6, 1, 4) and plain.shape == (3, 6, 5)
    advantage, value = plain[..., :4], plain[..., 4:]
    torch.testing.assert_close(out.squeeze(2).mean(-1, keepdim=True), value)
    torch.testing.assert_close(out.squeeze(2) - value, advantage - advantage.mean(-1, keepdim=True))
    assert (value.std((1, 2)) > 0).all()
    with pytest.raises(ValueError, match="one head"):
        build(mlp(), [nn.Head(4), nn.Head(1)], dueling=True)


@pytest.mark.parametrize("shape", [(8, 8), (4, 16), (16, 3)])
def test_orthogonal_weights_are_orthogonal(shape):
    weight = init_of("orthogonal", seeds=(0, 1, 2)).matrix(*shape, fan=shape[0], gain=2.0, blocks=3)
    assert weight.shape == (3, shape[0], 3 * shape[1])
    for block in weight.chunk(3, -1):
        square = block @ block.mT if shape[0] <= shape[1] else block.mT @ block
        torch.testing.assert_close(square, 4.0 * torch.eye(min(shape), dtype=torch.float64).expand_as(square))
    one, two, _ = weight.chunk(3, -1)
    assert not torch.allclose(one, two) and not torch.allclose(weight[0], weight[1])


def test_initial_weights_have_their_gains():
    net = build(mlp(hidden=[64], init="orthogonal"), [nn.Head(2, 0.01), nn.Head(1, 1.0)])
    hidden, output = net.head.layers
    assert torch.allclose(hidden.weight @ hidden.weight.mT, 2.0 * torch.eye(4, dtype=torch.float64))
    assert torch.allclose(output.weight.norm(dim=1), torch.tensor([0.01, 0.01, 1.0], dtype=torch.float64))
    assert not output.bias.any()
    net = build(mlp(hidden=[64]), spec=spec_of(range(20)))
    for layer, bound in zip(net.head.layers, (0.5, 0.125), strict=True):
        for p in (layer.weight, layer.bias):
            assert 0.95 * bound < p.abs().max() < bound and p.mean().abs() < 0.1 * bound


# --- replicas -------------------------------------------------------------------------------


class Body(torch.nn.Module):
    """A plain module of a user's, with a buffer, and a dropout that drops nothing."""

    def __init__(self, in_features: int, width: int) -> None:
        super().__init__()
        self.inner = torch.nn.Sequential(
            torch.nn.Linear(in_features, width), torch.nn.ReLU(), torch.nn.Dropout(0.0)
        )
        self.norm = torch.nn.LayerNorm(width)
        self.register_buffer("offset", torch.rand(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.inner(x)) + self.offset


@dataclass
class BodyConfig:
    width: int
    normalize_obs: bool = False


@pytest.fixture
def body_config():
    @registry.register("model", "body_of_test", BodyConfig)
    def build_body(config: BodyConfig, in_features: int) -> torch.nn.Module:
        return Body(in_features, config.width)

    yield BodyConfig(6)
    del registry._entries["model", "body_of_test"], registry._by_config[BodyConfig]


@pytest.fixture(params=["mlp", "lstm", "gru", "nn_lstm", "orthogonal mlp", "body"])
def config(request, body_config):
    return {
        "mlp": mlp(normalize_obs=True),
        "orthogonal mlp": mlp(init="orthogonal"),
        "lstm": recurrent(LSTMConfig),
        "gru": recurrent(GRUConfig, init="uniform"),
        "nn_lstm": recurrent(NNLSTMConfig),
        "body": body_config,
    }[request.param]


def trained(config, seeds: tuple[int, ...], steps: int) -> tuple[torch.Tensor, nn.Network, nn.Adam]:
    """Outputs after some steps of Adam on data that depend on the seed alone."""
    spec = spec_of(seeds)
    net = build(config, [nn.Head(3)], spec, dueling=True)
    optim = nn.Adam(net, max_grad_norm=0.5)
    T, N = 4, 3
    data = Stream(seeds, "data")
    for _ in range(steps + 1):
        obs, action, first = data.normal(T, N, 4), data.integers(3, T, N), data.uniform(T, N) < 0.3
        net.update_normalizer(obs, data.uniform(T, N) < 0.8)
        out, _ = net(obs, net.initial_memory(N), first, action)
        loss = (out - data.normal(T, N, 3)).square().mean((1, 2, 3))
        optim.step(loss, 1e-2)
    return out.detach(), net, optim


@pytest.mark.parametrize("steps", [0, 20])
def test_a_replica_is_a_lone_network_of_its_seed(config, steps):
    seeds = (11, 5, 8)
    out, net, optim = trained(config, seeds, steps)
    assert all(len(leaf) == 3 for leaf in state._leaves(net).values())
    for r, seed in enumerate(seeds):
        lone, lone_net, lone_optim = trained(config, (seed,), steps)
        torch.testing.assert_close(out[r], lone[0], rtol=0, atol=1e-9)
        torch.testing.assert_close(optim.flat[r], lone_optim.flat[0], rtol=0, atol=1e-9)
        for name, leaf in state._leaves(lone_net).items():
            torch.testing.assert_close(state._leaves(net)[name][r], leaf[0], rtol=0, atol=1e-9)
    assert not torch.allclose(out[0], out[1], atol=1e-3)


def test_state_goes_out_and_back_in(config):
    _, net, optim = trained(config, (1, 2), 3)
    _, fresh, fresh_optim = trained(config, (3, 4), 1)
    state.copy_leaves(state._leaves(fresh), state._leaves(net), "net")
    fresh_optim.load_state(optim.state())
    obs, first = numbers(2, 3, 1, 4), flags(2, 3, 1)
    args = obs, net.initial_memory(1), first, torch.zeros(2, 3, 1, dtype=torch.int64)
    assert torch.equal(net(*args)[0], fresh(*args)[0])
    assert torch.equal(optim.flat, fresh_optim.flat)
    for each, its_optim in ((net, optim), (fresh, fresh_optim)):
        its_optim.step(each(*args)[0].square().mean((1, 2, 3)), 1e-2)
    assert torch.equal(net(*args)[0], fresh(*args)[0])


def test_target_copies_weights_and_shares_the_normaliser(config):
    _, net, optim = trained(config, (1, 2), 2)
    target = net.target()
    flat = nn.flatten(target)
    args = numbers(2, 3, 1, 4), net.initial_memory(1), flags(2, 3, 1), torch.zeros(2, 3, 1, dtype=torch.int64)
    before = net(*args)[0].detach()
    assert torch.equal(target(*args)[0], before) and not target(*args)[0].requires_grad
    optim.step(net(*args)[0].square().mean((1, 2, 3)), 1e-2)
    assert torch.equal(target(*args)[0], before) and not torch.equal(net(*args)[0], before)
    flat.copy_(optim.flat)
    assert torch.equal(target(*args)[0], net(*args)[0])
    net.update_normalizer(5.0 + numbers(2, 3, 1, 4, seed=2), torch.ones(2, 3, 1, dtype=torch.bool))
    assert torch.equal(target(*args)[0], net(*args)[0])
    step = [each.step(args[0][:, 0], args[1], args[2][:, 0])[0] for each in (net, target)]
    assert torch.equal(*step)


def test_a_deep_copy_is_independent(config):
    _, net, _ = trained(config, (1, 2), 1)
    other = copy.deepcopy(net)
    args = numbers(2, 3, 1, 4), net.initial_memory(1), flags(2, 3, 1), torch.zeros(2, 3, 1, dtype=torch.int64)
    before = net(*args)[0]
    with torch.no_grad():
        for p in other.parameters():
            p.mul_(1.5)
    assert torch.equal(net(*args)[0], before) and not torch.equal(other(*args)[0], before)


def test_a_users_module_is_r_copies_of_itself(body_config):
    torch.manual_seed(0)
    untouched = torch.random.get_rng_state()
    net = build(body_config)
    assert torch.equal(untouched, torch.random.get_rng_state())
    names = dict(net.body.named_parameters()) | dict(net.body.named_buffers())
    assert set(names) == {"inner/0/weight", "inner/0/bias", "norm/weight", "norm/bias", "offset"}
    obs = numbers(3, 2, 2, 4)
    out, _ = net(obs, (), flags(3, 2, 2))
    for r in range(3):
        body = Body(4, 6).double().eval()
        body.load_state_dict({name.replace("/", "."): leaf[r] for name, leaf in names.items()})
        output = net.head.layers[0]
        expected = body(obs[r]) @ output.weight[r] + output.bias[r]
        torch.testing.assert_close(out[r], expected, rtol=0, atol=1e-12)
    assert not torch.equal(names["offset"][0], names["offset"][1])


# --- the normaliser -------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=4), st.integers(0, 1000))
def test_running_norm_equals_numpy_over_all_valid_rows(sizes, seed):
    R, F = 3, 2
    norm = nn.RunningNorm(R, F, torch.float64)
    chunks = [
        (numbers(R, n, 2, F, seed=seed + k) * 3 + 5 + k, flags(R, n, 2, seed=seed + k, probability=0.6))
        for k, n in enumerate(sizes)
    ]
    for x, valid in chunks:
        norm.update(
            torch.where(valid.unsqueeze(-1), x, torch.nan), valid
        )  # what is not valid is not looked at
    for r in range(R):
        rows = np.concatenate([x[r][valid[r]].numpy() for x, valid in chunks])
        assert norm.count[r] == len(rows)
        mean = rows.mean(0) if len(rows) else np.zeros(F)
        var = rows.var(0) if len(rows) else np.ones(F)
        np.testing.assert_allclose(norm.mean[r], mean, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(norm.var[r], var, rtol=1e-10, atol=1e-12)
        x = numbers(R, 4, F) * 100
        deviation = np.where(var > 1e-12 * mean**2, np.sqrt(var), 1.0)
        expected = np.clip((x[r].numpy() - mean) / deviation, -10, 10)
        np.testing.assert_allclose(norm.normalise(x)[r], expected, rtol=1e-9, atol=1e-9)


def test_running_norm_is_exact_far_from_zero_and_clips():
    norm = nn.RunningNorm(1, 1, torch.float32)
    x = 1e6 + numbers(1, 1000, 1)
    for part in x.split(170, 1):
        norm.update(part, torch.ones(part.shape[:2], dtype=torch.bool))
    assert norm.var.item() == pytest.approx(x.var(correction=0).item(), rel=1e-6)
    assert norm.normalise(torch.tensor([[[2e6], [-2e6]]])).flatten().tolist() == [10.0, -10.0]


@pytest.mark.parametrize("scale,shift", [(1e-3, 0.0), (1e3, 0.0), (1e-9, 0.0), (1.0, 100.0)])
def test_running_norm_knows_no_unit(scale, shift):
    """What it gives is the same whatever the observations are measured in, up to float32's rounding."""
    x, valid = numbers(1, 500, 3).float(), torch.ones(1, 500, dtype=torch.bool)
    plain, other = (nn.RunningNorm(1, 3, torch.float32) for _ in range(2))
    plain.update(x, valid)
    other.update(x * scale + shift, valid)
    torch.testing.assert_close(other.normalise(x * scale + shift), plain.normalise(x), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e6])
def test_a_feature_that_never_varies_is_only_shifted(value):
    norm = nn.RunningNorm(1, 1, torch.float32)
    for rows in (3, 170):
        norm.update(torch.full((1, rows, 1), value), torch.ones(1, rows, dtype=torch.bool))
    assert norm.scale.item() == 1.0 and abs(norm.normalise(torch.full((1, 1, 1), value)).item()) < 0.1


def test_running_norm_stands_still_after_enough_rows_of_each_replica():
    norm, lone = nn.RunningNorm(2, 3, torch.float64), nn.RunningNorm(1, 3, torch.float64)
    chunks = [numbers(2, 10, 3, seed=k) + k for k in range(9)]
    valid = torch.ones(2, 10, dtype=torch.bool)
    valid[0, 4:] = False  # 4 rows a chunk, and 10
    for k, x in enumerate(chunks):
        norm.update(x, valid, 30)
        lone.update(x[:1], valid[:1], 30)
        if k == 2:
            reached = norm.mean[1].clone()
    assert norm.count.tolist() == [32, 30] and torch.equal(norm.mean[1], reached)
    assert torch.equal(norm.mean[:1], lone.mean) and torch.equal(norm.scale[:1], lone.scale)


def test_a_replicas_statistics_are_its_own():
    one, two = (nn.RunningNorm(2, 3, torch.float32) for _ in range(2))
    x, valid = numbers(2, 5, 3).float(), flags(2, 5, probability=0.7)
    spoilt = x.clone()
    spoilt[1] = torch.nan
    one.update(x, valid)
    two.update(spoilt, valid)
    for a, b in zip(one.buffers(), two.buffers(), strict=True):
        assert torch.equal(a[0], b[0])
    assert two.mean[1].isnan().all() and not one.mean[1].isnan().any()


def test_only_update_normalizer_moves_the_normaliser():
    net = build(mlp(normalize_obs=True))
    obs, first = 3 + numbers(3, 4, 2, 4), flags(3, 4, 2)
    raw = net(obs, (), first)[0]
    before = [b.clone() for b in net.buffers()]
    net.step(obs[:, 0], (), first[:, 0])
    assert all(torch.equal(a, b) for a, b in zip(before, net.buffers(), strict=True))
    net.update_normalizer(obs, torch.ones_like(first))
    assert (net.norm.count == 8).all()
    assert not torch.allclose(raw, net(obs, (), first)[0], atol=1e-3)
    build(mlp()).update_normalizer(obs, torch.ones_like(first))  # nothing to move
    assert build(mlp(normalize_obs=True), spec=spec_of(obs=Discrete(3))).norm is None
