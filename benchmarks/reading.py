"""How many lines a newcomer reads until an algorithm or an evaluation holds no secret.

    python benchmarks/reading.py

Blank lines and docstrings count: they are read too.
"""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "rlrun"
LOOP = "core.py state.py spaces.py trainer.py collector.py parts/statistics.py"
READINGS = {
    "dqn": f"{LOOP} parts/replay.py parts/returns.py algos/dqn.py",
    "lstm_ppo": f"{LOOP} parts/returns.py parts/distributions.py parts/sequences.py parts/schedules.py "
    "algos/ppo.py nn/*.py",
    "walk-forward": "evals/evaluation.py evals/play.py evals/folds.py evals/walk_forward.py evals/stats.py "
    "runs/run.py runs/session.py report/walk_forward.py envs/series.py envs/vector/base.py "
    "envs/vector/windowed.py envs/vector/series.py collector.py parts/statistics.py",
}


def lines(reading: str) -> int:
    """Lines of the files that the patterns of a reading name."""
    files = {path for pattern in reading.split() for path in PACKAGE.glob(pattern)}
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files)


if __name__ == "__main__":
    for name, reading in READINGS.items():
        print(f"{name:14}{lines(reading):,}")
