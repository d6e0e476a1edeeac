"""What an environment offers beyond Gymnasium's API."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from gymnasium.vector import VectorEnv

    from rlrun.core import Dynamics, TransitionTable
    from rlrun.data.table import DataSpec

    # (reward, obs, action, next_obs), [...] each -> reward; with dynamics, of torch tensors too
    Reward = Callable[[Any, Any, Any, Any], Any]
    Baseline = Callable[[Any, np.ndarray], np.ndarray]  # (env, obs [M, ...]) -> actions [M, ...]


class Trial(NamedTuple):
    """What came of trying an environment out before a run."""

    inexact: str | None  # why a state of it cannot be restored exactly; None: it can
    remarks: tuple[str, ...] = ()  # what should be said, and stops nothing


@dataclass(frozen=True)
class Abilities:
    """All of it is optional; an environment has them as its attribute `abilities`."""

    table: TransitionTable | None = None  # the decision process, where it is known
    dynamics: Dynamics | None = None  # its laws, where observations tell the state
    shapings: Mapping[str, Reward] = field(default_factory=dict)  # training rewards by name
    metrics: tuple[str, ...] = ()  # info arrays [M] of every step worth averaging; `reward`, if none ends
    sums: tuple[str, ...] = ()  # those of them also worth adding up over a run
    data_spec: DataSpec | None = None  # of a time-indexed environment
    baselines: Mapping[str, Baseline] = field(default_factory=dict)  # fixed policies to compare with
    holdings: Mapping[str, float] = field(default_factory=dict)  # the position that some of those never leave
    recorded: tuple[str, ...] = ()  # info arrays [M] that are kept of every step of a test
    scaling: Callable[[np.ndarray], np.ndarray] | None = None  # windows [R, 2] -> mean, deviation [R, 2, F]
    reward_scale: Callable[[np.ndarray], np.ndarray] | None = None  # windows [R, 2] -> [R], for training
    masks: Callable[[], np.ndarray] | None = None  # which actions are allowed now, bool [M, A]
    self_test: Callable[[], Trial] | None = None  # tries it out; ConfigError where it breaks its word


def abilities(env: VectorEnv) -> Abilities:
    """Those of an environment; one that says nothing has none."""
    return getattr(env, "abilities", _NONE)


_NONE = Abilities()
