"""Bad configs: exit code 2, at most four lines, nothing written, and the key at fault is named.

`commands.txt` holds what was thought of one by one, `yamls.txt` the files; the rest is generated.
"""

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

Files = Mapping[str, str | bytes]
HERE = Path(__file__).parent
SECONDS = 20.0
NONE: Files = {}
GROUPS = ("algo", "env", "model", "eval", "data")
NEEDED = {"env=series": ["env.path=wti_daily"], "env=gym": ["env.id=CartPole-v1"]}
NEEDED["eval=walk_forward"] = ["env=trading"]
SMALL = ["total_steps=200", "eval.episodes=1"]
WIDE = ",".join(["4096"] * 2000)
RED = "\x1b[31m"
Prepare = Callable[[Path], Any]


def attempt(words: Sequence[str], files: Files, prepare: Prepare, says: str, folder: Path) -> str:
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
    name: str, *words: str, files: Files = NONE, prepare: Prepare = lambda folder: None, says: str = ""
) -> Case:
    """A command, the files that lie in its folder, and a word that the refusal must contain."""
    shown = " ".join(shlex.quote(word if len(word) < 200 else word[:200] + "...") for word in words)
    return Case(name, f"rlrun {shown}", partial(attempt, words, files, prepare, says))


def cases(seed: int) -> list[Case]:
    chance = random.Random(seed)
    seeded = (values(chance), names(chance), characters(chance))
    makers = (*seeded, commands(), choices(), pairs(), yaml_files(), interpolations(), outs(), verbs())
    return [case for maker in makers for case in maker]


def commands() -> Iterator[Case]:
    """Those of commands.txt."""
    section = ""
    for line in (HERE / "commands.txt").read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            words = [word.replace("%WIDE%", WIDE) for word in shlex.split(line)]
            yield bad(section, *words, *(SMALL if "sweep" in section else []))


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
    lists = [kind for kind in (hint, *typing.get_args(hint)) if typing.get_origin(kind) is list]
    found = ["{a: 1}", "{a: {b: [1]}}", "[[1]]"]
    if lists:
        return found + ["5", "[{a: 1}]"] + ([] if list[str] in lists else ["[text]", "[nan]"])
    found += ["[a]", "[]", *([] if type(None) in kinds else ["null"])]
    if "choices" in bounds:
        return [*found, "nonesuch", "'a b'"]
    if kinds & {int, float} and str not in kinds:
        found += ["text", "true", "nan", "inf", "-inf", "1e400", "0x", "''", "1..2"]
        found += [] if float in kinds else ["1.5", "9223372036854775808", "1e-3"]
    if bool in kinds:
        found += ["maybe", "1.5", "''"]
    found += [str(bounds[bound] + sign) for bound, sign in (("min", -1), ("max", 1)) if bound in bounds]
    return found + [str(bounds[bound]) for bound in ("above", "below") if bound in bounds]


def schema_of(group: str, recipe: str) -> type:
    entry = catalog.entry(group, recipe)
    assert entry is not None
    return entry.config


def values(chance: random.Random) -> Iterator[Case]:
    """A wrong value for every key of every recipe, and every wrong value for the main keys."""
    for group in GROUPS:
        for recipe in catalog.recipes(group):
            chosen = f"{group}={recipe}"
            for key, field, hint in keys_of(schema_of(group, recipe)):
                needed = [word for word in NEEDED.get(chosen, []) if not word.startswith(f"{group}.{key}=")]
                if wrong := wrong_values(field, hint):
                    value, name = chance.choice(wrong), key.rpartition(".")[2]
                    yield bad("wrong value", chosen, *needed, f"{group}.{key}={value}", says=name)
    for key, field, hint in keys_of(MainKeys):
        for value in wrong_values(field, hint):
            yield bad("wrong value of a main key", f"{key}={value}", says=key.rpartition(".")[2])


# Names


