"""Bad configs: exit code 2, at most four lines, nothing written, and the key at fault is named."""

from __future__ import annotations

import os
import random
import shlex
import statistics
import subprocess
import sys
import tempfile
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import Field, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

from faults.campaign import Case
from faults.process import Seen, changes, rlrun, tree

from rlrun.config import catalog
from rlrun.config.keys import hints
from rlrun.config.run import MainKeys

SECONDS = 20.0
GROUPS = ("algo", "env", "model", "eval", "data")
NEEDED = {"env=series": ["env.path=wti_daily"], "env=gym": ["env.id=CartPole-v1"], "eval=walk_forward": ["env=trading"]}
Files = Mapping[str, str | bytes]


def attempt(words: Sequence[str], files: Files, prepare: Callable[[Path], Any], says: str, folder: Path) -> str:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    prepare(folder)
    before = tree(folder)
    seen = rlrun(words, folder, SECONDS)
    return judged(seen, changes(before, tree(folder)), says)


def judged(seen: Seen, changed: str, says: str) -> str:
    found = seen.refusal_flaws + ([changed] if changed else [])
    if not found and says not in seen.err:
        found.append(f"does not say {says!r}: {seen.last_words}")
    return "; ".join(found)


def bad(
    name: str, *words: str, files: Files = {}, prepare: Callable[[Path], Any] = lambda folder: None, says: str = ""
) -> Case:
    """A case: a command, the files that lie in its folder, and a word that the refusal must contain."""
    command = "rlrun " + " ".join(shlex.quote(word if len(word) < 200 else word[:200] + "...") for word in words)
    return Case(f"{name}", command, partial(attempt, words, files, prepare, says))


def cases(seed: int) -> list[Case]:
    chance = random.Random(seed)
    makers = (values(chance), names(chance), choices(), sizes(), pairs(), yaml_files(), interpolations(), outs())
    return [case for maker in (*makers, sweeps(), flags(), characters(chance)) for case in maker]


# Values of a wrong type or out of bounds


def keys_of(schema: type, prefix: str = "") -> Iterator[tuple[str, Field[Any], Any]]:
    """Every key of a schema with its field and type; a section is a key, too."""
    for field in fields(schema):
        hint = hints(schema)[field.name]
        yield prefix + field.name, field, hint
        if is_dataclass(hint):
            yield from keys_of(typing.cast(type, hint), f"{prefix}{field.name}.")


def wrong_values(field: Field[Any], hint: Any) -> list[str]:
    """What a key's type and bounds do not allow, as words of an override."""
    bounds, kinds = field.metadata, set(typing.get_args(hint) or (hint,))
    if Any in (hint, *typing.get_args(hint)) or typing.get_origin(hint) is dict:
        return []
    if is_dataclass(hint):
        return ["5", "[1]", "text"]
    listed = typing.get_origin(hint) is list or any(typing.get_origin(kind) is list for kind in kinds)
    found = ["{a: 1}", "{a: {b: [1]}}", *([] if listed else ["[a]", "[]", "[[1]]"])]
    if listed:
        return found + ["5", "[[1]]", "[{a: 1}]", *([] if str in _elements(hint) else ["[text]", "[nan]"])]
    if type(None) not in kinds:
        found.append("null")
    if "choices" in bounds:
        return [*found, "nonesuch", "'a b'"]
    if kinds & {int, float} and str not in kinds:
        found += ["text", "true", "nan", "inf", "-inf", "1e400", "0x", "''", "1..2"]
        found += [] if float in kinds else ["1.5", "9223372036854775808", "1e-3"]
    if bool in kinds:
        found += ["maybe", "1.5", "''"]
    for bound, sign in (("min", -1), ("max", 1)):
        if bound in bounds:
            found.append(str(bounds[bound] + sign))
    found += [str(bounds[bound]) for bound in ("above", "below") if bound in bounds]
    return found


def _elements(hint: Any) -> set[Any]:
    return {arg for kind in (hint, *typing.get_args(hint)) for arg in typing.get_args(kind)}


