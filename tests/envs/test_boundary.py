"""Envs as users write them: each trains rightly, or is named in two or three lines.

What is wrong from the first ends with a refusal, before a folder is made; what goes wrong later
ends the run with where it was. A `User` env is right until it is told otherwise.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces as gym

from rlrun import envs
from rlrun.api import train
from rlrun.cli.main import main
from rlrun.config import ConfigError
from rlrun.config.compose import compose
from rlrun.config.keys import EnvError
from rlrun.envs.vector.surroundings import staying
from rlrun.runs.load import load
from rlrun.runs.record import record

BOX = gym.Box(-1.0, 1.0, (3,), np.float32)
ID = "user/Env-v0"
SMALL = [
    "model.hidden=[4]",
    "num_envs=2",
    "total_steps=16",
    "eval.episodes=2",
    "eval.during=1",
    "log.plot=false",
    "log.tensorboard=false",
]
ALGOS = {
    "ppo": "algo.rollout_steps=8 algo.epochs=1 algo.n_minibatches=1",
    "reinforce": "",
    "sac": "algo.learning_starts=14 algo.batch_size=4 algo.buffer_size=64",
    "td3": "algo.learning_starts=14 algo.batch_size=4 algo.buffer_size=64",
    "dqn": "algo.learning_starts=14 algo.batch_size=4 algo.buffer_size=64",
    "q_learning": "",
    "cem_learned": "algo.horizon=2 algo.n_candidates=4 algo.n_elites=2 algo.iterations=1",
}


class User(gymnasium.Env):
    """An env of five steps an episode whose parts a test replaces."""

    observation_space: Any = BOX
    action_space: Any = gym.Discrete(2)
    made: int
    actions: list[Any]  # all that were given
    pool: list[Any]  # of observations

    def __init__(self) -> None:
        self.number, self.steps, self.episodes = type(self).made, 0, 0  # which copy; 0 and 1 are trained on
        type(self).made += 1

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.episodes, self.age, self.offset = self.episodes + 1, 0, int(self.np_random.integers(8))
        return self.begin()

    def begin(self) -> Any:
        return self.obs(), {}

    def step(self, action: Any) -> Any:
        type(self).actions.append(action)
        self.steps, self.age = self.steps + 1, self.age + 1
        return self.move()

    def move(self) -> Any:
        return self.obs(), self.reward(), self.terminated(), self.truncated(), self.info()

    def obs(self) -> Any:
        cls = type(self)
        if not cls.pool:
            self.observation_space.seed(0)
            cls.pool = [self.observation_space.sample() for _ in range(8)]
        return cls.pool[(self.offset + self.age) % 8]

    def reward(self) -> Any:
        return 1.0

    def terminated(self) -> Any:
        return self.age >= 5

    def truncated(self) -> Any:
        return False

    def info(self) -> Any:
        return {}


def user(**parts: Any) -> type[User]:
    """A class with these attributes; a function takes the env, any other value stands as it is."""
    return type("Env", (User,), {"made": 0, "actions": [], "pool": [], **parts})


@cache
def config(algo: str, *more: str) -> Any:
    words = [f"algo={algo}", "env=gym", "env.id=CartPole-v1", *SMALL, *ALGOS[algo].split(), *more]
    return compose(words)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Trials that take less time, and nothing registered afterwards."""
    monkeypatch.setattr("rlrun.envs.vector.trial.EARLIER", 60)
    monkeypatch.setattr("rlrun.envs.vector.trial.COMPARED", 60)
    yield
    gymnasium.registry.pop(ID, None)


def registered(cls: Any, algo: str = "ppo", *more: str) -> Any:
    """The config of a run on it."""
    gymnasium.registry.pop(ID, None)
    gymnasium.register(ID, cls)
    plain = config(algo, *more)
    return replace(plain, env=replace(plain.env, id=ID))


def made(cls: Any, num_envs: int = 1) -> Any:
    return envs.make(registered(cls).env, num_envs)


def attempt(cls: Any, out: Path, algo: str = "ppo", *more: str) -> Any:
    """The result of training on it."""
    return train(replace(registered(cls, algo, *more), out=str(out)), quiet=True)


