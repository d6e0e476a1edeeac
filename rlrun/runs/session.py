"""One run: what happens around the loop. Logs, evaluates and saves, each when it is due.

What is due by step depends on nothing else, and what is pending is part of a checkpoint:
a run that was killed and resumed writes the same metrics, to the byte.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from rlrun.core import Algorithm
from rlrun.lazy import torch
from rlrun.runs import checkpoint
from rlrun.runs.ends import Ends
from rlrun.runs.folder import RunFolder
from rlrun.runs.kept import Kept
from rlrun.runs.listener import Followed, Listener
from rlrun.runs.log import MetricsFile, Progress, say
from rlrun.runs.means import Means
from rlrun.runs.policy import check_memory
from rlrun.runs.process import Stopped, asked, deferred, saving
from rlrun.runs.tensorboard import TensorBoard
from rlrun.state import State, copy_leaves
from rlrun.trainer import Clock, train

if TYPE_CHECKING:
    from torch import Tensor

    from rlrun.collector import Collector
    from rlrun.config.run import RunConfig
    from rlrun.evals.evaluation import Evaluation


class Session:
    """Trains one run folder to its end, from the beginning or from a checkpoint."""

    def __init__(
        self,
        config: RunConfig,
        folder: RunFolder,
        algo: Algorithm,
        collector: Collector,
        evaluation: Evaluation,
        saved: checkpoint.Checkpoint | None = None,
        listeners: Mapping[str, Listener] = MappingProxyType({}),
    ) -> None:
        self.config, self.folder = config, folder
        self.algo, self.collector, self.evaluation = algo, collector, evaluation
        replicas = len(evaluation.replicas)
        self.clock = Clock(replicas, config.total_steps)
        self.means = Means(replicas)
        # Intervals done: of records, of evaluations, and of policies set aside in case of a failure.
        self.logged, self.evaluated, self.set_aside = (np.zeros(replicas, np.int64) for _ in range(3))
        self.log_every = config.log_every
        self.aside_every = max(config.total_steps // 20, 1)  # whatever is logged or evaluated
        self.kept = Kept(algo, replicas)
        self.learned = np.ones(replicas, bool)  # known at the end
        self.running = self.clock.active.copy()  # as it was before the last update
        self.best = np.full(replicas, np.nan)
        self.failures: dict[int, str] = {}
        self.ends = Ends(config.stop, replicas)
        self._lost: dict[int, str] = {}  # why, of replicas that failed since the last update
        if hasattr(collector.env, "on_loss"):
            collector.env.on_loss = self._lose
        self.last: dict[str, np.ndarray] = {}  # the newest value [R] of every tag
        self.wall_seconds, self._began = 0.0, time.monotonic()
        self.saved_step = 0  # that of the last checkpoint
        if saved:
            self._restore(saved)
        self._next_due = self._soonest()
        self.progress = Progress("steps" if algo.rollout_steps else "updates", self.last)
        self.listeners: dict[str, Listener] = {"metrics": MetricsFile()}
        if config.log.tensorboard:
            self.listeners["tensorboard"] = TensorBoard(self.last, self.failures)
        self.listeners["progress"] = self.progress
        self.listeners |= {f"listener.{name}": each for name, each in listeners.items()}
        marks = saved.state.get("marks", {}) | {"metrics": saved.state["metrics_bytes"]} if saved else {}
        run = Followed(folder, config, evaluation.replicas, lambda: self.seconds)
        with ExitStack() as opened:
            for name, listener in self.listeners.items():
                opened.callback(listener.close, None)
                listener.open(run)
                listener.rewind(self.step, marks.get(name, 0))
            opened.pop_all()
        self._saved_at, self.saved_step = time.monotonic(), self.step if saved else 0
        self._saved_update = self.clock.updates if saved else -1

    @property
    def step(self) -> int:
        """The step of the replica that is furthest."""
        return int(self.clock.step.max())

    @property
    def seconds(self) -> float:
        """Wall time spent on this run so far, by every process that worked on it."""
        return self.wall_seconds + time.monotonic() - self._began

    @property
    def recorded(self) -> dict[str, np.ndarray]:
        """The newest value [R] of every tag; of the one that policies are chosen on, the best."""
        if self.evaluation.best is None:
            return self.last
        tag, mode = self.evaluation.best
        return self.last | {tag: self.best if mode == "max" else -self.best}

    def train(self) -> None:
        """Run the loop to its end; raises Stopped after saving, if a signal came."""
        try:
            with deferred():
                train(self.algo, self.collector, self.clock, self.on_step)
                self.save()
            self.learned = self.kept.learned()
            self.kept.use()
        finally:
            self.progress.close()

    def close(self, summary: Mapping[str, Any] | None = None) -> None:
        """Everything is on disk, and nothing open, when this returns; `summary` is of a run that ended."""
        for listener in self.listeners.values():
            listener.close(summary)

    def abandon(self) -> None:
        """Close what can be closed, after a fault: what else fails is a consequence of it."""
        for listener in self.listeners.values():
            with suppress(Exception):
                listener.close(None)

    def on_step(self, clock: Clock, metrics: dict[str, Tensor]) -> None:
        """After every update: record, judge and save what is due."""
        if self._lost:  # what their sub-envs seem to have played since is nobody's
            self.collector.stats.take(self._rows(self._lost))
        if metrics:
            bad = self.means.add(metrics)
            if bad is not None:
                self._lost = self._unsound(bad & self.running, metrics) | self._lost
        if self._lost:
            self._fail()
        converged = self.algo.converged()
        if converged is not None:
            clock.active = clock.active & ~converged
        if self.ends.counts:
            episodes = self.collector.episode.sum(1)
            spent = self.ends.spent(self._healthy(self.running), clock.step, episodes, self.seconds)
            clock.active = clock.active & ~spent
        step = self.step
        if step >= self._next_due or np.count_nonzero(self.running != clock.active):
            ended = self.running & ~clock.active
            recorded = self._due(self.logged, self.log_every, ended)
            self._record(recorded)
            self._judge(self._due(self.evaluated, self.evaluation.every, ended))
            ended = self.running & ~clock.active  # also those that the evaluation stopped
            self._record(ended & ~recorded)
            self.kept.set_aside(self._due(self.set_aside, self.aside_every, ended) & ~self.kept.settled)
            if ended.any() and clock.active.any():  # later updates, for the others, must not change these
                self.kept.settle(ended & ~self.kept.settled)
            self.ends.at[ended] = clock.updates
            self.running = clock.active.copy()
            self._next_due = self._soonest()
        self.progress.update(step)
        self._save_if_due(step)

    def _due(self, done: np.ndarray, every: int, ended: np.ndarray) -> np.ndarray:
        """Running replicas that crossed a multiple of `every` env steps, or ended; moves `done`."""
        now = self.clock.step // every
        due = self.running & ((now > done) | ended)
        done[due] = now[due]
        return due

    def _soonest(self) -> int:
        """The least step at which a running replica has something due."""
        if not self.running.any():
            return self.config.total_steps
        intervals = (
            (self.logged, self.log_every),
            (self.evaluated, self.evaluation.every),
            (self.set_aside, self.aside_every),
        )
        return min(int((done[self.running].min() + 1) * every) for done, every in intervals)

    def _unsound(self, rows: np.ndarray, metrics: Mapping[str, Tensor]) -> dict[int, str]:
        """What is wrong with the metrics of these replicas [R]."""
        found = {}
        for replica in np.flatnonzero(rows).tolist():
            tag = next(tag for tag, value in metrics.items() if not bool(torch.isfinite(value[replica])))
            value = float(metrics[tag][replica])
            found[replica] = f"{tag} is {value} at step {int(self.clock.step[replica])}"
        return found

    def _rows(self, replicas: Iterable[int]) -> np.ndarray:
        rows = np.zeros_like(self.running)
        rows[list(replicas)] = True
        return rows

    def _lose(self, sub_envs: Sequence[int], reason: str) -> None:
        """Sub-envs of the training env are lost, and with them their replicas."""
        self._lost |= {sub_env // self.config.num_envs: reason for sub_env in sub_envs}

    def _fail(self) -> None:
        """End the replicas that are lost, and were running; their last finite policies stay."""
        rows = self._rows(self._lost) & self.running
        for replica in np.flatnonzero(rows).tolist():
            self.failures[replica] = reason = self._lost[replica]
            label = self.evaluation.replicas[replica].label
            say(f"replica {replica} ({label}) failed: {reason}; the others go on")
        self._lost = {}
        self.clock.active = self.clock.active & ~rows
        self.kept.settle(rows & ~self.kept.settled)

    def _record(self, due: np.ndarray) -> None:
        if not due.any():
            return
        values = self.means.take(due)
        values |= {f"train/{name}": value for name, value in self.collector.stats.take(due).items()}
        values |= self.algo.schedules(self.clock.step)
        self._write(due, values)

    def _healthy(self, rows: np.ndarray) -> np.ndarray:
        rows = rows.copy()
        rows[list(self.failures)] = False
        return rows

    def _judge(self, due: np.ndarray) -> None:
        healthy = self._healthy(due)
        if not healthy.any():
            return
        found = self.evaluation.periodic(self.algo, self.clock.step)
        values = {tag: value for tag, value in found.items() if np.ndim(value) < 2}
        self._write(healthy, values)
        if samples := {tag: value for tag, value in found.items() if np.ndim(value) == 2}:
            for listener in self.listeners.values():
                listener.distribution(self.clock.step, healthy, samples)
        tag, mode = self.evaluation.best or ("eval/return", "max")
        if tag not in values:
            return
        sign = 1 if mode == "max" else -1
        if self.evaluation.best:
            score = sign * values[tag]
            # Also where there is no best yet; what is not finite is never better.
            better = healthy & np.isfinite(score) & ~(score <= self.best)
            self.best[better] = score[better]
            self.kept.settle(better)
        if self.config.stop.judges:
            stopped = self.ends.judged(healthy, self.clock.step, values[tag], tag, sign)
            self.clock.active = self.clock.active & ~stopped

    def _write(self, due: np.ndarray, values: dict[str, np.ndarray]) -> None:
        for listener in self.listeners.values():
            listener.record(self.clock.step, due, values)
        for tag, value in values.items():
            previous = self.last.get(tag, np.full(due.shape, np.nan))
            self.last[tag] = np.where(due & np.isfinite(value), value, previous)

    def _save_if_due(self, step: int) -> None:
        every = self.config.checkpoint.every_steps
        timed_out = time.monotonic() - self._saved_at >= self.config.checkpoint.every_seconds
        signum = asked()
        if signum or timed_out or (every and step // every > self.saved_step // every):
            self.save()
            self._saved_at = time.monotonic()
        if signum:
            raise Stopped(signum)

    def save(self) -> None:
        """Write a checkpoint of everything that the rest of the run depends on."""
        if self._saved_update == self.clock.updates:
            return
        marks = {name: listener.mark() for name, listener in self.listeners.items()}
        tensors = {f"algo/{k}": v for k, v in self.algo.state().items()}
        replay = {k: v for k, v in self.algo.state(("replay",)).items()}
        for name in replay:
            del tensors[f"algo/{name}"]
        tensors |= {f"means/{k}": v for k, v in self.means.state().items()}
        if self.clock.active.any() or self.kept.settled.any():
            tensors |= {f"kept/{k}": v for k, v in self.kept.policies.items()}
        tensors |= {f"collector/{k}": v for k, v in self.collector.state().items()}
        tensors |= {f"last/{json.dumps(k)[1:-1]}": torch.from_numpy(v) for k, v in self.last.items()}
        for name in ("logged", "evaluated", "best", "running"):
            tensors[f"session/{name}"] = torch.from_numpy(getattr(self, name))
        tensors["session/has_kept"] = torch.from_numpy(self.kept.settled)
        tensors["session/step"] = torch.from_numpy(self.clock.step)
        tensors["session/active"] = torch.from_numpy(self.clock.active)
        tensors |= {f"ends/{k}": v for k, v in self.ends.state().items()}
        if self.evaluation.scaling is not None:  # belongs to the policies: they see nothing else
            tensors["normalizer/scaling"] = torch.from_numpy(self.evaluation.scaling)
        state = {
            "schema": 1,
            "updates": self.clock.updates,
            "metrics_bytes": marks.pop("metrics"),
            "marks": marks,  # of the other listeners
            "wall_seconds": self.seconds,
            "failures": {str(k): v for k, v in self.failures.items()},
            "begun": self.kept.begun,
            "total_steps": self.config.total_steps,
            "stopped": {str(k): v for k, v in self.ends.stopped.items()},
            "ended_at": self.ends.at.tolist(),
        }
        with saving():
            checkpoint.save(
                self.folder.checkpoints, self.clock.updates, {"tensors": tensors, "replay": replay}, state
            )
            self._saved_update, self.saved_step = self.clock.updates, self.step
            self.folder.set_status("running", self.step)

    def _restore(self, saved: checkpoint.Checkpoint) -> None:
        parts = split(saved.files["tensors"])
        self.algo.load_state(parts.get("algo", {}) | saved.files["replay"])
        self.means.load_state(parts.get("means", {}))
        kept = parts.get("kept", {})
        copy_leaves({name: self.kept.policies[name] for name in kept}, kept, "kept")
        self.last = {json.loads(f'"{k}"'): v.numpy() for k, v in parts.get("last", {}).items()}
        session = parts["session"]
        for name in ("best", "running"):
            setattr(self, name, session[name].numpy())
        self.kept.settled = session["has_kept"].numpy()
        self.clock.step, self.clock.active = session["step"].numpy(), session["active"].numpy()
        self.logged = self.clock.step // self.log_every
        self.evaluated = self.clock.step // self.evaluation.every
        self.set_aside = self.clock.step // self.aside_every
        if not kept:  # it had ended, with the policies that it has
            self.kept.set_aside(np.ones_like(self.running))
        self.clock.updates = saved.state["updates"]
        self.wall_seconds = saved.state["wall_seconds"]
        self.failures = {int(k): v for k, v in saved.state["failures"].items()}
        self.ends.load_state(parts.get("ends", {}))
        self.ends.stopped = {int(k): v for k, v in saved.state.get("stopped", {}).items()}
        self.ends.at = np.array(saved.state["ended_at"])
        self.kept.begun = saved.state.get("begun", self.kept.begun)
        self.collector.load_state(parts.get("collector", {}))
        if self.collector.obs is not None:
            check_memory(self.collector.memory, self.algo.initial_memory(self.collector.num_envs))


def split(tensors: Mapping[str, Tensor]) -> dict[str, State]:
    """A checkpoint's tensors by the part before the first slash."""
    parts: dict[str, State] = {}
    for name, value in tensors.items():
        part, _, rest = name.partition("/")
        parts.setdefault(part, {})[rest] = value
    return parts
