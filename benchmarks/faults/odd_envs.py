"""Environments as users have them, each odd in one way. This file is copied beside each command as a module.

`odd(NAME, EXPECTED, ...)` makes one out of `Fine` by replacing parts of it. EXPECTED is what is right:
"trains": to the end, every action legal; "same": and to the very numbers of `Fine`; "refused": exit 2, before
a folder is made; "named": that, or stopped in a few lines; "either": trained or named; "sleeps" and "dies" are
what they say. Each with the word that must be said, if there is one. What trains must also resume to the same bits, or say before it begins that it is not exact.
"""

from __future__ import annotations

import collections
import decimal
import fractions
import gc
import os
import random
import signal
import sys
import threading
import time
import warnings

import gymnasium
import numpy as np
from gymnasium import spaces

EXPECTED: dict[str, tuple[str, str, str]] = {}  # name -> what is right, overrides, a word of the message
UNIT = spaces.Box(-1, 1, (3,), np.float32)
GROUND = "algo=ppo algo.rollout_steps=32 algo.epochs=1 algo.n_minibatches=1 num_envs=2 total_steps=512"


class Fine(gymnasium.Env):
    """Two actions, three numbers in [-1, 1], episodes of eight steps."""

    observation_space: gymnasium.Space = UNIT
    action_space: gymnasium.Space = spaces.Discrete(2)
    made = 0

    def __init__(self):
        type(self).made += 1
        self.number, self.episode, self.t = type(self).made, 0, 0
        self.begin()

    def begin(self):
        pass

    def raw(self):
        return self.np_random.uniform(-1, 1, 3).astype(np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.episode = 0, self.episode + 1
        return self.see(self.raw()), self.tell()

    def step(self, action):
        self.check(action)
        self.t += 1
        reward = self.pay(float(np.sum(action)) / 2)
        return self.see(self.raw()), reward, self.end(self.t >= 8), self.cut(False), self.tell()

    def check(self, action):
        """Actions lie in the space, in its dtype."""
        space = self.action_space
        assert np.shape(action) == space.shape, f"an action of shape {np.shape(action)}"
        assert np.asarray(action).dtype == space.dtype, f"an action of {np.asarray(action).dtype}"
        assert space.contains(action), f"the action {action!r} is not in {space}"

    def see(self, obs):
        return obs

    def pay(self, reward):
        return reward

    def end(self, terminated):
        return terminated

    def cut(self, truncated):
        return truncated

    def tell(self):
        return {}


def register(name, entry_point, expected, overrides="", says=""):
    assert name not in EXPECTED, name
    EXPECTED[name] = expected, overrides, says
    if __name__ == "odd_envs":  # and not where somebody merely asks what there is
        gymnasium.register(f"{name}-v0", entry_point)


def odd(name, expected, overrides="", says="", base=Fine, **parts):
    register(name, type(name, (base,), parts), expected, overrides, says)


def box(low=-1.0, high=1.0, shape=(3,), dtype=np.float32):
    return spaces.Box(low, high, shape, dtype)


def throw(error):
    raise error


def raising(error):
    return lambda self, *args, **kwargs: throw(error)


def late(at, error):
    """Raises at step `at` of an episode."""

    def pay(self, reward):
        if self.t == at:
            raise error
        return reward

    return pay


odd("Fine", "same")

# Observations
nan, inf = float("nan"), float("inf")
odd("ObsShort", "named", see=lambda s, o: o[:2])
odd("ObsOne", "named", see=lambda s, o: o[:1])
odd("ObsColumn", "named", see=lambda s, o: o[:, None])
odd("ObsRow", "named", see=lambda s, o: o[None])
odd("ObsNumber", "named", see=lambda s, o: 0.5)
odd("ObsEmpty", "named", see=lambda s, o: o[:0])
odd("ObsNone", "named", see=lambda s, o: None)
odd("ObsText", "named", see=lambda s, o: "abc")
odd("ObsTexts", "named", see=lambda s, o: ["1", "2", "3"])
odd("ObsDict", "named", see=lambda s, o: {"obs": o})
odd("ObsRagged", "named", see=lambda s, o: [o[0], o[1:], 1.0])
odd("ObsObjects", "named", see=lambda s, o: np.array([o[0], None, o[2]], object))
odd("ObsComplex", "named", see=lambda s, o: o + 1j)
odd("ObsLateShort", "named", see=lambda s, o: o[:2] if s.t == 5 else o)
odd("ObsShortInSecondEpisode", "named", see=lambda s, o: o[:2] if s.episode == 2 else o)
odd("ObsShortInSecondEnv", "named", see=lambda s, o: o[:2] if s.number % 2 == 0 else o)
odd("ObsNaN", "named", says="nan", see=lambda s, o: o * nan)
odd("ObsOneNaN", "named", says="nan", see=lambda s, o: np.array([o[0], nan, o[2]], np.float32))
odd("ObsLateNaN", "named", says="nan", see=lambda s, o: o * nan if s.t == 6 else o)
odd("ObsInf", "named", says="inf", see=lambda s, o: o + inf)
odd("ObsLateInf", "named", says="inf", see=lambda s, o: o - inf if s.t == 7 else o)
odd("ObsInfInUnbounded", "named", says="inf", observation_space=box(-inf, inf), see=lambda s, o: o + inf)
odd(
    "ObsBeyondFloat32",
    "named",
    observation_space=box(-inf, inf, dtype=np.float64),
    see=lambda s, o: o.astype(float) * 1e300,
)
odd("ObsOutside", "either", says="as it is", see=lambda s, o: o * 1e6)
odd("ObsOutsideAtOnce", "either", says="as it is", see=lambda s, o: o + 5)
odd("ObsJustOutside", "either", see=lambda s, o: o * np.float32(1.0000001))
odd(
    "ObsFractionsForBytes",
    "named",
    observation_space=box(0, 255, dtype=np.uint8),
    see=lambda s, o: [0.25, 0.5, 0.2],
)
odd(
    "ObsOutsideBytes",
    "named",
    observation_space=box(0, 255, dtype=np.uint8),
    see=lambda s, o: np.array([-1, 256, 300]),
)
odd(
    "ObsBytesAsInts",
    "either",
    observation_space=box(0, 255, dtype=np.uint8),
    see=lambda s, o: np.array([1, 2, 255]),
)
odd("ObsFractionForDiscrete", "named", observation_space=spaces.Discrete(5), see=lambda s, o: 2.7)
odd("ObsOutsideDiscrete", "named", observation_space=spaces.Discrete(5), see=lambda s, o: 5)
odd("ObsNegativeDiscrete", "named", observation_space=spaces.Discrete(5), see=lambda s, o: -1)
odd("ObsDiscreteArray", "either", observation_space=spaces.Discrete(5), see=lambda s, o: np.array(2))
odd("ObsDiscreteList", "either", observation_space=spaces.Discrete(5), see=lambda s, o: [2])
odd(
    "ObsOutsideMultiDiscrete",
    "named",
    observation_space=spaces.MultiDiscrete([3, 3, 3]),
    see=lambda s, o: np.array([3, 0, 0]),
)
odd(
    "ObsOutsideMultiBinary",
    "named",
    observation_space=spaces.MultiBinary(3),
    see=lambda s, o: np.array([2, 0, 0], np.int8),
)
odd("ObsFloat64", "same", see=lambda s, o: o.astype(np.float64))
odd("ObsList", "same", see=lambda s, o: o.tolist())
odd("ObsTuple", "same", see=lambda s, o: tuple(o))
odd("ObsScalars", "same", see=lambda s, o: [np.float32(x) for x in o])
odd("ObsReadOnly", "same", see=lambda s, o: (o.setflags(write=False), o)[1])
odd("ObsStrided", "same", see=lambda s, o: np.repeat(o, 2)[::2])
odd("ObsBackwards", "same", see=lambda s, o: o[::-1].copy()[::-1])
odd("ObsBigEndian", "same", see=lambda s, o: o.astype(">f4"))
odd(
    "ObsReused",
    "same",
    begin=lambda s: setattr(s, "own", np.zeros(3, np.float32)),
    see=lambda s, o: (s.own.__setitem__(slice(None), o), s.own)[1],
)
odd("ObsMatrix", "either", see=lambda s, o: np.ma.masked_array(o, [False, True, False]))
odd("ObsTensor", "either", see=lambda s, o: __import__("torch").from_numpy(o))
odd("ObsBools", "either", see=lambda s, o: o > 0)
odd("ObsInts", "either", see=lambda s, o: np.sign(o).astype(np.int64))
odd("ObsIterator", "named", see=lambda s, o: iter(o))

# Rewards
for _name, _reward in {
    "None": None, "NaN": nan, "Inf": inf, "Pair": np.zeros(2), "Complex": 1j, "Dict": {"r": 1.0}, "Word": "good", "Empty": [], "Huge": 1e300,
}.items():  # fmt: skip
    odd(f"Reward{_name}", "named", pay=lambda s, r, value=_reward: value)
for _name, _cast in {
    "Array": lambda r: np.array([r]),
    "List": lambda r: [r],
    "Decimal": decimal.Decimal,
    "Fraction": fractions.Fraction,
    "Text": str,
}.items():
    odd(f"RewardAs{_name}", "either", pay=lambda s, r, cast=_cast: cast(r))
for _name, _cast in {"Float64": np.float64, "Float32": np.float32, "ZeroDim": np.array}.items():
    odd(f"RewardAs{_name}", "same", pay=lambda s, r, cast=_cast: cast(r))
odd("RewardTensor", "either", pay=lambda s, r: __import__("torch").tensor(r))
odd("RewardBool", "either", pay=lambda s, r: r > 0)
odd("RewardInt", "trains", pay=lambda s, r: int(r * 2))
odd("RewardLateNaN", "named", says="nan", pay=lambda s, r: nan if s.t == 5 and s.episode > 3 else r)
odd("RewardMinusInf", "named", says="inf", pay=lambda s, r: -inf if s.t == 8 else r)

# Ends
for _name, _end in {"None": None, "Text": "False", "Half": 0.5, "Pair": [False, True], "NaN": nan}.items():
    odd(f"Terminated{_name}", "named", end=lambda s, e, value=_end: value)
    odd(f"Truncated{_name}", "named", cut=lambda s, e, value=_end: value)
for _name, _cast in {
    "Numpy": np.bool_,
    "Int": int,
    "ZeroDim": np.array,
    "Float": float,
    "UInt8": np.uint8,
}.items():
    odd(
        f"TerminatedAs{_name}", "same" if _name != "Float" else "either", end=lambda s, e, cast=_cast: cast(e)
    )
odd("TerminatedArray", "either", end=lambda s, e: np.array([e]))
odd("BothEnds", "trains", cut=lambda s, e: s.t >= 8)
odd("EndsAtOnce", "trains", end=lambda s, e: True)
odd("OnlyTruncates", "trains", end=lambda s, e: False, cut=lambda s, e: s.t >= 8)

# The API
odd("OldReset", "refused", reset=lambda s, seed=None, options=None: UNIT.sample())
odd("OldResetPlain", "refused", reset=lambda s: UNIT.sample())
odd("OldStep", "refused", step=lambda s, a: (UNIT.sample(), 0.0, False, {}))
odd("SixThings", "named", step=lambda s, a: (UNIT.sample(), 0.0, False, False, {}, 1))
odd("StepNone", "named", step=lambda s, a: None)
odd("StepNumber", "named", step=lambda s, a: 3)
odd("StepList", "either", step=lambda s, a: [np.zeros(3, np.float32), 0.0, True, False, {}])
odd("StepSwapped", "named", step=lambda s, a: (0.0, np.zeros(3, np.float32), False, False, {}))
odd("ResetNone", "refused", reset=lambda s, seed=None, options=None: None)
odd("ResetThree", "refused", reset=lambda s, seed=None, options=None: (UNIT.sample(), {}, 1))
odd("ResetSwapped", "named", reset=lambda s, seed=None, options=None: ({}, UNIT.sample()))
odd("NoSeed", "named", reset=lambda s, options=None: (UNIT.sample(), {}))
odd("NoOptions", "either", reset=lambda s, seed=None: Fine.reset(s, seed=seed))
odd("PositionalSeed", "either", reset=lambda s, seed, options: Fine.reset(s, seed=seed))
odd("NoStep", "named", step=gymnasium.Env.step)
odd("NoReset", "refused", reset=gymnasium.Env.reset)
odd("NoObsSpace", "refused", observation_space=None)
odd("NoActionSpace", "refused", action_space=None)
odd("ShapeForASpace", "refused", observation_space=(3,))
odd("NumberForASpace", "refused", action_space=2)
odd("NeedsAKeyword", "refused", __init__=lambda s, size: None)
odd("ReturnsFromInit", "refused", __init__=lambda s: 5)
odd("NoSuperInit", "either", __init__=lambda s: s.__dict__.update(number=1, episode=0, t=0))
odd(
    "FreshSpaces",
    "trains",
    observation_space=property(lambda s: box()),
    action_space=property(lambda s: spaces.Discrete(2)),
)
odd(
    "OtherSpaceEachTime",
    "named",
    begin=lambda s: setattr(s, "observation_space", box(shape=(2 + s.number,))),
    raw=lambda s: s.observation_space.sample(),
)
odd(
    "OtherActionsEachTime",
    "either",
    begin=lambda s: setattr(s, "action_space", spaces.Discrete(1 + s.number)),
)
odd(
    "SpaceChangesOnReset",
    "named",
    tell=lambda s: (setattr(s, "observation_space", box(shape=(5,))), {})[1],
    see=lambda s, o: np.zeros(s.observation_space.shape, np.float32),
)
odd("CloseRaises", "either", close=raising(OSError("cannot close")))
odd("MetadataNone", "either", metadata=None)
odd("SpecNone", "either", begin=lambda s: setattr(s, "spec", None))
register("NotAnEnv", lambda **kwargs: object(), "refused")
register("NoneForAnEnv", lambda **kwargs: None, "refused")
register("NoEntryPoint", "odd_envs:Missing", "refused")
register("NoModule", "no_such_module:X", "refused")


class DuckEnv:
    """No subclass of gymnasium.Env, though it quacks."""

    observation_space, action_space, metadata, spec, render_mode = UNIT, spaces.Discrete(2), {}, None, None

    def reset(self, *, seed=None, options=None):
        self.rng, self.t = np.random.default_rng(seed), 0
        return self.rng.uniform(-1, 1, 3).astype(np.float32), {}

    def step(self, action):
        self.t += 1
        return self.rng.uniform(-1, 1, 3).astype(np.float32), 1.0, self.t > 7, False, {}

    def close(self):
        pass


register("Duck", DuckEnv, "either")

# Spaces


def spaced(name, expected, obs=None, action=None, overrides="", says=""):
    parts = {}
    if obs is not None:
        parts |= {"observation_space": obs, "raw": lambda s: _seeded(s.observation_space, s)}
    if action is not None:
        parts |= {"action_space": action, "pay": lambda s, r: 1.0}
    odd(name, expected, overrides, says, **parts)


def _seeded(space, env):
    space.seed(int(env.np_random.integers(1 << 30)))
    return space.sample()


class Mine(spaces.Space):
    """A kind of space that nobody else has."""

    def sample(self, mask=None, probability=None):
        return 0

    def contains(self, x):
        return True


picture = spaces.Box(0, 255, (16, 16, 3), np.uint8)
for _kind in (
    np.uint8,
    np.int8,
    np.uint16,
    np.int16,
    np.uint32,
    np.int32,
    np.uint64,
    np.int64,
    np.float16,
    np.float64,
):
    _top = 100 if np.issubdtype(_kind, np.integer) else 1
    spaced(f"Obs{np.dtype(_kind).name.title()}Box", "either", obs=box(0, _top, dtype=_kind))
    spaced(f"Action{np.dtype(_kind).name.title()}Box", "either", action=box(0, _top, (2,), _kind))
spaced("ObsScalarBox", "either", obs=box(shape=()))
spaced("ObsEmptyBox", "refused", obs=box(shape=(0,)))
spaced("ObsMatrixBox", "either", obs=box(shape=(2, 3)))
spaced("ObsPicture", "either", obs=picture)
spaced("ObsGrayPicture", "either", obs=spaces.Box(0, 255, (16, 16), np.uint8))
spaced(
    "ObsPictureCnn",
    "either",
    obs=spaces.Box(0, 255, (84, 84, 1), np.uint8),
    overrides="model=cnn algo.rollout_steps=8 total_steps=48",
)
odd("ObsVast", "refused", begin=lambda s: setattr(s, "observation_space", box(shape=(10**6, 10**6))))
spaced("ObsUnbounded", "trains", obs=box(-inf, inf))
spaced("ObsHalfBounded", "trains", obs=box(0, inf))
spaced(
    "ObsFixedElement", "trains", obs=spaces.Box(np.array([0, -1], np.float32), np.array([0, 1], np.float32))
)
spaced("ObsDiscreteStart", "either", obs=spaces.Discrete(4, start=5))
spaced("ObsDiscreteNegative", "either", obs=spaces.Discrete(4, start=-2))
spaced("ObsDiscrete", "trains", obs=spaces.Discrete(7))
spaced("ObsMultiBinary", "either", obs=spaces.MultiBinary(4))
spaced("ObsMultiBinarySquare", "either", obs=spaces.MultiBinary((2, 2)))
spaced("ObsMultiDiscrete", "either", obs=spaces.MultiDiscrete([3, 4]))
spaced("ObsMultiDiscreteStart", "either", obs=spaces.MultiDiscrete([3, 4], start=[5, -1]))
spaced("ObsTextSpace", "refused", obs=spaces.Text(5))
spaced("ObsSequence", "refused", obs=spaces.Sequence(spaces.Discrete(3)))
spaced("ObsGraph", "refused", obs=spaces.Graph(spaces.Discrete(3), None))
spaced("ObsOneOf", "refused", obs=spaces.OneOf([spaces.Discrete(3), box()]))
spaced("ObsMine", "refused", obs=Mine((3,), np.float32))
spaced("ObsMineNoShape", "refused", obs=Mine())
spaced("ObsTupleSpace", "trains", obs=spaces.Tuple([box(), spaces.Discrete(3)]))
spaced("ObsDictSpace", "trains", obs=spaces.Dict({"a": box(), "b": spaces.Discrete(3)}))
spaced(
    "ObsNestedDict",
    "trains",
    obs=spaces.Dict(
        {
            "a": spaces.Dict({"x": box(), "y": spaces.Dict({"z": box(shape=(2,))})}),
            "b": spaces.Tuple([spaces.Discrete(2)]),
        }
    ),
)
spaced("ObsDictWithPicture", "either", obs=spaces.Dict({"camera": picture, "speed": box()}))
spaced("ObsNestedPicture", "either", obs=spaces.Dict({"a": spaces.Dict({"camera": picture}), "b": box()}))
spaced("ObsDictWithText", "either", obs=spaces.Dict({"a": box(), "b": spaces.Text(4)}))
spaced("ObsEmptyDict", "refused", obs=spaces.Dict({}))
spaced("ActionDiscreteStart", "either", action=spaces.Discrete(3, start=5))
spaced("ActionDiscreteNegative", "either", action=spaces.Discrete(3, start=-1))
spaced("ActionDiscreteOne", "either", action=spaces.Discrete(1))
spaced("ActionDiscreteVast", "refused", action=spaces.Discrete(10**10))
spaced("ActionDiscreteInt32", "either", action=spaces.Discrete(3, dtype=np.int32))
spaced("ActionMultiDiscrete", "trains", action=spaces.MultiDiscrete([3, 2]))
spaced("ActionMultiDiscreteStart", "either", action=spaces.MultiDiscrete([3, 2], start=[1, 1]))
spaced("ActionMultiDiscreteSquare", "either", action=spaces.MultiDiscrete([[3, 2], [2, 2]]))
spaced("ActionMultiBinary", "either", action=spaces.MultiBinary(3))
spaced("ActionText", "refused", action=spaces.Text(3))
spaced("ActionTuple", "refused", action=spaces.Tuple([spaces.Discrete(2), box()]))
spaced("ActionDict", "refused", action=spaces.Dict({"a": spaces.Discrete(2)}))
spaced("ActionMine", "refused", action=Mine())
spaced("ActionScalarBox", "either", action=box(shape=()))
spaced("ActionEmptyBox", "refused", action=box(shape=(0,)))
spaced("ActionMatrixBox", "either", action=box(shape=(2, 2)))
spaced("ActionSmallFloat64", "trains", action=box(-0.1, 0.1, (2,), np.float64))
spaced(
    "ActionSmallFloat64Sac",
    "trains",
    action=box(-0.1, 0.1, (2,), np.float64),
    overrides="algo=sac num_envs=1 total_steps=300 algo.learning_starts=64 algo.batch_size=16 algo.buffer_size=500",
)
spaced(
    "ActionTinyFloat64Td3",
    "trains",
    action=box(1e-9, 3e-9, (2,), np.float64),
    overrides="algo=td3 num_envs=1 total_steps=300 algo.learning_starts=64 algo.batch_size=16 algo.buffer_size=500",
)
spaced("ActionFarFloat32", "trains", action=box(1e6, 1e6 + 1, (2,), np.float32))
spaced("ActionUnbounded", "either", action=box(-inf, inf, (2,)))
spaced("ActionHalfBounded", "either", action=box(0, inf, (2,)))
spaced(
    "ActionFixedElement",
    "either",
    action=spaces.Box(np.array([0, -1], np.float32), np.array([0, 1], np.float32)),
)
spaced(
    "ActionFixedElementSac",
    "either",
    action=spaces.Box(np.array([0, -1], np.float32), np.array([0, 1], np.float32)),
    overrides="algo=sac num_envs=1 total_steps=300 algo.learning_starts=64 algo.batch_size=16 algo.buffer_size=500",
)
spaced("ActionHugeBounds", "either", action=box(-1e38, 1e38, (2,)))
odd("SwappedBounds", "refused", begin=lambda s: setattr(s, "action_space", box(1, -1)))
odd(
    "NaNBounds",
    "named",
    begin=lambda s: setattr(
        s, "observation_space", spaces.Box(np.array([nan], np.float32), np.array([1], np.float32))
    ),
)


def _evenly(self, reward):
    """The highest of an integer box is played about as often as the others."""
    counts = vars(type(self)).get("counts") or collections.Counter()
    type(self).counts = counts
    counts[int(self.last[0])] += 1
    if sum(counts.values()) == 400:
        assert min(counts[i] for i in range(4)) > 40, f"integers played: {dict(counts)}"
    return reward


odd(
    "ActionIntegersEvenly",
    "either",
    action_space=box(0, 3, (1,), np.int64),
    check=lambda s, a: (Fine.check(s, a), setattr(s, "last", a))[0],
    pay=_evenly,
)

# What raises


class Loud(Exception):
    def __str__(self):
        return "\x1b[31mred\x1b[0m \x1b]0;title\x07"


class Dumb(Exception):
    def __str__(self):
        raise ValueError("cannot say")


class Base(BaseException):
    pass


def errors():
    return {
        "OSError": OSError(2, "no camera"), "KeyError": KeyError("x"), "NotImplementedError": NotImplementedError(), "RuntimeError": RuntimeError("no simulator"),
        "AssertionError": AssertionError(), "ImportError": ImportError("no module"), "MemoryError": MemoryError(), "RecursionError": RecursionError("too deep"),
        "StopIteration": StopIteration(), "GeneratorExit": GeneratorExit(), "Exit0": SystemExit(0), "ExitText": SystemExit("bye"), "ExitNone": SystemExit(),
        "UnicodeError": UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), "Warning": UserWarning("careful"), "Long": ValueError("\n".join(["much to say"] * 100)), "Wide": ValueError("x" * 100_000),
        "Loud": Loud(), "Dumb": Dumb(), "Base": Base("base"), "BrokenPipe": BrokenPipeError(), "FileNotFound": FileNotFoundError("model.xml"), "GymError": gymnasium.error.Error("old"), "TimeoutError": TimeoutError(),
    }  # fmt: skip


