"""The jobs of a sweep: their words, and names that say what differs between them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlrun.config.naming import abbreviated
from rlrun.config.sweep import Sweep

_LONG = 96  # characters of a name, of which a file system allows 255
_FIRST = ("algo", "model", "env", "eval", "data")  # what is told first; seeds come last
_LAST = ("replicas", "seed")


@dataclass(frozen=True)
class Job:
    """One run of a sweep."""

    name: str  # its folder's, of [A-Za-z0-9._-]
    label: str  # for people: dqn cartpole lr=0.001
    words: tuple[str, ...]  # the overrides that describe it


def jobs(asked: Sweep) -> Iterator[Job]:
    """The jobs of a grid, the last key varying fastest."""
    keys = sorted((axis.key for axis in asked.axes), key=_order)
    short = abbreviated(keys)
    names: set[str] = set()
    for values in asked.jobs():
        words = (*asked.fixed, *(f"{key}={value}" for key, value in values.items()))
        name = folder_name({short[key]: values[key] for key in keys})
        if name in names:  # other values that look the same
            name = f"{name[:_LONG]}-{_digest(words)}"
        names.add(name)
        told = sorted(keys, key=lambda key: key not in _FIRST)  # what is chosen, then the values
        label = " ".join(_told(key, short[key], _plain(values[key])) for key in told)
        yield Job(name, label or name, words)


def sweep_name(asked: Sweep) -> str:
    """What a sweep's folder is called: the same for the same keys, whatever values are added to them."""
    fixed = [word for word in asked.fixed if not word.startswith(("out=", "hydra."))]
    said = dict(word.partition("=")[::2] for word in fixed)
    parts = [said[key] for key in ("algo", "env") if said.get(key)]
    keys = sorted((axis.key for axis in asked.axes), key=_order)
    digest = _digest((*sorted(fixed), *keys))
    return f"{_clean('-'.join([*parts, *abbreviated(keys).values()]) or 'run')[:_LONG]}-{digest}"


def folder_name(values: Mapping[str, Any]) -> str:
    """key-value_key-value, of characters that every shell and every override takes as they are."""
    name = "_".join(f"{_clean(key)}-{_clean(_plain(value))}" for key, value in values.items()) or "run"
    return name if len(name) <= _LONG else f"{name[:_LONG]}-{_digest([name])}"


def _order(key: str) -> tuple[int, str, str]:
    """Groups with their keys in a fixed order, then the rest by name, then seeds."""
    group = key.lstrip("+").partition(".")[0]
    place = _FIRST.index(group) if group in _FIRST else len(_FIRST) + (key in _LAST)
    return place, group if place < len(_FIRST) else "", key


def _told(key: str, short: str, value: str) -> str:
    return value if key in _FIRST else f"{short}={value}"


def _plain(value: Any) -> str:
    """A value without the quotes that Hydra's grammar may want."""
    text = str(value)
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def _clean(text: str) -> str:
    inside = text.strip("[]{}() ")
    return re.sub(r"[^A-Za-z0-9._-]+", "-", re.sub(r"(?<=\d) *, *(?=\d)", "x", inside)).strip("-.") or "none"


def _digest(words: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(words).encode("utf-8", "replace")).hexdigest()[:4]
