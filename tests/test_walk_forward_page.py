"""What docs/walk_forward.md says to type works: every command and every code block, small."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest
from test_readme import process, run_in, script  # noqa: F401 (a fixture)

PAGE = (Path(__file__).parents[1] / "docs" / "walk_forward.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(
    r"^ {4,}(rlrun .+)$", re.sub(r"^```.*?^```", "", PAGE, flags=re.MULTILINE | re.DOTALL), re.MULTILINE
)
SMALL = ["total_steps=200", "replicas=1", "eval.n_folds=2", "eval.stats.n_boot=100", "log.tensorboard=false"]


@pytest.fixture(scope="module")
def workshop(script: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """Where the page's files are, and a run."""
    folder = tmp_path_factory.mktemp("page")
    for name, block in zip(("tables.py", "guess.py"), BLOCKS, strict=True):
        (folder / name).write_text(block)
    process([sys.executable, "tables.py"], folder)
    process([*script, *shlex.split(COMMANDS[0])[1:], *SMALL], folder)
    return folder


def test_the_page_has_commands_and_says_what_came_of_them() -> None:
    assert len(COMMANDS) == 11 and "PLACEHOLDER" not in PAGE


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page(command: str, script: list[str], workshop: Path) -> None:  # noqa: F811
    words = shlex.split(command)[1:]
    if "eval=walk_forward" in words:
        words += SMALL
    if "RUN" in words:
        first = min((workshop / "outputs").glob("*/*/run.json"), key=lambda path: path.stat().st_mtime).parent
        words = [str(first) if word == "RUN" else word for word in words]
    done = process([*script, *words], workshop)
    assert done.stdout


def test_the_code_of_the_page_runs(workshop: Path) -> None:
    process([sys.executable, "guess.py"], workshop)
