"""A table over finished runs: who scored what, from how many seeds, at what cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rlrun.config import ConfigError
from rlrun.evals.stats import aggregate
from rlrun.report.table import number
from rlrun.runs.folder import RunFolder


def rows(paths: list[Path]) -> list[dict[str, Any]]:
    """One row per config under `paths`, best median first; runs that differ in seed alone are pooled."""
    pooled: dict[str, dict[str, Any]] = {}
    for folder in sorted({run.path for path in paths for run in RunFolder.under(path)}):
        run = RunFolder(folder)
        if not run.summary_file.is_file():
            continue  # not finished
        try:
            record, summary = (json.loads(file.read_text()) for file in (run.record, run.summary_file))
            config = record["config"]
            scores = {
                (r["seed"], r["fold"], r.get("variant", 0)): r["eval_return"] for r in summary["replicas"]
            }
            same = {k: v for k, v in config.items() if k not in ("seed", "replicas", "out", "choices")}
            row = pooled.setdefault(
                json.dumps(same, sort_keys=True),
                {
                    "name": folder.parent.name,
                    "runs": [],
                    "scores": {},
                    "steps": config["total_steps"],
                    "seconds": 0.0,
                },
            )
            row["scores"] |= {k: float(v) for k, v in scores.items() if v is not None}
            row["runs"].append(str(folder))
            row["seconds"] += float(summary["wall_seconds"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{folder} is damaged: {type(error).__name__} {error}") from None
    table = []
    for row in pooled.values():
        final = list(row.pop("scores").values())
        table.append(row | {"replicas": len(final), "worst": min(final, default=None)} | aggregate(final))
    return sorted(table, key=lambda row: -(row["median"] if row["median"] is not None else float("inf")))


def compare(paths: list[Path], as_json: bool = False) -> int:
    """Print the table, or one JSON object; the exit code.

    Raises:
        ConfigError: no finished run is there, or one is damaged.
    """
    table = rows(paths)
    if not table:
        raise ConfigError(
            f"no finished run under {', '.join(map(str, paths))}", "rlrun resume RUN finishes one"
        )
    if as_json:
        print(json.dumps({"runs": table}))
        return 0
    cells = [("replicas", "steps", "median", "IQM", "worst", "95 % of the mean", "seconds", "run")]
    for row in table:
        interval = "-" if row["interval"] is None else " .. ".join(map(number, row["interval"]))
        scores = (number(row[name]) for name in ("median", "iqm", "worst"))
        run = row["runs"][-1] + (f" (+{len(row['runs']) - 1})" if len(row["runs"]) > 1 else "")
        cells.append(
            (str(row["replicas"]), f"{row['steps']:,}", *scores, interval, f"{row['seconds']:.0f}", run)
        )
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        figures = "  ".join(cell.rjust(width) for cell, width in zip(line[:-1], widths, strict=False))
        print(f"{figures}  {line[-1]}")
    return 0