def names(chance: random.Random) -> Iterator[Case]:
    """Keys that are not there, by a slip, by force, or by taking away one that is."""
    for group in GROUPS:
        for recipe in chance.sample(sorted(catalog.recipes(group)), min(6, len(catalog.recipes(group)))):
            own = [field.name for field in fields(schema_of(group, recipe))] or ["path"]
            key, chosen = chance.choice(own), [f"{group}={recipe}", *NEEDED.get(f"{group}={recipe}", [])]
            slip = key[:1] + key[2:] + "x"
            yield bad("unknown key", chosen[0], f"{group}.{slip}=1", says=slip)
            yield bad("forced key", *chosen, f"+{group}.{slip}=1", says=slip)
            yield bad("forced key", *chosen, f"++{group}.{key}.{slip}.x=1")
            yield bad("deleted key", *chosen, f"~{group}.{own[0]}")


def choices() -> Iterator[Case]:
    """Recipes that are not there, and what can be no recipe."""
    paths = "algo/dqn ../algo/dqn ../../etc/passwd /etc/passwd . .. schema/algo/dqn pkg://os".split()
    values = "nope Dqn null [] {} 1 1.5 true [dqn] ${oc.env:HOME} ${algo} $HOME ~ - * dqn,ppo ''".split()
    odd = [*paths, *values, "{a: 1}", "' '", "x" * 300, "x" * 5000, "file:///etc/passwd"]
    for group in GROUPS:
        for value in odd:
            yield bad(f"no such {group}", f"{group}={value}")
    for value in [*paths, "nope", "''"]:
        yield bad("no such experiment", f"experiment={value}")
        yield bad("no such preset", f"tuned={value}")
        yield bad("no such listener", f"listener={value}")


def pairs() -> Iterator[Case]:
    """An algorithm and a task that do not fit, for every recipe."""
    continuous, boxes, discrete = "pendulum point", "cartpole pendulum", "cartpole frozen_lake taxi"
    bandits = "epsilon_greedy ucb softmax gradient_bandit thompson thompson_gaussian"
    foreign = dict.fromkeys(bandits.split(), continuous)
    foreign |= dict.fromkeys("td dyna_q policy_iteration value_iteration".split(), boxes)
    foreign |= {"dqn": continuous, "sac": discrete, "td3": discrete}
    foreign |= {"bc": "frozen_lake taxi", "cql": "frozen_lake taxi"}
    for recipe in catalog.recipes("algo"):
        entry = catalog.entry("algo", recipe)
        assert entry is not None
        for env in foreign.get(entry.kind, "trading").split():
            yield bad("does not fit", f"algo={recipe}", f"env={env}")
    for recipe in ("sarsa", "value_iteration", "ucb", "cem"):
        yield bad("has no use for memory", f"algo={recipe}", "model=lstm")


# Files