def values(chance: random.Random) -> Iterator[Case]:
    """A wrong value for every key of every recipe, and every wrong value for the main keys."""
    for group in GROUPS:
        for recipe in catalog.recipes(group):
            entry = catalog.entry(group, recipe)
            assert entry is not None
            for key, field, hint in keys_of(entry.config):
                chosen = f"{group}={recipe}"
                for value in chance.sample(known := wrong_values(field, hint), min(len(known), 1)):
                    words = [chosen, *NEEDED.get(chosen, [])]
                    words = [word for word in words if not word.startswith(f"{group}.{key}=")]
                    yield bad("wrong value", *words, f"{group}.{key}={value}", says=key.rpartition(".")[2])
    for key, field, hint in keys_of(MainKeys):
        for value in wrong_values(field, hint):
            yield bad("wrong value of a main key", f"{key}={value}", says=key.rpartition(".")[2])
    for words in (
        ["device=gpu"], ["device=cuda:x"], ["device=cuda:99"], ["device=tpu"], ["out="], ["imports=[no_such_module]"],
        ["imports=['a b']"], ["imports=[os.]"], ["imports=[..x]"], ["init_from=nowhere"], ["init_from=''"],
        ["init_from=/dev/zero"], ["init_from=conf"], ["seed=-1"], ["total_steps=100k"], ["total_steps=1e6"],
        ["env.id=Nope-v0"], ["env=gym"], ["env=gym", "env.id=Nope-v0"], ["env=gym", "env.id=nope:X-v0"],
        ["env=gym", "env.id=no_such_module:X-v0", "env.allow_import=true"], ["env=gym", "env.id=''"],
        ["env=gym", "env.id=CartPole-v1", "env.kwargs={nope: 1}"],
        ["env=gym", "env.id=CartPole-v1", "env.kwargs={render_mode: human}"],
        ["env=gym", "env.id=CartPole-v1", "env.kwargs=5"], ["env=gym", "env.id=CartPole-v1", "env.wrappers=[Nope]"],
        ["env=gym", "env.id=CartPole-v1", "env.wrappers=[{Nope: {a: 1}}]"],
        ["env=gym", "env.id=CartPole-v1", "env.wrappers=[{ResizeObservation: {shape: x}}]"],
        ["env=gym", "env.id=CartPole-v1", "env.wrappers=[{TimeAwareObservation: {nope: 1}}]"],
        ["env=gym", "env.id=CartPole-v1", "env.wrappers=[[1]]"], ["env=gym", "env.id=CartPole-v9"],
        ["env=gym", "env.id=Blackjack-v1"], ["env=gym", "env.id=ALE/Nope-v5"], ["env=series"],
        ["env=series", "env.path=nowhere.csv", "eval=walk_forward"], ["env=series", "env.path=/dev/zero", "eval=walk_forward"],
        ["env=series", "env.path=.", "eval=walk_forward"], ["env=trading"], ["env=trading", "eval=walk_forward", "env.price=nope"],
        ["env=trading", "eval=walk_forward", "env.columns=[nope]"], ["env=trading", "eval=walk_forward", "eval.n_folds=100000"],
        ["env=trading", "eval=walk_forward", "eval.test_size=10000000"], ["env=trading", "eval=walk_forward", "eval.gap=soon"],
        ["env=trading", "eval=walk_forward", "env.lookback=100000"], ["eval=walk_forward"], ["data=file"],
        ["algo=bc", "data=file", "data.path=nowhere"], ["algo=bc", "data=minari", "data.id=nope"],
        ["algo=bc", "data=none"], ["algo=bc", "data=pendulum_replay"], ["listener=nope"], ["listener=[a,b]"],
        ["listener.csv=1"], ["experiment=nope"], ["tuned=nope"], ["algo=ppo", "algo.n_minibatches=100000"],
    ):  # fmt: skip
        yield bad("wrong value", *words)


# Names


