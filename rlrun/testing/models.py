"""What every model promises: rows, replicas and time kept apart."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rlrun import nn
from rlrun.config import ConfigError
from rlrun.config.compose import compose
from rlrun.core import Memory, Spec
from rlrun.lazy import torch
from rlrun.rng import Stream
from rlrun.spaces import Box, Discrete
from rlrun.testing.rules import MODELS, require

SEEDS, T, N = (5, 6, 7), 6, 2
# What a model may be made for: the first of them that it can be built on.
SHAPES: tuple[tuple[int, ...], ...] = ((6,), (12, 12, 3), (36, 36, 4))


def check_model(model: str, *overrides: str, rules: Collection[int] | None = None) -> None:
    """Build the networks of a recipe of conf/model for three replicas, and call them.

    Args:
        model: the recipe's name.
        overrides: what `rlrun` would be told besides, such as "imports=[my_model]".
        rules: the numbers of the rules to check; all by default.

    Raises:
        RuleError: a rule of CONTRIBUTING.md is broken; the message says which, and how.
        ConfigError: the recipe or an override is refused.
    """
    for check in model_checks(model, *overrides, rules=rules).values():
        check()


def model_checks(
    model: str, *overrides: str, rules: Collection[int] | None = None
) -> Mapping[str, Callable[[], None]]:
    """The checks that `check_model` makes of this one, by name: for a test of each."""
    return MODELS.ready(Subject(model, overrides), rules)


@dataclass(frozen=True)
class Subject:
    """A recipe of conf/model with overrides on top, and what it is shown."""

    model: str
    more: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join((f"model={self.model}", *self.more))

    @cached_property
    def config(self) -> Any:
        return compose([f"model={self.model}", *self.more]).model

    def network(self, seeds: tuple[int, ...] = SEEDS) -> Any:
        """Its network of three outputs, in float64."""
        space = self.space
        spec = Spec(space, Discrete(3), N, seeds, 1, dtype="float64")
        return nn.build_network(self.config, space, [nn.Head(3)], Stream(seeds, "init"), spec)

    @cached_property
    def space(self) -> Box:
        """The observations that it takes: pictures where it takes no vector."""
        refused: list[str] = []
        for shape in SHAPES:
            size = 1
            for width in shape:
                size *= width
            space = Box(shape, (-1.0,) * size, (1.0,) * size)
            spec = Spec(space, Discrete(3), N, (0,), 1, dtype="float64")
            try:
                nn.build_network(self.config, space, [nn.Head(3)], Stream((0,), "init"), spec)
            except (ConfigError, ValueError) as error:
                refused.append(f"observations of {list(shape)}: {error}")
            else:
                return space
        raise ConfigError(f"{self} can be built on nothing", *refused)

    def shown(self) -> tuple[Any, Any, Any]:
        """Observations [R, T, N, ...], `first` and actions [R, T, N]; one episode begins inside."""
        rng = Stream(SEEDS, "shown")
        obs = rng.normal(T, N, *self.space.shape)
        first = torch.zeros(len(SEEDS), T, N, dtype=torch.bool)
        first[:, 0] = True
        first[:, T // 2, 0] = True
        return obs, first, (rng.uniform(T, N) * 3).long()

    def memory(self, network: Any) -> Memory:
        """Memory as it is after a while, not that of a beginning."""
        obs, first, action = self.shown()
        return network(obs.flip(1), network.initial_memory(N), first, action)[1]


@MODELS.of(10)
def rows_do_not_meet(subject: Subject) -> None:
    """Another observation of one env of one replica moves its own later outputs, and none beside them."""
    network = subject.network()
    obs, first, action = subject.shown()
    changed = obs.clone()
    changed[1, 2, 1] += 1.0
    with torch.no_grad():
        before = network(obs, network.initial_memory(N), first, action)[0]
        after = network(changed, network.initial_memory(N), first, action)[0]
    moved = (after - before).abs().amax(-1) > 1e-9  # [R, T, N]
    require(before.shape == (len(SEEDS), T, N, 3), f"outputs are {list(before.shape)}")
    require(moved[1, 2, 1], "an observation has no effect on the output")
    moved[1, 2:, 1] = False
    places = [f"replica {r}, step {t}, env {n}" for r, t, n in moved.nonzero().tolist()]
    require(not places, f"an observation of replica 1, step 2, env 1 moves the output of {places[:1]}")


@MODELS.of(11)
def nothing_is_drawn(subject: Subject) -> None:
    """The same twice over, and torch's generator as it was."""
    network = subject.network()
    obs, first, action = subject.shown()
    before = torch.get_rng_state()
    one, two = (network(obs, network.initial_memory(N), first, action)[0] for _ in range(2))
    require(torch.equal(one, two), "the same observations give other outputs the second time")
    require(torch.equal(torch.get_rng_state(), before), "numbers were drawn from torch's generator")