def yaml_files() -> Iterator[Case]:
    """YAML of one's own that is broken, endless, hostile, or leads back to itself."""
    global_, place = b"# @package _global_\n", "conf/experiment/mine.yaml"
    texts: dict[str, str | bytes] = {}
    for section in (HERE / "yamls.txt").read_text().split("=== ")[1:]:
        name, _, text = section.partition("\n")
        texts[name] = text
    texts |= {
        "NUL": b"a: \x00\n",
        "not UTF-8": b"a: \xff\xfe\n",
        "a picture": bytes(range(256)) * 8,
        "two megabytes": "# " + "x" * (2 << 20) + "\nseed: 1\n",
        "deep lists": "a: " + "[" * 300 + "]" * 300,
        "deeper lists": "a: " + "[" * 100_000,
        "deep maps": "".join(" " * i + "a:\n" for i in range(400)),
        "braces": "a: " + "{a: " * 5000,
        "an alias bomb": _alias_bomb(9),
    }
    modules = {
        "raising.py": f"raise OSError('no {RED}camera')\n",
        "exiting.py": "import sys\nsys.exit(0)\n",
        "broken.py": "def (:\n",
        "deep.py": "def f(): f()\nf()\n",
        "conf/experiment/other.yaml": "# @package _global_\ndefaults:\n  - mine\n",
    }
    for name, text in texts.items():
        content = global_ + (text.encode() if isinstance(text, str) else text)
        yield bad(f"YAML: {name}", "experiment=mine", files=modules | {place: content})
    for content in ("a: 1".encode("utf-16"), b"# @package nope.there\na: 1\n", b"# @package !!\na: 1\n"):
        yield bad("YAML: another beginning", "experiment=mine", files={place: content})
    defaults = ("defaults:\n  - mine\n", "defaults:\n  - /schema/env/nope@_here_\n")
    for group in (*GROUPS, "listener", "tuned"):
        for text in ("a: 1\n", "- 1\n", "a: [\n", *defaults):
            yield bad(f"a recipe for {group}", f"{group}=mine", files={f"conf/{group}/mine.yaml": text})
    odd: dict[str, Prepare] = {
        "is a folder": Path.mkdir,
        "is a pipe": os.mkfifo,
        "leads nowhere": lambda path: path.symlink_to("nowhere"),
        "leads to itself": lambda path: path.symlink_to(path.name),
        "leads to a device": lambda path: path.symlink_to("/dev/zero"),
        "is of 40 GB": lambda path: (path.touch(), os.truncate(path, 40 << 30)),
    }
    for name, make in odd.items():
        yield bad(f"YAML {name}", "experiment=mine", prepare=partial(_made, place, make))
    yield bad("a file for a folder", "--config-dir", "x.yaml", "algo=dqn", files={"x.yaml": "a: 1\n"})


def _made(name: str, make: Prepare, folder: Path) -> None:
    path = folder / name
    path.parent.mkdir(parents=True)
    make(path)


def _alias_bomb(depth: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, depth)]
    return "\n".join(lines) + "\n"


def interpolations() -> Iterator[Case]:
    """References to twice as much each time, and without end."""
    head = "# @package _global_\ndefaults: [override /env: gym]\nenv:\n  id: CartPole-v1\n  kwargs:\n"
    for text in ('"{0}{0}"', '["{0}", "{0}"]', '{{x: "{0}", y: "{0}"}}'):
        lines = [f"    a{i}: " + text.format(f"${{env.kwargs.a{i - 1}}}") for i in range(1, 60)]
        files = {"conf/experiment/mine.yaml": "\n".join([head + "    a0: xxxxxxxx", *lines])}
        yield bad("interpolation that doubles", "experiment=mine", files=files)
    for value in ("${" * 50, "${" * 50 + "x" + "}" * 50, "${oc.env:" * 20 + "HOME" + "}" * 20):
        yield bad("interpolation", f"algo.gamma={value}")
    for key in ("seed", "out", "device", "imports", "env.max_steps", "log.every"):
        yield bad("interpolation", f"{key}=${{nope.nope}}")
        yield bad("environment", f"{key}=${{oc.env:NO_SUCH_VARIABLE}}")


def outs() -> Iterator[Case]:
    """Folders that cannot be made or written to."""
    small = ["algo=sarsa", *SMALL]
    system = "/proc/x /proc/self/x /sys/x /dev/null /dev/null/x /dev/fd/x".split()
    own = ["file", "file/x", "loop", "nowhere/../file/x", "pipe", "''", "null", "[a]", "{a: b}"]
    for out in (*system, *own, "x" * 300, "a/" * 3000, f"/dev/null/{RED}x"):
        yield bad("out", *small, f"out={out}", prepare=_obstacles)
    yield bad("a file for the folder", *small, files={"outputs": ""})
    yield bad("a file below out", *small, files={"outputs/sarsa-cliff_walking": ""})
    yield bad("out of a sweep", "-m", *small, "seed=1,2", "out=/proc/x")
    yield bad("folder of a sweep", "-m", *small, "seed=1,2", "hydra.sweep.dir=/proc/x")


