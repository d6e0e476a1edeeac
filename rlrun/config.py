"""What a run is made of. YAML says how much, this says what it means.

A config field carries a name, a type, a one-line meaning and a validity check, and no
default: every value lives in exactly one YAML file under conf/.

`from_dict` is the one strict reader: a composed config and a run folder's `run.json` go
through it alike, so both refuse the same things with the same words.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, is_dataclass
from functools import cache
from typing import Any

GROUPS = ("algo", "env", "model", "eval", "data")
NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
_MAX_DEPTH, _MAX_NODES, _MAX_TEXT = 16, 100_000, 4096


class ConfigError(ValueError):
    """A refusal in two or three lines: what is wrong, what is allowed, the nearest name."""

    def __init__(self, *lines: str) -> None:
        self.lines = [printable(line) for text in lines for line in text.splitlines() if line]
        super().__init__("\n".join(self.lines))


def printable(text: str, limit: int = 400) -> str:
    """Text without control characters, and not too long, safe on a terminal."""
    clean = "".join(c if c.isprintable() else "?" for c in text)
    return clean if len(clean) <= limit else clean[: limit - 3] + "..."


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The name most like `name`, in any case, if one is like it at all."""
    from difflib import get_close_matches

    folded = {candidate.lower(): candidate for candidate in names}
    found = get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else None


def key(
    doc: str,
    *,
    min: float | None = None,
    max: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: Sequence[Any] | None = None,
) -> Any:
    """A config field: its meaning, and the closed or open bounds of its value.

    The bounds of a list are those of its elements. A None value, where the type admits it,
    passes every bound.
    """
    bounds = {"min": min, "max": max, "above": above, "below": below, "choices": choices}
    return field(metadata={"doc": doc} | {k: v for k, v in bounds.items() if v is not None})


@dataclass
class CheckpointConfig:
    every_seconds: float = key("seconds between checkpoints; 0 saves after every update", min=0)
    every_steps: int | None = key("also save whenever this many env steps have passed", min=1)


@dataclass
class LogConfig:
    every: int | None = key("env steps between records; null: a hundredth of the run", min=1)
    tensorboard: bool = key("write TensorBoard files")
    plot: bool = key("draw curve.png at the end (needs the extra `plots`)")


@dataclass
class MainKeys:
    """What YAML and the command line may set. The group members are registered schemas."""

    algo: Any = key("the algorithm and its hyper-parameters")
    env: Any = key("the task")
    model: Any = key("the network's body")
    eval: Any = key("how the agent is judged: episodes or walk_forward")
    data: Any = key("logged steps for imitation and offline algorithms")
    seed: int = key("the first seed", min=0)
    replicas: int = key("how many seeds train together; under walk_forward, seeds per fold", min=1)
    total_steps: int = key("env steps per replica; updates for an algorithm that never acts", min=1)
    num_envs: int = key("environments per replica", min=1)
    device: str = key("cpu, cuda, cuda:<number> or mps")
    dtype: str = key("floating point type of all training state", choices=("float32", "float64"))
    threads: int = key("CPU threads of the whole run; resume is exact at 1", min=1)
    out: str = key("the folder that run folders are made in")
    init_from: str | None = key("a run folder to take trained weights from")
    imports: list[str] = key("modules to import first: plug-ins that register something")
    checkpoint: CheckpointConfig = key("when to save")
    log: LogConfig = key("what to record")

    def problems(self) -> list[str]:
        found = []
        if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", self.device):
            found.append(f"device is {self.device}: it must be cpu, cuda, cuda:<number> or mps")
        if not self.out:
            found.append("out is empty: it must be a folder, such as outputs")
        found += [
            f"imports names {module!r}: it must be a module, such as package.module"
            for module in self.imports
            if not all(part.isidentifier() for part in module.split("."))
        ]
        return found


@dataclass
class RunConfig(MainKeys):
    """One run, fully resolved and checked."""

    choices: dict[str, str] = key("the YAML chosen in each group")

    @property
    def recurrent(self) -> bool:
        """Whether the chosen model has memory."""
        return bool(getattr(self.model, "recurrent", False))


