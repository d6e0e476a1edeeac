"""Windows of Gymnasium environments that declare an index of time: the vector layer's part of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np

from rlrun.boundary import Misfit, told
from rlrun.config import ConfigError
from rlrun.data.content import content
from rlrun.data.table import DataSpec
from rlrun.envs.abilities import Abilities
from rlrun.envs.vector.base import Arrays
from rlrun.envs.vector.trial import random_action
from rlrun.envs.vector.windowed import WindowedEnv, chosen, part
from rlrun.envs.windowed import Rows, instants
from rlrun.spaces import Box, Space

_NO_GAPS = np.empty(0, np.int64)


class Windows:
    """Which rows each of M copies plays, and what they report of it.

    The reset options are those of a `WindowedEnv`, in usable rows; an environment is told the rows
    of its own index.
    """

    options = WindowedEnv.reset_options

    def __init__(
        self,
        env: gymnasium.Env,
        spec: DataSpec,
        agents: Space,
        policies: Mapping[str, Callable[[Any, Any], Any]],
        num_envs: int,
    ) -> None:
        self._env, self.spec, self._agents, self._policies = env, spec, agents, policies
        self.recorded: tuple[str, ...] = ("score", *_attribute(env, "recorded", ()))
        self._window = np.tile(np.array([0, spec.usable], np.int64), (num_envs, 1))
        # the rows of the episode under way: [first that it acts at, last that it sees], and its warm-up
        self._rows = np.tile(np.array([0, spec.usable - 1], np.int64), (num_envs, 1))
        self._warmup, self._taken = np.zeros(num_envs, np.int64), np.zeros(num_envs, np.int64)
        self._info = {name: np.zeros(num_envs) for name in self.recorded}

    @classmethod
    def of(cls, env: gymnasium.Env, agents: Space, num_envs: int) -> Windows | None:
        """None of an environment that declares no index; `agents` is its action space as they see it.

        Raises:
            ConfigError: what it declares is no index of its rows.
        """
        spec = _attribute(env, "data_spec", None)
        if spec is None:
            return None
        if not isinstance(spec, DataSpec):
            raise ConfigError(
                f"data_spec is {type(spec).__name__}: it must be an rlrun.envs.windowed.DataSpec"
            )
        index, rows = instants(spec.index), _attribute(env, "rows", None)
        if len(index) - spec.lookback < 2:
            raise ConfigError(
                f"the index of data_spec has {len(index)} rows: too few after a lookback of {spec.lookback}"
            )
        if isinstance(rows, Rows) and len(rows) != len(index):
            raise ConfigError(f"the index of data_spec has {len(index)} rows, and the table {len(rows)}")
        if not (index[1:] > index[:-1]).all():
            raise ConfigError("the index of data_spec must increase strictly, row by row")
        limit = env.spec and env.spec.max_episode_steps
        if limit and not spec.episodes:
            raise ConfigError(
                f"it ends after {limit} steps, in the midst of its window",
                "leave out max_episode_steps and env.max_steps; eval.episode_steps is of training alone",
            )
        spec, policies = _identified(env, replace(spec, index=index)), _own_policies(env)
        if policies and (wrapper := _rewritten(env)):
            what = f"{wrapper} gives actions another meaning: the env's own baselines are left out"
            policies, spec = {}, replace(spec, notes=(*spec.notes, what))
        return cls(env, spec, agents, policies, num_envs)

    def many(self, num_envs: int) -> Windows:
        """Those of so many copies of the same environment."""
        return Windows(self._env, self.spec, self._agents, self._policies, num_envs)

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

    def begin(self, i: int) -> None:
        """Sub-env i begins its episode."""
        self._taken[i] = 0
        for values in self._info.values():
            values[i] = 0.0

    def told(self, i: int) -> dict[str, Any]:
        """The options that sub-env i is reset with."""
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

    def abilities(self) -> Abilities:
        """What such environments offer; a baseline is asked of the vector env that it plays in."""

        def asked(name: str) -> Callable[[Any, np.ndarray], np.ndarray]:
            return lambda env, obs: env.baseline(name, obs)

        names = (*self._policies, "random")
        found = {name: asked(name) for name in names}
        return Abilities(metrics=("score",), data_spec=self.spec, baselines=found, recorded=self.recorded)

    def baseline(
        self,
        name: str,
        obs: np.ndarray,
        envs: Sequence[gymnasium.Env],
        moments: Iterable[tuple[int, int]],
        masks: np.ndarray | None,
    ) -> np.ndarray:
        """What the baseline `name` does in each of M environments, as agents write actions, [M, ...].

        `moments` are the seeds and steps of their episodes, by which random actions are drawn.

        Raises:
            ConfigError: an action is not in the action space.
        """
        policy, form, actions = self._policies.get(name), self._agents.form, []
        for i, (env, moment) in enumerate(zip(envs, moments, strict=True)):
            if policy is None:
                rng = np.random.default_rng(moment)
                actions.append(random_action(self._agents, rng, None if masks is None else masks[i]))
                continue
            try:
                action = np.asarray(policy(env.unwrapped, obs[i])).astype(form.dtype)
            except Exception as error:
                raise ConfigError(f"the baseline {name} fails: {told(error)}") from error
            box = isinstance(self._agents, Box)  # what is beyond its bounds is clipped, as of an agent
            fits = np.isfinite(action).all() if box else self._env.action_space.contains(action)
            if action.shape != form.shape or not fits:
                where = " ".join(repr(self._env.action_space).split())
                raise ConfigError(f"the baseline {name} does {action.tolist()}: it must be in {where}")
            actions.append(action)
        return self._agents.read(np.stack(actions))


def _own_policies(env: gymnasium.Env) -> dict[str, Callable[[Any, Any], Any]]:
    """The baselines that an environment declares, and doing nothing where it says how that is done."""
    noop = _attribute(env, "noop", None)
    found = {} if noop is None else {"noop": lambda env, obs: noop}
    return {**_attribute(env, "baselines", {}), **found}


def _rewritten(env: gymnasium.Env) -> str | None:
    """The wrapper that gives actions another meaning than the environment itself does."""
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, gymnasium.ActionWrapper) and type(env).__name__ != "ClipAction":
            return type(env).__name__
        env = env.env
    return None


def _attribute(env: gymnasium.Env, name: str, default: Any) -> Any:
    """An attribute of an environment or of what it wraps."""
    return env.get_wrapper_attr(name) if env.has_wrapper_attr(name) else default


def _identified(env: gymnasium.Env, spec: DataSpec) -> DataSpec:
    """The spec with what tells other data: of its index, and of the table where that can be seen."""
    if spec.sha256:
        return spec
    rows = _attribute(env, "rows", None)
    table = rows.digest() if hasattr(rows, "digest") else None
    return replace(spec, sha256=content(spec.index, table).hex())
