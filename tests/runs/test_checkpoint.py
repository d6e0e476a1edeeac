"""Checkpoints that are damaged, cut off, or not written to the end: never silently wrong, none lost."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlrun.files import write_atomic, write_synced
from rlrun.runs import checkpoint
from rlrun.runs.checkpoint import CheckpointError

FILES = ("tensors.safetensors", "replay.safetensors", "state.json", "manifest.json")


def files(number: int) -> dict[str, dict[str, torch.Tensor]]:
    """Contents that tell which checkpoint they belong to."""
    return {
        "tensors": {"a": torch.full((2, 3), float(number)), "b": torch.arange(number, number + 4)},
        "replay": {"obs": torch.full((2, 5), float(number), dtype=torch.float64)},
    }


def save(folder: Path, number: int) -> None:
    checkpoint.save(folder, number, files(number), {"updates": number, "text": "x" * 30})


def assert_is(found: checkpoint.Checkpoint, number: int) -> None:
    assert found.state == {"updates": number, "text": "x" * 30}
    for stem, tensors in files(number).items():
        assert found.files[stem].keys() == tensors.keys()
        for name, value in tensors.items():
            assert torch.equal(found.files[stem][name], value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two checkpoints, 1 and 2."""
    save(tmp_path / "ckpt", 1)
    save(tmp_path / "ckpt", 2)
    return tmp_path / "ckpt"


def test_round_trip(folder: Path) -> None:
    found, notes = checkpoint.load(folder)
    assert_is(found, 2)
    assert notes == []


def test_tensors_that_share_memory(tmp_path: Path) -> None:
    """Parameters are views of one vector, and a target network may share a normaliser."""
    flat = torch.arange(10.0).view(1, 10)
    tensors = {
        "whole": flat,
        "left": flat[:, :4],
        "right": flat[:, 4:],
        "again": flat,
        "strided": flat[:, ::2],
    }
    checkpoint.save(tmp_path / "ckpt", 1, {"tensors": tensors}, {})
    found = checkpoint.load(tmp_path / "ckpt")[0].files["tensors"]
    assert all(torch.equal(found[name], value) for name, value in tensors.items())


def test_the_newest_two_are_kept(folder: Path) -> None:
    for number in (3, 4, 5):
        save(folder, number)
        assert sorted(checkpoint.numbers(folder)) == [number - 1, number]
    assert sorted(path.name for path in folder.iterdir()) == ["00000004", "00000005"]


@pytest.mark.parametrize("name", FILES)
def test_flipped_bits(folder: Path, name: str) -> None:
    """A bit at every byte of every file: the checkpoint before it is used, and a note says so."""
    path = folder / "00000002" / name
    whole = path.read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << (position % 8)
        path.write_bytes(damaged)
        found, notes = checkpoint.load(folder)
        if found.state["updates"] == 2:  # as white space in the manifest, which changes nothing
            assert name == "manifest.json" and json.loads(damaged) == json.loads(whole)
            assert_is(found, 2)
        else:
            assert_is(found, 1)
            assert len(notes) == 1 and "00000002 is damaged" in notes[0]


@pytest.mark.parametrize("name", FILES)
def test_truncation(folder: Path, name: str) -> None:
    """Cut at every length, and a byte too long."""
    path = folder / "00000002" / name
    whole = path.read_bytes()
    for content in [whole[:length] for length in range(len(whole))] + [whole + b"\0"]:
        path.write_bytes(content)
        found, notes = checkpoint.load(folder)
        assert_is(found, 1)
        assert len(notes) == 1


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["missing", "link", "pipe", "folder", "foreign"])
def test_what_is_no_plain_file(folder: Path, tmp_path: Path, name: str, how: str) -> None:
    """Nothing is followed, waited for, or taken from another checkpoint."""
    path = folder / "00000002" / name
    aside = tmp_path / name
    shutil.move(path, aside)
    if how == "link":
        path.symlink_to(aside)
    elif how == "pipe":
        os.mkfifo(path)
    elif how == "folder":
        path.mkdir()
    elif how == "foreign":
        shutil.copy(folder / "00000001" / name, path)
    signal.alarm(20)  # a pipe that is waited for would hang
    try:
        found, notes = checkpoint.load(folder)
    finally:
        signal.alarm(0)
    assert_is(found, 1)
    assert len(notes) == 1


manifests: list[Any] = [
    [],
    None,
    3,
    "text",
    {},
    {"state.json": None},
    {"state.json": [2, "00"]},
    {"state.json": [1 << 70, "00"]},
    {"../../outside": [0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]},
    {"/etc/hostname": [10, "00"]},
    {"a\0b": [1, ""]},
]


@pytest.mark.parametrize("manifest", manifests, ids=str)
def test_hostile_manifests(folder: Path, manifest: Any) -> None:
    (folder / "00000002" / "manifest.json").write_text(json.dumps(manifest))
    assert_is(checkpoint.load(folder)[0], 1)


def test_a_deep_manifest(folder: Path) -> None:
    (folder / "00000002" / "manifest.json").write_text("[" * 100_000)
    assert_is(checkpoint.load(folder)[0], 1)


@given(st.binary(max_size=400))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_for_a_manifest(folder: Path, content: bytes) -> None:
    (folder / "00000002" / "manifest.json").write_bytes(content)
    assert_is(checkpoint.load(folder)[0], 1)


