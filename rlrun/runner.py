"""From a config to a finished run folder, and back from a folder to what it holds."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import re
import secrets
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlrun import catalog, checkpoint, datasets, envs, registry, stats
from rlrun.collector import Collector
from rlrun.config import ConfigError, RunConfig, config_hash, from_dict, to_dict
from rlrun.core import Algorithm, Box, Dataset, Discrete, MultiDiscrete, Space, Spec, select
from rlrun.evaluate import Evaluation, Later, Replica
from rlrun.lazy import torch
from rlrun.policy import Policy

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv

SCHEMA = 1


@dataclass(frozen=True)
class Result:
    """What a run leaves: its folder, its summary, and its policies."""

    folder: Path
    summary: dict[str, Any]
    exit_code: int = 0

    def policy(self, replica: int = 0) -> Policy:
        """The trained policy of one replica."""
        return load(self.folder, replica)


@dataclass(frozen=True)
class Task:
    """A checked config with its environments: all that can be refused has been."""

    config: RunConfig
    evaluation: Evaluation
    env: VectorEnv
    obs: Space
    action: Space
    dataset: Dataset | None

    @classmethod
    def of(cls, config: RunConfig, *, learns: bool = True) -> Task:
        """Build what a run needs besides torch; nothing is written.

        A trained policy that only acts (`learns` is false) needs no data set.

        Raises:
            ConfigError: the parts of the config do not fit each other.
        """
        algo = registry.entry_of(config.algo).build
        needs = algo.needs_of(config.algo)
        label = config.choices.get("algo", registry.entry_of(config.algo).kind)
        if config.recurrent and not algo.takes_memory:
            raise ConfigError(
                f"algo={label} has no use for memory, which model={config.choices.get('model')} has",
                "use model=mlp, or an algorithm that `rlrun list algo` shows with memory",
            )
        evaluation = registry.entry_of(config.eval).build(config.eval, config)
        env = envs.make(config.env, len(evaluation.replicas) * config.num_envs)
        obs, action = envs.spaces(env)
        for what, space, kinds in (
            ("observations", obs, algo.obs_kinds),
            ("actions", action, algo.action_kinds),
        ):
            if space.kind not in kinds:
                env_label = config.choices.get("env")
                raise ConfigError(
                    f"algo={label} cannot work with {space.kind} {what}, which env={env_label} has\n"
                    f"it takes {' or '.join(kinds)} {what}; {_fitting(what, obs, action)}"
                )
        dataset = None
        if learns and "dataset" in (*needs, *algo.takes):
            dataset = registry.entry_of(config.data).build(config.data)
        if learns and "dataset" in needs and dataset is None:
            raise ConfigError(
                f"algo={label} learns from logged steps, and data={config.choices.get('data')} has none\n"
                "choose a data set: data=NAME (rlrun list data), or data=file data.path=FOLDER"
            )
        if dataset is not None:
            names = config.choices.get("data", "?"), config.choices.get("env", "?")
            datasets.check(dataset, obs, action, *names)
        if "table" in needs and getattr(env, "table", None) is None:
            raise ConfigError(
                f"algo={label} needs a known transition table, which env={config.choices.get('env')} lacks\n"
                "choose env=frozen_lake, env=cliff_walking or env=taxi"
            )
        if "dynamics" in needs and getattr(env, "dynamics", None) is None:
            raise ConfigError(
                f"algo={label} plans by known dynamics, which env={config.choices.get('env')} lacks\n"
                "choose env=pendulum or env=cartpole, or let it learn them: algo.dynamics=learned"
            )
        return cls(config, evaluation, env, obs, action, dataset)

    @property
    def data_sha256(self) -> str | None:
        """What identifies the steps that are learned from, and the series that an env plays; None without."""
        series = getattr(getattr(self.env, "data_spec", None), "sha256", None)
        steps = None if self.dataset is None else datasets.sha256(self.dataset)
        return "+".join(filter(None, (series, steps))) or None

    def spec(self) -> Spec:
        return Spec(
            self.obs,
            self.action,
            self.config.num_envs,
            self.evaluation.seeds,
            self.config.total_steps,
            self.config.device,
            self.config.dtype,
            getattr(self.env, "table", None),
            envs.dynamics(self.config.env, self.env),
            self.dataset,
        )

    def collector(self) -> Collector:
        return Collector(
            self.env,
            self.obs,
            self.action,
            self.evaluation.seeds,
            self.config.num_envs,
            reward=envs.reward_function(self.config.env, self.env),
            options=self.evaluation.training_options(self.config.num_envs),
            device=self.config.device,
            dtype=self.config.dtype,
        )


def _fitting(what: str, obs: Space, action: Space) -> str:
    """The algorithms for such spaces, by the names of their plainest recipes."""
    registry.import_builtins()
    names = [
        e.kind
        for e in registry.entries("algo")
        if obs.kind in e.build.obs_kinds and action.kind in e.build.action_kinds
    ]
    known = catalog.recipes("algo")
    plain = ", ".join(name for name in names if name in known)
    kind = obs.kind if what == "observations" else action.kind
    return f"for {kind} {what} here there are {plain or 'none'}"


def build(config: RunConfig, spec: Spec) -> Algorithm:
    """The algorithm of a config, with fresh weights."""
    torch.set_num_threads(config.threads)
    _keep_freed_memory()
    if config.device != "cpu" and not torch.cuda.is_available():
        raise ConfigError(f"device is {config.device}: this machine has no CUDA device\nuse device=cpu")
    return registry.entry_of(config.algo).build(spec, config.algo, config.model)


def _keep_freed_memory() -> None:
    """Let glibc reuse the large blocks that every update frees, not hand them back to the system.

    Without this, many replicas spend their time on page faults: thousands in one update.
    """
    import ctypes

    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(mmap_threshold, 1 << 25)  # the most that it takes
        mallopt(trim_threshold, 1 << 30)


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
        _initialise(algo, Path(config.init_from))
    folder = folder or new_folder(config)
    if (folder / "run.json").exists():
        raise ConfigError(f"{folder} holds a run already: rlrun resume {folder} goes on with it")
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder):
        _write_run(folder, task, overrides)
        _status(folder, "running", 0)
        return _finish(folder, task, algo, None, quiet)


def resume(folder: Path, *, quiet: bool = False) -> Result:
    """Go on with a run that was interrupted; a finished one is returned as it is.

    Raises:
        ConfigError: the folder is no run folder, is in use, or its data have changed.
        CheckpointError: every checkpoint is damaged.
    """
    record = read_run(folder)
    if (folder / "status.json").exists() and (folder / "summary.json").exists():
        status = json.loads(checkpoint.read_regular(folder / "status.json", 1 << 20))["status"]
        if status in ("finished", "failed"):
            summary = json.loads(checkpoint.read_regular(folder / "summary.json", 1 << 24))
            return Result(folder, summary, int(status == "failed"))
    for name, now in _environment(record["config"]["threads"]).items():
        if record[name] != now:
            print(
                f"rlrun: {name} differs: was {record[name]}, is {now}; the bits may differ too",
                file=sys.stderr,
            )
    task = Task.of(from_dict(record["config"]))
    if task.data_sha256 != record["data_sha256"]:
        raise ConfigError(f"the data of {folder} have changed since it began", "start a new run on them")
    algo = build(task.config, task.spec())
    with _lock(folder):
        saved = None
        if checkpoint.numbers(folder / "ckpt"):
            saved, notes = checkpoint.load(folder / "ckpt")
            for note in notes:
                print(f"rlrun: {note}", file=sys.stderr)
        else:
            print("rlrun: no checkpoint had been written yet: beginning again at step 0", file=sys.stderr)
            if task.config.init_from:
                _initialise(algo, Path(task.config.init_from))
        return _finish(folder, task, algo, saved, quiet)


def _finish(
    folder: Path, task: Task, algo: Algorithm, saved: checkpoint.Checkpoint | None, quiet: bool
) -> Result:
    """Train to the end, then judge on fresh seeds and write the summary."""
    from rlrun import report
    from rlrun.session import Session, Stopped

    config = task.config
    if not saved:
        task.evaluation.prepare(folder)
    collector = task.collector() if algo.rollout_steps else None
    session = Session(config, folder, algo, collector, task.evaluation, saved)
    try:
        _status(folder, "running", session.step)
        with session.stoppable():
            session.train()
            results = task.evaluation.final(algo, session.clock.step, folder, session.last)
    except Stopped as stop:
        _status(folder, "interrupted", session.step, str(stop))
        print(f"rlrun: {stop} and saved; rlrun resume {folder} goes on", file=sys.stderr)
        raise
    except Exception as error:
        _status(folder, "failed", session.step, f"{type(error).__name__}: {error}"[:300])
        raise
    finally:
        session.metrics.sync()
        session.metrics.close()
        if session.tensorboard:
            session.tensorboard.close()
    summary = summarise(task.evaluation.replicas, results, session, algo)
    checkpoint.write_atomic(folder / "summary.json", json.dumps(summary, indent=1).encode())
    failed = bool(session.failures)
    reason = "; ".join(f"replica {r}: {why}" for r, why in session.failures.items())
    if config.log.plot:
        report.curve_png(folder / "metrics.jsonl", folder / "curve.png")
    _status(folder, "failed" if failed else "finished", session.step, reason)
    policy = _draw_policy(task, algo, folder, session.failures)
    if not quiet:
        print(policy + report.results_table(summary, folder))
    return Result(folder, summary, int(failed))


def _draw_policy(task: Task, algo: Algorithm, folder: Path, failures: Collection[int]) -> str:
    """The greedy policy of the first healthy replica on the task's grid as text, and as policy.png."""
    from rlrun import grid

    table = getattr(task.env, "table", None)
    healthy = [r.index for r in task.evaluation.replicas if r.index not in failures]
    if table is None or not healthy or not hasattr(algo, "q"):
        return ""
    q = grid.values(algo, table, healthy[0])
    if task.config.log.plot:
        grid.policy_png(table, q, folder / "policy.png")
    return grid.policy_text(table, q) + "\n\n"


