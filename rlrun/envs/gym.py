"""Any Gymnasium environment, by its id."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from rlrun.config import key
from rlrun.config.catalog import import_modules
from rlrun.config.keys import nearest
from rlrun.envs import EnvConfig
from rlrun.registry import register

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv

# Those that keep nothing from one episode to the next (else an episode would not be a
# function of its seed and actions) and leave the reward alone (env.reward does that, for
# training only).
WRAPPERS = (
    "AtariPreprocessing",
    "ClipAction",
    "DelayObservation",
    "DiscretizeAction",
    "DiscretizeObservation",
    "DtypeObservation",
    "FilterObservation",
    "FlattenObservation",
    "FrameStackObservation",
    "GrayscaleObservation",
    "MaxAndSkipObservation",
    "RepeatAction",
    "RescaleAction",
    "RescaleObservation",
    "ReshapeObservation",
    "ResizeObservation",
    "StickyAction",
    "TimeAwareObservation",
)
# Where ids of other packages come from: their beginning, what pip calls the package, and Python.
PACKAGES = {
    r"ALE/|\w+(NoFrameskip|Deterministic|-ram)-|(Pong|Breakout|SpaceInvaders|Qbert|Seaquest|BeamRider|Enduro|"
    r"MsPacman|Asteroids|MontezumaRevenge)-v": ("ale-py", "ale_py"),
    r"MiniGrid-|BabyAI-": ("minigrid", "minigrid"),
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
RESERVED = ("id", "render_mode", "max_episode_steps", "disable_env_checker")


@dataclass
class GymConfig(EnvConfig):
    """Here max_steps = null means the limit that the environment is registered with."""

    id: str = key("a registered id such as Acrobot-v1; with env.allow_import also module:Name-v0")
    kwargs: Any = key("arguments for the environment's constructor, {argument: value}; null: none")
    wrappers: list[Any] = key("Gymnasium wrappers, innermost first: a name, or {name: {argument: value}}")
    allow_import: bool = key("whether an id may import the module before its colon")

    slow: ClassVar[bool] = True

    def problems(self) -> list[str]:
        found = super().problems() + self._id_problems()
        for name, arguments in map(_wrapper, self.wrappers):
            if name not in WRAPPERS:
                hint = _suggestion(name, WRAPPERS, "it may have " + ", ".join(WRAPPERS))
                found.append(f"wrappers has {name}: {hint}")
            elif not isinstance(arguments, Mapping):
                found.append(f"wrappers has {name}: give its arguments as {{argument: value}}")
        if self.kwargs is not None and not isinstance(self.kwargs, Mapping):
            found.append(f"kwargs is {self.kwargs}: give them as {{argument: value}}")
        else:
            found += [
                f"kwargs has {name}: rlrun sets it itself" for name in RESERVED if name in (self.kwargs or ())
            ]
        return found

    def _id_problems(self) -> list[str]:
        module, colon, _ = self.id.partition(":")
        if colon:
            why = f"it would import {module}, which runs its code; env.allow_import=true trusts it"
            return [] if self.allow_import else [f"id is {self.id}: {why}"]
        import gymnasium

        if self.id in gymnasium.registry:
            return []
        return [f"id is {self.id}: Gymnasium knows no such environment; {_whereabouts(self.id)}"]


@register("env", "gym", GymConfig)
def gym(config: GymConfig, num_envs: int) -> VectorEnv:
    from rlrun.envs.vector.gym import GymVectorEnv

    problems = config.problems()
    if problems:
        raise ValueError("env." + problems[0])
    module, colon, _ = config.id.partition(":")
    if colon:
        import_modules([module], "env.id")
    wrappers = [_wrapper(entry) for entry in config.wrappers]
    return GymVectorEnv(config.id, num_envs, config.max_steps, config.kwargs, wrappers)


def _wrapper(entry: Any) -> tuple[str, Any]:
    """Name and arguments of an entry of env.wrappers."""
    if isinstance(entry, Mapping) and len(entry) == 1:
        name, arguments = next(iter(entry.items()))
        return str(name), arguments if arguments is not None else {}
    return str(entry), {}


def _whereabouts(env_id: str) -> str:
    """What to do about an id that is not registered."""
    import gymnasium

    for beginning, (package, module) in PACKAGES.items():
        if re.match(beginning, env_id):
            there = importlib.util.find_spec(module.partition(".")[0]) is not None
            return ("" if there else f"pip install {package}, and ") + f"add imports=[{module}]"
    newest_first = sorted(gymnasium.registry, reverse=True)
    same = [known for known in newest_first if known.rpartition("/")[2] == env_id.rpartition("/")[2]]
    return _suggestion(env_id, same or newest_first, "gymnasium.pprint_registry() lists them")


def _suggestion(name: str, known: Iterable[str], otherwise: str) -> str:
    near = nearest(name, known)
    return f"did you mean {near}?" if near else otherwise