for _name, _error in errors().items():
    odd(f"Construct{_name}", "refused", begin=raising(_error))
for _name, _error in errors().items():
    odd(
        f"Reset{_name}",
        "refused",
        see=lambda s, o, error=_error: throw(error) if s.t == 0 and s.episode == 1 else o,
    )
for _name, _error in errors().items():
    odd(f"Step{_name}", "named", pay=late(5, _error))
odd(
    "SecondResetRaises",
    "named",
    see=lambda s, o: throw(OSError("lost")) if s.t == 0 and s.episode == 2 else o,
)
odd("SecondEnvRaises", "refused", begin=lambda s: throw(OSError("port in use")) if s.number == 2 else None)
odd("ManyWarnings", "trains", pay=lambda s, r: (warnings.warn(f"step {s.t}", stacklevel=1), r)[1])
odd("Exits", "named", pay=lambda s, r: sys.exit(0) if s.t == 3 else r)
odd("ExitsHard", "dies", pay=lambda s, r: os._exit(0) if s.t == 3 and s.episode > 2 else r)
odd("Aborts", "dies", pay=lambda s, r: os.abort() if s.t == 3 and s.episode > 2 else r)
odd(
    "KillsItself",
    "dies",
    pay=lambda s, r: os.kill(os.getpid(), signal.SIGKILL) if s.t == 3 and s.episode > 2 else r,
)

