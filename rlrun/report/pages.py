"""All that a run shows at its end, made from the files of its folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rlrun import envs
from rlrun.report import grid
from rlrun.report.curve import curve_png
from rlrun.report.table import results_table
from rlrun.report.walk_forward import walk_forward_report
from rlrun.runs.folder import RunFolder, sound
from rlrun.runs.load import load
from rlrun.runs.tensorboard import add_image


def draw(run: RunFolder, *, plots: bool) -> str:
    """Write the pictures (where `plots` says so) and the walk-forward report; the policy as text."""
    with sound(run):
        if run.steps.exists():
            walk_forward_report(run)
            for picture in (run.folds, run.equity):
                add_image(run, picture)
        if plots:
            curve_png(run)
        return _policy(run, plots)


def shown(run: RunFolder, summary: Mapping[str, Any] | None = None) -> str:
    """The table of a run's scores: those of its end, or of a later `summary`."""
    with sound(run):
        return results_table(summary or run.summary(), run)


def _policy(run: RunFolder, plots: bool) -> str:
    """The greedy policy of the first healthy replica on the task's grid as text, and as a picture."""
    config = run.config()
    healthy = [row["replica"] for row in run.summary()["replicas"] if "failed" not in row]
    if not config.env.tabular or not healthy:
        return ""
    table = envs.abilities(envs.make(config.env, 1)).table
    policy = load(run.path, healthy[0])
    if table is None or not policy.has("q"):
        return ""
    q = policy.q(np.arange(len(table.terminal)))
    if plots and grid.policy_png(table, q, run.policy):
        add_image(run, run.policy)
    return grid.policy_text(table, q) + "\n\n"
