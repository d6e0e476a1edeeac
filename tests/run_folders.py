"""Run folders made by hand, for what reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlrun.config.compose import compose
from rlrun.config.plain import to_dict
from rlrun.evals.evaluation import Replica
from rlrun.runs.folder import RunFolder
from rlrun.runs.summary import aggregate


def write_run(
    parent: Path,
    scores: Sequence[float | None] | None,
    *overrides: str,
    folds: int = 0,
    sha: str = "",
    steps: int | Sequence[int] = 3000,
    env_steps: int = 3000,
    metrics: Sequence[Mapping[str, Any]] = (),
) -> RunFolder:
    """Write the files that a finished run of a config leaves; without scores it was interrupted.

    A replica without a score has failed. `metrics` are the lines of metrics.jsonl.
    """
    config = compose(overrides)
    folder = RunFolder(parent / config.choices["algo"] / str(len(RunFolder.under(parent))))
    folder.path.mkdir(parents=True)
    seeds = range(config.seed, config.seed + config.replicas)
    pairs = [(fold, seed) for fold in (range(folds) if folds else [None]) for seed in seeds]
    replicas = [Replica(i, seed, fold).row for i, (fold, seed) in enumerate(pairs)]
    record = {"schema": 1, "config": to_dict(config), "data_sha256": sha or None, "replicas": replicas}
    record |= {name: {"kind": "discrete", "n": 2} for name in ("obs", "action")}
    folder.record.write_text(json.dumps(record))
    folder.metrics.write_text("".join(json.dumps(line) + "\n" for line in metrics))
    folder.set_status("interrupted" if scores is None else "finished", 3000)
    if scores is not None:
        each = [steps] * len(replicas) if isinstance(steps, int) else steps
        judged = [
            row
            | {"steps": n, "eval_return": score, "eval_return_std": 0.5, "eval_episodes": 100}
            | ({"failed": "loss/q is nan at step 7"} if score is None else {})
            for row, score, n in zip(replicas, scores, each, strict=True)
        ]
        summary = {"env_steps": env_steps, "updates": 9, "wall_seconds": 1.5, "replicas": judged}
        folder.write_summary(summary | {"aggregate": aggregate(judged, (None, None))})
    return folder
