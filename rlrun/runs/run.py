"""From a checked config to a finished run folder: train, judge, and write down what it scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlrun import registry
from rlrun.config import ConfigError
from rlrun.config.plain import from_dict
from rlrun.config.run import RunConfig
from rlrun.core import Algorithm
from rlrun.evals.evaluation import Later
from rlrun.runs import checkpoint, identity, listener
from rlrun.runs.folder import RunFolder
from rlrun.runs.listener import Listener
from rlrun.runs.load import Saved, initialise, load, restore, training_envs
from rlrun.runs.log import say
from rlrun.runs.memory import prepared
from rlrun.runs.policy import Policy
from rlrun.runs.session import Session, Stopped
from rlrun.runs.summary import aggregate, replica_rows, summarise
from rlrun.runs.task import Task, build


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
    config: RunConfig,
    *,
    folder: Path | None = None,
    overrides: Sequence[str] = (),
    task: Task | None = None,
) -> Result:
    """Train and judge one run; `task` is the config's, where it has been built already.

    Raises:
        ConfigError: before anything is written.
        session.Stopped: by a signal, after saving.
    """
    task = task or prepared(config)
    listeners = listener.chosen(config, say)
    algo = build(config, task.spec())
    if config.init_from:
        initialise(algo, Path(config.init_from))
    run = RunFolder.new(config) if folder is None else RunFolder(folder)
    if run.record.exists():
        raise ConfigError(f"{run} holds a run already: rlrun resume {run.quoted} goes on with it")
    run.path.mkdir(parents=True, exist_ok=True)
    with run.lock(say):
        run.begin(config, identity.record_of(task), overrides)
        run.set_status("running", 0)
        return _finish(run, task, algo, listeners, None)


def resume(folder: Path) -> Result:
    """Go on with a run that was interrupted; a finished one is returned as it is.

    Raises:
        ConfigError: the folder is no run folder, is in use, or its data have changed.
        CheckpointError: every checkpoint is damaged.
    """
    run = RunFolder(folder)
    record = run.read(listeners=True)
    if run.ended:
        return Result(run.path, run.summary(), int(run.status()["status"] == "failed"))
    for name, now in identity.surroundings(record["config"]["threads"]).items():
        if record.get(name) != now:
            say(f"{name} differs: was {record.get(name)}, is {now}; the bits may differ too")
    task = prepared(from_dict(record["config"]))
    if task.data_sha256 != record["data_sha256"]:
        raise ConfigError(f"the data of {folder} have changed since it began", "start a new run on them")
    listeners = listener.chosen(task.config, say)
    algo = build(task.config, task.spec())
    with run.lock(say):
        saved = None
        if checkpoint.numbers(run.checkpoints):
            saved, notes = checkpoint.load(run.checkpoints)
            for note in notes:
                say(note)
        else:
            say("no checkpoint had been written yet: beginning again at step 0")
            if task.config.init_from:
                initialise(algo, Path(task.config.init_from))
        return _finish(run, task, algo, listeners, saved)


def _finish(
    run: RunFolder,
    task: Task,
    algo: Algorithm,
    listeners: Mapping[str, Listener],
    saved: checkpoint.Checkpoint | None,
) -> Result:
    """Train to the end, then judge on fresh seeds and write the scores."""
    if not saved and task.evaluation.plan is not None:
        run.write_plan(task.evaluation.plan)
    session = Session(task.config, run, algo, task.collector(), task.evaluation, saved, listeners)
    summary = None
    try:
        run.set_status("running", session.step)
        with session.stoppable():
            session.train()
            scores = task.evaluation.final(algo, session.clock.step, session.last)
        if scores.steps is not None:
            run.write_steps(scores.steps.header, scores.steps.rows)
        summary = summarise(task.evaluation.replicas, scores.results, session, algo)
        run.write_summary(summary)
    except Stopped as stop:
        run.set_status("interrupted", session.step, str(stop))
        say(f"{stop} and saved; rlrun resume {run.quoted} goes on")
        raise
    except Exception as error:
        run.set_status("failed", session.step, f"{type(error).__name__}: {error}"[:300])
        raise
    finally:
        session.close(summary)
    failed = bool(session.failures)
    reasons = [*(f"replica {r}: {why}" for r, why in session.failures.items()), *summary["notes"]]
    run.set_status("failed" if failed else "finished", session.step, "; ".join(reasons))
    return Result(run.path, summary, int(failed))


def evaluate(folder: Path, episodes: int | None = None, seed: int | None = None) -> dict[str, Any]:
    """Judge a trained run again: on the final evaluation's seeds, or on those of `seed`.

    A replica that failed has no score, whatever its last finite policy would earn.

    Raises:
        ConfigError: other episodes are asked for where the recorded test is all there is.
    """
    run = RunFolder(folder)
    if registry.entry_of(run.config().eval).build.once:
        if episodes is not None or seed is not None:
            raise ConfigError(
                f"{folder} is a walk-forward run: its test was scored once, and no other episodes exist",
                "leave out --episodes and --seed to see the recorded test",
            )
        summary = run.summary()
        shown = {"replicas": summary["replicas"], "aggregate": summary["aggregate"]}
        return {"run": str(folder), "recorded": True, **shown}
    saved = Saved.of(folder)
    task, algo = restore(folder, saved)
    evaluation = task.evaluation
    step = np.full(len(evaluation.replicas), task.config.total_steps)
    purpose = "test" if seed is None else f"evaluate-{seed}"
    later = Later(episodes, purpose, lambda: training_envs(folder))
    scores = evaluation.again(algo, step, later)
    rows = replica_rows(evaluation.replicas, scores.results, saved.step, saved.failures)
    return {"run": str(folder), "replicas": rows, "aggregate": aggregate(rows, task.config.env.score_bounds)}
