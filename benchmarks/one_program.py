"""Five folds x five seeds as one program, against 25 programs of one fold and one seed.

    python benchmarks/one_program.py [steps]

Walk-forward on the shipped WTI series as it is by default, features and scaling on. CPU seconds of
training, validating and testing in one process, start-up and reading apart, alternating between the
two; and the share of the batched env steps that went into validation.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time

import rlrun
from rlrun.config.compose import compose
from rlrun.evals.walk_forward import WalkForward
from rlrun.runs.task import Task

ALGORITHMS = ("dqn", "lstm_dqn")
FOLDS = SEEDS = 5


def words(algo: str, steps: int, *more: str) -> list[str]:
    common = ["env=trading", "eval=walk_forward", "log.tensorboard=false", "log.plot=false"]
    return [f"algo={algo}", *common, f"total_steps={steps}", *more]


def seconds(algo: str, steps: int, *more: str) -> float:
    """CPU seconds of a run."""
    with tempfile.TemporaryDirectory() as out:
        began = time.process_time()
        rlrun.run(words(algo, steps, f"out={out}", *more), quiet=True)
        return time.process_time() - began


def validating(algo: str, steps: int) -> float:
    """The share of the steps of one program, all replicas at once, that validation takes."""
    with tempfile.TemporaryDirectory() as out:
        run = rlrun.run(words(algo, steps, f"out={out}"), quiet=True)
        lines = (run.folder / "metrics.jsonl").read_text().splitlines()
    seen = [row for row in map(json.loads, lines) if row["replica"] == 0 and "val/score" in row]
    config = compose(words(algo, steps))
    evaluation = Task.of(config).evaluation
    assert isinstance(evaluation, WalkForward)
    rows = max(fold.val[1] - fold.val[0] for fold in evaluation.folds if fold.val) + evaluation.warmup
    spent = rows * len(seen)
    return spent / (spent + steps / config.num_envs)


def main(steps: int) -> None:
    for algo in ALGORITHMS:
        seconds(algo, 500)  # imports, and the table
        single = 0.0
        for fold in range(FOLDS):
            for seed in range(1, SEEDS + 1):
                single += seconds(algo, steps, f"eval.folds=[{fold}]", f"seed={seed}")
        one = seconds(algo, steps, f"replicas={SEEDS}")
        share = validating(algo, steps)
        ratio = f"{single:.1f} / {one:.1f} CPU seconds = {single / one:.1f}"
        print(f"{algo}: {ratio}; validation {share:.0%} of the batched steps", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5000)