def names(chance: random.Random) -> Iterator[Case]:
    """Keys that are not there, by a slip, by force, or by taking away one that is."""
    for group in GROUPS:
        for recipe in chance.sample(sorted(catalog.recipes(group)), min(6, len(catalog.recipes(group)))):
            entry = catalog.entry(group, recipe)
            assert entry is not None
            own = [field.name for field in fields(entry.config)] or ["path"]
            key, chosen = chance.choice(own), f"{group}={recipe}"
            slip = key[:1] + key[2:] + "x"
            yield bad("unknown key", chosen, f"{group}.{slip}=1", says=slip)
            yield bad("forced key", chosen, *NEEDED.get(chosen, []), f"+{group}.{slip}=1", says=slip)
            yield bad("forced key", chosen, *NEEDED.get(chosen, []), f"++{group}.{key}.{slip}.x=1")
            yield bad("deleted key", chosen, *NEEDED.get(chosen, []), f"~{group}.{own[0]}")
    for word in (
        "lr=1", "algo.lr=1", "steps=5", "gamma=0.9", "seeds=5", "+foo=1", "++foo.bar=1", "algo.gamma.x=1", "seed.x=1",
        "~seed", "~nope", "~algo", "~env", "+seed=1", "algo._target_=os.system", "+algo._target_=os.system",
        "+algo={_target_: os.system}", "+env.kwargs._target_=os.system", "+x={_target_: os.system, _args_: [ls]}",
        "env=gym env.id=CartPole-v1", "choices.algo=x", "+choices={}", "schema=1", "+schema/algo=dqn", "log=false",
        "checkpoint=1", "log.x=1", "+log.x=1", "checkpoint.every=1", "hydra.nope=1", "hydra/launcher=nope",
        "hydra/sweeper=nope", "hydra.mode=nope", "hydra.job.chdir=maybe", "algo/x=1", "algo@x=dqn", "+algo@x=dqn",
        "algo@env=dqn", "/algo=dqn", "algo/=dqn", "algo.=1", ".algo=1", "algo..gamma=1", "=1", "algo=", "==", "~", "+",
        "++", "~=1", "a b=1", "algo:gamma=1", "-algo=dqn", "algo=dqn=ppo", "0=1", "algo.0=1", "algo[0]=1", "algo.gamma[0]=1",
    ):  # fmt: skip
        yield bad("no such key", word)


def choices() -> Iterator[Case]:
    """Recipes that are not there, and what can be no recipe."""
    odd = ("nope", "Dqn", "dqn.yaml", "algo/dqn", "../algo/dqn", "../../etc/passwd", "/etc/passwd", "null", "[]", "{}",
           "1", "1.5", "true", "[dqn]", "{a: 1}", "''", "' '", "dqn ", "dqn,ppo", "x" * 300, "x" * 5000, ".", "..", "*",
           "${oc.env:HOME}", "${algo}", "$HOME", "~", "-", "file:///etc/passwd", "pkg://os", "schema/algo/dqn")  # fmt: skip
    for group in ("algo", "env", "model", "eval", "data"):
        for value in odd:
            if (group, value) != ("algo", "dqn "):
                yield bad(f"no such {group}", f"{group}={value}")
    for value in odd[:8]:
        yield bad("no such experiment", f"experiment={value}")
        yield bad("no such preset", f"tuned={value}")
        yield bad("no such listener", f"listener={value}" if value != "[]" else "listener=[[]]")


# What cannot fit, and what does not fit


