"""The public checks find what they are for: for every rule of CONTRIBUTING.md a part that breaks it."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from test_readme import FILES

import rlrun
from rlrun import nn, registry
from rlrun.envs.vector.point import Point
from rlrun.testing import RULES, RuleError, check_algorithm, check_env, check_model

ROOT = Path(rlrun.__file__).parent.parent
SEARCH = FILES["my_algo.py"]
# What to write instead in the README's random search, and the rule that it breaks then.
ALGORITHMS = {
    1: ("(obs @ weights)", "(obs @ weights[:1])"),
    2: ("(rollout.reward * rollout.valid)", "(rollout.reward)"),
    3: ("self.rng.normal(*self.best.shape[1:])", "torch.randn(self.best.shape)"),
    4: ('"rng": "random"}', '"rng": "random", "tries": "weights"}'),
    6: ('"trial": "weights", ', ""),
    7: ("weights = ", "self.trial = self.trial * 1.01; weights = "),
    8: ('"train/score": score', '"train/score": score.mean()'),
    9: ("+ self.config.noise *", "+ 0 * score.sum() + self.config.noise *"),
}
INIT = "self.config, self.rng = "


@pytest.fixture
def forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory; what a test registers or imports there is forgotten after it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    modules = set(sys.modules)
    yield tmp_path
    for entry in registry.entries():
        if not entry.config.__module__.startswith("rlrun"):
            del registry._entries[entry.group, entry.kind], registry._by_config[entry.config]
    for name in set(sys.modules) - modules:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").is_relative_to(tmp_path):
            del sys.modules[name]


def written(folder: Path, name: str, source: str) -> str:
    """The README's random search with another source, under a name that no cache knows."""
    (folder / f"{name}.py").write_text(source.replace('"random_search"', f'"{name}"'))
    (folder / "conf/algo").mkdir(parents=True, exist_ok=True)
    recipe = FILES["conf/algo/random_search.yaml"].replace("my_algo", name)
    (folder / f"conf/algo/{name}.yaml").write_text(recipe.replace("random_search", name))
    return name


def broken(rule: int, check: Any, *arguments: Any) -> str:
    """What a check says of a part that breaks a rule, all other rules left aside."""
    with pytest.raises(RuleError) as found:
        check(*arguments, rules=[rule])
    assert found.value.rule == rule and f"breaks rule {rule} of CONTRIBUTING.md: {RULES[rule]}" in str(
        found.value
    )
    return str(found.value)


def test_the_rules_stand_in_contributing() -> None:
    text = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text()
    stated = dict(re.findall(r"^(\d+)\. \*\*(.+?)\*\*", text, re.MULTILINE))
    assert {int(number): words for number, words in stated.items()} == RULES


@pytest.mark.parametrize("rule", ALGORITHMS)
def test_a_broken_algorithm_is_told_its_rule(rule: int, forgotten: Path) -> None:
    old, new = ALGORITHMS[rule]
    assert old in SEARCH
    source = SEARCH.replace(old, new)
    if rule == 4:
        source = source.replace(INIT, "self.tries = torch.zeros(1)\n        " + INIT)
    broken(rule, check_algorithm, written(forgotten, f"breaks_{rule}", source))


def test_other_ways_to_break_them(forgotten: Path) -> None:
    """Draws where greedy, or for some; a state that takes what does not fit; a tag; a class for a name."""
    greedy = SEARCH.replace("return Act(", "rng.uniform(obs.shape[1])\n        return Act(")
    assert "greedy draws" in broken(3, check_algorithm, written(forgotten, "greedy", greedy))
    uneven = SEARCH.replace(
        "return Act(",
        "rng.counter = rng.counter + (mode == 'explore') * "
        "torch.arange(len(obs)).numpy()\n        return Act(",
    )
    assert "more for one replica" in broken(3, check_algorithm, written(forgotten, "uneven", uneven))
    lax = SEARCH + (
        "\n    def load_state(self, state, roles=None):\n        own = self.state(roles)\n"
        "        fit = {k: state[k][..., : own[k].shape[-1]] for k in own.keys() & state.keys()}\n"
        "        super().load_state(own | fit, roles)\n"
    )
    assert "load_state took" in broken(4, check_algorithm, written(forgotten, "lax", lax))
    tag = written(forgotten, "tag", SEARCH.replace('"train/best"', '"best"'))
    assert "unlike best" in broken(8, check_algorithm, tag)
    kind = registry.lookup("algo", "tag").build
    assert "algo=tag breaks" in broken(8, check_algorithm, kind)


def test_a_recorded_step_that_changes_its_mind_is_found(forgotten: Path) -> None:
    """What it depends on besides tensors is frozen after two calls."""
    source = SEARCH.replace(INIT, "self.tries, self.move = 0, Recorded(self.moved)\n        " + INIT)
    source = source.replace("import torch\n", "import torch\nfrom rlrun.nn import Recorded\n")
    head, _, tail = source.partition("        self.trial = self.best + ")
    source = (
        head + "        self.tries += 1\n        draw = self.rng.normal(*self.best.shape[1:]).to(self.best)\n"
        "        self.trial = self.move(self.best, draw).clone()\n"
        + tail.partition("\n")[2]
        + "\n    def moved(self, best, draw):\n        return best + draw * (1 if self.tries < 10 else 2)\n"
    )
    broken(5, check_algorithm, written(forgotten, "fickle", source))


