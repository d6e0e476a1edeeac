"""What a stranger may have done to a run folder: a name, what of the folder it touches, and how it is done."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

Make = Callable[
    [Path, Path, random.Random], Any
]  # the run folder, a folder beside it that is none of its business
TRAIN = ("evaluate", "play", "record", "resume")  # verbs that build what run.json names
WEIGHTS = (*TRAIN, "load")


@dataclass(frozen=True)
class Mutation:
    """`refused` are verbs that cannot work with it, `unharmed` those that must, beside those that never look."""

    name: str
    touches: str  # the entry of the run folder
    make: Make
    base: str = "plain"
    refused: Sequence[str] = ()
    unharmed: Sequence[str] = ()
    says: str = ""  # where a verb of `WEIGHTS` works


def newest(run: Path) -> Path:
    return max((run / "ckpt").iterdir())


def entries(base: str) -> list[str]:
    """The files and folders of a run, each by a path; NEW is the newest checkpoint."""
    plain = ["run.json", "status.json", "metrics.jsonl", "config.yaml", "overrides.yaml", "lock", "summary.json", "curve.png", "tb", "ckpt"]  # fmt: skip
    inside = ["ckpt/NEW", *(f"ckpt/NEW/{n}" for n in ("manifest.json", "state.json", "tensors.safetensors", "replay.safetensors"))]  # fmt: skip
    walk = [
        "folds.json",
        "test_steps.csv.gz",
        "report.md",
        "report.json",
        "summary.json",
        "equity.png",
        "folds.png",
    ]
    return [*plain, "tb/seed=1", *inside] if base == "plain" else walk


TO_COME = ("play.gif", "episodes", "episodes/dataset.json", ".status.json.tmp", ".summary.json.tmp", ".run.json.tmp", ".config.yaml.tmp",
           "lock.held", "policy.png", "report.md", "report.json", "folds.json", "test_steps.csv.gz", "equity.png", "ckpt/.tmp-1", "ckpt/00000999",
           "ckpt/replay", ".curve.png.tmp", ".report.md.tmp", ".play.gif.tmp", "tb/seed=2")  # fmt: skip


def at(run: Path, entry: str) -> Path:
    return run / (entry.replace("NEW", newest(run).name) if "NEW" in entry else entry)


def cleared(path: Path) -> Path:
    """The path itself, with nothing there, in a folder that is there."""
    import shutil

    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif path.is_symlink() or path.exists():
        path.unlink()
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


# What may stand in the place of a file or folder


def twin(path: Path, outside: Path, chance: random.Random) -> None:
    """A link to the same thing, outside."""
    if path.exists():
        path.rename(outside / "twin")
    path.symlink_to(os.path.relpath(outside / "twin", path.parent))


def link(target: str, path: Path, outside: Path, chance: random.Random) -> None:
    cleared(path).symlink_to(target if target.startswith("/") else outside / target)


def pipe(path: Path, outside: Path, chance: random.Random) -> None:
    os.mkfifo(cleared(path))


def plug(path: Path, outside: Path, chance: random.Random) -> None:
    here = os.getcwd()
    os.chdir(cleared(path).parent)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)
    os.chdir(here)


def swapped(path: Path, outside: Path, chance: random.Random) -> None:
    """A folder for a file, a file for a folder."""
    was_folder = path.is_dir()
    cleared(path)
    path.write_text("x") if was_folder else path.mkdir()


def gone(path: Path, outside: Path, chance: random.Random) -> None:
    cleared(path)


def empty(path: Path, outside: Path, chance: random.Random) -> None:
    cleared(path).touch()


def garbage(path: Path, outside: Path, chance: random.Random) -> None:
    cleared(path).write_bytes(chance.randbytes(3000))


def vast(path: Path, outside: Path, chance: random.Random) -> None:
    """40 GB, though none of it is on the disk."""
    with cleared(path).open("wb") as file:
        file.truncate(40 << 30)


def cut(path: Path, outside: Path, chance: random.Random) -> None:
    if path.is_file():
        path.write_bytes(path.read_bytes()[: chance.randrange(1, max(path.stat().st_size, 2))])


def flipped(path: Path, outside: Path, chance: random.Random) -> None:
    """One bit."""
    if path.is_file() and path.stat().st_size:
        data = bytearray(path.read_bytes())
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)


def deep(opening: str, path: Path, outside: Path, chance: random.Random) -> None:
    cleared(path).write_text(opening * 100_000)


def stand_ins() -> Iterator[Mutation]:
    """Whatever can stand in the place of what a run folder has, or will have."""
    damage: dict[str, Callable[..., Any]] = {
        "a link to its twin outside": twin, "a link to nothing outside": partial(link, "new"), "a link to a file outside": partial(link, "file"),
        "a link to a folder outside": partial(link, "folder"), "a link to a device": partial(link, "/dev/zero"), "a link to the disk's random numbers": partial(link, "/dev/urandom"),
        "a pipe": pipe, "a socket": plug, "a folder for a file": swapped, "nothing": gone, "an empty file": empty, "garbage": garbage, "40 GB": vast,
        "cut": cut, "one bit flipped": flipped,
    }  # fmt: skip
    for base in ("plain", "walk"):
        for entry in entries(base):
            for name, change in damage.items():
                if "." not in entry and name in ("cut", "one bit flipped"):
                    continue
                own = entry.startswith("ckpt/NEW/") and name in ("cut", "one bit flipped", "garbage")
                read = own and "replay" not in entry
                yield Mutation(
                    f"{entry}: {name}", entry.split("/")[0], partial(_at, entry, change), base,
                    unharmed=("evaluate", "record", "load") if own else (), says="damaged" if read and "manifest" not in entry else "",
                )  # fmt: skip
            if entry.endswith((".json", ".jsonl", ".yaml")):
                for opening in ("[", '{"a":'):
                    yield Mutation(
                        f"{entry}: deep",
                        entry.split("/")[0],
                        partial(_at, entry, partial(deep, opening)),
                        base,
                    )
    for entry in TO_COME:
        for name in (
            "a link to nothing outside",
            "a link to a file outside",
            "a link to a folder outside",
            "a pipe",
        ):
            yield Mutation(f"{entry}: {name}", entry.split("/")[0], partial(_at, entry, damage[name]))


def _at(entry: str, change: Callable[..., Any], run: Path, outside: Path, chance: random.Random) -> None:
    change(at(run, entry), outside, chance)


# What the files may say


def edited(
    file: str, change: Callable[[Any, random.Random], Any], run: Path, outside: Path, chance: random.Random
) -> None:
    """A JSON file, changed in place, or replaced by what `change` returns; a checkpoint's with its manifest."""
    for path in checkpoints(run, file) if "/" in file else [run / file]:
        if path.exists():
            data = json.loads(path.read_text())
            new = change(data, chance)
            path.write_text(json.dumps(data if new is None else new))
            if path.parent.parent.name == "ckpt":
                sealed(path.parent)


