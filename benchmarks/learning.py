"""Evidence that every algorithm learns: each row is a command, and what its scores must be.

    make learn                                   # all rows; run again, it goes on where it stopped
    python benchmarks/learning.py dqn cliff      # the rows whose command has one of these words
    python benchmarks/learning.py --list

Scores are those of final policies on fresh episodes (or online returns, where the recipe is
judged so), one a replica, of seeds that chose nothing: tuning used the seeds from 1, the table
those from 1001. Where a trivial solution could pass there is a row that must fail: without
memory, without the teacher, without planning. The table is benchmarks/learning.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import operator
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parent / "rlrun"
TABLE = HERE / "learning.md"
RUNS = HERE.parent / "outputs" / "learning"
FIRST_SEED = 1001
COMPARE = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


def iqm(scores: np.ndarray) -> float:
    from rlrun import stats

    return float(stats.iqm(scores))


STATISTICS: dict[str, Callable[[np.ndarray], float]] = {
    "median": lambda scores: float(np.median(scores)),
    "mean": lambda scores: float(scores.mean()),
    "iqm": iqm,
    "worst": lambda scores: float(scores.min()),
    "best": lambda scores: float(scores.max()),
}


@dataclass(frozen=True)
class Row:
    """A command without `rlrun`, claims such as "median >= 490" about its scores, and where those stand.

    `score` is the name of a figure of summary.json's replicas, or a function of the run's
    folder that returns one number a replica. `quick` rows are part of the fast test suite.
    """

    overrides: str
    claims: tuple[str, ...]
    score: str | Callable[[Path], np.ndarray] = "eval_return"
    quick: bool = False

    @property
    def command(self) -> str:
        """With the table's first seed, unless the row names its own."""
        return self.overrides if " seed=" in self.overrides else f"{self.overrides} seed={FIRST_SEED}"

    def scores(self, folder: Path) -> np.ndarray:
        """One number a replica [R], of a finished run."""
        if callable(self.score):
            return self.score(folder)
        rows = json.loads((folder / "summary.json").read_text())["replicas"]
        return np.array([row[self.score] for row in rows], float)

    def failures(self, scores: np.ndarray) -> list[str]:
        """The claims that do not hold, each with the number found."""
        found = []
        for claim in self.claims:
            name, sign, bound = claim.split()
            value = STATISTICS[name](scores)
            if not COMPARE[sign](value, float(bound)):
                found.append(f"{name} is {value:.4g}, not {sign} {bound}")
        return found


def row(
    overrides: str,
    *claims: str,
    score: str | Callable[[Path], np.ndarray] = "eval_return",
    quick: bool = False,
) -> Row:
    return Row(overrides, claims, score, quick)


SECTIONS: dict[str, list[Row]] = {
    "Bandits": [],
    "Dynamic programming": [
        row("algo=value_iteration env=frozen_lake", "median >= 0.6", quick=True),
    ],
    "Temporal differences": [],
    "Value-based": [
        row("algo=dqn env=cartpole replicas=10", "median >= 490", "worst >= 300"),
        row("algo=dqn env=pendulum_discrete replicas=5", "median >= -170", "worst >= -250"),
        row("algo=lstm_dqn env=cartpole replicas=5", "median >= 490", "worst >= 300"),
        row("algo=lstm_dqn env=cartpole_masked replicas=5", "median >= 450", "worst >= 195"),
        row("algo=dqn env=cartpole_masked replicas=3", "best <= 60"),
    ],
    "Policy gradient": [
        row("algo=ppo env=cartpole replicas=10", "median >= 490", "worst >= 350", quick=True),
        row("algo=ppo env=pendulum replicas=3", "median >= -300", "worst >= -500"),
        row("algo=reinforce env=cartpole replicas=5", "median >= 400", "worst >= 300"),
        row("algo=lstm_ppo env=cartpole_masked replicas=5", "median >= 480", "worst >= 400", quick=True),
        row("algo=ppo env=cartpole_masked replicas=3", "best <= 60"),
    ],
    "Off-policy actor-critics": [
        row("algo=sac env=pendulum replicas=5", "median >= -170", "worst >= -250"),
    ],
    "Imitation": [
        row("algo=bc env=cartpole replicas=5", "median >= 450", "worst >= 400", quick=True),
        row("algo=bc env=cartpole replicas=5 data.episodes=1", "median >= 450"),
    ],
    "Offline": [],
    "Planning": [],
}
ROWS = [row for rows in SECTIONS.values() for row in rows]


