"""rlrun in a process that another Hydra application owns."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf

import rlrun
from rlrun.config import ConfigError
from rlrun.config.compose import compose as compose_ours


def foreign(folder: Path) -> list[str]:
    """What another application composes, and where it looks for configs."""
    with initialize_config_dir(str(folder), version_base="1.3"):
        cfg = compose("main", ["db=other", "size=3"], return_hydra_config=True)
        places = [source.provider for source in cfg.hydra.runtime.config_sources]
        return [cfg.db.name, str(cfg.size), *places]


def test_another_application_composes_before_and_after_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    conf = tmp_path / "theirs"
    (conf / "db").mkdir(parents=True)
    (conf / "main.yaml").write_text("defaults:\n  - db: one\n  - _self_\nsize: 1\n")
    (conf / "db" / "one.yaml").write_text("name: one\n")
    (conf / "db" / "other.yaml").write_text("name: other\n")
    before, plugins = foreign(conf), Plugins.instance().discover()
    theirs = HydraConfig.instance().cfg
    assert before[:2] == ["other", "3"]

    tiny = [
        "algo=q_learning",
        "total_steps=200",
        "eval.episodes=2",
        "log.tensorboard=false",
        "log.plot=false",
    ]
    rlrun.run([*tiny, f"out={tmp_path}"], quiet=True)
    with pytest.raises(ConfigError):
        compose_ours(["algo.gama=1"])

    assert foreign(conf) == before
    assert Plugins.instance().discover() == plugins
    assert not OmegaConf.has_resolver("rlrun.unique") and "HYDRA_FULL_ERROR" not in os.environ
    assert HydraConfig.instance().cfg is theirs


def test_another_application_may_be_composing_around_a_run(tmp_path: Path) -> None:
    (tmp_path / "main.yaml").write_text("size: 1\n")
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        assert compose("main").size == 1
        assert compose_ours(["algo=dqn"]).algo.gamma > 0
        assert compose("main", ["size=2"]).size == 2
