"""A case, and how many of them are tried: in folders of their own, by processes that share nothing."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path


@dataclass(frozen=True)
class Case:
    """A name, a command as a user types it, and how it is tried in an empty folder.

    `attempt` says what was wrong, '' where nothing was. `counts` is how often the fault strikes;
    a slow case takes minutes, and is in no sample.
    """

    name: str
    command: str
    attempt: Callable[[Path], str]
    counts: int = 1
    slow: bool = False


@dataclass(frozen=True)
class Verdict:
    case: Case
    wrong: str


ROOT = Path()  # where everything is tried; set by `tried`, before processes are forked
_cases: Sequence[Case] = ()


def tried(cases: Sequence[Case], jobs: int) -> Iterator[Verdict]:
    """The verdict on every case, in their order."""
    global ROOT, _cases
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="faults-", dir=shared if shared.is_dir() else None) as root:
        ROOT, _cases = Path(root), cases
        with ProcessPoolExecutor(jobs, get_context("fork"), _at_home) as pool:
            for case, wrong in zip(cases, pool.map(_try, range(len(cases))), strict=True):
                yield Verdict(case, wrong)


def _at_home() -> None:
    """A process of its own has a home of its own."""
    home = os.environ["HOME"] = str(ROOT / "home")
    os.makedirs(home, exist_ok=True)


def _try(index: int) -> str:
    folder = ROOT / str(index)
    folder.mkdir()
    try:
        return _cases[index].attempt(folder)
    except Exception:
        return f"the campaign itself failed: {traceback.format_exc().strip().splitlines()[-1]}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sampled(cases: Sequence[Case], most: int | None, seed: int) -> list[Case]:
    """All cases, or some of them, spread evenly over what they are about."""
    if most is None:
        return list(cases)
    cases = [case for case in cases if not case.slow]
    most = min(most, len(cases))
    chance = random.Random(seed)
    width = len(cases) / most
    return [cases[int(width * (i + chance.random()))] for i in range(most)]
