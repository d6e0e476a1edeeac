"""What the README says to type works: its files are written down, its commands run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rlrun.cli.main import main

README = (Path(__file__).parent.parent / "README.md").read_text()
FILES = dict(
    re.findall(r"`(my_\w+\.py|conf/[\w/]+\.yaml)`[^`]*?\n```(?:python|yaml)\n(.*?)```", README, re.DOTALL)
)
SHORT = ["log.tensorboard=false", "log.plot=false", "eval.episodes=2", "eval.during=2"]


@pytest.mark.parametrize(
    "command",
    [
        "rlrun algo=random_search replicas=20",
        "rlrun algo=dqn model=wide imports=[my_model]",
    ],
)
def test_what_the_readme_adds_trains(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"`{command}`" in README
    assert sorted(FILES) == [
        "conf/algo/random_search.yaml",
        "conf/model/wide.yaml",
        "my_algo.py",
        "my_model.py",
    ]
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main([*command.split()[1:], "total_steps=1500", *SHORT]) == 0
    assert "median" in capsys.readouterr().out or "return" in capsys.readouterr().out
    (run,) = (tmp_path / "outputs").glob("*/*")
    assert main(["evaluate", str(run), "--json"]) == 0
