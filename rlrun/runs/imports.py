"""The modules that a run's config names, and which of them its folder may have imported unasked.

A run folder is data, perhaps a stranger's, and says nothing that is believed about code. But a run of
one's own, in the directory where it was trained, names the file that its own command line had
imported there. run.json knows that file by its path, its SHA-256 and its inode number, which nobody
can foretell who packs a folder elsewhere. So such a folder can have imported what Python finds in
the working directory under that name, unchanged, and never a module of the standard library, an
installed package or a file that came with the folder.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterator, Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from rlrun.config import catalog
from rlrun.envs.packages import modules

_MOST, _NAME = 64, re.compile(r"\w{1,64}(\.\w{1,64}){0,7}")


def named(config: Mapping[str, Any]) -> list[str]:
    """The modules that a config, as run.json has it, names: plug-ins, and those of its env."""
    return list(dict.fromkeys([*map(str, config.get("imports", ())), *modules(config["env"])]))


def recorded(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """run.json's `modules`: the files of those that were imported, and of the packages that they are in."""
    names = [each for name in named(config) for each in _and_parents(name)]
    files = {name: getattr(sys.modules.get(name), "__file__", None) for name in names}
    return {name: _identity(Path(file)) for name, file in files.items() if file}


def sha256(module: str) -> str | None:
    """Of an imported module's file; None where it has none."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return _identity(Path(file))["sha256"] if file else None


def doubts(record: Mapping[str, Any], folder: Path, *, anew: bool = False) -> dict[str, str]:
    """Of the modules that run.json names, those that are not one's own files, and why. Imports nothing.

    What this process has imported already is in doubt only `anew`, as it is for the next command.
    """
    config = record["config"]
    called = modules({"wrappers": config["env"].get("wrappers")})  # imported or not, they will be called
    names = [name for name in named(config) if anew or name in called or name not in sys.modules]
    if len(names) > _MOST or not all(map(_NAME.fullmatch, names)):
        return dict.fromkeys(names, "these are no names of modules, or too many")
    if names:
        catalog.search_here()
    found = {name: _doubt(name, record.get("modules", {}), folder.resolve()) for name in names}
    return {name: why for name, why in found.items() if why}


def _doubt(name: str, recorded: Mapping[str, Any], folder: Path) -> str:
    """Why a module is not one that this run's own command line had imported here; '' if it is."""
    here = Path.cwd().resolve()
    if not folder.is_relative_to(here):
        return "the run is of another directory"
    for each, spec in zip(_and_parents(name), _specs(name), strict=True):
        place = here.joinpath(*each.split("."))
        if (
            spec is not None
            and spec.origin is None
            and list(spec.submodule_search_locations or ()) == [str(place)]
        ):
            continue  # a folder of modules, with nothing of its own to run
        files = (place.with_suffix(".py"), place / "__init__.py")
        file = Path(spec.origin or "") if spec is not None else None
        if file not in files or file.resolve() != file or file.is_relative_to(folder):
            return f"{each} is no file of this directory"
        if recorded.get(each) != _identity(file):
            return f"{file.relative_to(here)} is not the file that the run began with"
    return ""


def _specs(name: str) -> Iterator[ModuleSpec | None]:
    """What this process would import, for each package that a module is in and itself; imports nothing."""
    path: Any = None
    spec: ModuleSpec | None = None
    for i, each in enumerate(_and_parents(name)):
        found = (finder.find_spec(each, path) for finder in sys.meta_path) if path or not i else iter(())
        spec = next((spec for spec in found if spec is not None), None)
        path = spec.submodule_search_locations and list(spec.submodule_search_locations) if spec else None
        yield spec


def _and_parents(name: str) -> list[str]:
    """a.b.c -> a, a.b, a.b.c"""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]


def _identity(file: Path) -> dict[str, Any]:
    """What tells a file from any other."""
    data = file.read_bytes()
    return {"file": str(file), "sha256": hashlib.sha256(data).hexdigest(), "inode": file.stat().st_ino}