class Body(torch.nn.Linear):
    """A sound body, and the base of those that are not."""

    def __init__(self, config: Any, in_features: int) -> None:
        super().__init__(in_features, 8, dtype=torch.float64)


class Mixing(Body):
    """Of larger batches than a network is tried on when it is built; the next one too."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x - x.mean(0, keepdim=True) if len(x) > 3 else x)


class Noisy(Body):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x + torch.randn_like(x) if len(x) > 3 else x)


class Unseeded(Body):
    def __init__(self, config: Any, in_features: int) -> None:
        super().__init__(config, in_features)
        self.weight.data += torch.from_numpy(np.random.default_rng().normal(size=self.weight.shape))


class Frozen(Body):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(x, self.weight.detach(), self.bias)


class Clinging(nn.GRU):
    """Forgets in sequences, and not in steps."""

    def step(self, x: Any, memory: Any, first: Any) -> Any:
        return super().step(x, memory, torch.zeros_like(first))


def clinging(config: Any, in_features: int) -> Any:
    return nn.Plan((), (), "tanh", "uniform", lambda width, init: Clinging(width, 4, 1, 0.0, init))


@pytest.mark.parametrize(
    ("rule", "build"), [(10, Mixing), (11, Noisy), (12, Unseeded), (13, clinging), (14, Frozen)]
)
def test_a_broken_model_is_told_its_rule(rule: int, build: Any, forgotten: Path) -> None:
    (forgotten / "parts.py").write_text(
        FILES["my_model.py"].replace('@register("model", "wide", WideConfig)', "")
    )
    (forgotten / "conf/model").mkdir(parents=True)
    for name, function in (("odd", build), ("sound", Body)):
        (forgotten / f"conf/model/{name}.yaml").write_text(
            f"defaults:\n  - /schema/model/{name}@_here_\n  - _self_\nwidth: 8\n"
        )
        config = type(f"{name}Config", (), {"__annotations__": {"width": int}})
        registry.register("model", name, dataclasses.dataclass(config))(function)
    check_model("sound")
    broken(rule, check_model, "odd")


class Walk(gymnasium.Env):
    """A random walk that ends after eight steps; sound, and the base of those that are not."""

    observation_space = gymnasium.spaces.Box(-100, 100, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps, self.place = 0, self.np_random.normal(size=2).astype(np.float32)
        return self.place.copy(), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        self.place = (self.place + action).astype(np.float32)
        return self.place.copy(), 1.0, self.steps >= 8, False, {}


class Ageing(Walk):
    """Keeps something from episode to episode."""

    age = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.age += 1
        obs, info = super().reset(seed=seed)
        return obs + self.age, info


class Outside(Walk):
    def step(self, action: Any) -> Any:
        return super().step(action)[0] + 1000, *super().step(action)[1:]


@pytest.mark.parametrize("mode", AutoresetMode)
def test_gymnasiums_vector_envs_keep_the_rules(mode: AutoresetMode) -> None:
    def walks(count: int, kind: type = Walk) -> Any:
        return SyncVectorEnv([kind] * count, autoreset_mode=mode)

    check_env(walks)
    if mode != AutoresetMode.DISABLED:
        assert "after another one" in broken(15, check_env, lambda count: walks(count, Ageing))
    broken(16, check_env, lambda count: walks(count, Outside))


class Forgetful(Point):
    def _arrays(self) -> Any:
        return {name: array.copy() for name, array in super()._arrays().items()}


class Restless(Point):
    """Begins more episodes than it was asked to."""

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        return super().reset(seed=seed, options={"reset_mask": np.ones(self.num_envs, bool)})


class Ending(SyncVectorEnv):
    """Says of itself another mode than it has."""

    def __init__(self, count: int, mode: AutoresetMode, said: AutoresetMode) -> None:
        super().__init__([Walk] * count, autoreset_mode=mode)
        self.metadata = dict(self.metadata) | {"autoreset_mode": said}


def test_broken_environments_are_told_their_rules(forgotten: Path) -> None:
    check_env("point")
    check_env("CartPole-v1", "env.max_steps=20")
    (forgotten / "their_walks.py").write_text(
        "import gymnasium, test_testing\ngymnasium.register('Ageing-v0', test_testing.Ageing)\n"
    )
    broken(15, check_env, "their_walks:Ageing-v0")
    del gymnasium.registry["Ageing-v0"]
    arguments: dict[str, Any] = {"max_steps": 8, "goal": [0.0, 0.0], "moves": True}
    broken(17, check_env, lambda count: Forgetful(count, **arguments))
    broken(18, check_env, lambda count: Restless(count, **arguments))
    same, after = AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP
    assert "no final_obs" in broken(18, check_env, lambda count: Ending(count, after, same))
    assert "only resets" in broken(18, check_env, lambda count: Ending(count, same, after))


def test_no_test_framework_is_needed() -> None:
    code = (
        "import sys; sys.modules['pytest'] = None; from rlrun.testing import check_algorithm;"
        "check_algorithm('epsilon_greedy', rules=[4, 8])"
    )
    subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True, timeout=120
    )
