"""What a notebook asks for: a run in a line, its records as columns, and itself as a page."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rlrun
from rlrun.api import Result, columns, words
from rlrun.config import ConfigError
from rlrun.config.compose import compose
from rlrun.runs.folder import RunFolder

QUICK = "algo=q_learning env=cliff_walking total_steps=300 log.tensorboard=false"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("overrides", "keys", "expected"),
    [
        ("algo=dqn 'out=my runs'", {}, ["algo=dqn", "out=my runs"]),
        (["algo=dqn"], {"replicas": 5}, ["algo=dqn", "replicas=5"]),
        ("", {"model.hidden": [64, 32], "init_from": None}, ["model.hidden=[64,32]", "init_from=null"]),
        ("", {"out": "my runs", "log.plot": False}, ["out='my runs'", "log.plot=false"]),
    ],
)
def test_a_run_in_a_line_in_words_or_in_keywords(
    overrides: Any, keys: dict[str, Any], expected: list[str]
) -> None:
    assert words(overrides, keys) == expected


def test_keywords_mean_what_they_hold() -> None:
    told = {"out": "it's, [a] {path}=\\", "env.id": "CartPole-v1", "env.kwargs": {"size": 3, "name": "a b"}}
    config = compose(words("env=gym algo=dqn", told))
    assert config.out == told["out"] and config.env.kwargs == told["env.kwargs"]


@pytest.mark.parametrize("text", ["a b\\c", "C:\\runs", "a\\'b", "x\\ y\\", "\\\\server\\my runs", "it's"])
def test_text_means_itself(text: str) -> None:
    """Also where it holds what Hydra's grammar escapes with."""
    assert compose(words("algo=dqn", {"out": text})).out == text


def test_a_list_among_keywords_is_a_sweeps(here: Path) -> None:
    assert words("", {"seed": [0, 5], "algo": "dqn"}, several=True) == ["seed=0,5", "algo=dqn"]
    swept = rlrun.sweep(QUICK, seed=[1, 2], jobs=1, name="mine")
    assert swept.exit_code == 0 and len(RunFolder.under(Path("outputs/sweeps/mine"))) == 2


def test_records_are_columns_of_one_length(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = rlrun.run(QUICK, replicas=2, quiet=True)
    assert isinstance(result, Result)
    found = columns(RunFolder(result.folder))
    assert len({len(column) for column in found.values()}) == 1
    assert found["step"].dtype == int and set(found["replica"]) == {0, 1}
    last = (found["replica"] == 1) & (found["step"] == 300)
    assert np.isfinite(found["eval/return"][last]).any() and np.isnan(found["eval/return"]).any()
    frames = types.ModuleType("pandas")
    frames.DataFrame = lambda data: ("frame", data)  # type: ignore[attr-defined]
    frames.__spec__ = types.SimpleNamespace()  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "pandas", frames)
    assert result.metrics[0] == "frame"
    assert result._repr_html_().startswith("<pre>") and "data:image/png;base64," in result._repr_html_()


def test_a_bad_key_is_one_exception_of_few_lines(here: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean algo") as refused:
        rlrun.run("algo=dqn", **{"algo.gama": 0.9})
    assert len(refused.value.lines) <= 3
    assert refused.value.__cause__ is None and refused.value.__suppress_context__
    assert not list(here.iterdir())
