"""What the files of a stranger's run folder may say: JSON (also in `edits.txt`), tensors, lines and rows."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from faults.mutations import Change, Mutation, holding, vast

WEIGHTS = ("evaluate", "play", "record", "resume", "load")  # verbs that read a checkpoint
Leaves = dict[str, np.ndarray]
GYM = {"kind": "gym", "kwargs": None, "wrappers": [], "allow_import": True, "max_steps": None}
GYM["reward"] = {"scale": 1.0, "shift": 0.0, "shaping": None}
ODD = (
    None,
    [],
    {},
    "x",
    "",
    -1,
    0,
    1.5,
    True,
    10**30,
    1e308,
    [[]],
    {"a": {}},
    "\x1b[31m",
    "\ud800",
    ["x"] * 1000,
)
PLACES = {
    "run.json": "schema config config.algo config.env config.model config.eval config.algo.gamma R versions "
    "config.algo.target config.model.hidden config.choices config.seed config.replicas config.num_envs "
    "config.threads config.dtype config.device config.imports config.listener config.log config.out threads "
    "cpu source config_hash job_hash obs obs.shape obs.dtype obs.low obs.kind action action.n replicas "
    "data_sha256",
    "status.json": "status step reason",
    "summary.json": "replicas aggregate wall_seconds env_steps notes aggregate.mean policy",
    "ckpt/state.json": "schema updates metrics_bytes marks wall_seconds failures begun",
    "ckpt/manifest.json": "state.json tensors.safetensors",
    "folds.json": "folds n index gap",
    "report.json": "folds mean baselines",
}


# JSON


def edit(file: str, change: Callable[[Any], Any]) -> Change:
    """Replace a JSON file by what `change` makes of it; in every checkpoint, with a manifest that fits."""

    def act(run: Path, outside: Path, chance: random.Random) -> None:
        for path in checkpoints(run, file) if "/" in file else [run / file]:
            if path.exists():
                path.write_text(json.dumps(change(json.loads(path.read_text()))))
                if path.name == "state.json":
                    sealed(path.parent)

    return act


def checkpoints(run: Path, file: str) -> list[Path]:
    return [folder / file.rpartition("/")[2] for folder in (run / "ckpt").iterdir()]


def sealed(folder: Path) -> None:
    """Make a checkpoint's manifest fit its files again, as a stranger can."""
    files = [path for path in folder.iterdir() if path.name != "manifest.json"]
    manifest = {p.name: [p.stat().st_size, hashlib.sha256(p.read_bytes()).hexdigest()] for p in files}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def put(path: tuple[str, ...], value: Any, data: Any) -> Any:
    """The document with a value at a path; it may lack what leads there."""
    if not path:
        return value
    return data | {path[0]: put(path[1:], value, data.get(path[0], {}))}


def without(path: tuple[str, ...], data: Any) -> Any:
    if len(path) == 1:
        return {name: value for name, value in data.items() if name != path[0]}
    return data | {path[0]: without(path[1:], data[path[0]])}


def path_of(file: str, place: str) -> tuple[str, ...]:
    return (place,) if file.endswith("manifest.json") else tuple(place.split("."))


def everywhere(more: str, data: Any) -> Any:
    """Every text of a document with something before it."""
    if isinstance(data, dict):
        return {name: everywhere(more, value) for name, value in data.items()}
    if isinstance(data, list):
        return [everywhere(more, value) for value in data]
    return more + data if isinstance(data, str) else data


def documents() -> Iterator[Mutation]:
    """Missing keys and wrong types everywhere, and texts with escapes in them."""
    for file, places in PLACES.items():
        top, base = file.split("/")[0], "walk" if file in ("folds.json", "report.json") else "plain"
        changes: dict[str, Callable[[Any], Any]] = {}
        for number, place in enumerate(places.split()):
            path, odd = path_of(file, place), ODD[number * 5 % len(ODD)]
            changes[f"without {place}"] = partial(without, path)
            changes[f"{place} is {str(odd)[:20]!r}"] = partial(put, path, odd)
        changes["a list"] = lambda data: [data]
        changes["a number"] = lambda data: 0
        changes["escapes"] = partial(everywhere, "\x1b]0;evil\x07\x1b[2J")
        changes["half a character"] = partial(everywhere, "\ud800")
        for name, change in changes.items():
            yield Mutation(f"{file}: {name}", top, edit(file, change), base)


