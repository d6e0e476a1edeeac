"""How much of an edge in a series is found, of what an oracle that knows it earns.

    make edges                       # goes on where it stopped
    make edges ROWS="dqn ar1"

Every algorithm as it comes, presets included, over five folds of walk-forward, on five series of a
kind (`env.series_seed` 21 to 25; the recipes were chosen on 11 to 13). A cell of
benchmarks/edges.md is the median share of the oracle's log growth, and the (worst); on noise, of
seven series, on how many the report calls the agent better than what it is judged against.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from held_out.runs import Runs, asked, write_page

HERE = Path(__file__).resolve().parent
SERIES, NOISE = range(21, 26), range(21, 28)
ALGOS = ("dqn", "ppo", "a2c", "sac", "lstm_dqn", "lstm_ppo")
KINDS = {
    "predictive": ["env.signal=predictive"],
    "ar1": ["env.signal=ar1", "env.delay=0"],
    "memory": ["env.signal=memory"],
}


def share(result: Mapping[str, Any]) -> list[float]:
    """Of the oracle's score over all folds, what the agent's is."""
    found = sum(replica["eval_return"] for replica in result["replicas"])
    return [found / sum(replica["baselines"]["oracle"] for replica in result["replicas"])]


def better(result: Mapping[str, Any]) -> list[float]:
    """1 where the run's report says so."""
    report = json.loads((Path(result["run"]) / "report.json").read_text())
    return [float("is better than" in report["conclusion"])]


def noise(runs: Runs, algo: str) -> str:
    """On how many series of nothing it was called better."""
    called = 0.0
    for series in NOISE:
        command = [f"algo={algo}", "env=synthetic", "env.signal=noise", f"env.series_seed={series}"]
        found = runs.scores(f"{algo} noise {series}", [*command, "eval=walk_forward"], better)
        if isinstance(found, str):
            return found
        called += found[0]
    return f"{called:.0f} of {len(NOISE)}"


def main(words: list[str]) -> None:
    words, run = asked(words)
    runs = Runs(HERE / "held_out" / "edges.json", HERE.parent / "outputs" / "edges", run=run)
    table = [["algorithm", *KINDS, "noise: better"]]
    for algo in ALGOS:
        cells = []
        for kind, env in KINDS.items():
            if not all(word in (algo, kind) for word in words):
                continue
            shares: list[float] = []
            left_out = ""
            for series in SERIES:
                command = [f"algo={algo}", "env=synthetic", *env, f"env.series_seed={series}"]
                found = runs.scores(f"{algo} {kind} {series}", [*command, "eval=walk_forward"], share)
                if isinstance(found, str):
                    left_out = found
                else:
                    shares += found
            cells.append(left_out or f"{np.median(shares):.0%} ({min(shares):.0%})")
            print(algo, kind, cells[-1], flush=True)
        if all(word in (algo, "noise") for word in words):
            cells.append(noise(runs, algo))
            print(algo, "noise", cells[-1], flush=True)
        table.append([algo, *cells])
    if words:
        return
    about = (
        "Made by `make edges`: the median and (worst) share of what an oracle earns that knows what can be "
        f"foretold, {len(SERIES)} series of a kind that no recipe was chosen on, a seed each, five folds of "
        "walk-forward. The column and the last return foretell 9 % of the next one's variance; a memory "
        "series is foretold by a sign seen 10 rows before the window, and prices do not tell it in time. "
        "Of noise nothing can be found: the last column counts reports that call the agent better."
    )
    write_page(HERE / "edges.md", "Edges found", about, table)


if __name__ == "__main__":
    main(sys.argv[1:])