def sizes() -> Iterator[Case]:
    """Numbers that no machine holds: refused with the numbers, before anything is made."""
    wide = "[" + ",".join(["4096"] * 2000) + "]"
    for words in (
        ["replicas=1000000000"], ["replicas=9223372036854775807"], ["num_envs=1000000000"], ["num_envs=10000000000000"],
        ["threads=1000000"], ["threads=9223372036854775807"], ["eval.episodes=100000000000"],
        ["eval.during=100000000000"], ["algo=dqn", "algo.buffer_size=1000000000000"],
        ["algo=dqn", "algo.buffer_size=9223372036854775807"], ["algo=dqn", "algo.batch_size=1000000000000"],
        ["algo=sac", "env=pendulum", "algo.buffer_size=1000000000000"], ["algo=td3", "algo.buffer_size=100000000000"],
        ["algo=lstm_dqn", "algo.buffer_size=100000000000"], ["algo=lstm_dqn", "algo.sequence_length=1000000000"],
        ["algo=prioritized_dqn", "algo.buffer_size=100000000000"], ["algo=dqn", "algo.n_step=1000000000000"],
        ["algo=dqn", "model.hidden=[40000,40000]"], ["algo=ppo", "model.hidden=[40000,40000]"],
        ["algo=dqn", f"model.hidden={wide}"], ["algo=dqn", "model.hidden=[9223372036854775807]"],
        ["algo=ppo", "replicas=100000", "model.hidden=[1024,1024]"], ["algo=lstm_dqn", "model.hidden_size=100000"],
        ["algo=lstm_ppo", "model.hidden_size=1000000"], ["algo=lstm_ppo", "model.layers=100000000"],
        ["algo=gru_dqn", "model.hidden_size=200000"], ["algo=ppo", "algo.rollout_steps=1000000000000"],
        ["algo=ppo", "algo.rollout_steps=10000000000", "num_envs=100000"], ["algo=a2c", "algo.rollout_steps=1000000000000"],
        ["algo=cem", "algo.n_candidates=1000000000000"], ["algo=cem", "algo.horizon=1000000000000"],
        ["algo=mppi", "algo.n_candidates=100000000000"], ["algo=cem_learned", "algo.ensemble.members=1000000000"],
        ["algo=cem_learned", "algo.ensemble.buffer_size=1000000000000"], ["algo=gail", "algo.demo_steps=1000000000000"],
        ["algo=ucb", "env=bandit", "env.arms=100000000000"], ["algo=bc", "algo.batch_size=1000000000000"],
        ["algo=cql", "algo.batch_size=1000000000000"], ["env=trading", "eval=walk_forward", "env.lookback=1000000000000"],
        ["env=trading", "eval=walk_forward", "eval.stats.n_boot=1000000000000"],
        ["env=trading", "eval=walk_forward", "eval.n_folds=1000000000000"], ["env=trading", "eval=walk_forward", "replicas=100000000"],
        ["algo=sarsa", "replicas=1000000000"], ["algo=sarsa", "num_envs=10000000000"], ["env=recall", "env.length=1000000000000"],
        ["env=gym", "env.id=CartPole-v1", "num_envs=10000000"], ["env=gym", "env.id=CartPole-v1", "replicas=10000000"],
        ["env=gym", "env.id=CartPole-v1", "env.wrappers=[{FrameStackObservation: {stack_size: 100000000000}}]"],
        ["algo=value_iteration", "replicas=1000000000"], ["algo=reinforce", "num_envs=100000000000"],
        ["algo=dyna_q", "replicas=100000000"], ["total_steps=99999999999999999999"], ["seed=99999999999999999999"],
    ):  # fmt: skip
        yield bad("cannot fit", *words)


def pairs() -> Iterator[Case]:
    """An algorithm and a task that do not fit, for every recipe."""
    continuous, tables, planners = ("pendulum", "point"), ("frozen_lake", "taxi"), ("bandit", "recall")
    foreign = {
        "td": ("cartpole", "pendulum"), "dyna_q": ("cartpole", "pendulum"), "dqn": continuous, "mpc": planners,
        "sac": ("cartpole", *tables), "td3": ("cartpole", *tables), "epsilon_greedy": continuous, "ucb": continuous,
        "softmax": continuous, "gradient_bandit": continuous, "thompson": continuous, "thompson_gaussian": continuous,
        "policy_iteration": ("cartpole", "pendulum"), "value_iteration": ("cartpole", "pendulum"), "cql": tables,
        "bc": tables, "gail": ("trading",), "ppo": ("trading",), "reinforce": ("trading",),
    }  # fmt: skip
    for recipe in catalog.recipes("algo"):
        entry = catalog.entry("algo", recipe)
        assert entry is not None
        for env in foreign.get(entry.kind, ("trading",)):
            yield bad("does not fit", f"algo={recipe}", f"env={env}")
    for recipe in ("sarsa", "value_iteration", "ucb", "cem"):
        yield bad("has no use for memory", f"algo={recipe}", "model=lstm")


# Files


