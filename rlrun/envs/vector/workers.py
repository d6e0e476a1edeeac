"""Sub-environments stepped by several processes, with the same bits as by one.

Each worker is a process with a `GymVectorEnv` of its own over some of the sub-environments. These are
functions of their seeds and actions, so who steps them makes no difference. (Gymnasium's own
AsyncVectorEnv can neither save its environments nor go on without one that is lost.)
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv
from gymnasium.vector.utils import batch_space

from rlrun.config.catalog import import_modules
from rlrun.config.keys import EnvError
from rlrun.envs.vector.base import Arrays, Step, episode_seeds, reset_rows
from rlrun.envs.vector.gym import GymVectorEnv

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_LEAVING = 1.0  # seconds that a worker has to close its environments
_pipes: weakref.WeakSet[Connection] = weakref.WeakSet()  # this process's ends of them
_processes: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()  # and whose children they are


class _Lost(Exception):
    """A worker will not answer again; the message says why."""


@dataclass(eq=False)
class _Worker:
    """One process, and the sub-envs that it steps."""

    process: Any
    pipe: Connection
    rows: slice
    lost: bool = False

    def ask(self, name: str, *arguments: Any) -> None:
        with suppress(OSError):  # it has gone: its answer says so
            self.pipe.send((name, arguments))

    def answer(self, timeout: float) -> Any:
        """What it was asked for; EnvError where an environment failed."""
        try:
            if not self.pipe.poll(timeout):
                raise _Lost(f"has not answered in {timeout:g} s (env.timeout), and was ended")
            found = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join(_LEAVING)
            raise _Lost(_departed(self.process.exitcode)) from None
        if isinstance(found, list):
            raise EnvError(*found)
        return found

    def end(self) -> None:
        self.lost = True
        self.process.kill()
        self.pipe.close()


def _departed(code: int | None) -> str:
    if code is not None and code < 0:
        return f"died of {signal.Signals(-code).name}"
    return f"ended by itself, with exit code {code}"


def _serve(
    pipe: Connection,
    parent: int,
    modules: Sequence[str],
    make: Callable[[int], GymVectorEnv],
    first: int,
    count: int,
) -> None:
    """A worker's life: do what comes through the pipe, until nothing can come any more."""
    for number in _SIGNALS:  # of the whole group, perhaps: the process that it works for decides what to do
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_outlive_not, args=(parent,), daemon=True).start()
    for inherited in list(_pipes):  # of a process that was forked: who holds them would keep others alive
        inherited.close()
    if "torch" in sys.modules:  # the threads of the process that it was forked from are not here
        sys.modules["torch"].set_num_threads(1)
    with suppress(EOFError, OSError):
        try:
            import_modules(modules, "env.id")
            env = make(count)
            env.first = first
        except BaseException as error:
            pipe.send(_lines(error))
            return
        pipe.send(None)
        while True:
            name, arguments = pipe.recv()
            try:
                found = getattr(env, name)(*arguments)
            except BaseException as error:
                pipe.send(_lines(error))
                continue
            pipe.send(found if name in ("state", "baseline", "render_frame", "close") else env.seen())


