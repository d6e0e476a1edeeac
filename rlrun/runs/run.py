"""From a checked config to a finished run folder: train, judge, and write down what it scored."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from rlrun import registry
from rlrun.config import ConfigError
from rlrun.config.keys import EnvError
from rlrun.config.plain import from_dict
from rlrun.config.run import RunConfig
from rlrun.core import Algorithm
from rlrun.evals.evaluation import Later
from rlrun.files import FULL, WriteError
from rlrun.runs import checkpoint, identity, listener
from rlrun.runs.folder import RunFolder, sound
from rlrun.runs.going import Start, extended, forked, reopened
from rlrun.runs.listener import Listener
from rlrun.runs.load import Saved, check_replay, initialise, load, numbers, opened, restore, training_envs
from rlrun.runs.log import say
from rlrun.runs.memory import prepared, require_scores
from rlrun.runs.place import rooted
from rlrun.runs.policy import Policy
from rlrun.runs.process import Failed, Stopped, asked, computing, deferred, farewell, fault, stoppable
from rlrun.runs.session import Session
from rlrun.runs.summary import aggregate, replica_rows, summarise
from rlrun.runs.task import Task, build

_EPISODES = 100_000  # of a replica that are played without being asked for on the command line


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
    start: Start | None = None,
) -> Result:
    """Train and judge one run; `task` is the config's, where it is built already, `start` a fork's.

    Raises:
        ConfigError: before anything is written.
        Stopped: by a signal; what was trained is saved.
        Failed: by a fault that needs no traceback, such as a full disk.
    """
    task = task or prepared(config)
    run = RunFolder.new(config) if folder is None else RunFolder(folder)
    with stoppable(), _claimed(run), computing(config.threads):
        listeners = listener.chosen(config, say)
        algo = build(config, task.spec())
        record, saved, typed = identity.record_of(task), None, config
        if start:
            start.require_fit(algo)
            record, saved, typed = record | start.record(run), start.saved, start.typed
        elif config.init_from:
            initialise(algo, Path(config.init_from))
        with deferred():
            if saved:
                checkpoint.save(run.checkpoints, saved.state["updates"], saved.files, saved.state)
            run.begin(typed, record, overrides)
            run.set_status("running", record["fork_of"]["step"] if saved else 0)
        return _finish(run, task, algo, listeners, saved)


def fork(
    folder: Path, changes: Mapping[str, Any], step: int | None = None, overrides: Sequence[str] = ()
) -> Result:
    """A new run from the full state of another, with other values at some keys.

    It starts from the newest checkpoint, or that at env step `step`; `overrides` are the words of `changes`.

    Raises:
        ConfigError: before anything is written.
    """
    source = RunFolder(folder)
    start = forked(source, changes, step)
    with sound(source):
        task = prepared(start.config)
    _require_data(task, source, start.data_sha256)
    return execute(start.config, overrides=overrides, task=task, start=start)


def resume(folder: Path, restart: bool = False, changes: Mapping[str, Any] = MappingProxyType({})) -> Result:
    """Go on with a run that was interrupted; a finished one is returned as it is.

    With other values at some keys, such as total_steps, it goes on as if it had them from now on.

    Raises:
        ConfigError: the folder is no run folder, is in use, or its data have changed.
        CheckpointError: every checkpoint is lost or damaged, and it is not told to `restart` then.
    """
    run = RunFolder(folder)
    record = run.read(listeners=True)
    amended = extended(run, changes) if changes else None
    if restart and "fork_of" in record:
        raise ConfigError(
            f"{run} is a fork: there is no step 0 that it could begin again at", "fork once more"
        )
    if run.ended and not amended:
        summary = run.summary()
        return Result(run.path, summary, int(any("failed" in row for row in summary["replicas"])))
    config = from_dict(record["config"])
    if amended:
        config = rooted(from_dict(amended["config"]), run.path, amended.get("back", "."))
    with stoppable(), run.lock(say), farewell(_leaving(run)):
        begins = _begins_again(run, restart)
        with computing(config.threads):
            for name, now in identity.surroundings(config.threads).items():
                if record.get(name) != now:
                    say(f"{name} differs: was {record.get(name)}, is {now}; the bits may differ too")
            with sound(run):
                task = prepared(config)
            _require_data(task, run, record["data_sha256"])
            listeners = listener.chosen(config, say)
            saved, spec = None if begins else _saved(run, restart), task.spec()
            if saved:
                saved = reopened(run, saved, config.total_steps)
            with sound(run):
                algo = build(config, replace(spec, most=numbers(saved)) if saved else spec)
                if saved:
                    check_replay(saved.files.get("replay", {}), spec)
            if saved is None and config.init_from:
                initialise(algo, Path(config.init_from))
            if amended:
                with deferred():
                    run.reopen(amended, run.status()["step"])
            return _finish(run, task, algo, listeners, saved)


def _require_data(task: Task, run: RunFolder, sha256: str | None) -> None:
    if task.data_sha256 != sha256:
        raise ConfigError(f"the data of {run} have changed since it began", "start a new run on them")


@contextmanager
def _claimed(run: RunFolder) -> Iterator[None]:
    """Hold the folder of a new run, which goes away again if none comes of it.

    Raises:
        ConfigError: it holds a run, another process is beginning one, or it cannot be made.
        WriteError: the disk is full, or fails.
    """
    made = [path for path in (run.path, *run.path.parents) if not os.path.lexists(path)]
    with ExitStack() as held:
        try:
            try:
                run.path.mkdir(parents=True, exist_ok=True)
                held.enter_context(run.lock(say))
            except OSError as error:
                if error.errno in FULL:
                    raise WriteError(run.path, error) from None
                raise ConfigError(
                    f"{run} cannot be made: {error.strerror}", "out=FOLDER says where runs go"
                ) from None
            if run.record.exists():
                raise ConfigError(f"{run} holds a run already: rlrun resume {run.quoted} goes on with it")
            held.enter_context(farewell(_leaving(run)))
            yield
        except BaseException:
            if made and not run.record.exists():
                shutil.rmtree(run.path, ignore_errors=True)
                with suppress(OSError):
                    for path in made[1:]:
                        path.rmdir()
            raise


def _begins_again(run: RunFolder, restart: bool) -> bool:
    """Whether there is no checkpoint, as there may not be: none had been written, or it is told to `restart`.

    Raises:
        CheckpointError: they are lost.
    """
    if checkpoint.numbers(run.checkpoints):
        return False
    status, step = run.state
    recorded = run.metrics.exists() and run.metrics.stat().st_size > 0
    if not restart and (step or (status == "unfinished" and recorded)):
        raise _lost(run, f"its checkpoints are gone: {run.checkpoints} has none")
    say("there is no checkpoint: beginning again at step 0")
    return True


def _saved(run: RunFolder, restart: bool) -> checkpoint.Checkpoint | None:
    """The newest whole checkpoint; None where none is, and it is told to `restart` then."""
    try:
        return opened(run)
    except checkpoint.CheckpointError as error:
        if not restart:
            raise _lost(run, str(error)) from None
        for note in (*str(error).splitlines(), "beginning again at step 0"):
            say(note)
        return None


def _lost(run: RunFolder, reason: str) -> checkpoint.CheckpointError:
    again = f"rlrun resume {run.quoted} --restart begins again at step 0, and drops what it recorded"
    return checkpoint.CheckpointError(f"{reason}\n{again}")


def _leaving(run: RunFolder) -> Callable[[str], str]:
    """What to do and to say where the process must leave while a run is under way."""

    def words(name: str) -> str:
        if not run.record.exists() or run.ended:
            return ""
        step = run.state[1]
        run.set_status("interrupted", step, f"stopped by {name} where it was")
        return f"; {_goes_on(run, step)}"

    return words


def _goes_on(run: RunFolder, step: int) -> str:
    return f"rlrun resume {run.quoted} goes on from step {step:,}"


def _finish(
    run: RunFolder,
    task: Task,
    algo: Algorithm,
    listeners: Mapping[str, Listener],
    saved: checkpoint.Checkpoint | None,
) -> Result:
    """Train to the end, then judge on fresh seeds and write the scores."""
    session = None
    try:
        if not saved and task.evaluation.plan is not None:
            run.write_plan(task.evaluation.plan)
        with sound(run) if saved else nullcontext():
            session = Session(task.config, run, algo, task.collector(), task.evaluation, saved, listeners)
        with deferred():
            run.set_status("running", session.saved_step)
        session.train()
        scores = task.evaluation.final(algo, session.clock.step, session.recorded)
        with deferred():  # a run that is judged has ended
            if scores.steps is not None:
                run.write_steps(scores.steps.header, scores.steps.rows)
            summary = summarise(task.evaluation.replicas, scores.results, session, algo)
            run.write_summary(summary)
            session.close(summary)
            failed = bool(session.failures)
            reasons = [*(f"replica {r}: {why}" for r, why in session.failures.items()), *summary["notes"]]
            run.set_status("failed" if failed else "finished", session.step, "; ".join(reasons))
    except BaseException as error:
        if session:
            session.abandon()
        told = _cut_short(run, error, session.saved_step if session else run.state[1])
        if told is error:
            raise
        raise told from None
    return Result(run.path, summary, int(failed))


def _cut_short(run: RunFolder, error: BaseException, step: int) -> BaseException:
    """Write down why a run did not come to its end, say so, and return what is to be raised."""
    signum = asked()
    if signum:  # whatever happened then, such as workers of an env that were stopped too, is of no interest
        stop = error if isinstance(error, Stopped) else Stopped(signum)
        if not run.ended:
            with suppress(WriteError):
                run.set_status("interrupted", step, str(stop))
            say(f"{stop}{' and saved' if step else ''}; {_goes_on(run, step)}")
        return stop
    if not run.summary_file.exists():  # else it was judged, and resume writes what is missing
        with suppress(WriteError):
            run.set_status("failed", step, str(error) if isinstance(error, WriteError) else fault(error))
    if isinstance(error, EnvError):
        return EnvError(*error.lines[:2], "; ".join([*error.lines[2:], _goes_on(run, step)]))
    if isinstance(error, Exception) and not isinstance(error, (WriteError, MemoryError, RecursionError)):
        return error  # somebody's mistake, which a traceback shows
    told = error if isinstance(error, WriteError) else f"{run} failed: {fault(error)}"
    return Failed(f"{told}; {_goes_on(run, step)}")


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
    if episodes is None and getattr(run.config().eval, "episodes", 0) > _EPISODES:
        asked = f"{folder} asks for {run.config().eval.episodes:,} episodes of every replica"
        raise ConfigError(asked, "--episodes 100 judges it on fewer")
    if episodes is not None:
        require_scores(episodes, len(run.replicas()))
    saved = Saved.of(folder)
    task, algo = restore(folder, saved)
    evaluation = task.evaluation
    step = np.full(len(evaluation.replicas), task.config.total_steps)
    purpose = "test" if seed is None else f"evaluate-{seed}"
    later = Later(episodes, purpose, lambda: training_envs(folder))
    scores = evaluation.again(algo, step, later)
    rows = replica_rows(evaluation.replicas, scores.results, saved.step, saved.failures)
    return {"run": str(folder), "replicas": rows, "aggregate": aggregate(rows, task.config.env.score_bounds)}
