"""Parts that a user writes beside the run: found in a fresh process, whoever names their module."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import rlrun

ROOT = Path(rlrun.__file__).parent.parent
GROUPS = ("algo", "env", "model", "eval", "data", "listener")
MODULE = """
from dataclasses import dataclass
from rlrun.config import key
from rlrun.registry import register

@dataclass
class Config:
    size: int = key("how much", min=1)
    never_ends = time_indexed = recurrent = False

@register("{group}", "{kind}", Config)
def build(*arguments):
    raise NotImplementedError
"""
# Composes every case in a process that has seen nothing of the others.
EACH = """
import json, os, sys
from rlrun.config import ConfigError
from rlrun.config.compose import compose
for case in json.loads(sys.argv[1]):
    sys.stdout.flush()
    if os.fork() == 0:
        try:
            config = compose(case)
            chosen = [config.listener.get("mine"), *vars(config).values()]
            print(json.dumps([sorted(config.imports), max(getattr(part, "size", 0) for part in chosen)]))
        except ConfigError as refusal:
            print(json.dumps(refusal.lines))
        sys.stdout.flush()
        os._exit(0)
    os.wait()
"""


def composed(folder: Path, cases: list[list[str]]) -> list[list[object]]:
    """For each case its imports and its part's `size`, or what refuses it."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-c", EACH, json.dumps(cases)]
    done = subprocess.run(
        line, capture_output=True, text=True, env=environment, cwd=folder, timeout=120, check=True
    )
    return [json.loads(row) for row in done.stdout.splitlines()]


def recipe(folder: Path, group: str, kind: str, head: str, package: str = "_here_") -> None:
    """conf/GROUP/KIND.yaml, whose values stand at its root or, in package _global_, under its group."""
    place = {"_here_": "", "_global_": f"{group}.{kind}" if group == "listener" else group}[package]
    body = "size: 3\n"
    for name in reversed(place.split(".") if place else []):
        body = f"{name}:\n" + "".join(f"  {line}\n" for line in body.splitlines())
    path = folder / "conf" / group / f"{kind}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"# @package _global_\n{head}" * (package == "_global_")
        + head * (package == "_here_")
        + f"defaults:\n  - /schema/{group}/{kind}@{place or '_here_'}\n  - _self_\n{body}"
    )


def word(group: str) -> str:
    return f"{group}=mine"


@pytest.mark.parametrize(
    ("head", "package"),
    [
        ("", "_here_"),
        ("imports: [mine_{group}]\n", "_here_"),
        ("imports: [mine_{group}]\n", "_global_"),
        ("imports: # ours\n  - 'mine_{group}' # first\n  - json\n", "_global_"),
    ],
)
def test_every_group_takes_a_module_of_the_working_directory(head: str, package: str, tmp_path: Path) -> None:
    """Named on the command line, in a recipe's own package, or for the whole run."""
    for group in GROUPS:
        (tmp_path / f"mine_{group}.py").write_text(MODULE.format(group=group, kind="mine"))
        recipe(tmp_path, group, "mine", head.format(group=group), package)
    cases = [[word(group)] + [f"imports=[mine_{group}]"] * (not head) for group in GROUPS]
    extra = ["json"] if "json" in head else []
    assert composed(tmp_path, cases) == [[sorted([f"mine_{group}", *extra]), 3] for group in GROUPS]


@pytest.mark.parametrize("bringing", ["algo", "env", "eval"])
def test_one_recipe_may_bring_what_another_is_made_of(bringing: str, tmp_path: Path) -> None:
    """Whatever Hydra reads first."""
    others = [group for group in GROUPS if group != bringing]
    text = "".join(MODULE.format(group=group, kind="mine") for group in GROUPS)
    (tmp_path / "mine.py").write_text(text)
    for group in GROUPS:
        recipe(tmp_path, group, "mine", "imports: [mine]\n" if group == bringing else "")
    cases = [[word(bringing), word(other)] for other in others]
    assert composed(tmp_path, cases) == [[["mine"], 3]] * len(cases)


def test_a_run_names_every_module_that_it_needs(tmp_path: Path) -> None:
    """Those of several recipes, of their parents, of an experiment, and of the command line."""
    for group in GROUPS:
        (tmp_path / f"mine_{group}.py").write_text(MODULE.format(group=group, kind="mine"))
        recipe(tmp_path, group, "mine", f"imports: [mine_{group}]\n")
    (tmp_path / "conf/model/taller.yaml").write_text("defaults:\n  - mine\n  - _self_\nsize: 4\n")
    (tmp_path / "conf/experiment").mkdir()
    (tmp_path / "conf/experiment/first.yaml").write_text(
        "# @package _global_\nimports: [mine_env]\ndefaults:\n  - override /env: mine\n  - _self_\n"
    )
    cases = [
        ["algo=mine", "env=mine", "listener=mine", "imports=[json]"],
        ["model=taller"],
        ["experiment=first"],
        ["algo=lstm_dqn", "model=mine"],  # the recipe sets what its own model has
    ]
    assert composed(tmp_path, cases) == [
        [["json", "mine_algo", "mine_env", "mine_listener"], 3],
        [["mine_model"], 4],
        [["mine_env"], 3],
        [["mine_model"], 3],
    ]


def test_what_cannot_be_imported_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine_model.py").write_text(MODULE.format(group="model", kind="mine"))
    recipe(tmp_path, "model", "mine", "imports: mine_model\n")
    recipe(tmp_path, "env", "mine", "imports: [absent]\n")
    word_for_list, absent = composed(tmp_path, [["model=mine"], ["env=mine"]])
    assert "imports: [mine_model]" in str(word_for_list)
    assert "cannot import 'absent'" in str(absent)
