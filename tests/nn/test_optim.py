"""Adam against torch's own, replica by replica, and the packing of parameters."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlrun import nn
from rlrun.nn import RunningNorm
from rlrun.rng import Stream

INF = float("inf")


class Toy(torch.nn.Module):
    """R small regressions that share nothing; a replica's data are a function of its seed."""

    def __init__(self, seeds: tuple[int, ...], dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        init = Stream(seeds, "init")
        self.weight = torch.nn.Parameter(init.normal(3, 4).to(dtype))
        self.scale = torch.nn.Parameter(init.normal().to(dtype))
        self.bias = torch.nn.Parameter(init.normal(1, 4).to(dtype))
        self.unused = torch.nn.Parameter(init.normal(2).to(dtype))
        self.data = Stream(seeds, "data")

    def losses(self, scale: float = 1.0) -> torch.Tensor:
        x, y = (self.data.normal(5, n).to(self.bias.dtype) for n in (3, 4))
        out = torch.tanh(x @ self.weight + self.bias) * self.scale[:, None, None]
        return scale * (out - y).square().sum((1, 2))


def values(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in module.named_parameters()}


@settings(deadline=None, max_examples=20)
@given(
    clip=st.sampled_from(["norm", "value", None]),
    bound=st.floats(0.05, 20.0),
    scale=st.sampled_from([1e-3, 1.0, 30.0]),
    eps=st.sampled_from([1e-8, 1e-5, 1e-2]),
    seeds=st.lists(st.integers(0, 99), min_size=1, max_size=3, unique=True),
)
def test_adam_equals_torch_with_torchs_clipping(clip, bound, scale, eps, seeds):
    ours = Toy(tuple(seeds))
    kinds = {} if clip is None else {"max_grad_norm": bound, "clip": clip}
    adam = nn.Adam(ours, eps=eps, **kinds)
    references = [Toy((seed,)) for seed in seeds]
    optims = [torch.optim.Adam(toy.parameters(), lr=1.0, eps=eps) for toy in references]
    for step in range(12):
        rate = 0.1 / (1 + step)
        norms = adam.step(ours.losses(scale), rate)
        assert norms.shape == (len(seeds),) and not norms.requires_grad
        for r, (toy, optim) in enumerate(zip(references, optims, strict=True)):
            optim.zero_grad(set_to_none=False)
            toy.losses(scale).sum().backward()
            toy.unused.grad = torch.zeros_like(toy.unused)
            norm = torch.nn.utils.get_total_norm([p.grad for p in toy.parameters()])
            torch.testing.assert_close(norms[r], norm, rtol=1e-12, atol=0)
            if clip == "norm":
                torch.nn.utils.clip_grad_norm_(toy.parameters(), bound)
            elif clip == "value":
                torch.nn.utils.clip_grad_value_(toy.parameters(), bound)
            optim.param_groups[0]["lr"] = rate
            optim.step()
            for name, p in toy.named_parameters():
                torch.testing.assert_close(ours.get_parameter(name)[r], p[0], rtol=0, atol=1e-11)


def test_float32_stays_with_torch():
    ours, toy = Toy((1,), torch.float32), Toy((1,), torch.float32)
    adam, reference = nn.Adam(ours), torch.optim.Adam(toy.parameters(), lr=1e-2)
    for _ in range(50):
        adam.step(ours.losses(), 1e-2)
        reference.zero_grad()
        toy.losses().sum().backward()
        reference.step()
    for a, b in zip(ours.parameters(), toy.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert adam.flat.dtype == torch.float32


def test_each_replica_has_its_own_learning_rate():
    ours = Toy((1, 2, 3))
    adam = nn.Adam(ours)
    rates = torch.tensor([1e-2, 0.0, 3e-1])
    before = adam.flat.clone()
    lone = [Toy((seed,)) for seed in (1, 2, 3)]
    lone_adams = [nn.Adam(toy) for toy in lone]
    for _ in range(3):
        adam.step(ours.losses(), rates)
        for toy, lone_adam, rate in zip(lone, lone_adams, rates.tolist(), strict=True):
            lone_adam.step(toy.losses(), rate)
    torch.testing.assert_close(adam.flat, torch.cat([a.flat for a in lone_adams]), rtol=1e-6, atol=1e-8)
    assert torch.equal(adam.flat[1], before[1]) and not torch.equal(adam.flat[0], before[0])


@pytest.mark.parametrize("clip", ["norm", "value", None])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("poison", [float("nan"), INF, -INF, 1e300])
@pytest.mark.parametrize("when", [0, 2])
def test_a_replica_that_is_not_finite_stays_alone_and_untouched(clip, dtype, poison, when):
    toys = [Toy((1, 2, 3), dtype) for _ in range(2)]
    kinds = {} if clip is None else {"max_grad_norm": 0.5, "clip": clip}
    adams = [nn.Adam(toy, **kinds) for toy in toys]
    for step in range(5):
        clean, bad = (toy.losses() for toy in toys)
        if step == when:
            stopped = {k: v[1].clone() for k, v in adams[1].state().items()} | {
                "flat": adams[1].flat[1].clone()
            }
            # 1e300 squared is beyond float64: a finite gradient whose norm is not
            bad = bad * torch.tensor([1.0, poison, 1.0]).to(dtype)
        adams[0].step(clean, 1e-2)
        norm = adams[1].step(bad, 1e-2)
        if step == when:
            assert norm.isfinite().tolist() == [True, False, True]
            after = {k: v[1] for k, v in adams[1].state().items()} | {"flat": adams[1].flat[1]}
            assert all(torch.equal(after[k], stopped[k]) for k in stopped)
    steps = (1 - adams[1].state()["correction"]).log() / torch.tensor([0.9, 0.999], dtype=torch.float64).log()
    torch.testing.assert_close(steps, torch.tensor([5.0, 4.0, 5.0]).double().unsqueeze(1).expand(3, 2))
    for r in (0, 2):
        assert torch.equal(adams[0].flat[r], adams[1].flat[r])
        for name, leaf in adams[0].state().items():
            assert torch.equal(leaf[r], adams[1].state()[name][r])
    assert adams[1].flat.isfinite().all() and not torch.equal(adams[0].flat[1], adams[1].flat[1])


def test_packing_keeps_values_and_makes_views():
    toy, other = Toy((1, 2)), Toy((3, 4))
    before, identities = values(toy), [id(p) for p in toy.parameters()]
    flat = nn.flatten([toy, other])
    assert flat.shape == (2, 2 * (12 + 1 + 4 + 2)) and flat.is_contiguous() and not flat.requires_grad
    assert identities == [id(p) for p in toy.parameters()]
    for name, p in toy.named_parameters():
        assert torch.equal(p, before[name]) and p.requires_grad
    assert torch.equal(flat[1, :12], before["weight"][1].flatten())
    flat.fill_(0.25)
    assert all((p == 0.25).all() for module in (toy, other) for p in module.parameters())
    with torch.no_grad():
        toy.bias[1] = 7.0
    assert (flat[1] == 7.0).sum() == 4 and (flat[0] == 0.25).all()


def test_targets_follow_the_flat_vector():
    online, target = Toy((1, 2)), Toy((3, 4))
    adam, target_flat = nn.Adam(online), nn.flatten(target)
    start = values(target)
    target_flat.lerp_(adam.flat, 0.25)
    for name, p in target.named_parameters():
        torch.testing.assert_close(p, 0.75 * start[name] + 0.25 * online.get_parameter(name))
    target_flat.copy_(adam.flat)
    frozen = values(online)
    adam.step(online.losses(), 0.1)
    for name, p in target.named_parameters():
        assert torch.equal(p, frozen[name])
    assert not torch.equal(online.weight, target.weight)


def test_shared_parameters_are_packed_once():
    toy = Toy((1, 2))
    assert nn.Adam([toy, toy]).flat.shape == (2, 19)


def test_only_the_given_modules_learn():
    """A loss through another network leaves that one alone, gradients included."""
    actor, critic = Toy((1, 2)), Toy((3, 4))
    actor_adam, critic_adam = nn.Adam(actor), nn.Adam(critic)
    before = critic_adam.flat.clone()
    actor_adam.step(actor.losses() * critic.losses(), 0.1)
    assert torch.equal(critic_adam.flat, before)
    assert all(p.grad is None for module in (actor, critic) for p in module.parameters())


def test_state_continues_exactly():
    one, two = Toy((1, 2)), Toy((1, 2))
    adam = nn.Adam(one, max_grad_norm=1.0)
    for _ in range(3):
        adam.step(one.losses(), 1e-2)
    other = nn.Adam(two, max_grad_norm=1.0)
    other.flat.copy_(adam.flat)
    other.load_state({name: leaf.clone() for name, leaf in adam.state().items()})
    two.data.load_state(one.data.state())
    for toy, optim in ((one, adam), (two, other)):
        optim.step(toy.losses(), 1e-2)
    assert torch.equal(adam.flat, other.flat)
    assert all(len(leaf) == 2 for leaf in adam.state().values())
    with pytest.raises(ValueError, match="optimizer"):
        other.load_state({"m": adam.state()["m"]})


def test_a_loss_of_another_shape_is_refused():
    toy = Toy((1, 2))
    with pytest.raises(ValueError, match="shape"):
        nn.Adam(toy).step(toy.losses().mean(), 1e-2)


def test_normaliser_buffers_are_not_packed():
    module = torch.nn.ModuleList([Toy((1, 2)), RunningNorm(2, 3, torch.float64)])
    assert nn.flatten(module).shape == (2, 19)