def yaml_files() -> Iterator[Case]:
    """YAML of one's own that is broken, endless, hostile, or leads back to itself."""
    deep, bomb = "a: " + "[" * 300 + "]" * 300, _alias_bomb(9)
    texts: dict[str, str | bytes] = {
        "a tab": "a:\n\t- 1\n", "an open quote": "a: 'x\n", "an open list": "a: [1, 2\n", "no mapping": "- 1\n- 2\n",
        "a scalar": "hello\n", "a number": "5\n", "NUL": b"a: \x00\n", "not UTF-8": b"a: \xff\xfe\n", "UTF-16": "a: 1".encode("utf-16"),
        "a picture": bytes(range(256)) * 8, "two documents": "seed: 1\n---\nseed: 2\n", "a key twice": "seed: 1\nseed: 2\n",
        "a megabyte": "# " + "x" * (2 << 20) + "\nseed: 1\n", "deep lists": deep, "deeper lists": "a: " + "[" * 100_000,
        "deep maps": "".join(" " * i + "a:\n" for i in range(400)), "braces": "a: " + "{a: " * 5000,
        "an alias to itself": "a: &a [*a]\n", "a map in itself": "a: &a {b: *a}\n", "an alias bomb": bomb,
        "an unknown alias": "a: *nope\n", "merge of itself": "a: &a\n  <<: *a\n  b: 1\n", "a Python object": "a: !!python/object/apply:os.system [ls]\n",
        "an unknown tag": "a: !mine 1\n", "binary": "seed: !!binary aGVsbG8=\n", "a set": "a: !!set {x, y}\n", "a complex key": "? [1, 2]\n: 3\n",
        "a number for a key": "1: 2\n", "null for a key": "null: 2\n", "_target_": "algo:\n  _target_: os.system\n",
        "an unknown key": "sede: 1\n", "an unknown section": "algoo: {gamma: 1}\n", "an unknown key below": "algo:\n  gama: 0.9\n",
        "a wrong type": "seed: [1]\n", "text for a number": "algo:\n  gamma: high\n", "a date": "seed: 2024-01-01\n",
        "NaN": "algo:\n  gamma: .nan\n", "infinity": "algo:\n  learning_rate: .inf\n", "ASCII control": 'out: "a\\x1b[31mb\\x00"\n',
        "a choice that is no name": "defaults:\n  - override /algo: 5\n", "no such choice": "defaults:\n  - override /algo: nope\n",
        "defaults that are a map": "defaults:\n  algo: dqn\n", "defaults that are text": "defaults: dqn\n", "defaults that are a number": "defaults: 5\n",
        "defaults of a list": "defaults:\n  - [dqn]\n", "defaults of two keys": "defaults:\n  - {a: b, c: d}\n", "defaults outside": "defaults:\n  - ../../../etc/passwd\n",
        "defaults at the root": "defaults:\n  - /etc/passwd\n", "defaults of null": "defaults:\n  - null\n", "defaults from nowhere": "defaults:\n  - nope\n",
        "defaults from the environment": "defaults:\n  - override /algo: ${oc.env:HOME}\n", "defaults that are unknown": "defaults:\n  - override /algo: ${nope}\n",
        "a schema that is none": "defaults:\n  - /schema/algo/nope@algo\n", "_self_ twice": "defaults:\n  - _self_\n  - _self_\n",
        "itself": "defaults:\n  - mine\n", "one that lists it": "defaults:\n  - other\n", "a group that is none": "defaults:\n  - override /nope: x\n",
        "imports that are text": "imports: os\n", "imports of nothing": "imports: [no_such_module]\n", "imports of numbers": "imports: [5]\n",
        "imports that raise": "imports: [raising]\n", "imports that exit": "imports: [exiting]\n", "imports that are no Python": "imports: [broken]\n",
        "imports that import themselves deeply": "imports: [deep]\n", "total_steps of 0": "total_steps: 0\n", "hydra": "hydra:\n  nope: 1\n",
        "a list merged into a map": "algo: [1]\n", "a map merged into a number": "seed: {a: 1}\n", "null for a section": "algo: null\n",
        "null for a number": "seed: null\n", "a package": "# @package nope.there\na: 1\n", "a package of garbage": "# @package !!\na: 1\n",
    }  # fmt: skip
    modules = {
        "raising.py": "raise OSError('no \\x1b[31mcamera')\n", "exiting.py": "import sys\nsys.exit(0)\n", "broken.py": "def (:\n",
        "deep.py": "def f(): f()\nf()\n", "conf/experiment/other.yaml": "# @package _global_\ndefaults:\n  - mine\n",
    }  # fmt: skip
    for name, text in texts.items():
        head = b"" if name.startswith(("UTF-16", "a package")) else b"# @package _global_\n"
        content = head + (text.encode() if isinstance(text, str) else text)
        yield bad(f"YAML: {name}", "experiment=mine", files=modules | {"conf/experiment/mine.yaml": content})
    for group in ("algo", "env", "model", "eval", "data", "listener", "tuned"):
        for text in ("a: 1\n", "- 1\n", "a: [\n", "defaults:\n  - mine\n", "defaults:\n  - /schema/env/nope@_here_\n"):
            yield bad(f"a recipe for {group}", f"{group}=mine", files={f"conf/{group}/mine.yaml": text})
    there = "conf/experiment/mine.yaml"
    odd: dict[str, Callable[[Path], Any]] = {
        "is a folder": lambda path: path.mkdir(), "is a pipe": os.mkfifo, "leads nowhere": lambda path: path.symlink_to("nowhere"),
        "leads to itself": lambda path: path.symlink_to(path.name), "leads to a device": lambda path: path.symlink_to("/dev/zero"),
        "is of 40 GB": lambda path: _sparse(path, 40 << 30),
    }  # fmt: skip
    for name, make in odd.items():
        yield bad(f"YAML {name}", "experiment=mine", prepare=partial(_made, there, make))
    yield bad("no such folder", "--config-dir", "nowhere", "algo=dqn")
    yield bad("a file for a folder", "--config-dir", "x.yaml", "algo=dqn", files={"x.yaml": "a: 1\n"})


