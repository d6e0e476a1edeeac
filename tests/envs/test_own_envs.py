"""Envs and wrappers of one's own and of other packages: their names, and what is said where there is none."""

from __future__ import annotations

import importlib.machinery
import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from native_envs import config_of, make
from support import uninstall

from rlrun import envs
from rlrun.cli.main import main
from rlrun.config import ConfigError
from rlrun.config.compose import compose
from rlrun.config.keys import violations

MINE = """
import gymnasium
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

class Mine(CartPoleEnv):
    def __init__(self, render_mode=None, size=(1, 2), goals: "list[tuple[int, int]]" = None, note=()):
        super().__init__(render_mode=render_mode)
        self.given = size, goals

class Louder(gymnasium.RewardWrapper):
    def __init__(self, env, factor, shape=(1, 1)):
        super().__init__(env)
        self.factor, self.shape = factor, shape

    def reward(self, reward):
        return reward * self.factor

gymnasium.register("Mine-v0", Mine, max_episode_steps=9)
"""
LOUDER = "env.wrappers=[{mine_a10\\:Louder: {factor: 3, shape: [[2, 2], 3]}}]"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with an environment of one's own; nothing of it stays."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "mine_a10.py").write_text(MINE)
    (tmp_path / "conf/env").mkdir(parents=True)
    recipe = "# Mine.\ndefaults: [gym, _self_]\nid: mine_a10:Mine-v0\nallow_import: true\n"
    (tmp_path / "conf/env/mine.yaml").write_text(recipe)
    other = "# Mine.\nimports: [mine_a10]\ndefaults: [gym, _self_]\nid: Mine-v0\n"
    (tmp_path / "conf/env/imported.yaml").write_text(other)
    yield tmp_path
    sys.modules.pop("mine_a10", None)
    gymnasium.registry.pop("Mine-v0", None)


@pytest.mark.parametrize(
    "words", [["env=gym", "env.id=mine_a10:Mine-v0", "env.allow_import=true"], ["env=mine"], ["env=imported"]]
)
def test_an_env_of_the_working_directory(here: Path, words: list[str]) -> None:
    assert "mine_a10" not in sys.modules
    config = compose(["algo=dqn", *words])
    env = envs.make(config.env, 1)
    assert env.spec is not None and env.spec.max_episode_steps == 9


def test_a_wrapper_of_ones_own_and_lists_as_it_takes_them(here: Path) -> None:
    words = ["env=mine", LOUDER, "env.kwargs={size: [3, 4], goals: [[1, 2], [3, 4]], note: [1]}"]
    env: Any = envs.make(compose(["algo=dqn", *words]).env, 1)
    one = env.envs[0]
    assert isinstance(one, sys.modules["mine_a10"].Louder)
    assert (one.factor, one.shape) == (3, ((2, 2), 3))  # of a default that is a tuple
    assert one.unwrapped.given == ((3, 4), [(1, 2), (3, 4)])  # of a default, and of an annotation


