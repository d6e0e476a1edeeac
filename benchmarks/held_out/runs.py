"""Benchmarks of many runs, each made once: they go on where they stopped, and write a page."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Result = Callable[[Mapping[str, Any]], list[float]]  # of a run's --json line


def returns(result: Mapping[str, Any]) -> list[float]:
    """The final score of each replica."""
    return [replica["eval_return"] for replica in result["replicas"]]


def asked(words: Sequence[str]) -> tuple[list[str], bool]:
    """What a command line asks for: the words that a row must have, and, without --known, to train."""
    return [word for word in words if word != "--known"], "--known" not in words


def write_page(path: Path, title: str, about: str, table: Sequence[Sequence[str]], *more: str) -> None:
    """Markdown: a table whose first row is its head, and the lines after it."""
    head, *rows = table
    lines = [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]
    path.write_text("\n".join([f"# {title}", "", about, "", *lines, *more]) + "\n")


class Runs:
    """What was read of every run so far, kept in the file `known`."""

    def __init__(self, known: Path, out: Path, *, run: bool) -> None:
        """`out` is the folder of run folders; without `run` nothing is trained."""
        self._known, self._out, self._run = known, out, run
        self._scores: dict[str, list[float]] = json.loads(known.read_text()) if known.exists() else {}

    def scores(self, name: str, command: list[str], of: Result = returns) -> list[float] | str:
        """What is read `of` a command's result, or why there is none; made anew when its config changes."""
        from rlrun.config import ConfigError
        from rlrun.config.compose import compose
        from rlrun.config.plain import config_hash

        command = [*command, "log.tensorboard=false", "log.plot=false"]
        try:
            key = f"{name} {config_hash(compose(command))[:12]}"
        except ConfigError as error:
            return error.lines[0]
        if key not in self._scores and not self._run:
            return "not run yet"
        if key not in self._scores:
            words = [sys.executable, "-m", "rlrun", *command, f"out={self._out}", "--json"]
            done = subprocess.run(words, capture_output=True, text=True)
            if done.returncode:
                return (done.stderr.strip().splitlines() or ["it failed"])[-1]
            self._scores[key] = [round(each, 4) for each in of(json.loads(done.stdout.splitlines()[-1]))]
            self._known.write_text(json.dumps(self._scores, indent=1) + "\n")
        return self._scores[key]