def sources() -> str:
    """A digest of the package: what was measured with other sources is measured again."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def folder_of(row: Row) -> Path:
    """A folder of its own for each command and the config that it stands for."""
    from rlrun.compose import compose
    from rlrun.config import config_hash

    name = re.sub(r"[^\w.=-]+", "_", re.sub(r"\b(algo|env)=", "", row.overrides))[:80]
    return RUNS / f"{name}-{config_hash(compose(row.command.split()))[:8]}"


def finished(folder: Path, digest: str | None) -> bool:
    """Whether the folder holds a whole run, of these sources unless `digest` is None."""
    stamp = folder / "sources"
    fresh = digest is None or (stamp.exists() and stamp.read_text() == digest)
    return fresh and (folder / "summary.json").exists()


def train(row: Row, folder: Path) -> None:
    """In a process of its own: from the beginning, or from where the run was interrupted."""
    from rlrun import runner
    from rlrun.compose import compose

    if (folder / "run.json").exists():
        result = runner.resume(folder, quiet=True)
    else:
        config = compose([*row.command.split(), "log.tensorboard=false", "log.plot=false"])
        result = runner.execute(config, folder=folder, quiet=True)
    raise SystemExit(result.exit_code)


def measure(row: Row, folder: Path, digest: str) -> str:
    """Train unless that is done, and say in a line how it went."""
    began = time.monotonic()
    stamp = folder / "sources"
    if folder.exists() and not (stamp.exists() and stamp.read_text() == digest):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    stamp.write_text(digest)
    with (folder / "log.txt").open("ab") as log:
        arguments = [sys.executable, __file__, "--train", str(ROWS.index(row)), "--folder", str(folder)]
        code = subprocess.run(arguments, stdout=log, stderr=log).returncode
    took = f"{time.monotonic() - began:6.0f} s  {row.command}"
    if not (folder / "summary.json").exists():
        return f"ERROR {took}: exit code {code}, see {folder}/log.txt"
    failures = row.failures(row.scores(folder))
    return f"FAIL  {took}: {'; '.join(failures)}" if failures else f"ok    {took}"


def write_table(folders: dict[Row, Path], digest: str | None) -> int:
    """benchmarks/learning.md, of all that is measured; how many rows are missing or fail."""
    bad = 0
    lines = [
        "# What every algorithm learns",
        "",
        "Made by `make learn`; each line is one command (`rlrun ...`), its replicas trained in one program.",
        "Scores are those of final policies on fresh episodes, or what the section says; seconds are those",
        "of training and judging on one core of two, both busy. A claim that does not hold is struck out.",
    ]
    head = ("env", "steps", "replicas", "median", "IQM", "worst", "seconds", "claim", "command")
    for section, rows in SECTIONS.items():
        lines += ["", f"## {section}", "", f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
        for row in rows:
            folder = folders[row]
            claim, env = ", ".join(row.claims), re.search(r"env=(\S+)", row.command)
            if not finished(folder, digest):
                bad += 1
                cells = [env[1] if env else "", *["not measured"] * 6, claim]
            else:
                scores = row.scores(folder)
                summary = json.loads((folder / "summary.json").read_text())
                record = json.loads((folder / "run.json").read_text())
                if row.failures(scores):
                    bad += 1
                    claim = f"~~{claim}~~"
                figures = (STATISTICS[name](scores) for name in ("median", "iqm", "worst"))
                cells = [
                    record["config"]["choices"]["env"],
                    f"{record['config']['total_steps']:,}",
                    str(len(scores)),
                    *(f"{figure:.4g}" for figure in figures),
                    f"{summary['wall_seconds']:.0f}",
                    claim,
                ]
            lines.append(f"| {' | '.join([*cells, f'`{row.command}`'])} |")
    TABLE.write_text("\n".join(lines) + "\n")
    return bad


def main(words: Iterable[str], jobs: int, keep: bool) -> int:
    """Measure what is not measured yet, and write the table; how many rows are missing or fail."""
    digest = sources()
    folders = {row: folder_of(row) for row in ROWS}
    chosen = [row for row in ROWS if not words or any(word in row.command for word in words)]
    missing = [row for row in chosen if not finished(folders[row], None if keep else digest)]
    print(f"{len(chosen)} rows, {len(chosen) - len(missing)} of them measured already", flush=True)
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(measure, row, folders[row], digest) for row in missing]
        for future in as_completed(futures):
            print(future.result(), flush=True)
            write_table(folders, None if keep else digest)
    bad = write_table(folders, None if keep else digest)
    print(f"{TABLE}: {len(ROWS)} rows, {bad} of them fail or are not measured")
    return bad


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("words", nargs="*", help="only rows whose command has one of these words")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="rows at once")
    parser.add_argument("--keep", action="store_true", help="trust what older sources measured")
    parser.add_argument("--list", action="store_true", help="show the commands and claims, and stop")
    parser.add_argument("--train", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.train is not None:
        train(ROWS[args.train], args.folder)
    elif args.list:
        print("\n".join(f"{', '.join(row.claims):32} rlrun {row.command}" for row in ROWS))
    else:
        raise SystemExit(bool(main(args.words, args.jobs, args.keep)))