def summarise(
    replicas: list[Replica], results: list[dict[str, Any]], session: Any, algo: Algorithm
) -> dict[str, Any]:
    """summary.json: what was done, what it scored, and the aggregate over replicas."""
    seconds = session.seconds
    steps = session.clock.step
    acted = algo.rollout_steps > 0
    rows = []
    for replica, result in zip(replicas, results, strict=True):
        row = {
            "replica": replica.index,
            "seed": replica.seed,
            "fold": replica.fold,
            "steps": int(steps[replica.index]),
        }
        if replica.index in session.failures:
            row["failed"] = session.failures[replica.index]
            result = dict.fromkeys(result)
        rows.append(row | result)
    summary: dict[str, Any] = {
        "env_steps": int(steps.sum()) if acted else 0,
        "updates": session.clock.updates,
        "policy": "last" if session.evaluation.best is None else f"best {session.evaluation.best[0]}",
        "wall_seconds": round(seconds, 3),
        "steps_per_second": round(float(steps.sum()) / max(seconds, 1e-9), 1),
        "replicas": rows,
        "aggregate": _aggregate(rows),
    }
    return summary


def _aggregate(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Statistics over the replicas that have a score; over folds where there are any."""
    scored = [row for row in rows if row["eval_return"] is not None]
    folds = [row["fold"] for row in scored]
    return stats.aggregate([row["eval_return"] for row in scored], None if None in folds else folds)


def _status(folder: Path, status: str, step: int, reason: str = "") -> None:
    record = {"status": status, "step": step, "reason": reason}
    checkpoint.write_atomic(folder / "status.json", json.dumps(record).encode())


def new_folder(config: RunConfig) -> Path:
    """outputs/<algo>-<env>/<time>-<4 random characters>, not made yet; env=gym goes by its id."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    names = [config.choices.get(g, registry.entry_of(getattr(config, g)).kind) for g in ("algo", "env")]
    if hasattr(config.env, "id"):
        names[1] = re.sub(r"[^A-Za-z0-9._-]", "_", config.env.id)
    return Path(config.out) / "-".join(names) / f"{stamp}-{secrets.token_hex(2)}"


class _lock:
    """Holds RUN/lock while a process trains there; free at once when it dies."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "lock"

    def __enter__(self) -> None:
        self._handle = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._handle)
            raise ConfigError(f"{self._path.parent} is in use: another process is training there") from None

    def __exit__(self, *_: object) -> None:
        os.close(self._handle)


def _environment(threads: int) -> dict[str, Any]:
    """What bit-exactness depends on besides the config."""
    import gymnasium

    import rlrun

    return {
        "versions": {
            "rlrun": rlrun.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "gymnasium": gymnasium.__version__,
        },
        "threads": threads,
        "cpu": torch.backends.cpu.get_cpu_capability(),
    }


def _write_run(folder: Path, task: Task, overrides: Sequence[str]) -> None:
    import yaml

    config = to_dict(task.config)
    self_test = getattr(task.env, "self_test", None)  # native envs are exact by construction
    inexact = self_test() if self_test else None
    if inexact:
        print(f"rlrun: a resume of this run would not be exact: {inexact}", file=sys.stderr)
    record = {
        "schema": SCHEMA,
        "config": config,
        "config_hash": config_hash(task.config),
        **_environment(task.config.threads),
        "obs": _space_dict(task.obs),
        "action": _space_dict(task.action),
        "data_sha256": task.data_sha256,
        "exact_resume": inexact is None,
        "R": len(task.evaluation.replicas),
        "replicas": [{"replica": r.index, "seed": r.seed, "fold": r.fold} for r in task.evaluation.replicas],
    }
    checkpoint.write_atomic(folder / "run.json", json.dumps(record, indent=1).encode())
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (folder / "overrides.yaml").write_text(yaml.safe_dump(list(overrides)))


def read_run(folder: Path) -> dict[str, Any]:
    """run.json, checked.

    Raises:
        ConfigError: there is none, or it is not what rlrun writes.
    """
    path = folder / "run.json"
    try:
        record = json.loads(checkpoint.read_regular(path, 1 << 24))
        if record["schema"] > SCHEMA:
            raise ConfigError(
                f"{path} was written by a newer rlrun (schema {record['schema']}; this one knows {SCHEMA})"
            )
        from_dict(record["config"])
        _space(record["obs"]), _space(record["action"])
        [Replica(int(r["replica"]), int(r["seed"]), r["fold"]) for r in record["replicas"]]
    except FileNotFoundError:
        raise ConfigError(f"{folder} is not a run folder: it has no run.json") from None
    except (ValueError, KeyError, TypeError, OSError, RecursionError) as error:
        raise ConfigError(f"{path} is damaged: {error}") from None
    return record


def _space_dict(space: Space) -> dict[str, Any]:
    return {"kind": space.kind} | {
        k: [_bound(x) for x in v] if k in ("low", "high") else v for k, v in asdict(space).items()
    }


def _bound(value: float) -> float | None:
    return value if np.isfinite(value) else None  # JSON has no infinity


def _space(record: dict[str, Any]) -> Space:
    if record["kind"] == "discrete":
        return Discrete(int(record["n"]))
    if record["kind"] == "multi_discrete":
        return MultiDiscrete(tuple(int(n) for n in record["nvec"]))
    low, high = (
        tuple(fill if x is None else float(x) for x in record[name])
        for name, fill in (("low", -np.inf), ("high", np.inf))
    )
    return Box(tuple(int(n) for n in record["shape"]), low, high, str(record["dtype"]))


def _saved_policies(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """run.json and the policy leaves [R, ...] that a run ended with, best ones where it chose."""
    from rlrun.session import split

    record = read_run(folder)
    saved, notes = checkpoint.load(folder / "ckpt", only="tensors")
    for note in notes:
        print(f"rlrun: {note}", file=sys.stderr)
    parts = split(saved.files["tensors"])
    state = parts["algo"]
    for name, kept in parts.get("kept", {}).items():
        rows = parts["session"]["has_kept"]
        state[name][rows] = kept[rows]
    return record, state


def _load_policies(algo: Algorithm, state: dict[str, Any]) -> None:
    from rlrun.session import POLICY

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
        _space(record["obs"]), _space(record["action"]), 1, (seed,), config.total_steps, "cpu", config.dtype
    )
    algo = build(replace(config, device="cpu"), _with_capabilities(spec, config))
    _load_policies(algo, select(state, replica))
    judged: str = getattr(config.eval, "mode", "greedy")
    return Policy(algo, spec, config.total_steps, mode or judged)


def _with_capabilities(spec: Spec, config: RunConfig) -> Spec:
    """Algorithms that are built from a table or dynamics get them again."""
    needs = registry.entry_of(config.algo).build.needs_of(config.algo)
    if "table" in needs:
        spec = replace(spec, table=getattr(envs.make(config.env, 1), "table", None))
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
    from rlrun.session import split

    record = read_run(folder)
    config = from_dict(record["config"])
    state = split(checkpoint.load(folder / "ckpt", only="tensors")[0].files["tensors"])["collector"]
    if replica is not None:
        seed = int(record["replicas"][replica]["seed"])
        config, state = replace(config, seed=seed, replicas=1, device="cpu"), select(state, replica)
    collector = Task.of(config).collector()
    collector.load_state(state)
    return collector


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
    return {"run": str(folder), "replicas": rows, "aggregate": _aggregate(rows)}


def _initialise(algo: Algorithm, source: Path) -> None:
    """Start from another run's trained policies, replica r from its replica r modulo R."""
    from rlrun.session import POLICY

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
