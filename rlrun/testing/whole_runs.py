"""What algorithms promise of whole runs: their ends, resumed ones, and those with a NaN in them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from rlrun.config import ConfigError
from rlrun.config.run import RunConfig
from rlrun.registry import entry_of
from rlrun.runs import checkpoint
from rlrun.runs.folder import RunFolder
from rlrun.runs.load import restore
from rlrun.runs.run import execute
from rlrun.state import State, select
from rlrun.testing.rules import ALGORITHMS, require
from rlrun.testing.trial import (
    Subject,
    Trial,
    assert_close,
    assert_same_bits,
    episodes,
    final_state,
    folder,
    lifetime,
    poison,
    session,
    train_until,
)


@ALGORITHMS.of(1, lambda subject: subject.plays_whole_episodes)
def a_replica_that_ends_early_keeps_its_policy(subject: Subject) -> None:
    """Later updates, made for the others, change neither what is judged nor what is loaded."""
    config = subject.config(replicas=3, dtype="float64", total_steps=700)
    with folder() as path:
        execute(config, folder=path / "batch")
        saved, _ = checkpoint.load(RunFolder(path / "batch").checkpoints)
        require(saved.files["tensors"]["session/has_kept"].any(), "no replica ended early")
        batch = restore(path / "batch")[1].state(("weights", "normalizer"))
        for r in range(3):
            execute(replace(config, seed=config.seed + r, replicas=1), folder=path / f"{r}")
            assert_close(select(batch, r), restore(path / f"{r}")[1].state(("weights", "normalizer")))


@ALGORITHMS.of(6)
def resume_is_uninterrupted(subject: Subject) -> None:
    """Stop after 37 updates, restore into new objects, go on: final state and metrics, byte for byte."""
    config = subject.config(replicas=2)
    updates = lifetime(config, 60)
    stop = 37 if updates == 60 else updates // 2
    config = replace(config, total_steps=_steps(config, updates))
    if hasattr(config.eval, "every"):
        config = replace(config, eval=replace(config.eval, every=max(config.total_steps // 5, 1)))
    # Rarely recorded, so that much is pending when it stops.
    config = replace(config, log=replace(config.log, every=max(config.total_steps // 4, 1)))
    with folder() as path:
        whole, part = session(config, path / "whole"), session(config, path / "part")
        train_until(whole)
        train_until(part, stop)
        require(part.clock.active.any(), f"it ended before {stop} updates")
        saved, notes = checkpoint.load(RunFolder(path / "part").checkpoints)
        require(not notes, str(notes))
        rest = session(config, path / "part", saved)
        train_until(rest)
        require(rest.clock.updates == whole.clock.updates, "a resumed run makes another number of updates")
        newest = f"{whole.clock.updates:08d}"
        for name in (f"{newest}/tensors.safetensors", f"{newest}/replay.safetensors"):
            one, other = (
                (RunFolder(path / run).checkpoints / name).read_bytes() for run in ("whole", "part")
            )
            require(one == other, f"{name} of a resumed run has other bytes")
        one, other = (RunFolder(path / run).metrics.read_bytes() for run in ("whole", "part"))
        require(one == other and one, "a resumed run records other metrics")


def _steps(config: RunConfig, updates: int) -> int:
    """total_steps that make a run of about `updates` updates."""
    if not entry_of(config.algo).build.rollout_steps:
        return updates
    trial = Trial.of(config)
    made = updates if trial.algo.whole_episodes else 1  # else every update has as many steps
    trial.train(made)
    return int(trial.clock.step.max()) * updates // made


@ALGORITHMS.of(7)
def judging_more_often_changes_no_bit(subject: Subject) -> None:
    states = []
    for every in (40, 1_000_000):
        with folder() as path:
            run = session(subject.config(eval=episodes(episodes=2, during=2, every=every)), path / "run")
            train_until(run, 40)
            saved, _ = checkpoint.load(RunFolder(path / "run").checkpoints)
        trained = {k: v for k, v in saved.files["tensors"].items() if k.startswith(("algo/", "collector/"))}
        states.append(trained | saved.files["replay"])
    one, other = states
    assert_same_bits(one, other)


@ALGORITHMS.of(9)
def nan_weights_stay_in_their_replica(subject: Subject) -> None:
    _nan_stays(subject, "weights")


@ALGORITHMS.of(9, lambda subject: subject.acts)
def nan_rewards_stay_in_their_replica(subject: Subject) -> None:
    _nan_stays(subject, "rewards")


def _nan_stays(subject: Subject, what: str) -> None:
    """The others are bit-identical to a run without it; the failed one is named, and the run exits with 1.

    Where a rollout is as long as the longest replica's episode, its length changes with the
    failed one, and so does the rounding of the others' sums: there the policies that they end
    with are equal to 1e-6.
    """
    config = subject.config(replicas=3, dtype="float64")
    updates = lifetime(config, 40)
    config = replace(config, total_steps=_steps(config, updates))
    said = StringIO()
    with folder() as path:
        one, other = path / "clean", path / "failed"
        clean = execute(config, folder=one)
        require(clean.exit_code == 0, "a run without a NaN fails")
        with _poisoned(subject.kind, what, min(15, updates // 2)), redirect_stderr(said):
            failed = execute(config, folder=other)
        rows = failed.summary["replicas"]
        require(
            ["failed" in row for row in rows] == [False, True, False] and failed.exit_code == 1,
            (f"NaN {what} of replica 1 are not noticed there, or noticed elsewhere: " + json.dumps(rows)),
        )
        named = f"replica 1 (seed={config.seed + 1}) failed"
        require(named in said.getvalue(), f"{named!r} was not said")
        _same_others(subject, one, other)
        for row in (0, 2):
            require(clean.summary["replicas"][row] == rows[row], f"replica {row} scores differently")
        if what == "rewards":
            for name, leaf in restore(other)[1].state(("weights", "normalizer")).items():
                require(
                    leaf[1].double().isfinite().all(), f"{name}, of the policy that failed, is not finite"
                )


def _same_others(subject: Subject, clean: Path, failed: Path) -> None:
    if subject.kind.whole_episodes:
        try:
            one, other = (restore(path)[1].state(("weights", "normalizer")) for path in (clean, failed))
        except ConfigError as error:  # the policy that was kept is no policy
            raise AssertionError(str(error)) from None
        assert_close(*({k: v[[0, 2]] for k, v in state.items()} for state in (one, other)))
    else:
        apart = ("tensors/kept", "tensors/means")  # what the trainer keeps because a replica ended early
        one, other = (
            {name: leaf for name, leaf in final_state(path).items() if not name.startswith(apart)}
            for path in (clean, failed)
        )
        assert_same_bits(one, other, rows=[0, 2])


@contextmanager
def _poisoned(kind: Any, what: str, when: int) -> Iterator[None]:
    """Within it, replica 1 meets NaN: once in its weights, or from the 15th update on in its rewards."""
    own, update, count = vars(kind).get("update"), kind.update, 0

    def poisoned(self: Any, rollout: Any, *, step: np.ndarray) -> State:
        nonlocal count
        count += 1
        if count >= 15 and what == "rewards":
            rollout = poison(rollout, 1)
        if count == when and what == "weights":
            for leaf in self.state(("weights",)).values():
                if leaf.is_floating_point():
                    leaf[1] = float("nan")
        return update(self, rollout, step=step)

    kind.update = poisoned
    try:
        yield
    finally:
        if own is None:
            del kind.update
        else:
            kind.update = own
