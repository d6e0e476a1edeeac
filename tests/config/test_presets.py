"""Which recipe of conf/tuned applies: the task decides, by whatever name it is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlrun.cli import main
from rlrun.config import catalog
from rlrun.config.compose import changes, compose


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with recipes of its own."""
    conf = tmp_path / "conf"
    (conf / "tuned").mkdir(parents=True)
    (conf / "env").mkdir()
    line = "# @package _global_\n# Mine.\nalgo:\n  gamma: 0.123\n"
    for name in ("ppo_cartpole", "ppo_MountainCar-v0", "reinforce_series", "dqn_my_acrobot"):
        (conf / "tuned" / f"{name}.yaml").write_text(line)
    begin = "# Mine.\ndefaults:\n  - {}\n  - _self_\n{}\n"
    (conf / "env" / "my_acrobot.yaml").write_text(begin.format("gym", "id: Acrobot-v1"))
    (conf / "env" / "my_prices.yaml").write_text(begin.format("series", "path: wti_daily\nprice: close"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_recipe_that_builds_on_another_changes_what_both_change() -> None:
    said = changes("lstm_dqn_trading")
    assert "defaults" not in said and said["total_steps"] == 20_000
    assert changes("lstm_dqn_series").items() <= said.items()
    cfg = compose(["algo=lstm_dqn", "env=trading", "eval=walk_forward"])
    assert (cfg.env.lookback, cfg.algo.gamma, cfg.total_steps) == (1, 0.5, 20_000)


@pytest.mark.parametrize(
    "overrides,preset",
    [
        ("algo=ppo env=cartpole", "ppo_cartpole"),
        ("algo=ppo env=gym env.id=CartPole-v1", "ppo_cartpole"),
        ("algo=ppo env=gym env.id=CartPole-v1 env.kwargs={sutton_barto_reward:true}", None),
        ("algo=ppo env=gym env.id=CartPole-v1 ~tuned", None),
        ("algo=ppo env=gym env.id=CartPole-v1 tuned=ppo_pendulum", "ppo_pendulum"),
        ("algo=ppo env=cartpole_masked", None),
        ("algo=ppo env=gym env.id=MountainCar-v0", "ppo_MountainCar-v0"),
        ("algo=dqn env=gym env.id=Acrobot-v1", "dqn_my_acrobot"),
        ("algo=dqn env=my_acrobot", "dqn_my_acrobot"),
        ("algo=ppo env=my_acrobot", None),
        ("algo=reinforce env=synthetic eval=walk_forward", "reinforce_series"),
        ("algo=reinforce env=my_prices eval=walk_forward", "reinforce_series"),
        ("algo=reinforce env=cartpole", None),
    ],
)
def test_the_task_decides(overrides: str, preset: str | None, mine: Path) -> None:
    config = compose(overrides.split())
    assert config.choices.get("tuned") == preset
    if preset not in (None, "ppo_pendulum"):
        assert config.algo.gamma == 0.123  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", catalog.recipes("tuned"))
def test_ours_are_for_an_algorithm_and_a_task_of_ours(name: str) -> None:
    algo, env = catalog.tuned(name)
    assert algo in catalog.recipes("algo") and env in catalog.recipes("env")


def test_list_and_describe_say_what_there_is_and_what_it_changes(
    mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", "tuned"]) == 0
    out = capsys.readouterr().out
    assert "ppo_MountainCar-v0" in out and "env.id=MountainCar-v0" in out and "env=cartpole" in out
    assert main(["describe", "ppo_MountainCar-v0"]) == 0
    assert "algo.gamma" in (out := capsys.readouterr().out) and "0.123" in out
    assert main(["describe", "algo/ppo"]) == 0
    assert "env=cartpole: algo.gamma=0.123" in capsys.readouterr().out
    assert main(["describe", "tuned/ppo_cartpole", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sets"] == {"algo.gamma": 0.123}


def test_a_broken_one_is_named_in_the_list(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (mine / "conf" / "tuned" / "dqn_cartpole.yaml").write_text("# @package _global_\nalgo: {gama: 1}\n")
    assert main(["list", "tuned"]) == 0
    assert "CANNOT BE USED" in capsys.readouterr().out