def test_all_damaged_is_a_clear_stop(folder: Path) -> None:
    for number in ("00000001", "00000002"):
        (folder / number / "state.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"00000002 is damaged(.|\n)*00000001 is damaged"):
        checkpoint.load(folder)


def test_none_is_a_clear_stop(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint"):
        checkpoint.load(tmp_path / "ckpt")


def test_going_on_from_before_a_damaged_one(folder: Path) -> None:
    """New checkpoints below its number must not be the ones that are dropped, nor it be taken later."""
    save(folder, 20)
    (folder / "00000020" / "state.json").write_text("{}")
    for number in (5, 9):  # the run came back from 2
        save(folder, number)
        assert_is(checkpoint.load(folder)[0], number)
        assert max(checkpoint.numbers(folder)) == number
    assert sorted(checkpoint.numbers(folder)) == [5, 9]


def test_leftovers_of_killed_saves_are_removed(folder: Path) -> None:
    (folder / ".tmp-1").mkdir()
    (folder / ".tmp-1" / "tensors.safetensors").write_bytes(b"part")
    assert_is(checkpoint.load(folder)[0], 2)
    save(folder, 3)
    assert not list(folder.glob(".tmp-*"))


# Every I/O point of the save path


class Killed(BaseException):
    """Stands for kill -9: no handler of the code under test may run usefully."""


@contextmanager
def failing(
    monkeypatch: pytest.MonkeyPatch, at: int, failure: Callable[[], BaseException]
) -> Iterator[list[str]]:
    """Raise at the n-th system call that touches the disk; yields the names of those that were made."""
    calls: list[str] = []

    def wrap(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            if len(calls) == at + 1:
                raise failure()
            return original(*args, **kwargs)

        patch.setattr(owner, name, call)

    with monkeypatch.context() as patch:
        for owner, name in (
            (os, "open"),
            (os, "fsync"),
            (os, "mkdir"),
            (os, "rename"),
            (os, "rmdir"),
            (os, "unlink"),
            (Path, "open"),
            (Path, "mkdir"),
            (Path, "rename"),
        ):
            wrap(owner, name)
        yield calls


def points(monkeypatch: pytest.MonkeyPatch, folder: Path) -> int:
    """How many I/O points a save has that also drops an old checkpoint."""
    with failing(monkeypatch, -1, OSError) as calls:
        save(folder, 3)
    assert {"open", "fsync", "mkdir", "rename", "rmdir", "unlink"} <= set(calls)
    return len(calls)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_failing_disk_loses_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """The error surfaces or the save is whole, the newest is found, the next save works."""
    pattern = tmp_path / "pattern"
    save(pattern, 1), save(pattern, 2)
    count, refused = points(monkeypatch, shutil.copytree(pattern, tmp_path / "count")), 0
    for at in range(count):
        folder = shutil.copytree(pattern, tmp_path / f"{at}")
        surfaced = False
        with failing(monkeypatch, at, lambda: OSError(code, os.strerror(code))):
            try:
                save(folder, 3)
            except OSError as error:
                surfaced = error.errno == code
        found, notes = checkpoint.load(folder)
        assert found.state["updates"] in ((2, 3) if surfaced else (3,)) and not notes
        assert_is(found, found.state["updates"])
        refused += surfaced
        save(folder, 4)
        assert_is(checkpoint.load(folder)[0], 4)
        assert len(checkpoint.numbers(folder)) == 2 and not list(folder.glob(".tmp-*"))
    assert refused >= count - 1  # making the folder that is there already may fail


def test_a_short_write_is_noticed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOSPC in the middle of a file's content."""
    for name in FILES:
        written = write_synced

        def half(path: Path, data: bytes, name: str = name, written: Any = written) -> None:
            written(path, data[: len(data) // 2] if path.name == name else data)
            if path.name == name:
                raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "write_synced", half)
            with pytest.raises(OSError):
                save(folder, 3)
        assert_is(checkpoint.load(folder)[0], 2)


def test_a_kill_at_every_point_loses_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pattern = tmp_path / "pattern"
    save(pattern, 1), save(pattern, 2)
    count = points(monkeypatch, shutil.copytree(pattern, tmp_path / "count"))
    for at in range(count):
        folder = shutil.copytree(pattern, tmp_path / f"{at}")
        with failing(monkeypatch, at, Killed), pytest.raises(Killed):
            save(folder, 3)
        found, notes = checkpoint.load(folder)
        assert found.state["updates"] in (2, 3) and not notes
        assert_is(found, found.state["updates"])


def test_order_of_a_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are synced before the rename, the parent folder after it; only then is anything dropped."""
    folder = tmp_path / "ckpt"
    save(folder, 1), save(folder, 2)
    with failing(monkeypatch, -1, OSError) as calls:
        save(folder, 3)
    rename = calls.index("rename")
    assert calls[:rename].count("fsync") == len(FILES) + 1  # and the new folder itself
    assert calls[rename:].index("fsync") < calls[rename:].index("unlink")
    assert "unlink" not in calls[:rename] and "rmdir" not in calls[:rename]


# The other files of a run folder


def test_write_atomic_leaves_the_old_or_the_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "status.json"
    write_atomic(path, b"old")
    with failing(monkeypatch, -1, OSError) as calls:
        write_atomic(path, b"old")
    for at in range(len(calls)):
        path.write_bytes(b"old")
        with failing(monkeypatch, at, lambda: OSError(errno.EIO, "EIO")), pytest.raises(OSError):
            write_atomic(path, b"new")
        assert path.read_bytes() in (b"old", b"new")