def checkpoints(run: Path, file: str) -> list[Path]:
    return [folder / file.rpartition("/")[2] for folder in (run / "ckpt").iterdir()]


def sealed(folder: Path) -> None:
    """Make a checkpoint's manifest fit its files again, as a stranger can."""
    files = [path for path in folder.iterdir() if path.name != "manifest.json"]
    manifest = {p.name: [p.stat().st_size, hashlib.sha256(p.read_bytes()).hexdigest()] for p in files}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def put(place: str, value: Any, data: Any, chance: random.Random) -> None:
    *path, last = place.split(".")
    for name in path:
        data = data.setdefault(name, {}) if isinstance(data, dict) else data[int(name)]
    data[last] = value


def drop(place: str, data: Any, chance: random.Random) -> None:
    *path, last = place.split(".")
    for name in path:
        data = data[name]
    data.pop(last, None)


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
    float("nan"),
    float("inf"),
)


def contents() -> Iterator[Mutation]:
    """Wrong types and missing keys everywhere; names that mean harm; sizes that nothing holds."""
    said = {
        "run.json": ("schema", "config", "config.algo", "config.env", "config.model", "config.eval", "config.algo.gamma", "config.algo.target", "config.model.hidden", "config.choices",
                     "config.seed", "config.replicas", "config.num_envs", "config.threads", "config.dtype", "config.device", "config.imports", "config.listener", "config.log", "config.out",
                     "versions", "threads", "cpu", "source", "config_hash", "job_hash", "obs", "obs.shape", "obs.dtype", "obs.low", "obs.kind", "action", "action.n", "R", "replicas", "data_sha256"),
        "status.json": ("status", "step", "reason"),
        "summary.json": ("replicas", "aggregate", "wall_seconds", "env_steps", "notes", "aggregate.mean", "policy"),
        "ckpt/state.json": ("schema", "updates", "metrics_bytes", "marks", "wall_seconds", "failures", "begun"),
        "ckpt/manifest.json": ("state.json", "tensors.safetensors"),
    }  # fmt: skip
    for file, places in said.items():
        top = file.split("/")[0]
        for place in places:
            yield Mutation(f"{file} without {place}", top, partial(edited, file, partial(drop, place)))
            yield Mutation(f"{file}: odd {place}", top, partial(edited, file, partial(_odd, place)))
        yield Mutation(f"{file} is a list", top, partial(edited, file, lambda data, chance: [data]))
        yield Mutation(f"{file} is null", top, partial(edited, file, lambda data, chance: [None][0] or 0))
        yield Mutation(f"{file}: escapes", top, partial(edited, file, _escapes))
        yield Mutation(
            f"{file}: half a character", top, partial(edited, file, partial(_everywhere, "\ud800"))
        )
    for file, places in {
        "folds.json": ("folds", "n", "index", "gap"),
        "report.json": ("folds", "mean", "baselines"),
    }.items():
        for place in places:
            yield Mutation(
                f"{file} without {place}", file, partial(edited, file, partial(drop, place)), "walk"
            )
            yield Mutation(f"{file}: odd {place}", file, partial(edited, file, partial(_odd, place)), "walk")
        yield Mutation(f"{file} is a list", file, partial(edited, file, lambda data, chance: [data]), "walk")
        yield Mutation(f"{file}: escapes", file, partial(edited, file, _escapes), "walk")


