"""summary.json: what was done, what it scored, and the aggregate over replicas."""

from __future__ import annotations

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
        "aggregate": aggregate(rows),
    }
    return summary


def aggregate(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Statistics over the replicas that have a score; over folds where there are any."""
    scored = [row for row in rows if row["eval_return"] is not None]
    folds = [row["fold"] for row in scored]
    return stats.aggregate([row["eval_return"] for row in scored], None if None in folds else folds)
