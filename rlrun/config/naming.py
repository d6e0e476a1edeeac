"""What configs are called among each other: by what they choose, and by the keys in which they differ.

    >>> names([{"choices": {"algo": "dqn"}, "algo": {"learning_rate": rate}} for rate in (0.1, 0.2)])
    ['dqn lr=0.1', 'dqn lr=0.2']

A choice implies many keys, which are not told again: a key is told where it differs among configs
of the same algorithm and env, and, for a key of model, eval or data, of the same choice there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rlrun.config.keys import printable
from rlrun.config.run import GROUPS

_ABBREVIATIONS = {"learning_rate": "lr"}
_DEEP, _TEXT = 8, 40  # levels of a config that are keys, and characters of a value in a name
_TYPED = 9  # characters of a number


def differing(configs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each plain config, the choices and keys that tell it from the others: {"algo.gamma": 0.9}."""
    choices = [dict(config.get("choices", {})) for config in configs]
    groups = [*GROUPS, *sorted({group for each in choices for group in each} - set(GROUPS))]
    told: list[dict[str, Any]] = [{} for _ in configs]
    for group in groups:
        # A preset comes with the algorithm and the env: it is told where not all of those have it.
        among = ("algo", "env") if group == "tuned" else ()
        varied = _varied([each.get(group) for each in choices], choices, among)
        for which, each, varies in zip(told, choices, varied, strict=True):
            if varies and group in each:
                which[group] = each[group]
    flats = [flat(config) for config in configs]
    for key in dict.fromkeys(key for each in flats for key in each):
        values = [json.dumps(each[key], sort_keys=True) if key in each else "" for each in flats]
        varied = _varied(values, choices, ("algo", "env", key.partition(".")[0]))
        for which, each, varies in zip(told, flats, varied, strict=True):
            if varies and key in each:
                which[key] = each[key]
    return told


def _varied(values: Sequence[Any], choices: Sequence[Mapping[str, Any]], among: Sequence[str]) -> list[bool]:
    """For each config whether the values differ among those that choose the same in the groups `among`."""
    kinds = [tuple(each.get(group) for group in among) for each in choices]
    alike: dict[tuple[Any, ...], set[Any]] = {}
    for kind, value in zip(kinds, values, strict=True):
        alike.setdefault(kind, set()).add(value)
    return [len(alike[kind]) > 1 for kind in kinds]


def names(configs: Sequence[Mapping[str, Any]], told: Sequence[Mapping[str, Any]] | None = None) -> list[str]:
    """A short name for each plain config: its algorithm, and what tells it from the others.

    `told` is what `differing` says of them, where that is known already.
    """
    told = differing(configs) if told is None else told
    short = abbreviated(key for each in told for key in each)
    found: list[str] = []
    for config, each in zip(configs, briefly(told), strict=True):
        words = [f"{short[key]}={written(value)}" for key, value in each.items() if key != "algo"]
        name = " ".join([_algorithm(config), *words])
        again = sum(other == name or other.startswith(f"{name} #") for other in found)
        found.append(f"{name} #{again + 1}" if again else name)
    return found


def briefly(told: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The same, with floats longer than one types in as few digits as tell them apart: 0.5779."""
    short: dict[str, dict[float, float]] = {}
    for key in dict.fromkeys(key for each in told for key in each):
        floats = {each[key] for each in told if isinstance(each.get(key), float)}
        for digits in range(4, 18):
            short[key] = {
                value: float(f"{value:.{digits}g}") if len(repr(value)) > _TYPED else value
                for value in floats
            }
            if len(set(short[key].values())) == len(floats):
                break
    return [
        {key: short[key][value] if isinstance(value, float) else value for key, value in each.items()}
        for each in told
    ]


def abbreviated(keys: Iterable[str]) -> dict[str, str]:
    """The last parts of each dotted key, as few as tell it from the others; lr for learning_rate."""
    keys = list(dict.fromkeys(keys))
    parts = {key: [_ABBREVIATIONS.get(part, part) for part in key.split(".")] for key in keys}
    if any(part in key.split(".") for key in keys for part in _ABBREVIATIONS.values()):
        parts = {key: key.split(".") for key in keys}
    short = {}
    for key, own in parts.items():
        ends = (own[-n:] for n in range(1, len(own) + 1))
        alone = (end for end in ends if sum(each[-len(end) :] == end for each in parts.values()) == 1)
        short[key] = ".".join(next(alone, own))
    return short


def written(value: Any) -> str:
    """A value as one would type it: null, true, [64,64], 0.001."""
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    return printable(text, _TEXT)


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """All keys of a plain config but its choices, dotted; a list is one value."""
    out: dict[str, Any] = {}

    def walk(section: Mapping[str, Any], prefix: str, depth: int) -> None:
        for name, value in section.items():
            if isinstance(value, Mapping) and value and depth < _DEEP:
                walk(value, f"{prefix}{name}.", depth + 1)
            else:
                out[f"{prefix}{name}"] = value

    walk({name: value for name, value in config.items() if name != "choices"}, "", 0)
    return out


def _algorithm(config: Mapping[str, Any]) -> str:
    algo = config.get("algo")
    kind = algo.get("kind") if isinstance(algo, Mapping) else None
    return written(config.get("choices", {}).get("algo") or kind or "run")
