"""Configs to and from plain JSON data.

`from_dict` is the one strict reader: a composed config and a run folder's `run.json` go
through it alike, so both refuse the same things with the same words.
"""

from __future__ import annotations

import hashlib
import json
import math
import types
import typing
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import fields, is_dataclass
from typing import Any

from rlrun import registry
from rlrun.config import catalog
from rlrun.config.keys import NAME, ConfigError, hints, meaning, rewritten, unknown_key, words
from rlrun.config.run import GROUPS, RunConfig, StopConfig, check

_NO_STOP = dict.fromkeys(f.name for f in fields(StopConfig))
_PROCESSES = {"workers": 1, "timeout": 60.0}  # of envs: how they are stepped, and no bit of what they do
# Keys that algorithms did not have at first, and what they did without.
_LATER = {"reinforce": {"normalize_returns": False}, "dqn": {"clip_targets": False}}
_MAX_DEPTH, _MAX_NODES, _MAX_TEXT = 16, 100_000, 4096


def to_dict(config: RunConfig) -> dict[str, Any]:
    """JSON data; a group member becomes {"kind": "dqn", ...its fields}."""
    out = {f.name: _plain(getattr(config, f.name)) for f in fields(config)}
    for group in GROUPS:
        out[group] = {"kind": registry.entry_of(getattr(config, group)).kind} | out[group]
    for name, listener in config.listener.items():
        out["listener"][name] = {"kind": registry.entry_of(listener).kind} | out["listener"][name]
    if out["stop"] == _NO_STOP:  # says nothing, and said so when there were no such rules: hashes stay
        del out["stop"]
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
    """SHA-256 of what the run computes: canonical JSON without names, who listens and who steps."""
    ignored = ("out", "choices", "listener")
    data = {name: value for name, value in to_dict(config).items() if name not in ignored}
    data["env"] = {name: value for name, value in data["env"].items() if name not in _PROCESSES}
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def from_dict(data: Any) -> RunConfig:
    """The checked config that `to_dict` made `data` from. Imports nothing that data names.

    Raises:
        ConfigError: unknown or missing keys, wrong types, values out of bounds or not
            finite, an unknown kind, or data too deep or too large.
    """
    _cap(data)
    # What run.json did not have at first.
    data = {"listener": {}, "episode_limit": 100_000, "stop": {}} | _section(data, "")
    if isinstance(stop := data["stop"], dict):
        data["stop"] = _NO_STOP | stop
    if isinstance(env := data.get("env"), dict) and env.get("kind") == "gym":
        data["env"] = _PROCESSES | env
    if isinstance(algo := data.get("algo"), dict):
        data["algo"] = _LATER.get(str(algo.get("kind")), {}) | algo
    members = {group: _member(data.get(group, {}), group, group) for group in GROUPS}
    listeners = _section(data["listener"], "listener")
    members["listener"] = {
        name: _member(listener, "listener", f"listener.{name}") for name, listener in listeners.items()
    }
    return check(_build(RunConfig, data | members, ""))


def changed(data: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A config's JSON data with other values at some full keys, such as algo.gamma; `from_dict` checks it."""
    out = deepcopy(dict(data))
    for key, value in changes.items():
        *sections, name = key.split(".")
        at = out
        for section in sections:
            at = at.setdefault(section, {})
            if not isinstance(at, dict):
                raise ConfigError(f"unknown key {key}: {section} is no section")
        at[name] = value
    return out


def _member(data: Any, group: str, path: str) -> Any:
    """The config of a registered kind, which `data` names."""
    member = _section(data, path)
    kind = member.get("kind")
    if not isinstance(kind, str) or not NAME.fullmatch(kind):
        raise ConfigError(f"{path} has no kind", "the config names no registered schema for it")
    values = {name: value for name, value in member.items() if name != "kind"}
    return _build(catalog.load(group, kind).config, values, path)


def _section(data: Any, path: str) -> dict[str, Any]:
    if not isinstance(data, dict) or not all(isinstance(name, str) for name in data):
        raise ConfigError(f"{path or 'the config'} is {data!r}: it must be a mapping of keys to values")
    return data


def _build(schema: type, data: Any, path: str) -> Any:
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
            values[name] = _convert(data[name], hints(schema)[name], where)
        except _WrongType as wrong:
            whole = rewritten(data[name], hints(schema)[name])
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
