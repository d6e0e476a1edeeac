"""What every recipe promises: the checks of `rlrun.testing`, of each one under conf/.

A new YAML file joins by itself, on its home task, shrunk.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from support import ALGORITHMS, builder

from rlrun.config.catalog import headline, recipes
from rlrun.core import FAMILIES
from rlrun.testing import algorithm_checks, env_checks, model_checks


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_it_says_what_it_is(algo: str) -> None:
    """One line of `rlrun list`: a family, the actions it takes, what it is, and the paper."""
    assert builder(algo).family in FAMILIES
    line = headline(recipes("algo")[algo])
    assert re.fullmatch(r".{10,80} \([A-Z].*\d{4}\)\.", line) and len(line) <= 84, line


def each(checks: Mapping[str, Callable[[], None]], name: str) -> list[Any]:
    return [pytest.param(check, id=f"{name}-{what}") for what, check in checks.items()]


@pytest.mark.parametrize("check", [row for algo in ALGORITHMS for row in each(algorithm_checks(algo), algo)])
def test_algorithms(check: Callable[[], None]) -> None:
    check()


@pytest.mark.parametrize(
    "check", [row for model in recipes("model") for row in each(model_checks(model), model)]
)
def test_models(check: Callable[[], None]) -> None:
    check()


ENVS: dict[str, list[str]] = {name: [] for name in recipes("env")}
ENVS |= {"series": ["env.path=wti_daily"], "gym": ["env.id=Blackjack-v1"], "Taxi-v4": [], "Pendulum-v1": []}


@pytest.mark.parametrize(
    "check", [row for env, more in ENVS.items() for row in each(env_checks(env, *more), env)]
)
def test_environments(check: Callable[[], None]) -> None:
    check()