# Time
odd("Endless", "named", end=lambda s, e: False, says="env.max_steps")
odd("EndlessReinforce", "named", "algo=reinforce", end=lambda s, e: False, says="env.max_steps")
odd("EndlessAtTimes", "named", says="env.max_steps", end=lambda s, e: e and s.episode % 7 != 3)
odd("SleepsInConstruct", "sleeps", begin=lambda s: time.sleep(1e6))
odd("SleepsInReset", "sleeps", see=lambda s, o: time.sleep(1e6) if s.t == 0 and s.episode > 3 else o)
odd("SleepsInStep", "sleeps", pay=lambda s, r: time.sleep(1e6) if s.t == 5 and s.episode > 3 else r)

# What info may hold
for _name, _tell in {
    "None": lambda s: None, "List": lambda s: [1], "Growing": lambda s: {"a": np.zeros(s.t)}, "Types": lambda s: {"a": [1, "x", None, 1.5, [1], {}][s.t % 6]}, "Ragged": lambda s: {"a": [[1], [1, 2]]},
    "Text": lambda s: {"a": "x" * s.t}, "Objects": lambda s: {"a": object(), "b": s}, "Underscore": lambda s: {"_a": 1, "a": 2}, "Episode": lambda s: {"episode": {"r": 1, "l": 2}}, "FinalObs": lambda s: {"final_obs": None, "final_info": 5},
    "Numbers": lambda s: {1: 2, None: 3, (1, 2): 4}, "Nested": lambda s: {"a": {"b": {"c": np.zeros(s.t)}}}, "Dtypes": lambda s: {"a": np.zeros(2, [np.int8, np.float64, bool][s.t % 3])}, "Itself": lambda s: (d := {}, d.update(a=d), d)[2],
    "Cost": lambda s: {"cost": "cheap", "action_cost": None, "pnl": [1, 2]}, "Sometimes": lambda s: {"a": 1} if s.t % 3 else {}, "Arrays": lambda s: {"a": np.zeros((s.t % 3 + 1, 2))},
}.items():  # fmt: skip
    odd(f"Info{_name}", "either" if _name in ("None", "List", "Numbers") else "same", tell=_tell)

