"""Small trainings without a command line: any recipe on a task that it can work on, shrunk."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rlrun import envs
from rlrun.collector import Collector
from rlrun.config import ConfigError
from rlrun.config.catalog import entry, recipes
from rlrun.config.compose import compose
from rlrun.config.run import RunConfig
from rlrun.core import Algorithm, Rollout
from rlrun.lazy import torch
from rlrun.registry import entry_of
from rlrun.runs import checkpoint
from rlrun.runs.folder import RunFolder
from rlrun.runs.session import Session
from rlrun.runs.task import Task, build
from rlrun.state import State
from rlrun.testing.rules import require
from rlrun.trainer import Clock, train

QUIET = {"log.tensorboard": "false", "log.plot": "false", "eval.episodes": 2, "eval.during": 2}
# Small enough for a test: numbers above these are lowered, wherever a config has them.
SMALL = {
    "model.hidden_size": 8,
    "env.max_steps": 30,
    "algo.rollout_steps": 8,
    "algo.epochs": 2,
    "algo.n_minibatches": 2,
    "algo.chunk_length": 4,
    "algo.buffer_size": 400,
    "algo.batch_size": 16,
    "algo.learning_starts": 40,
    "algo.train_every": 4,
    "algo.sequence_length": 4,
    "algo.burn_in": 2,
    "algo.n_step": 2,
    "algo.horizon": 4,
    "algo.n_candidates": 12,
    "algo.iterations": 2,
    "algo.ensemble.members": 2,
    "algo.ensemble.buffer_size": 400,
    "algo.ensemble.batch_size": 16,
    "algo.ensemble.learning_starts": 20,
    "algo.teacher_steps": 300,
    "algo.demo_steps": 24,
    "algo.discriminator.batch_size": 16,
    "algo.discriminator.gradient_steps": 2,
}
HOMES = ("", "cartpole", "pendulum", "frozen_lake", "cliff_walking", "bandit")


def value_at(config: Any, path: str) -> Any:
    """The value of a dotted key; AttributeError if the config has none."""
    for name in path.split("."):
        config = getattr(config, name)
    return config


def known(config: Any, values: Mapping[str, Any]) -> list[str]:
    """Overrides for those keys of `values` that a config has."""
    out = []
    for path, value in values.items():
        try:
            value_at(config, path)
        except AttributeError:
            continue
        out.append(f"{path}={'null' if value is None else value}")
    return out


def shrunk(config: RunConfig) -> list[str]:
    """Overrides that make a config small and quiet."""
    out = known(config, QUIET | {"model.hidden": "[8]", "model.head": "[]"})
    for path in (text.split("=")[0] for text in known(config, SMALL)):
        now = value_at(config, path)
        endless = now is None and path == "env.max_steps"
        if endless or (now is not None and now > SMALL[path]):
            out.append(f"{path}={SMALL[path]}")
    return out


def home(algo: str, *more: str) -> tuple[str, ...]:
    """Overrides that give a recipe a task that it can work on: its own, or the first that fits.

    `more` come on top. Raises ConfigError if there is none.
    """
    return _at_home(algo, *more)[0]


@cache
def _at_home(algo: str, *more: str) -> tuple[tuple[str, ...], RunConfig]:
    """The overrides, and the config that they compose."""
    refusals = []
    for env in HOMES:
        overrides = (f"algo={algo}", *([f"env={env}"] if env else []), *more)
        try:
            config = compose(overrides)
            Task.of(config)
        except ConfigError as refusal:
            refusals.append(str(refusal))
        else:
            return overrides, config
    raise ConfigError(f"algo={algo} fits no task", *refusals)


@cache
def _episodes() -> Any:
    return compose(["algo=dqn"]).eval


def episodes(**changes: Any) -> Any:
    """The config of eval=episodes with other values, for whichever recipe."""
    return replace(_episodes(), **changes)


def builder(algo: str) -> Any:
    """The class that a recipe builds."""
    found = entry("algo", algo) if algo in recipes("algo") else None
    if found is None:
        raise ConfigError(f"algo={algo} has no recipe with a schema of its own")
    return found.build


@cache
def _small(algo: str, *more: str) -> RunConfig:
    own, recipe = _at_home(algo, *more)
    return compose([*own, *shrunk(recipe), f"num_envs={min(recipe.num_envs, 2)}", "total_steps=4000"])


def small(algo: str, *more: str, **main: Any) -> RunConfig:
    """A recipe's config on its home task, shrunk; `more` overrides on top, `main` replaces main keys."""
    return replace(deepcopy(_small(algo, *more)), **main)


