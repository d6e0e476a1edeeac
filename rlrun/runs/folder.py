"""One run folder: every file name in it, its status, its lock and its record."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import re
import secrets
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from rlrun import registry
from rlrun.config import ConfigError
from rlrun.config.plain import config_hash, from_dict, to_dict
from rlrun.config.run import RunConfig
from rlrun.evals.evaluation import Replica
from rlrun.files import read_regular, write_atomic
from rlrun.lazy import torch
from rlrun.runs.task import Task
from rlrun.spaces import Box, Discrete, MultiDiscrete, Space

SCHEMA = 1


def write_status(folder: Path, status: str, step: int, reason: str = "") -> None:
    record = {"status": status, "step": step, "reason": reason}
    write_atomic(folder / "status.json", json.dumps(record).encode())


def new_folder(config: RunConfig) -> Path:
    """outputs/<algo>-<env>/<time>-<4 random characters>, not made yet; env=gym goes by its id."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    names = [config.choices.get(g, registry.entry_of(getattr(config, g)).kind) for g in ("algo", "env")]
    if hasattr(config.env, "id"):
        names[1] = re.sub(r"[^A-Za-z0-9._-]", "_", config.env.id)
    return Path(config.out) / "-".join(names) / f"{stamp}-{secrets.token_hex(2)}"


class lock:
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


def environment(threads: int) -> dict[str, Any]:
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


def write_run(folder: Path, task: Task, overrides: Sequence[str]) -> None:
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
        **environment(task.config.threads),
        "obs": space_dict(task.obs),
        "action": space_dict(task.action),
        "data_sha256": task.data_sha256,
        "exact_resume": inexact is None,
        "R": len(task.evaluation.replicas),
        "replicas": [{"replica": r.index, "seed": r.seed, "fold": r.fold} for r in task.evaluation.replicas],
    }
    write_atomic(folder / "run.json", json.dumps(record, indent=1).encode())
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (folder / "overrides.yaml").write_text(yaml.safe_dump(list(overrides)))


def read_run(folder: Path) -> dict[str, Any]:
    """run.json, checked.

    Raises:
        ConfigError: there is none, or it is not what rlrun writes.
    """
    path = folder / "run.json"
    try:
        record = json.loads(read_regular(path, 1 << 24))
        if record["schema"] > SCHEMA:
            raise ConfigError(
                f"{path} was written by a newer rlrun (schema {record['schema']}; this one knows {SCHEMA})"
            )
        from_dict(record["config"])
        space_of(record["obs"]), space_of(record["action"])
        [Replica(int(r["replica"]), int(r["seed"]), r["fold"]) for r in record["replicas"]]
    except FileNotFoundError:
        raise ConfigError(f"{folder} is not a run folder: it has no run.json") from None
    except (ValueError, KeyError, TypeError, OSError, RecursionError) as error:
        raise ConfigError(f"{path} is damaged: {error}") from None
    return record


def space_dict(space: Space) -> dict[str, Any]:
    return {"kind": space.kind} | {
        k: [_bound(x) for x in v] if k in ("low", "high") else v for k, v in asdict(space).items()
    }


def _bound(value: float) -> float | None:
    return value if np.isfinite(value) else None  # JSON has no infinity


def space_of(record: dict[str, Any]) -> Space:
    if record["kind"] == "discrete":
        return Discrete(int(record["n"]))
    if record["kind"] == "multi_discrete":
        return MultiDiscrete(tuple(int(n) for n in record["nvec"]))
    low, high = (
        tuple(fill if x is None else float(x) for x in record[name])
        for name, fill in (("low", -np.inf), ("high", np.inf))
    )
    return Box(tuple(int(n) for n in record["shape"]), low, high, str(record["dtype"]))