# What outlives an episode
odd("CountsEpisodes", "trains", raw=lambda s: np.full(3, min(s.episode / 1000, 1), np.float32))
odd("ChangesAfterThree", "trains", raw=lambda s: Fine.raw(s) * np.float32(0.5 if s.episode > 3 else 1))
odd(
    "ChangesAfterThirtySteps",
    "trains",
    begin=lambda s: setattr(s, "total", 0),
    pay=lambda s, r: (setattr(s, "total", s.total + 1), r + (s.total > 30))[1],
)
odd(
    "KeepsVelocity",
    "trains",
    begin=lambda s: setattr(s, "v", np.float32(0)),
    raw=lambda s: (
        setattr(s, "v", np.float32(0.9) * s.v + np.float32(0.1) * Fine.raw(s)[0]),
        np.full(3, s.v),
    )[1],
)
odd("GlobalNumpy", "trains", raw=lambda s: np.random.uniform(-1, 1, 3).astype(np.float32))  # noqa: NPY002
odd("GlobalRandom", "trains", raw=lambda s: np.full(3, random.uniform(-1, 1), np.float32))
odd("Clock", "trains", raw=lambda s: np.full(3, time.time() % 1, np.float32))
odd(
    "IgnoresSeed",
    "trains",
    begin=lambda s: setattr(s, "own", np.random.default_rng()),
    raw=lambda s: s.own.uniform(-1, 1, 3).astype(np.float32),
)
odd(
    "FixedSeed",
    "trains",
    begin=lambda s: setattr(s, "own", np.random.default_rng(0)),
    raw=lambda s: s.own.uniform(-1, 1, 3).astype(np.float32),
)
odd(
    "SharedBetweenEnvs",
    "trains",
    pay=lambda s, r: (setattr(Fine, "shared", getattr(Fine, "shared", 0) + 1), float(Fine.shared % 7))[1],
)
odd("KnowsItsNumber", "trains", raw=lambda s: np.full(3, min(s.number, 10) / 10, np.float32))
odd(
    "DrawsInInit",
    "trains",
    begin=lambda s: setattr(s, "gift", s.np_random.uniform()),
    pay=lambda s, r: s.gift,
)

