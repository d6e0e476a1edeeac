"""Small runs to be killed and stopped, one of each family, and what an uninterrupted one leaves."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from guard import sums

from faults import campaign
from faults.process import Child, Seen, start

QUIET = ["log.tensorboard=false", "log.plot=false", "checkpoint.every_seconds=1000"]
SERIES = "algo=dqn env=series env.price=close eval=walk_forward eval.n_folds=2 eval.stats.n_boot=100"
SMALL = "num_envs=2 total_steps=1200 model.hidden=[8] algo.learning_starts=100 algo.batch_size=16"
WALK = [*SERIES.split(), *SMALL.split(), "algo.buffer_size=400", "checkpoint.every_steps=100"]
# A recipe of each family, for as many updates as take a second or so.
FAMILIES = {"ucb": 3000, "value_iteration": 300, "sarsa": 2500, "dyna_q": 800, "dqn": 400, "lstm_dqn": 200}
FAMILIES |= {"prioritized_dqn": 300, "reinforce": 150, "ppo": 60, "lstm_ppo": 40, "sac": 200, "lstm_td3": 80}
FAMILIES |= {"bc": 600, "gail": 40, "cql": 250, "cem": 400, "cem_learned": 80, "gym": 60}
ELSEWHERE = {"lstm_dqn": "algo=lstm_dqn env=cartpole_masked", "gym": "algo=ppo env=gym env.id=Acrobot-v1"}


@cache
def words(what: str) -> tuple[str, ...]:
    """The command line of a small run that saves a dozen times, with records and evaluations between."""
    if what == "walk_forward":
        return (*WALK, f"env.path={table()}", *QUIET, "out=runs")
    from rlrun.config.compose import compose
    from rlrun.testing.trial import Trial, home, shrunk

    own = home(what) if what not in ELSEWHERE else tuple(ELSEWHERE[what].split())
    config = compose(own)
    small = [*own, *shrunk(config), f"num_envs={min(config.num_envs, 2)}", "replicas=2"]
    trial = Trial.of(compose([*small, "total_steps=4000"]))
    trial.train(3)
    steps = max(int(trial.clock.step[0]) // 3, 1) * FAMILIES[what]
    if hasattr(config.eval, "every"):
        small.append(f"eval.every={max(steps // 7, 1)}")
    return (
        *small,
        *QUIET,
        f"total_steps={steps}",
        f"checkpoint.every_steps={max(steps // 12, 1)}",
        "out=runs",
    )


def table() -> Path:
    """A random walk as a CSV."""
    path = campaign.ROOT / "table.csv"
    if not path.exists():
        rows = np.random.default_rng(0).normal(0, 1, 1200).cumsum() + 100
        own = path.with_suffix(f".{os.getpid()}")
        own.write_text("time,close\n" + "".join(f"{i},{x:.3f}\n" for i, x in enumerate(rows)))
        own.replace(path)
    return path


@dataclass(frozen=True)
class Whole:
    """A run that nothing happened to: how long it took, and the SHA-256 sums of what it left."""

    seconds: float
    sums: dict[str, str]


@cache
def whole(what: str) -> Whole:
    place = campaign.ROOT / f"{what}-{os.getpid()}"
    place.mkdir()
    begin = time.monotonic()
    seen = start(words(what), place).end(200)
    assert seen.code == 0, f"{what}: {seen.last_words}"
    return Whole(time.monotonic() - begin, sums(run_in(place) or place))


def run_in(place: Path) -> Path | None:
    """The one run folder that was begun there, if any."""
    found = list(place.glob("runs/*/*/run.json"))
    return found[0].parent if found else None


def begin_or_resume(what: str, place: Path) -> Child:
    run = run_in(place)
    return start(["resume", str(run.relative_to(place))] if run else words(what), place)


def finished(what: str, place: Path) -> str:
    """Let it come to its end; how that differs from an uninterrupted run, '' if in nothing."""
    seen = begin_or_resume(what, place).end(200)
    if seen.code != 0 or seen.flaws:
        return f"cannot be resumed: {', '.join(seen.flaws) or f'exit {seen.code}'}: {seen.last_words}"
    after, before = sums(run_in(place) or place), whole(what).sums
    odd = sorted(name for name in after.keys() | before.keys() if after.get(name) != before.get(name))
    return f"other bits after resuming, in {', '.join(odd[:4])}" if odd else ""


def said(seen: Seen) -> str:
    return f"exit {seen.code}: {seen.last_words}"