def _odd(place: str, data: Any, chance: random.Random) -> None:
    put(place, chance.choice(ODD), data, chance)


def _everywhere(more: str, data: Any, chance: random.Random) -> Any:
    """Every text of a document with something before it; what keys mean stays."""
    if isinstance(data, dict):
        return {name: _everywhere(more, value, chance) for name, value in data.items()}
    if isinstance(data, list):
        return [_everywhere(more, value, chance) for value in data]
    return more + data if isinstance(data, str) else data


def _escapes(data: Any, chance: random.Random) -> Any:
    return _everywhere("\x1b]0;evil\x07\x1b[2J", data, chance)


def meant() -> Iterator[Mutation]:
    """What run.json may name: code, paths outside, sizes."""

    def run_json(
        name: str, *changes: tuple[str, Any], refused: Sequence[str] = (), base: str = "plain"
    ) -> Mutation:
        def change(data: Any, chance: random.Random) -> None:
            for place, value in changes:
                put(place, value, data, chance)

        return Mutation(name, "run.json", partial(edited, "run.json", change), base, refused)

    gym = {
        "kind": "gym",
        "kwargs": None,
        "wrappers": [],
        "allow_import": True,
        "max_steps": None,
        "reward": {"scale": 1.0, "shift": 0.0, "shaping": None},
    }
    for env_id in (
        "planted:X-v0",
        "planted:CartPole-v1",
        "planted.deep:X-v0",
        ":planted",
        "planted:",
        "../planted:X-v0",
        "os:X-v0",
    ):
        yield run_json(f"an id that imports, {env_id}", ("config.env", gym | {"id": env_id}), refused=TRAIN)
    for wrapper in (
        "planted:Wrapper",
        {"planted:Wrapper": {}},
        {"planted.Wrapper": {}},
        {"TransformObservation": {"func": "planted"}},
        {"_target_": "planted.x"},
    ):
        yield run_json(
            "a wrapper that imports",
            ("config.env", gym | {"id": "CartPole-v1", "wrappers": [wrapper]}),
            refused=TRAIN,
        )
    for kwargs in (
        {"_target_": "planted.run"},
        {"render_mode": "planted:x"},
        {"a": {"_target_": "os.system", "_args_": ["touch RAN"]}},
    ):
        yield run_json(
            "arguments that call",
            ("config.env", gym | {"id": "CartPole-v1", "kwargs": kwargs}),
            refused=TRAIN,
        )
    for modules in (
        ["planted"],
        ["planted", "os"],
        ["../planted"],
        ["planted.x"],
        "planted",
        [["planted"]],
        ["__main__"],
    ):
        yield run_json(
            "imports", ("config.imports", modules), refused=("evaluate", "play", "record", "resume", "load")
        )
    for group in ("algo", "env", "model", "eval", "data"):
        for kind in (
            "planted",
            "planted:X",
            "planted.X",
            "../planted",
            "/etc/passwd",
            "\x1b[31m",
            "x" * 100_000,
            "os.system",
        ):
            yield run_json(
                f"kind of {group}", (f"config.{group}.kind", kind), refused=() if group == "data" else TRAIN
            )
        yield run_json(f"_target_ in {group}", (f"config.{group}._target_", "planted.run"), refused=WEIGHTS)
        yield run_json(f"a choice of {group}", (f"config.choices.{group}", "../../../outside/file"))
        yield run_json(f"a choice of {group} with escapes", (f"config.choices.{group}", "\x1b[31mx"))
    yield run_json("a listener", ("config.listener", {"planted": {"kind": "planted"}}), refused=("resume",))
    yield run_json(
        "a listener outside", ("config.listener", {"../../x": {"kind": "planted.x"}}), refused=("resume",)
    )
    for path in ("../outside/file", "/dev/zero", "/dev/stdin", "/proc/self/mem", "."):
        yield run_json(f"data from {path}", ("config.data", {"kind": "file", "path": path, "episodes": None}))
        yield run_json(f"start from {path}", ("config.init_from", path))
        yield run_json(f"out is {path}", ("config.out", path))
        yield run_json(f"a series of {path}", ("config.env.path", path), base="walk")
    for name, make in {"a pipe": os.mkfifo, "a bomb": _bomb, "a wide header": _wide}.items():
        yield Mutation(f"a series of {name}", "run.json", partial(_series, name, make), "walk")
    sizes: list[tuple[str, Any]] = [
        ("obs.shape", [10**9]), ("obs.shape", [10**5, 10**5]), ("obs.shape", [10**30]), ("obs.shape", [-1]), ("obs.low", [0.0] * 2_000_000), ("obs.dtype", "O"), ("obs.dtype", "U99999999"), ("obs.dtype", "float128"),
        ("action.n", 10**12), ("action.n", 10**30), ("action.n", -1), ("action", {"kind": "multi_discrete", "nvec": [10**9] * 10**5}), ("config.model.hidden", [10**6, 10**6]), ("config.model.hidden", [4096] * 5000),
        ("config.num_envs", 10**9), ("config.replicas", 10**9), ("config.replicas", 7), ("config.eval.episodes", 10**12), ("config.eval.during", 10**12), ("config.algo.buffer_size", 10**12), ("config.algo.batch_size", 10**12),
        ("config.algo.n_step", 10**12), ("config.threads", 10**6), ("config.device", "cuda:99"), ("config.dtype", "float64"), ("config.env.max_steps", 0), ("replicas", [{"replica": i, "seed": i, "fold": None, "variant": 0} for i in range(200_000)]),
        ("replicas", []), ("replicas", [{"replica": -1, "seed": -1, "fold": "x"}]), ("replicas", [{"replica": 0, "seed": 10**40, "fold": None}]), ("schema", 2), ("schema", 10**9), ("schema", -1), ("schema", True), ("schema", 1.0), ("config.seed", 2**63),
    ]  # fmt: skip
    for place, value in sizes:
        yield run_json(f"{place} is {str(value)[:20]}", (place, value))


