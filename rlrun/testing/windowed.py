"""What a windowed environment promises (`rlrun.envs.windowed`): its window, its account, no look ahead."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rlrun.config import ConfigError
from rlrun.config.catalog import import_modules
from rlrun.data.table import DataSpec
from rlrun.envs.windowed import DatedEnv, Rows, instants, registered
from rlrun.testing.poison import head, length, nan, others, poisoned
from rlrun.testing.rules import WINDOWED, require

if TYPE_CHECKING:
    import gymnasium

STEPS, WARM = 12, 3
MOST = 1000  # steps until an episode of its own should have ended


class Seen(NamedTuple):
    """One step, or a beginning."""

    obs: Any
    reward: float
    terminated: bool
    truncated: bool
    info: dict[str, Any]


@dataclass(frozen=True)
class WindowedSubject:
    """A maker of windowed environments from a table, and a table; or an id, whose `rows` are replaced."""

    make_from: Any
    table: Any = None
    name: str = field(default="")

    def __str__(self) -> str:
        return self.name or getattr(self.make_from, "__name__", repr(self.make_from))

    def make(self, table: Any = None) -> gymnasium.Env:
        """One environment, over the table or another one."""
        table = self.clean if table is None else table
        if callable(self.make_from):
            return self.make_from(table)
        env = registered(self.make_from)
        if isinstance(env, DatedEnv):
            env.episodes = table
        elif table is not self.clean:
            env.rows = Rows(table)
        return env

    @cached_property
    def clean(self) -> Any:
        if self.table is not None:
            return self.table
        env = registered(self.make_from)
        require(
            hasattr(env, "rows"), "it reads no `Rows`, whose table could be replaced: give a maker and table="
        )
        return env.episodes if isinstance(env, DatedEnv) else env.rows.table

    @cached_property
    def spec(self) -> DataSpec:
        spec = getattr(self.make(), "data_spec", None)
        require(isinstance(spec, DataSpec), "it has no data_spec, an rlrun.envs.windowed.DataSpec")
        assert isinstance(spec, DataSpec)
        return spec

    @cached_property
    def windows(self) -> list[tuple[int, int]]:
        """Two of as many steps, apart from one another, in rows of the index."""
        rows, lookback = len(self.spec.index), self.spec.lookback
        if self.spec.episodes:
            require(rows > 3, f"{rows} episodes are too few to look at: 4 or more will do")
            return [(rows // 3, rows // 3 + 1), (2 * rows // 3, 2 * rows // 3 + 1)]
        first = lookback + WARM + (rows - lookback) // 4
        second = lookback + WARM + (rows - lookback) // 2
        require(second + 2 * STEPS < rows, f"{rows} rows are too few to look at: 100 or more will do")
        return [(first, first + STEPS + 1), (second, second + STEPS + 1)]

    @property
    def warmup(self) -> int:
        """Rows to show before a window, where that can be."""
        return WARM if self.spec.warmup else 0

    def actions(self, env: gymnasium.Env, count: int = STEPS + WARM, seed: int = 5) -> list[Any]:
        """Random ones, the same at every call."""
        env.action_space.seed(seed)
        return [env.action_space.sample() for _ in range(count)]

    def harmless(self, env: gymnasium.Env, window: tuple[int, int], warmup: int) -> list[Any] | None:
        """Actions that leave everything as it is, where random ones lead to ruin; None: random ones."""
        ruined, noop = self.play(env, window, warmup)[-1].terminated, getattr(env, "noop", None)
        return [noop] * (window[1] - window[0] + warmup) if ruined and noop is not None else None

    def play(
        self, env: gymnasium.Env, window: tuple[int, int], warmup: int = 0, actions: list[Any] | None = None
    ) -> list[Seen]:
        """An episode in a window, to its end or one step beyond where that should be."""
        obs, info = env.reset(seed=3, options={"window": window, "warmup": warmup})
        seen = [Seen(np.array(obs), 0.0, False, False, dict(info))]
        most = MOST if self.spec.episodes else window[1] - window[0] + warmup
        for action in actions or self.actions(env, most):
            obs, reward, terminated, truncated, info = env.step(action)
            seen.append(Seen(np.array(obs), float(reward), bool(terminated), bool(truncated), dict(info)))
            if terminated or truncated:
                break
        return seen

    def without(self, rows: slice) -> list[gymnasium.Env]:
        """Copies over tables with garbage in `rows`, of the same kind and NaN."""
        made = [self.make(poisoned(self.clean, rows, others(seed))) for seed in range(3)]
        with suppress(Exception):  # it may refuse a table with NaN
            made.append(self.make(poisoned(self.clean, rows, nan)))
        return made


def _same(one: list[Seen], other: list[Seen], what: str) -> None:
    require(
        len(one) == len(other), f"{what}: an episode has {len(other) - 1} steps instead of {len(one) - 1}"
    )
    for t, (a, b) in enumerate(zip(one, other, strict=True)):
        for name in ("obs", "reward", "terminated", "truncated"):
            require(
                np.array_equal(getattr(a, name), getattr(b, name), equal_nan=True),
                f"{what}: {name} differs at step {t}",
            )
        one_score, other_score = (float(each.info.get("score", 0.0)) for each in (a, b))
        same = np.array_equal(one_score, other_score, equal_nan=True)
        require(same, f"{what}: score differs at step {t}")


def _differs(one: list[Seen], other: list[Seen]) -> bool:
    try:
        _same(one, other, "")
    except AssertionError:
        return True
    return False


@WINDOWED.of(20)
def the_index_is_as_long_as_the_table(subject: WindowedSubject) -> None:
    try:
        index = instants(subject.spec.index)
    except ConfigError as error:
        raise AssertionError(str(error)) from None
    require((index[1:] > index[:-1]).all(), "its index does not increase strictly, row by row")
    rows = length(subject.clean)
    require(len(index) == rows, f"its index has {len(index)} rows, its table {rows}")


@WINDOWED.of(20)
def a_window_has_as_many_steps_as_it_says(subject: WindowedSubject) -> None:
    env = subject.make()
    for window in subject.windows if not subject.spec.episodes else ():
        for warmup in {0, subject.warmup}:
            seen = subject.play(env, window, warmup, subject.harmless(env, window, warmup))
            steps, wanted = len(seen) - 1, window[1] - window[0] - 1 + warmup
            end = "goes on beyond its last row" if steps > wanted else "is over"
            require(
                steps == wanted,
                f"window {window} with a warm-up of {warmup} has {wanted} steps, and it {end} after {steps}",
            )
    mixed = subject.make(poisoned(subject.clean, slice(None), others(0)))  # no season makes them the same
    one, other = (subject.play(mixed, window) for window in subject.windows)
    require(_differs(one, other), "two windows show the same: does it look at options['window']?")


@WINDOWED.of(20)
def the_last_row_truncates(subject: WindowedSubject) -> None:
    env = subject.make()
    if subject.spec.episodes:
        last = subject.play(env, subject.windows[0])[-1]
        require(last.terminated or last.truncated, f"an episode goes on after {MOST} steps")
        return
    last = subject.play(env, subject.windows[0], 0, subject.harmless(env, subject.windows[0], 0))[-1]
    words = "the end of a window is no end of the task"
    require(not last.terminated, f"the last row is terminated, and not truncated: {words}")
    require(last.truncated, f"the last row is not truncated: {words}, but of the episode")


@WINDOWED.of(21)
def the_score_is_that_of_the_account(subject: WindowedSubject) -> None:
    env = subject.make()
    for window in subject.windows:
        steps = subject.play(env, window)[1:]
        for t, step in enumerate(steps):
            require("score" in step.info, f"info has no score at step {t + 1}")
            require(np.isfinite(step.info["score"]), f"info['score'] is {step.info['score']} at step {t + 1}")
            for name in (*getattr(env, "recorded", ()),):
                require(name in step.info, f"info has no {name} at step {t + 1}, which `recorded` names")
        _check_account(steps)


def _check_account(steps: list[Seen]) -> None:
    """Money adds up, and the score is the change of equity, its log growth, or the reward."""
    rows = {name: np.array([s.info[name] for s in steps], float) for name in _MONEY if name in steps[0].info}
    score = rows["score"]
    if {"gross", "cost", "pnl"} <= rows.keys():
        off = np.abs(rows["gross"] - rows["cost"] - rows["pnl"]).max()
        require(
            off <= 1e-9 * max(np.abs(rows["gross"]).max(), 1.0), f"gross - cost is not pnl: {off:.3g} apart"
        )
    if "equity" in rows:
        change, growth = np.diff(rows["equity"]), np.diff(np.log(np.maximum(rows["equity"], 1e-300)))
        if "pnl" in rows:
            off = np.abs(change - rows["pnl"][1:]).max()
            scale = np.abs(rows["equity"]).max()
            require(off <= 1e-9 * scale, f"pnl is not the change of equity: {off:.3g} apart")
        fits = _proportional(score[1:], change) or np.allclose(score[1:], growth, rtol=1e-9, atol=1e-12)
        require(fits, "the score is neither the change of equity, up to a factor, nor its log growth")
    elif "pnl" in rows:
        require(_proportional(score, rows["pnl"]), "the score is not pnl, up to a factor")


_MONEY = ("score", "pnl", "gross", "cost", "equity")


def _proportional(one: np.ndarray, other: np.ndarray) -> bool:
    size = float(other @ other)
    if size == 0.0:
        return not one.any()
    factor = float(one @ other) / size
    return factor > 0 and np.allclose(one, factor * other, rtol=1e-9, atol=1e-9 * np.abs(one).max())


@WINDOWED.of(22)
def what_comes_later_is_not_read(subject: WindowedSubject) -> None:
    """A table that ends with the window, and those with garbage after it, show and score the same."""
    for window in subject.windows:
        expected = subject.play(subject.make(), window, subject.warmup)
        if callable(subject.make_from):
            short = subject.make(head(subject.clean, window[1]))
            _same(expected, subject.play(short, window, subject.warmup), "with a table that ends there")
        for env in subject.without(slice(window[1], None)):
            _same(expected, subject.play(env, window, subject.warmup), "with other rows after the window")


@WINDOWED.of(22)
def what_was_long_before_is_not_read(subject: WindowedSubject) -> None:
    """Garbage before the rows of lookback and warm-up changes nothing; in the window itself it does."""
    for window in subject.windows:
        expected = subject.play(subject.make(), window, subject.warmup)
        for env in subject.without(slice(0, window[0] - subject.warmup - subject.spec.lookback)):
            _same(expected, subject.play(env, window, subject.warmup), "with other rows long before it")
        first = window[0] + (not subject.spec.episodes)
        changed = subject.play(subject.without(slice(first, window[1]))[0], window, subject.warmup)
        require(_differs(expected, changed), "other rows in the window change nothing: what is it made of?")


@WINDOWED.of(23, lambda subject: subject.spec.warmup)
def a_warm_up_only_shows(subject: WindowedSubject) -> None:
    env = subject.make()
    for window in subject.windows:
        actions = subject.actions(env, STEPS + WARM)
        seen = subject.play(env, window, WARM, actions)
        for t, step in enumerate(seen[1 : WARM + 1], 1):
            nothing = step.reward == 0.0 and step.info.get("score") == 0.0
            require(nothing, f"step {t} of {WARM} of a warm-up has a reward or a score")
        plain = subject.play(env, window, 0, actions[WARM:])
        _same(plain[1:], seen[WARM + 1 :], "after a warm-up, and without one")
        others = subject.play(env, window, WARM, [*reversed(actions[:WARM]), *actions[WARM:]])
        _same(seen, others, "with other actions in the warm-up")


@WINDOWED.of(24)
def a_window_is_played_the_same_again(subject: WindowedSubject) -> None:
    env = subject.make()
    first = subject.play(env, subject.windows[0])
    for seed in range(5):
        subject.play(env, subject.windows[1], 0, subject.actions(env, seed=seed))
        _same(first, subject.play(env, subject.windows[0]), "the same window after another one")
    _same(first, subject.play(subject.make(), subject.windows[0]), "the same window in another copy")


def windowed_checks(env: str | Callable[[Any], gymnasium.Env], table: Any, rules: Any) -> Any:
    """The checks, by name, of a maker and a table, or of a registered id."""
    if not callable(env):
        module, _, name = env.rpartition(":")
        if module:
            import_modules([module], "env")
        return WINDOWED.ready(WindowedSubject(name, table, env), rules)
    return WINDOWED.ready(WindowedSubject(env, table), rules)