# What touches the rest of the process
odd("ChangesAction", "either", action_space=box(), pay=lambda s, r: 1.0, check=lambda s, a: a.fill(0))
odd("SeedsNumpy", "same", begin=lambda s: np.random.seed(0))  # noqa: NPY002
odd("SeedsTorch", "same", begin=lambda s: __import__("torch").manual_seed(0))
odd("NumpyRaises", "either", begin=lambda s: np.seterr(all="raise"))
odd("Doubles", "either", begin=lambda s: __import__("torch").set_default_dtype(__import__("torch").float64))
odd("NoGradients", "either", begin=lambda s: __import__("torch").set_grad_enabled(False))
odd("ChangesFolder", "same", begin=lambda s: os.chdir("/"))
odd(
    "StartsAThread",
    "same",
    begin=lambda s: threading.Thread(target=time.sleep, args=(1e6,), daemon=True).start(),
)
odd("TakesSignals", "same", begin=lambda s: signal.signal(signal.SIGTERM, signal.SIG_IGN))
odd("WarningsAreErrors", "either", begin=lambda s: warnings.simplefilter("error"))
odd("ClosesStdout", "either", begin=lambda s: sys.stdout.close())
odd("ClosesStderr", "either", begin=lambda s: sys.stderr.close())
odd("NoCollection", "same", begin=lambda s: gc.disable())
odd("ClearsEnviron", "either", begin=lambda s: os.environ.clear())
odd("SwallowsRecursion", "either", begin=lambda s: sys.setrecursionlimit(120))
