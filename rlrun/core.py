"""The protocol between the trainer and every algorithm. Read this file first.

Everything an algorithm does is *collect T steps, then update*; T = 0 means that it learns
without touching an environment. The trainer owns environments, clocks, logging and
checkpoints; the algorithm owns everything it learns from and with. All that they exchange
is a `Rollout`.

Axis order everywhere: R replicas, T time, N envs, then features. R = 1 is an ordinary run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np

from rlrun.spaces import Space
from rlrun.state import Stateful

if TYPE_CHECKING:
    from torch import Tensor

    from rlrun.rng import Stream

Mode = Literal["explore", "sample", "greedy"]
Memory = tuple["Tensor", ...]  # RNN state or plan; every leaf is [R, N, ...]; () without memory


@dataclass(frozen=True)
class TransitionTable:
    """A known finite Markov decision process, float64, for dynamic programming."""

    probability: np.ndarray  # [S, A, S'] of the successor
    reward: np.ndarray  # [S, A], expected
    terminal: np.ndarray  # [S], bool: no value beyond
    shape: tuple[int, int] | None = None  # rows and columns of a grid world, to draw it
    reachable: np.ndarray | None = None  # [S], bool: where an episode can come to
    letters: np.ndarray | None = None  # [S], of cells: S start, G goal, H hole, C cliff, # wall
    legal: np.ndarray | None = None  # [S, A], bool: the actions that may be taken; None: all


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
    mask: np.ndarray | None = None  # of obs and of next_obs, bool [steps, A], as a `Rollout` has them
    next_mask: np.ndarray | None = None


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
    variants: tuple[Mapping[str, float], ...] = ()  # one per replica: the keys in which they differ
    masks: bool = False  # observations come with the actions that are allowed there
    most: int | None = None  # numbers that a network may have: those of the checkpoint it is made for

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

    Where the env says which actions are allowed, `mask` says it of obs and `next_mask` of
    next_obs, A columns each (of a vector of integers: all their values, one after the other).
    Every row allows something: where the task ended, where nothing is to be chosen, everything.
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
    mask: Tensor | None = None  # bool [R, T, N, A]; None: all actions are allowed, always
    next_mask: Tensor | None = None

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
        extras = {name: value[:, cut] for name, value in self.extras.items()}
        return self.with_(**{name: value[:, cut] for name, value in self.fields().items()}, extras=extras)

    def fields(self) -> dict[str, Tensor]:
        """What each step consists of, by name, without `extras`; masks where there are some."""
        found = {name: getattr(self, name) for name in FIELDS}
        return found if self.mask is None else found | {name: getattr(self, name) for name in MASKS}


FIELDS = ("obs", "action", "reward", "terminated", "truncated", "next_obs", "first", "valid")  # of a rollout
MASKS = ("mask", "next_mask")

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


class Algorithm(Stateful, ABC):
    """Acts and learns, for R replicas at once; `saved` says what makes up a checkpoint."""

    rollout_steps: int = 1  # env steps before each update; 0 = never touches an env
    whole_episodes: bool = False  # a rollout is one episode of each env
    stochastic: bool = False  # it learns a distribution over actions: "sample" draws from it
    family: ClassVar[str] = "other"  # one of FAMILIES: what `rlrun list` shows it under
    takes_memory: ClassVar[bool] = False  # works with a model that has memory (an LSTM, a GRU)
    takes_masks: ClassVar[bool] = False  # takes no action that a mask forbids: `act` has `mask`
    obs_kinds: ClassVar[tuple[str, ...]] = ("box", "discrete")
    action_kinds: ClassVar[tuple[str, ...]] = ("discrete",)
    recordable: ClassVar[bool] = False  # `nn.recordable`: its own code may be; each class says so for itself
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

        An algorithm that `takes_masks` has one more argument, `mask: Tensor | None = None`: [R, N, A],
        true where an action is allowed. It is given wherever `spec.masks` says so.
        """

    @abstractmethod
    def update(self, rollout: Rollout, *, step: np.ndarray) -> dict[str, Tensor]:
        """Learn from a rollout (empty, T = 0, where rollout_steps is 0); detached metrics, each [R].

        A metric that is not finite tells the trainer that this replica has failed.
        """

    def initial_memory(self, num_envs: int) -> Memory:
        """Memory at the start of an episode, leaves [R, num_envs, ...]."""
        return ()

    def schedules(self, step: np.ndarray) -> dict[str, np.ndarray]:
        """What changes by plan, at env steps `step` [R]: recorded beside the metrics of `update`."""
        return {}

    def converged(self) -> np.ndarray | None:
        """Replicas [R] that have nothing left to learn, or None."""
        return None
