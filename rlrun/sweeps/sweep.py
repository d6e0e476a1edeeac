"""A sweep from its grid to its ranking."""

from __future__ import annotations

import html
import importlib
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlrun.config import ConfigError
from rlrun.config.sweep import Sweep, sweep
from rlrun.report.compare import Comparison
from rlrun.runs.folder import RunFolder
from rlrun.runs.log import say
from rlrun.runs.process import asked, deferred
from rlrun.sweeps import grid
from rlrun.sweeps.check import Room, checked
from rlrun.sweeps.crew import Crew
from rlrun.sweeps.folder import FAILED, FINISHED, INTERRUPTED, PENDING, State, SweepFolder
from rlrun.sweeps.options import Options
from rlrun.sweeps.pool import Pool
from rlrun.sweeps.ranking import best_again, ranked
from rlrun.sweeps.screen import Screen, ended
from rlrun.sweeps.work import Order

# What a run imports late: forked workers find it there.
_USED = (
    "torch",
    "rlrun.api",
    "rlrun.nn",
    "tensorboard.compat.proto.event_pb2",
    "tensorboard.summary.writer.record_writer",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
)


@dataclass(frozen=True)
class Swept:
    """A sweep that came to its end; in a notebook it shows its ranking."""

    folder: SweepFolder
    ranking: Comparison | None  # None where no run has a score

    @property
    def exit_code(self) -> int:
        return int(self.folder.count(FINISHED) < len(self.folder.jobs))

    def plain(self) -> dict[str, Any]:
        """As JSON data: each job with its state, and the summary of each run."""
        folder, jobs, runs = self.folder, [], []
        for name, state in folder.states.items():
            run = folder.path / state.run if state.run else None
            row = {"name": name, "label": folder.jobs[name].label} | asdict(state)
            jobs.append(row | {"run": run and str(run)})
            if run and RunFolder(run).summary_file.exists():
                runs.append({"run": str(run)} | RunFolder(run).summary())
        return {"sweep": str(folder.path), "jobs": jobs, "runs": runs}

    def __str__(self) -> str:
        """The ranking, what did not come to its end, and what to type next."""
        told = [str(self.ranking)] if self.ranking else []
        told.append(f"{ended(self.folder)}\nsweep {self.folder.quoted}")
        if self.ranking and (again := best_again(self.folder, self.ranking)):
            told.append("\n".join(["the best again, on seeds that nothing was chosen on:", *again]))
        return "\n".join(told)

    def _repr_html_(self) -> str:
        return self.ranking._repr_html_() if self.ranking else f"<pre>{html.escape(str(self))}</pre>"


def begin(asked_for: Sweep, options: Options) -> Swept:
    """Do the jobs of a grid that are not done yet.

    Raises:
        ConfigError: before anything is written; also where Hydra itself is asked to run it.
        Stopped: by a signal; what was trained is saved.
    """
    _require_own(asked_for)
    path = place(asked_for, options.name)
    room = checked(asked_for, path, options.config_dir, yes=options.yes)
    folder = SweepFolder.at(path)
    return _do(folder, grid.jobs(asked_for), room, options, asked_for)


def go_on(folder: SweepFolder, options: Options) -> Swept:
    """Do the jobs of a sweep's folder that are not done yet, on this machine unless a launcher is named."""
    first = next(iter(folder.jobs.values()))
    asked_for = sweep([*first.words, *options.launcher], options.config_dir)
    _require_own(asked_for)
    room = checked(asked_for, folder.path, options.config_dir)
    return _do(folder, (), room, options, asked_for)


def _require_own(asked_for: Sweep) -> None:
    """ConfigError where Hydra itself is asked to run it."""
    if asked_for.foreign:
        raise ConfigError(
            "a sweeper, callback, launcher or names of Hydra's are for its own application: rlrun -m"
        )


def place(asked_for: Sweep, name: str | None) -> Path:
    """The folder of a sweep: the same command leads to the same one."""
    if name is not None:
        return asked_for.folder.with_name(name)
    return asked_for.folder if asked_for.named else asked_for.folder.with_name(grid.sweep_name(asked_for))


def _do(
    folder: SweepFolder, jobs: Iterable[grid.Job], room: Room, options: Options, asked_for: Sweep
) -> Swept:
    with folder.lock(say), deferred():
        folder.join(jobs)
        again = (PENDING, INTERRUPTED, FINISHED) + (FAILED,) * options.retry_failed
        left = [name for name, state in folder.states.items() if state.state in again]
        # Whether what is finished is still what is asked for is found out.
        folder.states |= {name: State() for name in left if folder.states[name].state != FINISHED}
        folder.write()
        crew = _crew(asked_for, room, options, folder)
        screen = Screen(folder, crew.most)

        def settled(name: str, told: Mapping[str, Any]) -> None:
            changes = dict(told)
            if changes.pop("before", False):
                folder.settle(name, **changes | {"seconds": folder.states[name].seconds})
            else:
                screen.settled(name, folder.settle(name, **changes))

        how = options.config_dir, options.retry_failed
        orders = (Order(str(folder.path), name, folder.jobs[name].words, *how) for name in left)
        screen.open(crew.running)
        try:
            crew.work(orders, settled, screen.look)
        finally:
            crew.close()
            screen.close()
            folder.write()
        if asked():
            say(f"{ended(folder)}; rlrun sweep resume {folder.quoted} goes on")
    return Swept(folder, ranked(folder))


def _crew(asked_for: Sweep, room: Room, options: Options, folder: SweepFolder) -> Crew:
    """Who does the jobs: workers of this process, or those of the launcher that is chosen."""
    name, most, place = asked_for.launcher, options.jobs, (folder.logs, folder.runs())
    if name != "basic":
        from rlrun.sweeps.launchers import LAUNCHERS

        if name == "submitit_local":  # which would start them all at once
            most = most or room.jobs
        return LAUNCHERS[name](asked_for.params, most, *place)
    if not hasattr(os, "fork"):
        raise ConfigError("this system cannot run jobs side by side by itself", "say hydra/launcher=joblib")
    for module in _USED if room.fork else ():
        with suppress(ImportError):
            importlib.import_module(module)
    return Pool(most or room.jobs, *place, fork=room.fork)