def _made(name: str, make: Callable[[Path], Any], folder: Path) -> None:
    path = folder / name
    path.parent.mkdir(parents=True)
    make(path)


def _sparse(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)


def _alias_bomb(depth: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, depth)]
    return "\n".join(lines) + "\n"


def interpolations() -> Iterator[Case]:
    """References to nothing, to themselves, to secrets, and to twice as much each time."""
    for value in (
        "${nope}", "${algo.nope}", "${algo.gamma}", "${algo.learning_rate}x", "${oc.env:HOME}", "${oc.env:NO_SUCH}", "${oc.env:NO_SUCH,0.9}",
        "${oc.decode:'['}", "${oc.create:{a: 1}}", "${oc.select:nope}", "${oc.dict.keys:algo}", "${oc.deprecated:seed}", "${hydra:nope}",
        "${hydra:job.name}", "${rlrun.unique:}", "${nope:1}", "${", "${}", "${${}", "${algo", "${..}", "${.gamma}", "${...x}", "${algo}",
        "${env}", "${" * 50, "${" * 50 + "x" + "}" * 50, "${oc.env:" * 20 + "HOME" + "}" * 20,
    ):  # fmt: skip
        yield bad("interpolation", f"algo.gamma={value}")
    yield bad("interpolation in a circle", "algo.gamma=${algo.learning_rate}", "algo.learning_rate=${algo.gamma}")
    for text in ('"{0}{0}"', "[{0}, {0}]", "{{x: {0}, y: {0}}}"):
        lines = ["# @package _global_", "defaults: [override /env: gym]", "env:", "  id: CartPole-v1", "  kwargs:", "    a0: xxxxxxxx"]
        lines += [f"    a{i}: " + text.format(f"${{env.kwargs.a{i - 1}}}") for i in range(1, 60)]
        yield bad("interpolation that doubles", "experiment=mine", files={"conf/experiment/mine.yaml": "\n".join(lines)})
    for key in ("seed", "out", "device", "imports", "env.max_steps", "log.every"):
        yield bad("interpolation", f"{key}=${{nope.nope}}")
        yield bad("environment", f"{key}=${{oc.env:NO_SUCH_VARIABLE}}")


def outs() -> Iterator[Case]:
    """Folders that cannot be made or written to."""
    small = ["algo=sarsa", "total_steps=200", "eval.episodes=1"]
    for out in ("/proc/x", "/proc/self/x", "/sys/x", "/dev/null", "/dev/null/x", "/dev/fd/x", "x" * 300, "a/" * 3000, "file", "file/x",
                "loop", "nowhere/../file/x", "pipe", "''", "null", "[a]", "{a: b}", "a\x00b"[:1] + "\\0", "\x1b[31m/dev/null/x"):  # fmt: skip
        if out != "a\\0":
            yield bad("out", *small, f"out={out}", prepare=_obstacles)
    yield bad("out with NUL", "experiment=mine", files={"conf/experiment/mine.yaml": '# @package _global_\nout: "a\\0b"\n'})
    yield bad("a file for the folder", *small, files={"outputs": ""})
    yield bad("a file below out", *small, files={"outputs/sarsa-cliff_walking": ""})
    yield bad("out of a sweep", "-m", *small, "seed=1,2", "out=/proc/x")
    yield bad("folder of a sweep", "-m", *small, "seed=1,2", "hydra.sweep.dir=/proc/x")


def _obstacles(folder: Path) -> None:
    (folder / "file").touch()
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe")


