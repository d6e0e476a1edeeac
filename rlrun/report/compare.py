"""Which configuration is better, from how many seeds, at what cost, and whether the evidence tells.

The rows of a task are ranked, and held against the best or against a declared baseline. The best one
was chosen by its scores, so that holding the others against it asks about all pairs: Holm's
correction is over these, and over the rows alone where the baseline was declared. Of ten equal
configurations of ten seeds each, it then separates some in 2 of 100 cases; over the rows, in 10.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlrun.config import ConfigError
from rlrun.config.keys import legible
from rlrun.config.vocabulary import hint
from rlrun.evals.contrast import LEVEL, Contrast, contrast, holm, more_seeds
from rlrun.evals.stats import Bounds, iqm, stratified_bootstrap
from rlrun.report import compare_text, formats
from rlrun.report.compare_curves import draw
from rlrun.report.experiments import Experiment, Task, read_tasks
from rlrun.runs.summary import aggregate

BY = {"iqm": "IQM", "median": "median", "mean": "mean", "worst": "worst seed"}
_LUCK = ("best", "max", "maximum", "top", "peak")
_DRAWS = 2_000_000  # numbers that a bootstrap draws at most


@dataclass(frozen=True)
class Comparison:
    """Ranked rows, task by task, a mapping each; those without a score are last."""

    rows: list[dict[str, Any]]
    by: str
    left_out: list[str]  # what is wrong with the runs that could not be read
    tasks: Sequence[Task]

    def columns(self) -> dict[str, list[Any]]:
        """The rows as columns of plain values: those of `to_csv`."""
        return formats.as_columns(self.rows)

    def frame(self) -> Any:
        """The columns as a pandas DataFrame; ImportError without pandas."""
        import pandas

        return pandas.DataFrame(self.columns())

    def lines(self) -> list[str]:
        """What `rlrun compare` prints."""
        return compare_text.lines(self.rows, BY[self.by])

    def to_csv(self) -> str:
        return formats.to_csv(self.columns())

    def to_markdown(self) -> str:
        return formats.to_markdown(compare_text.tables(self.rows))

    def to_latex(self) -> str:
        return formats.to_latex(compare_text.tables(self.rows))

    def draw(self, folder: str | Path) -> list[Path]:
        """Learning curves with bands, a PNG for each task: compare-ENV.png. Where they are."""
        return draw(self.tasks, self.rows, Path(folder))

    def __str__(self) -> str:
        return legible("\n".join(self.lines()))

    def _repr_html_(self) -> str:
        return formats.to_html(compare_text.tables(self.rows))


def comparison(
    paths: Sequence[str | Path] | str | Path, by: str = "iqm", baseline: str | None = None
) -> Comparison:
    """Compare the runs at or below `paths`.

    Rows are ranked `by` iqm, median, mean or worst, and tested against the best of their task, or
    against the row called `baseline` where there is one. Runs that are damaged are left out.

    Raises:
        ConfigError: there is no finished run, no such row, or no such ranking.
    """
    _require(by)
    given = [paths] if isinstance(paths, (str, Path)) else paths
    tasks, left_out = read_tasks([Path(path) for path in given])
    rows: list[dict[str, Any]] = []
    for task in tasks:
        rows += _ranked(task, by, baseline)
    if baseline is not None and not any(row["name"] == baseline for row in rows):
        known = list(dict.fromkeys(row["name"] for row in rows))
        raise ConfigError(
            f"no configuration is called {baseline!r}",
            hint(baseline, known),
            f"there are {', '.join(known[:12])}",
        )
    return Comparison(rows, by, left_out, tasks)


def _require(by: str) -> None:
    """Refuse rankings that there are not, and the one that there should not be."""
    allowed = f"rows are ranked by {', '.join(BY)}"
    if by.lower() in _LUCK:
        raise ConfigError(
            f"--by {by}: the best of n seeds grows with n, and is luck that nobody can repeat", allowed
        )
    if by not in BY:
        raise ConfigError(f"there is no --by {by}", hint(by, BY), allowed)


def _ranked(task: Task, by: str, baseline: str | None) -> list[dict[str, Any]]:
    """The rows of a task, the best first and those without a score last, each held against the baseline."""
    experiments = list(task.experiments.values())
    bounds = task.bounds
    pairs = [(_row(task, each, bounds), each) for each in experiments]
    pairs.sort(key=lambda pair: (pair[0][by] is None, -(pair[0][by] or 0.0), pair[0]["name"]))
    scored = [pair for pair in pairs if pair[0][by] is not None]
    declared = next((pair for pair in scored if pair[0]["name"] == baseline), None)
    if scored:
        _held_against(
            declared or scored[0], scored, len(scored) - 1 if declared else math.comb(len(scored), 2)
        )
    return [row for row, _ in pairs]


def _row(task: Task, found: Experiment, bounds: Bounds) -> dict[str, Any]:
    """What an experiment scored, and at what cost."""
    scores = list(found.scores.values())
    return {
        "task": task.label,
        "env": task.env,
        "name": found.name,
        "keys": dict(found.keys),
        "replicas": len(scores),
        "unscored": len(found.replicas) - len(scores),
        "steps": found.total_steps,
        **aggregate(list(found.replicas.values()), bounds),
        "iqm_interval": _iqm_interval(found),
        "worst": min(scores, default=None),
        **dict.fromkeys(_AGAINST),
        "seconds": round(found.seconds, 3),
        "steps_per_second": round(found.steps / found.seconds, 1) if found.seconds else None,
        "run": str(found.runs[-1]),
        "runs": [str(run) for run in found.runs],
        "unfinished": found.unfinished,
    }


# What a row says of the baseline; None where there is nothing to say.
_AGAINST = (
    "baseline",  # its name
    "difference",  # of the means
    "difference_interval",
    "improvement",  # the chance that a seed of this row is above one of the baseline
    "p",
    "p_holm",  # corrected for `family` questions
    "family",
    "paired",
    "separated",
    "more_seeds",  # that would separate them; None for more than 100
    "verdict",
)


def _iqm_interval(found: Experiment) -> list[float] | None:
    """95 % for these folds, by a bootstrap over seeds; None below three scores."""
    scores = found.scores
    if len(scores) < 3:
        return None
    strata: dict[Any, list[float]] = {}
    for (fold, _), score in scores.items():
        strata.setdefault(fold, []).append(score)
    n_boot = max(200, min(2000, _DRAWS // len(scores)))
    interval = stratified_bootstrap([np.array(each) for each in strata.values()], iqm, n_boot=n_boot)
    return [interval.low, interval.high] if interval else None


def _held_against(
    baseline: tuple[dict[str, Any], Experiment],
    scored: Sequence[tuple[dict[str, Any], Experiment]],
    family: int,
) -> None:
    """Put into each row how it differs from the baseline."""
    base, theirs = baseline[0], baseline[1].scores
    found = [(row, contrast(each.scores, theirs, family)) for row, each in scored if row is not base]
    tested = [(row, each, each.p) for row, each in found if each is not None and each.p is not None]
    adjusted = holm([p for _, _, p in tested], family)
    for row, each in found:
        row |= {"baseline": base["name"], "family": family}
        if each is not None:
            interval = each.interval and [each.interval.low, each.interval.high]
            row |= {"difference": each.difference, "difference_interval": interval, "p": each.p}
            row |= {"improvement": each.improvement, "paired": each.paired}
    for (row, each, _), p in zip(tested, adjusted, strict=True):
        row |= {"p_holm": p, "separated": p <= LEVEL}
        row["more_seeds"] = None if row["separated"] else more_seeds(each, family)
    for row, each in found:
        row["verdict"] = _verdict(row, each)


def _verdict(row: Mapping[str, Any], found: Contrast | None) -> str:
    """What the evidence says of a row and the baseline."""
    if found is None:
        return "no fold in common"
    if row["p"] is None:
        return "one seed"
    if row["separated"]:
        return "better" if found.difference > 0 else "worse"
    if not found.difference and not found.error:
        return "the same scores"
    return "not separated"
