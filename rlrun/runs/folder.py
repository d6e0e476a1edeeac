"""One run folder: the name of every file in it, and its record, status, summary and lock.

Nothing else spells these names. A folder is data, perhaps a stranger's: what is read is
bounded and checked, and imports nothing.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import secrets
import shlex
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from rlrun import registry
from rlrun.config import ConfigError
from rlrun.config.keys import EnvError
from rlrun.config.plain import from_dict, to_dict
from rlrun.config.run import RunConfig
from rlrun.evals.evaluation import Replica
from rlrun.files import (
    FULL,
    WriteError,
    inflate,
    lines_of,
    lock,
    locked,
    make_folder,
    parse_json,
    read_json,
    read_regular,
    remove,
    write_atomic,
)
from rlrun.runs.imports import doubts, named
from rlrun.runs.place import rooted, way_back
from rlrun.runs.shape import IMPORTS, PLAN, RECORD, REPORT, STATUS, SUMMARY, Shape, shaped
from rlrun.runs.spaces import from_dict as space_from_dict
from rlrun.spaces import Space

SCHEMA = 1  # of run.json
_JSON, _LINE = 1 << 24, 1 << 16  # bytes of a JSON file, and of a line of metrics
_DEEP = 32  # folders below which no run is looked for
_status = threading.Lock()  # held while a status is written


@contextmanager
def sound(what: object) -> Iterator[None]:
    """Within it, whatever a stranger's files can raise is a refusal: the one place for that."""
    try:
        yield
    except (ConfigError, EnvError):
        raise
    except Exception as error:
        if isinstance(error, WriteError) and error.errno in FULL:
            raise
        why = f"it lacks {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
        raise ConfigError(f"{what} is damaged: {why}") from error


def quoted(path: str | Path) -> str:
    """A path as a shell takes it, and nobody takes for an option."""
    return shlex.quote(f"./{path}" if str(path).startswith("-") else str(path))