def violations(config: Any, path: str = "") -> list[str]:
    """Every value out of its bounds, as 'path: problem'; also a config's own `problems()`."""
    found: list[str] = []
    for f in fields(config):
        value, where = getattr(config, f.name), f"{path}{f.name}"
        if is_dataclass(value):
            found += violations(value, where + ".")
            continue
        elements = [(where, value)]
        if isinstance(value, (list, tuple)):
            elements = [(f"{where}[{i}]", element) for i, element in enumerate(value)]
        for place, element in elements:
            if element is not None:
                found += [f"{place} is {element}: {why}" for why in _broken(element, f.metadata)]
    if hasattr(config, "problems") and not found:  # which may rely on the bounds
        found += [f"{path}{problem}" for problem in config.problems()]
    return found


def _broken(value: Any, bounds: Mapping[str, Any]) -> list[str]:
    if isinstance(value, float) and not math.isfinite(value):
        return ["it must be a finite number"]
    if "choices" in bounds and value not in bounds["choices"]:
        near = nearest(str(value), map(str, bounds["choices"]))
        return [
            "it must be one of " + _listing(bounds["choices"]) + (f"; did you mean {near}?" if near else "")
        ]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        tests = {
            "min": lambda b: value >= b,
            "max": lambda b: value <= b,
            "above": lambda b: value > b,
            "below": lambda b: value < b,
        }
        return [
            f"it must be {_BOUNDS[name]} {bounds[name]}"
            for name, holds in tests.items()
            if name in bounds and not holds(bounds[name])
        ]
    return []


_BOUNDS = {"min": "at least", "above": "above", "max": "at most", "below": "below"}


def _listing(names: Iterable[Any]) -> str:
    return ", ".join(map(str, names))


def check(config: RunConfig) -> RunConfig:
    """The config itself, or a ConfigError that names what is out of bounds or in conflict."""
    found = violations(config)
    for group in GROUPS:
        member = getattr(config, group)
        if not found and hasattr(member, "conflicts"):
            found += member.conflicts(config)
    if found:
        raise ConfigError(*found[:5], *([f"and {len(found) - 5} more"] if len(found) > 5 else []))
    return config


# What a field means, in words


@cache
def hints(schema: type) -> dict[str, Any]:
    """The resolved type of every field."""
    return typing.get_type_hints(schema)


def words(hint: Any) -> str:
    """A type as people say it."""
    plain = {int: "an integer", float: "a number", bool: "true or false", str: "text", Any: "anything"}
    if hint in plain:
        return plain[hint]
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join("null" if arg is type(None) else words(arg) for arg in args)
    if origin is typing.Literal:
        return "one of " + _listing(args)
    if origin in (list, tuple):
        return f"a list, each {words(args[0])}"
    return "a mapping"


def allowed(f: Field[Any], hint: Any) -> str:
    """Type and bounds of a field, such as 'a number, at least 0, at most 1'."""
    bounds = f.metadata
    if "choices" in bounds:
        null = " or null" if type(None) in typing.get_args(hint) else ""
        return "one of " + _listing(bounds["choices"]) + null
    return ", ".join([words(hint), *(f"{_BOUNDS[k]} {bounds[k]}" for k in _BOUNDS if k in bounds)])


def meaning(schema: type, name: str, path: str) -> str:
    """'path: what it is; what is allowed', for an error's second line; '' for no such field."""
    for f in fields(schema):
        if f.name == name:
            return f"{path}: {f.metadata.get('doc', name)}; {allowed(f, hints(schema)[name])}"
    return ""


def unknown_key(name: str, path: str, names: Iterable[str]) -> ConfigError:
    """The refusal of a key that a section does not have."""
    names, prefix = list(names), path and path + "."
    near = nearest(name, names)
    return ConfigError(
        f"unknown key {prefix}{name}",
        f"did you mean {prefix}{near}?" if near else "",
        f"{path or 'the config'} has {_listing(names)}",
    )


def integral(value: Any, hint: Any) -> str:
    """A hint for who writes 1e5 where an integer is asked for."""
    whole = isinstance(value, float) and value.is_integer()
    return f" (write {int(value)})" if whole and (hint is int or int in typing.get_args(hint)) else ""


# To and from plain JSON data


def to_dict(config: RunConfig) -> dict[str, Any]:
    """JSON data; a group member becomes {"kind": "dqn", ...its fields}."""
    from rlrun import registry

    out = {f.name: _plain(getattr(config, f.name)) for f in fields(config)}
    for group in GROUPS:
        out[group] = {"kind": registry.entry_of(getattr(config, group)).kind} | out[group]
    return out


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, (list, tuple)):
        return [_plain(element) for element in value]
    if isinstance(value, dict):
        return {name: _plain(element) for name, element in value.items()}
    return value


