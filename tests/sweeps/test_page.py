"""What docs/sweeps.md says to type can be typed."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from rlrun.cli.sweeps import options_of
from rlrun.config import ConfigError
from rlrun.config.sweep import LAUNCHERS, sweep

PAGE = (Path(__file__).parents[2] / "docs" / "sweeps.md").read_text()
COMMANDS = [
    " ".join(line.split()) for line in re.findall(r"^    (rlrun -m (?:.*\\\n)*.+)$", PAGE, re.MULTILINE)
]


def test_the_page_shows_every_launcher() -> None:
    assert len(COMMANDS) == 7
    assert all(f"hydra/launcher={name}" in PAGE for name in LAUNCHERS)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_a_sweep(command: str) -> None:
    words, _ = options_of(shlex.split(command.replace("\\", " ").partition("#")[0])[2:])
    for plugin, module in {"hydra/launcher=ray": "ray", "hydra/sweeper=optuna": "optuna"}.items():
        if plugin in words and importlib.util.find_spec(module) is None:
            with pytest.raises(ConfigError, match="is not installed"):
                sweep(words)
            return
    asked = sweep(words)
    if asked.search:
        assert asked.foreign and asked.turned and len(asked.axes) == 2
        return
    assert len(asked) in (4, 16) and not asked.foreign
    if launcher := re.search(r"hydra/launcher=(\w+)", command):
        assert asked.launcher == launcher[1] and "_target_" not in asked.params


def test_its_block_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    block = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[0]
    exec(compile(block, "docs/sweeps.md", "exec"), {})
    assert "ranked by IQM" in capsys.readouterr().out
