"""What to call runs that stand beside each other: by what tells them apart, and no more.

A configuration is what runs share that differ in their seeds alone. Names hold letters, digits and
what file systems and TensorBoard take alike.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlrun.config.naming import abbreviated, briefly, differing, written
from rlrun.config.run import GROUPS
from rlrun.runs.configuration import configuration_hash, hyperparameters, lineage, own, recipes
from rlrun.runs.folder import RunFolder, sound

_SWEEPS = "sweeps"  # the folder that every sweep has a folder in
_LABEL = 80  # characters


@dataclass(frozen=True)
class Entry:
    """A run, and what its run.json says."""

    run: RunFolder
    configuration: str  # a hash
    recipes: Mapping[str, str]
    config: Mapping[str, Any]  # what makes it this configuration, with its choices
    hyperparameters: Mapping[str, bool | float | str]

    @classmethod
    def of(cls, run: RunFolder) -> Entry:
        """ConfigError where it is damaged."""
        with sound(run.record):
            record = run.read_record()
            config = record["config"]
            return cls(
                run,
                configuration_hash(config | lineage(record), record["data_sha256"]),
                recipes(config),
                own(config) | lineage(record) | {"choices": config["choices"]},
                hyperparameters(config),
            )

    @property
    def group(self) -> str:
        """Its sweep's name, or <algo>-<env>."""
        if self.run.path.parent.parent.name == _SWEEPS:
            return cut(safe(self.run.path.parent.name))
        return cut(safe(f"{self.recipes['algo']}-{self.recipes['env']}"))


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
    """What is chosen and the keys that differ, of each: `dqn lr=0.001`."""
    told = differing([entry.config for entry in entries])
    short = abbreviated(key for each in told for key in each)
    labels = []
    for each in briefly(told):
        words = [
            written(value) if key in GROUPS else f"{short[key]}={written(value)}"
            for key, value in each.items()
        ]
        labels.append(cut(" ".join(map(safe, words))))
    return labels


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
