"""Run folders put together: runs that differ in their seeds alone are one experiment, of one task.

A task is one environment, judged in one way: scores of different tasks mean different things.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlrun.config import ConfigError
from rlrun.config.naming import differing, names, written
from rlrun.evals.contrast import Scores
from rlrun.evals.stats import Bounds
from rlrun.runs.configuration import ELSEWHERE, lineage
from rlrun.runs.folder import RunFolder, sound
from rlrun.runs.summary import has_score

_NOT_THE_EXPERIMENT = set(ELSEWHERE) - {"choices", "device"}  # by which rows may be told apart
_OF_TRAINING = {"env": ("reward",), "eval": ("during", "every")}  # keys that do not touch how it is judged

Who = tuple[int | None, tuple[int, int]]  # fold, and seed with variant


@dataclass
class Experiment:
    """Runs whose configs differ in their seeds alone."""

    config: Mapping[str, Any]  # all that makes it this experiment
    total_steps: int
    runs: list[RunFolder] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)  # what became of the runs without a summary
    replicas: dict[Who, Mapping[str, Any]] = field(default_factory=dict)  # a seed counts once
    places: dict[Who, tuple[RunFolder, int]] = field(default_factory=dict)  # and where it is
    seconds: float = 0.0
    steps: int = 0  # of all replicas, in those seconds
    keys: Mapping[str, Any] = field(default_factory=dict)  # that tell it from the others of its task
    name: str = ""

    @property
    def finished(self) -> bool:
        """Whether any of its runs came to its end."""
        return len(self.unfinished) < len(self.runs)

    @property
    def scores(self) -> Scores:
        """Of the replicas that have one."""
        return {who: float(each["eval_return"]) for who, each in self.replicas.items() if has_score(each)}


@dataclass
class Task:
    """One environment, judged in one way, and who tried."""

    env: str
    judged: str  # the name of the evaluation
    keys: Mapping[str, Any]  # all that a score depends on besides the policy
    run: RunFolder  # the first of it
    experiments: dict[str, Experiment] = field(default_factory=dict)
    label: str = ""

    @property
    def bounds(self) -> Bounds:
        """What it allows; not known of a plug-in's, for reading a run imports nothing."""
        try:
            return self.run.config().env.score_bounds
        except ConfigError:
            return None, None


def read_tasks(paths: Sequence[Path]) -> tuple[list[Task], list[str]]:
    """The tasks of the runs under `paths`, by name, and what is wrong with the runs left out.

    Raises:
        ConfigError: there is no run, or none that came to its end, or that can be read.
    """
    under = {path: RunFolder.under(path) for path in paths}
    for path in (path for path, runs in under.items() if not runs):
        raise ConfigError(f"there is no run under {path}", "runs are in outputs/ALGO-ENV/TIME-NAME")
    tasks: dict[str, Task] = {}
    refused: list[ConfigError] = []
    for folder in sorted({run.path for runs in under.values() for run in runs}):
        try:
            with sound(folder):
                _add(RunFolder(folder), tasks)
        except ConfigError as error:
            refused.append(error)
    if not tasks:
        all_of = [f"all {len(refused):,} runs are damaged; the first:"] if len(refused) > 1 else []
        raise ConfigError(*all_of, *refused[0].lines[:2])
    if not any(each.finished for task in tasks.values() for each in task.experiments.values()):
        raise ConfigError(
            f"no finished run under {', '.join(map(str, paths))}", "rlrun resume RUN finishes one"
        )
    _label(list(tasks.values()))
    for task in tasks.values():
        found = list(task.experiments.values())
        configs = [each.config for each in found]
        told = differing(configs)
        for each, keys, name in zip(found, told, names(configs, told), strict=True):
            each.keys, each.name = keys, name
    return sorted(tasks.values(), key=lambda task: task.label), [error.lines[0] for error in refused]


def _add(run: RunFolder, tasks: dict[str, Task]) -> None:
    """Put a run to those of its config, once all of it is read."""
    record = run.read_record()
    config = record["config"]
    own = {name: value for name, value in config.items() if name not in _NOT_THE_EXPERIMENT}
    own |= lineage(record)
    # A score of eval=online is that of the last record.
    own |= {"log": {"every": config["log"]["every"]}, "data_sha256": (record["data_sha256"] or "")[:12]}
    same = json.dumps(
        {k: v for k, v in own.items() if k != "choices"} | {"data_sha256": record["data_sha256"]},
        sort_keys=True,
    )
    task = _task(run, record)
    if run.summary_file.exists():
        summary = run.summary()
        replicas, seconds, status = summary["replicas"], float(summary["wall_seconds"]), ""
    else:
        replicas = [each | {"eval_return": None} for each in record["replicas"]]
        seconds, status = 0.0, _status(run)
    task = tasks.setdefault(json.dumps(task.keys, sort_keys=True), task)
    experiment = task.experiments.setdefault(same, Experiment(own, int(config["total_steps"])))
    experiment.runs.append(run)
    experiment.unfinished += [status] if status else []
    experiment.seconds += seconds
    experiment.steps += sum(each.get("steps", 0) for each in replicas)
    for each in replicas:
        who = each["fold"], (each["seed"], each.get("variant", 0))
        if has_score(each) or who not in experiment.replicas:
            experiment.replicas[who] = each
            experiment.places[who] = run, each["replica"]


def _task(run: RunFolder, record: Mapping[str, Any]) -> Task:
    """The task of a run, without a label."""
    config = record["config"]
    keys = {
        group: {name: value for name, value in config[group].items() if name not in ignored}
        for group, ignored in _OF_TRAINING.items()
    }
    logged = config["data"]["kind"] != "none"  # then the last of the data are what was learned from
    series = (record["data_sha256"] or "").split("+")[: -1 if logged else None]
    env, judged = (config["choices"].get(group, config[group]["kind"]) for group in _OF_TRAINING)
    env = config["env"].get("id") or env
    return Task(env, judged, keys | {"data_sha256": "".join(series)[:12]}, run)


def _label(tasks: Sequence[Task]) -> None:
    """Give each task its name, with the keys that tell it from others of that name."""
    configs = [{"choices": {"env": t.env, "eval": t.judged}, **t.keys} for t in tasks]
    for task, told in zip(tasks, differing(configs), strict=True):
        keys = [f"{key}={written(value)}" for key, value in told.items() if key not in ("env", "eval")]
        task.label = " ".join([f"env={task.env}", f"eval={task.judged}", *keys])


def _status(run: RunFolder) -> str:
    """How far a run without scores has come."""
    status, step = run.state
    return status if status == "unfinished" else f"{status} at step {step:,}"
