"""Jobs that another library runs: joblib's processes, a SLURM cluster by submitit, or Ray.

They are chosen and set up as Hydra's launchers are (`hydra/launcher=joblib hydra.launcher.n_jobs=4`), and do
the same jobs into the same folders. What is used of these libraries is little: handing over a function, and
asking what became of it.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlrun.runs.process import fault, stoppable
from rlrun.sweeps.crew import Crew, Settled
from rlrun.sweeps.folder import INTERRUPTED
from rlrun.sweeps.work import Order, done


@dataclass
class Submitted:
    """A job that was handed over."""

    handle: Any
    progress: list[str] = field(default_factory=lambda: ["handed over"])


class Launcher(Crew):
    """Hands jobs over, at most so many at a time, and waits for what becomes of them."""

    def __init__(self, params: Mapping[str, Any], most: int | None, logs: Path, runs: dict[str, str]) -> None:
        """`params` are those of `hydra.launcher`, `most` is what `jobs=` says."""
        super().__init__(most or 1 << 30)
        self.params, self._logs, self._runs = params, logs, runs

    @abstractmethod
    def submit(self, tasks: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Hand over calls of `remote` with these arguments; a handle of each."""

    @abstractmethod
    def ended(self, handle: Any) -> bool: ...

    @abstractmethod
    def result(self, handle: Any) -> dict[str, Any]:
        """What `remote` returned; raises where it was lost."""

    @abstractmethod
    def cancel(self, handle: Any) -> None:
        """Ask a job to stop, and to save."""

    def begin(self, orders: Sequence[Order]) -> None:
        place = str(self._logs.absolute()), os.getcwd()
        handles = self.submit([(order.plain(), self._runs, *place) for order in orders])
        self.running |= {o.name: Submitted(h) for o, h in zip(orders, handles, strict=True)}

    def hear(self, settled: Settled, seconds: float) -> None:
        time.sleep(seconds)
        for name, each in list(self.running.items()):
            if self.ended(each.handle):
                try:
                    told = self.result(each.handle)
                except Exception as error:
                    told = {"state": INTERRUPTED, "reason": f"its worker was lost: {fault(error)}"}
                del self.running[name]
                settled(name, told)

    def tell_to_stop(self) -> None:
        for each in self.running.values():
            with suppress(Exception):
                self.cancel(each.handle)

    def give_up(self, settled: Settled) -> None:
        """They are the library's to end."""


class Joblib(Launcher):
    """Processes of this machine, by joblib's executor."""

    def __init__(self, params: Mapping[str, Any], most: int | None, logs: Path, runs: dict[str, str]) -> None:
        joblib = importlib.import_module("joblib")
        super().__init__(params, most or joblib.effective_n_jobs(params["n_jobs"]), logs, runs)
        loky = importlib.import_module("joblib.externals.loky")
        self._executor = loky.get_reusable_executor(max_workers=self.most)

    def submit(self, tasks: Sequence[tuple[Any, ...]]) -> list[Any]:
        return [self._executor.submit(remote, *task) for task in tasks]

    def ended(self, handle: Any) -> bool:
        return bool(handle.done())

    def result(self, handle: Any) -> dict[str, Any]:
        return dict(handle.result())

    def cancel(self, handle: Any) -> None:
        if not handle.cancel():
            for process in list(self._executor._processes.values()):
                process.terminate()

    def close(self) -> None:
        self._executor.shutdown(wait=True, kill_workers=bool(self.running))


class Submitit(Launcher):
    """A cluster's queue, or processes of this machine that outlive this one."""

    cluster = "slurm"

    def __init__(self, params: Mapping[str, Any], most: int | None, logs: Path, runs: dict[str, str]) -> None:
        super().__init__(params, most, logs, runs)
        submitit = importlib.import_module("submitit")
        config = importlib.import_module("hydra_plugins.hydra_submitit_launcher.config")
        everywhere = {f for f in config.BaseQueueConf.__dataclass_fields__}
        own = {
            name: value
            for name, value in params.items()
            if name not in ("submitit_folder", "max_num_timeout")
        }
        tries = {f"{self.cluster}_max_num_timeout": params[n] for n in ("max_num_timeout",) if n in params}
        folder = logs.absolute() / "submitit" / "%j"
        self._executor = submitit.AutoExecutor(cluster=self.cluster, folder=folder, **tries)
        self._executor.update_parameters(
            **{name if name in everywhere else f"{self.cluster}_{name}": value for name, value in own.items()}
        )

    def submit(self, tasks: Sequence[tuple[Any, ...]]) -> list[Any]:
        return list(self._executor.map_array(remote, *zip(*tasks, strict=True)))

    def ended(self, handle: Any) -> bool:
        return bool(handle.done())

    def result(self, handle: Any) -> dict[str, Any]:
        return dict(handle.result())

    def cancel(self, handle: Any) -> None:
        handle.cancel(check=False)

    def close(self) -> None:
        """The queue goes on without us."""


class SubmititLocal(Submitit):
    cluster = "local"


class Ray(Launcher):
    """Tasks of a Ray cluster, or of one that is started here."""

    def __init__(self, params: Mapping[str, Any], most: int | None, logs: Path, runs: dict[str, str]) -> None:
        super().__init__(params, most, logs, runs)
        self._ray = importlib.import_module("ray")
        told = params.get("ray") or {}
        init = {name: value for name, value in (told.get("init") or {}).items() if value is not None}
        if init.get("address"):  # what a cluster has is not for a guest to say
            init = {
                name: init[name]
                for name in init
                if name not in ("num_cpus", "num_gpus", "object_store_memory")
            }
        if not self._ray.is_initialized():
            self._ray.init(**init)
        remote_options = {n: v for n, v in (told.get("remote") or {}).items() if v is not None}
        task = self._ray.remote(**remote_options) if remote_options else self._ray.remote
        self._task = task(remote)

    def submit(self, tasks: Sequence[tuple[Any, ...]]) -> list[Any]:
        return [self._task.remote(*task) for task in tasks]

    def ended(self, handle: Any) -> bool:
        return bool(self._ray.wait([handle], timeout=0)[0])

    def result(self, handle: Any) -> dict[str, Any]:
        return dict(self._ray.get(handle))

    def cancel(self, handle: Any) -> None:
        self._ray.cancel(handle)

    def close(self) -> None:
        self._ray.shutdown()


LAUNCHERS: dict[str, type[Launcher]] = {
    "joblib": Joblib,
    "submitit_local": SubmititLocal,
    "submitit_slurm": Submitit,
    "ray": Ray,
}


def remote(order: dict[str, Any], runs: dict[str, str], logs: str, cwd: str) -> dict[str, Any]:
    """One job, in whatever process a library calls this."""
    os.chdir(cwd)
    told = Order.of(order)
    with _written_to(Path(logs) / f"{told.name}.txt"), stoppable():
        return done(told, runs)


@contextmanager
def _written_to(path: Path) -> Iterator[None]:
    """Within it, what the process prints goes to a file."""
    before = [os.dup(number) for number in (1, 2)]
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    streams = sys.stdout, sys.stderr
    try:
        for number in (1, 2):
            os.dup2(handle, number)
        with open(1, "w", buffering=1, closefd=False) as out, open(2, "w", buffering=1, closefd=False) as err:
            sys.stdout, sys.stderr = out, err
            yield
    finally:
        sys.stdout, sys.stderr = streams
        for number, old in zip((1, 2), before, strict=True):
            os.dup2(old, number)
            os.close(old)
        os.close(handle)
