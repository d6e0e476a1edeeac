"""What a sweep comes to: its configurations ranked, as a table, as files and as pictures."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from rlrun.config import ConfigError
from rlrun.config.plain import from_dict
from rlrun.files import write_atomic
from rlrun.report.compare import Comparison, comparison
from rlrun.runs.folder import RunFolder
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
    lines = []
    for task in dict.fromkeys(row["task"] for row in found.rows):
        best = next(row for row in found.rows if row["task"] == task)
        if best.get("median") is not None:
            lines.append(_command(folder, best))
    return lines


def _command(folder: SweepFolder, row: Mapping[str, Any]) -> str:
    run = RunFolder(row["runs"][-1])
    job = next(
        (folder.jobs[name] for name, state in folder.states.items() if state.run == run.path.name), None
    )
    config = from_dict(run.read_record()["config"])
    last = max(config.seed + config.replicas, *(_end(each) for each in RunFolder.under(folder.path)))
    words = [] if job is None else [word for word in job.words if not word.startswith(("seed=", "replicas="))]
    words = [word for word in words if not word.startswith("hydra")]
    return "rlrun " + " ".join(
        map(shlex.quote, [*words, f"seed={last}", f"replicas={max(config.replicas, 5)}"])
    )


def _end(run: RunFolder) -> int:
    """The first seed after those of a run."""
    config = run.read_record()["config"]
    return int(config["seed"]) + int(config["replicas"])
