"""What there is to choose from: the recipes under conf/ and the schemas of the package.

Answers without importing what it names, so that `rlrun list` and a refusal stay instant
however many algorithms there are: recipes are read as text, and a table in `rlrun.registry` says who
registers what. Only a schema that is really used gets imported.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from traceback import extract_tb

from rlrun import registry
from rlrun.config import ConfigError
from rlrun.config.run import REGISTERED
from rlrun.config.vocabulary import hint, nearest
from rlrun.registry import Entry

GYM_ID = re.compile(r"-v\d+$|/|:")  # what only the id of a Gymnasium environment looks like
_PACKAGE = Path(__file__).parent.parent


def conf_dir() -> Path:
    """The conf/ that came with rlrun: inside the installed package, or beside it in a checkout."""
    inside = _PACKAGE / "conf"
    return inside if inside.is_dir() else _PACKAGE.parent / "conf"


def main_config() -> Path:
    """The YAML of the main keys."""
    return conf_dir() / "config.yaml"


def conf_dirs() -> list[Path]:
    """Where recipes are looked for, first match first: ours, the plug-ins', the working directory's."""
    found = [conf_dir()]
    for module in _plugins():
        spec = importlib.util.find_spec(module.partition(".")[0])
        found += [Path(place) / "conf" for place in spec.submodule_search_locations or ()] if spec else []
    found.append(Path.cwd() / "conf")
    unique = {path.resolve(): path for path in reversed(found) if path.is_dir()}
    return list(unique.values())[::-1]


def recipes(group: str) -> dict[str, Path]:
    """The YAML files to choose from in a group, by name."""
    files = [path for folder in reversed(conf_dirs()) for path in (folder / group).glob("*.yaml")]
    return {path.stem: path for path in sorted(files, key=lambda path: path.stem) if path.is_file()}


def unread(folder: Path, choices: Mapping[str, str]) -> dict[Path, Path]:
    """Of a folder's recipes those that a run asks for, where another file of the same name goes first.

    Both files, the one that is not read first; a recipe asks for those that it begins with, too. Copies
    that say the same do not count.
    """
    found = {}
    for group, chosen in choices.items():
        if not (folder / group).is_dir():
            continue
        files = recipes(group)
        for name in _lineage(group, chosen):
            path, first = folder / group / f"{name}.yaml", files[name]
            with suppress(OSError):  # there is none, or nobody may read it
                if path.read_bytes() != first.read_bytes():
                    found[path] = first
    return found


_NATIVE = {  # ids of Gymnasium's whose task is one of our own envs
    "Acrobot-v1": "acrobot",
    "CartPole-v1": "cartpole",
    "CliffWalking-v1": "cliff_walking",
    "FrozenLake-v1": "frozen_lake",
    "FrozenLake8x8-v1": "frozen_lake_8x8",
    "Pendulum-v1": "pendulum",
    "Taxi-v4": "taxi",
}


def preset(algo: str, env: str, env_id: str) -> str:
    """The recipe under conf/tuned for an algorithm on an env that has none of its own name; '' for none.

    The task decides. A Gymnasium id (or '') means our own env that is the same task, a recipe with
    that id, or a file of its own, ALGO_ID.yaml; and whatever begins with env=series is a series.
    """
    there = recipes("tuned")
    names = [_NATIVE.get(env_id, ""), env_id.replace("/", "-")] if env_id else []
    names += [name for name in _lineage("env", env) if name == "series"]
    if env_id and not any(f"{algo}_{name}" in there for name in names):
        says = re.compile(rf"^id: *[\"']?{re.escape(env_id)}[\"']? *$", re.MULTILINE)
        names = [
            name
            for name, path in recipes("env").items()
            if f"{algo}_{name}" in there and says.search(path.read_text(encoding="utf-8", errors="replace"))
        ]
    return next((f"{algo}_{name}" for name in names if f"{algo}_{name}" in there), "")


def tuned(name: str) -> tuple[str, str]:
    """The algorithm and the env (or the Gymnasium id) that a recipe under conf/tuned is for."""
    algos = [algo for algo in recipes("algo") if name.startswith(f"{algo}_")]
    algo = max(algos, key=len, default="")
    return algo, name[len(algo) + 1 :]


def ours(path: Path) -> bool:
    """Whether a recipe came with rlrun, and so is known to compose."""
    return path.is_relative_to(conf_dir())


def headline(path: Path) -> str:
    """The one line that says what a recipe is: its first comment."""
    with suppress(OSError), path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if not line.startswith("#"):
                return ""
            if not re.match(r"#\s*@", line):
                return line.lstrip("# ").strip()
    return ""


def entry(group: str, recipe: str) -> Entry | None:
    """What a recipe builds, told from its text: the schema that it or its parent begins with.

    None where the text does not say; what it `imports` and the schema's module are imported.
    """
    import_modules(imports(group, recipe))
    for text in _lineage(group, recipe).values():
        if schema := re.search(rf"^ *- +/schema/{group}/([\w.-]+)@", text, re.MULTILINE):
            return load(group, schema[1])
    return None


def imports(group: str, recipe: str) -> list[str]:
    """The modules that a recipe and those that it begins with name, told from their text."""
    item = r"[\"']?[\w.]+[\"']?"
    lists = rf"^imports:\s*(\[[^\]]*\]|(?:\s*- +{item} *)+|{item})"
    texts = [re.sub(r"#.*", "", text) for text in _lineage(group, recipe).values()]
    found = [named[1] for text in texts if (named := re.search(lists, text, re.MULTILINE))]
    return [name for text in found for name in re.findall(r"[\w.]+", text)]


def _lineage(group: str, recipe: str) -> dict[str, str]:
    """The texts of a recipe, of the one that it begins with, and so on, by name."""
    files, texts = recipes(group), dict[str, str]()
    while recipe in files and recipe not in texts:
        text = texts[recipe] = files[recipe].read_text(encoding="utf-8", errors="replace")
        parent = re.search(r"^ *- +([\w.-]+)$", text.partition("defaults:")[2], re.MULTILINE)
        recipe = parent[1] if parent else ""
    return texts


def kinds(group: str) -> list[str]:
    """Every registered kind of a group, imported or not."""
    registered = [entry.kind for entry in registry.entries(group)]
    return sorted({*registry.builtin(group), *registered})


def known(group: str, kind: str) -> bool:
    """Whether somebody registers a kind; installed plug-ins are imported where nobody else does."""
    if kind not in kinds(group):
        import_plugins()
    return kind in kinds(group)


def load(group: str, kind: str) -> Entry:
    """The entry of a kind, importing the module that registers it.

    Raises:
        ConfigError: there is no such kind.
    """
    if not known(group, kind):
        broken = import_plugins()
        raise ConfigError(
            f"{group} {kind!r} is not registered",
            broken[0] if broken else hint(kind, kinds(group)),
            "a plug-in of your own is imported by imports=[my.module]",
        )
    if module := registry.builtin(group).get(kind):
        importlib.import_module(module)
    return registry.lookup(group, kind)


def everything(group: str) -> list[Entry]:
    """The entry of every kind of a group, ours and those of installed plug-ins, all imported."""
    import_plugins()
    return [load(group, kind) for kind in kinds(group)]


def import_plugins() -> list[str]:
    """Import every installed plug-in: packages with an entry point in `rlrun.plugins`.

    Returns what those say that cannot be imported.
    """
    found = {module: _import(module) for module in _plugins()}
    return [
        f"the plug-in {module} cannot be imported: {reason}" for module, reason in found.items() if reason
    ]


def import_modules(names: Iterable[str], key: str = "imports") -> None:
    """Import what a key of the config names; the working directory is searched too.

    Raises:
        ConfigError: a module cannot be imported.
    """
    for name in names:
        search_here()
        if reason := _import(name):
            raise ConfigError(f"{key}: cannot import {name!r}", reason, _respelt(name))


def search_here() -> None:
    """Let modules be found in the working directory, after all other places."""
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))


def _import(module: str) -> str:
    """Import a module of somebody else's; why it cannot be, or ''."""
    try:
        importlib.import_module(module)
    except (Exception, SystemExit) as error:
        frames = [frame for frame in extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
        where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if len(frames) > 2 else ""
        return f"{type(error).__name__}: {error}{where}"
    return ""


def _respelt(module: str) -> str:
    """What may have been meant by a module that cannot be imported; '' if it is there."""
    python = re.sub(r"\.py$", "", module).replace("-", "_").strip("./").replace("/", ".")
    if python != module:
        return f"did you mean {python}?"
    files = [path.stem for path in Path.cwd().glob("*.py")]
    return "" if module.partition(".")[0] in files else hint(module, files)


@cache
def _plugins() -> list[str]:
    from importlib.metadata import entry_points

    return [point.module for point in entry_points(group="rlrun.plugins")]


def find(name: str) -> list[tuple[str, str]]:
    """The (group, recipe) pairs that a name such as 'dqn' or 'algo/dqn' means."""
    group, _, recipe = name.rpartition("/")
    return [(g, recipe) for g in REGISTERED if group in ("", g) and recipe in recipes(g)]


def option(group: str, name: str) -> str:
    """The override that a name means in a group, '' where none is near; other Gymnasium ids go by env=gym."""
    known = recipes(group)
    meant = name if name in known or "," in name else nearest(name, known)
    if meant is None and group == "env" and GYM_ID.search(name):
        return f"env=gym env.id={name}"
    return f"{group}={meant}" if meant else ""
