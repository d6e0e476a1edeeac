"""Who follows a run: metrics.jsonl, TensorBoard, the progress line, and loggers of plug-ins.

A listener is told what is recorded and never asked for anything, so that no bit of a run
depends on who listens. A plug-in registers one as it registers an algorithm
(`@register("listener", "csv", CsvConfig)`), and `listener=csv` or `listener=[csv,other]`
chooses it; `examples/csv_listener` is a whole one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlrun import registry
from rlrun.config.run import RunConfig
from rlrun.evals.evaluation import Replica
from rlrun.runs.folder import RunFolder


@dataclass(frozen=True)
class Followed:
    """The run that a listener follows."""

    folder: RunFolder
    config: RunConfig
    replicas: Sequence[Replica]
    seconds: Callable[[], float]  # wall time so far, that of every process that worked on it


class Listener:
    """Base of what follows a run; each method does nothing here.

    Calls come in this order: `open`, `rewind`, any number of `record`, `distribution` and `mark`,
    `close`. What a plug-in's listener raises is said once, and it is left out from then on: the
    run goes on.
    """

    def open(self, run: Followed) -> None:
        """The run begins, or goes on in a new process."""

    def rewind(self, step: int, mark: int) -> None:
        """Forget what was recorded after `mark`, all of it later than env step `step`: it comes again.

        Both are of the checkpoint that a resumed run goes on from; 0 and 0 where a run begins.
        """

    def record(self, step: np.ndarray, due: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
        """New `values` by tag, [R] each and NaN where there is none, at env step `step` [R].

        They are news for the replicas in `due` [R] alone.
        """

    def distribution(self, step: np.ndarray, due: np.ndarray, samples: Mapping[str, np.ndarray]) -> None:
        """As `record`, of what has many values at a time: [R, K] by tag, NaN where there is none."""

    def mark(self) -> int:
        """Make what was recorded durable, for a checkpoint is written; where that is, for `rewind`."""
        return 0

    def close(self, summary: Mapping[str, Any] | None) -> None:
        """The run has ended, with its summary.json; with None it was interrupted, or failed."""


class Guarded(Listener):
    """A plug-in's listener, which cannot end the run."""

    def __init__(self, name: str, inner: Listener, say: Callable[[str], None]) -> None:
        self._name, self._inner, self._say = name, inner, say
        self._left_out = False

    def open(self, run: Followed) -> None:
        self._tell("open", run)

    def rewind(self, step: int, mark: int) -> None:
        self._tell("rewind", step, mark)

    def record(self, step: np.ndarray, due: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
        self._tell("record", step.copy(), due.copy(), {tag: value.copy() for tag, value in values.items()})

    def distribution(self, step: np.ndarray, due: np.ndarray, samples: Mapping[str, np.ndarray]) -> None:
        self._tell(
            "distribution", step.copy(), due.copy(), {tag: each.copy() for tag, each in samples.items()}
        )

    def mark(self) -> int:
        where = self._tell("mark")
        return where if isinstance(where, int) else 0

    def close(self, summary: Mapping[str, Any] | None) -> None:
        self._tell("close", summary)

    def _tell(self, method: str, *arguments: Any) -> Any:
        call = getattr(self._inner, method, None)  # each may be left out, without the base class too
        if self._left_out or call is None:
            return None
        try:
            return call(*arguments)
        except Exception as error:
            self._left_out = True
            self._say(f"listener {self._name} is left out: {method} raised {type(error).__name__}: {error}")


def chosen(config: RunConfig, say: Callable[[str], None]) -> dict[str, Listener]:
    """The listeners that the config names, built, so that what is missing is told before a run begins."""
    return {
        name: Guarded(name, registry.entry_of(each).build(each), say)
        for name, each in config.listener.items()
    }
