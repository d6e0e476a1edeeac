"""What the command line and Python alike do: compose, run, report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlrun.config.compose import compose
from rlrun.config.keys import legible
from rlrun.config.run import RunConfig
from rlrun.files import WriteError, writing
from rlrun.report.pages import draw, shown
from rlrun.runs import run as runs
from rlrun.runs.folder import RunFolder
from rlrun.runs.memory import prepared
from rlrun.runs.place import require_place
from rlrun.runs.process import Failed, computing, contained
from rlrun.runs.run import Result
from rlrun.runs.watchdog import watched


def run(overrides: Sequence[str], config_dir: str | Path | None = None, *, quiet: bool = False) -> Result:
    """Train as `rlrun OVERRIDES...` does."""
    return train(compose(overrides, config_dir), overrides=list(overrides), quiet=quiet)


def train(
    config: RunConfig, *, folder: Path | None = None, overrides: Sequence[str] = (), quiet: bool = False
) -> Result:
    """Train and judge a composed config, draw its pictures, and print its table unless `quiet`."""
    with contained(), watched():
        require_place(folder or RunFolder.new(config).path, "out", folder or config.out)
        task = prepared(config)  # most of what it refuses is refused before torch is imported
        task.tried  # noqa: B018  (as is what its env does wrong from the first)
        return _reported(runs.execute(config, folder=folder, overrides=overrides, task=task), quiet)


def resume(folder: Path, *, restart: bool = False, quiet: bool = False) -> Result:
    """Go on with an interrupted run; one that has ended is returned as it is.

    One without a checkpoint begins again if it never had one, or if it is told to `restart`.
    """
    with contained(), watched():
        return _reported(runs.resume(folder, restart), quiet)


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


def _reported(result: Result, quiet: bool) -> Result:
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
    return result
