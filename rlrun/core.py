"""The protocol between the trainer and every algorithm. Read this file first.

Everything an algorithm does is *collect T steps, then update*; T = 0 means that it learns
without touching an environment. The trainer owns environments, clocks, logging and
checkpoints; the algorithm owns everything it learns from and with. All that they exchange
is a `Rollout`.

Axis order everywhere: R replicas, T time, N envs, then features. R = 1 is an ordinary run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from rlrun.rng import Stream

Mode = Literal["explore", "sample", "greedy"]
Memory = tuple["Tensor", ...]  # RNN state or plan; every leaf is [R, N, ...]; () without memory
State = dict[str, "Tensor"]  # what a checkpoint holds; every leaf is [R, ...]


@dataclass(frozen=True)
class Discrete:
    """The integers 0 .. n - 1; arrays of it are int64 without a feature axis."""

    n: int

    @property
    def shape(self) -> tuple[int, ...]:
        return ()

    dtype: ClassVar[str] = "int64"
    kind: ClassVar[str] = "discrete"


@dataclass(frozen=True)
class MultiDiscrete:
    """A vector of integers, the i-th below nvec[i]."""

    nvec: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.nvec),)

    dtype: ClassVar[str] = "int64"
    kind: ClassVar[str] = "multi_discrete"


@dataclass(frozen=True)
class Box:
    """Arrays of one shape, bounded element by element; `low` and `high` are flat."""

    shape: tuple[int, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    dtype: str = "float32"
    kind: ClassVar[str] = "box"

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=int))


Space = Discrete | MultiDiscrete | Box


@dataclass(frozen=True)
class TransitionTable:
    """A known finite Markov decision process, float64, for dynamic programming."""

    probability: np.ndarray  # [S, A, S'] of the successor
    reward: np.ndarray  # [S, A], expected
    terminal: np.ndarray  # [S], bool: no value beyond
    shape: tuple[int, int] | None = None  # rows and columns of a grid world, to draw it
    reachable: np.ndarray | None = None  # [S], bool: where an episode can come to


class Dynamics(Protocol):
    """A task's own laws as a function of what is observed, for planning in imagination.

    A pure function of its arguments, row by row, on torch tensors with any leading axes:
    it knows neither an episode's hidden state nor its clock (time limits are no part of it).
    """

    def __call__(self, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """obs [R, ..., *shape], action [R, ...] or [R, ..., A] -> next_obs, reward, terminated [R, ...]."""


@dataclass(frozen=True)
class Dataset:
    """Logged steps, shared by all replicas; every field is [steps, ...] in time order."""

    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    next_obs: np.ndarray
    first: np.ndarray


@dataclass(frozen=True)
class Spec:
    """All that an algorithm may know about its task. It never sees an environment."""

    obs: Space
    action: Space
    num_envs: int  # N while training; evaluation may use another
    seeds: tuple[int, ...]  # one per replica: R = len(seeds)
    total_steps: int  # env steps per replica; updates where the algorithm never acts
    device: str = "cpu"
    dtype: str = "float32"
    table: TransitionTable | None = None
    dynamics: Dynamics | None = None
    dataset: Dataset | None = None  # None also where a trained policy only acts

    @property
    def replicas(self) -> int:
        return len(self.seeds)


@dataclass(frozen=True, slots=True)
class Act:
    """What to do now, what to remember, and what to store with the step."""

    action: Tensor  # [R, N] discrete, or [R, N, A]
    memory: Memory = ()  # handed back at the next act
    extras: Mapping[str, Tensor] = field(default_factory=dict)  # [R, N, ...], such as log_prob


@dataclass(frozen=True, slots=True)
class Rollout:
    """T steps of R x N envs; every field is [R, T, N, ...].

    The tensors are views of the collector's buffers, good until the next collect:
    an algorithm that keeps steps copies them (`Replay.add` does).
    """

    obs: Tensor
    action: Tensor
    reward: Tensor
    terminated: Tensor  # the task ended: do not bootstrap
    truncated: Tensor  # the clock ended: bootstrap from next_obs
    next_obs: Tensor  # the true successor, never a reset observation
    first: Tensor  # obs begins an episode: memory must be cleared
    valid: Tensor  # False: padding or an autoreset filler; masked everywhere, never counted
    memory: Memory = ()  # [R, N, ...], before step 0
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    info: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def ended(self) -> Tensor:
        """Where an episode stopped, for either reason: nothing flows across."""
        return self.terminated | self.truncated

    def with_(self, **changes: Any) -> Rollout:
        """The same rollout with some fields replaced, such as a learned reward."""
        return replace(self, **changes)

    def steps(self, begin: int, end: int | None = None) -> Rollout:
        """The steps from `begin` to `end`; `memory` stays that of this rollout's step 0."""
        cut = slice(begin, end)
        fields = ("obs", "action", "reward", "terminated", "truncated", "next_obs", "first", "valid")
        extras = {name: value[:, cut] for name, value in self.extras.items()}
        return replace(self, **{name: getattr(self, name)[:, cut] for name in fields}, extras=extras)


FAMILIES = (
    "bandit",
    "dynamic programming",
    "temporal difference",
    "value-based",
    "policy gradient",
    "off-policy actor-critic",
    "imitation",
    "offline",
    "planning",
)