def _obstacles(folder: Path) -> None:
    (folder / "file").touch()
    (folder / "empty").mkdir()
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe")


# Flags and characters


def verbs() -> Iterator[Case]:
    """Every verb with flags that it does not have, values that a flag cannot have, and no run folder."""
    own = {"play": ["--replica", "--out"], "record": ["--episodes", "--replica", "--mode"]}
    own |= {"evaluate": ["--episodes", "--seed"], "resume": [], "report": [], "compare": []}
    places = "nowhere file empty loop pipe /dev/null /dev/zero /proc/self/mem - -- '".split()
    places += ["", " ", "x" * 5000, f"a{RED}b", "a\nb", "\udcff"]
    for verb, options in own.items():
        here = partial(bad, prepare=_obstacles)
        for place in places:
            yield here(f"{verb} of no run", verb, place)
        yield here(f"{verb} of nothing", verb)
        for more in (["--nope"], ["--nope=1", "-z"], ["nope=1"], ["--mode=7"]):
            yield here("unknown flag", verb, "empty", *more)
        if verb != "compare":
            yield here("two runs", verb, "empty", "empty")
        for option in options:
            yield here("a flag without a value", verb, "empty", option)
            for value in ("x", "", "-1", "1.5", "1e99", "9" * 5000, "\u0663", "nan", RED, "None", "[1]"):
                yield here("a flag's value", verb, "empty", f"{option}={value}")
    for verb in ("list", "describe"):
        for name in (RED, "x" * 5000, "\x1b]0;x\x07", "a\nb", "\udcff"):
            yield bad("words", verb, name)


def characters(chance: random.Random) -> Iterator[Case]:
    """Characters that no key, name or number has."""
    odd = [*"\x01\x07\x7f\u200b\r\t\u2028\x85\u0661\uff11\U0001f600'\"\\;|&()[]{},:#", "\x9b31m", f"{RED}red"]
    odd += ["\u202edqn", "\ufeffdqn", "\udcff\udcfe", "d\u0301qn", "a\nb", "`id`", "$(id)", "%s", "%n", "{0}"]
    for value in odd:
        yield bad("a character in a choice", f"algo={value}")
        yield bad("a character in a number", f"algo.gamma={value}")
        yield bad("a character in a key", f"al{value}go=dqn")
        yield bad("a character in a verb", value)
    for value in chance.sample(odd, 12):
        yield bad("a character in an id", "env=gym", f"env.id=Cart{value}Pole-v1")
        yield bad("a character in a device", f"device={value}")
        yield bad("a character in a module", f"imports=[my{value}module]")


# The time that a refusal takes


def note(chosen: Sequence[Case], seed: int, most: int = 25) -> str:
    """The median CPU time of refusals in fresh processes, of some cases that need neither files nor torch."""
    plain = [
        case.attempt.args[0] for case in chosen if not case.attempt.args[1] and case.name != "cannot fit"
    ]
    with tempfile.TemporaryDirectory() as folder:
        some = random.Random(seed).sample(plain, min(most, len(plain)))
        times = [cold(words, Path(folder)) for words in some]
    return (
        f"a refusal in a fresh process: {statistics.median(times):.2f} CPU seconds (median of {len(times)})"
    )


def cold(words: Sequence[str], folder: Path) -> float:
    """CPU seconds of a fresh process."""
    command = [sys.executable, "-m", "rlrun", *words]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, cwd=folder, stdin=quiet, stdout=quiet, stderr=quiet) as process:
        _, _, used = os.wait4(process.pid, 0)
        process.returncode = 0
    return used.ru_utime + used.ru_stime


def imports() -> None:
    """What a process has imported before it is forked for a case: not torch, which a refusal does without."""
    import gymnasium  # noqa: F401
    import hydra  # noqa: F401

    import rlrun.cli
    import rlrun.config.compose  # noqa: F401
