"""summary.json: what was done, what it scored, and the aggregate over replicas."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rlrun import registry
from rlrun.config.run import RunConfig
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
    rows = replica_rows(replicas, results, steps, session.failures)
    for row, learned in zip(rows, session.learned.tolist(), strict=True):
        row["learned"] = learned
        if row["replica"] in session.ends.stopped:
            row["stopped"] = session.ends.stopped[row["replica"]]
    summary: dict[str, Any] = {
        "env_steps": int(steps.sum()) if acted else 0,
        "updates": session.clock.updates,
        "policy": "last" if session.evaluation.best is None else f"best {session.evaluation.best[0]}",
        "wall_seconds": round(seconds, 3),
        "steps_per_second": round(float(steps.sum()) / max(seconds, 1e-9), 1),
        "replicas": rows,
        "aggregate": aggregate(rows, session.config.env.score_bounds),
    }
    summary["notes"] = [*_unlearned(rows, session.config), *_unchosen(rows, session)]
    return summary


def replica_rows(
    replicas: Sequence[Replica],
    results: Sequence[Mapping[str, Any]],
    steps: np.ndarray,
    failures: Mapping[int, str],
) -> list[dict[str, Any]]:
    """What each replica scored after steps [R]; one that failed has the reason and no score."""
    rows = []
    for replica, result in zip(replicas, results, strict=True):
        row = replica.row | {"steps": int(steps[replica.index])}
        if replica.index in failures:
            rows.append(row | {"failed": failures[replica.index]} | dict.fromkeys(result))
        else:
            rows.append(row | {name: _finite(value) for name, value in result.items()})
    return rows


def _finite(value: Any) -> Any:
    """JSON has no word for what is not finite, and it is no score."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


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


def _unlearned(rows: Sequence[Mapping[str, Any]], config: RunConfig) -> list[str]:
    """A line where training left the weights as they were, unless known dynamics leave nothing to learn."""
    if "dynamics" in registry.entry_of(config.algo).build.needs_of(config.algo):
        return []
    which = [row for row in rows if not (row["learned"] or "failed" in row)]
    words, starts = (
        "nothing was learned: no update changed a weight",
        getattr(config.algo, "learning_starts", 0),
    )
    if starts > config.total_steps:
        words += f"; learning_starts is {starts:,}, total_steps {config.total_steps:,}"
    return _line(which, rows, words)


def _unchosen(rows: Sequence[Mapping[str, Any]], session: Any) -> list[str]:
    """A line where a best policy was asked for and none had a score."""
    best = session.evaluation.best
    which = [row for row in rows if best and not session.kept.settled[row["replica"]]]
    return _line(which, rows, f"{best and best[0]} was never a finite number: the last policy was judged")


def _line(which: Sequence[Mapping[str, Any]], rows: Sequence[Any], words: str) -> list[str]:
    """`words` about some of the replicas, if there are any."""
    if len(which) == len(rows):
        return [words]
    names = ", ".join(str(row["replica"]) for row in which[:8]) + " ..." * (len(which) > 8)
    return [f"replica{'s' * (len(which) > 1)} {names}: {words}"] if which else []
