"""A trial of a Gymnasium environment before a run: does it keep its promises, and can a run be resumed?

A state is restored by playing an episode's actions again. That is exact where an episode is a
function of its seed and its actions, whatever was played before.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import gymnasium
import numpy as np

from rlrun.boundary import Check, Misfit, fault
from rlrun.config import ConfigError
from rlrun.envs.abilities import Trial

EARLIER = 1000  # steps of other episodes, each to its end where that is near: what they leave behind shows
COMPARED = 1000  # steps played twice
SECONDS = 2.0  # then a slow environment has been tried enough; it is said how far that went


class _Copy:
    """One copy of an environment, which plays seeded episodes and is looked at meanwhile."""

    def __init__(self, name: str, env: gymnasium.Env, check: Check) -> None:
        self.env, self._name, self._check = env, name, check
        self.remark = ""

    def reset(self, seed: int) -> tuple[Any, ...]:
        """Observation, reward, terminated, truncated."""
        self._seed, self._step = seed, 0
        return self._held(lambda: (self._check.reset(self.env.reset(seed=seed)), 0.0, False, False))

    def step(self, action: Any) -> tuple[Any, ...]:
        self._step += 1
        return self._held(lambda: self._check.step(self.env.step(action)))

    def _held(self, returned: Callable[[], tuple[Any, ...]]) -> tuple[Any, ...]:
        try:
            obs, *rest = returned()
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


def trial(name: str, make: Callable[[], gymnasium.Env], check: Check, actions: gymnasium.Space) -> Trial:
    """Two fresh copies play the same episodes side by side, one of them after others.

    Raises:
        ConfigError: the environment fails, or returns what is not in its spaces.
    """
    actions.seed(0)
    used, fresh = (_Copy(name, make(), check) for _ in range(2))
    until = time.monotonic() + SECONDS
    try:
        _play((used,), actions, EARLIER, until, episodes=2)
        differs, compared = _play((used, fresh), actions, COMPARED, until, first_seed=10_000)
    finally:
        used.close()
        fresh.close()
    remarks = [used.remark or fresh.remark] if used.remark or fresh.remark else []
    if not differs and compared < COMPARED:
        remarks.append(
            f"{name}: its steps are slow, so that only {compared} were played twice to compare them"
        )
    return Trial(differs and f"{name}: {differs} of the same episode played twice", tuple(remarks))


def _play(
    copies: tuple[_Copy, ...],
    actions: gymnasium.Space,
    steps: int,
    until: float,
    *,
    episodes: int = 1,
    first_seed: int = 1,
) -> tuple[str | None, int]:
    """Episodes for so many steps, and the first few to their ends if these come within three times as
    many: what differs between the copies, and steps played."""
    played = ended = 0
    while played < steps or ended < episodes:
        now = [copy.reset(first_seed + ended) for copy in copies]
        step = 0
        while True:
            for name, one, other in zip(
                ("obs", "reward", "terminated", "truncated"), now[0], now[-1], strict=True
            ):
                if not np.array_equal(one, other):
                    return f"{name} differs at step {step}", played
            if now[0][2] or now[0][3]:
                break
            if played >= (steps if ended >= episodes else 3 * steps) or time.monotonic() > until:
                return None, played
            action = actions.sample()
            now = [copy.step(action) for copy in copies]
            step, played = step + 1, played + 1
        ended += 1
    return None, played
