"""Helpers of the tests, beside those that `rlrun.testing` has: what there is to test."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import gymnasium
import pytest

from rlrun.config.catalog import recipes
from rlrun.testing.trial import QUIET as QUIET
from rlrun.testing.trial import SMALL as SMALL
from rlrun.testing.trial import Trial as Trial
from rlrun.testing.trial import act_once as act_once
from rlrun.testing.trial import assert_same_bits as assert_same_bits
from rlrun.testing.trial import builder as builder
from rlrun.testing.trial import digest as digest
from rlrun.testing.trial import episodes as episodes
from rlrun.testing.trial import final_state as final_state
from rlrun.testing.trial import home as home
from rlrun.testing.trial import known as known
from rlrun.testing.trial import lifetime as lifetime
from rlrun.testing.trial import poison as poison
from rlrun.testing.trial import session as session
from rlrun.testing.trial import shrunk as shrunk
from rlrun.testing.trial import small as small
from rlrun.testing.trial import train_until as train_until
from rlrun.testing.trial import value_at as value_at

ALGORITHMS = sorted(recipes("algo"))
ACTING = [algo for algo in ALGORITHMS if builder(algo).rollout_steps]


def uninstall(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Let `package` be missing, with the environments that it registers."""
    users = (package, "gymnasium.envs.box2d", "gymnasium.envs.mujoco")
    for name in [name for name in sys.modules if name.startswith(users)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(gymnasium.envs.registration, "registry", gymnasium.registry)
    for env_id in [env_id for env_id in gymnasium.registry if env_id.startswith(("ALE/", "MiniGrid-"))]:
        monkeypatch.delitem(gymnasium.registry, env_id)

    class Missing:
        @staticmethod
        def find_spec(name: str, path: Any = None, target: Any = None) -> None:
            if name.partition(".")[0] == package:
                raise ModuleNotFoundError(f"No module named {package!r}", name=package)

    there = importlib.util.find_spec
    monkeypatch.setattr(sys, "meta_path", [Missing, *sys.meta_path])
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == package else there(name, *rest)
    )
