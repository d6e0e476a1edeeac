"""A whole network: observations in, the columns of its heads out, with memory or without.

    obs -> flat features -> normaliser -> convolutions, encoder -> memory core -> head MLP -> output
           + extra inputs, previous action

What a model kind is made of is said by its builder, registered as any other:

    @register("model", "mine", MyConfig)
    def build(config: MyConfig, in_features: int) -> torch.nn.Module: ...

The builder returns either a `Plan`, as the built-in kinds do, or a plain module, a body
[rows, in_features] -> [rows, out]. A plain module is built once a replica, with torch's
global generator seeded from the replica's own stream and put back afterwards, and the
output layer is added behind it. A config may have `normalize_obs` and `previous_action`;
both work with either. A module, or a `Plan`'s core, must be a function of its weights and
its inputs, row by row (`pure`), and is recorded only if it says `recordable = True`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from rlrun import registry
from rlrun.core import Memory, Spec
from rlrun.nn.conv import Conv, Kernel
from rlrun.nn.encoding import Encoding, picture_of
from rlrun.nn.linear import MLP, Init
from rlrun.nn.norm import RunningNorm
from rlrun.nn.pure import ROWS, require_pure
from rlrun.nn.record import recordable
from rlrun.nn.reference import Copies
from rlrun.rng import Stream
from rlrun.spaces import Box, Space, size


class Head(NamedTuple):
    """`size` output columns, their initial weights scaled by `gain`."""

    size: int
    gain: float = 1.0


class Core(Protocol):
    """Memory over time; see `LSTM` for the shapes."""

    out_features: int

    def initial_memory(self, num_envs: int) -> Memory: ...
    def forward(self, x: Tensor, memory: Memory, first: Tensor) -> tuple[Tensor, Memory]: ...
    def unroll(self, x: Tensor, memory: Memory, first: Tensor) -> tuple[Tensor, Memory]: ...
    def step(self, x: Tensor, memory: Memory, first: Tensor) -> tuple[Tensor, Memory]: ...


@dataclass(frozen=True)
class Plan:
    """The layers of a built-in network; `core` makes its memory, from the width before it."""

    encoder: Sequence[int]
    head: Sequence[int]
    activation: str
    init: str
    core: Callable[[int, Init], Core] | None = None
    convolutions: Sequence[Kernel] = ()


def build_network(
    model_config: Any,
    obs_space: Space,
    heads: Sequence[Head],
    init: Stream,
    spec: Spec,
    *,
    dueling: bool = False,
    extra_inputs: int = 0,
    norm: RunningNorm | None = None,
) -> Network:
    """A network of R = spec.replicas replicas, replica r's weights a function of its seed alone.

    With `dueling` (Wang et al. 2016) the single head's values are a state value plus
    advantages whose mean over actions is zero. `extra_inputs` are features beside the
    observation, such as a critic's action. `norm` is the normaliser of another network that
    sees the same observations, which they then share.
    """
    if dueling and len(heads) != 1:
        raise ValueError(f"dueling needs exactly one head, not {len(heads)}")
    dtype = getattr(torch, spec.dtype)
    if norm is None and getattr(model_config, "normalize_obs", False) and isinstance(obs_space, Box):
        norm = RunningNorm(spec.replicas, obs_space.size, dtype, spec.device)
    previous = spec.action if getattr(model_config, "previous_action", False) else None
    width = size(obs_space) + extra_inputs + (size(previous) if previous is not None else 0)

    entry = registry.entry_of(model_config)
    with torch.random.fork_rng(devices=[]):  # a plain module draws its weights from torch's generator
        plan = entry.build(model_config, width)
    body: nn.Module | None = None
    core: Core | None = None
    if isinstance(plan, Plan):
        weights = Init.of(spec, init, plan.init)
        layers: list[Any] = []
        if plan.convolutions:
            layers.append(Conv(picture_of(obs_space), width, plan.convolutions, plan.activation, weights))
            width = layers[-1].out_features
        if plan.encoder:
            layers.append(MLP(width, plan.encoder, plan.activation, weights))
            width = layers[-1].out_features
        if layers:
            body = nn.Sequential(*layers) if len(layers) > 1 else layers[0]
        if plan.core is not None:
            core = plan.core(width, weights)
            if isinstance(core, nn.Module):
                require_pure(core, partial(_run_core, core, width, weights), entry.kind, "core")
            width = core.out_features
        hidden, activation = plan.head, plan.activation
    else:
        weights = Init.of(spec, init, getattr(model_config, "init", "uniform"))
        body = _copies(model_config, width, init).to(spec.device, dtype)
        run = partial(_run_body, plan.to(spec.device, dtype), width)
        width = require_pure(plan, run, entry.kind).shape[-1]
        hidden, activation = (), "relu"
    outputs = [*heads, Head(1)] if dueling else heads
    head = MLP(width, hidden, activation, weights, outputs)
    return Network(obs_space, norm, body, core, head, previous, dueling, spec.replicas)


def _copies(config: Any, in_features: int, init: Stream) -> Copies:
    seeds = init.integers(2**52).tolist()
    modules = []
    with torch.random.fork_rng(devices=[]):
        for seed in seeds:
            torch.manual_seed(seed)
            modules.append(registry.entry_of(config).build(config, in_features))
    return Copies(modules)


def _run_body(body: nn.Module, width: int, rows: int) -> Tensor:
    """What a plain module makes of the last rows of some features: [rows, out]."""
    weight = next(body.parameters(), torch.empty(0))
    out = body(_numbers(width)[-rows:].to(weight))
    if not isinstance(out, Tensor) or out.shape[:-1] != (rows,):
        raise ValueError(f"it gives {list(out.shape) if isinstance(out, Tensor) else type(out).__name__}")
    return out


def _run_core(core: Core, width: int, weights: Init, rows: int) -> Tensor:
    """What a core makes of a step and of a sequence of two, in so many environments: [rows, columns]."""
    x = _numbers(width)[-rows:].to(weights.device, weights.dtype).expand(weights.replicas, -1, -1)
    memory, first = core.initial_memory(rows), torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)
    step, _ = core.step(x, memory, first)
    sequence, _ = core.forward(torch.stack((x, x), 1), memory, torch.stack((first, first), 1))
    return torch.cat((step.unsqueeze(1), sequence), 1).transpose(0, 2).flatten(1)


def _numbers(width: int) -> Tensor:
    """A few rows of features between 0 and 1, all of them different."""
    return torch.arange(1.0, ROWS * width + 1).mul_(0.618034).fmod_(1.0).view(ROWS, width)


class Network(nn.Module):
    """See `build_network`. Shapes: R replicas, T time, N environments, then features.

    `recurrent` says whether there is any memory: then it is a flat tuple of leaves
    [R, N, ...], else (). Memory is cleared by the network, wherever `first` is true. The
    last leaf is the previous action, where the model uses it: `remember` stores it after
    acting, and sequences take it from `action`; at an episode's start there is none, and
    its features are zero.
    """

    def __init__(
        self,
        obs_space: Space,
        norm: RunningNorm | None,
        body: nn.Module | None,
        core: Core | None,
        head: MLP,
        previous: Space | None,
        dueling: bool,
        replicas: int,
    ) -> None:
        super().__init__()
        self.norm, self.body, self.core, self.head = norm, body, core, head
        self.replicas = replicas
        self.recurrent = core is not None or previous is not None
        self.out_features = head.out_features - 1 if dueling else head.out_features
        # Bodies and cores may be somebody's own, and torch's nn.LSTM has to be told where to stop.
        theirs = [body] if isinstance(body, Copies) else []
        self.recordable = recordable(*theirs, *([] if core is None else [core]))
        weight = next(head.parameters())
        self._dtype, self._device = weight.dtype, weight.device
        # Attributes of a module are slow to read, and the small networks of reinforcement
        # learning are called a hundred thousand times a minute: hold the parts directly.
        self._normalise = norm.normalise if norm is not None else None
        self._body = body.forward if body is not None else None
        self._core = (core,)  # in a tuple, or it would be registered a second time
        self._head = head.forward
        self._obs = Encoding(obs_space, self._dtype, self._device)
        self._previous = Encoding(previous, self._dtype, self._device) if previous is not None else None
        self._centre = self._centring(self.out_features) if dueling else None

    def _centring(self, actions: int) -> Tensor:
        """[A + 1, A]: advantages less their mean, plus the last column, as one product."""
        eye = torch.eye(actions, dtype=self._dtype, device=self._device)
        return torch.cat((eye - 1.0 / actions, torch.ones_like(eye[:1])))

    def initial_memory(self, num_envs: int) -> Memory:
        """Memory at the start of an episode, leaves [R, num_envs, ...]."""
        core = self._core[0]
        memory = core.initial_memory(num_envs) if core is not None else ()
        if self._previous is not None:
            memory = (*memory, self._previous.zeros(self.replicas, num_envs))
        return memory

    def forward(
        self,
        obs: Tensor,
        memory: Memory,
        first: Tensor,
        action: Tensor | None = None,
        extra: Tensor | None = None,
    ) -> tuple[Tensor, Memory]:
        """obs [R, T, N, ...], memory before step 0, first [R, T, N] -> out [R, T, N, columns], memory after.

        `action` [R, T, N, ...] are the actions taken, needed where the model sees the
        previous one; `extra` is [R, T, N, extra_inputs].
        """
        return self._sequence(obs, memory, first, action, extra, every=False)

    def unroll(
        self,
        obs: Tensor,
        memory: Memory,
        first: Tensor,
        action: Tensor | None = None,
        extra: Tensor | None = None,
    ) -> tuple[Tensor, Memory]:
        """As `forward`, with the memory after every step: leaves [R, T, N, ...]."""
        return self._sequence(obs, memory, first, action, extra, every=True)

    def _sequence(
        self,
        obs: Tensor,
        memory: Memory,
        first: Tensor,
        action: Tensor | None,
        extra: Tensor | None,
        every: bool,
    ) -> tuple[Tensor, Memory]:
        R, T, N = obs.shape[:3]
        before = None
        if self._previous is not None:
            if action is None:
                raise ValueError("a model with previous_action needs the actions of a sequence")
            before = torch.cat((memory[-1].unsqueeze(1), action[:, :-1]), 1)
            after = (action if every else action[:, -1],)
            memory = memory[:-1]
        x = self._inputs(obs, first, before, extra)
        if self._body is not None:
            x = self._body(x)
        core = self._core[0]
        if core is not None:
            run = core.unroll if every else core.forward
            y, memory = run(x.view(R, T, N, x.shape[-1]), memory, first)
            x = y.reshape(R, T * N, y.shape[-1])
        x = self._head(x)
        if self._centre is not None:
            x = x @ self._centre
        return x.view(R, T, N, x.shape[-1]), memory if before is None else (*memory, *after)

    def step(
        self, obs: Tensor, memory: Memory, first: Tensor, extra: Tensor | None = None
    ) -> tuple[Tensor, Memory]:
        """A sequence of one: obs [R, N, ...], memory, first [R, N] -> out [R, N, columns], memory after."""
        before = memory[-1] if self._previous is not None else None
        x = self._inputs(obs, first, before, extra)
        if self._body is not None:
            x = self._body(x)
        core = self._core[0]
        if core is not None:
            x, memory = core.step(x, memory if before is None else memory[:-1], first)
            if before is not None:
                memory = (*memory, before)
        x = self._head(x)
        return (x if self._centre is None else x @ self._centre), memory

    def remember(self, memory: Memory, action: Tensor) -> Memory:
        """The memory after `step`, with the action [R, N, ...] that was then taken."""
        return memory if self._previous is None else (*memory[:-1], action)

    def update_normalizer(self, obs: Tensor, valid: Tensor, enough: int | None = None) -> None:
        """Let the normaliser learn from obs [R, T, N, ...] where valid [R, T, N]; for `update` only.

        Of `enough` rows at most: the experience of a policy that learns changes, logged steps do not.
        """
        if self.norm is not None:
            R, T, N = valid.shape
            self.norm.update(self._obs(obs).view(R, T, N, -1), valid, enough)

    def target(self) -> Network:
        """A frozen copy of the weights that shares the normaliser: a target network."""
        memo = {} if self.norm is None else {id(self.norm): self.norm}
        return copy.deepcopy(self, memo).requires_grad_(False)

    def _inputs(self, obs: Tensor, first: Tensor, before: Tensor | None, extra: Tensor | None) -> Tensor:
        x = self._obs(obs)  # [R, rows, F]: T and N are one axis for everything but the core
        if self._normalise is not None:
            x = self._normalise(x)
        if extra is None and before is None:
            return x
        parts = [x]
        if extra is not None:
            parts.append(extra.reshape(len(x), -1, extra.shape[-1]))
        if before is not None and self._previous is not None:
            features = self._previous(before)
            parts.append(features.masked_fill(first.reshape(len(x), -1, 1), 0.0))
        return torch.cat(parts, -1)
