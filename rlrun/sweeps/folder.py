"""A sweep's folder: its jobs and what became of them, in sweep.json, beside the run folders."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rlrun.config import ConfigError
from rlrun.config.keys import is_name, printable
from rlrun.files import lock, make_folder, read_json, write_atomic
from rlrun.runs.folder import RunFolder, quoted, sound
from rlrun.runs.shape import shaped
from rlrun.sweeps.grid import Job

PENDING, FINISHED, FAILED, INTERRUPTED = "pending", "finished", "failed", "interrupted"
RECORD = "sweep.json"
_SCHEMA, _LIMIT = 1, 1 << 28
_SHAPE = {
    "schema": int,
    "jobs": [
        {
            "name": str,
            "label": str,
            "words": [str],
            "state": str,
            "run?": (str, None),
            "reason?": str,
            "score?": (float, None),
            "seconds?": float,
        }
    ],
}


@dataclass(frozen=True)
class State:
    """What became of a job."""

    state: str = PENDING
    run: str | None = None  # the folder of its run, inside the sweep's
    reason: str = ""  # why it failed, in a line
    score: float | None = None  # the median over its replicas
    seconds: float = 0.0


@dataclass
class SweepFolder:
    """Jobs by name, in the order in which they were asked for, and their states."""

    path: Path
    jobs: dict[str, Job] = field(default_factory=dict)
    states: dict[str, State] = field(default_factory=dict)
    _written: float = 0.0

    @classmethod
    def at(cls, path: Path) -> SweepFolder:
        """A sweep's folder as it is: without jobs where there is none yet.

        Raises:
            ConfigError: its sweep.json is damaged.
        """
        found = cls(path)
        if not found.file.exists():
            return found
        with sound(found.file):
            record = shaped(read_json(found.file, _LIMIT), _SHAPE)
            if record["schema"] > _SCHEMA:
                raise ConfigError(f"{found.file} was written by a newer rlrun (schema {record['schema']})")
            for row in record["jobs"]:
                for name in (row["name"], row.get("run") or row["name"]):
                    if not is_name(name):
                        raise ValueError(f"{printable(name, 40)} is no folder's name")
                job = Job(row["name"], row["label"], tuple(row["words"]))
                rest = {
                    name: row[name] for name in ("state", "run", "reason", "score", "seconds") if name in row
                }
                found.jobs[job.name], found.states[job.name] = job, State(**rest)
        return found

    @property
    def file(self) -> Path:
        return self.path / RECORD

    @property
    def logs(self) -> Path:
        """What the jobs printed, a file each."""
        return self.path / "logs"

    @property
    def quoted(self) -> str:
        return quoted(self.path)

    def join(self, jobs: Iterable[Job]) -> None:
        """Add jobs; of one that is there already, its state is kept if its words are the same."""
        for job in jobs:
            known = self.jobs.get(job.name)
            if known is None or set(known.words) != set(job.words):
                self.states[job.name] = State()
            self.jobs[job.name] = job

    def settle(self, name: str, **changes: object) -> State:
        """Change a job's state; it is on disk within two seconds, at the latest with `write`."""
        self.states[name] = replace(self.states[name], **changes)  # type: ignore[arg-type]
        if time.monotonic() - self._written > 2.0:
            self.write()
        return self.states[name]

    def write(self) -> None:
        rows = [
            {"name": job.name, "label": job.label, "words": job.words, **asdict(self.states[job.name])}
            for job in self.jobs.values()
        ]
        write_atomic(self.file, json.dumps({"schema": _SCHEMA, "jobs": rows}, indent=1).encode())
        self._written = time.monotonic()

    def records(self) -> dict[str, dict[str, Any]]:
        """run.json of the runs in it, by the names of their folders; damaged ones are left out."""
        found = {}
        for run in RunFolder.beside(self.file):
            with suppress(ConfigError):
                found[run.path.name] = run.read_record()
        return found

    def runs(self) -> dict[str, str]:
        """The names of the run folders in it, by the hash of the job that they do."""
        return {str(record.get("job_hash")): name for name, record in self.records().items()}

    def count(self, *states: str) -> int:
        return sum(each.state in states for each in self.states.values())

    @contextmanager
    def lock(self, say: Callable[[str], None]) -> Iterator[None]:
        """Held while jobs are handed out.

        Raises:
            ConfigError: another process holds it, or the folder cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            make_folder(self.logs, self.path)
        except OSError as error:
            raise ConfigError(f"{self.path} cannot be made: {error.strerror}") from None
        try:
            with lock(self.path / "lock", say):
                yield
        except BlockingIOError as error:
            raise ConfigError(
                f"{self.path} is in use: another process works on this sweep", str(error)
            ) from None