def edits() -> Iterator[Mutation]:
    """Those of edits.txt, and what is too long for it."""
    base, refused = "plain", list[str]()
    for line in (Path(__file__).parent / "edits.txt").read_text().splitlines():
        if line.startswith("["):
            base, _, verbs = line.strip("[]").partition(", refused by ")
            refused = verbs.split()
        elif line and not line.startswith("#"):
            file, place, text = line.replace(" = ", " ", 1).split(" ", 2)
            value = json.loads(text)
            value = GYM | value if place == "config.env" else value
            change = partial(put, path_of(file, json.loads(f'"{place}"')), value)
            yield Mutation(line[:80], file.split("/")[0], edit(file, change), base, refused)
    many = [{"replica": i, "seed": i, "fold": None, "variant": 0} for i in range(200_000)]
    vector = {"kind": "multi_discrete", "nvec": [10**9] * 10**5}
    long = {
        "replicas": many,
        "action": vector,
        "config.model.hidden": [4096] * 5000,
        "obs.low": [0.0] * 2_000_000,
    }
    for place, value in (long | {"config.algo.kind": "x" * 100_000}).items():
        change = partial(put, path_of("run.json", place), value)
        yield Mutation(f"run.json: a long {place}", "run.json", edit("run.json", change))
    crowd = {f"f{i}": [1, "0"] for i in range(10_000)}
    yield Mutation("a manifest of many files", "ckpt", edit("ckpt/manifest.json", lambda data: data | crowd))
    for name, make in {"table.csv": os.mkfifo, "wide.csv": _wide, "bomb.csv.gz": _bomb}.items():
        yield Mutation(f"a series of {name}", "run.json", partial(_series, name, make), "walk")


def _series(name: str, make: Change, run: Path, outside: Path, chance: random.Random) -> None:
    make(outside / name)
    edit("run.json", partial(put, ("config", "env", "path"), str(outside / name)))(run, outside, chance)


def _bomb(path: Path) -> None:
    """4 GB in 4 MB."""
    head, rows = gzip.compress(b"time,close\n"), gzip.compress(b"2024-01-01,1.0\n" * 700_000)
    path.write_bytes(head + rows * 400)


def _wide(path: Path) -> None:
    path.write_text(",".join(["time", *(f"c{i}" for i in range(200_000))]) + "\n")


# Checkpoints


def tensors(change: Callable[[Leaves], Any]) -> Change:
    """Change the tensors of every checkpoint, with manifests that fit."""

    def act(run: Path, outside: Path, chance: random.Random) -> None:
        from safetensors.numpy import load_file, save_file

        for path in checkpoints(run, "tensors.safetensors"):
            leaves = load_file(path)
            change(leaves)
            save_file(leaves, path)
            sealed(path.parent)

    return act


def header(text: bytes, length: int | None) -> Change:
    """A safetensors file that begins as it likes, in every checkpoint."""

    def act(run: Path, outside: Path, chance: random.Random) -> None:
        size = (len(text) if length is None else length).to_bytes(8, "little")
        for path in checkpoints(run, "tensors.safetensors"):
            path.write_bytes(size + text + bytes(64))
            sealed(path.parent)

    return act


def weights(leaves: Leaves) -> list[str]:
    return [name for name in sorted(leaves) if name.startswith("algo/") and leaves[name].dtype == np.float32]


def each(change: Callable[[np.ndarray], np.ndarray], leaves: Leaves) -> None:
    leaves.update({name: np.ascontiguousarray(change(leaves[name])) for name in weights(leaves)})


def drop(beginning: str, leaves: Leaves) -> None:
    for name in [name for name in leaves if name.startswith(beginning)]:
        del leaves[name]


WRONG: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "float64": lambda a: a.astype(np.float64),
    "int64": lambda a: a.astype(np.int64),
    "float16": lambda a: a.astype(np.float16),
    "bool": lambda a: a > 0,
    "flat": lambda a: a.reshape(-1),
    "one axis more": lambda a: a[None],
    "a replica less": lambda a: a[:1],
    "a replica more": lambda a: np.concatenate([a, a[:1]]),
    "empty": lambda a: a[:0],
    "longer": lambda a: np.concatenate([a, a], -1),
    "a number": lambda a: np.zeros((), np.float32),
}
ADDED = {
    "another tensor": {"algo/more": np.zeros(3, np.float32)},
    "a name that leads outside": {"../../outside/new": np.zeros(1)},
    "a name with an escape": {"algo/\x1b[31m": np.zeros(1)},
    "many": {f"x{i}/../..": np.zeros(1) for i in range(1000)},
    "steps below zero": {"session/step": np.array([-5, -5])},
    "steps beyond the end": {"session/step": np.array([2**62, 2**62])},
    "steps of one replica": {"session/step": np.array([5])},
    "steps that are fractions": {"session/step": np.array([5.5, np.nan])},
}
LEAF = b'{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
HEADS = (
    (b"{}", 1 << 62),
    (b"{}", 0),
    (b"{" * 60, None),
    (b"[" * 100_000, None),
    (b"\xff\xfe", None),
    (b'{"__metadata__":{"x":"\\u001b[31m"}}', None),
    (b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}', None),
    (b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}', None),
    (b'{"a":{"dtype":"X9","shape":[1],"data_offsets":[0,4]}}', None),
    (b"{%s,%s}" % (b'"a":' + LEAF, b'"b":' + LEAF), None),
)


