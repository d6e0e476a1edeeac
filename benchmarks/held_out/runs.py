"""Runs of our own, each once: final scores by config, so that a benchmark goes on where it stopped."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Result = Callable[[Mapping[str, Any]], list[float]]  # of a run's --json line


def returns(result: Mapping[str, Any]) -> list[float]:
    """The final score of each replica."""
    return [replica["eval_return"] for replica in result["replicas"]]


class Runs:
    """What was read of every run so far, kept in the file `known`."""

    def __init__(self, known: Path, out: Path, *, run: bool = True) -> None:
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
