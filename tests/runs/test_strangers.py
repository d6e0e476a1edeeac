"""Run folders of strangers: none runs code, writes elsewhere, takes much, or ends in a traceback.

Each case changes a copy of a whole run, and says what the verbs that read it must make of it.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import resource
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file, save_file

import rlrun
from rlrun import cli
from rlrun.config import ConfigError
from rlrun.config.compose import compose
from rlrun.files import WriteError, inflate, read_json
from rlrun.runs.folder import RunFolder

FIXTURE = Path(__file__).parents[1] / "fixtures" / "run-0.1.0"  # dqn with an LSTM: 38 updates, two replicas
LAST = "ckpt/00000038"
Change = Callable[[Path, Path], None]  # of a run folder, and of a folder outside of it
BAD = "\x1b[31m\u202e\x9b2J\x07"  # escapes, and a turn of the direction of writing


class Case(NamedTuple):
    name: str
    change: Change
    verbs: str  # that are tried, in this order
    works: bool = False  # else each of them refuses
    base: str = "old"


BOMB = gzip.compress(bytes(64 << 20))
CASES: list[Case] = []


def case(name: str, verbs: str, change: Change, works: bool = False, base: str = "old") -> None:
    CASES.append(Case(name, change, verbs, works, base))


# How a folder is changed


def put(file: str, content: str | bytes) -> Change:
    def change(run: Path, outside: Path) -> None:
        (run / file).unlink(missing_ok=True)
        (run / file).parent.mkdir(exist_ok=True, parents=True)
        (run / file).write_bytes(content if isinstance(content, bytes) else content.encode())

    return change


def edited(file: str, *path: Any, to: Any) -> Change:
    """A JSON file with another value at a path; to=KeyError leaves it out."""

    def change(run: Path, outside: Path) -> None:
        data = json.loads((run / file).read_text())
        place = data
        for name in path[:-1]:
            place = place[name]
        if to is KeyError:
            del place[path[-1]]
        else:
            place[path[-1]] = to
        (run / file).write_text(json.dumps(data))

    return change


def config(*path: Any, to: Any) -> Change:
    return edited("run.json", "config", *path, to=to)


def both(*changes: Change) -> Change:
    def change(run: Path, outside: Path) -> None:
        for each in changes:
            each(run, outside)

    return change


def seal(run: Path) -> None:
    """Make the manifest of the last checkpoint true again."""
    folder = run / LAST
    names = ("tensors.safetensors", "replay.safetensors", "state.json")
    manifest = {n: [len(b := (folder / n).read_bytes()), hashlib.sha256(b).hexdigest()] for n in names}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def tensors(edit: Callable[[dict[str, torch.Tensor]], None], file: str = "tensors") -> Change:
    def change(run: Path, outside: Path) -> None:
        path = run / LAST / f"{file}.safetensors"
        leaves = load_file(path)
        edit(leaves)
        save_file({name: leaf.contiguous() for name, leaf in leaves.items()}, path)
        seal(run)
        shutil.rmtree(run / "ckpt/00000025", ignore_errors=True)

    return change


def state(*path: Any, to: Any) -> Change:
    def change(run: Path, outside: Path) -> None:
        edited(f"{LAST}/state.json", *path, to=to)(run, outside)
        seal(run)
        shutil.rmtree(run / "ckpt/00000025", ignore_errors=True)

    return change


def link(name: str, to: str = "victim") -> Change:
    def change(run: Path, outside: Path) -> None:
        path = run / name
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
        path.parent.mkdir(exist_ok=True)
        path.symlink_to(outside / to)

    return change


def hard_link(name: str) -> Change:
    def change(run: Path, outside: Path) -> None:
        (run / name).unlink(missing_ok=True)
        os.link(outside / "victim", run / name)

    return change


def pipe(name: str) -> Change:
    def change(run: Path, outside: Path) -> None:
        (run / name).unlink(missing_ok=True)
        os.mkfifo(run / name)

    return change


def a_socket(name: str) -> Change:
    def change(run: Path, outside: Path) -> None:
        (run / name).unlink(missing_ok=True)
        here = os.getcwd()
        os.chdir(run)  # the name of a socket is short
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(name)
        os.chdir(here)

    return change


def folder(name: str) -> Change:
    def change(run: Path, outside: Path) -> None:
        (run / name).unlink(missing_ok=True)
        (run / name / "inside").mkdir(parents=True)

    return change


def holes(name: str, size: int) -> Change:
    """A file of zeros that takes no room."""

    def change(run: Path, outside: Path) -> None:
        with (run / name).open("wb") as file:
            file.truncate(size)

    return change


def gone(*names: str) -> Change:
    def change(run: Path, outside: Path) -> None:
        for name in names:
            path = run / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    return change


unfinished = gone("summary.json")
EVERY = "load evaluate record play report compare resume"
LOADS = "load evaluate record"

# Links: nothing outside is written, read or deleted

for name in (
    "status.json",
    ".status.json.tmp",
    "report.md",
    ".summary.json.tmp",
):
    case(f"link {name}", "resume", both(unfinished, link(name)), works=True)
case("links to pictures", "report", both(link("curve.png"), link(".curve.png.tmp")), works=True)
for name in ("metrics.jsonl", "lock", "ckpt"):
    case(f"link {name}", "resume", both(unfinished, link(name, "victim" if name != "ckpt" else "theirs")))
case("link tb", "resume", both(unfinished, config("log", "tensorboard", to=True), link("tb", "theirs")))
case(
    "link tb/seed",
    "resume",
    both(unfinished, config("log", "tensorboard", to=True), link("tb/seed=1", "theirs")),
)
case("link play.gif", "play", link("play.gif"))
case("link .play.gif.tmp", "play", link(".play.gif.tmp"), works=True)
case("link episodes", "record", link("episodes", "theirs"))
case("link episodes/dataset.json", "record", link("episodes/dataset.json"))
case("link ckpt, read", LOADS, link("ckpt", "theirs"))
case("link ckpt/.tmp", "resume", both(unfinished, link(f"ckpt/.tmp-{os.getpid()}", "theirs")), works=True)
case("link run.json", "load report compare", link("run.json", "copy.json"))
case("link summary.json", "report compare", link("summary.json", "copy.json"))
case("link tensors", "load", both(gone("ckpt/00000025"), link(f"{LAST}/tensors.safetensors")))
case("link a checkpoint", "load", both(gone("ckpt/00000025"), link(LAST, "theirs")))
case("a second name for metrics.jsonl", "resume", both(unfinished, hard_link("metrics.jsonl")))
case("a second name for status.json", "resume", both(unfinished, hard_link("status.json")), works=True)
case("a second name for curve.png", "report", hard_link("curve.png"), works=True)

# What is no file

for make in (pipe, a_socket, folder):
    for name in ("run.json", "summary.json", "metrics.jsonl"):
        case(f"{make.__name__} {name}", "report", make(name))
    case(f"{make.__name__} metrics.jsonl", "resume", both(unfinished, make("metrics.jsonl")))
    case(f"{make.__name__} lock", "resume", both(unfinished, make("lock")))
    case(f"{make.__name__} status.json", "load compare resume", make("status.json"), works=True)
    case(f"{make.__name__} tensors", "load", both(gone("ckpt/00000025"), make(f"{LAST}/tensors.safetensors")))
    case(f"{make.__name__} manifest", "load", make(f"{LAST}/manifest.json"), works=True)


def here(name: str) -> Change:
    """The env reads a file in the run folder."""
    return lambda run, outside: config("env", "path", to=str(run / name))(run, outside)


for make in (pipe, a_socket, folder):
    case(f"{make.__name__} as a table", "resume", both(unfinished, make("t.csv"), here("t.csv")), base="walk")
case("a device as a table", "resume", both(unfinished, config("env", "path", to="/dev/zero")), base="walk")
case("a table of 200,000 columns", "resume", both(
    unfinished, put("t.csv", ",".join(f"c{i}" for i in range(200_000))), here("t.csv")
), base="walk")  # fmt: skip
case("a table that swells", "resume", both(
    unfinished, lambda run, outside: put("t.csv.gz", BOMB)(run, outside), here("t.csv.gz")
), base="walk")  # fmt: skip
case("status.json is a folder, unfinished", "resume", both(unfinished, folder("status.json")), works=True)
case("nothing but a folder", "load report compare", gone("run.json"))
case("no status", EVERY, gone("status.json"), works=True)
case("no checkpoint", LOADS, gone("ckpt"))
case("no metrics", "report", gone("metrics.jsonl"))

# Sizes that nobody must believe

case(
    "a manifest of 40 GB",
    "load",
    edited(f"{LAST}/manifest.json", "tensors.safetensors", 0, to=40 << 30),
    works=True,
)
case("a checkpoint of 40 GB of holes", "load", both(
    holes(f"{LAST}/tensors.safetensors", 40 << 30),
    edited(f"{LAST}/manifest.json", "tensors.safetensors", 0, to=40 << 30), gone("ckpt/00000025"),
))  # fmt: skip
case("a checkpoint of 4 GB of holes", "load", both(
    holes(f"{LAST}/tensors.safetensors", 4 << 30),
    edited(f"{LAST}/manifest.json", "tensors.safetensors", 0, to=4 << 30), gone("ckpt/00000025"),
))  # fmt: skip
for name in ("run.json", "summary.json", "metrics.jsonl"):
    case(f"{name} of 40 GB of holes", "report", holes(name, 40 << 30))
case("status.json of 40 GB of holes", "report", holes("status.json", 40 << 30), works=True)
case("metrics.jsonl of one long line", "report", put("metrics.jsonl", b'{"eval/return": [' + b"1," * 500_000))
case("an observation of 1e9", LOADS[:4], edited("run.json", "obs", "shape", to=[10**9]))
case("a discrete observation of 1e9", "load", edited("run.json", "obs", to={"kind": "discrete", "n": 10**9}))
case("a million actions", "load", edited("run.json", "action", to={"kind": "discrete", "n": 10**6}))
case("a shape of less than nothing", "load", edited("run.json", "obs", "shape", to=[-2, -1]))
case("a billion replicas", EVERY.replace("compare ", ""), config("replicas", to=10**9))
case("no replicas", "load evaluate", edited("run.json", "replicas", to=[]))
case("replicas twice", "load evaluate", edited("run.json", "replicas", 1, "replica", to=0))
case("other seeds", "load evaluate", edited("run.json", "replicas", 1, "seed", to=77))
case("a hidden size of 1e9", LOADS + " play", config("model", "hidden_size", to=10**9))
case("a hidden size of 3000", LOADS + " resume", both(unfinished, config("model", "hidden_size", to=3000)))
case("a head of 1e5 x 1e5", LOADS, config("model", "head", to=[10**5, 10**5]))
case("20,000 layers", "load", config("model", "head", to=[8] * 20_000))
case("a billion layers", "load", config("model", "layers", to=10**9))
case("a billion rewards in a target", "load", config("algo", "n_step", to=10**9), base="table")
case("an endless evaluation", "evaluate", config("eval", "episodes", to=10**9))
case("a table of states x actions", "load", both(
    edited("run.json", "obs", "n", to=30_000), edited("run.json", "action", "n", to=30_000),
), base="table")  # fmt: skip
case("a bomb", "report", put("test_steps.csv.gz", BOMB), base="walk")
case("a bomb of rows", "report", put("test_steps.csv.gz", gzip.compress(b"1,1,1\n" * (6 << 20))), base="walk")

# JSON that is none, or of another shape

for name, text in {
    "deep": "[" * 100_000, "nothing": "", "not UTF-8": b"\xff\xfe\xfd", "a list": "[]", "null": "null",
    "a number of 5000 digits": "9" * 5000, "cut off": '{"schema": 1, ', 
    "brackets": "[" + "[]," * (2 << 20) + "0]",
}.items():  # fmt: skip
    case(f"run.json: {name}", "load report compare", put("run.json", text))
    case(f"summary.json: {name}", "report compare", put("summary.json", text))
    case(f"status.json: {name}", "compare resume", put("status.json", text), works=True)
    case(f"manifest: {name}", "load", put(f"{LAST}/manifest.json", text), works=True)
    case(f"report.json: {name}", "evaluate", put("report.json", text), base="walk")
    case(f"folds.json: {name}", "report", put("folds.json", text), base="walk")
    case(f"test_steps: {name}", "report", put("test_steps.csv.gz", text), base="walk")
for key in ("schema", "config", "obs", "action", "replicas", "data_sha256"):
    case(f"run.json lacks {key}", "load compare", edited("run.json", key, to=KeyError))
    case(
        f"run.json has a text for {key}",
        "report",
        edited("run.json", key, to="text" if key != "data_sha256" else 3),
    )
for key in ("env", "eval", "data", "log", "choices", "total_steps"):
    case(f"the config lacks {key}", "load compare", config(key, to=KeyError))
    case(f"the config has a list for {key}", "compare", config(key, to=[1]))
for key in ("replicas", "aggregate", "wall_seconds", "env_steps"):
    case(f"summary.json lacks {key}", "report compare", edited("summary.json", key, to=KeyError))
    case(f"summary.json has a text for {key}", "report", edited("summary.json", key, to="text"))
for key in ("eval_return", "seed", "fold", "replica", "steps"):
    case(f"a row lacks {key}", "report", edited("summary.json", "replicas", 0, key, to=KeyError))
    case(f"a row has a list for {key}", "report", edited("summary.json", "replicas", 0, key, to=[]))
for key, value in (
    ("median", "x"),
    ("interval", 3),
    ("interval", [1]),
    ("interval", ["a", "b"]),
    ("mean", KeyError),
):
    case(f"aggregate {key} {value}", "report", both(
        edited("summary.json", "aggregate", "interval_kind", to="t"),
        edited("summary.json", "aggregate", key, to=value),
    ))  # fmt: skip
for value in (10**400, True, {}, [1]):
    case(f"steps are {str(value)[:9]}", "report", edited("summary.json", "replicas", 0, "steps", to=value))
for key in ("folds", "unused", "lookback", "scheme"):
    case(f"folds.json lacks {key}", "report", edited("folds.json", key, to=KeyError), base="walk")
for key in ("fit", "dates", "test", "fold"):
    case(f"a fold lacks {key}", "report", edited("folds.json", "folds", 0, key, to=KeyError), base="walk")
case(
    "a fold's dates are none",
    "report",
    edited("folds.json", "folds", 0, "dates", "fit", to=["x", "y"]),
    base="walk",
)
for key in ("folds", "conclusion", "total"):
    case(f"report.json has a number for {key}", "evaluate", edited("report.json", key, to=3), base="walk")
case("a baseline is missing", "evaluate", edited("report.json", "folds", 0, "baselines", to={}), base="walk")
for text in (
    "a,b\n1,2\n",
    "replica,seed,fold,time,pnl,cost\n0,1,0,x,y,z\n",
    "replica,seed\n" + "9" * 5000 + ",1\n",
):
    case(
        f"test_steps {text[:9]!r}",
        "report",
        put("test_steps.csv.gz", gzip.compress(text.encode())),
        base="walk",
    )
for line in (
    '{"step": "x", "replica": 0, "eval/return": 1}', '{"eval/return": 1}', '{"eval/return"',
    '["eval/return"]', '{"step": 1, "replica": 99, "eval/return": 1}',
    '{"step": 1, "replica": 0, "eval/return": 1e999}',
    '{"step": 1, "step": 2, "replica": 0, "eval/return": 1}',
):  # fmt: skip
    case(f"a record {line[:40]}", "report", put("metrics.jsonl", line + "\n"))
case("NaN for a key", "load", put("run.json", '{"schema": NaN}'))
case("a key twice", "load compare", put("run.json", '{"schema": 1, "schema": 1}'))
case("a newer schema", "load report compare", edited("run.json", "schema", to=7))
case("infinite gamma", "load", config("algo", "gamma", to=float("inf")))
case("bounds that are no numbers", "load", edited("run.json", "obs", "low", to=["x", "y"]))
case("fewer bounds", "load", edited("run.json", "obs", "low", to=[0.0]))
case("a space of another kind", "load", edited("run.json", "obs", "kind", to="text"))
case("a dtype of Python", "load", edited("run.json", "obs", "dtype", to="object"))

# Tensors


def first(leaves: dict[str, torch.Tensor], like: str) -> str:
    return next(name for name in sorted(leaves) if like in name)


def leaf(like: str, change: Callable[[torch.Tensor], torch.Tensor], file: str = "tensors") -> Change:
    """The first tensor with such a name is changed."""
    return tensors(
        lambda leaves: leaves.update({first(leaves, like): change(leaves[first(leaves, like)])}), file
    )


def weight(change: Callable[[torch.Tensor], torch.Tensor], like: str = "algo/") -> Change:
    def edit(leaves: dict[str, torch.Tensor]) -> None:
        name = next(
            n for n in sorted(leaves) if like in n and leaves[n].is_floating_point() and "weight" in n
        )
        leaves[name] = change(leaves[name])

    return tensors(edit)


case("another type", LOADS + " resume", both(unfinished, weight(lambda w: w.double())))
case("half as precise", "load", weight(lambda w: w.half()))
case("integers", "load", weight(lambda w: w.long()))
case("another shape", LOADS + " resume", both(unfinished, weight(lambda w: w[..., :-1])))
case("one replica", LOADS, weight(lambda w: w[:1]))
case("no axis", "load evaluate", weight(lambda w: w.flatten()[0]))
case("NaN for a weight", LOADS, weight(lambda w: w.fill_(torch.nan)))
case("no tensors", LOADS + " resume", both(unfinished, tensors(lambda leaves: leaves.clear())))
for like in (
    "algo/",
    "session/step",
    "session/has_kept",
    "collector/obs",
    "collector/rng",
    "collector/env.seed",
):
    case(f"without {like}", "resume", both(unfinished, tensors(lambda x, like=like: x.pop(first(x, like)))))
    case(f"{like} of another type", "resume", both(unfinished, leaf(like, lambda x: x.to(torch.complex64))))
for like in ("session/step", "collector/episode", "collector/memory", "collector/env", "last/"):
    case(f"{like} of another shape", "resume", both(unfinished, leaf(like, lambda x: x[..., None])))
case(
    "a name that leads away",
    "resume",
    both(unfinished, tensors(lambda x: x.update({"algo/../../x": torch.ones(2)}))),
    works=True,
)


def replay(change: Callable[[torch.Tensor], torch.Tensor], like: str) -> Change:
    return both(unfinished, leaf(like, change, "replay"))


case("a cursor of 1e9", "resume", replay(lambda c: c * 0 + 10**9, "cursor"))
case("a cursor below 0", "resume", replay(lambda c: c * 0 - 5, "cursor"))
case("half a replay", "resume", replay(lambda r: r[:, :3], "replay.reward"))
case("actions that there are not", "resume replay", replay(lambda a: a + 10**6, "replay.action"))
case("observations of another type", "resume replay", replay(lambda o: o.double(), "replay.obs"))
case(
    "no replay",
    "resume replay",
    both(unfinished, tensors(lambda x: x.pop(first(x, "replay.reward")), "replay")),
)
for content in (b"", b"\0" * 200, b"\x08" + b"\0" * 7 + b"{}      ", (10**12).to_bytes(8, "little") + b"{}"):
    case(f"a header {content[:12]!r}", "load", both(
        gone("ckpt/00000025"), put(f"{LAST}/tensors.safetensors", content), lambda run, outside: seal(run)
    ))  # fmt: skip
for entry in ("../../victim", "/etc/hostname", "a\\b", "x" * 300, "..", "run.json"):
    case(
        f"a manifest that names {entry[:20]}",
        "load",
        edited(f"{LAST}/manifest.json", entry, to=[4, "00"]),
        works=True,
    )
for key, value in (
    ("updates", "x"), ("metrics_bytes", -5), ("metrics_bytes", 10**15), ("failures", []), ("begun", 3),
    ("failures", {"x": "why"}), ("wall_seconds", {}), ("updates", KeyError),
):  # fmt: skip
    case(f"state {key} {value}", "resume", both(unfinished, state(key, to=value)))

# Code

GYM = {"kind": "gym", "id": "stranger:X-v0", "kwargs": None, "wrappers": [], "allow_import": True}
GYM |= {"max_steps": None, "reward": {"scale": 1.0, "shift": 0.0, "shaping": None}}
PLANNED = {"kind": "value_iteration"} | {
    f: getattr(c, f) for c in [compose(["algo=value_iteration", "env=frozen_lake"]).algo] for f in vars(c)
}
case("a module to import", "evaluate record play report resume", config("imports", to=["stranger"]))
case("a module to import, not needed", "load compare", config("imports", to=["stranger"]), works=True)
case("an env of a module", "evaluate play record resume", both(unfinished, config("env", to=GYM)))
case("an env of a module, not needed", "load", config("env", to=GYM), works=True)
case("an env of a module whose table is needed", "load", both(
    config("env", to=GYM), config("algo", to=PLANNED)
), base="table")  # fmt: skip
case("a key that Hydra would call", "load", config("algo", "_target_", to="stranger.run"))
case("an unknown algorithm", "load evaluate", config("algo", "kind", to="stranger"))
case("an algorithm that leads away", "load", config("algo", "kind", to="../../stranger"))
case(
    "a listener of a module",
    "resume",
    both(unfinished, config("listener", to={"x": {"kind": "stranger.Csv"}})),
)

# What is printed

for key in ("algo", "env", "eval"):
    case(f"escapes in the name of the {key}", "report compare", config("choices", key, to=BAD), works=True)
case(
    "escapes in a reason",
    "report compare",
    edited("summary.json", "replicas", 0, "failed", to=BAD),
    works=True,
)
case("escapes in a note", "report", edited("summary.json", "notes", to=[BAD]), works=True)
case(
    "escapes in versions",
    "resume",
    both(unfinished, edited("run.json", "versions", "torch", to=BAD)),
    works=True,
)
case("escapes in a status", "compare", both(edited("status.json", "status", to=BAD)), works=True)
case("escapes in a kind", "load report", config("env", "kind", to=BAD))
case("escapes in a kind, compared", "compare", config("env", "kind", to=BAD), works=True)
case("escapes in a module", "evaluate", config("imports", to=[BAD]))
case("escapes in a tensor", "resume", both(unfinished, tensors(lambda x: x.update({BAD: torch.ones(1)}))))
case(
    "escapes in a conclusion",
    "evaluate",
    edited("report.json", "conclusion", to=BAD),
    works=True,
    base="walk",
)
case("escapes in report.md", "report", config("choices", "algo", to=BAD), works=True, base="walk")
escapes = edited("folds.json", "baselines", to=[BAD, "buy_and_hold"])
case("escapes in a column", "report", escapes, base="walk")


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("bases")
    small = ["log.tensorboard=false", f"out={out}", "checkpoint.every_seconds=1000"]
    walk = ["algo=dqn", "env=trading", "eval=walk_forward", "eval.n_folds=2", "eval.stats.n_boot=100"]
    walk += ["total_steps=120", "algo.learning_starts=100", "model.hidden=[4]"]
    table = ["algo=q_learning", "env=frozen_lake", "total_steps=50", "eval.episodes=2"]
    return {
        "old": FIXTURE,
        "walk": rlrun.run([*walk, *small, "log.plot=false"], quiet=True).folder,
        "table": rlrun.run([*table, *small, "log.plot=false"], quiet=True).folder,
    }


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """What belongs to somebody else; a module that must not be imported can be."""
    outside = tmp_path / "outside"
    shutil.copytree(FIXTURE / "ckpt", outside / "theirs")
    (outside / "victim").write_text("theirs")
    shutil.copy(FIXTURE / "run.json", outside / "copy.json")
    module = tmp_path / "modules" / "stranger.py"
    module.parent.mkdir()
    module.write_text(f"open({str(outside / 'it ran')!r}, 'w')")
    monkeypatch.syspath_prepend(str(module.parent))

    def seen() -> dict[str, bytes | None]:
        return {str(p): p.read_bytes() if p.is_file() else None for p in sorted(outside.rglob("*"))}

    before = seen()
    yield outside
    assert seen() == before
    assert "stranger" not in sys.modules


def tried(verb: str, run: Path) -> int:
    """The exit code of a verb, in this process; `load` and its refusal are those of Python."""
    if verb == "load":
        try:
            rlrun.load(run)
        except ConfigError as error:
            print(f"rlrun: {error}", file=sys.stderr)
            return 2
        return 0
    arguments = {"record": ["--episodes", "1"], "replay": ["--episodes", "1", "--mode", "replay"]}
    return cli.main(["record" if verb == "replay" else verb, str(run), *arguments.get(verb, [])])


def test_there_are_many() -> None:
    assert len(CASES) >= 150
    assert all(set(each.verbs.split()) <= {*EVERY.split(), "replay"} for each in CASES)


@pytest.mark.parametrize("each", CASES, ids=lambda each: each.name.encode("ascii", "replace").decode())
def test_a_stranger(
    each: Case, bases: dict[str, Path], outside: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(bases[each.base], run)
    each.change(run, outside)
    for verb in each.verbs.split():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.process_time()
        code = tried(verb, run)
        out, err = capsys.readouterr()
        assert code == (0 if each.works else 2), (verb, code, out, err)
        assert time.process_time() - began < 2.0, verb
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500 << 10, verb
        assert "Traceback" not in err and all(c.isprintable() or c == "\n" for c in out + err), (out, err)
        if code == 2:
            refusal = err[err.rindex("rlrun: ") :]
            assert len(refusal.splitlines()) <= 3, refusal


def test_a_name_with_escapes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / f"{BAD}\n{BAD}"
    shutil.copytree(FIXTURE, run)
    for verb, code in (("compare", 0), ("record", 0), ("resume", 0), ("record", 2)):
        assert tried(verb, run) == code
        out, err = capsys.readouterr()
        assert all(c.isprintable() or c == "\n" for c in out + err)


def test_folders_in_folders_are_not_looked_for_endlessly(tmp_path: Path) -> None:
    """Neither through a link that leads back, nor deeper than runs lie."""
    deep = tmp_path / "/".join(["d"] * 40)
    for place in (tmp_path / "runs" / "one", deep):
        shutil.copytree(FIXTURE, place)
    (tmp_path / "runs" / "again").symlink_to(tmp_path / "runs")
    assert [run.path.name for run in RunFolder.under(tmp_path)] == ["one"]
    assert RunFolder.under(deep.parent) != []


def test_a_folder_whose_run_json_leads_nowhere_is_no_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.json").symlink_to(tmp_path / "gone")
    for verb in ("evaluate", "resume", "report"):
        assert cli.main([verb, str(tmp_path)]) == 2
        assert "is not a run folder" in capsys.readouterr().err


def test_no_folder_is_made_through_what_is_none(tmp_path: Path) -> None:
    (tmp_path / "tb").mkdir()
    for name, make in {"link": lambda path: path.symlink_to(tmp_path), "file": Path.touch}.items():
        make(tmp_path / "tb" / name)
        with pytest.raises(WriteError, match="a link, or no folder: delete it"):
            RunFolder(tmp_path).folder_for(tmp_path / "tb" / name / "seed=1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tb"]


def test_no_file_is_believed_to_be_as_large_as_it_says(tmp_path: Path) -> None:
    (tmp_path / "crowd.json").write_text("[" + "{}," * (1 << 17) + "{}]")
    with pytest.raises(ValueError, match="more than 131,072 lists and mappings"):
        read_json(tmp_path / "crowd.json", 1 << 24)
    rows = b"2024-01-01,1.0\n"
    assert inflate(gzip.compress(rows * 10_000), 1 << 30) == rows * 10_000  # what is short may be dense
    idle = b"".join(b"%d,100.0%s\n" % (i, b",0.0" * 20) for i in range(200_000))
    packed = gzip.compress(idle)
    assert len(idle) > max(30 * len(packed), 1 << 24)
    assert inflate(packed, 1 << 30) == idle  # columns in which nothing happens
    with pytest.raises(ValueError, match=r"holds more than 16,777,216 bytes"):
        inflate(gzip.compress(rows * 1_500_000), 1 << 30)