class Stateful:
    """Something whose state is that of its parts.

    `saved` maps the attributes that make up a checkpoint to a role: weights, normalizer,
    optimizer, replay or random; or own, where a part is `Stateful` too and its parts keep
    their roles. A part is a tensor [R, ...], a network, or any object with `state()` and
    `load_state()`. What is not named there must be a pure function of the config and `step`.
    """

    saved: ClassVar[Mapping[str, str]] = {}

    def state(self, roles: Iterable[str] | None = None) -> State:
        """Every saved leaf [R, ...] by name, of the given roles (all by default); not copies."""
        out: State = {}
        for name, role in self.saved.items():
            part = getattr(self, name)
            if role == "own":
                out.update({f"{name}.{key}": leaf for key, leaf in part.state(roles).items()})
            elif roles is None or role in roles:
                out.update(_part_state(name, part))
        return out

    def load_state(self, state: Mapping[str, Tensor], roles: Iterable[str] | None = None) -> None:
        """Copy `state` in; names and shapes must be exactly those of `state(roles)`.

        Raises:
            ValueError: a leaf is missing, unknown, or of another shape.
        """
        for name, role in self.saved.items():
            part = getattr(self, name)
            leaves = {
                key[len(name) + 1 :]: value
                for key, value in state.items()
                if key == name or key.startswith(name + ".")
            }
            if role == "own":
                part.load_state(leaves, roles)
            elif roles is None or role in roles:
                if hasattr(part, "load_state"):
                    part.load_state(leaves)
                else:
                    copy_leaves(_leaves(part), leaves, name)


class Algorithm(Stateful, ABC):
    """Acts and learns, for R replicas at once; `saved` says what makes up a checkpoint."""

    rollout_steps: int = 1  # env steps before each update; 0 = never touches an env
    whole_episodes: bool = False  # a rollout is one episode of each env
    family: ClassVar[str] = "other"  # one of FAMILIES: what `rlrun list` shows it under
    takes_memory: ClassVar[bool] = False  # works with a model that has memory (an LSTM, a GRU)
    obs_kinds: ClassVar[tuple[str, ...]] = ("box", "discrete")
    action_kinds: ClassVar[tuple[str, ...]] = ("discrete",)
    needs: ClassVar[tuple[str, ...]] = ()  # capabilities of the task: table, dynamics, dataset
    takes: ClassVar[tuple[str, ...]] = ()  # capabilities that it makes use of where they are

    @classmethod
    def needs_of(cls, config: Any) -> tuple[str, ...]:
        """The capabilities that this config asks of the task, where they depend on it."""
        return cls.needs

    @abstractmethod
    def act(
        self, obs: Tensor, memory: Memory, first: Tensor, *, step: np.ndarray, mode: Mode, rng: Stream
    ) -> Act:
        """Choose actions for obs [R, N, ...]; `first` is [R, N], `step` int64 [R].

        "explore" is for training, "sample" for a stochastic policy as it is, "greedy" for
        its best guess. Random numbers come only from `rng`; greedy draws none. While steps are
        collected PyTorch keeps no record for gradients: learn from the rollout, not from
        tensors kept here.
        """

    @abstractmethod
    def update(self, rollout: Rollout | None, *, step: np.ndarray) -> dict[str, Tensor]:
        """Learn from a rollout (None where rollout_steps is 0); detached metrics, each [R].

        A metric that is not finite tells the trainer that this replica has failed.
        """

    def initial_memory(self, num_envs: int) -> Memory:
        """Memory at the start of an episode, leaves [R, num_envs, ...]."""
        return ()

    def converged(self) -> np.ndarray | None:
        """Replicas [R] that have nothing left to learn, or None."""
        return None


def _leaves(part: Any) -> State:
    if hasattr(part, "state"):
        return part.state()
    if hasattr(part, "named_parameters"):
        return {k: v.detach() for k, v in part.named_parameters()} | dict(part.named_buffers())
    return {"": part}


def _part_state(name: str, part: Any) -> State:
    return {f"{name}.{key}" if key else name: leaf for key, leaf in _leaves(part).items()}


def copy_leaves(into: State, values: Mapping[str, Tensor], name: str) -> None:
    """Copy leaves of equal names and shapes in place; anything else is a ValueError."""
    if into.keys() != values.keys():
        odd = sorted(into.keys() ^ values.keys())
        raise ValueError(f"{name}: the saved leaves differ from those of this config: {', '.join(odd[:3])}")
    for key, leaf in into.items():
        if leaf.shape != values[key].shape:
            raise ValueError(
                f"{name}.{key}: saved shape {tuple(values[key].shape)}, this config has {tuple(leaf.shape)}"
            )
        leaf.copy_(values[key])


def select(state: State, replica: int) -> State:
    """A copy of one replica's state: exactly the state of a lone run, R = 1."""
    return {key: leaf[replica : replica + 1].clone() for key, leaf in state.items()}


def insert(state: State, replica: int, one: State) -> None:
    """Write a `select`ed state back over one replica's rows."""
    for key, leaf in state.items():
        leaf[replica].copy_(one[key][0])