@dataclass
class Trial:
    """The parts of a run, as the trainer holds them."""

    task: Task
    algo: Algorithm
    collector: Collector
    clock: Clock

    @classmethod
    def of(cls, config: RunConfig) -> Trial:
        return cls.on(Task.of(config))

    @classmethod
    def on(cls, task: Task) -> Trial:
        algo, replicas = build(task.config, task.spec()), len(task.evaluation.replicas)
        return cls(task, algo, task.collector(), Clock(replicas, task.config.total_steps))

    def train(self, updates: int, on_step: Callable[[Clock, dict[str, Any]], None] | None = None) -> None:
        """Run the loop for a number of updates, or until every replica has ended."""
        last = self.clock.updates + updates

        def stop(clock: Clock, metrics: dict[str, Any]) -> None:
            if on_step is not None:
                on_step(clock, metrics)
            converged = self.algo.converged()
            if converged is not None:
                clock.active = clock.active & ~converged
            if clock.updates >= last:
                raise StopIteration

        try:
            train(self.algo, self.collector, self.clock, stop)
        except StopIteration:
            return

    def state(self) -> State:
        """Copies of the algorithm's and the collector's state."""
        parts = {f"algo/{k}": v for k, v in self.algo.state().items()}
        parts |= {f"collector/{k}": v for k, v in self.collector.state().items()}
        return copies(parts)

    def load(self, state: State) -> None:
        self.algo.load_state({k[5:]: v for k, v in state.items() if k.startswith("algo/")})
        self.collector.load_state({k[10:]: v for k, v in state.items() if k.startswith("collector/")})


@dataclass(frozen=True)
class Subject:
    """A recipe of conf/algo with overrides on top."""

    algo: str
    more: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join((f"algo={self.algo}", *self.more))

    @cached_property
    def kind(self) -> Any:
        """The class that it builds."""
        return entry_of(self.config().algo).build

    def config(self, **main: Any) -> RunConfig:
        return small(self.algo, *self.more, **main)

    def trial(self, **main: Any) -> Trial:
        return Trial.of(self.config(**main))

    @property
    def acts(self) -> bool:
        """Whether it touches environments while it trains."""
        return bool(self.kind.rollout_steps)

    @property
    def minds_masks(self) -> bool:
        """Whether it takes masks, and discrete actions on its home task."""
        return bool(self.kind.takes_masks and Task.of(self.config()).action.choices)

    @property
    def plays_whole_episodes(self) -> bool:
        return self.acts and bool(self.kind.whole_episodes)


def lifetime(config: RunConfig, most: int) -> int:
    """How many updates a run lasts, `most` at best: some converge before."""
    if entry_of(config.algo).build.converged is Algorithm.converged:
        return most
    trial = Trial.of(config)
    trial.train(most)
    return trial.clock.updates


def session(config: RunConfig, folder: Path, saved: checkpoint.Checkpoint | None = None) -> Session:
    """A session in `folder`, fresh or restored."""
    folder.mkdir(exist_ok=True)
    trial = Trial.of(config)
    return Session(config, RunFolder(folder), trial.algo, trial.collector, trial.task.evaluation, saved)


class Interrupted(Exception):
    """Raised by `train_until`."""


