"""Back from a run folder to what it holds: policies, algorithms, training environments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlrun import envs, registry
from rlrun.collector import Collector
from rlrun.config import ConfigError
from rlrun.config.plain import from_dict
from rlrun.config.run import RunConfig
from rlrun.core import MASKS, Algorithm, Spec
from rlrun.lazy import torch
from rlrun.runs import checkpoint
from rlrun.runs.checkpoint import Checkpoint
from rlrun.runs.folder import RunFolder, sound
from rlrun.runs.kept import POLICY, chosen
from rlrun.runs.log import say
from rlrun.runs.policy import Policy
from rlrun.runs.session import split
from rlrun.runs.shape import STATE, shaped
from rlrun.runs.spaces import from_dict as space_from_dict
from rlrun.runs.task import Task, build
from rlrun.spaces import Box, MultiDiscrete, Space
from rlrun.state import State, copy_leaves, select

if TYPE_CHECKING:
    from torch import Tensor


def opened(run: RunFolder, only: str | None = None, at: int | None = None) -> Checkpoint:
    """The newest whole checkpoint of a run, held against run.json; a line on stderr for each that is damaged.

    `only` names the one file of tensors that is wanted, `at` the number of another checkpoint.

    Raises:
        ConfigError: there is none, or it is not what rlrun writes.
    """
    record = run.read()
    replicas = len(record["replicas"])
    saved, notes = checkpoint.load(run.checkpoints, only, at)
    for note in notes:
        say(note)
    with sound(run.checkpoints):
        shaped(saved.state, STATE)
        for name, leaf in (pair for file in saved.files.values() for pair in file.items()):
            if not leaf.ndim or len(leaf) != replicas:
                raise ValueError(f"{name} is {list(leaf.shape)}: it must begin with {replicas} replicas")
            if name.startswith("last/") and (leaf.ndim > 1 or leaf.dtype != torch.float64):
                raise ValueError(f"{name} is {leaf.dtype} {list(leaf.shape)}: it must be numbers of replicas")
        session = {name: leaf for name, leaf in saved.files.get("tensors", {}).items() if name in _SESSION}
        if "tensors" in saved.files:
            example = {
                name: torch.zeros(replicas, dtype=getattr(torch, kind)) for name, kind in _SESSION.items()
            }
            copy_leaves(example, session, "session")
        if len(saved.state.get("ended_at", record["replicas"])) != replicas:
            raise ValueError(f"its ended_at is not of {replicas} replicas")
        if not {*saved.state["failures"], *saved.state.get("stopped", ())} <= set(map(str, range(replicas))):
            raise ValueError("it tells of replicas that are not there")
        if min(saved.state["metrics_bytes"], saved.state["updates"], 0) < 0:
            raise ValueError("its state counts backwards")
        return replace(saved, state=_of_old(saved, record) | saved.state)


def _of_old(saved: Checkpoint, record: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint's state did not have at first."""
    total = [*record.get("extended", []), record["config"]["total_steps"]][0]
    step = saved.files.get("tensors", {}).get("session/step")
    together = step is not None and bool((step == step[0]).all())
    ended_at = [saved.state["updates"] if together else 0] * len(record["replicas"])
    return {"total_steps": total, "stopped": {}, "ended_at": ended_at}


_SESSION = {
    f"session/{name}": kind
    for kind, names in {
        "int64": ("logged", "evaluated", "step"),
        "float64": ("best",),
        "bool": ("running", "active", "has_kept"),
    }.items()
    for name in names
}


def numbers(saved: Checkpoint) -> int:
    """How many of a replica are in a checkpoint: no network that belongs there has more."""
    return sum(leaf[0].numel() for leaf in saved.files["tensors"].values())


def check_replay(leaves: Mapping[str, Tensor], spec: Spec) -> None:
    """ValueError where the steps of a replay buffer [R, rows, N, ...] are not of the task's spaces."""
    for name, leaf in leaves.items():
        field = name.rpartition("replay.")[2]
        space = {"obs": spec.obs, "next_obs": spec.obs, "action": spec.action}.get(field)
        if space is not None:
            kind = spec.dtype if space.dtype.startswith("float") else space.dtype
            wanted = kind, list(space.shape)
        elif field in ("reward", "terminated", "truncated", "first", "valid"):
            wanted = spec.dtype if field == "reward" else "bool", []
        elif field in MASKS:
            wanted = "bool", [sum(spec.action.choices)]
        else:
            continue
        if (str(leaf.dtype).removeprefix("torch."), list(leaf.shape[3:])) != wanted:
            raise ValueError(
                f"{name} is {leaf.dtype} {list(leaf.shape)}: it must be of {wanted[0]} {wanted[1]}"
            )
        if space is not None and not isinstance(space, Box):
            limit = torch.tensor(space.nvec if isinstance(space, MultiDiscrete) else space.n)
            if ((leaf < 0) | (leaf >= limit)).any():
                raise ValueError(f"{name} has values that are not in the task's space")


