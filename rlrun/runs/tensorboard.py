"""TensorBoard: a view of a run, in the folder `tb`; what is not a histogram stands in metrics.jsonl too.

Every replica is a run of TensorBoard's, and so is their mean where there are several. HPARAMS has
a row for each configuration, TEXT what was asked for, CUSTOM SCALARS the return with a band.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from rlrun.config.plain import to_dict
from rlrun.evals.evaluation import Replica
from rlrun.files import read_regular
from rlrun.runs import events
from rlrun.runs.configuration import configuration_hash, hyperparameters, lineage
from rlrun.runs.events import EventFile
from rlrun.runs.folder import RunFolder
from rlrun.runs.listener import Followed, Listener
from rlrun.runs.summary import has_score

MEAN = "mean"
SCORE = "eval/final"  # HPARAMS shows few columns at first, in order of name
MANY = 32  # replicas above which none has a run of its own
BANDED = ("eval/return", "val/score", "train/return")  # what has a band of quartiles about its mean
_QUANTILES, _BAND = {"q25": 0.25, "q50": 0.5, "q75": 0.75}, (0.25, 0.75)
_OVERRIDES, _PICTURE = 1 << 20, 1 << 24  # bytes


def band(tag: str) -> tuple[str, str]:
    """The tags of the quartiles of `tag` over replicas; in the run of its mean, as charts want."""
    return f"quartiles/{tag}/q25", f"quartiles/{tag}/q75"


def main_run(replicas: Sequence[Replica]) -> str:
    """The run of TensorBoard's that speaks for all replicas."""
    return MEAN if len(replicas) > 1 else replicas[0].label


def add_image(run: RunFolder, picture: Path) -> None:
    """Show a PNG or a GIF of a run by its name, if it is there and the run has TensorBoard files."""
    folder = run.tensorboard / main_run(run.replicas())
    if not (folder.is_dir() and picture.is_file() and picture.stat().st_size <= _PICTURE):
        return
    file = EventFile(run.folder_for(folder))
    file.add(run.state[1], [events.image(f"picture/{picture.stem}", read_regular(picture, _PICTURE))])
    file.close()