def train_until(run: Session, updates: int | None = None) -> None:
    """Train a session to its end, or save and stop after an update, as a signal would."""
    on_step = run.on_step

    def stop(clock: Clock, metrics: dict[str, Any]) -> None:
        on_step(clock, metrics)
        if clock.updates == updates:
            run.save()
            raise Interrupted

    run.on_step = stop  # type: ignore[method-assign]
    try:
        run.train()
    except Interrupted:
        pass
    finally:
        run.close()


def digest(state: State, rows: Iterable[int] | None = None) -> dict[str, str]:
    """A hash of every leaf, or of some of its replicas: equal exactly where the bits are."""
    keep = slice(None) if rows is None else list(rows)
    return {
        name: hashlib.sha256(leaf[keep].detach().contiguous().cpu().numpy().tobytes()).hexdigest()
        for name, leaf in state.items()
    }


def assert_same_bits(a: State, b: State, rows: Iterable[int] | None = None, what: str = "") -> None:
    """AssertionError that names the leaves whose bits differ, in those `rows` [R] that are asked for."""
    rows = None if rows is None else list(rows)
    one, other = digest(a, rows), digest(b, rows)
    odd = sorted(one.keys() ^ other.keys())
    require(not odd, f"only one of the two has {', '.join(odd)}")
    differing = [name for name in one if one[name] != other[name]]
    where = f"{what}: " if what else ""
    require(not differing, f"{where}other bits in {', '.join(differing[:5])}{', ...' * (len(differing) > 5)}")


def assert_close(a: State, b: State) -> None:
    """Every leaf equal to 1e-6, NaN to NaN; AssertionError that names the one that is not."""
    odd = sorted(a.keys() ^ b.keys())
    require(not odd, f"only one of the two has {', '.join(odd)}")
    for name, leaf in a.items():
        try:
            torch.testing.assert_close(leaf, b[name], rtol=1e-6, atol=1e-6, equal_nan=True)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from None


class Metrics(list[State]):
    """Copies of every update's metrics: what `Trial.train` may be told to call."""

    def __call__(self, clock: Clock, metrics: State) -> None:
        self.append(copies(metrics))


def copies(state: Mapping[str, Any]) -> State:
    """Copies of the leaves, which a later update leaves alone."""
    return {name: leaf.detach().clone() for name, leaf in state.items()}


@contextmanager
def folder() -> Iterator[Path]:
    """An empty folder, gone afterwards."""
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


def final_state(folder: Path) -> State:
    """All tensors of a run's newest checkpoint."""
    saved, notes = checkpoint.load(RunFolder(folder).checkpoints)
    require(not notes, f"{folder}: {notes}")
    return {f"{stem}/{name}": leaf for stem, leaves in saved.files.items() for name, leaf in leaves.items()}


def poison(rollout: Rollout, replica: int) -> Rollout:
    """The same rollout with every reward of one replica NaN."""
    reward = rollout.reward.clone()
    reward[replica] = float("nan")
    return rollout.with_(reward=reward)


def act_once(trial: Trial, mode: Any, rng: Any, mask: Any = None) -> Any:
    """Actions on a reset of the training env; memory fresh. A mask [R * N, A] says what is allowed."""
    task, replicas, n = trial.task, len(trial.task.evaluation.replicas), trial.task.config.num_envs
    env = envs.make(task.config.env, replicas * n)
    obs = task.obs.read(env.reset(seed=7)[0]).reshape(replicas, n, *task.obs.shape)
    if mask is None and task.masks:
        mask = envs.abilities(env).masks()  # type: ignore[misc]
    masked = {} if mask is None else {"mask": torch.from_numpy(mask).view(replicas, n, -1)}
    dtype = task.config.dtype if task.obs.dtype.startswith("float") else task.obs.dtype
    with torch.no_grad():
        act = trial.algo.act(
            torch.from_numpy(obs).to(getattr(torch, dtype)),
            trial.algo.initial_memory(n),
            torch.ones(replicas, n, dtype=torch.bool),
            step=np.zeros(replicas, np.int64),
            mode=mode,
            rng=rng,
            **masked,
        )
    return act.action
