"""What a stranger may have done to a run folder: links, pipes and garbage in the place of what is there."""

from __future__ import annotations

import os
import random
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

Change = Callable[[Path, Path, random.Random], Any]  # of a path; with a folder that is none of its business


@dataclass(frozen=True)
class Mutation:
    """`change` is of the run folder; it may return where that is now.

    `refused` are verbs that cannot work with it, `unharmed` those that must, beside those that never look.
    """

    name: str
    touches: str  # the entry of the run folder
    change: Change
    base: str = "plain"
    refused: Sequence[str] = ()
    unharmed: Sequence[str] = ()
    says: str = ""  # by verbs that work with an older checkpoint


NEW = "ckpt/NEW"  # the newest checkpoint
ENTRIES = {
    "plain": "run.json status.json metrics.jsonl config.yaml overrides.yaml lock summary.json curve.png tb "
    f"tb/seed=1 ckpt {NEW} {NEW}/manifest.json {NEW}/state.json {NEW}/tensors.safetensors "
    f"{NEW}/replay.safetensors",
    "walk": "folds.json test_steps.csv.gz report.md report.json summary.json equity.png folds.png",
}
TO_COME = (
    "play.gif episodes episodes/dataset.json .status.json.tmp .summary.json.tmp .run.json.tmp "
    ".config.yaml.tmp lock.held policy.png report.md report.json folds.json test_steps.csv.gz equity.png "
    "ckpt/.tmp-1 ckpt/00000999 ckpt/replay .curve.png.tmp .report.md.tmp .play.gif.tmp tb/seed=2"
)


def newest(run: Path) -> Path:
    return max((run / "ckpt").iterdir())


def cleared(path: Path) -> Path:
    """The path itself, with nothing there, in a folder that is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def twin(path: Path, outside: Path, chance: random.Random) -> None:
    """A link to the same thing, outside."""
    if path.exists():
        path.rename(outside / "twin")
    path.symlink_to(os.path.relpath(outside / "twin", path.parent))


def link(target: str, path: Path, outside: Path, chance: random.Random) -> None:
    cleared(path).symlink_to(outside / target)  # which is the target itself where that begins with a slash


def plug(path: Path, outside: Path, chance: random.Random) -> None:
    """A socket; its path must be short."""
    here = os.getcwd()
    os.chdir(cleared(path).parent)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)
    os.chdir(here)


def swapped(path: Path, outside: Path, chance: random.Random) -> None:
    """A folder for a file, a file for a folder."""
    was_folder = path.is_dir()
    cleared(path)
    path.write_text("x") if was_folder else path.mkdir()


def vast(path: Path, outside: Path, chance: random.Random) -> None:
    """40 GB, though none of it is on the disk."""
    cleared(path).touch()
    os.truncate(path, 40 << 30)


def cut(path: Path, outside: Path, chance: random.Random) -> None:
    if path.is_file():
        path.write_bytes(path.read_bytes()[: chance.randrange(1, max(path.stat().st_size, 2))])


def flipped(path: Path, outside: Path, chance: random.Random) -> None:
    """One bit."""
    if path.is_file() and path.stat().st_size:
        data = bytearray(path.read_bytes())
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)


def holding(content: str, path: Path, outside: Path, chance: random.Random) -> None:
    cleared(path).write_text(content)


LINKS: dict[str, Change] = {
    "a link to nothing outside": partial(link, "new"),
    "a link to a file outside": partial(link, "file"),
    "a link to a folder outside": partial(link, "folder"),
    "a pipe": lambda path, outside, chance: os.mkfifo(cleared(path)),
}
STAND_INS: dict[str, Change] = LINKS | {
    "a link to its twin outside": twin,
    "a link to zeros without end": partial(link, "/dev/zero"),
    "a link to numbers without end": partial(link, "/dev/urandom"),
    "a socket": plug,
    "a folder for a file": swapped,
    "40 GB": vast,
    "nothing": lambda path, outside, chance: cleared(path),
    "an empty file": partial(holding, ""),
}
DAMAGE: dict[str, Change] = {
    "garbage": lambda path, outside, chance: cleared(path).write_bytes(chance.randbytes(3000)),
    "cut": cut,
    "one bit flipped": flipped,
}
DEEP: dict[str, Change] = {f"{text} without end": partial(holding, text * 100_000) for text in ("[", '{"a":')}


def stand_ins() -> Iterator[Mutation]:
    """Whatever can stand in the place of what a run folder has, or will have."""
    for base, entries in ENTRIES.items():
        for entry in entries.split():
            top, saved = entry.split("/")[0], entry.startswith(f"{NEW}/")
            for name, change in STAND_INS.items():
                yield Mutation(f"{entry}: {name}", top, partial(_at, entry, change), base)
            for name, change in DAMAGE.items() if "." in entry or entry == "lock" else ():
                unharmed = ("evaluate", "record", "load") if saved else ()
                says = "damaged" if saved and entry.endswith(("state.json", "tensors.safetensors")) else ""
                act = partial(_at, entry, change)
                yield Mutation(f"{entry}: {name}", top, act, base, unharmed=unharmed, says=says)
            for name, change in DEEP.items() if entry.endswith((".json", ".jsonl", ".yaml")) else ():
                yield Mutation(f"{entry}: {name}", top, partial(_at, entry, change), base)
    for entry in TO_COME.split():
        for name, change in LINKS.items():
            yield Mutation(f"{entry}: {name}", entry.split("/")[0], partial(_at, entry, change))


def _at(entry: str, change: Change, run: Path, outside: Path, chance: random.Random) -> None:
    change(run / (entry.replace("NEW", newest(run).name) if "NEW" in entry else entry), outside, chance)


def renamed() -> Iterator[Mutation]:
    """Names of the folder itself."""
    for name in (
        "\x1b[31mred",
        "a\nb",
        "\u202egpj",
        "\udcff",
        "\x9b31m",
        *" |-x|--help|a b|*|'|x=1|..x".split("|"),
    ):

        def change(run: Path, outside: Path, chance: random.Random, name: str = name) -> Path:
            return run.rename(run.parent / name)

        yield Mutation(f"a folder called {name!r}", "", change, unharmed=("load", "report", "compare"))
