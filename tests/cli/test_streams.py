"""Whatever the streams are connected to: a run goes on, nothing raises, and the exit code is right."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import rlrun
from rlrun import cli
from rlrun.runs.log import MetricsFile

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

ROOT = Path(rlrun.__file__).parent.parent
TRAIN = ["algo=q_learning", "env=frozen_lake", "total_steps=300", "eval.episodes=2", "eval.during=1"]
TRAIN += ["log.plot=false", "log.tensorboard=false"]
COMMANDS = {"list": ["list"], "train": TRAIN, "sweep": ["-m", *TRAIN, "seed=1,2"], "json": [*TRAIN, "--json"]}


def unread(number: int) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, number)


def full(number: int) -> None:
    os.dup2(os.open("/dev/full", os.O_WRONLY), number)


def read_only(number: int) -> None:
    os.dup2(os.open(os.devnull, os.O_RDONLY), number)


def closed(number: int) -> None:
    os.close(number)
    setattr(sys, ("stdin", "stdout", "stderr")[number], None)  # as Python begins then


def after(arguments: list[str], prepare: Callable[[], None], folder: Path) -> tuple[int, str, str]:
    """A command line in a process of its own whose streams are prepared: exit code, stdout and stderr."""
    files = [folder / "stdout", folder / "stderr"]
    pid = os.fork()
    if not pid:
        code = 70
        try:
            os.chdir(folder)
            for number, file in enumerate(files, 1):
                os.dup2(os.open(file, os.O_CREAT | os.O_WRONLY), number)
                stream = io.TextIOWrapper(io.FileIO(number, "wb", closefd=False), encoding="utf-8")
                setattr(sys, file.name, stream)
            prepare()
            sys.argv = ["rlrun", *arguments]
            code = cli.main()
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    out, err = (file.read_bytes().decode("latin-1") for file in files)
    return code, out, err


@pytest.fixture(scope="module", autouse=True)
def warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What the children need is imported here, once."""
    assert cli.main([*TRAIN, "--json", f"out={tmp_path_factory.mktemp('warm')}"]) == 0


@pytest.mark.parametrize(
    ("command", "streams", "code"),
    [
        ("train", [(unread, 1), (unread, 2)], 0),
        ("train", [(unread, 2)], 0),
        ("train", [(closed, 0)], 0),
        ("train", [(closed, 1)], 0),
        ("train", [(closed, 0), (closed, 1), (closed, 2)], 0),
        ("train", [(full, 2)], 0),
        ("train", [(full, 1)], 1),
        ("json", [(full, 1)], 1),
        ("json", [(read_only, 1), (full, 2)], 1),
        ("list", [(unread, 1)], 0),
        ("list", [(full, 1)], 1),
        ("list", [(closed, 1), (closed, 2)], 0),
        ("sweep", [(unread, 1), (unread, 2)], 0),
    ],
)
def test_a_command_goes_on_whoever_listens(
    command: str, streams: list[tuple[Callable[[int], None], int]], code: int, tmp_path: Path
) -> None:
    def prepare() -> None:
        for change, number in streams:
            change(number)

    found, _, err = after(COMMANDS[command], prepare, tmp_path)
    assert found == code, err
    assert not re.search("Traceback|Error", err)
    told = code and (full, 2) not in streams
    assert err.count("rlrun: stdout could not be written: No space left on device\n") == told
    states = [json.loads(file.read_text())["status"] for file in tmp_path.rglob("status.json")]
    assert states == ["finished"] * {"list": 0, "sweep": 2}.get(command, 1)


def test_a_stream_is_there_to_the_end(tmp_path: Path) -> None:
    """Whoever closes it: a library, or the code of an environment."""

    def prepare() -> None:
        mark = MetricsFile.mark

        def closing(self: MetricsFile) -> int:
            sys.stdout.close(), sys.stderr.close()
            return mark(self)

        MetricsFile.mark = closing  # type: ignore[method-assign]

    code, out, err = after(TRAIN, prepare, tmp_path)
    assert (code, "median" in out) == (0, True), err


def test_no_file_of_a_run_gets_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    """What a library writes to descriptors 1 and 2 would go into it."""

    def prepare() -> None:
        mark = MetricsFile.mark

        def warned(self: MetricsFile) -> int:
            for number in (1, 2):
                os.write(number, b"a library warns")
            return mark(self)

        MetricsFile.mark = warned  # type: ignore[method-assign]
        for number in (0, 1, 2):
            closed(number)

    assert after(TRAIN, prepare, tmp_path)[0] == 0
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert "metrics.jsonl" in [path.name for path in written]
    assert [path for path in written if b"warns" in path.read_bytes()] == []


@pytest.mark.parametrize("alphabet", ["ascii", "latin-1", "cp437"])
def test_any_alphabet_will_do(alphabet: str, tmp_path: Path) -> None:
    """A table has arrows and plus-minus signs, and so may a folder's name."""

    def prepare() -> None:
        for number, name in ((1, "stdout"), (2, "stderr")):
            raw = io.FileIO(number, "wb", closefd=False)
            setattr(sys, name, io.TextIOWrapper(raw, encoding=alphabet, errors="strict"))

    code, out, err = after([*TRAIN, "out='zürich→é'"], prepare, tmp_path)
    assert code == 0, err
    assert "median" in out and ("\\u2192" in out or alphabet == "cp437")


def test_a_reader_who_left_is_no_error_at_the_very_end() -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    line = f"{sys.executable} -m rlrun list | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "algo\n")
    assert not re.search("Traceback|Error|ignored", done.stderr)
