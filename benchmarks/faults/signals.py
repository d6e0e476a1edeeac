"""SIGTERM, SIGINT and SIGHUP, once and twice, in every phase: a prompt end, the right code, an exact resume.

Phases before a run is there are met by fresh processes, at random instants; the others by an environment and
a listener that tell by a file where they are, and sleep there as long as a file says so.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

from guard import sums

from faults import campaign, runs
from faults.campaign import Case
from faults.folders import imports as imports
from faults.process import Seen

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
COST = 4  # a case takes as long as four of other kinds
SECONDS = 3.5  # from the signal to the end: two, and what a busy machine needs
AT_ONCE = 1.5  # from a second signal
PLUGIN = '''
import os, time
from dataclasses import dataclass
import gymnasium
import numpy as np
from rlrun.config import key
from rlrun.registry import register
from rlrun.runs.listener import Listener


def phase(name):
    """Tell that this is reached, and sleep if that is asked for."""
    if os.path.exists("asleep-" + name):
        open("reached", "w").close()
        while os.path.exists("asleep-" + name):
            time.sleep(0.5)


class Phases(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    steps = made = 0

    def __init__(self):
        Phases.made += 1
        phase("building")

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        phase("reset")
        self.t = 0
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), {}

    def step(self, action):
        Phases.steps += 1
        self.t += 1
        if Phases.steps > 300:
            phase("training")
        if Phases.steps > 1100:
            phase("evaluation")
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), float(action), self.t >= 8, False, {}


gymnasium.register("Phases-v0", Phases)


@dataclass
class PhasesConfig:
    pass


@register("listener", "phases", PhasesConfig)
class PhasesListener(Listener):
    def __init__(self, config):
        pass

    def open(self, run):
        phase("opening")

    def record(self, step, due, values):
        if step.max() > 600:
            phase("recording")

    def mark(self):
        phase("saving")
        return 0

    def close(self, summary):
        phase("writing")
'''
RECIPE = "defaults:\n  - /schema/listener/phases@_here_\nimports: [phases]\n"
PPO = "algo=ppo algo.rollout_steps=32 algo.epochs=1 algo.n_minibatches=1 num_envs=2 total_steps=1024"
TASK = "env=gym env.id=phases:Phases-v0 env.allow_import=true listener=phases eval.episodes=40 eval.during=1"
WORDS = [*PPO.split(), *TASK.split(), "checkpoint.every_steps=250", *runs.QUIET, "out=runs"]
PHASES = ("building", "opening", "reset", "training", "recording", "saving", "evaluation", "writing")


def cases(seed: int) -> list[Case]:
    chance, found = random.Random(seed), list[Case]()

    def add(name: str, number: signal.Signals, twice: bool, attempt: Callable[[Path], str]) -> None:
        found.append(
            Case(
                f"{number.name}{' twice' if twice else ''}, {name}",
                "rlrun " + " ".join(WORDS if name in PHASES else ["algo=..."]),
                attempt,
            )
        )

    for number in SIGNALS:
        for twice in (False, True):
            for phase in PHASES:
                add(phase, number, twice, partial(attempt_in, phase, number, twice))
            for share in (chance.uniform(0, 0.2), chance.uniform(0.2, 0.6), chance.uniform(0.6, 1.0)):
                add(
                    f"at {share:.2f} of a fresh process's start",
                    number,
                    twice,
                    partial(attempt_fresh, share, number, twice),
                )
            for what in ("sarsa", "dqn", "walk_forward"):
                add(
                    f"{what} at a random instant",
                    number,
                    twice,
                    partial(attempt_at, what, chance.uniform(0.05, 0.95), number, twice),
                )
    return found


def prepared(folder: Path) -> Path:
    (folder / "phases.py").write_text(PLUGIN)
    (folder / "conf" / "listener").mkdir(parents=True)
    (folder / "conf" / "listener" / "phases.yaml").write_text(RECIPE)
    return folder


@cache
def awake() -> dict[str, str]:
    """The sums of the run in which nothing sleeps."""
    folder = campaign.ROOT / f"phases-{os.getpid()}"
    folder.mkdir()
    seen = runs.start(WORDS, prepared(folder)).end(60)
    assert seen.code == 0, seen.err
    return sums(runs.run_in(folder) or folder)


def attempt_in(phase: str, number: signal.Signals, twice: bool, folder: Path) -> str:
    expected, asleep = awake(), prepared(folder) / f"asleep-{phase}"
    asleep.touch()
    child = runs.start(WORDS, folder)
    deadline = time.monotonic() + 60
    while not (folder / "reached").exists():
        if seen := child.wait(0.01):
            return f"ends before {phase}, {runs.said(seen)}"
        if time.monotonic() > deadline:
            child.end(0)
            return f"does not reach {phase}"
    found = _signalled(child.kill, child.end, number, twice)
    asleep.unlink()
    run = runs.run_in(folder)
    if found or run is None:
        return found
    again = runs.start(["resume", str(run.relative_to(folder)), "--allow-import"], folder).end(60)
    if again.code != 0 or again.flaws:
        return f"cannot be resumed: {', '.join(again.flaws)} {runs.said(again)}"
    return "" if sums(run) == expected else "other bits after resuming"


def attempt_at(what: str, share: float, number: signal.Signals, twice: bool, folder: Path) -> str:
    seconds = runs.whole(what).seconds
    child = runs.begin_or_resume(what, folder)
    if ended := child.wait(share * seconds):
        return "" if ended.code == 0 else runs.said(ended)
    found = _signalled(child.kill, child.end, number, twice)
    return found or runs.finished(what, folder)


def attempt_fresh(share: float, number: signal.Signals, twice: bool, folder: Path) -> str:
    """From the first import to the first checkpoint: about three seconds."""
    words = [sys.executable, "-m", "rlrun", *runs.words("sarsa")]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = subprocess.Popen(words, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=err)

        def end(seconds: float) -> Seen:
            try:
                code: int | None = child.wait(seconds)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
                code = None
            texts = [(stream.seek(0), stream.read().decode(errors="replace"))[1] for stream in (out, err)]
            return Seen(code, *texts, 0.0, 0.0)

        time.sleep(0.05 + share * 3.0)
        found = _signalled(lambda number: os.kill(child.pid, number), end, number, twice)
    return found or runs.finished("sarsa", folder)


def _signalled(
    kill: Callable[[int], None], end: Callable[[float], Seen], number: signal.Signals, twice: bool
) -> str:
    """Send a signal, perhaps again a little later; what is wrong with how it ends."""
    begin = time.monotonic()
    kill(number)
    if twice:
        time.sleep(0.2)
        kill(number)
    seen = end(AT_ONCE if twice else SECONDS)
    took = time.monotonic() - begin
    found = [f"still there after {took:.1f} s"] if seen.code is None else []
    found += [flaw for flaw in seen.flaws if not flaw.startswith(("it hangs", "dies of"))]
    if seen.code not in (None, 0, 128 + number, -number):
        found.append(runs.said(seen))
    return "; ".join(found)