def _outlive_not(parent: int) -> None:
    """End with the process that this one works for, whatever is done meanwhile: its locks are here too."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


def _end_all() -> None:
    for process, parent in list(_processes.items()):
        if parent == os.getpid():
            process.kill()


def _lines(error: BaseException) -> list[str]:
    return getattr(error, "lines", None) or [f"{type(error).__name__}: {error}"]


@dataclass(frozen=True)
class Making:
    """What a `GymVectorEnv` is made of, but for how many; it can be told to another process."""

    env_id: str
    max_steps: int | None
    kwargs: Mapping[str, Any] | None
    wrappers: Sequence[tuple[str, Mapping[str, Any]]]

    def __call__(self, num_envs: int) -> GymVectorEnv:
        return GymVectorEnv(self.env_id, num_envs, self.max_steps, self.kwargs, self.wrappers)


class WorkersEnv(VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """A `GymVectorEnv` whose sub-envs live in `workers` processes.

    A worker that dies, does not answer in `timeout` seconds, or has an environment that fails is
    given up with all its sub-envs. Where `on_loss` is set, it is told of them and the others go on;
    episodes of the lost ones are over from then on.

    Raises:
        ConfigError: as `GymVectorEnv`.
        EnvError: a worker was lost, and `on_loss` is not set.
    """

    def __init__(
        self, make: Making, num_envs: int, workers: int, timeout: float, modules: Sequence[str] = ()
    ) -> None:
        self.num_envs, self._timeout = num_envs, timeout
        self.on_loss: Callable[[Sequence[int], str], None] | None = None
        self._one = one = make(1)  # says what they are like, and is tried out
        self.metadata, self.spec, self.render_mode = one.metadata, one.spec, one.render_mode
        self.single_observation_space = one.single_observation_space
        self.single_action_space = one.single_action_space
        self.observation_space = batch_space(one.single_observation_space, num_envs)
        self.action_space = batch_space(one.single_action_space, num_envs)
        self._seen = [np.repeat(each, num_envs, 0) for each in one.seen()]
        self._seed = np.zeros(num_envs, np.uint64)
        self._windows = one.windows and one.windows.many(num_envs)  # which rows all of them play
        self._reports = tuple(one.windows.info()) if one.windows else ()  # after the mask in `_seen`
        self.reset_options = one.reset_options
        masks = (lambda: self._seen[4].copy()) if one.abilities.masks else None
        self.abilities = replace(one.abilities, masks=masks)
        # Forked where that can be: what was registered in this process is there in the other.
        methods = multiprocessing.get_all_start_methods()
        context: Any = multiprocessing.get_context("fork" if "fork" in methods else "spawn")
        self._workers: list[_Worker] = []
        for rows in np.array_split(np.arange(num_envs), min(workers, num_envs)):
            ours, its = context.Pipe()
            _pipes.add(ours)
            arguments = (its, os.getpid(), list(modules), make, int(rows[0]), len(rows))
            process = context.Process(target=_serve, args=arguments, daemon=True)
            process.start()
            its.close()
            if not _processes:  # so that it comes before multiprocessing's own, which would wait for them
                atexit.register(_end_all)
            _processes[process] = os.getpid()
            self._workers.append(_Worker(process, ours, slice(int(rows[0]), int(rows[-1]) + 1)))
        self._collect(self._workers)

    def reset(
        self, *, seed: Any = None, options: Mapping[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """As `GymVectorEnv.reset`."""
        options = options or {}
        self._one.check_options(options)
        mask = np.zeros(self.num_envs, bool)
        mask[rows := reset_rows(options, self.num_envs)] = True
        self._seed[mask] = episode_seeds(seed, self._seed)[mask]
        if self._windows:
            self._windows.choose(rows, self._seed[rows], options)
        asked = [worker for worker in self._here() if mask[worker.rows].any()]
        for worker in asked:
            played = {name: values[worker.rows] for name, values in self._rows_played().items()}
            worker.ask("begin", self._seed[worker.rows], mask[worker.rows], played)
        self._collect(asked)
        return self._seen[0].copy(), {}

    def step(self, actions: np.ndarray) -> Step:
        """As `GymVectorEnv.step`."""
        asked = list(self._here())
        for worker in asked:
            worker.ask("step", actions[worker.rows])
        self._collect(asked)
        obs, reward, terminated, truncated, _, *reports = (each.copy() for each in self._seen)
        return obs, reward, terminated, truncated, dict(zip(self._reports, reports, strict=True))

    def baseline(self, name: str, obs: np.ndarray) -> np.ndarray:
        """As `GymVectorEnv.baseline`; of sub-envs that are lost any action."""
        asked = list(self._here())
        for worker in asked:
            worker.ask("baseline", name, obs[worker.rows])
        found = self._collect(asked)
        blank = self._one.baseline("random", obs[:1])
        counts = [(worker, worker.rows.stop - worker.rows.start) for worker in self._workers]
        return np.concatenate([found.get(worker, blank.repeat(count, 0)) for worker, count in counts])

    def _rows_played(self) -> Arrays:
        return self._windows.state() if self._windows else {}

    def _here(self) -> Iterator[_Worker]:
        return (worker for worker in self._workers if not worker.lost)

    def _collect(self, asked: Sequence[_Worker]) -> dict[_Worker, Any]:
        """The answers of workers; what they show of their sub-envs is taken over."""
        answers: dict[_Worker, Any] = {}
        lost = []
        for worker in asked:
            try:
                found = answers[worker] = worker.answer(self._timeout)
            except (_Lost, EnvError) as error:
                lost.append((worker, error))
                continue
            if isinstance(found, tuple):
                for mine, its in zip(self._seen, found, strict=True):
                    mine[worker.rows] = its
        for worker, reason in lost:
            self._give_up(worker, reason)
        return answers

    def _give_up(self, worker: _Worker, error: Exception) -> None:
        worker.end()
        rows = range(worker.rows.start, worker.rows.stop)
        of = f"sub-envs {rows[0]} to {rows[-1]}" if len(rows) > 1 else f"sub-env {rows[0]}"
        fault = error
        if isinstance(error, _Lost):
            fault = EnvError(f"{self._one.env_id}: the worker of {of} {error}")
        if self.on_loss is None:
            raise fault
        _, reward, terminated, truncated, mask, *reports = (each[worker.rows] for each in self._seen)
        for report in reports:
            report[:] = 0
        reward[:], terminated[:], truncated[:], mask[:] = 0.0, True, False, True
        self.on_loss(rows, str(fault).replace("\n", "; "))

    def state(self) -> Arrays:
        """As `GymVectorEnv.state`; of sub-envs that are lost no more than their seeds."""
        asked = list(self._here())
        for worker in asked:
            worker.ask("state")
        found, blank, parts = self._collect(asked), self._one.state(), []
        for worker in self._workers:
            count = worker.rows.stop - worker.rows.start
            empty = {name: np.repeat(value, count, 0) for name, value in blank.items()}
            empty["seed"] = self._seed[worker.rows].view(np.int64)
            empty |= {name: values[worker.rows] for name, values in self._rows_played().items()}
            parts.append(found.get(worker, empty))
        length = max(part["actions"].shape[1] for part in parts)
        for part in parts:
            actions = part["actions"]
            more = [(0, 0), (0, length - actions.shape[1]), *[(0, 0)] * (actions.ndim - 2)]
            part["actions"] = np.pad(actions, more)
        return {name: np.concatenate([part[name] for part in parts]) for name in blank}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """As `GymVectorEnv.load_state`."""
        if "seed" in state and state["seed"].shape == self._seed.shape:
            self._seed[:] = state["seed"].view(np.uint64)
        for name, values in self._rows_played().items():
            if name in state and state[name].shape == values.shape:
                values[:] = state[name]
        asked = list(self._here())
        for worker in asked:
            worker.ask("load_state", {name: value[worker.rows] for name, value in state.items()})
        self._collect(asked)

    def render_frame(self, index: int) -> np.ndarray:
        """As `GymVectorEnv.render_frame`."""
        worker = next(each for each in self._workers if each.rows.start <= index < each.rows.stop)
        worker.ask("render_frame", index - worker.rows.start)
        picture: np.ndarray = worker.answer(self._timeout)
        return picture

    def render(self) -> tuple[np.ndarray, ...]:
        return tuple(self.render_frame(i) for i in range(self.num_envs))

    def close_extras(self, **kwargs: Any) -> None:
        for worker in self._here():
            worker.ask("close")
        for worker in self._here():
            with suppress(_Lost, EnvError):
                worker.answer(_LEAVING)
            worker.end()
        self._one.close()