def _series(name: str, make: Callable[[Path], Any], run: Path, outside: Path, chance: random.Random) -> None:
    make(path := outside / ("table.csv.gz" if name == "a bomb" else "table.csv"))
    edited("run.json", partial(put, "config.env.path", str(path)), run, outside, chance)


def _bomb(path: Path) -> None:
    """4 GB in 4 MB."""
    head, rows = gzip.compress(b"time,close\n"), gzip.compress(b"2024-01-01,1.0\n" * 700_000)
    path.write_bytes(head + rows * 400)


def _wide(path: Path) -> None:
    path.write_text(",".join(["time", *(f"c{i}" for i in range(200_000))]) + "\n")


# What a checkpoint may hold


def tensors(
    change: Callable[[dict[str, np.ndarray]], Any], run: Path, outside: Path, chance: random.Random
) -> None:
    """The tensors of every checkpoint, changed, with manifests that fit."""
    from safetensors.numpy import load_file, save_file

    for path in checkpoints(run, "tensors.safetensors"):
        leaves = load_file(path)
        change(leaves)
        save_file(leaves, path)
        sealed(path.parent)


def header(text: bytes, length: int | None, run: Path, outside: Path, chance: random.Random) -> None:
    """A safetensors file that begins as it likes, in every checkpoint."""
    for path in checkpoints(run, "tensors.safetensors"):
        path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + bytes(64))
        sealed(path.parent)


