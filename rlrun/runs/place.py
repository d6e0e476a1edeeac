"""Where a run is: whether it can be written there, and what the relative paths of its config mean."""

from __future__ import annotations

import os
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from rlrun.config import ConfigError
from rlrun.data import steps, table
from rlrun.files import try_folder


def require_place(folder: Path, key: str, value: object) -> None:
    """Leave nothing behind, and say so if `folder` cannot be made, or not be written to.

    Raises:
        ConfigError: it cannot; `key` is what says where it is, and `value` what that says.
    """
    try:
        try_folder(folder)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"{key} is {value}: nothing can be made there: {why}",
            f"say {key}=FOLDER, in a place that you may write to",
        ) from error


def way_back(folder: Path) -> str:
    """From a run folder to the working directory.

    A run's config keeps its paths as they were typed: they say the same on every machine, and so does the
    hash of its job. This says what they are relative to. It is itself relative, so that a project that is
    moved as a whole, runs and data, stays usable, and run.json tells nothing of the machine.
    """
    return os.path.relpath(os.path.realpath(os.curdir), os.path.realpath(folder))


def rooted(config: Any, folder: Path, back: str) -> Any:
    """A config that was read from a run folder, its relative paths made absolute by the way `back`.

    Where nothing is there, as for a run folder that was moved alone, a path stays relative: to the working
    directory of now.
    """
    changes: dict[str, Any] = {}
    for f in fields(config):
        value = getattr(config, f.name)
        if is_dataclass(value):
            changes[f.name] = rooted(value, folder, back)
        elif f.metadata.get("path") and isinstance(value, str) and not _shipped(value):
            there = os.path.normpath(os.path.join(os.path.realpath(folder), back, value))
            changes[f.name] = there if os.path.exists(there) else value
    return replace(config, **changes)


def _shipped(name: str) -> bool:
    """Whether a path is really the name of something that came with rlrun."""
    ours = steps.SHIPPED / name, table.SHIPPED / f"{name}.csv.gz"
    return Path(name).name == name and any(map(os.path.exists, ours))
