"""Workers side by side: each does one job, in a process and a session of its own.

They are forked from a process that has imported what a run needs and made no thread of PyTorch's, so that a
job costs its training and little more; where that cannot be (CUDA, or a system that does not fork well) they
are started anew. A worker tells how far it is through a pipe, and finds out through another one that nobody
listens any more: then it saves, and ends.
"""

from __future__ import annotations

import _thread
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from rlrun.runs.process import computing, stoppable
from rlrun.sweeps.crew import Crew, Settled
from rlrun.sweeps.folder import INTERRUPTED
from rlrun.sweeps.work import Order, done


@dataclass
class Worker:
    """A process that does a job."""

    order: Order
    pid: int
    pipe: int  # what it tells
    process: subprocess.Popen[bytes] | None  # where it was started anew
    began: float = field(default_factory=time.monotonic)
    progress: list[str] = field(default_factory=list)  # the newest, most useful piece first
    told: dict[str, Any] | None = None  # what became of the job
    _rest: bytes = b""

    def hear(self) -> bool:
        """Take in what it tells; false where it has ended."""
        data = os.read(self.pipe, 1 << 16)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            self.progress = message.get("progress", self.progress)
            self.told = message.get("done", self.told)
        return bool(data)

    def wait(self) -> int:
        """Its exit code, or minus the signal that ended it."""
        os.close(self.pipe)
        if self.process:
            return self.process.wait()
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


class Pool(Crew):
    """Workers of this process."""

    def __init__(self, most: int, logs: Path, runs: dict[str, str], *, fork: bool) -> None:
        """`logs` is where a job's output goes, `runs` are the run folders there are by their jobs' hashes."""
        super().__init__(most)
        self._logs, self._runs, self._fork = logs, runs, fork
        self._alive: tuple[int, int] = os.pipe()  # never written to: it ends with this process

    def work(self, orders: Iterator[Order], settled: Settled, look: Callable[[], None]) -> None:
        with computing(1) if self._fork else nullcontext():  # a fork must find no threads of PyTorch's
            super().work(orders, settled, look)

    def begin(self, orders: Sequence[Order]) -> None:
        self.running |= {order.name: self._begin(order) for order in orders}

    def close(self) -> None:
        for end in self._alive:
            with suppress(OSError):
                os.close(end)

    def _begin(self, order: Order) -> Worker:
        heard, told = os.pipe()
        log = os.open(self._logs / f"{order.name}.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            if not self._fork:
                return self._start(order, heard, told, log)
            sys.stdout.flush()
            sys.stderr.flush()
            pid = os.fork()
            if pid:
                return Worker(order, pid, heard, None)
            _child(order, self._runs, (told, self._alive[0], log))
        finally:
            os.close(told)
            os.close(log)

    def _start(self, order: Order, heard: int, told: int, log: int) -> Worker:
        line = [sys.executable, "-m", "rlrun.sweeps.pool", str(told), str(self._alive[0])]
        how: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": log, "stderr": log}
        process = subprocess.Popen(line, pass_fds=(told, self._alive[0]), start_new_session=True, **how)
        assert process.stdin is not None
        with process.stdin as words:
            words.write(json.dumps({"order": order.plain(), "runs": self._runs}).encode())
        return Worker(order, process.pid, heard, process)

    def hear(self, settled: Settled, seconds: float) -> None:
        import select  # which some systems lack

        by_pipe = {worker.pipe: worker for worker in self.running.values()}
        for pipe in select.select(list(by_pipe), [], [], seconds)[0]:
            worker = by_pipe[pipe]
            if worker.hear():
                continue
            del self.running[worker.order.name]
            code, told = worker.wait(), worker.told
            if told is None:
                with suppress(OSError):  # what it started itself, such as workers of an env
                    os.killpg(worker.pid, signal.SIGKILL)
                told = {"state": INTERRUPTED, "reason": _ended_by(code)}
                told["seconds"] = round(time.monotonic() - worker.began, 1)
            settled(worker.order.name, told)

    def tell_to_stop(self) -> None:
        for worker in self.running.values():
            with suppress(OSError):
                os.kill(worker.pid, signal.SIGTERM)

    def give_up(self, settled: Settled) -> None:
        for worker in self.running.values():
            with suppress(OSError):
                os.killpg(worker.pid, signal.SIGKILL)
        while self.running:
            self.hear(settled, 1.0)


def _ended_by(code: int) -> str:
    """How a worker ended that told nothing."""
    if code >= 0:
        return f"its process ended with exit code {code}"
    with suppress(ValueError):
        name = signal.Signals(-code).name
        return f"killed by {name}" + (": out of memory? jobs=1 leaves it more" if name == "SIGKILL" else "")
    return f"killed by signal {-code}"


def _child(order: Order, runs: dict[str, str], mine: tuple[int, int, int]) -> NoReturn:
    """A forked worker: nothing of its parent's is open in it but its ends of the pipes."""
    code = 1
    try:
        told, alive, log = mine
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        most = max(os.sysconf("SC_OPEN_MAX"), 256) if hasattr(os, "sysconf") else 4096
        below = 3
        for kept in sorted((told, alive)):
            os.closerange(below, kept)
            below = kept + 1
        os.closerange(below, min(most, 1 << 16))
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
        sys.stdout, sys.stderr = (
            open(number, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
            for number in (1, 2)
        )
        code = _work(order, runs, told, alive)
    finally:
        with suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _work(order: Order, runs: dict[str, str], told: int, alive: int) -> int:
    from rlrun.runs.log import Progress

    def tell(**message: Any) -> None:
        with suppress(OSError):
            os.write(told, json.dumps(message).encode() + b"\n")

    Progress.follower = lambda pieces: tell(progress=list(pieces))
    with stoppable(for_good=True):
        with suppress(RuntimeError):
            _thread.start_new_thread(_end_with, (alive,))
        result = done(order, runs)
    tell(done=result)
    return 0


def _end_with(alive: int) -> None:
    """Ask this process to stop once the one that started it is gone."""
    with suppress(OSError):
        os.read(alive, 1)
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """`python -m rlrun.sweeps.pool TOLD ALIVE`: a worker that was started anew; its order is on stdin."""
    told, alive = map(int, sys.argv[1:])
    data = json.loads(sys.stdin.read())
    os._exit(_work(Order.of(data["order"]), data["runs"], told, alive))


if __name__ == "__main__":
    main()
