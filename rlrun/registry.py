"""The registry: a config type stands for a builder. No import path ever stands in a config.

`@register("algo", "dqn", DQNConfig)` makes the schema known to Hydra as `schema/algo/dqn`,
and the decorated class or function to the runner. A plug-in registers in the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

Group = str  # algo | env | model | eval | data | listener
T = TypeVar("T")


@dataclass(frozen=True)
class Entry:
    """One registered kind: its schema and what builds it."""

    group: Group
    kind: str
    config: type
    build: Any  # a class or function; an algorithm's class also says what it works with


_entries: dict[tuple[Group, str], Entry] = {}
_by_config: dict[type, Entry] = {}


def register(group: Group, kind: str, config: type) -> Callable[[T], T]:
    """Class or function decorator: `config` is built by the decorated object."""

    def decorate(build: T) -> T:
        entry = Entry(group, kind, config, build)
        known = _entries.get((group, kind))
        if known is not None and known.config.__qualname__ != config.__qualname__:
            raise ValueError(f"{group} {kind!r} is registered twice: {known.config} and {config}")
        _entries[group, kind] = entry
        _by_config[config] = entry
        return build

    return decorate


def lookup(group: Group, kind: str) -> Entry:
    """The entry of a kind; KeyError if there is none."""
    return _entries[group, kind]


def entry_of(config: Any) -> Entry:
    """The entry that a config instance belongs to."""
    return _by_config[type(config)]


def entries(group: Group | None = None) -> list[Entry]:
    return [e for _, e in sorted(_entries.items()) if group in (None, e.group)]


# Which module registers which of our own kinds, so that one is found without importing the others.
BUILTIN: dict[Group, dict[str, str]] = {
    "algo": {
        "rlrun.algos.bandits": "epsilon_greedy gradient_bandit softmax thompson thompson_gaussian ucb",
        "rlrun.algos.bc": "bc",
        "rlrun.algos.cql": "cql",
        "rlrun.algos.dqn": "dqn",
        "rlrun.algos.dyna_q": "dyna_q",
        "rlrun.algos.dynamic_programming": "policy_iteration value_iteration",
        "rlrun.algos.gail": "gail",
        "rlrun.algos.mpc": "mpc",
        "rlrun.algos.ppo": "ppo",
        "rlrun.algos.reinforce": "reinforce",
        "rlrun.algos.sac": "sac",
        "rlrun.algos.td": "td",
        "rlrun.algos.td3": "td3",
    },
    "data": {"rlrun.data.sources": "file minari none"},
    "env": {
        "rlrun.envs.bandit": "bandit",
        "rlrun.envs.bsuite": "catch recall",
        "rlrun.envs.classic_control": "acrobot cartpole pendulum",
        "rlrun.envs.gym": "gym",
        "rlrun.envs.point": "point",
        "rlrun.envs.series": "series",
        "rlrun.envs.synthetic": "synthetic",
        "rlrun.envs.tables": "cliff_walking frozen_lake maze taxi windy_gridworld",
    },
    "eval": {
        "rlrun.evals.episodes": "episodes",
        "rlrun.evals.online": "online",
        "rlrun.evals.walk_forward": "walk_forward",
    },
    "model": {"rlrun.models": "cnn cnn_lstm gru lstm mlp nn_lstm"},
}


def builtin(group: Group) -> dict[str, str]:
    """The module of each of our own kinds in a group."""
    return {kind: module for module, kinds in BUILTIN.get(group, {}).items() for kind in kinds.split()}
