"""Whether a sweep can be begun, and how many of its jobs fit beside each other."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from rlrun.config import ConfigError, compose
from rlrun.config.plain import config_hash
from rlrun.config.run import RunConfig
from rlrun.config.sweep import Sweep
from rlrun.runs.log import say
from rlrun.runs.memory import glance, needed, prepared
from rlrun.runs.place import require_place
from rlrun.runs.process import computing
from rlrun.runs.room import available

MANY, MOST = 10_000, 1_000_000  # jobs of a sweep, without being asked for twice and at all
PATIENCE = 20.0  # seconds in which a sweep is checked before it begins
_PROCESS = 2.5e8  # bytes of a worker, beside what its run holds


@dataclass(frozen=True)
class Room:
    """How many jobs may run beside each other, and whether they can be forked off."""

    jobs: int
    fork: bool


def checked(asked: Sweep, folder: Path, config_dir: str | None = None, *, yes: bool = False) -> Room:
    """Refuse a bad sweep before its folder is made; else what room there is for it.

    Every combination of what it chooses among is built as a run would be, and every other value once;
    for as long as that may take.

    Raises:
        ConfigError: too many jobs, a job that could not run, or a folder that cannot be made.
    """
    if not asked.search and (len(asked) > MOST or (len(asked) > MANY and not yes)):
        line = f"{MOST:,} are the most" if len(asked) > MOST else "if you mean all of them, add --yes"
        raise ConfigError(f"this sweep has {len(asked):,} jobs", line)
    until, fresh = time.monotonic() + PATIENCE, "torch" not in sys.modules
    configs: dict[str, tuple[list[str], RunConfig]] = {}  # those that differ in more than their seed
    for job in asked.probes():
        with _named(job):
            config = compose.compose([*asked.fixed, *job], config_dir)
        configs.setdefault(config_hash(replace(config, seed=0)), (job, config))
        if time.monotonic() > until:
            break
    if asked.named or asked.foreign:
        require_place(folder, "hydra.sweep.dir", folder.parent if asked.foreign else folder)
    else:
        require_place(folder, "out", asked.folder.parent.parent)
    for check in (glance, _complete):  # the first without torch
        for job, config in configs.values():
            with _named(job):
                check(config)
            if time.monotonic() > until:
                say(f"not all jobs could be checked in {PATIENCE:g} s")
                break
    return _room([config for _, config in configs.values()], fresh)


@contextmanager
def _named(job: Sequence[str]) -> Iterator[None]:
    """A refusal within it says of which job it is."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(*error.lines[:3], f"in the job {' '.join(job)}") from error


def _complete(config: RunConfig) -> None:
    """ConfigError where a run would not fit into memory, or begins with what is not there."""
    with computing(1):
        prepared(config)
    if config.init_from:
        from rlrun.runs.load import source_of

        source_of(config.init_from)


def _room(configs: Sequence[RunConfig], fresh: bool) -> Room:
    """One job at a time on a GPU, else as many as there are cores and memory for.

    A fork of a process whose PyTorch may have threads waits for them for ever, unless it wants none itself:
    `fresh` is one that has not imported it.
    """
    if any(config.device != "cpu" for config in configs):
        return Room(1, fork=False)
    largest = sorted(configs, key=lambda config: -config.replicas * config.num_envs)[:3]
    takes = max(needed(config, glance(config)).total for config in largest)
    threads = max(config.threads for config in configs)
    by_memory = int(available().fill[0] // (takes + _PROCESS))
    fork = sys.platform == "linux" and (fresh or threads == 1)
    return Room(max(min(_cores() // threads, by_memory), 1), fork)


def _cores() -> int:
    """The cores that this process may use: its affinity's, and no more than its control group pays for."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):
        paid = re.match(r"(\d+) (\d+)", Path("/sys/fs/cgroup/cpu.max").read_text())
        if paid:
            count = min(count, max(round(int(paid[1]) / int(paid[2])), 1))
    return count
