"""Tables over runs: who scored what, from how many seeds, at what cost.

Runs that differ in their seeds alone are one experiment, whose statistics are those of
summary.json. Scores are ranked within a task alone: one environment, judged in one way.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from rlrun.config import ConfigError
from rlrun.config.keys import legible
from rlrun.evals.stats import Bounds
from rlrun.report.table import columns, counted, number
from rlrun.runs.folder import RunFolder, sound
from rlrun.runs.summary import aggregate, has_score

_NOT_THE_EXPERIMENT = ("seed", "replicas", "out", "choices", "listener", "checkpoint", "threads", "log")
_OF_TRAINING = {"env": ("reward",), "eval": ("during", "every")}  # keys that do not touch how it is judged


@dataclass
class _Experiment:
    """Runs whose configs differ in their seeds alone."""

    task: str
    name: str
    steps: int
    bounds: Bounds
    runs: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)  # what became of the runs without a summary
    replicas: dict[tuple[Any, ...], Mapping[str, Any]] = field(default_factory=dict)  # a seed counts once
    seconds: float = 0.0

    def row(self) -> dict[str, Any]:
        replicas = list(self.replicas.values())
        scores = [float(each["eval_return"]) for each in replicas if has_score(each)]
        names = ("task", "name", "runs", "unfinished", "steps", "seconds")
        counts = {"replicas": len(scores), "unscored": len(replicas) - len(scores)}
        return (
            {name: getattr(self, name) for name in names}
            | counts
            | {"worst": min(scores, default=None)}
            | aggregate(replicas, self.bounds)
        )


def rows(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """One row per experiment under `paths`, task by task: the best median first, no score last.

    Raises:
        ConfigError: a run is damaged.
    """
    found: dict[str, _Experiment] = {}
    tasks: dict[str, tuple[str, dict[str, Any]]] = {}
    for folder in sorted({run.path for path in paths for run in RunFolder.under(path)}):
        with sound(folder):
            _add(RunFolder(folder), found, tasks)
    labels = _labels(tasks)
    table = [row | {"task": labels[row["task"]]} for row in (each.row() for each in found.values())]
    return sorted(table, key=lambda row: (row["task"], row["median"] is None, -(row["median"] or 0.0)))


def _add(run: RunFolder, found: dict[str, _Experiment], tasks: dict[str, tuple[str, dict[str, Any]]]) -> None:
    """Put a run to those of its config, and its task to the tasks."""
    record = run.read_record()
    config = record["config"]
    own = {name: value for name, value in config.items() if name not in _NOT_THE_EXPERIMENT}
    # A score of eval=online is that of the last record.
    own |= {"log.every": config["log"]["every"], "data_sha256": record["data_sha256"]}
    name, judged = _task(record)
    task = json.dumps(judged, sort_keys=True)
    tasks.setdefault(task, (name, judged))
    same = json.dumps(own, sort_keys=True)
    if same not in found:
        found[same] = _Experiment(task, run.path.parent.name, int(config["total_steps"]), _bounds(run))
    experiment = found[same]
    experiment.runs.append(str(run))
    if run.summary_file.exists():
        summary = run.summary()
        replicas = summary["replicas"]
        experiment.seconds += float(summary["wall_seconds"])
    else:
        replicas = [each | {"eval_return": None} for each in record["replicas"]]
        experiment.unfinished.append(_status(run))
    for each in replicas:
        who = each["seed"], each["fold"], each.get("variant", 0)
        if has_score(each) or who not in experiment.replicas:
            experiment.replicas[who] = each


def _task(record: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """A task's name, and all that a score depends on besides the policy, as flat keys."""
    config = record["config"]
    flat = {
        f"{group}.{name}": value
        for group, ignored in _OF_TRAINING.items()
        for name, value in config[group].items()
        if name not in ignored
    }
    logged = config["data"]["kind"] != "none"  # then the last of the data are what was learned from
    series = (record["data_sha256"] or "").split("+")[: -1 if logged else None]
    named = {group: config["choices"].get(group, config[group]["kind"]) for group in ("env", "eval")}
    env = config["env"].get("id", named["env"])
    return f"env={env} eval={named['eval']}", flat | {"data_sha256": "".join(series)[:12]}


def _bounds(run: RunFolder) -> Bounds:
    """What the task allows; not known of a plug-in's, for reading a run imports nothing."""
    try:
        return run.config().env.score_bounds
    except ConfigError:
        return None, None


def _labels(tasks: Mapping[str, tuple[str, dict[str, Any]]]) -> dict[str, str]:
    """Each task's name, with the keys that tell it from others of that name."""
    labels = {}
    for task, (name, judged) in tasks.items():
        others = [other for its, other in tasks.values() if its == name]
        keys = dict.fromkeys(k for other in others for k in other)
        differing = [k for k in keys if any(other.get(k) != judged.get(k) for other in others)]
        labels[task] = " ".join([name, *(f"{k}={judged.get(k)}" for k in differing)])
    return labels


def _status(run: RunFolder) -> str:
    """How far a run without scores has come."""
    status, step = run.state
    return status if status == "unfinished" else f"{status} at step {step:,}"


def compare(paths: Sequence[Path], as_json: bool = False) -> int:
    """Print a table for each task, or one JSON object; the exit code.

    Raises:
        ConfigError: no finished run is there, or one is damaged.
    """
    table = rows(paths)
    if all(len(row["unfinished"]) == len(row["runs"]) for row in table):
        raise ConfigError(
            f"no finished run under {', '.join(map(str, paths))}", "rlrun resume RUN finishes one"
        )
    print(json.dumps({"runs": table}) if as_json else legible("\n".join(_lines(table))))
    return 0


def _lines(table: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    tasks = [(task, list(group)) for task, group in groupby(table, lambda row: row["task"])]
    for task, group in tasks:
        yield task
        heading = ["replicas", "steps", "median", "IQM", "worst", "95 % of the mean", "seconds"]
        figures = columns([heading, *map(_cells, group)])
        runs = ["run", "---", *map(_runs, group)]
        yield from (f"{cells}  {run}" for cells, run in zip(figures, runs, strict=True))
        yield ""
    if len(tasks) > 1:
        yield f"{len(tasks)} tasks: scores are ranked within each, for across them they mean different things"


def _cells(row: Mapping[str, Any]) -> list[str]:
    whole = row["replicas"] + row["unscored"]
    count = f"{row['replicas']} of {whole}" if row["unscored"] else str(whole)
    low_high = " .. ".join(map(number, row["interval"])) if row["interval"] else "none"
    scores = (number(row[name]) for name in ("median", "iqm", "worst"))
    return [count, f"{row['steps']:,}", *scores, f"{low_high}, {counted(row)}", f"{row['seconds']:.0f}"]


def _runs(row: Mapping[str, Any]) -> str:
    more = [f"+{len(row['runs']) - 1}"] if len(row["runs"]) > 1 else []
    notes = ", ".join([*more, *row["unfinished"]])
    return row["runs"][-1] + (f" ({notes})" if notes else "")