def sweeps() -> Iterator[Case]:
    """Sweeps of which some job is bad, or far too many: refused before the first."""
    small = ["total_steps=200", "eval.episodes=1"]
    for words in (
        ["algo=dqn,nope"], ["algo=dqn,sac", "env=cartpole"], ["algo=sarsa,dqn", "env=cliff_walking,cartpole"], ["env=cartpole,pendulum", "algo=dqn"],
        ["eval=episodes,walk_forward", "env=cartpole"], ["model=mlp,lstm", "algo=sarsa"], ["algo.gamma=0.9,2"], ["algo.gamma=0.9,text"], ["algo.gamma=0.9,null"],
        ["seed=range(1,100000000)"], ["seed=range(1,20000)"], ["seed=range(1,300)", "num_envs=range(1,300)"], ["seed=range(1,2,0)"], ["seed=range(5)", "algo.foo=1"],
        ["seed=range(1,10,-1)"], ["seed=choice()"], ["seed=choice(1,x)"], ["seed=interval(1,2)"], ["seed=tag(a,b,interval(1,2))"], ["algo=glob(zz*)"], ["foo=1,2"],
        ["seed=range(a,b)"], ["seed=range()"], ["seed=shuffle(range(1,100000000))"], ["seed=sort(1,x)"], ["hydra/launcher=nope"], ["hydra/sweeper=nope"], ["hydra.sweeper.params={seed: 'x,y'}"],
        ["seed=1,-1"], ["replicas=1,0"], ["replicas=1,1000000000"], ["algo=dqn,"], ["algo=,dqn"], ["num_envs=1,1000000000"], ["data=none,nope"], ["init_from=nowhere,null"], ["env=gym", "env.id=CartPole-v1,Nope-v0"],
        ["algo=ppo,value_iteration", "env=cartpole"], ["algo=bc", "data=none,cartpole_expert"], ["+a=1,2"], ["~seed=1,2"], ["experiment=quick,nope"], ["algo.learning_rate=range(0,1,0.00000001)"],
        ["algo=dqn", "model.hidden=[8],[40000,40000]"], ["threads=1,1000000"], ["device=cpu,gpu"], ["imports=[no_such_module],[]"], ["algo=dqn", "algo.buffer_size=500,1000000000000"],
    ):  # fmt: skip
        yield bad("sweep", "-m", *small, *words)
    for words in (["seed=1,2"], ["algo=dqn,ppo"], ["seed=range(1,3)"], ["algo=choice(dqn,ppo)"], ["seed=1,000"], ["model.hidden=8,8"], ["algo=glob(*)"]):
        yield bad("a sweep without -m", *small, *words)


# Flags and words


def flags() -> Iterator[Case]:
    """Every verb with flags that it does not have, values that a flag cannot have, and no run folder."""
    verbs = {"evaluate": ["--episodes", "--seed"], "play": ["--replica", "--out"], "record": ["--episodes", "--replica", "--mode"], "resume": [], "report": [], "compare": []}
    places = ("nowhere", "file", "empty", "loop", "pipe", "/dev/null", "/dev/zero", "/proc/self/mem", "", " ", "x" * 5000, "a\x1b[31mb", "-", "--", "a\nb", "../..", "'", "\udcff")  # fmt: skip

    def prepare(folder: Path) -> None:
        _obstacles(folder)
        (folder / "empty").mkdir()

    for verb, options in verbs.items():
        for place in places:
            yield bad(f"{verb} of no run", verb, place, prepare=prepare)
        yield bad(f"{verb} of nothing", verb)
        yield bad("unknown flag", verb, "empty", "--nope", prepare=prepare)
        yield bad("unknown flag", verb, "empty", "--nope=1", "-z", prepare=prepare)
        yield bad("unknown key", verb, "empty", "nope=1", prepare=prepare)
        if verb != "compare":
            yield bad("two runs", verb, "empty", "empty", prepare=prepare)
        for option in options:
            yield bad("a flag without a value", verb, "empty", option, prepare=prepare)
            for value in ("x", "", "-1", "1.5", "1e99", "9" * 5000, "\u0663", "nan", "\x1b[31m", "None", "[1]"):
                yield bad("a flag's value", verb, "empty", f"{option}={value}", prepare=prepare)
    for words in (
        ["ppo"], ["dqn", "cartpole"], ["--algo", "ppo"], ["--algo=ppo"], ["--seed", "3"], ["--seed=3"], ["--config", "my.yaml"], ["-c", "my.yaml"], ["-x"], ["--nope"],
        ["algo=dqn", "--lr", "3"], ["algo", "dqn"], ["algo=dqn", "cartpole"], ["trian"], ["trian", "algo=dqn"], ["train", "dqn"], ["evalute", "x"], ["lits"], ["--cfg"], ["--cfg", "nope"],
        ["--cfg=nope", "algo=dqn"], ["--info", "nope"], ["--package"], ["--package", "nope", "--cfg", "job"], ["--config-dir"], ["--config-dir=", "algo=dqn"], ["--config-name", "x"], ["--config-path", "x"],
        ["--experimental-rerun", "x"], ["--multirun=3"], ["--resolve=1"], ["--run=1"], ["-m", "nope"], ["-m", "--seed", "1,2"], ["--json", "--nope"], ["--json", "algo=nope"], ["--version=3"], ["--help=3"],
        ["list", "nope"], ["list", "algo", "env"], ["list", "--nope"], ["list", "../algo"], ["list", "\x1b[31m"], ["list", ""], ["list", "x" * 5000], ["describe"], ["describe", "nope"], ["describe", "dqn", "ppo"],
        ["describe", "--nope"], ["describe", "algo/nope"], ["describe", "../algo/dqn"], ["describe", "/etc/passwd"], ["describe", ""], ["describe", "\x1b]0;x\x07"], ["describe", "x" * 5000], ["describe", "cartpole/dqn"],
        ["doctor", "--nope"], ["doctor", "x"], ["compare"], ["compare", "nowhere", "empty"], ["compare", "*"], ["record", "--minari"], ["evaluate", "--json"], ["resume", "--allow-import"], ["play", "--out=x"],
    ):  # fmt: skip
        yield bad("words", *words)
    for verb in ("evaluate", "play", "record", "resume", "report"):
        yield bad("a number for a mode", verb, "empty", "--mode=7", prepare=prepare)


