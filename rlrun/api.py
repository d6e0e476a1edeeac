"""What the command line and Python alike do: compose, run, report."""

from __future__ import annotations

import base64
import html
import importlib.util
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from rlrun.config.compose import compose
from rlrun.config.keys import legible, spelled
from rlrun.config.run import RunConfig
from rlrun.files import WriteError, writing
from rlrun.report.pages import draw, shown
from rlrun.runs import run as runs
from rlrun.runs.folder import RunFolder
from rlrun.runs.memory import prepared
from rlrun.runs.place import require_place
from rlrun.runs.process import Failed, computing, contained
from rlrun.runs.task import Task
from rlrun.runs.watchdog import watched


@dataclass(frozen=True)
class Result(runs.Result):
    """A run that came to its end; in a notebook it shows its table and its curve."""

    @property
    def metrics(self) -> Any:
        """What was recorded, a column for each tag beside `step` and `replica`; NaN where nothing was.

        A DataFrame where pandas is installed, else a mapping of names to arrays of one length.
        """
        found = columns(RunFolder(self.folder))
        if importlib.util.find_spec("pandas"):
            return importlib.import_module("pandas").DataFrame(found)
        return found

    def _repr_html_(self) -> str:
        run = RunFolder(self.folder)
        page = f"<pre>{html.escape(shown(run))}</pre>"
        if run.curve.exists():
            data = base64.b64encode(run.curve.read_bytes()).decode()
            page += f'<img src="data:image/png;base64,{data}" style="max-width:100%">'
        return page


def columns(run: RunFolder) -> dict[str, np.ndarray]:
    """metrics.jsonl as columns: `step` and `replica` are integers, tags NaN where a record has none."""
    rows = list(run.read_metrics(None))
    tags = dict.fromkeys(tag for row in rows for tag in row)
    found = {tag: np.array([row.get(tag, np.nan) for row in rows]) for tag in tags}
    return found | {name: found[name].astype(int) for name in ("step", "replica") if name in found}


def words(overrides: str | Sequence[str], keys: Mapping[str, Any], *, several: bool = False) -> list[str]:
    """Overrides from a line as it is typed or a list of words, and from keywords.

    With `several`, a list among the keywords holds the values that a sweep gives to its key.
    """
    told = shlex.split(overrides) if isinstance(overrides, str) else list(overrides)
    for key, value in keys.items():
        if several and isinstance(value, (list, tuple)):
            told.append(f"{key}={','.join(map(spelled, value))}")
        else:
            told.append(f"{key}={spelled(value)}")
    return told


def run(
    overrides: str | Sequence[str],
    config_dir: str | Path | None = None,
    *,
    quiet: bool = False,
    keys: Mapping[str, Any] | None = None,
) -> Result:
    """Train as `rlrun OVERRIDES...` does."""
    told = words(overrides, keys or {})
    return train(compose(told, config_dir), overrides=told, quiet=quiet)


def train(
    config: RunConfig,
    *,
    folder: Path | None = None,
    overrides: Sequence[str] = (),
    quiet: bool = False,
    task: Task | None = None,
) -> Result:
    """Train and judge a composed config, draw its pictures, and print its table unless `quiet`.

    `task` is the config's, where it is built already.
    """
    with contained(), watched():
        require_place(folder or RunFolder.new(config).path, "out", folder or config.out)
        task = task or prepared(config)  # most of what it refuses is refused before torch is imported
        task.tried  # noqa: B018  (as is what its env does wrong from the first)
        return _reported(runs.execute(config, folder=folder, overrides=overrides, task=task), quiet)


def resume(
    folder: Path,
    *,
    restart: bool = False,
    quiet: bool = False,
    changes: Mapping[str, Any] = MappingProxyType({}),
) -> Result:
    """Go on with an interrupted run; one that has ended is returned as it is.

    `changes` are other values for keys that may change then: {"total_steps": 200_000} trains on.

    One without a checkpoint begins again if it never had one, or if it is told to `restart`.
    """
    with contained(), watched():
        return _reported(runs.resume(folder, restart, changes), quiet)


def fork(
    folder: Path,
    changes: Mapping[str, Any] = MappingProxyType({}),
    *,
    step: int | None = None,
    overrides: Sequence[str] = (),
    quiet: bool = False,
) -> Result:
    """Start a new run from the full state of another, see `rlrun.runs.run.fork`."""
    with contained(), watched():
        return _reported(runs.fork(folder, changes, step, overrides), quiet)


def evaluate(folder: Path, episodes: int | None = None, seed: int | None = None) -> dict[str, Any]:
    """Judge a trained run again, see `rlrun.runs.run.evaluate`."""
    with contained(), watched(), computing(RunFolder(folder).config().threads):
        return runs.evaluate(folder, episodes, seed)


def report(folder: Path) -> str:
    """Make a run's pictures and its report again from its files; the text that its end printed."""
    run = RunFolder(folder)
    run.summary()  # refuses a run that has not ended
    with contained(), writing(run.path):
        policy = draw(run, plots=True)
    return policy + shown(run)


def _reported(result: runs.Result, quiet: bool) -> Result:
    run = RunFolder(result.folder)
    config, policy, unwritten = run.config(), "", None
    try:
        with computing(config.threads), writing(run.path):
            policy = draw(run, plots=config.log.plot)
    except WriteError as error:  # what it scored is worth more than its pictures
        unwritten = Failed(f"{error}; rlrun report {run.quoted} draws it again")
    if not quiet:
        print(legible(policy + shown(run)))  # the only line of a run that goes to stdout
    if unwritten:
        raise unwritten
    return Result(result.folder, result.summary, result.exit_code)
