"""Checkpoints: atomic, checksummed, without pickle.

    ckpt/00000590/ tensors.safetensors  replay.safetensors  state.json  manifest.json

A checkpoint is written into a hidden folder, every file and the folder are synced, and a
rename makes it visible: what has a checkpoint's name is complete. Loading trusts nothing:
it takes the newest one whose files have the sizes and SHA-256 sums of the manifest, and
neither reads, writes nor deletes anything through a link.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlrun.config import ConfigError
from rlrun.files import (
    WriteError,
    make_folder,
    parse_json,
    read_declared,
    read_json,
    remove,
    sync_folder,
    write_synced,
    writing,
)

if TYPE_CHECKING:
    from torch import Tensor

_NAME = re.compile(r"[0-9]{8,18}")
_TRIED = 8  # that are damaged, before none is looked for
_FILE = re.compile(r"[A-Za-z0-9._-]{1,100}\.safetensors|state\.json")


class CheckpointError(ConfigError):
    """No checkpoint of a run folder can be used; the message says why."""


@dataclass(frozen=True)
class Checkpoint:
    """`files` maps a file's stem to its tensors; `state` is plain JSON."""

    files: dict[str, dict[str, Tensor]]
    state: dict[str, Any]


def save(
    folder: Path, number: int, files: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]
) -> Path:
    """Write checkpoint `number` under `folder`, then drop all but the newest two.

    Raises:
        WriteError: the disk is full or fails, or `folder` is a link; older checkpoints are then untouched.
    """
    temporary = folder / f".tmp-{os.getpid()}"
    try:
        with writing(folder):
            return _save(folder, temporary, number, files, state)
    except WriteError:
        with suppress(OSError):
            remove(temporary)  # what is left of it fills the disk
        raise


def _save(
    folder: Path,
    temporary: Path,
    number: int,
    files: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
) -> Path:
    from safetensors.torch import save as encode

    make_folder(folder, folder.parent)
    for leftover in folder.glob(".tmp-*"):  # of a process that was killed while saving
        with suppress(OSError):
            remove(leftover)
    temporary.mkdir()
    manifest: dict[str, list[Any]] = {}

    def write(name: str, data: bytes) -> None:
        manifest[name] = [len(data), hashlib.sha256(data).hexdigest()]
        write_synced(temporary / name, data)

    for stem, tensors in files.items():
        write(f"{stem}.safetensors", encode(_separate(tensors)))
    write("state.json", json.dumps(state).encode())
    write_synced(temporary / "manifest.json", json.dumps(manifest, indent=1).encode())
    sync_folder(temporary)
    final = folder / f"{number:08d}"
    remove(final)  # a resumed run came back to an update that it had already saved
    temporary.rename(final)
    sync_folder(folder)
    there = sorted(numbers(folder))
    for other in there:  # higher ones are damaged: the run came back from before them
        if other > number or other < max((n for n in there if n < number), default=number):
            remove(folder / f"{other:08d}")
    return final


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU, copied where one shares another's memory: the format refuses that."""
    out: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        leaf = tensor.detach().cpu().contiguous()
        storage = leaf.untyped_storage().data_ptr()
        out[name] = leaf.clone() if storage in seen else leaf
        seen.add(storage)
    return out


def load(folder: Path, only: str | None = None, at: int | None = None) -> tuple[Checkpoint, list[str]]:
    """The newest checkpoint that is whole, and a line about each newer one that is not.

    `only` names the one file of tensors that is wanted: the others are neither read nor judged. `at` is the
    number of the one checkpoint that is wanted, where it is not the newest.

    Raises:
        CheckpointError: none is.
    """
    found = sorted(numbers(folder), reverse=True) if at is None else [at]
    notes: list[str] = []
    for number in found[:_TRIED]:
        path = folder / f"{number:08d}"
        try:
            return _read(path, only), notes
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            notes.append(f"checkpoint {path.name} is damaged ({error}); trying the one before")
    raise CheckpointError("\n".join(notes) or f"there is no checkpoint in {folder}")


def numbers(folder: Path) -> list[int]:
    """The numbers of the checkpoints that are there, complete or damaged.

    Raises:
        CheckpointError: `folder` is a link.
    """
    if folder.is_symlink():
        raise CheckpointError(f"{folder} is a link: put the checkpoints themselves there")
    if not folder.is_dir():
        return []
    there = [p for p in folder.iterdir() if _NAME.fullmatch(p.name) and p.is_dir() and not p.is_symlink()]
    return [int(p.name) for p in there if p.name == f"{int(p.name):08d}"]


def _read(path: Path, only: str | None) -> Checkpoint:
    from safetensors import SafetensorError
    from safetensors.torch import load as decode

    manifest = read_json(path / "manifest.json", 1 << 20)
    contents: dict[str, bytes] = {}
    for name, (size, digest) in manifest.items():
        if not _FILE.fullmatch(name):
            raise ValueError(f"the manifest names {name[:40]!r}")
        if name != "state.json" and only in (None, name.removesuffix(".safetensors")):
            contents[name] = read_declared(path / name, size, digest)
    state = parse_json(read_declared(path / "state.json", *manifest["state.json"]), "state.json")
    try:
        files = {name.removesuffix(".safetensors"): decode(data) for name, data in contents.items()}
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    return Checkpoint(files, state)
