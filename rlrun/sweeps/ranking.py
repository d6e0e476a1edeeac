"""What a sweep comes to: its configurations ranked, as a table, as files and as pictures."""

from __future__ import annotations

import shlex
from pathlib import Path

from rlrun.config import ConfigError
from rlrun.files import write_atomic
from rlrun.report.compare import Comparison, comparison
from rlrun.runs.log import say
from rlrun.sweeps.folder import SweepFolder


def ranked(folder: SweepFolder) -> Comparison | None:
    """Rank what a sweep's runs scored, and write it beside them; None where none has a score."""
    try:
        found = comparison([folder.path])
    except ConfigError:  # no run came to its end
        return None
    for problem in found.left_out:
        say(f"left out: {problem}")
    write_atomic(folder.path / "sweep.csv", found.to_csv().encode("utf-8", "replace"))
    write_atomic(folder.path / "sweep.md", found.to_markdown().encode("utf-8", "replace"))
    found.draw(folder.path)
    return found


def best_again(folder: SweepFolder, found: Comparison) -> list[str]:
    """For each task the command that trains its best configuration on seeds that no run of the sweep had."""
    jobs = {state.run: folder.jobs[name] for name, state in folder.states.items()}
    trained = {name: record["config"] for name, record in folder.records().items()}
    fresh = max((config["seed"] + config["replicas"] for config in trained.values()), default=1)
    best = {row["task"]: row for row in reversed(found.rows) if row["median"] is not None}
    lines = []
    for task in dict.fromkeys(row["task"] for row in found.rows if row["task"] in best):
        run = Path(best[task]["run"]).name
        words = jobs[run].words if run in jobs else ()
        kept = [word for word in words if not word.startswith(("seed=", "replicas=", "hydra"))]
        seeds = [f"seed={fresh}", f"replicas={max(trained[run]['replicas'], 5)}"]
        lines.append(shlex.join(["rlrun", *kept, *seeds]))
    return lines
