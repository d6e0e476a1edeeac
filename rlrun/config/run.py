"""What a run is made of. YAML says how much, this says what it means.

A config field carries a name, a type, a one-line meaning and a validity check, and no
default: every value lives in exactly one YAML file under conf/.

`from_dict` is the one strict reader: a composed config and a run folder's `run.json` go
through it alike, so both refuse the same things with the same words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from rlrun import registry
from rlrun.config import ConfigError, key
from rlrun.config.keys import violations

GROUPS = ("algo", "env", "model", "eval", "data")  # a run has one of each
REGISTERED = (*GROUPS, "listener")  # and any number of listeners


def place(group: str, recipe: str) -> str:
    """Where a recipe's keys stand in the config: algo, or listener.csv."""
    return group if group in GROUPS else f"{group}.{recipe}"


@dataclass
class CheckpointConfig:
    every_seconds: float = key("seconds between checkpoints; 0 saves after every update", min=0)
    every_steps: int | None = key("also save whenever this many env steps have passed", min=1)


@dataclass
class LogConfig:
    every: int | None = key("env steps between records; null: a hundredth of the run", min=1)
    tensorboard: bool = key("write TensorBoard files")
    plot: bool = key("draw curve.png at the end (needs the extra `plots`)")


@dataclass
class StopConfig:
    """When a replica stops before total_steps: by whichever rule is met first."""

    # `return` would be the word, and is Python's own.
    eval_return: float | None = key("an evaluation's return, or validation's score, that is enough")
    patience: int | None = key("evaluations in a row without a better one that are enough", min=1)
    episodes: int | None = key("training episodes that are enough", min=1)
    minutes: float | None = key("minutes of wall time that are enough; not exact on resume", above=0)

    @property
    def judges(self) -> bool:
        """Whether evaluations decide."""
        return self.eval_return is not None or self.patience is not None

    def conflicts(self, run: RunConfig) -> list[str]:
        if self.episodes is None or registry.entry_of(run.algo).build.rollout_steps:
            return []
        return ["stop.episodes counts episodes of training, and algo never acts: use stop.patience"]


@dataclass
class MainKeys:
    """What YAML and the command line may set. The group members are registered schemas."""

    algo: Any = key("the algorithm and its hyper-parameters")
    env: Any = key("the task")
    model: Any = key("the network's body")
    eval: Any = key("how the agent is judged: episodes or walk_forward")
    data: Any = key("logged steps for imitation and offline algorithms")
    listener: dict[str, Any] = key("who else follows the run, by name: a logger of a plug-in")
    seed: int = key("the first seed", min=0)
    replicas: int = key("how many seeds train together; under walk_forward, seeds per fold", min=1)
    total_steps: int = key("env steps per replica; updates for an algorithm that never acts", min=1)
    num_envs: int = key("environments per replica", min=1)
    episode_limit: int = key(
        "steps after which an episode that does not end stops the run, where whole ones are asked for", min=1
    )
    device: str = key("cpu, cuda, cuda:<number> or mps")
    dtype: str = key("floating point type of all training state", choices=("float32", "float64"))
    threads: int = key("CPU threads of the whole run; resume is exact at 1", min=1, max=1024)
    out: str = key("the folder that run folders are made in")
    init_from: str | None = key("a run folder to take trained weights from", path=True)
    imports: list[str] = key("modules to import first: plug-ins that register something")
    checkpoint: CheckpointConfig = key("when to save")
    stop: StopConfig = key("when a replica stops early")
    log: LogConfig = key("what to record")

    def problems(self) -> list[str]:
        found = []
        if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", self.device):
            like = re.fullmatch(r"(auto|(?:gpu|cuda|nvidia)?[:_]?(\d*))", self.device.lower())
            meant = like and (
                "cpu or cuda" if like[1] == "auto" else f"cuda:{like[2]}" if like[2] else "cuda"
            )
            near = f"; did you mean {meant}?" if meant else ""
            found.append(f"device is {self.device}: it must be cpu, cuda, cuda:<number> or mps{near}")
        if not self.out:
            found.append("out is empty: it must be a folder, such as outputs")
        if self.init_from == "":
            found.append("init_from is empty: it must be a run folder, or null")
        found += [
            f"imports names {module!r}: it must be a module, such as package.module"
            for module in self.imports
            if not all(part.isidentifier() for part in module.split("."))
        ]
        return found


@dataclass
class RunConfig(MainKeys):
    """One run, fully resolved and checked."""

    choices: dict[str, str] = key("the YAML chosen in each group")

    @property
    def log_every(self) -> int:
        """Env steps between records."""
        return self.log.every or max(self.total_steps // 100, 1)

    @property
    def longest_episode(self) -> int:
        """Steps beyond which an episode does not end: none that env.max_steps cuts is among those."""
        return max(self.episode_limit, self.env.max_steps or 0)

    @property
    def recurrent(self) -> bool:
        """Whether the chosen model has memory."""
        return bool(getattr(self.model, "recurrent", False))


def check(config: RunConfig) -> RunConfig:
    """The config itself, or a ConfigError that names what is out of bounds or in conflict."""
    found = violations(config)
    for part in (*GROUPS, "stop"):
        member = getattr(config, part)
        if not found and hasattr(member, "conflicts"):
            found += member.conflicts(config)
    if found:
        raise ConfigError(*found[:3], *([f"and {len(found) - 3} more"] if len(found) > 3 else []))
    return config
