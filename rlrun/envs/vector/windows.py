"""Windows of Gymnasium environments that declare an index of time: the vector layer's part of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np

from rlrun.boundary import Misfit
from rlrun.config import ConfigError
from rlrun.data.table import DataSpec
from rlrun.envs.abilities import Abilities
from rlrun.envs.vector.base import Arrays
from rlrun.envs.vector.windowed import WindowedEnv, chosen, part
from rlrun.rng import uniforms

_NO_GAPS = np.empty(0, np.int64)


class Windows:
    """Which rows each of M copies plays, and what they report of it.

    The reset options are those of a `WindowedEnv`, in usable rows; an environment is told the rows
    of its own index.
    """

    options = WindowedEnv.reset_options

    def __init__(self, env: gymnasium.Env, spec: DataSpec, num_envs: int) -> None:
        self.env, self.spec = env, _identified(env, spec)
        self.recorded: tuple[str, ...] = ("score", *_attribute(env, "recorded", ()))
        self._window = np.tile(np.array([0, spec.usable], np.int64), (num_envs, 1))
        # the rows of the episode under way: [first that it acts at, last that it sees], and its warm-up
        self._rows = np.tile(np.array([0, spec.usable - 1], np.int64), (num_envs, 1))
        self._warmup, self._taken = np.zeros(num_envs, np.int64), np.zeros(num_envs, np.int64)
        self._info = {name: np.zeros(num_envs) for name in self.recorded}

    @classmethod
    def of(cls, env: gymnasium.Env, num_envs: int) -> Windows | None:
        """None of an environment that declares no index."""
        spec = _attribute(env, "data_spec", None)
        if spec is None:
            return None
        if not isinstance(spec, DataSpec):
            raise ConfigError(
                f"data_spec is {type(spec).__name__}: it must be an rlrun.envs.windowed.DataSpec"
            )
        index = np.asarray(spec.index)
        if index.ndim != 1 or index.dtype.kind not in "iM" or len(index) - spec.lookback < 2:
            what = f"{index.dtype} {list(index.shape)}"
            raise ConfigError(f"the index of data_spec is {what}: it must be dates or integers, one a row")
        if not (index[1:] > index[:-1]).all():
            raise ConfigError("the index of data_spec must increase strictly, row by row")
        return cls(env, spec, num_envs)

    def choose(self, rows: np.ndarray, seed: np.ndarray, options: Mapping[str, Any]) -> None:
        """Where the episodes of sub-envs `rows` lie, whose seeds are `seed` [len(rows)]."""
        count = len(self._window)

        def option(name: str, default: Any) -> np.ndarray:
            value = options.get(name, default)
            return np.broadcast_to(np.asarray(0 if value is None else value), count)[rows]

        window = np.broadcast_to(np.asarray(options.get("window", self._window), np.int64), (count, 2))[rows]
        warmup, last = option("warmup", 0), option("score_last", False)
        steps, never = option("episode_steps", 0), np.zeros(len(rows), bool)
        if self.spec.episodes:  # any row of the window, and all of it
            if (window[:, 0] < 0).any() or (window[:, 1] > self.spec.usable).any():
                raise ValueError(f"a window reaches outside the {self.spec.usable} episodes")
            start, _ = part(window[:, 0], window[:, 1], np.ones_like(steps), seed)
            end = start
        else:
            _, start, end = chosen(self.spec.usable, window, warmup, steps, last, seed, _NO_GAPS, never)
        self._window[rows], self._warmup[rows] = window, warmup
        self._rows[rows] = np.stack([start, end], 1)

    def begin(self, i: int) -> dict[str, Any]:
        """The options that sub-env i begins its episode with."""
        self._taken[i] = 0
        for values in self._info.values():
            values[i] = 0.0
        first, last = (self._rows[i] + self.spec.lookback).tolist()
        return {"window": (first, last + 1), "warmup": int(self._warmup[i])}

    def step(self, i: int, info: Mapping[str, Any], terminated: bool, truncated: bool) -> None:
        """Sub-env i took a step; Misfit where it is not the one that its window asks for."""
        self._taken[i] += 1
        for name, values in self._info.items():
            if name not in info:
                raise Misfit(f"info has no {name}, which a windowed environment reports of every step")
            values[i] = float(info[name])
        if not np.isfinite(self._info["score"][i]):
            raise Misfit(f"info['score'] is {self._info['score'][i]}")
        if self.spec.episodes:
            return
        left = self._rows[i, 1] - self._rows[i, 0] + self._warmup[i] - self._taken[i]
        if truncated and left > 0:
            raise Misfit(
                f"it was truncated {left} rows before the end of its window (a TimeLimit is not needed)"
            )
        if left == 0 and not (terminated or truncated):
            raise Misfit("it goes on at the last row of its window, where it must be truncated")

    def info(self) -> dict[str, np.ndarray]:
        """What the step came to, [M] each."""
        taken = 0 if self.spec.episodes else self._taken - self._warmup
        rows = self._rows[:, 0] + taken + self.spec.lookback
        return {name: values.copy() for name, values in self._info.items()} | {
            "t": rows,
            "scored": self._taken > self._warmup,
        }

    def state(self) -> Arrays:
        """Which rows the episodes under way play, [M, ...]; the arrays themselves."""
        return {"window": self._window, "rows": self._rows, "warmup": self._warmup}

    def abilities(self, envs: list[gymnasium.Env], steps: np.ndarray, seeds: np.ndarray) -> Abilities:
        """What M such environments offer: `steps` and `seeds` [M] are those of the episodes under way."""
        own: Mapping[str, Callable[..., Any]] = _attribute(self.env, "baselines", {})

        def played(policy: Callable[..., Any]) -> Callable[[Any, np.ndarray], np.ndarray]:
            return lambda _, obs: np.stack(
                [np.asarray(policy(env.unwrapped, row)) for env, row in zip(envs, obs, strict=True)]
            )

        found = {name: played(policy) for name, policy in own.items()}
        noop = _attribute(self.env, "noop", None)
        if noop is not None:
            found.setdefault("noop", played(lambda env, obs: noop))
        found.setdefault("random", lambda _, obs: self._random(steps, seeds))
        return Abilities(metrics=("score",), data_spec=self.spec, baselines=found, recorded=self.recorded)

    def _random(self, steps: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        """Actions that are all as likely, by the episode's seed and step."""
        space = self.env.action_space
        actions = []
        for seed, step in zip(seeds.tolist(), steps.tolist(), strict=True):
            space.seed(int(uniforms(np.array([seed], np.uint64), np.array([step + 1]))[0] * 2**31))
            actions.append(np.asarray(space.sample()))
        return np.stack(actions)


def _attribute(env: gymnasium.Env, name: str, default: Any) -> Any:
    """An attribute of an environment or of what it wraps."""
    return env.get_wrapper_attr(name) if env.has_wrapper_attr(name) else default


def _identified(env: gymnasium.Env, spec: DataSpec) -> DataSpec:
    """The spec with what tells other data: of its index, and of the table where that can be seen."""
    if spec.sha256:
        return spec
    digest = hashlib.sha256(np.ascontiguousarray(spec.index).view(np.uint8).data)
    rows = _attribute(env, "rows", None)
    if hasattr(rows, "digest"):
        digest.update(rows.digest())
    return replace(spec, sha256=digest.hexdigest())
