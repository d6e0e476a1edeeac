"""Whether a run fits into memory: what it will hold at once, counted before anything of it is made.

Counted are the networks and what trains them, a rollout, replay, environments and evaluation; not Python,
PyTorch and what a gradient step takes in passing beside its minibatch: what is refused could not have fitted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from rlrun import envs, nn
from rlrun.config import ConfigError
from rlrun.config.run import RunConfig
from rlrun.core import Algorithm, Rollout, Spec
from rlrun.lazy import torch
from rlrun.parts.replay import Replay
from rlrun.rng import Stream
from rlrun.runs.room import Room, available, size
from rlrun.runs.task import Task, build
from rlrun.spaces import Space
from rlrun.state import Stateful

if TYPE_CHECKING:
    from rlrun.nn import Ledger

_MANY = 10_000  # copies of an env: fewer are made without a thought
_COPY = {True: 3000, False: 110}  # bytes of one beside its observations; one by one in Python, or as arrays
_REPLICA = 144  # bytes that a replica takes in any case
_ON_DEVICE = ("networks", "making the networks", "replay", "acting", "a minibatch")
_ON_HOST = ("rollouts", "environments", "evaluation")


@dataclass(frozen=True)
class Need:
    """Bytes that a run will fill at the same time, by what they are for; and its largest reservation."""

    parts: dict[str, int]
    reserved: int = 0

    @property
    def total(self) -> int:
        return sum(self.parts.values())


def prepared(config: RunConfig) -> Task:
    """A config's task, if it fits into memory.

    Raises:
        ConfigError: as `Task.of`; or what it needs, what there is, and what to lower.
    """
    room = available()
    try:
        task = glance(config)
        _require(config, task, room, _ON_HOST if _on_cuda(config) else (*_ON_HOST, *_ON_DEVICE))
        if _on_cuda(config) and torch.cuda.is_available():
            free = torch.cuda.mem_get_info(config.device)[0], f"free on {config.device}"
            _require(config, task, Room(free, free), _ON_DEVICE)
        return task if _few(config) else Task.of(config)
    except MemoryError as error:
        label = config.choices.get("env")
        raise ConfigError(f"env={label} does not fit into memory", str(error)) from error


def glance(config: RunConfig) -> Task:
    """A config's task, of one copy of its env where it asks for a great many. PyTorch is not imported.

    Raises:
        ConfigError: as `Task.of`.
    """
    return Task.of(config if _few(config) else replace(config, replicas=1, num_envs=1))


def _few(config: RunConfig) -> bool:
    return config.replicas * config.num_envs <= _MANY


def require_scores(episodes: int, replicas: int) -> None:
    """ConfigError where the scores of so many episodes of each replica do not fit into memory."""
    (there, limit), takes = available().fill, 16 * episodes * replicas
    if takes > there:
        raise ConfigError(
            f"the scores of {episodes:,} episodes take {size(takes)} of memory, and there are {size(there)} "
            f"({limit})",
            "ask for fewer --episodes",
        )


def _on_cuda(config: RunConfig) -> bool:
    return config.device.startswith("cuda")


def _require(config: RunConfig, task: Task, room: Room, kinds: Sequence[str]) -> None:
    def need_of(config: RunConfig) -> Need:
        need = needed(config, task, room.fill[0])
        parts = {what: part for what, part in need.parts.items() if what in kinds}
        return Need(parts, need.reserved if "replay" in kinds else 0)

    need = need_of(config)
    if need.total > room.fill[0]:
        parts = sorted(need.parts.items(), key=lambda part: -part[1])
        raise ConfigError(
            f"this run takes {size(need.total)} of memory at least, and there are {size(room.fill[0])} "
            f"({room.fill[1]})",
            ", ".join(f"{what} {size(part)}" for what, part in parts if part > need.total / 1000),
            f"lower {_largest(config, lambda lower: need_of(lower).total, need.total)}",
        )
    if need.reserved > room.reserve[0]:
        raise ConfigError(
            f"this run reserves {size(need.reserved)} of memory for replay, and it may have "
            f"{size(room.reserve[0])} ({room.reserve[1]})",
            f"lower {_largest(config, lambda lower: need_of(lower).reserved, need.reserved)}: "
            f"total_steps={config.total_steps} fill {size(need.parts['replay'])} of it",
        )


def _largest(config: RunConfig, of: Callable[[RunConfig], int], whole: int) -> str:
    """The key=value to lower: the largest of which half makes a third less, or what helps most."""
    saved: dict[str, int] = {}
    for key, _, lower in sorted(_halved(config), key=lambda each: -each[1]):
        saved[key] = whole - of(lower)
        if saved[key] > whole / 3:
            return key
    best = max(saved, key=lambda key: saved[key])
    return best if saved[best] > whole / 10 else next(iter(saved))


def _halved(config: Any, path: str = "") -> Iterator[tuple[str, int, Any]]:
    """Each key=value that says how many or how large, its number, and the config with half of it."""
    for f in fields(config):
        value, name = getattr(config, f.name), path + f.name
        if is_dataclass(value) and f.name not in ("env", "data", "checkpoint", "log"):
            for key, number, lower in _halved(value, name + "."):
                yield key, number, replace(config, **{f.name: lower})
        elif type(value) is int and value > 1 and f.name not in ("seed", "threads"):
            yield f"{name}={value}", value, replace(config, **{f.name: value // 2})
        elif isinstance(value, list) and value and all(type(n) is int for n in value):
            text, lower = str(value).replace(" ", ""), [max(n // 2, 1) for n in value]
            yield f"{name}={text}", max(value), replace(config, **{f.name: lower})


def needed(config: RunConfig, task: Task, room: int = 1 << 62) -> Need:
    """What a run will hold; `task` is its own, or that of the same config with fewer copies of the env.

    Where a replica's copies of the env take more than the `room`, nothing else is counted.
    """
    replicas = config.replicas * len(task.evaluation.replicas) // task.config.replicas
    spec = replace(task.spec(), seeds=task.evaluation.seeds[:1], num_envs=config.num_envs, device="cpu")
    copy = _COPY[config.env.slow] + 3 * _bytes(spec.obs, spec.dtype)
    at_once, episodes = config.eval.plays(config) if hasattr(config.eval, "plays") else (0, 0)
    environments = config.num_envs * copy + _REPLICA
    one = _Counted(replace(config, device="cpu"), spec)
    try:
        if environments <= room:
            nn.count(one.count)
    except (MemoryError, OverflowError):  # more than can be addressed
        one.networks, one.acting = (one.networks, 1 << 60) if one.networks else (1 << 60, 0)
    except Exception:
        pass  # what is wrong is for the run itself to say
    held = {
        "networks": one.networks,
        "rollouts": one.rollouts,
        "replay": one.replay,
        "acting": one.acting,
        "a minibatch": getattr(config.algo, "batch_size", 0) * (8 + 2 * _bytes(spec.obs, spec.dtype)),
        "environments": environments,
        "evaluation": at_once * copy + episodes * 8 * (2 + len(envs.abilities(task.env).metrics)),
    }
    if one.made > one.networks + one.rollouts + one.replay + one.acting:
        held = {"making the networks": one.made} | {
            n: held[n] for n in ("environments", "evaluation", "a minibatch")
        }
    return Need({what: count * replicas for what, count in held.items()}, one.reserved * replicas)


class _Counted:
    """Bytes of one replica."""

    networks = rollouts = replay = reserved = acting = made = 0

    def __init__(self, config: RunConfig, spec: Spec) -> None:
        self.config, self.spec = config, spec

    def count(self, ledger: Ledger) -> None:
        self.replay = self.reserved = 0
        with ledger:
            algo = build(self.config, self.spec)
            self.networks, self.made = ledger.live, ledger.most()
            if algo.rollout_steps:
                self._count_steps(algo, ledger)

    def _count_steps(self, algo: Algorithm, ledger: Ledger) -> None:
        copies = self.spec.num_envs
        one = self._step(algo)
        self.acting = ledger.most() - self.networks
        steps = (1 if algo.whole_episodes else algo.rollout_steps) * copies
        self.rollouts = steps * _step_size(one)
        for replay in _replays(algo):
            each, kept = replay.step_size(one), replay.rows * copies
            self.replay += each * min(kept, self.config.total_steps + steps)
            self.reserved += each * kept

    def _step(self, algo: Algorithm) -> Rollout:
        """A step of every env as a rollout, [1, 1, N, ...]."""
        spec = self.spec

        def zeros(shape: tuple[int, ...], kind: str) -> Any:
            return torch.zeros((1, 1, spec.num_envs, *shape), dtype=getattr(torch, kind))

        obs = zeros(spec.obs.shape, _kind(spec.obs, spec.dtype))
        action = zeros(spec.action.shape, _kind(spec.action, spec.dtype))
        flag = zeros((), "bool")
        memory = algo.initial_memory(spec.num_envs)
        with torch.no_grad():
            how: dict[str, Any] = {"step": np.zeros(1, np.int64), "mode": "explore"}
            act = algo.act(obs[:, 0], memory, flag[:, 0], rng=Stream(spec.seeds, "explore"), **how)
        extras = {name: value.unsqueeze(1) for name, value in act.extras.items()}
        one = Rollout(obs, action, zeros((), spec.dtype), flag, flag, obs, flag, flag, memory, extras)
        if not spec.masks:
            return one
        mask = zeros((sum(spec.action.choices),), "bool")
        return one.with_(mask=mask, next_mask=mask)


def _step_size(rollout: Rollout) -> int:
    values = [*rollout.fields().values(), *rollout.extras.values()]
    return sum(value[0, 0, 0].numel() * value.element_size() for value in values)


def _kind(space: Space, dtype: str) -> str:
    return dtype if space.dtype.startswith("float") else space.dtype


def _bytes(space: Space, dtype: str) -> int:
    return math.prod(space.shape) * np.dtype(_kind(space, dtype)).itemsize


def _replays(part: Stateful) -> Iterator[Replay]:
    for name, role in part.saved.items():
        if role == "own":
            yield from _replays(getattr(part, name))
        elif isinstance(getattr(part, name), Replay):
            yield getattr(part, name)
