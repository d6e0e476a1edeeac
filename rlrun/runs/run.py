"""From a config to a finished run folder, and back from a folder to what it holds."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlrun.config import ConfigError
from rlrun.config.plain import from_dict
from rlrun.config.run import RunConfig
from rlrun.core import Algorithm
from rlrun.evals.evaluation import Later
from rlrun.files import read_regular, write_atomic
from rlrun.runs import checkpoint
from rlrun.runs.folder import environment, lock, new_folder, read_run, write_run, write_status
from rlrun.runs.load import initialise, load, restore, training_envs
from rlrun.runs.policy import Policy
from rlrun.runs.summary import aggregate, summarise
from rlrun.runs.task import Task, build

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Result:
    """What a run leaves: its folder, its summary, and its policies."""

    folder: Path
    summary: dict[str, Any]
    exit_code: int = 0

    def policy(self, replica: int = 0) -> Policy:
        """The trained policy of one replica."""
        return load(self.folder, replica)


def execute(
    config: RunConfig, *, folder: Path | None = None, overrides: Sequence[str] = (), quiet: bool = False
) -> Result:
    """Train, judge and report one run.

    Raises:
        ConfigError: before anything is written.
        session.Stopped: by a signal, after saving.
    """
    task = Task.of(config)
    algo = build(config, task.spec())
    if config.init_from:
        initialise(algo, Path(config.init_from))
    folder = folder or new_folder(config)
    if (folder / "run.json").exists():
        raise ConfigError(f"{folder} holds a run already: rlrun resume {folder} goes on with it")
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder):
        write_run(folder, task, overrides)
        write_status(folder, "running", 0)
        return _finish(folder, task, algo, None, quiet)


def resume(folder: Path, *, quiet: bool = False) -> Result:
    """Go on with a run that was interrupted; a finished one is returned as it is.

    Raises:
        ConfigError: the folder is no run folder, is in use, or its data have changed.
        CheckpointError: every checkpoint is damaged.
    """
    record = read_run(folder)
    if (folder / "status.json").exists() and (folder / "summary.json").exists():
        status = json.loads(read_regular(folder / "status.json", 1 << 20))["status"]
        if status in ("finished", "failed"):
            summary = json.loads(read_regular(folder / "summary.json", 1 << 24))
            return Result(folder, summary, int(status == "failed"))
    for name, now in environment(record["config"]["threads"]).items():
        if record[name] != now:
            print(
                f"rlrun: {name} differs: was {record[name]}, is {now}; the bits may differ too",
                file=sys.stderr,
            )
    task = Task.of(from_dict(record["config"]))
    if task.data_sha256 != record["data_sha256"]:
        raise ConfigError(f"the data of {folder} have changed since it began", "start a new run on them")
    algo = build(task.config, task.spec())
    with lock(folder):
        saved = None
        if checkpoint.numbers(folder / "ckpt"):
            saved, notes = checkpoint.load(folder / "ckpt")
            for note in notes:
                print(f"rlrun: {note}", file=sys.stderr)
        else:
            print("rlrun: no checkpoint had been written yet: beginning again at step 0", file=sys.stderr)
            if task.config.init_from:
                initialise(algo, Path(task.config.init_from))
        return _finish(folder, task, algo, saved, quiet)


def _finish(
    folder: Path, task: Task, algo: Algorithm, saved: checkpoint.Checkpoint | None, quiet: bool
) -> Result:
    """Train to the end, then judge on fresh seeds and write the summary."""
    from rlrun.report.curve import curve_png
    from rlrun.report.table import results_table
    from rlrun.runs.session import Session, Stopped

    config = task.config
    if not saved:
        task.evaluation.prepare(folder)
    collector = task.collector() if algo.rollout_steps else None
    session = Session(config, folder, algo, collector, task.evaluation, saved)
    try:
        write_status(folder, "running", session.step)
        with session.stoppable():
            session.train()
            results = task.evaluation.final(algo, session.clock.step, folder, session.last)
    except Stopped as stop:
        write_status(folder, "interrupted", session.step, str(stop))
        print(f"rlrun: {stop} and saved; rlrun resume {folder} goes on", file=sys.stderr)
        raise
    except Exception as error:
        write_status(folder, "failed", session.step, f"{type(error).__name__}: {error}"[:300])
        raise
    finally:
        session.metrics.sync()
        session.metrics.close()
        if session.tensorboard:
            session.tensorboard.close()
    summary = summarise(task.evaluation.replicas, results, session, algo)
    write_atomic(folder / "summary.json", json.dumps(summary, indent=1).encode())
    failed = bool(session.failures)
    reason = "; ".join(f"replica {r}: {why}" for r, why in session.failures.items())
    if config.log.plot:
        curve_png(folder / "metrics.jsonl", folder / "curve.png")
    write_status(folder, "failed" if failed else "finished", session.step, reason)
    policy = _draw_policy(task, algo, folder, session.failures)
    if not quiet:
        print(policy + results_table(summary, folder))
    return Result(folder, summary, int(failed))


def _draw_policy(task: Task, algo: Algorithm, folder: Path, failures: Collection[int]) -> str:
    """The greedy policy of the first healthy replica on the task's grid as text, and as policy.png."""
    from rlrun.report import grid

    table = getattr(task.env, "table", None)
    healthy = [r.index for r in task.evaluation.replicas if r.index not in failures]
    if table is None or not healthy or not hasattr(algo, "q"):
        return ""
    q = grid.values(algo, table, healthy[0])
    if task.config.log.plot:
        grid.policy_png(table, q, folder / "policy.png")
    return grid.policy_text(table, q) + "\n\n"


def evaluate(folder: Path, episodes: int | None = None, seed: int | None = None) -> dict[str, Any]:
    """Judge a trained run again: on the final evaluation's seeds, or on those of `seed`."""
    task, algo = restore(folder)
    evaluation = task.evaluation
    step = np.full(len(evaluation.replicas), task.config.total_steps)
    purpose = "test" if seed is None else f"evaluate-{seed}"
    later = Later(episodes, purpose, lambda: training_envs(folder))
    results = evaluation.again(algo, step, later)
    rows = [
        {"replica": r.index, "seed": r.seed, "fold": r.fold} | result
        for r, result in zip(evaluation.replicas, results, strict=True)
    ]
    return {"run": str(folder), "replicas": rows, "aggregate": aggregate(rows)}