class _File:
    """A file's path, as an attribute of the folder that it is in."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, folder: RunFolder | None, owner: type[RunFolder]) -> Path:
        return Path(self.name) if folder is None else folder.path / self.name


class RunFolder:
    """Paths, and what is read from them and written to them."""

    record = _File("run.json")  # what the run is: config, versions, spaces, replicas
    config_yaml = _File("config.yaml")  # for people
    overrides_yaml = _File("overrides.yaml")
    status_file = _File("status.json")
    metrics = _File("metrics.jsonl")
    summary_file = _File("summary.json")
    checkpoints = _File("ckpt")
    lock_file = _File("lock")
    tensorboard = _File("tb")
    plan = _File("folds.json")  # what is trained and judged on what
    steps = _File("test_steps.csv.gz")  # the steps that a test scored
    report = _File("report.md")
    report_html = _File("report.html")
    report_json = _File("report.json")
    curve = _File("curve.png")
    policy = _File("policy.png")
    equity = _File("equity.png")
    folds = _File("folds.png")
    film = _File("play.gif")
    episodes = _File("episodes")  # a data set, where none is named

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __fspath__(self) -> str:
        return str(self.path)

    __str__ = __fspath__

    @property
    def quoted(self) -> str:
        """The path as a shell takes it, for commands that are to be copied."""
        return quoted(self.path)

    @property
    def exists(self) -> bool:
        """Whether a run is there, whole or not."""
        return os.path.isfile(self.record)  # unlike Path's, false of what can be no path

    @property
    def ended(self) -> bool:
        """Whether the run came to its end, and was judged."""
        return self.summary_file.exists() and self.status()["status"] in ("finished", "failed", "unknown")

    @classmethod
    def new(cls, config: RunConfig) -> RunFolder:
        """<out>/<algo>-<env>/<time>-<4 random characters>, not made yet; env=gym goes by its id."""
        stamp = time.strftime("%Y%m%d-%H%M%S")
        algo, env = task_names(config)
        env = re.sub(r"[^A-Za-z0-9._-]", "_", env) if hasattr(config.env, "id") else env
        return cls(Path(config.out) / f"{algo}-{env}" / f"{stamp}-{secrets.token_hex(2)}")

    @classmethod
    def under(cls, path: Path) -> list[RunFolder]:
        """Every run folder at or below a path, in order of name; links are not followed."""
        found, folders = [], [(path, 0)]
        while folders:
            folder, depth = folders.pop()
            with suppress(OSError), os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name == cls.record.name:
                        found.append(folder)
                    elif depth < _DEEP and entry.is_dir(follow_symlinks=False):
                        folders.append((folder / entry.name, depth + 1))
        return [cls(folder) for folder in sorted(found)]

    @classmethod
    def beside(cls, path: Path) -> list[RunFolder]:
        """The run folders in the folder that a path is in."""
        inside = path.parent.glob(f"*/{cls.record}") if os.path.isdir(path.parent) else ()
        return [cls(file.parent) for file in sorted(inside)]

    # run.json

    def begin(self, config: RunConfig, record: Mapping[str, Any], overrides: Sequence[str]) -> None:
        """Write what the run is. `record` is run.json without the schema and the config."""
        first = {"schema": SCHEMA, "config": to_dict(config), "back": way_back(self.path)}
        self._write_record({**first, **record}, overrides)

    def reopen(self, record: Mapping[str, Any], step: int) -> None:
        """The run goes on as a new run.json says; killed in between, it is what it was."""
        self.set_status("interrupted", step)
        self.summary_file.unlink(missing_ok=True)
        self._write_record(record)

    def _write_record(self, record: Mapping[str, Any], overrides: Sequence[str] | None = None) -> None:
        import yaml

        if overrides is not None:
            write_atomic(self.overrides_yaml, yaml.safe_dump(list(overrides)).encode())
        write_atomic(self.config_yaml, yaml.safe_dump(record["config"], sort_keys=False).encode())
        self._write_json(self.record, record)  # last: a folder with it is a run

    def read(self, *, listeners: bool = False) -> dict[str, Any]:
        """run.json, checked; its listeners only if asked for, since what merely reads a run needs none.

        Raises:
            ConfigError: there is none, or it is not what rlrun writes.
        """
        record = self.read_record()
        with sound(self.record):
            if not listeners:
                record["config"] = record["config"] | {"listener": {}}
            config = from_dict(record["config"])
            space_from_dict(record["obs"]), space_from_dict(record["action"])
            _agree(config, _replicas(record))
            record["config"] = to_dict(rooted(config, self.path, record.get("back", ".")))
        return record

    def read_record(self) -> dict[str, Any]:
        """run.json, of which only the shape is checked: its config may be a plug-in's.

        Raises:
            ConfigError: there is none, or it is not what rlrun writes.
        """
        try:
            record = self._read_json(self.record, RECORD)
        except FileNotFoundError:
            raise ConfigError(f"{self} is not a run folder: it has no {self.record.name}") from None
        if record["schema"] > SCHEMA:
            raise ConfigError(
                f"{self.record} was written by a newer rlrun (schema {record['schema']}; "
                f"this one knows {SCHEMA})"
            )
        return record

    def config(self) -> RunConfig:
        """The config of run.json."""
        return from_dict(self.read()["config"])

    def spaces(self) -> tuple[Space, Space]:
        """Of observations and of actions, as run.json has them."""
        record = self.read()
        return space_from_dict(record["obs"]), space_from_dict(record["action"])

    def replicas(self) -> list[Replica]:
        return _replicas(self.read())

    def imports(self, *, anew: bool = False) -> tuple[list[str], dict[str, str]]:
        """The modules that a run names, and why not to trust those that are not files of one's own.

        `anew` asks as the next command will, which has imported nothing.

        Raises:
            ConfigError: run.json is damaged.
        """
        record = self._read_json(self.record, IMPORTS)
        with sound(self.record):
            return named(record["config"]), doubts(record, self.path, anew=anew)

    # how far it is, and what it scored

    def status(self) -> dict[str, Any]:
        """status.json; its status is unknown where there is none to read, which is in nobody's way."""
        try:
            return shaped(read_json(self.status_file, 1 << 20), STATUS)
        except (OSError, ValueError):
            return {"status": "unknown", "step": 0, "reason": ""}

    def set_status(self, status: str, step: int, reason: str = "") -> None:
        """running, finished, failed or interrupted, with the last checkpoint's step and a one-line reason."""
        record = {"status": status, "step": step, "reason": reason, "time": round(time.time(), 3)}
        # A process that must leave at once says so from another thread; 0.2 s is more than a write takes.
        if _status.acquire(timeout=0.2):
            try:
                if self.status_file.is_dir() and not self.status_file.is_symlink():
                    remove(self.status_file)
                write_atomic(self.status_file, json.dumps(record).encode())
            finally:
                _status.release()

    @property
    def state(self) -> tuple[str, int]:
        """The status and the step of the last checkpoint: "killed" where nobody trains a run that is running.

        What cannot be read is "unfinished" at step 0.
        """
        record = self.status()
        status: str = record["status"]
        if status == "unknown":
            return "unfinished", 0
        return "killed" if status == "running" and not self.in_use else status, record["step"]

    @property
    def in_use(self) -> bool:
        """Whether a process trains here now."""
        return locked(self.lock_file)

    def summary(self) -> dict[str, Any]:
        """summary.json.

        Raises:
            ConfigError: the run has none, for it did not come to its end; or it is damaged.
        """
        try:
            summary = self._read_json(self.summary_file, SUMMARY)
        except FileNotFoundError:
            raise ConfigError(
                f"{self} has no scores yet", f"rlrun resume {self.quoted} finishes it"
            ) from None
        if not summary["replicas"]:
            raise ConfigError(f"{self.summary_file} is damaged: it has no replicas")
        return summary

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        self._write_json(self.summary_file, summary)

    def write_plan(self, plan: Mapping[str, Any]) -> None:
        self._write_json(self.plan, plan)

    def write_steps(self, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """The steps that a test scored, as a compressed CSV; the same rows are the same bytes."""
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
        write_atomic(self.steps, gzip.compress(text.getvalue().encode(), 6, mtime=0))

    def write_report(self, text: str, page: str, report: Mapping[str, Any]) -> None:
        write_atomic(self.report, text.encode("utf-8", "replace"))
        write_atomic(self.report_html, page.encode("utf-8", "replace"))
        self._write_json(self.report_json, report)

    def read_metrics(self, tags: Iterable[str] | None) -> Iterator[dict[str, Any]]:
        """The records of metrics.jsonl that have any of the tags (None: all): step, replica, values by tag.

        Raises:
            ConfigError: it is missing or damaged.
        """
        shape: Shape = {"step": int, "replica": int} | {f"{tag}?": float for tag in tags or ()}
        shape |= {"*": float} if tags is None else {}
        wanted = [b""] if tags is None else [json.dumps(tag).encode() for tag in tags]
        with sound(self.metrics):
            for number, line in enumerate(lines_of(self.metrics, _LINE), 1):
                if any(tag in line for tag in wanted):
                    yield shaped(parse_json(line, f"line {number}"), shape, f"line {number}")

    def read_plan(self) -> dict[str, Any]:
        """folds.json, which a walk-forward run has; FileNotFoundError without, ConfigError if damaged."""
        return self._read_json(self.plan, PLAN)

    def read_report(self) -> dict[str, Any] | None:
        """report.json, which a walk-forward run has.

        Raises:
            ConfigError: it is damaged.
        """
        try:
            return self._read_json(self.report_json, REPORT)
        except FileNotFoundError:
            return None

    def read_steps(self) -> dict[str, Sequence[str]]:
        """What `write_steps` wrote, a sequence of cells for each column."""
        text = inflate(read_regular(self.steps, 1 << 30), 1 << 32).decode()
        rows = list(csv.reader(io.StringIO(text, newline="")))
        if len(rows) < 2 or any(len(row) != len(rows[0]) for row in rows):
            raise ValueError(f"{self.steps.name} is empty, or its rows are not as long as its header")
        return dict(zip(rows[0], zip(*rows[1:], strict=True), strict=True))

    def folder_for(self, path: Path) -> Path:
        """A folder below this one, made if it is not there; OSError where a link leads away from here."""
        make_folder(path, self.path)
        return path

    def _write_json(self, path: Path, content: Mapping[str, Any]) -> None:
        write_atomic(path, json.dumps(content, indent=1).encode())

    def _read_json(self, path: Path, shape: Shape) -> Any:
        """FileNotFoundError where there is none, ConfigError where it is damaged."""
        if not os.path.lexists(path):
            raise FileNotFoundError(path)
        with sound(path):
            return shaped(read_json(path, _JSON), shape)

    @contextmanager
    def lock(self, say: Callable[[str], None] = lambda text: None) -> Iterator[None]:
        """Held while a process trains here; free at once when it dies, or `say` is told that it is not.

        Raises:
            ConfigError: another process holds it.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(lock(self.lock_file, say))
            except BlockingIOError as error:
                raise self.refusal(str(error)) from None
            except (OSError, ValueError) as error:
                raise ConfigError(f"{self} cannot be locked: {error}") from None
            yield

    def refusal(self, *more: str) -> ConfigError:
        """What to raise where another process holds the lock."""
        return ConfigError(f"{self} is in use: another process is training there", *more)


def task_names(config: RunConfig) -> tuple[str, str]:
    """What algorithm and env go by: their recipes' names, env=gym by its id."""
    algo, env = (config.choices.get(g, registry.entry_of(getattr(config, g)).kind) for g in ("algo", "env"))
    return algo, getattr(config.env, "id", env)


def _replicas(record: Mapping[str, Any]) -> list[Replica]:
    return [Replica(r["replica"], r["seed"], r["fold"], r.get("variant", 0)) for r in record["replicas"]]


def _agree(config: RunConfig, replicas: Sequence[Replica]) -> None:
    """ValueError unless the config trains these replicas: what is large must be there to be seen."""
    seeds = range(config.seed, config.seed + config.replicas)
    if len(replicas) % config.replicas or not all(
        each.index == i and each.seed in seeds for i, each in enumerate(replicas)
    ):
        raise ValueError(f"its config's {config.replicas:,} replicas are not the {len(replicas):,} it lists")
