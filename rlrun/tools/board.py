"""TensorBoard over many runs: a folder of links with names that say what each run is.

Where the seeds of a configuration are spread over several run folders, their mean is written beside
them. HPARAMS is told which columns matter: the recipes, and the keys that tell runs apart.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from rlrun.config import ConfigError
from rlrun.config.naming import differing
from rlrun.runs import events
from rlrun.runs.events import EventFile
from rlrun.runs.folder import RunFolder, quoted
from rlrun.runs.tensorboard import BANDED, MEAN, SCORE
from rlrun.tools.means import Mean
from rlrun.tools.names import Entry, cut, named

_ALWAYS = ("algo", "env", "model", "eval")  # that are among the first columns, where they differ
_HOST = "127.0.0.1"
_OTHER_PORT = "--port chooses another; without it the next free one is taken"


class Board:
    """The links over all runs under some paths, and the means of runs; `refresh` brings both up to date."""

    def __init__(self, paths: Sequence[Path], folder: Path) -> None:
        self.paths, self.folder = paths, folder
        self.left_out: dict[Path, str] = {}  # why, of runs that cannot be shown
        self._entries: dict[Path, Entry] = {}
        self._spread: dict[Path, list[RunFolder]] = {}  # runs of a configuration, by where their mean stands
        self._means: dict[Path, Mean] = {}
        self._columns: Any = None
        self._linked = 0
        self._told = 0  # how often HPARAMS was told of its columns

    def refresh(self) -> None:
        self.link()
        for place, runs in self._spread.items():
            self._means.setdefault(place, Mean(place)).update(runs)

    def link(self) -> None:
        """Link what has come, and drop what has gone or is called otherwise now."""
        self._look()
        configurations = named(self._entries.values())
        places = {self.folder / name: entries for name, entries in configurations.items()}
        self._spread = {
            place / MEAN: [entry.run for entry in entries]
            for place, entries in places.items()
            if len(entries) > 1
        }
        for place in self._means.keys() - self._spread.keys():
            self._means.pop(place).close()
            shutil.rmtree(place)
        self._link({link: to for place, entries in places.items() for link, to in _links(place, entries)})
        self._tell_columns([entries[0] for entries in places.values()])

    def close(self) -> None:
        for mean in self._means.values():
            mean.close()

    @property
    def size(self) -> int:
        """How many runs TensorBoard will list."""
        return self._linked + len(self._spread)

    def _look(self) -> None:
        """Read the run.json of new runs."""
        found = {run.path.absolute(): run for path in self.paths for run in RunFolder.under(path)}
        self._entries = {path: entry for path, entry in self._entries.items() if path in found}
        for path in found.keys() - self._entries.keys() - self.left_out.keys():
            run = RunFolder(path)
            if run.tensorboard.is_symlink() or not run.tensorboard.is_dir():
                continue  # it may come
            try:
                self._entries[path] = Entry.of(run)
            except ConfigError as error:
                self.left_out[path] = error.lines[0]

    def _link(self, links: Mapping[Path, Path]) -> None:
        for link in [path for path in self.folder.rglob("*") if path.is_symlink()]:
            if links.get(link) != Path(os.readlink(link)):
                link.unlink()
        self._linked = len(links)
        for link, target in links.items():
            if not link.is_symlink():
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(target, target_is_directory=True)

    def _tell_columns(self, entries: Sequence[Entry]) -> None:
        """TensorBoard believes the first it reads of a run, so that news come in a run of another name."""
        columns = _columns(entries)
        if columns == self._columns:
            return
        self._columns, self._told = columns, self._told + 1
        place = self.folder / f"columns {self._told}"  # no other name at the top has a space
        place.mkdir()
        file = EventFile(place)
        file.add(0, [events.experiment(columns, (SCORE, *BANDED))])
        file.close()
        if self._told > 1:
            shutil.rmtree(self.folder / f"columns {self._told - 1}")


def _links(place: Path, entries: Sequence[Entry]) -> Iterator[tuple[Path, Path]]:
    """Where TensorBoard's runs of one configuration stand, and what they lead to."""
    taken: set[str] = set()
    for entry in entries:
        names: list[str] = []
        with suppress(OSError):  # it is being deleted
            names = sorted(path.name for path in entry.run.tensorboard.iterdir() if _plain(path))
        if len(entries) > 1:  # their mean is that of all of them
            names = [name for name in names if name != MEAN]
        for name in names:
            link = cut(f"{name} {entry.run.path.name}") if name in taken else name
            yield place / link, entry.run.tensorboard / name
            taken.add(name)


