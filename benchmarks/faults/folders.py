"""Hostile run folders: no code runs, nothing outside changes, no size is believed, no escape is printed.

Each mutation of a small run (a plain one, one walked forward) meets the verbs that look at what was mutated,
and two that do not, which must work as if nothing had happened.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import sys
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

import numpy as np

from faults import campaign
from faults.campaign import Case
from faults.contents import WEIGHTS, documents, edits, tampered, texts
from faults.mutations import Mutation, renamed, stand_ins
from faults.process import Child, Seen, changes, rlrun, start, tree

SECONDS = 20.0
CPU_SECONDS, MEGABYTES = 2.0, 500.0  # beyond importing torch
SMALL = (
    "total_steps=450 checkpoint.every_steps=150 algo.learning_starts=100 algo.batch_size=16 "
    "algo.buffer_size=400 model.hidden=[8]"
)
BASES = {
    "plain": "algo=dqn env=cartpole env.max_steps=50 replicas=2 eval.episodes=3 eval.during=2",
    "walk": "algo=dqn env=series env.price=close eval=walk_forward eval.n_folds=2",
}
VERBS = ("evaluate", "play", "record", "resume", "compare", "report", "load")
# What each verb reads and writes: damage to the rest must not bother it. `resume` looks at everything.
LOOKS = {
    "evaluate": "run.json ckpt summary.json report.json",
    "play": "run.json ckpt play.gif .play.gif.tmp",
    "record": "run.json ckpt episodes",
    "compare": "run.json summary.json",
    "load": "run.json ckpt",
    "report": "run.json summary.json metrics.jsonl curve.png policy.png report.md report.json folds.json "
    "test_steps.csv.gz equity.png folds.png .curve.png.tmp .report.md.tmp",
}


def looks(verb: str, entry: str) -> bool:
    return verb == "resume" or not entry or entry in LOOKS[verb].split()


def cases(seed: int) -> list[Case]:
    return list(_cases(random.Random(seed)))


def _cases(chance: random.Random) -> Iterator[Case]:
    for base in BASES:
        untouched = Mutation("untouched", "", lambda run, outside, chance: None, base)
        for verb in VERBS:
            yield _case(untouched, verb, 0)
    for mutation in (*stand_ins(), *renamed(), *documents(), *edits(), *tampered(), *texts()):
        closely = [verb for verb in VERBS if looks(verb, mutation.touches)]
        others = [verb for verb in VERBS if verb not in closely]
        if "link" not in mutation.name:
            closely = chance.sample(closely, min(2, len(closely)))
        for verb in [*closely, *chance.sample(others, min(1, len(others)))]:
            yield _case(mutation, verb, chance.randrange(1 << 30))


def _case(mutation: Mutation, verb: str, seed: int) -> Case:
    command = f"rlrun {verb} RUN" if verb != "load" else "rlrun.load(RUN)"
    return Case(f"{mutation.base}: {mutation.name}", command, partial(attempt, mutation, verb, seed))


@cache
def template(base: str) -> Path:
    """A finished run and, beside it, one that was killed on its way; made once by each process."""
    place = campaign.ROOT / f"{base}-{os.getpid()}"
    place.mkdir()
    rows = np.random.default_rng(0).normal(0, 1, 800).cumsum() + 100
    (place / "table.csv").write_text("time,close\n" + "".join(f"{i},{x:.3f}\n" for i, x in enumerate(rows)))
    words = [*BASES[base].split(), *SMALL.split()]
    words += [f"env.path={place / 'table.csv'}"] if base == "walk" else []
    seen = start([*words, "out=runs"], place).end(120)
    assert seen.code == 0, seen.err
    (run,) = (place / "runs").glob("*/*")
    run.rename(place / "whole")
    shutil.copytree(place / "whole", place / "part")
    shutil.rmtree(max((place / "part" / "ckpt").iterdir()))
    (place / "part" / "summary.json").unlink()
    (place / "part" / "status.json").write_text('{"status": "running", "step": 300, "reason": ""}')
    return place


def prepared(base: str, verb: str, folder: Path) -> tuple[Path, Path, Path]:
    """A run, what is none of its business, and the folder of a reader who has a module called planted."""
    run = folder / "runs" / "dqn-task" / "20250101-000000-abcd"
    outside, work = folder / "outside", folder / "work"
    shutil.copytree(template(base) / ("part" if verb == "resume" else "whole"), run)
    (outside / "folder" / "00000001").mkdir(parents=True)
    for name in ("file", "folder/file", "folder/00000001/file"):
        (outside / name).write_text("mine")
    work.mkdir()
    harm = f"open({str(folder / 'RAN')!r}, 'w').close()\n"
    (work / "planted.py").write_text(f"{harm}def run(*a, **k): {harm}class X: pass\nWrapper = X\n")
    return run, outside, work


def attempt(mutation: Mutation, verb: str, seed: int, folder: Path) -> str:
    run, outside, work = prepared(mutation.base, verb, folder)
    run = mutation.change(run, outside, random.Random(seed)) or run
    before = _around(folder, run)
    words = [verb, os.path.relpath(run, work), *(["--episodes=2"] if verb == "record" else [])]
    seen = Child(partial(_load, run), work).end(SECONDS) if verb == "load" else rlrun(words, work, SECONDS)
    return judged(mutation, verb, seen, changes(before, _around(folder, run)))


def _around(folder: Path, run: Path) -> dict[str, str]:
    inside = os.path.relpath(run, folder) + os.sep
    return {path: what for path, what in tree(folder).items() if not path.startswith(inside)}


def judged(mutation: Mutation, verb: str, seen: Seen, changed: str) -> str:
    found = seen.flaws
    if changed:
        found.append("runs code of the folder" if "RAN" in changed else f"outside the folder: {changed}")
    if seen.seconds > CPU_SECONDS:
        found.append(f"takes {seen.seconds:.1f} CPU seconds")
    if seen.megabytes > MEGABYTES:
        found.append(f"takes {seen.megabytes:.0f} MB")
    if not found:
        found = _answered(mutation, verb, seen)
    return "; ".join(found)


def _answered(mutation: Mutation, verb: str, seen: Seen) -> list[str]:
    """What is wrong with an answer that did no harm."""
    must_work = mutation.name == "untouched" or verb in mutation.unharmed or not looks(verb, mutation.touches)
    must_work |= mutation.touches == "status.json" and not re.search("link|pipe|socket|folder", mutation.name)
    must_work &= (mutation.base, verb) != ("walk", "play")  # a series has no picture
    refusal = seen.err.rpartition("rlrun: ")[2].strip().splitlines()
    if seen.code not in (0, 1, 2) or (seen.code and not refusal):
        return [f"exit {seen.code} without a word"]
    if seen.code == 2 and len(refusal) > 4:
        return [f"a refusal of {len(refusal)} lines"]
    if seen.code and must_work:
        return [f"exit {seen.code}, and must work: {seen.last_words}"]
    if not seen.code and verb in mutation.refused:
        return ["is not refused"]
    if not seen.code and verb in WEIGHTS and verb != "resume" and mutation.says not in seen.err:
        return [f"does not say {mutation.says!r}"]
    return []


def _load(run: Path) -> int:
    import rlrun
    from rlrun.config import ConfigError
    from rlrun.runs.checkpoint import CheckpointError

    try:
        rlrun.load(run)
    except (ConfigError, CheckpointError) as error:
        print(f"rlrun: {error}", file=sys.stderr)
        return 2
    return 0


def imports() -> None:
    """What a process has imported before it is forked for a case."""
    import gymnasium  # noqa: F401
    import matplotlib.figure  # noqa: F401
    import torch
    from safetensors import numpy  # noqa: F401
    from tensorboard.summary.writer.event_file_writer import EventFileWriter  # noqa: F401

    from rlrun.config import catalog

    for group in ("algo", "env", "eval", "model", "data"):
        catalog.everything(group)
    torch.set_num_threads(1)
