"""The registry: a config type stands for a builder. No import path ever stands in a config.

`@register("algo", "dqn", DQNConfig)` makes the schema known to Hydra as `schema/algo/dqn`,
and the decorated class or function to the runner. A plug-in registers in the same way.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

Group = str  # algo | env | model | eval | data
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


def import_builtins(extra: Iterable[str] = ()) -> None:
    """Import every module that registers something: ours, installed plug-ins, and `extra`."""
    for package in ("rlrun.algos", "rlrun.data", "rlrun.envs", "rlrun.evals", "rlrun.models"):
        _import_all(package)
    from importlib.metadata import entry_points

    for point in entry_points(group="rlrun.plugins"):
        point.load()
    for name in extra:
        importlib.import_module(name)


def _import_all(package: str) -> None:
    module = importlib.import_module(package)
    for info in pkgutil.iter_modules(getattr(module, "__path__", ())):
        importlib.import_module(f"{package}.{info.name}")
