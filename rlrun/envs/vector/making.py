"""Makes one Gymnasium environment: its constructor, its wrappers, and one vector of a Dict's entries."""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import load_env_creator

from rlrun.boundary import fault, told
from rlrun.config import ConfigError
from rlrun.config.vocabulary import hint
from rlrun.envs.packages import pip_line, split
from rlrun.envs.vector.entries import Vector
from rlrun.envs.vector.surroundings import staying

_OURS = ("env", "render_mode")  # arguments that no config may say


@dataclass(frozen=True)
class Maker:
    """Makes copies of one environment; `wrappers` are names with arguments, innermost first."""

    env_id: str
    max_steps: int | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    wrappers: Sequence[tuple[str, Mapping[str, Any]]] = ()

    def __call__(self, render_mode: str | None = None) -> gymnasium.Env:
        """A new copy; the modules that it names have been imported before.

        Raises:
            ConfigError: Gymnasium cannot make it, a wrapper does not fit, or an entry of a Dict
                is not made of numbers.
        """
        options: dict[str, Any] = {"max_episode_steps": self.max_steps, "render_mode": render_mode}
        options = {name: value for name, value in options.items() if value is not None}
        _, name = split(self.env_id)
        with staying(), _refusing(f"env.id {self.env_id} cannot be made", self.kwargs) as fitted:
            entry = gymnasium.registry[name].entry_point
            creator: Any = load_env_creator(entry) if isinstance(entry, str) else entry
            env = gymnasium.make(name, disable_env_checker=True, **options, **fitted(creator))
        for name, arguments in self.wrappers:
            with _refusing(f"env.wrappers: {name} does not fit {self.env_id}", arguments) as fitted:
                wrapper = _wrapper(name)
                env = wrapper(env, **fitted(wrapper))
        if isinstance(env.observation_space, (gymnasium.spaces.Dict, gymnasium.spaces.Tuple)):
            env = Vector(env)
        return env


def _wrapper(name: str) -> type[gymnasium.Wrapper]:
    """The class of an entry of env.wrappers. Nothing else is ever called by a config's words."""
    module, last = split(name)
    if module and module not in sys.modules:
        raise ConfigError(f"env.wrappers has {name}, and {module} has not been imported", "import it first")
    place = sys.modules[module or "gymnasium.wrappers"]
    there = [each for each, value in vars(place).items() if _is_wrapper(value)]
    if last not in there:
        file = getattr(place, "__file__", None) or module
        raise ConfigError(f"env.wrappers has {name}: {file} has no such gymnasium.Wrapper", hint(last, there))
    found: type[gymnasium.Wrapper] = getattr(place, last)
    return found


def _is_wrapper(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, gymnasium.Wrapper)


@contextmanager
def _refusing(what: str, arguments: Mapping[str, Any]) -> Iterator[Callable[[Any], dict[str, Any]]]:
    """Refuses what cannot be made; gives a function that fits the arguments to what will be called."""
    takes: dict[str, Any] = {}

    def fitted(call: Any) -> dict[str, Any]:
        takes.update(_parameters(call))
        return {name: _fitted(value, takes.get(name)) for name, value in arguments.items()}

    try:
        yield fitted
    except BaseException as error:  # whatever a constructor raises, sys.exit() too
        fault(error, what, "")  # raises it again where it came from outside
        unknown = arguments.keys() - takes.keys()
        advice = f"it takes {', '.join(takes) or 'no arguments'}" if unknown else ""
        raise ConfigError(f"{what}: {told(error)}", pip_line(error) or advice) from error


def _parameters(call: Any) -> dict[str, Any]:
    """Names of what may be said in a config, with their types: as annotated, or of the default."""
    try:
        signature = inspect.signature(call, eval_str=True)
    except Exception:  # an annotation may be anything
        try:
            signature = inspect.signature(call)
        except (TypeError, ValueError):
            return {}
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    given = [each for each in signature.parameters.values() if each.kind in named and each.name not in _OURS]
    return {
        each.name: type(each.default)
        if each.annotation is each.empty or isinstance(each.annotation, str)
        else each.annotation
        for each in given
    }


def _fitted(value: Any, kind: Any) -> Any:
    """A value from YAML, which has lists alone, as a tuple or an array where that is what is taken."""
    if not isinstance(value, list):
        return value
    union = typing.get_origin(kind) in (typing.Union, types.UnionType)
    for each in typing.get_args(kind) if union else (kind,):
        holder = typing.get_origin(each) or each
        inside = [arg for arg in typing.get_args(each) if arg is not ...]
        if holder is tuple:
            kinds = inside if len(inside) == len(value) else (inside or [tuple])[:1] * len(value)
            return tuple(_fitted(element, of) for element, of in zip(value, kinds, strict=True))
        if holder in (list, Sequence):
            return [_fitted(element, inside[0] if inside else None) for element in value]
        if holder is np.ndarray:
            return np.array(value)
    return value
