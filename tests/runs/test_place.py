"""Where runs are made, and what the relative paths of their configs mean later on."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from rlrun.config import ConfigError
from rlrun.config.compose import compose
from rlrun.files import try_folder
from rlrun.runs.folder import RunFolder
from rlrun.runs.place import require_place, rooted, way_back


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    return here


@pytest.mark.parametrize("path", ["new", "a/b/c", "there", "there/new", ".", "a/../b", "x" * 255])
def test_what_can_be_made_is_tried_without_a_trace(path: str, here: Path) -> None:
    (here / "there").mkdir()
    try_folder(Path(path))
    try_folder(here / path)
    assert [each.name for each in here.iterdir()] == ["there"] and not list((here / "there").iterdir())


@pytest.mark.parametrize(
    "path",
    [
        "file",
        "file/x",
        "x" * 256,
        "a/" + "x" * 256,
        "a/" * 2500,
        "loop/x",
        "nowhere",
        "a\0b",
        "/proc/x",
        "/dev/null",
    ],
)
def test_what_cannot_be_made_is_refused_without_a_trace(path: str, here: Path) -> None:
    (here / "file").touch()
    (here / "loop").symlink_to("loop")
    (here / "nowhere").symlink_to("no/where")
    with pytest.raises(ConfigError, match="out is mine: nothing can be made there"):
        require_place(Path(path), "out", "mine")
    assert sorted(each.name for each in here.iterdir()) == ["file", "loop", "nowhere"]


def test_an_empty_folder_of_anybody_else_stays(here: Path) -> None:
    (here / "a").mkdir()
    with pytest.raises(OSError):
        try_folder(Path("a", "b", "x" * 300))
    assert (here / "a").is_dir()


def test_a_home_is_written_out_and_a_shells_variable_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/some/home")
    assert compose(["out=~/runs"]).out == compose(["out='~/runs'"]).out == "/some/home/runs"
    assert compose(["out='a~b'"]).out == "a~b"
    for out in ("$HOME/runs", "a/${HOME}"):
        with pytest.raises(ConfigError) as refused:
            compose([f"out='{out}'".replace("${", "\\${")])
        assert "${oc.env:HOME}" in str(refused.value)
    with pytest.raises(ConfigError, match="no such user"):
        compose(["out='~nobody-is-called-this/x'"])
    with pytest.raises(ConfigError, match="can be printed"):
        compose(['out="a\x1bb"'])


def data_run(place: Path, path: str = "data/mine") -> RunFolder:
    """A run folder whose config names a data set, begun in the working directory."""
    run = RunFolder(place)
    run.path.mkdir(parents=True)
    config = compose(["algo=bc", "data=file", f"data.path={path}"])
    spaces = {"obs": {"kind": "discrete", "n": 2}, "action": {"kind": "discrete", "n": 2}}
    replicas = [{"replica": 0, "seed": config.seed, "fold": None, "variant": 0}]
    run.begin(config, {**spaces, "replicas": replicas, "data_sha256": None}, [])
    return run


def read_path(run: Path) -> str:
    return str(RunFolder(run).config().data.path)  # type: ignore[attr-defined]


@pytest.mark.parametrize("out", ["outputs/a/b", "../elsewhere/run"])
def test_relative_paths_are_those_of_where_the_run_began(
    out: str, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "data" / "mine").mkdir(parents=True)
    run = data_run(Path(out))
    plain = json.loads(run.record.read_bytes())
    assert plain["config"]["data"]["path"] == "data/mine"  # as it was typed
    assert str(tmp_path) not in run.record.read_text()
    whole, moved = run.path.resolve(), here / "data" / "mine"
    monkeypatch.chdir(tmp_path)
    assert read_path(whole) == str(moved)
    (tmp_path / "data" / "mine").mkdir(parents=True)  # another, beside which one is now
    assert read_path(whole) == str(moved)


def test_a_project_may_be_moved_as_a_whole(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "data" / "mine").mkdir(parents=True)
    run = data_run(Path("outputs/a/b"))
    monkeypatch.chdir(tmp_path)
    here.rename(tmp_path / "moved")
    assert read_path(tmp_path / "moved" / run.path) == str(tmp_path / "moved/data/mine")


def test_of_a_run_moved_alone_paths_are_those_of_now(here: Path, tmp_path: Path) -> None:
    (here / "data" / "mine").mkdir(parents=True)
    run = data_run(Path("outputs/a/b"))
    shutil.move(run.path, tmp_path / "far")
    assert read_path(tmp_path / "far") == "data/mine"


def test_shipped_names_and_absolute_paths_stay(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "cartpole_expert").mkdir()  # of the name of one that came with rlrun
    assert read_path(data_run(Path("outputs/a/b"), "cartpole_expert").path) == "cartpole_expert"
    absolute = str(here / "cartpole_expert")
    assert read_path(data_run(Path("outputs/a/c"), absolute).path) == absolute


def test_old_folders_have_no_way_back(here: Path) -> None:
    run = data_run(Path("outputs/a/b"))
    record = json.loads(run.record.read_bytes())
    del record["back"]
    run.record.write_text(json.dumps(record))
    assert read_path(run.path) == "data/mine"


def test_every_kind_of_path_goes_back(here: Path) -> None:
    for name in ("run", "my.csv"):
        (here / name).touch()
    config = compose(["algo=ppo", "env=series", "env.path=my.csv", "eval=walk_forward", "init_from=run"])
    back = rooted(config, Path("outputs/x"), way_back(Path("outputs/x")))
    assert (back.env.path, back.init_from) == (str(here / "my.csv"), str(here / "run"))
    assert os.path.isabs(back.init_from)
