"""summary.json: what was done, what it scored, and the aggregate over replicas."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rlrun.core import Algorithm
from rlrun.evals import stats
from rlrun.evals.evaluation import Replica


def summarise(
    replicas: list[Replica], results: list[dict[str, Any]], session: Any, algo: Algorithm
) -> dict[str, Any]:
    """summary.json: what was done, what it scored, and the aggregate over replicas."""
    seconds = session.seconds
    steps = session.clock.step
    acted = algo.rollout_steps > 0
    rows = []
    for replica, result in zip(replicas, results, strict=True):
        row = replica.row | {"steps": int(steps[replica.index])}
        if replica.index in session.failures:
            row["failed"] = session.failures[replica.index]
            result = dict.fromkeys(result)
        rows.append(row | result)
    summary: dict[str, Any] = {
        "env_steps": int(steps.sum()) if acted else 0,
        "updates": session.clock.updates,
        "policy": "last" if session.evaluation.best is None else f"best {session.evaluation.best[0]}",
        "wall_seconds": round(seconds, 3),
        "steps_per_second": round(float(steps.sum()) / max(seconds, 1e-9), 1),
        "replicas": rows,
        "aggregate": aggregate(rows, session.config.env.score_bounds),
    }
    return summary


def has_score(row: Mapping[str, Any]) -> bool:
    """Whether a replica's row has a score: not where it failed, was never judged, or is no number."""
    return row["eval_return"] is not None and math.isfinite(row["eval_return"])


def aggregate(rows: Sequence[Mapping[str, Any]], bounds: stats.Bounds) -> dict[str, Any]:
    """Statistics over the replicas that have a score; over folds where there are any.

    `bounds` are the least and the most that the task allows.
    """
    scored = [row for row in rows if has_score(row)]
    return stats.aggregate(
        [row["eval_return"] for row in scored], [row["fold"] for row in scored], bounds=bounds
    )