@dataclass(frozen=True)
class Saved:
    """How far a run has come: what is left of it, [R, ...]."""

    record: dict[str, Any]  # run.json
    state: State  # with the policies that count: the best where it chose, the last finite where one failed
    step: np.ndarray
    failures: dict[int, str]  # why, of the replicas that failed
    most: int  # numbers of a replica
    scaling: np.ndarray | None = None  # by which observations are standardised, [R, 2, F]

    @classmethod
    def of(cls, folder: Path) -> Saved:
        """That of the newest whole checkpoint.

        Raises:
            ConfigError: there is none, or it is damaged.
        """
        run = RunFolder(folder)
        saved = opened(run, only="tensors")
        with sound(run.checkpoints):
            parts = split(saved.files["tensors"])
            state, session = parts.get("algo", {}), parts["session"]
            state |= chosen(state, parts.get("kept", {}), session["has_kept"].numpy())
            failures = {int(replica): why for replica, why in saved.state["failures"].items()}
            scaling = parts.get("normalizer", {}).get("scaling")
            return cls(
                run.read(),
                state,
                session["step"].numpy(),
                failures,
                numbers(saved),
                None if scaling is None else _scaling(scaling, run.spaces()[0]),
            )

    def warn(self, replica: int) -> None:
        """Say that a replica failed, where its policy is about to be used."""
        if replica in self.failures:
            say(f"replica {replica} failed ({self.failures[replica]}): this is its last finite policy")


def _scaling(leaf: Tensor, obs: Space) -> np.ndarray:
    """ValueError where it is none for such observations."""
    if leaf.dtype != torch.float64 or leaf.shape[1:] != (2, *obs.shape) or leaf[:, 0].isinf().any():
        raise ValueError(f"scaling is {leaf.dtype} {list(leaf.shape)}, and not for observations {obs.shape}")
    if leaf.isnan().any() or not (leaf[:, 1] > 0).all():
        raise ValueError("scaling holds what is no mean or deviation")
    return leaf.numpy()


def _load_policies(algo: Algorithm, state: dict[str, Any]) -> None:
    names = algo.state(POLICY).keys()
    policies = {name: value for name, value in state.items() if name in names}
    algo.load_state(policies, POLICY)
    if unsound := [name for name, value in policies.items() if value.isnan().any()]:
        raise ValueError(f"{unsound[0]} holds what is no number")


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
        most=saved.most,
    )
    with sound(run_folder):
        algo = build(replace(config, device="cpu"), _with_capabilities(spec, config, RunFolder(run_folder)))
        _load_policies(algo, select(saved.state, replica))
    saved.warn(replica)
    judged: str = getattr(config.eval, "mode", "greedy")
    scaling = None if saved.scaling is None else saved.scaling[replica]
    return Policy(algo, spec, config.total_steps, mode or judged, scaling)


def _with_capabilities(spec: Spec, config: RunConfig, run: RunFolder) -> Spec:
    """Algorithms that are built from a table or dynamics get them again."""
    needs = registry.entry_of(config.algo).build.needs_of(config.algo)
    if needs and (names := run.imports()[1]):
        raise ConfigError(
            f"{run} asks to import {', '.join(names)}", "if you trust that code, import it first"
        )
    if "table" in needs:
        spec = replace(spec, table=envs.abilities(envs.make(config.env, 1)).table)
    if "dynamics" in needs:
        spec = replace(spec, dynamics=envs.dynamics(config.env, envs.make(config.env, 1)))
    return spec


def restore(folder: Path, saved: Saved | None = None) -> tuple[Task, Algorithm]:
    """A run folder's task and its trained algorithm, all replicas."""
    saved = saved or Saved.of(folder)
    config = replace(from_dict(saved.record["config"]), num_envs=1)  # those of training are not needed
    with sound(folder):
        task = Task.of(config, learns=False)
        algo = build(task.config, replace(task.spec(), most=saved.most))
        _load_policies(algo, saved.state)
    return task, algo


def training_envs(folder: Path, replica: int | None = None) -> Collector:
    """The training environments as a run left them: those of all replicas, or of one alone."""
    run = RunFolder(folder)
    record = run.read()
    config = from_dict(record["config"])
    saved = opened(run, only="tensors")
    with sound(folder):
        state = split(saved.files["tensors"]).get("collector", {})
        if replica is not None:
            seed = int(record["replicas"][replica]["seed"])
            config, state = replace(config, seed=seed, replicas=1, device="cpu"), select(state, replica)
        collector = Task.of(config).collector()
        collector.load_state(state)
    return collector


def source_of(path: str | Path) -> Saved:
    """What `init_from` names; ConfigError where it cannot be used."""
    try:
        return Saved.of(Path(path))
    except checkpoint.CheckpointError as error:
        raise ConfigError(f"init_from={path} cannot be used: {error}") from None


def initialise(algo: Algorithm, source: Path) -> None:
    """Start from another run's trained policies, replica r from its replica r modulo R."""
    now = algo.state(POLICY)
    saved = source_of(source)
    try:
        state = saved.state
        for replica in saved.failures:
            saved.warn(replica)
        rows = {name: torch.arange(len(leaf)) % len(state[name]) for name, leaf in now.items()}
        algo.load_state({name: state[name][rows[name]].to(leaf.dtype) for name, leaf in now.items()}, POLICY)
    except checkpoint.CheckpointError as error:
        raise ConfigError(f"init_from={source} cannot be used: {error}") from None
    except ConfigError:
        raise
    except (KeyError, ValueError) as error:
        raise ConfigError(f"init_from={source}: its network is not this one's: {error}") from None