def tampered() -> Iterator[Mutation]:
    """Tensors that are not those of the network, and manifests that mean harm."""
    missing: dict[str, Callable[[Leaves], Any]] = {
        "no weights": partial(drop, "algo/"),
        "one weight less": lambda leaves: leaves.pop(weights(leaves)[0]),
        "nothing": lambda leaves: leaves.clear(),
        **{f"weights: {name}": partial(each, change) for name, change in WRONG.items()},
    }
    for name, change in missing.items():
        yield Mutation(f"tensors: {name}", "ckpt", tensors(change), refused=WEIGHTS)
    for name, more in ADDED.items():
        yield Mutation(f"tensors: {name}", "ckpt", tensors(lambda leaves, more=more: leaves.update(more)))
    odd: dict[str, Callable[[Leaves], Any]] = {
        "weights: NaN": partial(each, lambda a: a * np.float32("nan")),
        "weights: infinite": partial(each, lambda a: a + np.float32("inf")),
        "no session": partial(drop, "session/"),
        "no collector": partial(drop, "collector/"),
        "an endless episode": lambda leaves: leaves.update(
            {name: leaf + 2**40 for name, leaf in leaves.items() if name.endswith("/steps")}
        ),
    }
    for name, change in odd.items():
        yield Mutation(f"tensors: {name}", "ckpt", tensors(change))
    for number, (text, length) in enumerate(HEADS):
        yield Mutation(f"tensors: header {number}", "ckpt", header(text, length), refused=WEIGHTS)
    yield Mutation("a manifest's 40 GB are there", "ckpt", _vast_tensors, refused=WEIGHTS)
    for name in ("00000000", "99999999", "9" * 30, "00000001\n", "\u0661" * 8):
        unharmed = ("evaluate", "record", "load")
        yield Mutation(
            f"a checkpoint called {name[:12]!r}", "ckpt", partial(_another, name), unharmed=unharmed
        )


def _vast_tensors(run: Path, outside: Path, chance: random.Random) -> None:
    for path in checkpoints(run, "tensors.safetensors"):
        vast(path, outside, chance)
    size = partial(put, ("tensors.safetensors",), [40 << 30, "0" * 64])
    edit("ckpt/manifest.json", size)(run, outside, chance)


def _another(name: str, run: Path, outside: Path, chance: random.Random) -> None:
    (run / "ckpt" / name).mkdir()
    (run / "ckpt" / name / "manifest.json").write_text("{")


# Lines and rows


LINES = (
    '{"step": 1',
    "[]",
    "null",
    '{"replica": 0}',
    '"\\ud800"',
    '{"step": "x", "replica": 0, "a": 1}',
    '{"step": 5, "replica": 99, "a": 1}',
    '{"step": 5, "replica": 0, "\x1b[31m": 1}',
    '{"step": 5, "replica": 0, "train/return": "x"}',
    '{"step": 1e400, "replica": 0, "train/return": 1}',
    '{"step": 5, "replica": 0, "train/return": NaN}',
    '{"step": 5, "replica": 0, "a|b": 1}',
    "\x00" * 100,
    "[" * 100_000,
    "9" * 10_000,
)
ROWS: dict[str, Callable[[bytes], bytes]] = {
    "none": lambda rows: b"",
    "other columns": lambda rows: b"x,y\n1,2\n",
    "words": lambda rows: rows.replace(b"1", b"x"),
    "short ones": lambda rows: rows[:-30],
    "not UTF-8": lambda rows: b"\xff\xfe,b\n",
    "NaN": lambda rows: rows.replace(b"0.", b"nan"),
    "escapes": lambda rows: rows.replace(b",", b"\x1b[31m,", 5),
    "a wide header": lambda rows: b"c," * 200_000,
}
YAML = (
    "!!python/object/apply:os.system [touch RAN]\n",
    "a: &a [*a]\n",
    "\0",
    "algo: {_target_: planted.run}\n",
)


def texts() -> Iterator[Mutation]:
    """Damage to metrics.jsonl, to the scored steps, and to the YAML that is for people."""
    for line in LINES:
        for name, change in {
            "begins": lambda lines, line=line: line.encode() + b"\n" + lines,
            "ends": lambda lines, line=line: lines + line.encode(),
        }.items():
            act = partial(_bytes, "metrics.jsonl", change)
            yield Mutation(f"metrics.jsonl {name} with {line[:30]!r}", "metrics.jsonl", act)
    for name, change in ROWS.items():
        packed = partial(_packed, change)
        act = partial(_bytes, "test_steps.csv.gz", packed)
        yield Mutation(f"scored steps: {name}", "test_steps.csv.gz", act, "walk")
    bomb = partial(_bytes, "test_steps.csv.gz", lambda rows: gzip.compress(b"1,2\n" * 2_000_000) * 500)
    yield Mutation("scored steps: a bomb", "test_steps.csv.gz", bomb, "walk")
    for text in YAML:
        for file in ("config.yaml", "overrides.yaml"):

            def write(
                run: Path, outside: Path, chance: random.Random, file: str = file, text: str = text
            ) -> None:
                holding(text, run / file, outside, chance)

            yield Mutation(f"{file} is {text[:20]!r}", file, write)


def _packed(change: Callable[[bytes], bytes], rows: bytes) -> bytes:
    return gzip.compress(change(gzip.decompress(rows)))


def _bytes(
    file: str, change: Callable[[bytes], bytes], run: Path, outside: Path, chance: random.Random
) -> None:
    if (run / file).exists():
        (run / file).write_bytes(change((run / file).read_bytes()))