def late(wrong: Any, right: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`wrong` at the seventh step of the second copy, which only training plays."""

    def chosen(env: Any) -> Any:
        if env.number == 1 and env.steps == 7:
            return wrong(env) if callable(wrong) else wrong
        return right(env)

    return chosen


def always(value: Any) -> Callable[[Any], Any]:
    return lambda env: value


def raising(error: BaseException) -> Callable[..., Any]:
    def raises(*args: Any, **kwargs: Any) -> Any:
        raise error

    return raises


class Odd(gym.Space):  # type: ignore[type-arg]
    """A space class of the env's own."""

    def __init__(self) -> None:
        super().__init__((2,), np.float32)

    def sample(self, *args: Any, **kwargs: Any) -> Any:
        return np.zeros(2, np.float32)

    def contains(self, x: Any) -> bool:
        return True


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


class Stop(KeyboardInterrupt):
    pass


def ragged(env: Any) -> Any:
    return [[1.0], [1.0, 2.0], [3.0]]


INT = gym.Box(0, 9, (2,), np.int64)
PIXELS = gym.Box(0, 255, (3,), np.uint8)
GRID = gym.MultiDiscrete([3, 4])
NESTED = gym.Dict(a=gym.Dict(b=PIXELS), c=gym.Discrete(3))


@dataclass(frozen=True)
class Case:
    """Parts of an env that are wrong from the first, and what is said of it."""

    says: str
    parts: dict[str, Any]

    def __str__(self) -> str:
        return " ".join(f"{name}={value!r}" for name, value in self.parts.items())[:60]


def wrong(says: str, **parts: Any) -> Case:
    return Case(says, parts)


def seen(value: Any, space: Any = BOX) -> dict[str, Any]:
    return {"observation_space": space, "obs": always(value)}


AT_START = [
    # Shapes: nothing is broadcast.
    wrong(r"shape \[1\], and its space \[3\]", **seen([2.0])),
    wrong(r"shape \[\]", **seen(0.5)),
    wrong(r"shape \[4\]", **seen(np.zeros(4, np.float32))),
    wrong(r"shape \[1, 3\]", **seen(np.zeros((1, 3), np.float32))),
    wrong(r"shape \[3, 1\]", **seen(np.zeros((3, 1), np.float32))),
    wrong(r"a list of 3 and no array", obs=ragged),
    wrong(r"shape \[1\]", **seen(np.array([1]), gym.Discrete(3))),
    # Types and values: nothing but rounding is lost.
    wrong(r"holds 0\.25, which its space's uint8 cannot", **seen([0.25, 0.5, 0.2], PIXELS)),
    wrong(r"holds -1, ", **seen(np.array([-1, 3, 2]), PIXELS)),
    wrong(r"holds 256, ", **seen([1, 256, 2], PIXELS)),
    wrong(r"holds nan, ", **seen([1, np.nan, 2], PIXELS)),
    wrong(r"holds 0\.5, ", **seen([0.5, 1.0], INT)),
    wrong(r"holds 70000, ", **seen([70000], gym.Box(0, 9, (1,), np.int16))),
    wrong(r"holds 2\.7, ", **seen(2.7, gym.Discrete(3))),
    wrong(r"is 3, and its space 0 to 2", **seen(3, gym.Discrete(3))),
    wrong(r"is -1, and its space 0 to 2", **seen(-1, gym.Discrete(3))),
    wrong(r"is 0, and its space 1 to 3", **seen(0, gym.Discrete(3, start=1))),
    wrong(r"is \[2, 4\], which is not in its space", **seen(np.array([2, 4]), GRID)),
    wrong(r"is \[-1, 0\], which", **seen([-1, 0], GRID)),
    wrong(r"is \[0, 2\], which", **seen(np.array([0, 2], np.int8), gym.MultiBinary(2))),
    wrong(r"None and not made of real numbers", **seen(None)),
    wrong(r"a str and not made of real numbers", **seen("left")),
    wrong(r"a dict and not", **seen({"x": 1.0})),
    wrong(r"an array of complex128", **seen(np.zeros(3, complex))),
    wrong(r"an array of object", **seen(np.array([None, 1.0, 2.0]))),
    wrong(r"observation\[1\] is nan", **seen(np.array([0.0, np.nan, 0.0], np.float32))),
    wrong(r"observation\[0\] is inf", **seen([np.inf, 0.0, 0.0])),
    wrong(r"observation\[2\] is -inf", **seen([0.0, 0.0, -1e300])),
    # Parts of a nested observation, before they become one vector.
    wrong(r"observation\.a\.b holds -1, which", **seen({"a": {"b": np.array([-1, 2, 3])}, "c": 0}, NESTED)),
    wrong(r"observation\.a\.b has shape \[1\]", **seen({"a": {"b": np.ones(1, np.uint8)}, "c": 0}, NESTED)),
    wrong(r"observation\.c is 7, and its space 0 to 2", **seen({"a": {"b": [1, 2, 3]}, "c": 7}, NESTED)),
    wrong(r"observation has other keys than a, c", **seen({"a": {"b": [1, 2, 3]}}, NESTED)),
    wrong(r"observation is no tuple of 2", **seen(np.zeros(3), gym.Tuple([BOX, gym.Discrete(2)]))),
    wrong(r"observation\[1\] is nan", **seen(([0, np.nan, 0], 1), gym.Tuple([BOX, gym.Discrete(2)]))),
    # Rewards and flags.
    wrong(r"reward is None", reward=always(None)),
    wrong(r"reward is nan", reward=always(np.nan)),
    wrong(r"reward is -inf", reward=always(-np.inf)),
    wrong(r"reward has shape \[1\]: it must be one number", reward=always(np.array([1.0]))),
    wrong(r"reward is a str", reward=always("1.0")),
    wrong(r"reward is a complex", reward=always(1j)),
    wrong(r"reward is a dict", reward=always({"main": 1.0})),
    wrong(r"terminated is None", terminated=always(None)),
    wrong(r"terminated is 0\.5: it must be true or false", terminated=always(0.5)),
    wrong(r"terminated is \[False\]", terminated=always(np.array([False]))),
    wrong(r"truncated is a str", truncated=always("no")),
    wrong(r"truncated is 2: ", truncated=always(2)),
    # The API of before, and none at all.
    wrong(r"reset returned an array of float32(.|\n)*\(observation, info\)", begin=lambda env: env.obs()),
    wrong(r"reset returned a tuple of 3", begin=lambda env: (env.obs(), {}, 1)),
    wrong(r"reset returned None", begin=always(None)),
    wrong(
        r"step returned a tuple of 4|unpack(.|\n)*\(observation, reward, t",
        move=lambda env: (env.obs(), 0.0, False, {}),
    ),
    wrong(r"None(.|\n)*returns \(observation|step returned None", move=always(None)),
    wrong(r"'seed'(.|\n)*asks for reset\(self", reset=lambda self: (self.obs(), {})),
    wrong(r"'options'(.|\n)*asks for reset\(self", reset=lambda self, seed=None: (self.obs(), {})),
    # Whatever may be raised, wherever.
    *[
        wrong(rf"{type(error).__name__}(.|\n)*episode of seed 0, its reset", begin=raising(error))
        for error in (OSError("no disk"), KeyError("x"), NotImplementedError(), AttributeError("y"), Stop())
    ],
    wrong(r"Unprintable \(test_boundary.py:\d+\)", begin=raising(Unprintable())),
    wrong(r"SystemExit: 0(.|\n)*may not end the process", begin=raising(SystemExit(0))),
    wrong(r"RuntimeError: one two three", move=raising(RuntimeError("one\ntwo\n\n three"))),
    wrong(r"ZeroDivisionError", move=lambda env: 1 / 0),
    wrong(r"cannot be made: MemoryError", __init__=raising(MemoryError())),
    wrong(r"cannot be made: OSError: no port", __init__=raising(OSError("no port"))),
    wrong(r"cannot be made: KeyError", __init__=raising(KeyError("HOME"))),
    wrong(r"cannot be made: SystemExit", __init__=raising(SystemExit(0))),
    wrong(r"cannot be made: TypeError(.|\n)*size", __init__=lambda self, size: None),
    # Spaces that nothing can hold or play.
    wrong(r"observation space is None", observation_space=None),
    wrong(r"action space is None", action_space=None),
    wrong(r"observation space is \[3\]", observation_space=[3]),
    wrong(r"has no action_space: RuntimeError", action_space=property(raising(RuntimeError("later")))),
    wrong(r"RuntimeError: later", observation_space=property(raising(RuntimeError("later")))),
    wrong(r"observation space is Box(.|\n)*empty", observation_space=gym.Box(0, 1, (0,))),
    wrong(r"observation space is Box(.|\n)*empty", observation_space=gym.Box(0, 1, (3, 0, 2), np.uint8)),
    wrong(r"observation space is Box(.|\n)*no tensor", observation_space=gym.Box(0, 1, (3,), np.longdouble)),
    wrong(r"action space is Box(.|\n)*empty", action_space=gym.Box(0, 1, (0,))),
    wrong(r"observation space is Discrete(.|\n)*16,777,216", observation_space=gym.Discrete(10**10)),
    wrong(r"action space is Discrete(.|\n)*apart at most", action_space=gym.Discrete(10**12)),
    wrong(r"action space is MultiD(.|\n)*apart at most", action_space=gym.MultiDiscrete([10**9, 3])),
    wrong(r"observation space is .*Odd", observation_space=Odd()),
    wrong(r"action space is .*Odd", action_space=Odd()),
    wrong(r"observation space is Text", observation_space=gym.Text(4)),
    wrong(r"observation space is Graph", observation_space=gym.Graph(BOX, None)),
    wrong(r"observation space is Sequence", observation_space=gym.Sequence(BOX)),
    wrong(r"observation space is OneOf", observation_space=gym.OneOf([BOX, GRID])),
    wrong(r"action space is Dict", action_space=gym.Dict(a=gym.Discrete(2))),
    wrong(r"action space is Tuple", action_space=gym.Tuple([gym.Discrete(2), BOX])),
]


@pytest.mark.parametrize("case", AT_START, ids=[str(i) for i, _ in enumerate(AT_START)])  # a Text has a set
def test_what_is_wrong_from_the_first_is_refused(case: Case, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=case.says) as caught:
        attempt(user(**case.parts), tmp_path)
    lines = caught.value.lines
    assert len(lines) <= 3 and all(len(line) <= 400 and line.isprintable() for line in lines)
    assert list(tmp_path.iterdir()) == []


NOW_AND_THEN = [
    (r"observation has shape \[2\]", {"obs": late(np.zeros(2), User.obs)}),
    (r"observation\[1\] is nan", {"obs": late([0, np.nan, 0], User.obs)}),
    (r"observation\[0\] is inf", {"obs": late(np.full(3, np.inf, np.float32), User.obs)}),
    (r"observation is None", {"obs": late(None, User.obs)}),
    (r"holds -1, which", {"observation_space": PIXELS, "obs": late(np.array([0, -1, 0]), User.obs)}),
    (r"holds 1.5, which", {"observation_space": PIXELS, "obs": late([0, 1.5, 0], User.obs)}),
    (r"is 3, and its space 0 to 2", {"observation_space": gym.Discrete(3), "obs": late(3, User.obs)}),
    (r"reward is nan", {"reward": late(np.float32("nan"), User.reward)}),
    (r"reward is None", {"reward": late(None, User.reward)}),
    (r"reward has shape", {"reward": late(np.ones((1, 1)), User.reward)}),
    (r"terminated is None", {"terminated": late(None, User.terminated)}),
    (r"OSError: the link is down", {"move": late(raising(OSError("the link is down")), User.move)}),
    (r"SystemExit: 0", {"move": late(lambda env: sys.exit(0), User.move)}),
    (r"GeneratorExit", {"move": late(raising(GeneratorExit()), User.move)}),
    (r"step returned a tuple of 3|unpack", {"move": late((1, 2, 3), User.move)}),
]


@pytest.mark.parametrize(("says", "parts"), NOW_AND_THEN, ids=[says for says, _ in NOW_AND_THEN])
def test_what_goes_wrong_later_says_where(
    says: str, parts: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(EnvError, match=says) as caught:
        attempt(user(**parts), tmp_path)
    what, where, *advice = caught.value.lines
    assert what.startswith(ID) and len(advice) <= 1
    # Five steps an episode: the seventh step is the second of the second episode.
    assert where.startswith("in sub-env 1, episode of seed ") and where.endswith("step 2")
    (run,) = tmp_path.glob("*/*/status.json")
    assert '"failed"' in run.read_text()


def actions_of(cls: Any) -> np.ndarray:
    """What the env was given; each lies in its space, in its shape and dtype."""
    assert cls.actions and all(cls.action_space.contains(action) for action in cls.actions)
    return np.array(cls.actions)


ODD_ACTIONS = {
    "float64 bounds": gym.Box(-0.1, 0.1, (2,), np.float64),
    "float16": gym.Box(-0.1, 0.3, (2,), np.float16),
    "a scalar": gym.Box(-2.0, 5.0, (), np.float32),
    "a matrix": gym.Box(-2.0, 5.0, (2, 3), np.float32),
    "a single value": gym.Box(np.array([1.0, -1.0], np.float32), np.array([1.0, 1.0], np.float32)),
    "int32": gym.Box(-3, 3, (2,), np.int32),
    "int64, scalar": gym.Box(0, 3, (), np.int64),
    "uint8": gym.Box(0, 255, (1,), np.uint8),
    "uint64": gym.Box(0, 3, (1,), np.uint64),
    "bool": gym.Box(0, 1, (2,), np.bool_),
    "almost all floats": gym.Box(np.finfo(np.float32).min, np.finfo(np.float32).max, (1,), np.float32),
    "start": gym.Discrete(3, start=-1),
    "int32 choices": gym.Discrete(3, dtype=np.int32),
    "MultiBinary": gym.MultiBinary(3),
    "MultiBinary of rows": gym.MultiBinary((2, 2)),
    "MultiDiscrete of rows": gym.MultiDiscrete(np.array([[2, 3], [4, 5]])),
    "MultiDiscrete with starts": gym.MultiDiscrete([2, 3], start=[10, -3]),
    "MultiDiscrete of int8": gym.MultiDiscrete([2, 3], dtype=np.int8),
    "no bounds": gym.Box(-np.inf, np.inf, (2,), np.float64),
}


@pytest.mark.parametrize("name", ODD_ACTIONS)
def test_actions_lie_in_the_space_in_its_own_dtype(name: str, tmp_path: Path) -> None:
    """In training, evaluation, recording and by a loaded policy; and metrics stay finite."""
    space = ODD_ACTIONS[name]
    bounded = isinstance(space, gym.Box) and name != "no bounds"
    cls = user(action_space=space)
    result = attempt(cls, tmp_path, "sac" if bounded and name != "almost all floats" else "ppo")
    assert result.exit_code == 0 and actions_of(cls).shape[1:] == space.shape
    if name in ("int64, scalar", "bool", "start", "MultiDiscrete with starts"):
        cls.actions.clear()
        record(result.folder, 3, tmp_path / "data", mode="random" if bounded else "sample")
        actions_of(cls)
    action, _ = load(result.folder).act(np.zeros(3, np.float32))
    batch, _ = load(result.folder).act(np.zeros((4, 3), np.float32))
    assert space.contains(action) and all(space.contains(np.asarray(each)) for each in batch)


@pytest.mark.parametrize("name", ["a scalar", "a single value", "int64, scalar"])
@pytest.mark.parametrize("algo", ["ppo", "td3", "reinforce", "cem_learned"])
def test_every_family_plays_scalars_single_values_and_integers(algo: str, name: str, tmp_path: Path) -> None:
    cls = user(action_space=ODD_ACTIONS[name])
    assert attempt(cls, tmp_path, algo).exit_code == 0
    actions_of(cls)


def test_all_values_of_an_integer_box_are_as_likely() -> None:
    cls = user(action_space=gym.Box(np.array([0, -2]), np.array([3, 2]), dtype=np.int64))
    action = envs.spaces(made(cls))[1]
    uniform = np.random.default_rng(0).uniform(action.low, action.high, (40_000, 2))  # type: ignore[union-attr]
    played = action.write(uniform.astype(np.float32))
    for column, size in ((0, 4), (1, 5)):
        counts = np.unique(played[:, column], return_counts=True)[1]
        assert len(counts) == size and abs(counts * size / 40_000 - 1).max() < 0.05
    assert action.write(np.array([[np.nan, -9.0]], np.float32)).tolist() == [[3, -2]]


ODD_OBSERVATIONS = {
    "uint16": gym.Box(0, 65535, (3,), np.uint16),
    "uint32": gym.Box(0, 2**32 - 1, (3,), np.uint32),
    "uint64": gym.Box(0, 9, (3,), np.uint64),
    "int8": gym.Box(-128, 127, (3,), np.int8),
    "bool": gym.Box(0, 1, (3,), np.bool_),
    "float16": gym.Box(-1, 1, (3,), np.float16),
    "float64": gym.Box(-1, 1, (2, 2), np.float64),
    "a scalar": gym.Box(-1, 1, (), np.float32),
    "no bounds": gym.Box(-np.inf, np.inf, (2,), np.float32),
    "Discrete": gym.Discrete(4),
    "Discrete from 5": gym.Discrete(4, start=5),
    "Discrete of int32": gym.Discrete(4, dtype=np.int32),
    "MultiBinary": gym.MultiBinary(3),
    "MultiBinary of rows": gym.MultiBinary((2, 3)),
    "MultiDiscrete of rows": gym.MultiDiscrete(np.array([[2, 3], [4, 5]]), start=np.array([[0, 1], [0, -1]])),
    "nested": gym.Dict(a=gym.Discrete(3), b=gym.Dict(c=BOX, d=gym.Tuple([BOX, gym.MultiBinary(2)]))),
}


@pytest.mark.parametrize("name", ODD_OBSERVATIONS)
def test_observations_are_read_as_they_are(name: str, tmp_path: Path) -> None:
    space = ODD_OBSERVATIONS[name]
    cls = user(observation_space=space)
    result = attempt(cls, tmp_path)
    assert result.exit_code == 0
    if name != "nested":
        space.seed(0)
        assert load(result.folder).act(space.sample())[0] in (0, 1)


def test_a_discrete_space_is_offset_by_its_start(tmp_path: Path) -> None:
    """Five states from 7, two actions from 3: what a table learns of a state is found again by it."""
    cls = user(
        observation_space=gym.Discrete(5, start=7),
        action_space=gym.Discrete(2, start=3),
        obs=lambda env: 7 + env.age % 5,
        reward=lambda env: float(env.actions[-1] == 4),
        terminated=lambda env: env.age >= 4,
    )
    result = attempt(cls, tmp_path, "q_learning", "total_steps=600")
    policy = load(result.folder)
    assert [int(policy.act(state)[0]) for state in (7, 8, 9, 10)] == [4, 4, 4, 4]
    assert policy.q(8).argmax() == 1
    with pytest.raises(ValueError, match="shape"):
        policy.act(np.zeros((2, 2), int))


TOLERATED: dict[str, dict[str, Any]] = {
    "rewards of one number": {"reward": always(np.array(1.0, np.float32))},
    "integer rewards": {"reward": always(np.int64(1))},
    "true as a reward": {"reward": always(True)},
    "flags of 0 and 1": {"truncated": always(0), "terminated": lambda env: int(env.age >= 5)},
    "NumPy flags": {"terminated": lambda env: np.bool_(env.age >= 5), "truncated": always(np.array(False))},
    "lists": {"obs": lambda env: User.obs(env).tolist()},
    "float64 for float32": {"obs": lambda env: User.obs(env).astype(np.float64)},
    "whole floats for integers": {"observation_space": PIXELS, "obs": always(np.array([1.0, 2.0, 255.0]))},
    "a whole float for a Discrete": {"observation_space": gym.Discrete(3), "obs": always(np.float64(2.0))},
    "a step that is a list": {"move": lambda env: list(User.move(env))},
    "one array all the time": {"obs": lambda env: np.clip(env.__dict__.setdefault("x", np.zeros(3)), -1, 1)},
    "info of changing length": {"info": lambda env: {"x": np.zeros(env.age), "y": [0] * env.age}},
    "info of changing types": {"info": lambda env: {"x": [1, "a", None, 2.5, {}][env.age % 5]}},
    "info of changing names": {"info": lambda env: {f"x{env.age}": 1, "_x": 2, "final_obs": 3, 4: 5}},
    "None for info": {"info": always(None), "begin": lambda env: (env.obs(), None)},
    "text for info": {"info": always("hello")},
    "a close that raises": {"close": raising(OSError("closed"))},
}


@pytest.mark.parametrize("name", TOLERATED)
def test_what_loses_nothing_is_tolerated(name: str, tmp_path: Path) -> None:
    result = attempt(user(**TOLERATED[name]), tmp_path)
    assert result.exit_code == 0 and result.summary["replicas"][0]["eval_return"] == 5.0


@pytest.mark.parametrize(
    ("space", "value", "says"),
    [
        (
            gym.Box(-10, 10, (3,), np.float32),
            [0.0, 1e6, 0.0],
            r"observation\[1\] is 1e\+06, and its Box -10 to 10",
        ),
        (INT, [0, 30], r"observation\[1\] is 30, and its Box 0 to 9"),
        (gym.Box(0, 9, (3,), np.uint8), [200, 0, 0], r"observation\[0\] is 200, and its Box 0 to 9"),
        (gym.Box(-1, 1, (3,), np.float32), [1.000001, -1.000001, 0.0], None),  # rounding
    ],
)
def test_what_leaves_its_box_is_said_once(
    space: Any, value: Any, says: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And goes on: many good envs do, no bound enters learning, and nothing is lost by it."""
    assert attempt(user(**seen(value, space)), tmp_path).exit_code == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "its Box" in line]
    assert len(said) == (says is not None)
    assert says is None or re.search(says, said[0])


def carried(env: Any, limit: int, of: str) -> Any:
    """Observations that show what is kept of earlier episodes from some number of them on."""
    return np.full(3, float(getattr(env, of) >= limit), np.float32)


KEEPS_STATE = {
    "episodes": {"obs": lambda env: carried(env, 4, "episodes")},
    "only later": {"obs": lambda env: carried(env, 25, "episodes")},
    "steps": {"obs": lambda env: carried(env, 300, "steps")},
    "in the reward": {"reward": lambda env: float(env.episodes)},
    "in the end": {"terminated": lambda env: env.age >= 5 + (env.episodes > 2)},
    "no use of the seed": {"obs": lambda env: np.random.default_rng().random(3, np.float32)},
    "shared by all": {"obs": lambda env: np.full(3, len(type(env).actions) / 1e6, np.float32)},
}


@pytest.mark.parametrize("name", KEEPS_STATE)
def test_what_is_kept_between_episodes_is_said_before_the_run(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    result = attempt(user(**KEEPS_STATE[name]), tmp_path)
    said = capsys.readouterr().err
    assert said.startswith("rlrun: a resume of this run would not be exact: user/Env-v0: ")
    assert '"exact_resume": false' in (result.folder / "run.json").read_text()


def test_a_walker_that_keeps_contacts_is_said_to_be_inexact() -> None:
    box2d = pytest.importorskip("gymnasium.envs.box2d")
    assert box2d
    for name, exact in (("BipedalWalker-v3", False), ("LunarLander-v3", True)):
        env: Any = envs.make(replace(config("ppo").env, id=name), 1)
        assert (env.self_test().inexact is None) is exact


def test_an_env_of_many_nans_is_not_called_inexact() -> None:
    """It is called what it is."""
    env = made(user(obs=always(np.full(3, np.nan, np.float32))))
    with pytest.raises(ConfigError, match=r"observation\[0\] is nan"):
        env.self_test()


def test_a_slow_env_is_tried_for_a_bounded_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock decides what is said, never the result."""
    monkeypatch.setattr("rlrun.envs.vector.trial.SECONDS", 0.0)
    inexact, remarks = made(user(terminated=always(False))).self_test()
    assert inexact is None and "is slow: it was seen for " in remarks[0] and len(remarks) == 1


@pytest.mark.parametrize("algo", ["ppo", "reinforce"])
def test_an_episode_without_end_stops_the_run(algo: str, tmp_path: Path) -> None:
    """In evaluation, and in the training of what learns from whole episodes."""
    with pytest.raises(EnvError, match="has not ended after 300 steps") as caught:
        attempt(user(terminated=always(False)), tmp_path, algo, "episode_limit=300")
    assert "env.max_steps=" in caught.value.lines[2] and "episode_limit" in caught.value.lines[2]
    plain = config(algo, "episode_limit=3")
    assert plain.longest_episode == 3
    assert replace(plain, env=replace(plain.env, max_steps=70)).longest_episode == 70


def test_record_and_play_stop_at_an_episode_without_end(tmp_path: Path) -> None:
    class Screen(User):
        made, actions, pool = 0, [], []
        metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
        over = True

        def __init__(self, render_mode: str | None = None) -> None:
            super().__init__()

        def terminated(self) -> Any:
            return self.age >= 5 and Screen.over

        def render(self) -> Any:
            return np.zeros((4, 4, 3), np.uint8)

    result = attempt(Screen, tmp_path, "ppo", "episode_limit=1200")
    Screen.over = False
    with pytest.raises(EnvError, match="has not ended after 1,200 steps"):
        record(result.folder, 2, tmp_path / "data")
    assert not (tmp_path / "data").exists()
    pytest.importorskip("PIL")
    from rlrun.report.film import film

    with pytest.raises(EnvError, match="has not ended after 1,200 steps"):
        film(result.folder, tmp_path / "play.gif")
    Screen.over = True
    assert film(result.folder, tmp_path / "play.gif") == 5.0
    monkey = Screen.render
    Screen.render = always(None)  # type: ignore[method-assign]
    with pytest.raises(EnvError, match="its picture is object"):
        film(result.folder, tmp_path / "play.gif")
    Screen.render = monkey  # type: ignore[method-assign]


def test_the_command_line_says_it_in_few_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["algo=ppo", "env=gym", f"env.id={ID}", *SMALL, *ALGOS["ppo"].split(), f"out={tmp_path}"]
    for parts, code in (
        ({"move": late(lambda env: sys.exit(0), User.move)}, 1),
        ({"begin": raising(SystemExit(0))}, 2),
    ):
        registered(user(**parts))
        assert main([*words, "--json"]) == code
        said = capsys.readouterr()
        assert f'"exit_code": {code}' in said.out
        lines = said.err.splitlines()
        assert f"rlrun: {ID}: SystemExit: 0" in lines[-3] and "Traceback" not in said.err


def test_the_process_stays_as_it_was(tmp_path: Path) -> None:
    here = os.getcwd()
    with suppress(KeyError), staying():
        os.chdir(tmp_path)
        torch.set_grad_enabled(False)
        raise KeyError
    assert os.getcwd() == here and torch.is_grad_enabled()
    with torch.no_grad():
        with staying():
            pass
        assert not torch.is_grad_enabled()


class Batch(gymnasium.vector.VectorEnv):
    """A vector env as a plug-in gives it, without state."""

    def __init__(self, num_envs: int, **parts: Any) -> None:
        self.num_envs, self.parts, self.t = num_envs, parts, 0
        self.single_observation_space, self.single_action_space = BOX, gym.Box(-0.1, 0.1, (1,), np.float64)
        self.metadata = {"autoreset_mode": gymnasium.vector.AutoresetMode.DISABLED}
        self.given: list[Any] = []

    def part(self, name: str, right: Any) -> Any:
        return self.parts[name] if name in self.parts and self.t >= 4 else right

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        return self.parts.get("reset", (np.zeros((self.num_envs, 3), np.float32), {}))

    def step(self, actions: Any) -> Any:
        self.t += 1
        self.given.append(actions)
        off, right = np.zeros(self.num_envs, bool), np.zeros((self.num_envs, 3), np.float32)
        step = [self.part("obs", right), self.part("reward", np.ones(self.num_envs)), off, off, {}]
        step[2] = self.part("terminated", off)
        if self.part("raises", None):
            raise self.parts["raises"]
        return step[: self.part("fields", 5)]


BATCHES: list[tuple[str, dict[str, Any]]] = [
    (r"observation\[1\] is nan\nin sub-env 1, .*step 4", {"obs": np.array([[0, 0, 0], [0, np.nan, 0]])}),
    (r"beyond the 3.4\d*e\+38", {"obs": np.array([[0, 0, 0], [0, 1e39, 0]])}),
    (r"observation has shape \[2\]", {"obs": np.zeros((2, 2))}),
    (r"observations are not 2, one a sub-env", {"obs": np.zeros((3, 3))}),
    (r"reward is inf\nin sub-env 0", {"reward": np.array([np.inf, 0])}),
    (r"not 2 numbers, bool and bool", {"reward": np.zeros((2, 1))}),
    (r"not 2 numbers, bool and bool", {"terminated": np.zeros(2)}),
    (r"step returned|five", {"reward": [0.0, 0.0]}),
    (r"five|unpack", {"fields": 4}),
    (r"OSError: down", {"raises": OSError("down")}),
    (r"reset returned an array of float32", {"reset": np.zeros((2, 3), np.float32)}),
    (r"observation has shape \[4\](.|\n)*its reset", {"reset": (np.zeros((2, 4), np.float32), {})}),
]


@pytest.mark.parametrize(("says", "parts"), BATCHES, ids=[says for says, _ in BATCHES])
def test_a_vector_env_of_a_plugin_is_held_to_its_spaces_too(says: str, parts: dict[str, Any]) -> None:
    from rlrun.evals.play import play

    env = Batch(2, **parts)
    seed = np.zeros((1, 2), np.uint64)
    with pytest.raises(EnvError, match=says):
        for _ in play(env, lambda obs, first, mask: np.ones((1, 2, 1), np.float32), seed, limit=9):
            pass
    with pytest.raises(EnvError, match="has not ended after 9 steps"):
        for _ in play(Batch(2), lambda obs, first, mask: np.ones((1, 2, 1), np.float32), seed, limit=9):
            pass
    assert all((given == 0.1).all() and given.dtype == np.float64 for given in env.given)


def test_a_resume_plays_odd_actions_again(tmp_path: Path) -> None:
    """The state holds them in types that tensors have."""
    import torch

    for name in ("uint64", "float16", "bool", "MultiBinary", "MultiDiscrete of rows"):
        env = made(user(action_space=ODD_ACTIONS[name]), 2)
        env.reset(seed=np.arange(2, dtype=np.uint64) << np.uint64(33))
        env.action_space.seed(0)
        for _ in range(3):
            env.step(env.action_space.sample())
        state = {key: torch.from_numpy(value).clone().numpy() for key, value in env.state().items()}
        after = env.step(env.action_space.sample())
        env.action_space.seed(0)
        env.load_state(state)
        again = env.step([env.action_space.sample() for _ in range(4)][-1])
        np.testing.assert_array_equal(after[0], again[0])
