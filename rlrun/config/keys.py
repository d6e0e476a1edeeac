"""What a config field is: a name, a type, a meaning and bounds, and the refusal of what breaks them.

A field carries no default: every value lives in exactly one YAML file under conf/.
"""

from __future__ import annotations

import math
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import Field, field, fields, is_dataclass
from functools import cache
from pathlib import Path
from traceback import walk_tb
from typing import Any

from rlrun.config.vocabulary import hint
from rlrun.config.vocabulary import nearest as nearest

_LINES = 12  # of a refusal
NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")


def is_name(text: str) -> bool:
    """Whether a file or folder inside another may be called so."""
    return NAME.fullmatch(text) is not None and text not in (".", "..")


class ConfigError(ValueError):
    """A refusal in two or three lines: what is wrong, what is allowed, the nearest name."""

    def __init__(self, *lines: str) -> None:
        self.lines = [printable(line) for text in lines for line in text.splitlines() if line][:_LINES]
        super().__init__("\n".join(self.lines))


def raised_at(error: BaseException) -> str:
    """The file and line that raised an exception, env.py:12; '' where none did."""
    places = [f"{Path(frame.f_code.co_filename).name}:{line}" for frame, line in walk_tb(error.__traceback__)]
    return places[-1] if places else ""


class EnvError(RuntimeError):
    """An environment failed while it was played: what, where, and what to do, a line each."""

    def __init__(self, *lines: str) -> None:
        self.lines = [printable(" ".join(line.split())) for line in lines if line]
        super().__init__("\n".join(self.lines))


def printable(text: str, limit: int = 400) -> str:
    """A line without control characters, and not too long, safe on a terminal."""
    clean = "".join(c if c.isprintable() else "?" for c in text)
    return clean if len(clean) <= limit else clean[: limit - 3] + "..."


def legible(text: str) -> str:
    """Lines of text that are `printable`: what is printed, or written for people, passes through here.

    A version, a folder's name, an env's id, the text of an exception may be a stranger's, and hold
    what moves a terminal's cursor or turns the direction of writing.
    """
    return "\n".join(printable(line, 1 << 16) for line in text.split("\n"))


def key(
    doc: str,
    *,
    min: float | None = None,
    max: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: Sequence[Any] | None = None,
    word: str | None = None,
    per_replica: bool = False,
    path: bool = False,
) -> Any:
    """A config field: its meaning, and the closed or open bounds of its value.

    The bounds of a list are those of its elements. A None value, where the type admits it,
    passes every bound; so does `word`, the one text that may stand for a number. `per_replica`
    says that an algorithm reads it through `rlrun.parts.numbers`, so that it may differ between
    replicas; `path`, that it names a file or folder.
    """
    bounds = {"min": min, "max": max, "above": above, "below": below, "choices": choices, "word": word}
    known = {k: v for k, v in bounds.items() if v is not None}
    return field(metadata={"doc": doc, "per_replica": per_replica, "path": path} | known)


def violations(config: Any, path: str = "") -> list[str]:
    """Every value out of its bounds, as 'path: problem'; also a config's own `problems()`."""
    found: list[str] = []
    for f in fields(config):
        value, where = getattr(config, f.name), f"{path}{f.name}"
        elements = [(where, value)]
        if isinstance(value, (list, tuple)):
            elements = [(f"{where}[{i}]", element) for i, element in enumerate(value)]
        elif isinstance(value, dict):
            elements = [(f"{where}.{name}", element) for name, element in value.items()]
        for place, element in elements:
            if is_dataclass(element):
                found += violations(element, place + ".")
            elif element is not None:
                found += [f"{place} is {element}: {why}" for why in _broken(element, f.metadata)]
    if hasattr(config, "problems") and not found:  # which may rely on the bounds
        found += [f"{path}{problem}" for problem in config.problems()]
    return found


def _broken(value: Any, bounds: Mapping[str, Any]) -> list[str]:
    if isinstance(value, float) and not math.isfinite(value):
        return ["it must be a finite number"]
    if "choices" in bounds and value not in bounds["choices"]:
        near = hint(str(value), map(str, bounds["choices"]))
        return ["it must be one of " + _listing(bounds["choices"]) + (near and f"; {near}")]
    if "word" in bounds and isinstance(value, str) and value != bounds["word"]:
        near = hint(value, [bounds["word"]])
        number = " ".join(["a number", *_limits(bounds)])
        return [f"it must be {number}, or {bounds['word']}" + (near and f"; {near}")]
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


def _limits(bounds: Mapping[str, Any]) -> list[str]:
    """The bounds of a number as people say them, such as 'at least 0'."""
    return [f"{_BOUNDS[name]} {bounds[name]}" for name in _BOUNDS if name in bounds]


def _listing(names: Iterable[Any]) -> str:
    return ", ".join(map(str, names))


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
    kind = f"{bounds['word']} or a number" if "word" in bounds else words(hint)
    return ", ".join([kind, *_limits(bounds)])


def meaning(schema: type, name: str, path: str) -> str:
    """'path: what it is; what is allowed', for an error's second line; '' for no such field."""
    for f in fields(schema):
        if f.name == name:
            return f"{path}: {f.metadata.get('doc', name)}; {allowed(f, hints(schema)[name])}"
    return ""


def unknown_key(name: str, path: str, names: Iterable[str]) -> ConfigError:
    """The refusal of a key that a section does not have."""
    names, prefix = list(names), path and path + "."
    return ConfigError(
        f"unknown key {prefix}{name}",
        hint(prefix + name, [prefix + each for each in names]),
        f"{path or 'the config'} has {_listing(names)}",
    )


def rewritten(value: Any, kind: Any) -> str:
    """How to write what was meant by a value of the wrong type: 100000 for 100k, null for None."""
    meant: Any = None
    kinds = typing.get_args(kind) or (kind,)
    if type(None) in kinds and str(value).lower() in ("none", "nil", "off", "false"):
        meant = "null"
    elif typing.get_origin(kind) is list and not isinstance(value, (list, tuple, dict)):
        meant = f"[{value}]"
    elif {int, float} & set(kinds) and not isinstance(value, bool):
        number = _number(str(value))
        meant = whole_number(str(value)) if int in kinds else number
    return "" if meant is None else f" (write {meant})"


def spelled(value: Any) -> str:
    """A value in Hydra's grammar, which reads the same one: text with quotes, spaces or commas too."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(spelled, value))}]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{name}:{spelled(each)}" for name, each in value.items()) + "}"
    text = str(value)
    if re.fullmatch(r"[\w./:@%+-]+", text):
        return text
    # A backslash is itself, but before a quote.
    return "'" + re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), text) + "'"


def whole_number(text: str) -> int | None:
    """The integer that people write as 100k, 1e5 or 10**6; None if it is none, or 0."""
    number = _number(text)
    return int(number) if number and number.is_integer() else None


def _number(text: str) -> float | None:
    """The number that people write as 100k, 2.5M, 1e5, 10**6, 1,000,000 or 5%; None if it is none."""
    text = re.sub(r"[_ ']|,(?=\d{3}(,\d{3})*$)", "", text.lower())
    found = re.fullmatch(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)(?:([kmg%])|(?:\*\*|\^)(\d\d?))?", text)
    if not found:
        return None
    number, factor = float(found[1]), {"k": 1e3, "m": 1e6, "g": 1e9, "%": 0.01}.get(found[2] or "", 1)
    number = number ** int(found[3] or 1) * factor
    return number if math.isfinite(number) else None
