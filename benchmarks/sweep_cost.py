"""What it costs to run a sweep's jobs in processes of their own, side by side.

    PYTHONPATH=. python benchmarks/sweep_cost.py [JOBS]

The same jobs (ppo on CartPole, 50,000 steps each) one after the other in Hydra's own application, which
runs them in one process, and side by side; and how much faster two busy loops are side by side than one
after the other, which is what this machine has to give at the time. CPU seconds and wall time of whole
commands, start and ranking included.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

TRAIN = ["algo=ppo", "env=cartpole", "total_steps=50000", "log.plot=false"]


def cost(work: Callable[[], object]) -> tuple[float, float, float]:
    """CPU seconds, wall seconds and the largest process's megabytes of what is run within."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    work()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, time.monotonic() - began, after.ru_maxrss / 1000


def command(*words: str) -> Callable[[], object]:
    line = [sys.executable, "-m", "rlrun", "-m", *TRAIN, *words]
    return lambda: subprocess.run(line, check=True, capture_output=True)


def busy(side_by_side: bool) -> None:
    """Two loops of Python, at once or one after the other."""
    loop = [sys.executable, "-c", "x = 0\nfor i in range(60_000_000): x += i"]
    first = subprocess.Popen(loop)
    if not side_by_side:
        first.wait()
    subprocess.Popen(loop).wait()
    first.wait()


def main(jobs: int) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    seeds = f"seed={','.join(map(str, range(jobs)))}"
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        one = cost(command(seeds, "hydra.sweep.dir=one", "hydra.sweep.subdir=job${hydra:job.num}"))
        two = cost(command(seeds, "sweep=two", "jobs=2"))
        loops = [cost(lambda how=how: busy(how))[1] for how in (False, True)]  # type: ignore[misc]
    print(f"{jobs} jobs          CPU s   wall s   largest process MB")
    for name, (cpu, wall, memory) in (("one process", one), ("side by side", two)):
        print(f"{name:14} {cpu:6.1f}  {wall:7.1f}   {memory:.0f}")
    gain, most = one[1] / two[1], loops[0] / loops[1]
    print(
        f"CPU {two[0] / one[0]:.2f} of one process's; {gain:.2f} times as fast, two busy loops {most:.2f}: ",
        end="",
    )
    print(f"{gain / most:.2f} of it")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 8)
