"""What the command line and Python alike do: compose, run, report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rlrun.config.compose import compose
from rlrun.config.run import RunConfig
from rlrun.lazy import torch
from rlrun.report.pages import draw, shown
from rlrun.runs import run as runs
from rlrun.runs.folder import RunFolder
from rlrun.runs.memory import prepared
from rlrun.runs.place import require_place
from rlrun.runs.run import Result


def run(overrides: Sequence[str], config_dir: str | Path | None = None, *, quiet: bool = False) -> Result:
    """Train as `rlrun OVERRIDES...` does."""
    return train(compose(overrides, config_dir), overrides=list(overrides), quiet=quiet)


def train(
    config: RunConfig, *, folder: Path | None = None, overrides: Sequence[str] = (), quiet: bool = False
) -> Result:
    """Train and judge a composed config, draw its pictures, and print its table unless `quiet`."""
    require_place(folder or RunFolder.new(config).path, "out", folder or config.out)
    task = prepared(config)
    with threads(config.threads):
        keep_freed_memory()
        return _reported(lambda: runs.execute(config, folder=folder, overrides=overrides, task=task), quiet)


def resume(folder: Path, *, quiet: bool = False) -> Result:
    """Go on with an interrupted run; one that has ended is returned as it is."""
    with threads(RunFolder(folder).config().threads):
        keep_freed_memory()
        return _reported(lambda: runs.resume(folder), quiet)


def evaluate(folder: Path, episodes: int | None = None, seed: int | None = None) -> dict[str, Any]:
    """Judge a trained run again, see `rlrun.runs.run.evaluate`."""
    with threads(RunFolder(folder).config().threads):
        return runs.evaluate(folder, episodes, seed)


def report(folder: Path) -> str:
    """Make a run's pictures and its report again from its files; the text that its end printed."""
    run = RunFolder(folder)
    run.summary()  # refuses a run that has not ended
    policy = draw(run, plots=True)
    return policy + shown(run)


def _reported(work: Callable[[], Result], quiet: bool) -> Result:
    result = work()
    run = RunFolder(result.folder)
    policy = draw(run, plots=run.config().log.plot)
    if not quiet:
        print(policy + shown(run))  # the only line of a run that goes to stdout
    return result


@contextmanager
def threads(count: int) -> Iterator[None]:
    """PyTorch's threads as a run wants them, and afterwards as they were."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def keep_freed_memory() -> None:
    """Let glibc reuse the large blocks that every update frees, not hand them back to the system.

    Without this, many replicas spend their time on page faults: thousands in one update.
    """
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    try:
        import ctypes

        mallopt = ctypes.CDLL(None).mallopt
    except (ImportError, AttributeError, OSError, TypeError):  # another C library, or another system
        return
    mallopt(mmap_threshold, 1 << 25)  # the most that it takes
    mallopt(trim_threshold, 1 << 30)
