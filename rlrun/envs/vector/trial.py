"""A trial of a Gymnasium environment before a run: does it keep its promises, and can a run be resumed?

A state is restored by playing an episode's actions again. That is exact where an episode is a
function of its seed and its actions, whatever was played before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any

import gymnasium
import numpy as np

from rlrun.boundary import Check, Misfit, fault
from rlrun.config import ConfigError
from rlrun.envs.abilities import Trial
from rlrun.envs.vector.masks import Allowed
from rlrun.envs.vector.surroundings import staying
from rlrun.spaces import Box, Discrete, Space

EARLIER = 1000  # steps of other episodes, which may leave something behind; at least two are played
COMPARED = 1000  # steps played twice after them; also the longest that an episode of a trial may be
FRESH = 5  # episodes for each of which a new copy is made: what is left behind shows best beside these
RESET = 10  # steps that a reset counts as
LEAST = 40  # steps of either kind that even a slow environment plays
SECONDS = 1.0  # of this process, after which one is slow; this decides what is said, and no bit of a run
WAITING = 10  # times as long is a slow one waited for, by the clock on the wall
NAMES = ("obs", "reward", "terminated", "truncated")


class _Copy:
    """One copy of an environment, which plays seeded episodes and is looked at meanwhile."""

    def __init__(self, name: str, env: gymnasium.Env, check: Check, allowed: Allowed | None) -> None:
        self.env, self._name, self._check, self._allowed = env, name, check, allowed
        self.mask: np.ndarray | None = None  # of the actions that are allowed next, bool [A]
        self.remark = ""

    def reset(self, seed: int) -> tuple[Any, ...]:
        """Observation, reward, terminated, truncated."""
        self._seed, self._step = seed, 0
        return self._held(lambda: self.env.reset(seed=seed))

    def step(self, action: Any) -> tuple[Any, ...]:
        self._step += 1
        return self._held(lambda: self.env.step(action))

    def _held(self, call: Callable[[], tuple[Any, ...]]) -> tuple[Any, ...]:
        try:
            with staying():
                returned = call()
            if self._step:
                obs, *rest = self._check.step(returned)
            else:
                obs, *rest = self._check.reset(returned), 0.0, False, False
            if self._allowed and not rest[1]:
                self.mask = self._allowed(self.env, returned[-1])
            obs = np.array(obs)
            if not np.isfinite(obs).all():
                where = np.argwhere(~np.isfinite(obs))[0]
                raise Misfit(f"observation{where.tolist()} is {obs[tuple(where)]}")
        except BaseException as error:
            moment = f"step {self._step}" if self._step else "its reset"
            found = fault(
                error, self._name, f"in a trial before the run, episode of seed {self._seed}, {moment}"
            )
            raise ConfigError(*found.lines) from error
        if not self.remark:
            outside = self._check.outside(obs)
            self.remark = (
                outside and f"{self._name}: its {outside}, at step {self._step}; it is used as it is"
            )
        return obs, *rest

    def close(self) -> None:
        with suppress(Exception):  # it has served
            self.env.close()


class _Budget:
    """What one half of a trial may take."""

    def __init__(self, steps: int) -> None:
        self._most, self.played = steps, 0
        self._busy, self._wall = time.process_time() + SECONDS, time.monotonic() + WAITING * SECONDS

    @property
    def spent(self) -> bool:
        return self.played >= self._most or self.slow

    @property
    def slow(self) -> bool:
        late = time.process_time() > self._busy or time.monotonic() > self._wall
        return late and self.played >= LEAST


def trial(
    name: str,
    make: Callable[[], gymnasium.Env],
    check: Check,
    action: Space,
    allowed: Allowed | None = None,
) -> Trial:
    """A copy plays some episodes, and then others beside fresh copies, all by random actions.

    Raises:
        ConfigError: the environment fails, or returns what is not in its spaces.
    """
    copies, seeds, rng = [_Copy(name, make(), check, allowed)], count(1), np.random.default_rng(0)
    used, differs, act = copies[0], None, partial(random_action, action, rng)
    try:
        earlier = _Budget(EARLIER)
        for seed in seeds:
            _episode((used,), act, seed, earlier)
            if earlier.slow or (earlier.spent and seed >= 2):
                break
        compared = _Budget(COMPARED)
        while not differs and not compared.spent:
            if len(copies) <= FRESH:
                copies.append(_Copy(name, make(), check, allowed))
            differs = _episode((used, copies[-1]), act, next(seeds), compared)
    finally:
        for copy in copies:
            copy.close()
    remarks = [copy.remark for copy in copies if copy.remark][:1]
    if not differs and compared.slow:
        seen = f"it was seen for {compared.played} steps only that a resume of this run would be exact"
        remarks.append(f"{name} is slow: {seen}")
    return Trial(differs and f"{name}: {differs} of the same episode played twice", tuple(remarks))


def _episode(copies: Sequence[_Copy], act: Callable[[Any], Any], seed: int, budget: _Budget) -> str | None:
    """What differs between the first and the last copy in an episode, or in the beginning of a long one."""
    now = [copy.reset(seed) for copy in copies]
    budget.played += RESET
    for step in range(COMPARED):
        for name, one, other in zip(NAMES, now[0], now[-1], strict=True):
            if not np.array_equal(one, other):
                return f"{name} differs at step {step}"
        if now[0][2] or now[0][3] or budget.slow:
            break
        action = act(copies[0].mask)
        now = [copy.step(action) for copy in copies]
        budget.played += 1
    return None


def random_action(space: Space, rng: np.random.Generator, mask: np.ndarray | None) -> Any:
    """An action as agents play it, of those that a mask [A] allows; normal where it has no bounds."""
    share = rng.random(space.shape)
    if isinstance(space, Box):
        low, high = (np.reshape(bound, space.shape) for bound in (space.low, space.high))
        bounded = np.isfinite(low) & np.isfinite(high)
        low, high = (np.where(bounded, bound, 0.0) for bound in (low, high))
        values = np.where(bounded, low * (1 - share) + high * share, rng.standard_normal(space.shape))
        return space.write(values)
    sizes = np.reshape(space.choices, space.shape)
    drawn = (share * sizes).astype(np.int64)
    if mask is not None:
        parts = map(np.flatnonzero, np.split(mask, np.cumsum(space.choices)[:-1]))
        drawn = np.reshape(
            [part[int(u * len(part))] for part, u in zip(parts, np.ravel(share), strict=True)], space.shape
        )
    action = space.write(drawn)
    return action[()] if isinstance(space, Discrete) else action
