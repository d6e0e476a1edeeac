"""Back from a run folder to what it holds: policies, algorithms, training environments."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from rlrun import envs, registry
from rlrun.collector import Collector
from rlrun.config import ConfigError
from rlrun.config.plain import from_dict
from rlrun.config.run import RunConfig
from rlrun.core import Algorithm, Spec
from rlrun.lazy import torch
from rlrun.runs import checkpoint
from rlrun.runs.folder import RunFolder
from rlrun.runs.log import say
from rlrun.runs.policy import Policy
from rlrun.runs.session import POLICY, split
from rlrun.runs.spaces import from_dict as space_from_dict
from rlrun.runs.task import Task, build
from rlrun.state import select


def _saved_policies(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """run.json and the policy leaves [R, ...] that a run ended with, best ones where it chose."""
    record = RunFolder(folder).read()
    saved, notes = checkpoint.load(RunFolder(folder).checkpoints, only="tensors")
    for note in notes:
        say(note)
    parts = split(saved.files["tensors"])
    state = parts["algo"]
    for name, kept in parts.get("kept", {}).items():
        rows = parts["session"]["has_kept"]
        state[name][rows] = kept[rows]
    return record, state


def _load_policies(algo: Algorithm, state: dict[str, Any]) -> None:
    names = algo.state(POLICY).keys()
    algo.load_state({name: value for name, value in state.items() if name in names}, POLICY)


def load(run_folder: str | Path, replica: int = 0, mode: str | None = None) -> Policy:
    """The policy of one replica of a run folder; needs neither environment nor data.

    `mode` says how it acts, "greedy" or "sample"; by default as the run was judged.
    """
    record, state = _saved_policies(Path(run_folder))
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
    )
    algo = build(replace(config, device="cpu"), _with_capabilities(spec, config))
    _load_policies(algo, select(state, replica))
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


def restore(folder: Path) -> tuple[Task, Algorithm]:
    """A run folder's task and its trained algorithm, all replicas."""
    record, state = _saved_policies(folder)
    task = Task.of(from_dict(record["config"]), learns=False)
    algo = build(task.config, task.spec())
    _load_policies(algo, state)
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
        _, state = _saved_policies(source)
        rows = {name: torch.arange(len(leaf)) % len(state[name]) for name, leaf in now.items()}
        algo.load_state({name: state[name][rows[name]] for name in now}, POLICY)
    except checkpoint.CheckpointError as error:
        raise ConfigError(f"init_from={source} cannot be used: {error}") from None
    except ConfigError:
        raise
    except (KeyError, ValueError) as error:
        raise ConfigError(f"init_from={source}: its network is not this one's: {error}") from None