def weights(leaves: dict[str, np.ndarray]) -> list[str]:
    return [name for name in sorted(leaves) if name.startswith("algo/") and leaves[name].dtype == np.float32]


def tampered() -> Iterator[Mutation]:
    """Tensors that are not those of the network, and manifests that mean harm."""

    def leaf(name: str, change: Callable[[np.ndarray], np.ndarray]) -> tuple[str, Callable[..., Any]]:
        def each(leaves: dict[str, np.ndarray]) -> None:
            for one in weights(leaves):
                leaves[one] = np.ascontiguousarray(change(leaves[one]))

        return name, each

    wrong = [
        leaf("float64", lambda a: a.astype(np.float64)), leaf("int64", lambda a: a.astype(np.int64)), leaf("float16", lambda a: a.astype(np.float16)), leaf("bool", lambda a: a > 0),
        leaf("flat", lambda a: a.reshape(-1)), leaf("one axis more", lambda a: a[None]), leaf("a replica less", lambda a: a[:1]), leaf("a replica more", lambda a: np.concatenate([a, a[:1]])),
        leaf("empty", lambda a: a[:0]), leaf("longer", lambda a: np.concatenate([a, a], -1)), leaf("a number", lambda a: np.zeros((), np.float32)),
        ("no weights", lambda leaves: [leaves.pop(name) for name in weights(leaves)]), ("one weight less", lambda leaves: leaves.pop(weights(leaves)[0])), ("nothing", lambda leaves: leaves.clear()),
    ]  # fmt: skip
    for name, change in wrong:
        yield Mutation(f"weights: {name}", "ckpt", partial(tensors, change), refused=WEIGHTS)
    odd: dict[str, Callable[..., Any]] = {
        "NaN": leaf("", lambda a: a * np.float32("nan"))[1], "infinite": leaf("", lambda a: a + np.float32("inf"))[1], "another tensor": lambda leaves: leaves.update({"algo/more": np.zeros(3, np.float32)}),
        "a thousand more": lambda leaves: leaves.update({f"x{i}/../..": np.zeros(1, np.float32) for i in range(1000)}), "../x": lambda leaves: leaves.update({"../../outside/new": np.zeros(1, np.float32)}),
        "an escape": lambda leaves: leaves.update({"algo/\x1b[31m": np.zeros(1, np.float32)}), "no session": lambda leaves: [leaves.pop(n) for n in list(leaves) if n.startswith("session/")],
        "no collector": lambda leaves: [leaves.pop(n) for n in list(leaves) if n.startswith("collector/")], "negative steps": lambda leaves: leaves.update({"session/step": np.array([-5, -5])}),
        "steps beyond": lambda leaves: leaves.update({"session/step": np.array([2**62, 2**62])}), "steps of one replica": lambda leaves: leaves.update({"session/step": np.array([5])}),
        "steps in floats": lambda leaves: leaves.update({"session/step": np.array([5.5, np.nan])}), "an old episode": lambda leaves: leaves.update({n: a + 2**40 for n, a in leaves.items() if n.endswith("/steps")}),
    }  # fmt: skip
    for name, change in odd.items():
        yield Mutation(f"tensors: {name}", "ckpt", partial(tensors, change))
    shape = {"algo/x": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}
    heads = [(b"{}", 1 << 62), (b"{}", 0), (b"{" * 60, None), (b"[" * 100_000, None), (json.dumps(shape).encode(), None), (b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}', None),
             (b'{"a":{"dtype":"X9","shape":[1],"data_offsets":[0,4]}}', None), (b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', None),
             (b"\xff\xfe", None), (b'{"__metadata__":{"x":"\\u001b[31m"}}', None)]  # fmt: skip
    for number, (text, length) in enumerate(heads):
        yield Mutation(f"header {number}", "ckpt", partial(header, text, length), refused=WEIGHTS)
    for name in (
        "../../../outside/file",
        "/etc/passwd",
        "..",
        ".",
        "",
        "a/b",
        "x\x1b[31m",
        "x" * 5000,
        "tensors.safetensors\0",
        "~/x",
    ):
        yield Mutation(
            f"a manifest names {name[:30]!r}",
            "ckpt",
            partial(edited_manifest, name, [10, "0" * 64]),
            refused=WEIGHTS,
        )
    for value in (
        [40 << 30, "0" * 64],
        [-1, "0" * 64],
        [2**70, "x"],
        ["10", 10],
        [],
        None,
        "x",
        [1.5, "x"],
        [True, "0" * 64],
        [10, "0" * 64, 1],
        {"size": 1},
    ):
        yield Mutation(
            f"a manifest says {str(value)[:20]}",
            "ckpt",
            partial(edited_manifest, "tensors.safetensors", value),
            refused=WEIGHTS,
        )
    yield Mutation("a manifest's 40 GB are there", "ckpt", _vast_tensors, refused=WEIGHTS)
    yield Mutation("a manifest of 100,000 files", "ckpt", partial(edited, "ckpt/manifest.json", lambda data, chance: data.update({f"f{i}": [1, "0"] for i in range(10_000)})))  # fmt: skip
    for name in ("00000000", "99999999", "9" * 30, "00000001\n", "\u0661" * 8):
        yield Mutation(
            f"a checkpoint called {name[:12]!r}",
            "ckpt",
            partial(_another, name),
            unharmed=("evaluate", "record", "load"),
        )


def edited_manifest(name: str, value: Any, run: Path, outside: Path, chance: random.Random) -> None:
    for path in checkpoints(run, "manifest.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))


def _vast_tensors(run: Path, outside: Path, chance: random.Random) -> None:
    for path in checkpoints(run, "tensors.safetensors"):
        vast(path, outside, chance)
    edited_manifest("tensors.safetensors", [40 << 30, "0" * 64], run, outside, chance)


def _another(name: str, run: Path, outside: Path, chance: random.Random) -> None:
    (run / "ckpt" / name).mkdir()
    (run / "ckpt" / name / "manifest.json").write_text("{")


# Lines, rows and names


def texts() -> Iterator[Mutation]:
    """Damage to metrics.jsonl, the scored steps and YAML; names of the folder itself."""
    lines = ('{"step": 1', "[]", "null", '{"step": "x", "replica": 0, "a": 1}', '{"step": 5, "replica": 99, "a": 1}', '{"step": 5, "replica": 0, "\x1b[31m": 1}', '{"step": 5, "replica": 0, "train/return": "x"}',
             '{"step": 1e400, "replica": 0, "train/return": 1}', '{"step": 5, "replica": 0, "train/return": NaN}', '{"step": 5, "replica": 0, "a|b": 1}', "\x00" * 100, "[" * 100_000, "9" * 10_000, '{"replica": 0}', '"\\ud800"')  # fmt: skip
    for line in lines:
        yield Mutation(
            f"metrics.jsonl begins with {line[:30]!r}", "metrics.jsonl", partial(_first_line, line)
        )
        yield Mutation(f"metrics.jsonl ends with {line[:30]!r}", "metrics.jsonl", partial(_last_line, line))
    tables = {"a bomb": lambda path: _bomb(path), "no gzip": lambda path: path.write_text("a,b\n1,2\n"), "no rows": lambda path: path.write_bytes(gzip.compress(b"")), "other columns": lambda path: path.write_bytes(gzip.compress(b"x,y\n1,2\n")),
              "words": lambda path: path.write_bytes(gzip.compress(_scored(path).replace(b"1", b"x"))), "short rows": lambda path: path.write_bytes(gzip.compress(_scored(path)[:-30])), "not UTF-8": lambda path: path.write_bytes(gzip.compress(b"\xff\xfe,b\n")),
              "NaN": lambda path: path.write_bytes(gzip.compress(_scored(path).replace(b"0.", b"nan"))), "escapes": lambda path: path.write_bytes(gzip.compress(_scored(path).replace(b",", b"\x1b[31m,", 5))), "a wide header": lambda path: path.write_bytes(gzip.compress(b"c," * 200_000))}  # fmt: skip
    for name, make in tables.items():
        yield Mutation(f"scored steps: {name}", "test_steps.csv.gz", partial(_table, make), "walk")
    for text in (
        "!!python/object/apply:os.system [touch RAN]\n",
        "a: &a [*a]\n",
        "\x00",
        "algo: {_target_: planted.run}\n",
        "- imports=[planted]\n",
    ):
        for file in ("config.yaml", "overrides.yaml"):
            yield Mutation(f"{file} is {text[:20]!r}", file, partial(_text, file, text))
    for name in (
        "\x1b[31mred",
        "a\nb",
        " ",
        "-x",
        "--help",
        "a b",
        "\u202egpj",
        "\udcff",
        "*",
        "'",
        "x=1",
        "..x",
        "\x9b31m",
    ):
        yield Mutation(
            f"a folder called {name!r}", "", partial(_renamed, name), unharmed=("load", "report", "compare")
        )


def _first_line(line: str, run: Path, outside: Path, chance: random.Random) -> None:
    path = run / "metrics.jsonl"
    path.write_bytes(line.encode() + b"\n" + path.read_bytes())


def _last_line(line: str, run: Path, outside: Path, chance: random.Random) -> None:
    path = run / "metrics.jsonl"
    path.write_bytes(path.read_bytes() + line.encode())


def _text(file: str, text: str, run: Path, outside: Path, chance: random.Random) -> None:
    (run / file).write_text(text)


def _table(make: Callable[[Path], Any], run: Path, outside: Path, chance: random.Random) -> None:
    make(run / "test_steps.csv.gz")


def _scored(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.exists() else b""


def _renamed(name: str, run: Path, outside: Path, chance: random.Random) -> Path:
    return run.rename(run.parent / name)


def mutations() -> list[Mutation]:
    makers = (stand_ins(), contents(), meant(), tampered(), texts())
    return [mutation for maker in makers for mutation in maker]
