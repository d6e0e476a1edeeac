"""A sweep that is killed again and again comes to its end by the same command.

    PYTHONPATH=. python benchmarks/sweep_kills.py [KILLS] [SEED] [hydra/launcher=joblib ...]

Twenty jobs, two of which fail. At random moments the sweep itself or one of its workers, and then the
sweep, is ended by SIGKILL; after each kill, and at the end, no file of a run that had finished may have
changed, and each job must have been finished once.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rlrun.runs.folder import RunFolder
from rlrun.sweeps.folder import SweepFolder

ENV = """
import gymnasium as gym

class Fragile(gym.Env):
    observation_space, action_space = gym.spaces.Box(-1, 1, (2,)), gym.spaces.Discrete(2)

    def __init__(self, name=0):
        self.steps, self.breaks = 0, name == 0

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.low * 0, {}

    def step(self, action):
        self.steps += 1
        if self.breaks and self.steps > 900:
            raise RuntimeError("planted")
        return self.observation_space.low * 0, 1.0, self.steps % 20 == 0, False, {}

gym.register("Fragile-v0", Fragile)
"""
NAMES = ",".join(f"{{name:{i}}}" for i in range(10))
SWEEP = ["algo=ppo", "env=gym", "env.id=fragile:Fragile-v0", "env.allow_import=true", "total_steps=100000"]
SWEEP += [f"env.kwargs={NAMES}", "seed=1,2", "sweep=kills", "checkpoint.every_steps=4096"]
PATIENCE = (5.0, 15.0)  # seconds until a kill


def finished(folder: Path) -> dict[Path, dict[str, str]]:
    """The SHA-256 of every file of the runs that have come to their end."""
    runs = [run for run in RunFolder.under(folder) if run.ended and run.state[0] == "finished"]
    return {
        run.path: {
            f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in run.path.iterdir() if f.is_file()
        }
        for run in runs
    }


def workers(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def killed(line: list[str], rng: random.Random) -> str:
    """Run the sweep until it is killed; what was."""
    sweep = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(rng.uniform(*PATIENCE))
    who = rng.choice(["the sweep", "a worker"])
    if sweep.poll() is None and who == "a worker" and (found := workers(sweep.pid)):
        os.kill(rng.choice(found), signal.SIGKILL)
        time.sleep(rng.uniform(0.5, 3.0))
    if sweep.poll() is None:
        sweep.kill()
    sweep.wait()
    return who


def main(kills: int, seed: int, words: list[str]) -> None:
    line, rng = [sys.executable, "-m", "rlrun", "-m", *SWEEP, *words], random.Random(seed)
    os.environ["PYTHONPATH"] = os.pathsep.join(
        map(os.path.abspath, os.environ.get("PYTHONPATH", ".").split(":"))
    )
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        Path("fragile.py").write_text(ENV)
        folder, before = Path("outputs/sweeps/kills"), dict[Path, dict[str, str]]()

        def unchanged() -> dict[Path, dict[str, str]]:
            now = finished(folder)
            for run, files in before.items():
                # A run that was killed between its scores and its picture has the scores.
                assert files.items() <= now[run].items(), f"{run} has changed"
            return now

        for i in range(kills):
            who = killed(line, rng)
            before = unchanged()
            print(f"{i + 1:3} {who:10} {len(before):2} finished", flush=True)
        done = subprocess.run(line, capture_output=True, text=True)
        before = unchanged()
        states = SweepFolder.at(folder)
        print(done.stdout.splitlines()[-3:], "exit code", done.returncode)
        once, failed = states.count("finished"), states.count("failed")
        print(f"{once} finished once, {len(before)} run folders, {failed} failed")


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:] if word.isdecimal()]
    main(
        given[0] if given else 10,
        given[1] if given[1:] else 1,
        [word for word in sys.argv[1:] if "=" in word],
    )
