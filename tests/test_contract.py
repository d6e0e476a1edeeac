"""What every recipe promises: the checks of `rlrun.testing`, of each one under conf/.

A new YAML file joins by itself, on its home task, shrunk.
"""

from __future__ import annotations

import re
from collections.abc import Callable

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


ENVS: dict[str, list[str]] = {name: [] for name in recipes("env") if name != "lunar_lander"}
ENVS |= {"series": ["env.path=wti_daily"], "gym": ["env.id=Blackjack-v1"], "Taxi-v4": [], "Pendulum-v1": []}


@pytest.mark.parametrize("env", ENVS)
def test_environments(env: str) -> None:
    check_env(env, *ENVS[env])


@pytest.mark.filterwarnings("default")  # an error within Box2D's import ends the process
def test_lunar_lander() -> None:
    pytest.importorskip("Box2D")
    check_env("lunar_lander")
