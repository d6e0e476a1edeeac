"""Going on with what a run has learned: to another `total_steps`, or as a new run with other values.

Schedules over the run (epsilon, learning rates, PER's beta) follow the new total_steps from where they are.
Intervals that were fractions of the run (`log.every`, `eval.every`) stay as many steps as they were.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rlrun import registry
from rlrun.config import ConfigError
from rlrun.config.plain import changed, config_hash, from_dict, to_dict
from rlrun.config.run import RunConfig
from rlrun.core import Algorithm
from rlrun.lazy import torch
from rlrun.runs import checkpoint
from rlrun.runs.checkpoint import Checkpoint
from rlrun.runs.configuration import lineage
from rlrun.runs.folder import RunFolder
from rlrun.runs.identity import job_hash
from rlrun.runs.load import opened
from rlrun.runs.log import say
from rlrun.runs.place import rooted
from rlrun.runs.session import split

# A section ends with a dot.
RESUMED = ("total_steps", "checkpoint.")
FORKED = (
    *(*RESUMED, "algo.", "eval.", "stop.", "log.", "listener."),
    *("device", "threads", "out", "episode_limit"),
)


def extended(run: RunFolder, changes: Mapping[str, Any]) -> dict[str, Any] | None:
    """run.json of a run that is to go on with other values at some keys; None where nothing is to change.

    Raises:
        ConfigError: a key cannot change, or a value is refused.
    """
    record, before = run.read_record(), run.config()
    _require_keys(record["config"], changes, RESUMED, "when a run goes on", run)
    typed, data = _with(record, before, changes)
    moved = typed.total_steps != before.total_steps
    if moved:
        _require_unseen(run, before)
    if data == to_dict(from_dict(record["config"])) or (run.ended and not moved):
        return None
    totals = {"extended": [*record.get("extended", []), before.total_steps]} if moved else {}
    record |= {"config": data, "config_hash": config_hash(typed)} | totals
    return record | {"job_hash": job_hash(typed, record["data_sha256"], lineage(record))}


@dataclass(frozen=True)
class Start:
    """What a fork begins with."""

    config: RunConfig  # with paths that lead to files from here
    typed: RunConfig  # as run.json has it
    saved: Checkpoint
    source: RunFolder
    data_sha256: str | None
    fork_of: Mapping[str, Any]
    home: str  # what the relative paths of `typed` are relative to

    def record(self, folder: RunFolder) -> dict[str, Any]:
        """What its run.json says of where it comes from."""
        here = os.path.realpath(folder)
        source = {"run": os.path.relpath(os.path.realpath(self.source), here)} | dict(self.fork_of)
        return {
            "fork_of": source,
            "back": os.path.relpath(self.home, here),
            "config_hash": config_hash(self.typed),
            "job_hash": job_hash(self.typed, self.data_sha256, lineage({"fork_of": source})),
        }

    def require_fit(self, algo: Algorithm) -> None:
        """ConfigError unless the algorithm of the fork can have the state of its source."""
        try:
            algo.load_state(split(self.saved.files["tensors"]).get("algo", {}) | self.saved.files["replay"])
        except (ValueError, KeyError) as error:
            raise ConfigError(
                f"the state of {self.source} does not fit: {error}",
                "a fork may change what leaves every part of the state in its shape",
            ) from None


def forked(run: RunFolder, changes: Mapping[str, Any], step: int | None = None) -> Start:
    """What a new run begins with that goes on from another's newest checkpoint, or from that at a `step`.

    Raises:
        ConfigError: a key cannot change, a value is refused, there is no such checkpoint, or nothing to do.
    """
    raw, record = run.read_record(), run.read(listeners=True)
    before = from_dict(record["config"])
    _require_unseen(run, before)
    _require_keys(raw["config"], changes, FORKED, "in a fork: its state was made with that", run)
    typed, _ = _with(raw, before, changes)
    saved = opened(run) if step is None else _at(run, step)
    if typed.stop != before.stop:
        saved = _unstopped(saved)
    at = _furthest(saved)
    saved = reopened(run, saved, typed.total_steps)
    _require_active(run, saved)
    state = saved.state | {"metrics_bytes": 0, "marks": {}}  # its records begin here
    back = record.get("back", ".")
    return Start(
        rooted(typed, run.path, back),
        typed,
        replace(saved, state=state),
        run,
        record["data_sha256"],
        {"step": at, "config_hash": record.get("config_hash")},
        os.path.normpath(os.path.join(os.path.realpath(run), back)),
    )


def reopened(run: RunFolder, saved: Checkpoint, total_steps: int) -> Checkpoint:
    """The checkpoint, in which replicas go on that had come to a total_steps that is larger now.

    Raises:
        ConfigError: there are as many steps already, or the state of such a replica is gone.
    """
    before = saved.state["total_steps"]
    if total_steps == before:
        return saved
    if total_steps <= _furthest(saved):
        raise ConfigError(
            f"{run} is at step {_furthest(saved):,} already, and total_steps={total_steps} is not above that"
        )
    done = _came_to(saved, before)
    gone = np.flatnonzero(done & (np.array(saved.state["ended_at"]) != saved.state["updates"]))
    if len(gone):
        raise ConfigError(
            f"replica {gone[0]} of {run} ended before others did, and only its policy was kept",
            f"init_from={run} starts a new run from the policies; a run of one replica can go on",
        )
    saved = _with_active(saved, done)
    _require_active(run, saved)
    return saved


def _require_active(run: RunFolder, saved: Checkpoint) -> None:
    if saved.files["tensors"]["session/active"].any():
        return
    stopped, total = saved.state["stopped"], saved.state["total_steps"]
    if _came_to(saved, total).any():
        why, instead = f"total_steps={total}", "a larger one trains it further"
    elif stopped:
        why = next(iter(stopped.values()))
        instead = f"rlrun fork {run.quoted} stop.KEY=VALUE goes on by another rule"
    else:
        why, instead = next(iter(saved.state["failures"].values()), "converged"), ""
    raise ConfigError(f"{run} has come to its end ({why}): nothing is left to train", instead)


def _came_to(saved: Checkpoint, total_steps: int) -> np.ndarray:
    """Which replicas [R] ended because they had taken so many steps."""
    rows: np.ndarray = saved.files["tensors"]["session/step"].numpy() >= total_steps
    rows[[int(r) for r in (*saved.state["failures"], *saved.state["stopped"])]] = False
    return rows


def _with_active(saved: Checkpoint, rows: np.ndarray) -> Checkpoint:
    tensors = dict(saved.files["tensors"])
    for name in ("session/active", "session/running"):
        tensors[name] = tensors[name] | torch.from_numpy(rows)
    return replace(saved, files=saved.files | {"tensors": tensors})


def _unstopped(saved: Checkpoint) -> Checkpoint:
    """Replicas go on that a rule stopped with the last update; of others only policies are left."""
    stopped = saved.state["stopped"]
    rows = np.zeros(len(saved.state["ended_at"]), bool)
    last = [r for r in stopped if saved.state["ended_at"][int(r)] == saved.state["updates"]]
    rows[[int(r) for r in last]] = True
    if stopped.keys() - set(last):
        say(f"{len(stopped) - len(last)} replicas had stopped before others: they stay as they are")
    state = saved.state | {"stopped": {r: why for r, why in stopped.items() if r not in last}}
    unfinished = saved.files["tensors"]["session/step"].numpy() < saved.state["total_steps"]
    return _with_active(replace(saved, state=state), rows & unfinished)


def _furthest(saved: Checkpoint) -> int:
    return int(saved.files["tensors"]["session/step"].max())


def _at(run: RunFolder, step: int) -> Checkpoint:
    """The checkpoint of an env step."""
    steps = []
    for number in sorted(checkpoint.numbers(run.checkpoints), reverse=True):
        saved = opened(run, at=number)
        if (there := _furthest(saved)) == step:
            return saved
        steps.append(f"{there:,}")
    raise ConfigError(
        f"{run} has no checkpoint at step {step:,}: the last ones are at {' and '.join(steps) or 'none'}",
        "checkpoint.every_steps=N saves every N steps; the newest two are kept",
    )


def _with(
    record: Mapping[str, Any], before: RunConfig, changes: Mapping[str, Any]
) -> tuple[RunConfig, dict[str, Any]]:
    """The config of a run.json with other values, and its plain data."""
    pinned: dict[str, Any] = {}
    if changes.get("total_steps", before.total_steps) != before.total_steps:
        if before.log.every is None:
            pinned["log.every"] = before.log_every
        if getattr(before.eval, "every", 0) is None:
            pinned["eval.every"] = registry.entry_of(before.eval).build(before.eval, before).every
    config = from_dict(changed(record["config"], pinned | dict(changes)))
    return config, to_dict(config)


def _require_keys(
    data: Mapping[str, Any], changes: Mapping[str, Any], allowed: Sequence[str], when: str, run: RunFolder
) -> None:
    """Refuse a key that is there and may not change; one that is not there is refused as everywhere."""
    for key in changes:
        if not _among(key, allowed) and key.partition(".")[0] in (*data, "stop"):
            instead = "rlrun KEY=VALUE ... begins a run of its own"
            if _among(key, FORKED):
                instead = f"rlrun fork {run.quoted} {key}=VALUE starts a new run from where this one is"
            names = ", ".join(name + "*" * name.endswith(".") for name in allowed)
            raise ConfigError(f"{key} cannot change {when}", f"what can: {names}", instead)


def _among(key: str, allowed: Sequence[str]) -> bool:
    sections = tuple(name for name in allowed if name.endswith("."))
    return key in allowed or (key.startswith(sections) and not key.endswith(".kind"))


def _require_unseen(run: RunFolder, config: RunConfig) -> None:
    if registry.entry_of(config.eval).build.once:
        raise ConfigError(
            f"{run} is a walk-forward run, which is tested once: to go on from there, or not, would be a "
            "choice that its test has informed",
            "begin a run of another length: total_steps=N",
        )
