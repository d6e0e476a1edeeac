"""kill -9 at random instants of a run of each family, which resumes to the bits of an uninterrupted one."""

from __future__ import annotations

import random
import signal
from functools import partial
from pathlib import Path

from faults import runs
from faults.campaign import Case
from faults.folders import imports as imports

COST = 5  # a case takes as long as five of other kinds
EACH = 3  # runs of each family, each killed twice: in its first process, and in the one that resumes it


def cases(seed: int) -> list[Case]:
    chance = random.Random(seed)
    found = []
    for what in [*runs.FAMILIES, "walk_forward"]:
        for _ in range(EACH):
            shares = chance.uniform(0.02, 0.9), chance.uniform(0.02, 0.7)
            killed = "rlrun {}, killed at {:.2f} of its time and {:.2f} of what is left".format(what, *shares)
            found.append(Case(what, killed, partial(attempt, what, shares), 2))
    return found


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
