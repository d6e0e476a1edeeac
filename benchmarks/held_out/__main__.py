"""Defaults against defaults: every row of rows.py with our recipes as they stand, beside the peers'.

    make heldout                                  # goes on where it stopped
    make heldout ROWS="ppo Taxi-v4"               # the rows that have all of these words
    make heldout ROWS=--known                     # the table of what has been run so far

Without presets (`~tuned`), 5 seeds from 1, final policies on fresh episodes; the peers' scores are
those of sb3.json, made once by sb3.py. A row is run again when its config has changed. Rows whose
packages are missing are left out by name. The table is benchmarks/held_out.md.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from held_out.rows import ROWS, Row
from held_out.runs import Runs, asked, write_page

HERE = Path(__file__).resolve().parent
TABLE = HERE.parent / "held_out.md"
RUNS = HERE.parent.parent / "outputs" / "held_out"
SCORES = HERE / "scores.json"
SEEDS = 5


def command(row: Row) -> list[str]:
    return [f"algo={row.algo}", *row.env, f"total_steps={row.steps}", f"replicas={SEEDS}", "~tuned"]


def line(row: Row, ours: list[float], peer: list[float]) -> tuple[list[str], float | None]:
    """A row of the table, and by how much of the range our median is above the peer's."""
    low, median = min(ours), float(np.median(ours))
    cells = [row.algo, row.task, f"{row.steps:,}", f"{median:.4g}", f"{low:.4g}"]
    ahead = None
    if peer:
        ahead = (median - float(np.median(peer))) / (row.high - row.low)
        cells += [f"{np.median(peer):.4g}", f"{min(peer):.4g}", str(len(peer)), f"{ahead:+.0%}"]
    else:
        cells += ["", "", "", ""]
    return [*cells, "" if row.zoo is None else f"{row.zoo:g}", "tuned on" if row.tuned_on else ""], ahead


def main(words: list[str]) -> None:
    words, run = asked(words)
    runs = Runs(SCORES, RUNS, run=run)
    peers = json.loads((HERE / "sb3.json").read_text())
    versions = ", ".join(f"{name} {number}" for name, number in peers["versions"].items())
    head = ["algorithm", "task", "steps", "median", "worst", "SB3 median", "worst", "seeds", "ahead"]
    table, left_out, gaps = [[*head, "Zoo", ""]], [], []
    for row in ROWS:
        if not all(word in row.name.split() for word in words):
            continue
        ours = runs.scores(f"{row.name} {row.steps}", command(row))
        if isinstance(ours, str):
            left_out.append(f"{row.name}: {ours}")
            print(f"left out  {left_out[-1]}", flush=True)
            continue
        cells, ahead = line(row, ours, list(peers["scores"].get(f"{row.name} {row.steps}", {}).values()))
        table.append(cells)
        gaps += [] if ahead is None else [ahead]
        print("  ".join(cells), flush=True)
    if words:
        return
    about = (
        f"Made by `make heldout`: {SEEDS} seeds, no presets, final policies on fresh episodes; the peers by "
        "`benchmarks/held_out/sb3.py`, their defaults at the same number of env steps "
        f"({versions}). `ahead` is the difference of medians in parts of the task's range, which "
        "`rows.py` gives; `Zoo` is the published figure of RL Zoo's tuned settings, at its own, larger "
        "number of steps. Rows that our defaults were chosen by say so.\n\n"
        f"Of {len(gaps)} rows with a peer, our median is at least the peer's on "
        f"{sum(gap >= 0 for gap in gaps)}, and below by more than a tenth of the range on "
        f"{sum(gap < -0.1 for gap in gaps)}."
    )
    more = ["", "Left out:", "", *(f"- {each}" for each in left_out)] if left_out else []
    write_page(TABLE, "Defaults against defaults", about, table, *more)


if __name__ == "__main__":
    main(sys.argv[1:])