@MODELS.of(12)
def first_weights_are_a_function_of_the_seed(subject: Subject) -> None:
    """The middle one of three replicas is the one of a lone network; two seeds differ."""
    batch, lone = subject.network(), subject.network(SEEDS[1:2])
    states = [dict(net.named_parameters()) | dict(net.named_buffers()) for net in (batch, lone)]
    require(states[0].keys() == states[1].keys(), "it has other weights with three replicas than with one")
    for name, leaf in states[0].items():
        require(leaf.shape[:1] == (len(SEEDS),), f"{name} is {list(leaf.shape)} with three replicas")
        require(torch.equal(leaf[1], states[1][name][0]), f"{name} of a seed differs from a lone network's")
    same = all(torch.equal(leaf[0], leaf[1]) for leaf in states[0].values())
    require(not same, "two seeds begin with the same weights")


@MODELS.of(13)
def steps_are_the_sequence(subject: Subject) -> None:
    """One step after the other, with an episode that begins in between, equals the whole at once."""
    network = subject.network()
    obs, first, action = subject.shown()
    first[:, 0] = False
    with torch.no_grad():
        memory = start = subject.memory(network)
        whole, after = network(obs, start, first, action)
        outs = []
        for t in range(T):
            out, memory = network.step(obs[:, t], memory, first[:, t])
            memory = network.remember(memory, action[:, t])
            outs.append(out)
    worst = float((torch.stack(outs, 1) - whole).abs().max())
    require(worst < 1e-6, f"`step` and `forward` differ by {worst:.2g}")
    require(len(memory) == len(after), "`step` and `forward` have memories of other lengths")
    for i, (one, other) in enumerate(zip(memory, after, strict=True)):
        worst = float((one - other).abs().max())
        require(worst < 1e-6, f"leaf {i} of the memory after `step` and `forward` differs by {worst:.2g}")


@MODELS.of(13)
def first_clears_all_memory(subject: Subject) -> None:
    network = subject.network()
    obs, first, action = subject.shown()
    with torch.no_grad():
        for call, arguments in (
            ("forward", lambda memory: network(obs, memory, first, action)),
            ("step", lambda memory: network.step(obs[:, 0], memory, first[:, 0])),
        ):
            fresh, used = (
                arguments(memory)[0] for memory in (network.initial_memory(N), subject.memory(network))
            )
            require(torch.allclose(fresh, used, atol=1e-9), f"`{call}` remembers what was before `first`")


@MODELS.of(14)
def gradients_reach_every_weight(subject: Subject) -> None:
    network = subject.network()
    obs, first, action = subject.shown()
    out = network(obs, network.initial_memory(N), first, action)[0]
    out.square().sum().backward()
    for name, weight in network.named_parameters():
        require(weight.grad is not None, f"no gradient comes to {name}")
        require(weight.grad.isfinite().all(), f"the gradient of {name} is not finite")
        dead = [r for r in range(len(SEEDS)) if not weight.grad[r].any()]
        require(not dead, f"the gradient of {name} is zero in replica {dead[:1]}")
