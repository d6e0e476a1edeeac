"""Back from a run folder to what it holds: policies, algorithms, training environments."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rlrun import envs, registry
from rlrun.collector import Collector
from rlrun.config import ConfigError
from rlrun.config.plain import from_dict
from rlrun.config.run import RunConfig
from rlrun.core import Algorithm, Spec
from rlrun.lazy import torch
from rlrun.runs import checkpoint
from rlrun.runs.folder import RunFolder
from rlrun.runs.kept import POLICY, chosen
from rlrun.runs.log import say
from rlrun.runs.policy import Policy
from rlrun.runs.session import split
from rlrun.runs.spaces import from_dict as space_from_dict
from rlrun.runs.task import Task, build
from rlrun.state import State, select


@dataclass(frozen=True)
class Saved:
    """How far a run has come: what is left of it, [R, ...]."""

    record: dict[str, Any]  # run.json
    state: State  # with the policies that count: the best where it chose, the last finite where one failed
    step: np.ndarray
    failures: dict[int, str]  # why, of the replicas that failed

    @classmethod
    def of(cls, folder: Path) -> Saved:
        """That of the newest whole checkpoint.

        Raises:
            CheckpointError: there is none.
        """
        record = RunFolder(folder).read()
        saved, notes = checkpoint.load(RunFolder(folder).checkpoints, only="tensors")
        for note in notes:
            say(note)
        parts = split(saved.files["tensors"])
        state, session = parts["algo"], parts["session"]
        state |= chosen(state, parts.get("kept", {}), session["has_kept"].numpy())
        failures = {int(replica): why for replica, why in saved.state["failures"].items()}
        return cls(record, state, session["step"].numpy(), failures)

    def warn(self, replica: int) -> None:
        """Say that a replica failed, where its policy is about to be used."""
        if replica in self.failures:
            say(f"replica {replica} failed ({self.failures[replica]}): this is its last finite policy")


def _load_policies(algo: Algorithm, state: dict[str, Any]) -> None:
    names = algo.state(POLICY).keys()
    algo.load_state({name: value for name, value in state.items() if name in names}, POLICY)


def load(run_folder: str | Path, replica: int = 0, mode: str | None = None) -> Policy:
    """The policy of one replica of a run folder; needs neither environment nor data.

    `mode` says how it acts, "greedy" or "sample"; by default as the run was judged. Of a replica
    that failed it is the last finite one, with a word on stderr.
    """
    saved = Saved.of(Path(run_folder))
    record = saved.record
    if not 0 <= replica < len(record["replicas"]):
        raise ConfigError(f"replica is {replica}: {run_folder} has 0 to {len(record['replicas']) - 1}")
    config = from_dict(record["config"])
    seed = int(record["replicas"][replica]["seed"])
    spec = Spec(
        space_from_dict(record["obs"]),
        space_from_dict(record["action"]),
        1,
        (seed,),
        config.total_steps,
        "cpu",
        config.dtype,
        masks=bool(record.get("masks", False)),
    )
    algo = build(replace(config, device="cpu"), _with_capabilities(spec, config))
    _load_policies(algo, select(saved.state, replica))
    saved.warn(replica)
    judged: str = getattr(config.eval, "mode", "greedy")
    return Policy(algo, spec, config.total_steps, mode or judged)


def _with_capabilities(spec: Spec, config: RunConfig) -> Spec:
    """Algorithms that are built from a table or dynamics get them again."""
    needs = registry.entry_of(config.algo).build.needs_of(config.algo)
    if "table" in needs:
        spec = replace(spec, table=envs.abilities(envs.make(config.env, 1)).table)
    if "dynamics" in needs:
        spec = replace(spec, dynamics=envs.dynamics(config.env, envs.make(config.env, 1)))
    return spec


def restore(folder: Path, saved: Saved | None = None) -> tuple[Task, Algorithm]:
    """A run folder's task and its trained algorithm, all replicas."""
    saved = saved or Saved.of(folder)
    task = Task.of(from_dict(saved.record["config"]), learns=False)
    algo = build(task.config, task.spec())
    _load_policies(algo, saved.state)
    return task, algo


def training_envs(folder: Path, replica: int | None = None) -> Collector:
    """The training environments as a run left them: those of all replicas, or of one alone."""
    record = RunFolder(folder).read()
    config = from_dict(record["config"])
    state = split(checkpoint.load(RunFolder(folder).checkpoints, only="tensors")[0].files["tensors"])[
        "collector"
    ]
    if replica is not None:
        seed = int(record["replicas"][replica]["seed"])
        config, state = replace(config, seed=seed, replicas=1, device="cpu"), select(state, replica)
    collector = Task.of(config).collector()
    collector.load_state(state)
    return collector


def initialise(algo: Algorithm, source: Path) -> None:
    """Start from another run's trained policies, replica r from its replica r modulo R."""
    now = algo.state(POLICY)
    try:
        saved = Saved.of(source)
        state = saved.state
        for replica in saved.failures:
            saved.warn(replica)
        rows = {name: torch.arange(len(leaf)) % len(state[name]) for name, leaf in now.items()}
        algo.load_state({name: state[name][rows[name]] for name in now}, POLICY)
    except checkpoint.CheckpointError as error:
        raise ConfigError(f"init_from={source} cannot be used: {error}") from None
    except ConfigError:
        raise
    except (KeyError, ValueError) as error:
        raise ConfigError(f"init_from={source}: its network is not this one's: {error}") from None
