"""What to call runs that stand beside each other: by what tells them apart, and no more.

A configuration is what runs share that differ in their seeds alone. Names hold letters, digits and
what file systems and TensorBoard take alike.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rlrun.runs.configuration import Scalar, configuration_hash, hyperparameters, recipes, settings
from rlrun.runs.folder import RunFolder, sound

_SWEEPS = "sweeps"  # the folder that every sweep has a folder in
_VALUE, _LABEL = 24, 80  # characters


@dataclass(frozen=True)
class Entry:
    """A run, and what its run.json says."""

    run: RunFolder
    configuration: str  # a hash
    recipes: Mapping[str, str]
    settings: Mapping[str, Scalar | None]
    hyperparameters: Mapping[str, bool | float | str]

    @classmethod
    def of(cls, run: RunFolder) -> Entry:
        """ConfigError where it is damaged."""
        with sound(run.record):
            record = run.read_record()
            config = record["config"]
            return cls(
                run,
                configuration_hash(config, record["data_sha256"]),
                recipes(config),
                settings(config),
                hyperparameters(config),
            )

    @property
    def sweep(self) -> bool:
        return self.run.path.parent.parent.name == _SWEEPS

    @property
    def group(self) -> str:
        """Its sweep's name, or <algo>-<env>."""
        task = f"{self.recipes['algo']}-{self.recipes['env']}"
        return cut(safe(self.run.path.parent.name if self.sweep else task))


def named(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """Entries by the name of their configuration, <group>/<what tells it from the others of its group>."""
    groups: dict[str, dict[str, list[Entry]]] = {}
    for entry in sorted(entries, key=lambda entry: entry.run.path):
        groups.setdefault(entry.group, {}).setdefault(entry.configuration, []).append(entry)
    found: dict[str, list[Entry]] = {}
    for group, configurations in groups.items():
        members = list(configurations.values())
        for label, runs in zip(_labels([runs[0] for runs in members]), members, strict=True):
            found[_unique(f"{group}/{label}".rstrip("/"), found)] = runs
    return found


def _labels(entries: Sequence[Entry]) -> list[str]:
    """What tells each from the others: the number of its job, recipes, and the keys that differ."""
    keys = differing(entries)
    several = [name for name in entries[0].recipes if len({entry.recipes[name] for entry in entries}) > 1]
    labels = []
    for entry in entries:
        words = [entry.run.path.name] if entry.sweep else []
        words += [entry.recipes[name] for name in several]
        values = entry.settings
        words += [f"{short}={_shown(values[key])}" for key, short in keys.items() if key in values]
        labels.append(cut(" ".join(map(safe, words))))
    return labels


def differing(entries: Sequence[Entry]) -> dict[str, str]:
    """Keys whose values differ among entries of the same recipes, and what they are called for short."""
    alike: dict[tuple[str, ...], list[Mapping[str, Scalar | None]]] = {}
    for entry in entries:
        alike.setdefault(tuple(entry.recipes.values()), []).append(entry.settings)
    keys: dict[str, None] = {}
    for several in alike.values():
        for key in several[0]:
            if len({str(each.get(key)) for each in several}) > 1:
                keys[key] = None
    shorts = [key.split(".", 1)[-1] for key in keys]
    return {key: short if shorts.count(short) == 1 else key for key, short in zip(keys, shorts, strict=True)}


def _shown(value: Scalar | None) -> str:
    words = f"{value:g}" if type(value) is float else "null" if value is None else str(value)
    return words if len(words) <= _VALUE else words[-_VALUE:]


def safe(text: str) -> str:
    """Text that may be a file's name, and is no name of a hidden one."""
    return re.sub(r"[^A-Za-z0-9._=,+-]", "_", text).lstrip(".") or "_"


def cut(label: str) -> str:
    """The label, shortened where it is long; different ones stay different."""
    if len(label) <= _LABEL:
        return label
    return f"{label[:_LABEL]}~{hashlib.sha256(label.encode()).hexdigest()[:6]}"


def _unique(name: str, taken: Mapping[str, object]) -> str:
    """The name, with a number where another has it."""
    others = (f"{name} #{n}" for n in range(2, len(taken) + 3))
    return name if name not in taken else next(other for other in others if other not in taken)