def characters(chance: random.Random) -> Iterator[Case]:
    """Characters that no key, name or number has."""
    odd = ("\x1b[31mred", "\x07", "\x00"[:0] + "\x01", "\x7f", "\x9b31m", "\u200b", "\u202edqn", "\ufeffdqn", "\udcff\udcfe", "\N{FULLWIDTH DIGIT ONE}", "\u0661", "\U0001f600", "d\u0301qn",
           "\r", "a\nb", "\t", "'", '"', "\\", "`id`", "$(id)", ";", "|", "&", "(", ")", "[", "]", "{", "}", ",", ":", "#", "%s", "%n", "{0}", "\u2028", "\x85")  # fmt: skip
    for value in odd:
        yield bad("a character in a choice", f"algo={value}")
        yield bad("a character in a number", f"algo.gamma={value}")
        yield bad("a character in a key", f"al{value}go=dqn")
        yield bad("a character in a verb", value)
    for value in chance.sample(odd, 12):
        yield bad("a character in the env's id", "env=gym", f"env.id=Cart{value}Pole-v1")
        yield bad("a character in a device", f"device={value}")
        yield bad("a character in a module", f"imports=[{value}]")
    for function in ("sort(1,2)", "int(x)", "float(x)", "bool(x)", "str(1)", "json_str(1)", "glob(*)", "extend_list(1)", "shuffle(1,2)", "nope(1)", "cast(1)", "int(1,2)", "sort()"):
        yield bad("a function", f"algo.gamma={function}")


# The time that a refusal takes


def note(chosen: Sequence[Case], seed: int, most: int = 25) -> str:
    """The median CPU time of refusals in fresh processes, of some cases that need no files."""
    plain = [case.attempt.args[0] for case in chosen if not case.attempt.args[1] and "cannot fit" not in case.name]
    plain = [words for words in plain if not any("\x00" in word for word in words)]
    some = random.Random(seed).sample(plain, min(most, len(plain)))
    with tempfile.TemporaryDirectory() as folder:
        times = [cold(words, Path(folder)) for words in some]
    return f"a refusal in a fresh process: {statistics.median(times):.2f} CPU seconds (median of {len(times)})"


def cold(words: Sequence[str], folder: Path) -> float:
    """CPU seconds of a fresh process."""
    with subprocess.Popen(
        [sys.executable, "-m", "rlrun", *words], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        _, _, used = os.wait4(process.pid, 0)
        process.returncode = 0
    return used.ru_utime + used.ru_stime


def imports() -> None:
    """What a process has imported before it is forked for a case: not torch, which a refusal does without."""
    import gymnasium  # noqa: F401
    import hydra  # noqa: F401

    import rlrun.cli
    import rlrun.config.compose  # noqa: F401
