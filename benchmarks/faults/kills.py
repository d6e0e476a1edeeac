"""kill -9 at random instants of a run of each family: what is resumed ends in the bits of an uninterrupted run."""

from __future__ import annotations

import random
import signal
from functools import partial
from pathlib import Path

from faults import runs
from faults.campaign import Case
from faults.folders import imports as imports

EACH = 3  # runs of each family, each killed twice: in its first process, and in the one that resumes it


def cases(seed: int) -> list[Case]:
    chance = random.Random(seed)
    return [
        Case(what, f"rlrun {' '.join(runs.FAMILIES.get(what, ([], 0))[0]) or what}, killed at {shares[0]:.2f}", partial(attempt, what, shares), 2)
        for what in [*runs.FAMILIES, "walk_forward"]
        for shares in [(chance.uniform(0.02, 0.9), chance.uniform(0.02, 0.7)) for _ in range(EACH)]
    ]  # fmt: skip


def attempt(what: str, shares: tuple[float, ...], folder: Path) -> str:
    seconds = runs.whole(what).seconds
    for share in shares:
        child = runs.begin_or_resume(what, folder)
        if ended := child.wait(share * seconds):  # faster than the uninterrupted one
            if ended.code != 0:
                return f"ends before it is killed, {runs.said(ended)}"
            break
        child.kill(signal.SIGKILL)
        child.end(10)
    return runs.finished(what, folder)