@pytest.mark.parametrize(
    ("env_id", "wrapper", "shape"),
    [
        ("CartPole-v1", "{ReshapeObservation: {shape: [2, 2]}}", (2, 2)),
        ("MountainCar-v0", "{DiscretizeObservation: {bins: [2, 3], multidiscrete: true}}", (2,)),
        ("MountainCar-v0", "{RescaleObservation: {min_obs: [0, 0], max_obs: [1, 2]}}", (2,)),
    ],
)
def test_wrappers_of_gymnasium_that_take_no_lists(env_id: str, wrapper: str, shape: tuple[int, ...]) -> None:
    made = make("gym", 1, f"id={env_id}", f"wrappers=[{wrapper}]")
    assert made.single_observation_space.shape == shape


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines of a refusal that has written nothing."""
    before = sorted(Path.cwd().rglob("*"))
    assert main(["algo=dqn", *words]) == 2
    assert [path for path in sorted(Path.cwd().rglob("*")) if "__pycache__" not in path.parts] == before
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) <= 3
    return lines


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("env.id=mine_a10:Mine-v1", ["mine_a10.py registers no such", "did you mean mine_a10:Mine-v0?"]),
        ("env.id=mine_a10:Zzz-v0", ["mine_a10.py registers no such", "it registers Mine-v0"]),
        (
            "env.id=calendar:Zzz-v0",
            ["calendar.py registers no such", "gymnasium.register('Zzz-v0', entry_point="],
        ),
        ("env.id=mine_a10.py:Mine-v0", ["cannot import 'mine_a10.py'", "did you mean mine_a10?"]),
        ("env.id=mine-a10:Mine-v0", ["cannot import", "did you mean mine_a10?"]),
        ("env.id=mime_a10:Mine-v0", ["No module named 'mime_a10'", "did you mean mine_a10?"]),
        ("env.id=Nope-v0", ["no such environment", "env.id=MODULE:Nope-v0 env.allow_import=true"]),
        ("env.id=CartPole-v9", ["no such environment", "did you mean CartPole-v1?"]),
        ("env.id=highway-v0", ["pip install highway-env, and say env.id=highway_env:highway-v0"]),
        ("env=mine env.wrappers=[mine_a10:Loud]", ["no such gymnasium.Wrapper", "did you mean Louder?"]),
        ("env=mine env.wrappers=[mine_a10:gymnasium]", ["no such gymnasium.Wrapper"]),
        ("env=mine env.wrappers=[os:system]", ["no such gymnasium.Wrapper"]),
        ("env=mine env.wrappers=[mine_a10.Louder]", ["did you mean mine_a10:Louder?"]),
        ("env=mine env.wrappers=[Louder]", ["goes by module:Louder"]),
        ("env=mine env.wrappers=[FlatenObservation]", ["did you mean FlattenObservation?"]),
        ("env=mine env.wrappers=[mine_a10:Louder]", ["Louder does not fit mine_a10:Mine-v0", "factor"]),
        ("env=mine env.wrappers=[{mine_a10\\:Louder:{fac:1}}]", ["'fac'", "it takes factor, shape"]),
        ("env=mine env.kwargs={sise:1}", ["cannot be made", "it takes size, goals, note"]),
        (
            "env.id=Acrobot-v1 env.allow_import=false env.wrappers=[mine_a10:Louder]",
            ["it would import mine_a10"],
        ),
    ],
)
def test_what_cannot_be_found_says_how_to_name_it(
    words: str, said: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = words.split() if "env=" in words else ["env=gym", "env.allow_import=true", *words.split()]
    lines = "\n".join(refused(typed, capsys))
    assert all(each in lines for each in said), lines


def test_an_own_module_that_fails_says_where(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "mine_a10.py").write_text("x = 1\ny = x.nothing\n")
    lines = refused(["env=mine"], capsys)
    assert "mine_a10.py:2" in lines[1] and "nothing" in lines[1]


@pytest.mark.parametrize(
    ("recipe", "module", "extra"),
    [
        ("pong", "ale_py", "atari"),
        ("minigrid_empty", "minigrid", "minigrid"),
        ("halfcheetah", "mujoco", "mujoco"),
        ("lunar_lander", "Box2D", "box2d"),
    ],
)
def test_a_missing_extra_names_its_pip_line(
    recipe: str,
    module: str,
    extra: str,
    here: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uninstall(monkeypatch, module)
    lines = refused([f"env={recipe}"], capsys)
    assert f"pip install 'rlrun[{extra}]'" in lines[-1] and len(lines) == 2


def test_a_package_that_waits_to_be_asked_is_asked(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its entry point, as Gymnasium once asked it; only after it was imported."""
    (here / "mine_a10.py").write_text(
        MINE.replace('gymnasium.register("', 'def ask():\n    gymnasium.register("')
    )
    point = importlib.metadata.EntryPoint("mine", "mine_a10:ask", "gymnasium.envs")
    monkeypatch.setattr(
        importlib.metadata, "entry_points", lambda group: [point] if group == "gymnasium.envs" else []
    )
    with pytest.raises(ConfigError, match="Gymnasium knows no such environment"):
        compose(["env=gym", "env.id=Mine-v0"])
    assert (
        compose(["env=gym", "env.id=mine_a10:Mine-v0", "env.allow_import=true"]).env.id == "mine_a10:Mine-v0"
    )


def test_nothing_is_imported_for_a_config_that_was_only_read(here: Path) -> None:
    """The words of a run folder, which may be a stranger's."""
    config = config_of("gym", "id=mine_a10:Mine-v0", "allow_import=true")
    assert violations(config) == []
    with pytest.raises(ConfigError, match="has not been imported"):
        envs.make(config, 1)
    config = config_of("gym", "id=CartPole-v1", "allow_import=true", "wrappers=[mine_a10:Louder]")
    with pytest.raises(ConfigError, match="has not been imported"):
        envs.make(config, 1)
    assert "mine_a10" not in sys.modules