def _plain(path: Path) -> bool:
    """A folder of files and nothing else: TensorBoard would follow a link to wherever it leads."""
    if path.is_symlink() or not path.is_dir():
        return False
    with os.scandir(path) as entries:
        return all(entry.is_file(follow_symlinks=False) for entry in entries)


def _columns(entries: Sequence[Entry]) -> dict[str, tuple[list[Any], bool]]:
    """Values by hyperparameter, and whether it should be seen at once."""
    told = differing([entry.config for entry in entries])
    keys = {*(key for each in told for key in each), *_ALWAYS}
    values: dict[str, list[Any]] = {}
    for entry in entries:
        for name, value in entry.hyperparameters.items():
            values.setdefault(name, []).append(value)
    return {
        name: (sorted(set(each), key=str), name in keys and len(set(each)) > 1)
        for name, each in values.items()
    }


@contextmanager
def board(paths: Sequence[Path], port: int | None = None) -> Iterator[tuple[str, Board]]:
    """TensorBoard over the runs under `paths`, on this machine alone: its address, and its links.

    It runs until the block is left; nothing stays behind.

    Raises:
        ConfigError: there is nothing to show, or the port is in use.
    """
    with tempfile.TemporaryDirectory(prefix="rlrun-board-", ignore_cleanup_errors=True) as folder:
        shown = Board(paths, Path(folder))
        try:
            shown.link()
        except OSError as error:
            raise ConfigError(f"no folder of links can be made in {folder}: {error.strerror}") from None
        if not shown.size:
            raise _nothing(paths, shown)
        with closing(shown):
            yield _served(folder, port), shown


def _nothing(paths: Sequence[Path], shown: Board) -> ConfigError:
    where = ", ".join(map(quoted, paths))
    if shown.left_out:
        return ConfigError(f"no run under {where} can be shown", next(iter(shown.left_out.values())))
    if any(RunFolder.under(path) for path in paths):
        return ConfigError(
            f"no run under {where} has TensorBoard files",
            "they were made with log.tensorboard=false; a run without it has them",
        )
    missing = [path for path in paths if not path.exists()]
    if missing:
        return ConfigError(
            f"{quoted(missing[0])} does not exist", "rlrun board PATH shows what is under PATH"
        )
    return ConfigError(f"there is no run under {where}", "rlrun algo=dqn env=cartpole makes one")


def _served(folder: str, port: int | None) -> str:
    """Start TensorBoard's server in a thread; its data server ends with this process, however that ends."""
    if port is not None:
        _require_free(port)
    from tensorboard import program
    from tensorboard.data import server_ingester

    try:
        server_ingester.get_server_binary()
        fast = "true"
    except server_ingester.NoDataServerError:
        fast = "false"
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    server = program.TensorBoard()
    flags = {"logdir": folder, "host": _HOST, "port": port, "load_fast": fast}
    server.configure(("",), **flags, reload_interval=5.0, samples_per_plugin={"images": 100})
    try:
        address = server.launch()
    except program.TensorBoardServerException as error:
        raise ConfigError(f"TensorBoard cannot be served: {error.msg}", _OTHER_PORT) from None
    return str(address)


def _require_free(port: int) -> None:
    """ConfigError where the port is in use: told before anything is started."""
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((_HOST, port))
        except OSError as error:
            raise ConfigError(f"port {port} cannot be had: {error.strerror}", _OTHER_PORT) from None