class TensorBoard(Listener):
    """Writes what is recorded, by replica and as their mean; of many replicas the quartiles and the mean.

    `newest` holds the newest value [R] of every tag until it is recorded, and `failed` the replicas
    that failed: means are over the others, of which one that has ended keeps its last value.
    """

    def __init__(self, newest: Mapping[str, np.ndarray], failed: Mapping[int, str]) -> None:
        self._newest, self._failed = newest, failed

    def open(self, run: Followed) -> None:
        self._run, self._folder, self._replicas = run, run.folder, run.replicas
        self._folder.folder_for(self._folder.tensorboard)
        many, several = len(run.replicas) > MANY, len(run.replicas) > 1
        self._single = {} if many else {each.label: each.index for each in run.replicas}
        self._whole = [MEAN, *_QUANTILES] if many else [MEAN] * several
        self._writers: dict[str, EventFile] = {}
        self._began: tuple[float, float] | None = None  # seconds and steps at the record before
        self._charted: set[str] | None = None  # losses that have a chart, once there is any chart

    def rewind(self, step: int, mark: int) -> None:
        """Say what the run is, or let TensorBoard forget what came after `step`: it is written again."""
        for name in (*self._single, *self._whole):
            if self._path(name).is_dir():
                self._writer(name).forget(step)
            else:
                self._describe(name, step)

    def _describe(self, name: str, step: int) -> None:
        config = to_dict(self._run.config)
        main = name == main_run(self._replicas)
        values = []
        if name in self._single or (main and not self._single):
            record = self._folder.read_record() if self._folder.exists else {"data_sha256": None}
            group = configuration_hash(config | lineage(record), record["data_sha256"])
            values += [events.session_start(group, hyperparameters(config))]
        if main:
            values += [
                events.text("config", f"```yaml\n{yaml.safe_dump(config, sort_keys=False)}```"),
                events.text("command", f"```sh\n{self._command()}\n```"),
            ]
        self._writer(name).add(step, values)

    def _command(self) -> str:
        try:
            words = yaml.safe_load(read_regular(self._folder.overrides_yaml, _OVERRIDES))
        except FileNotFoundError:
            words = []
        return f"rlrun {shlex.join(map(str, words)) or 'train'}"

    def record(self, step: np.ndarray, due: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
        if not values:
            return
        self._chart(int(step.max()), values)
        values = {**values, **self._times(step)}
        for name, r in self._single.items():
            if due[r]:
                self._add(name, int(step[r]), {tag: float(value[r]) for tag, value in values.items()})
        if self._whole:
            self._summarise(int(step.max()), due, values)

    def distribution(self, step: np.ndarray, due: np.ndarray, samples: Mapping[str, np.ndarray]) -> None:
        """Histograms: of each replica, and of all that it is news for together."""
        at = {name: (int(step[r]), [r]) for name, r in self._single.items() if due[r]}
        if MEAN in self._whole:
            at[MEAN] = int(step.max()), np.flatnonzero(due).tolist()
        for name, (when, rows) in at.items():
            found = [(tag, each[rows][np.isfinite(each[rows])]) for tag, each in samples.items()]
            self._add(name, when, {}, *(events.histogram(tag, each) for tag, each in found if each.size))

    def _chart(self, step: int, tags: Iterable[str]) -> None:
        """CUSTOM SCALARS, anew whenever there is a loss that has no chart yet."""
        losses = (self._charted or set()) | {tag for tag in tags if tag.startswith("loss/")}
        if losses != self._charted:
            self._charted = losses
            self._add(main_run(self._replicas), step, {}, events.layout(_charts(self._replicas, losses)))

    def _times(self, step: np.ndarray) -> dict[str, np.ndarray]:
        """Seconds since the run began, and the steps per second of all replicas since the record before."""
        seconds, steps = self._run.seconds(), float(step.sum())
        times = {"time/seconds": seconds}
        before = self._began
        if before and steps > before[1] and seconds > before[0]:
            times["time/fps"] = (steps - before[1]) / (seconds - before[0])
        if not before or steps > before[1]:
            self._began = seconds, steps
        return {tag: np.full(step.shape, value) for tag, value in times.items()}

    def _summarise(self, step: int, due: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
        """Means and quartiles over replicas, of each the newest value."""
        rows: dict[str, dict[str, float]] = {name: {} for name in self._whole}
        for tag, value in values.items():
            before = self._newest.get(tag, np.full(due.shape, np.nan))
            now = np.where(due & np.isfinite(value), value, before)
            now[list(self._failed)] = np.nan
            known = now[np.isfinite(now)]
            if not len(known):
                continue
            rows[MEAN][tag] = float(known.mean())
            for name in rows.keys() & _QUANTILES.keys():
                rows[name][tag] = float(np.quantile(known, _QUANTILES[name]))
            if tag in BANDED:
                rows[MEAN] |= zip(band(tag), np.quantile(known, _BAND).tolist(), strict=True)
        for name, row in rows.items():
            self._add(name, step, row)

    def close(self, summary: Mapping[str, Any] | None) -> None:
        """Of a run that ended, its scores and whether it failed; one that was interrupted may go on."""
        if summary is not None:
            self._end(summary)
        for writer in self._writers.values():
            writer.close()

    def _end(self, summary: Mapping[str, Any]) -> None:
        rows = summary["replicas"]
        for name, r in self._single.items():
            score = {SCORE: rows[r]["eval_return"]} if has_score(rows[r]) else {}
            self._add(name, rows[r]["steps"], score, events.session_end("failed" not in rows[r]))
        if self._whole:
            last = max(row["steps"] for row in rows)
            mean = summary["aggregate"]["mean"]
            score = {} if mean is None else {SCORE: mean}
            failed = any("failed" in row for row in rows)
            self._add(MEAN, last, score, *([] if self._single else [events.session_end(not failed)]))

    def _add(self, name: str, step: int, values: Mapping[str, float], *others: Any) -> None:
        finite = {tag: value for tag, value in values.items() if np.isfinite(value)}
        self._writer(name).add(step, [*events.scalars(finite), *others])

    def _path(self, name: str) -> Path:
        return self._folder.tensorboard / name

    def _writer(self, name: str) -> EventFile:
        if name not in self._writers:
            self._writers[name] = EventFile(self._folder.folder_for(self._path(name)))
        return self._writers[name]


def _charts(replicas: Sequence[Replica], losses: Iterable[str]) -> dict[str, list[Any]]:
    """Returns as a line for each replica, and with a band where there are several; and the losses."""
    folds = replicas[0].fold is not None
    returns = []
    for tag in ("val/score" if folds else "eval/return", "train/return"):
        if len(replicas) > 1:
            returns.append(events.band_chart(f"{tag}: mean and middle half", tag, *band(tag)))
        returns.append(events.lines_chart(f"{tag}: each {'fold' if folds else 'seed'}", f"{tag}$"))
    each = [events.lines_chart(tag, f"{re.escape(tag)}$") for tag in sorted(losses)]
    return {"folds" if folds else "returns": returns, "losses": each}
