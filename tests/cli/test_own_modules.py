"""What one's own command line imported here is imported again unasked, and nothing else that a run names."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import pytest

import rlrun
from rlrun.cli.main import main

MINE = """
from pathlib import Path
import gymnasium
from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv
Path("imported").touch()
gymnasium.register("{id}", FrozenLakeEnv, max_episode_steps=9)
class Same(gymnasium.Wrapper):
    pass
"""
TRAIN = [
    "algo=q_learning",
    "env=gym",
    "env.allow_import=true",
    "total_steps=30",
    "eval.episodes=1",
    "eval.during=1",
]
QUIET = ["log.tensorboard=false", "log.plot=false"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "desk").mkdir()
    monkeypatch.chdir(tmp_path / "desk")
    monkeypatch.setattr(sys, "path", list(sys.path))
    write("mine_b10.py")
    yield tmp_path / "desk"
    forget()


def write(name: str) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(MINE.format(id="Mine-v0"))


def forget() -> None:
    """As a new process would: nothing of one's own is imported."""
    for name in [
        name for name in sys.modules if name.partition(".")[0] in ("mine_b10", "things_b10", "planted")
    ]:
        del sys.modules[name]
    gymnasium.registry.pop("Mine-v0", None)
    Path("imported").unlink(missing_ok=True)


def trained(*words: str) -> Path:
    """A run's folder, as a new process finds it."""
    assert main([*TRAIN, *QUIET, *words]) == 0
    (record,) = Path("outputs").glob("*/*/run.json")
    assert Path("imported").exists()
    forget()
    return record.parent


NAMED = {
    "id": ["env.id=mine_b10:Mine-v0"],
    "imports": ["env.id=Mine-v0", "imports=[mine_b10]"],
    "wrapper": ["env.id=FrozenLake-v1", "env.wrappers=[mine_b10:Same]"],
    "package": ["env.id=things_b10.mine_b10:Mine-v0"],
    "folder": ["env.id=things_b10.mine_b10:Mine-v0"],
}


@pytest.mark.parametrize("how", NAMED)
def test_what_ones_own_command_line_imported_needs_no_word(how: str, here: Path) -> None:
    if how in ("package", "folder"):
        write("things_b10/mine_b10.py")
        if how == "package":
            Path("things_b10/__init__.py").touch()
    run = trained(*NAMED[how])
    assert main(["evaluate", str(run)]) == 0
    assert Path("imported").exists()
    record = json.loads((run / "run.json").read_text())["modules"]
    assert all(set(each) == {"file", "sha256", "inode"} for each in record.values())


@pytest.mark.parametrize(("out", "flag"), [("outputs", ""), ("../elsewhere", " --allow-import")])
def test_the_next_command_has_the_flag_that_it_needs(
    out: str, flag: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*TRAIN, *QUIET, *NAMED["id"], f"out={out}"]) == 0
    (record,) = Path(out).glob("*/*/run.json")
    assert capsys.readouterr().out.splitlines()[-1] == f"next  rlrun play {record.parent}{flag}"


def edit(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    record = json.loads((run / "run.json").read_text())
    change(record)
    (run / "run.json").write_text(json.dumps(record))


def refused(run: Path, capsys: pytest.CaptureFixture[str], why: str) -> None:
    capsys.readouterr()
    for verb in ("evaluate", "play", "record", "resume"):
        assert main([verb, str(run)]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 3 and why in lines[1] and "--allow-import" in lines[2], lines
    assert not Path("imported").exists() and not Path("planted_was_here").exists()


def test_a_file_that_changed_needs_one(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = trained(*NAMED["id"])
    with Path("mine_b10.py").open("a") as file:
        file.write("# more\n")
    refused(run, capsys, "mine_b10.py is not the file that the run began with")
    assert main(["evaluate", str(run), "--allow-import"]) == 0


def test_a_run_from_elsewhere_needs_one(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trained(*NAMED["id"])
    refused(Path(shutil.copytree(run, "../theirs")), capsys, "another directory")
    monkeypatch.chdir("..")
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place != str(here)])
    Path("mine_b10.py").write_text(MINE)  # not that one
    refused(Path("desk") / run, capsys, "mine_b10.py is not the file that the run began with")


PLANTED = "from pathlib import Path\nPath('planted_was_here').touch()\n"


@pytest.mark.parametrize(
    "module", ["planted", "outputs.theirs.planted", "antigravity", "pytest_cov_b10", "x" * 5000, ".."]
)
def test_a_strangers_folder_has_nothing_imported(
    module: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever it says of files, unpacked right here with a file of its own; only the inode is beyond it."""
    run = Path(shutil.move(trained(*NAMED["id"]), "outputs/theirs"))
    file = here / f"{module.replace('.', '/')[:50]}.py"
    if "planted" in module:
        file.write_text(PLANTED)

    def claim(record: dict[str, Any]) -> None:
        record["config"]["env"]["id"] = f"{module}:Mine-v0"
        own = record["modules"].pop("mine_b10")
        digest = hashlib.sha256(PLANTED.encode()).hexdigest()
        record["modules"][module] = own | {"file": str(file), "sha256": digest}

    edit(run, claim)
    if len(module) > 1000:  # longer than any name
        assert main(["evaluate", str(run)]) == 2 and "run.json is damaged" in capsys.readouterr().err
    else:
        refused(run, capsys, "")
    assert module not in sys.modules


def test_a_class_that_would_be_called_is_asked_for_even_where_it_was_imported(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """gymnasium.wrappers.RecordVideo writes to where its arguments say."""
    run = trained(*NAMED["wrapper"])
    edit(
        run, lambda record: record["config"]["env"].update(wrappers=[{"gymnasium.wrappers:RecordVideo": {}}])
    )
    refused(run, capsys, "gymnasium is no file of this directory")


def test_no_python_call_imports_what_a_folder_names(here: Path) -> None:
    """`load` needs no env: neither a module of its id, nor an id that nobody registered."""
    run = trained(*NAMED["id"])
    assert rlrun.load(run).act(0)[0] in range(4)
    edit(run, lambda record: record["config"]["env"].update(id="Nobodys-v0"))
    assert rlrun.load(run).act(0)[0] in range(4)
    assert not Path("imported").exists()
