"""Any Gymnasium environment, by its id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from rlrun.config import key
from rlrun.config.catalog import import_modules
from rlrun.envs import EnvConfig
from rlrun.envs.packages import find, modules, split, suggestion, wrapper_of
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
RESERVED = ("id", "render_mode", "max_episode_steps", "disable_env_checker")


@dataclass
class GymConfig(EnvConfig):
    """Here max_steps = null means the limit that the environment is registered with."""

    id: str = key("a registered id such as Acrobot-v1; with env.allow_import also module:Name-v0")
    kwargs: Any = key("arguments for the environment's constructor, {argument: value}; null: none")
    wrappers: list[Any] = key(
        "wrappers, innermost first: a name of Gymnasium's, with env.allow_import also module:Name; "
        "or {name: {argument: value}}"
    )
    workers: int = key("processes that step its copies; 1: this one", min=1, max=1024)
    timeout: float = key("seconds that a worker may take for a reset or a step, else it is given up", above=0)
    allow_import: bool = key("whether the modules before the colons of id and wrappers may be imported")

    slow: ClassVar[bool] = True
    time_indexed: ClassVar[bool | None] = None

    def problems(self) -> list[str]:
        found = super().problems() + self._untrusted("id is", self.id)
        for name, arguments in map(wrapper_of, self.wrappers):
            found += self._untrusted("wrappers has", name)
            if name not in WRAPPERS and not all(split(name)):
                found.append(f"wrappers has {name}: {_likely(name)}")
            elif not isinstance(arguments, Mapping):
                found.append(f"wrappers has {name}: give its arguments as {{argument: value}}")
        if self.kwargs is not None and not isinstance(self.kwargs, Mapping):
            found.append(f"kwargs is {self.kwargs}: give them as {{argument: value}}")
        else:
            found += [
                f"kwargs has {name}: rlrun sets it itself" for name in RESERVED if name in (self.kwargs or ())
            ]
        return found

    def _untrusted(self, what: str, name: str) -> list[str]:
        module, _ = split(name)
        if self.allow_import or not module:
            return []
        why = f"it would import {module}, which runs its code; env.allow_import=true trusts it"
        return [f"{what} {name}: {why}"]

    def prepare(self) -> None:
        """Import the modules that it names, and find its id."""
        for module in modules({"id": self.id, "wrappers": self.wrappers}):
            import_modules([module], "env.id" if module == split(self.id)[0] else "env.wrappers")
        find(self.id)


@register("env", "gym", GymConfig)
def gym(config: GymConfig, num_envs: int) -> VectorEnv:
    problems = config.problems()
    if problems:
        raise ValueError("env." + problems[0])
    find(config.id)
    wrappers = [wrapper_of(entry) for entry in config.wrappers]
    if min(config.workers, num_envs) == 1:
        from rlrun.envs.vector.gym import GymVectorEnv

        return GymVectorEnv(config.id, num_envs, config.max_steps, config.kwargs, wrappers)
    from rlrun.envs.vector.workers import Making, WorkersEnv

    making = Making(config.id, config.max_steps, config.kwargs, wrappers)
    named = modules({"id": config.id, "wrappers": config.wrappers})
    return WorkersEnv(making, num_envs, config.workers, config.timeout, named)


def _likely(name: str) -> str:
    """What to do about a wrapper that is none of WRAPPERS."""
    module, _, last = name.rpartition(".")
    if module:
        return f"did you mean {last if last in WRAPPERS else f'{module}:{last}'}?"
    other = f"one of a package or a file of yours goes by module:{name}; others are {', '.join(WRAPPERS)}"
    return suggestion(name, WRAPPERS, other)