def config_hash(config: RunConfig) -> str:
    """SHA-256 of what the run computes: canonical JSON without `out` and `choices`."""
    data = {name: value for name, value in to_dict(config).items() if name not in ("out", "choices")}
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def from_dict(data: Any) -> RunConfig:
    """The checked config that `to_dict` made `data` from. Imports nothing that data names.

    Raises:
        ConfigError: unknown or missing keys, wrong types, values out of bounds or not
            finite, an unknown kind, or data too deep or too large.
    """
    from rlrun import catalog

    _cap(data)
    data = _section(data, "")
    schemas = {}
    for group in GROUPS:
        member = _section(data.get(group, {}), group)
        kind = member.get("kind")
        if not isinstance(kind, str) or not NAME.fullmatch(kind):
            raise ConfigError(f"{group} has no kind", "the config names no registered schema for it")
        schemas[group] = catalog.load(group, kind).config
        data = data | {group: {name: value for name, value in member.items() if name != "kind"}}
    return check(_build(RunConfig, data, "", schemas))


def _section(data: Any, path: str) -> dict[str, Any]:
    if not isinstance(data, dict) or not all(isinstance(name, str) for name in data):
        raise ConfigError(f"{path or 'the config'} is {data!r}: it must be a mapping of keys to values")
    return data


def _build(
    schema: type, data: Any, path: str, members: Mapping[str, type] = types.MappingProxyType({})
) -> Any:
    data = _section(data, path)
    prefix = path and path + "."
    names = [f.name for f in fields(schema)]
    for name in data:
        if name not in names:
            raise unknown_key(name, path, names)
    values = {}
    for name in names:
        where = prefix + name
        if name not in data or data[name] == "???":
            raise ConfigError(f"{where} has no value", meaning(schema, name, where))
        try:
            values[name] = _convert(data[name], members.get(name, hints(schema)[name]), where)
        except _WrongType as wrong:
            whole = integral(data[name], hints(schema)[name])
            raise ConfigError(
                f"{where} is {data[name]!r}: it must be {wrong}{whole}", meaning(schema, name, where)
            ) from None
    return schema(**values)


class _WrongType(Exception):
    """A value that is not what its field's type says; the message says what it should be."""


def _convert(value: Any, hint: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if isinstance(hint, type) and is_dataclass(hint):
        return _build(hint, value, where)
    if origin in (typing.Union, types.UnionType):
        for arg in sorted(args, key=lambda arg: arg is not type(value)):  # an exact type first
            try:
                return _convert(value, arg, where)
            except _WrongType:
                continue
    elif origin is typing.Literal and value in args:
        return value
    elif origin in (list, tuple) and isinstance(value, (list, tuple)):
        return origin(_convert(element, args[0], where) for element in value)
    elif origin is dict and isinstance(value, dict):
        return {name: _convert(element, args[1], where) for name, element in value.items()}
    elif hint in (dict, list) and type(value) is hint:
        return value
    elif hint is float and type(value) in (int, float):
        return float(value)
    elif hint is int and type(value) is int:
        if abs(value) >= 2**63:
            raise _WrongType("an integer of 64 bits")
        return value
    elif hint in (bool, str, type(None)) and type(value) is hint:
        return value
    raise _WrongType(words(hint))


def _cap(data: Any) -> None:
    """Refuse data that is absurdly deep or large, infinite, or holds a key that Hydra would call."""
    stack, nodes = [(data, 0, "")], 0
    while stack:
        value, depth, path = stack.pop()
        nodes += 1
        if depth > _MAX_DEPTH or nodes > _MAX_NODES:
            raise ConfigError(f"the config is too large: {_MAX_DEPTH} levels and {_MAX_NODES} values at most")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{path} is {value}: it must be a finite number")
        if isinstance(value, str) and len(value) > _MAX_TEXT:
            raise ConfigError(f"{path} is a text of {len(value)} characters: {_MAX_TEXT} at most")
        if isinstance(value, dict):
            for name, child in value.items():
                where = f"{path}.{name}" if path else str(name)
                if name in ("_target_", "_partial_", "_args_", "_recursive_", "_convert_"):
                    raise ConfigError(
                        f"{where} is refused", "a config never names code to call; registered kinds do"
                    )
                stack.append((child, depth + 1, where))
        elif isinstance(value, (list, tuple)):
            stack += [(child, depth + 1, path) for child in value]
