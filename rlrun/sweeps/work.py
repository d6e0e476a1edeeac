"""One job of a sweep, done by the process that calls: trained, resumed, or found to be done already.

A job is known by the hash of what decides its policies, so that it is found again whatever its folder is
called, and trained once.
"""

from __future__ import annotations

import hashlib
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlrun.config import ConfigError
from rlrun.config.compose import compose
from rlrun.config.keys import EnvError
from rlrun.files import WriteError, remove
from rlrun.runs.folder import RunFolder
from rlrun.runs.identity import job_hash
from rlrun.runs.log import Progress, say
from rlrun.runs.memory import prepared
from rlrun.runs.process import Failed, Stopped, fault
from rlrun.runs.task import Task
from rlrun.sweeps.folder import FAILED, FINISHED, INTERRUPTED


@dataclass(frozen=True)
class Order:
    """What a worker is told: which job, and where; as JSON data, for it may be another machine's."""

    sweep: str  # the folder
    name: str
    words: tuple[str, ...]
    config_dir: str | None = None
    retry: bool = False  # whether a job that failed is tried again

    @classmethod
    def of(cls, data: dict[str, Any]) -> Order:
        return cls(**data | {"words": tuple(data["words"])})

    def plain(self) -> dict[str, Any]:
        return asdict(self)


def done(order: Order, runs: dict[str, str]) -> dict[str, Any]:
    """Do a job, or see that it was done before; its state, its run's folder, its score, or why it has none.

    `runs` are the run folders that the sweep has, by the hash of their jobs. What goes wrong is said in a
    line, and what a traceback tells on stderr.
    """
    began, run = time.monotonic(), None
    try:
        config = compose(order.words, order.config_dir)
        task = prepared(config)
        run = _place(order, job_hash(config, task.data_sha256), runs)
        told = _trained(run, task, order)
    except Stopped:
        told = {"state": INTERRUPTED}
    except (ConfigError, EnvError) as error:
        told = _failed("; ".join(error.lines[:2]))
        say(str(error))
    except (Failed, WriteError) as error:
        told = _failed(str(error))
        say(str(error))
    except Exception as error:
        told = _failed(fault(error))
        traceback.print_exc()
    name = run.path.name if run is not None and run.exists else None
    return {"run": name, "reason": "", "seconds": round(time.monotonic() - began, 1)} | told


def _place(order: Order, digest: str, runs: dict[str, str]) -> RunFolder:
    """The folder of the run that does this job already, or one that nothing else has."""
    if digest in runs:
        return RunFolder(Path(order.sweep) / runs[digest])
    run = RunFolder(Path(order.sweep) / order.name)
    if not run.exists:
        return run
    if run.read_record().get("job_hash") == digest:
        return run
    # Another job's: its data, rlrun's version or a plug-in's code have changed since.
    return RunFolder(f"{run}-{hashlib.sha256(digest.encode()).hexdigest()[:6]}")


def _trained(run: RunFolder, task: Task, order: Order) -> dict[str, Any]:
    """Train a run from where it is, unless it has ended, or failed and may not be tried again."""
    from rlrun.api import resume, train

    while run.exists and run.in_use:  # by one that was told to stop and saves, or that another sweep started
        if Progress.follower:
            Progress.follower(["waits for another process that trains it"])
        time.sleep(0.2)
    failed = run.exists and run.state[0] == "failed"
    if failed and not order.retry:
        return _failed(run.status()["reason"])
    if failed and run.ended:
        remove(run.path)  # of replicas that failed there is nothing to go on from
    before = run.exists and run.ended
    if not run.exists:
        train(task.config, folder=run.path, overrides=order.words, task=task)
    elif not before:
        resume(run.path)
    if run.state[0] == "failed":
        return _failed(run.status()["reason"])
    score = {"state": FINISHED, "score": run.summary()["aggregate"].get("median")}
    return score | {"before": True} if before else score


def _failed(reason: str) -> dict[str, Any]:
    return {"state": FAILED, "reason": reason or "it failed"}
