"""Where Gymnasium's ids come from: packages that an extra of ours brings, others, files of one's own."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from rlrun.config import ConfigError
from rlrun.config.keys import nearest

# Modules that an extra of ours brings. They are named here and not by a config: ids of theirs are
# looked for in them as Gymnasium looks for its own in MuJoCo.
EXTRAS = {
    "ale_py": "atari",
    "cv2": "atari",
    "mujoco": "mujoco",
    "imageio": "mujoco",
    "minigrid": "minigrid",
    "Box2D": "box2d",
}
# How ids of other packages begin, what pip calls the package, and Python.
PACKAGES = {
    r"ALE/|\w+(NoFrameskip|Deterministic|-ram)-|(Pong|Breakout|SpaceInvaders|Qbert|Seaquest|BeamRider|Enduro|"
    r"MsPacman|Asteroids|MontezumaRevenge)-v": ("ale-py", "ale_py"),
    r"MiniGrid-|BabyAI-": ("minigrid", "minigrid"),
    r"MinAtar/": ("MinAtar", "minatar"),
    r"Fetch|Hand|AntMaze|PointMaze|Adroit|FrankaKitchen|Maze": ("gymnasium-robotics", "gymnasium_robotics"),
    r"dm_control/|bsuite/|dm_lab": ("shimmy", "shimmy"),
    r"Meta-World/": ("metaworld", "metaworld"),
    r"Panda\w+-v": ("panda-gym", "panda_gym"),
    r"PyFlyt/": ("PyFlyt", "PyFlyt.gym_envs"),
    r"Vizdoom": ("vizdoom", "vizdoom.gymnasium_wrapper"),
    r"(highway|merge|roundabout|parking|intersection|racetrack)-": ("highway-env", "highway_env"),
    r"popgym-": ("popgym", "popgym"),
    r"(mo|minecart|deep-sea-treasure|resource-gathering)-": ("mo-gymnasium", "mo_gymnasium"),
}


def split(name: str) -> tuple[str, str]:
    """Module and name of `[module:]name`."""
    module, colon, rest = name.partition(":")
    return (module, rest) if colon else ("", name)


def wrapper_of(entry: Any) -> tuple[str, Any]:
    """Name and arguments of an entry of env.wrappers."""
    if isinstance(entry, Mapping) and len(entry) == 1:
        name, arguments = next(iter(entry.items()))
        return str(name), arguments if arguments is not None else {}
    return str(entry), {}


def modules(env: Mapping[str, Any]) -> list[str]:
    """The modules that an env's config names before a colon: of its id, and of its wrappers."""
    wrappers = env.get("wrappers") or []
    names = [str(env.get("id") or ""), *(wrapper_of(entry)[0] for entry in wrappers)]
    return list(dict.fromkeys(module for module, _ in map(split, names) if module))


def find(env_id: str) -> str:
    """The name that an id `[module:]name` is registered by. What it names is not imported here.

    Raises:
        ConfigError: nothing that was imported registers it.
    """
    import gymnasium

    module, name = split(env_id)
    if module and module not in sys.modules:
        raise ConfigError(
            f"env.id is {env_id}, and {module} has not been imported",
            "import it first; for a run folder, --allow-import does",
        )
    if name not in gymnasium.registry:
        _register(name)
    if name not in gymnasium.registry:
        raise _unknown(module, name)
    return name


def pip_line(error: BaseException | None) -> str:
    """How to install what an ImportError, or one that it led to, says is missing; '' if no extra has it."""
    while error is not None:
        if isinstance(error, ImportError) and (extra := EXTRAS.get((error.name or "").partition(".")[0])):
            return f"pip install 'rlrun[{extra}]'"
        error = error.__cause__ or error.__context__
    return ""


def _register(name: str) -> None:
    """Let packages register what they have: ours, and those that were imported and wait to be asked."""
    from importlib.metadata import entry_points

    _, module = _package(name)
    if module in EXTRAS and importlib.util.find_spec(module):
        importlib.import_module(module)
    for point in entry_points(group="gymnasium.envs"):  # as Gymnasium itself called them once
        if point.module.partition(".")[0] in sys.modules:
            point.load()()


def _package(name: str) -> tuple[str, str]:
    return next((package for begins, package in PACKAGES.items() if re.match(begins, name)), ("", ""))


def _unknown(module: str, name: str) -> ConfigError:
    """What to do about an id that is not registered."""
    import gymnasium

    if module:
        file = getattr(sys.modules[module], "__file__", None) or module
        own = [
            env_id for env_id, spec in gymnasium.registry.items() if _maker(spec) == module.partition(".")[0]
        ]
        register = f"gymnasium.register({name!r}, entry_point={module + ':CLASS'!r}) in it would"
        known = f"it registers {_some(own)}" if own else register
        return ConfigError(
            f"env.id is {module}:{name}: {file} registers no such environment",
            suggestion(name, own, known, f"{module}:"),
        )
    pip, package = _package(name)
    there = importlib.util.find_spec(package.partition(".")[0]) if package else None
    named = f"env.id={package or 'MODULE'}:{name} env.allow_import=true"
    if package in EXTRAS and not there:
        return ConfigError(
            f"env.id is {name}: it comes with {package}, which is not installed",
            f"pip install 'rlrun[{EXTRAS[package]}]'",
        )
    if package and package not in EXTRAS:
        advice = f"say {named}" if there else f"pip install {pip}, and say {named}"
        return ConfigError(f"env.id is {name}: it comes with {package}, which is not imported", advice)
    newest_first = sorted(gymnasium.registry, reverse=True)
    same = [known for known in newest_first if known.rpartition("/")[2] == name.rpartition("/")[2]]
    return ConfigError(
        f"env.id is {name}: Gymnasium knows no such environment",
        suggestion(name, same or newest_first, "gymnasium.pprint_registry() lists what it knows"),
        f"what a package or a file of your own registers is named with it: {named}",
    )


def _maker(spec: object) -> str:
    """The top module of the class that a registered environment is made by."""
    entry = getattr(spec, "entry_point", None)
    made_in = entry if isinstance(entry, str) else getattr(entry, "__module__", "")
    return re.split("[.:]", made_in)[0]


def _some(names: list[str], most: int = 6) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def suggestion(name: str, known: Iterable[str], otherwise: str, begin: str = "") -> str:
    """The nearest name as a question, or what is said where none is near."""
    near = nearest(name, known)
    return f"did you mean {begin}{near}?" if near else otherwise
