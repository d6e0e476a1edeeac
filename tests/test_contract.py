"""What every recipe promises: the checks of `rlrun.testing`, of each one under conf/.

A new YAML file joins by itself, on its home task, shrunk.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from support import ALGORITHMS, builder

from rlrun.config.catalog import headline, recipes
from rlrun.core import FAMILIES
from rlrun.testing import algorithm_checks, check_env, check_model


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_it_says_what_it_is(algo: str) -> None:
    """One line of `rlrun list`: a family, the actions it takes, what it is, and the paper."""
    assert builder(algo).family in FAMILIES
    line = headline(recipes("algo")[algo])
    assert re.fullmatch(r".{10,80} \([A-Z].*\d{4}\)\.", line) and len(line) <= 84, line


EACH = [
    pytest.param(check, id=f"{algo}-{name}")
    for algo in ALGORITHMS
    for name, check in algorithm_checks(algo).items()
]


@pytest.mark.parametrize("check", EACH)
def test_algorithms(check: Callable[[], None]) -> None:
    check()


@pytest.mark.parametrize("model", recipes("model"))
def test_models(model: str) -> None:
    check_model(model)


OF_EXTRAS = {"lunar_lander": "Box2D", "pong": "ale_py", "halfcheetah": "mujoco", "minigrid_empty": "minigrid"}
ENVS: dict[str, list[str]] = {name: [] for name in recipes("env") if name not in OF_EXTRAS}
ENVS |= {"series": ["env.path=wti_daily"], "gym": ["env.id=Blackjack-v1"], "Taxi-v4": [], "Pendulum-v1": []}


@pytest.mark.parametrize("env", ENVS)
def test_environments(env: str) -> None:
    check_env(env, *ENVS[env])


@pytest.mark.filterwarnings("default")  # an error within an extension's import ends the process
@pytest.mark.parametrize("env", OF_EXTRAS)
def test_environments_of_extras(env: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(OF_EXTRAS[env])
    monkeypatch.chdir(tmp_path)  # MuJoCo leaves a log behind
    check_env(env)
