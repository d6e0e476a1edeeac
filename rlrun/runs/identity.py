"""What a run is, as run.json records it: what its bits depend on, and which job it does."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from rlrun.config.plain import config_hash, to_dict
from rlrun.config.run import RunConfig
from rlrun.envs.abilities import abilities
from rlrun.lazy import torch
from rlrun.runs import imports
from rlrun.runs.log import say
from rlrun.runs.spaces import to_dict as space_to_dict
from rlrun.runs.task import Task

_NOT_THE_JOB = ("log", "listener", "checkpoint", "out", "threads", "choices", "eval")


def record_of(task: Task) -> dict[str, Any]:
    """run.json without its schema and config; says so where a resume would not be exact."""
    tried = task.tried
    for remark in (*tried.remarks, *task.evaluation.remarks):
        say(remark)
    if abilities(task.env).masks and not task.masks:
        say("this algorithm takes no action masks: those of the environment are not looked at")
    if tried.inexact:
        say(f"a resume of this run would not be exact: {tried.inexact}")
    return {
        "config_hash": config_hash(task.config),
        "job_hash": job_hash(task.config, task.data_sha256),
        **surroundings(task.config.threads),
        "obs": space_to_dict(task.obs),
        "action": space_to_dict(task.action),
        "masks": task.masks,
        "data_sha256": task.data_sha256,
        "modules": imports.recorded(to_dict(task.config)),
        "exact_resume": tried.inexact is None,
        "R": len(task.evaluation.replicas),
        "replicas": [replica.row for replica in task.evaluation.replicas],
    }


def surroundings(threads: int) -> dict[str, Any]:
    """What bit-exactness depends on besides the config."""
    return {
        "versions": {
            "rlrun": version(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "gymnasium": metadata.version("gymnasium"),
        },
        "threads": threads,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "source": source(),
    }


def version() -> str:
    """The installed version of rlrun."""
    try:
        return metadata.version("rlrun")
    except metadata.PackageNotFoundError:  # sources that were never installed
        return "unknown"


@cache
def source() -> str:
    """SHA-256 of rlrun's own Python files: a changed checkout is told, not redone."""
    digest, package = hashlib.sha256(), Path(__file__).parents[1]
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package)} ".encode() + path.read_bytes())
    return digest.hexdigest()


def job_hash(
    config: RunConfig, data_sha256: str | None, lineage: Mapping[str, Any] = MappingProxyType({})
) -> str:
    """SHA-256 of what decides a run's policies: two runs of one job need not both be trained.

    The config without what only watches or places the run (of the evaluation, what chooses
    the policy), the data, rlrun's version, and the code of plug-ins; of a run that did not begin with
    its config also its `lineage`.
    """
    data = {name: value for name, value in to_dict(config).items() if name not in _NOT_THE_JOB}
    data["eval"] = config.eval.choosing() if hasattr(config.eval, "choosing") else to_dict(config)["eval"]
    plugins = [point.module for point in metadata.entry_points(group="rlrun.plugins")]
    code = {name: imports.sha256(name) for name in sorted({*imports.named(to_dict(config)), *plugins})}
    whole = {"config": data, "data": data_sha256, "rlrun": version(), "code": code} | dict(lineage)
    text = json.dumps(whole, sort_keys=True, separators=(",", ":"), default=vars)
    return hashlib.sha256(text.encode()).hexdigest()
