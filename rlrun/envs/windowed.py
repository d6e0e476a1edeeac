"""Environments of one's own under walk-forward: what they declare, and tools to write them with.

A `gymnasium.Env` is *windowed* if it has the attribute `data_spec`, a `DataSpec` with its index: the
times (or integers) of its rows, strictly increasing. Registered with Gymnasium, it is trained on
by `env=gym env.id=module:Name-v0 eval=walk_forward`. It promises:

- `reset(options={"window": (a, b), "warmup": w})`: it acts at rows a to b - 2, and shows row b - 1 last:
  b - a - 1 steps. Nothing at b or after is read; `lookback` rows, and w more, before a may be. With w > 0
  the first row shown is a - w; its first w steps show rows, while nothing is done, with reward and score 0.
  Without options it plays all of its rows.
- `info["score"]` of every step: additive over steps, in units of its own, such as money or log growth.
- the last row ends an episode as `truncated`; `terminated` is for what ends it before, such as ruin.

It may have, besides: `recorded`, names of further numbers in its info, such as equity or position, which are
kept of every step of a test; `baselines`, policies to compare with, {name: function of (env, obs)}, where obs
is what agents see, and the action what the env takes; `noop`, an action that leaves everything as it is.

`Rows` is a view of a table that raises where something outside of the window is read; `sliced` makes a
windowed env of one whose constructor takes a slice of a table, and `dated` one of whole episodes with a
date each. `rlrun.testing.check_env(make, windowed=True, table=table)` says which promise is broken.

A vector env of one's own, by `@register("env", ...)`, is judged the same way: its config says
`time_indexed = True`, and its `Abilities` have `data_spec`, `baselines`, and "score" among `metrics` and
`recorded`.

    class Trade(gymnasium.Env):
        observation_space, action_space = Box(-np.inf, np.inf, (2,)), Discrete(3)
        recorded = ("pnl", "position")

        def __init__(self, prices, times):
            self.rows = Rows(prices)
            self.data_spec = DataSpec(times, lookback=1)

        def reset(self, *, seed=None, options=None):
            options = options or {"window": (1, len(self.rows))}
            self.t = self.rows.open(**options, lookback=1)      # the first row to show
            ...
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np

from rlrun.config import ConfigError
from rlrun.data.content import content
from rlrun.data.table import DataSpec as DataSpec
from rlrun.data.table import Series
from rlrun.data.times import Bad, read_times

__all__ = ["DataSpec", "DatedEnv", "Rows", "SlicedEnv", "dated", "instants", "registered", "sliced"]


_KEPT = 4  # envs over slices: those of a fold's validation and test, and of the training in between


class Rows:
    """A table [rows, ...] (NumPy, pandas, an rlrun `Series`) of which an episode sees its window alone."""

    def __init__(self, table: Any) -> None:
        table = table.values if isinstance(table, Series) else table
        if isinstance(table, np.ndarray):
            table = table.view()
            table.flags.writeable = False
        self.table = table
        self.first, self.end = 0, len(table)  # rows that may be read: [first, end)
        self.start = 0  # the first row that is acted at

    def __len__(self) -> int:
        return len(self.table)

    def open(self, window: tuple[int, int], warmup: int = 0, lookback: int = 0) -> int:
        """Let rows [a - warmup - lookback, b) of a window (a, b) be read; returns a - warmup.

        Raises:
            ValueError: the window has no step, or lies outside the table.
        """
        first, end = (int(row) for row in window)
        if not (first - warmup - lookback >= 0 and first + 1 < end <= len(self) and warmup >= 0):
            raise ValueError(
                f"the window ({first}, {end}) with {warmup} rows of warm-up and {lookback} of lookback "
                f"has no step, or lies outside the {len(self)} rows"
            )
        self.first, self.end, self.start = first - warmup - lookback, end, first
        return first - warmup

    def __getitem__(self, key: int | slice) -> Any:
        """A row, or rows [i, j); IndexError for one outside of what `open` has opened."""
        low, high = (key.start, key.stop) if isinstance(key, slice) else (key, key + 1)
        if low is None or high is None or not self.first <= low <= high <= self.end:
            what = f"rows {low} to {high}" if isinstance(key, slice) else f"row {key}"
            raise IndexError(f"{what} was about to be read: the window has [{self.first}, {self.end})")
        return _take(self.table, key)

    def last(self, count: int, at: int) -> Any:
        """The `count` rows that end with row `at`."""
        return self[at - count + 1 : at + 1]

    def digest(self) -> bytes:
        """What tells one table from another."""
        return content(self.table)


def instants(index: Any) -> np.ndarray:
    """Times or numbers of rows, as one has them, as int64 or datetime64[ns], in UTC where they have a zone.

    Raises:
        ConfigError: a row's is neither.
    """
    found = np.asarray(index)
    if found.dtype.kind in "OU":  # dates, pandas' time stamps with a zone, or texts
        texts = [each.isoformat() if hasattr(each, "isoformat") else str(each) for each in found.tolist()]
        try:
            found = read_times(np.array([text.encode() for text in texts]))
        except Bad as error:
            row = error.rows[0]
            raise ConfigError(f"row {row} of the index is {texts[row]}: it {error}", error.hint) from None
    if found.ndim != 1 or found.dtype.kind not in "iuM":
        what = f"{found.dtype} {list(found.shape)}"
        raise ConfigError(f"the index is {what}: it must be dates or integers, one a row")
    return found.astype("datetime64[ns]" if found.dtype.kind == "M" else np.int64)


def registered(env_id: str) -> Any:
    """A registered environment, without Gymnasium's wrappers."""
    return gymnasium.make(env_id, disable_env_checker=True).unwrapped


def _take(table: Any, key: int | slice) -> Any:
    return table.iloc[key] if hasattr(table, "iloc") else table[key]


class SlicedEnv(gymnasium.Env[Any, Any]):
    """A windowed env of one that is built over a slice of a table; see `sliced`."""

    def __init__(
        self,
        table: Any,
        make: Callable[[Any], gymnasium.Env[Any, Any]],
        spec: DataSpec,
        *,
        noop: Any,
        score: Callable[[float, Mapping[str, Any]], float] | None,
        ruined: Callable[[float, Mapping[str, Any]], bool] | None,
        baselines: Mapping[str, Callable[[Any, Any], Any]],
        recorded: Sequence[str],
    ) -> None:
        self.rows, self._make, self.data_spec, self.noop = Rows(table), make, spec, noop
        self._score, self.baselines, self.recorded = score, dict(baselines), tuple(recorded)
        self._ruined = ruined or (lambda reward, info: bool(info.get("ruined", False)))
        self._kept: dict[tuple[int, int], gymnasium.Env[Any, Any]] = {}
        self.inner = self._over(0, min(len(self.rows), spec.lookback + 2))
        self.observation_space, self.action_space = self.inner.observation_space, self.inner.action_space
        self.metadata = self.inner.metadata

    def _over(self, first: int, end: int) -> gymnasium.Env[Any, Any]:
        """The env over rows [first, end); those last played are kept, as a window may be played often."""
        env = self._kept.pop((first, end), None)
        if env is None:
            while len(self._kept) >= _KEPT:
                self._kept.pop(next(iter(self._kept))).close()
            env = self._make(_take(self.rows.table, slice(first, end)))
        self._kept[first, end] = env
        return env

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin with the window of the options, or with all rows."""
        super().reset(seed=seed)
        lookback = self.data_spec.lookback
        options = options or {}
        self._first, self._end = options.get("window", (lookback, len(self.rows)))
        self._t = self.rows.open((self._first, self._end), options.get("warmup", 0), lookback)
        self._seed = seed
        if self._t == self._first:
            return self._act()
        if self.noop is None:
            raise ValueError("rows can only be shown before a window with an action that does nothing: noop=")
        self.inner = self._over(self._t - lookback, self._first + 1)
        return self.inner.reset(seed=seed)

    def _act(self) -> tuple[Any, dict[str, Any]]:
        """The env of the window itself begins."""
        self.inner = self._over(self._first - self.data_spec.lookback, self._end)
        return self.inner.reset(seed=self._seed)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One row further; during a warm-up nothing is done."""
        warm = self._t < self._first
        self._t += 1
        if warm and self._t == self._first:
            obs, info = self._act()
            return obs, 0.0, False, False, self._nothing(info)
        obs, reward, terminated, truncated, info = self.inner.step(self.noop if warm else action)
        if warm:
            return obs, 0.0, False, False, self._nothing(info)
        score = float(info.get("score", reward) if self._score is None else self._score(float(reward), info))
        last, ruined = self._t == self._end - 1, bool(self._ruined(float(reward), info))
        if truncated and not last:
            raise ValueError(
                f"the env over a slice ended {self._end - 1 - self._t} rows before the slice's last one: "
                "is `lookback` the number of rows that it needs before its first observation?"
            )
        ends = (terminated or truncated) and not last
        return obs, float(reward), ruined or ends, last and not ruined, {**info, "score": score}

    def _nothing(self, info: Mapping[str, Any]) -> dict[str, Any]:
        return {**info, **dict.fromkeys(self.recorded, 0.0), "score": 0.0}

    def render(self) -> Any:
        return self.inner.render()

    def close(self) -> None:
        for env in self._kept.values():
            env.close()


def sliced(
    table: Any,
    make: Callable[[Any], gymnasium.Env[Any, Any]],
    *,
    index: Any = None,
    lookback: int = 0,
    delay: int = 1,
    noop: Any = None,
    score: Callable[[float, Mapping[str, Any]], float] | None = None,
    ruined: Callable[[float, Mapping[str, Any]], bool] | None = None,
    baselines: Mapping[str, Callable[[Any, Any], Any]] | None = None,
    recorded: Sequence[str] = (),
    periods_per_year: float | None = None,
) -> SlicedEnv:
    """A windowed env of `make(rows of the table)`, an env that plays all the rows it is given.

    Args:
        table: rows in time order: a pandas frame, a NumPy array [rows, ...], a rlrun `Series`.
        index: the time of every row, dates or integers; by default the frame's or the Series', or 0, 1, ...
        lookback: how many rows `make`'s env needs before the one of its first observation.
        delay: rows from a decision to its effect, kept free between training and tests.
        noop: an action that leaves everything as it is; agents with memory are shown rows by it before
            a test. Without it they begin a test without memory.
        score: the score of a step from (reward, info); by default info["score"], or else the reward.
        ruined: whether a step ended in ruin, from the same; by default info["ruined"], if it is there.
        baselines: policies to compare with: {name: function of (env, obs)}.
        recorded: names of further numbers in info that are kept of every step of a test.

    The end that such an env makes at its last row is one of the data, and becomes `truncated`; an
    end before it, or ruin, is `terminated`.
    """
    if index is None:
        index = table.index if isinstance(table, Series) or hasattr(table, "iloc") else np.arange(len(table))
    spec = DataSpec(instants(index), (), lookback, 0, delay, periods_per_year, warmup=noop is not None)
    rows = table.values if isinstance(table, Series) else table
    return SlicedEnv(
        rows,
        make,
        spec,
        noop=noop,
        score=score,
        ruined=ruined,
        baselines=baselines or {},
        recorded=recorded,
    )


class DatedEnv(gymnasium.Env[Any, Any]):
    """Episodes with a date each, as the rows of a windowed env; see `dated`."""

    def __init__(
        self,
        episodes: Sequence[tuple[Any, Any]],
        make: Callable[[Any], gymnasium.Env[Any, Any]],
        *,
        noop: Any,
        score: Callable[[float, Mapping[str, Any]], float] | None,
        baselines: Mapping[str, Callable[[Any, Any], Any]],
        recorded: Sequence[str],
    ) -> None:
        self.episodes, self._make, self._score = list(episodes), make, score
        index = instants([date for date, _ in episodes])
        self.data_spec = DataSpec(index, delay=0, warmup=False, episodes=True)
        self.noop, self.baselines, self.recorded = noop, dict(baselines), tuple(recorded)
        self.rows = self  # which has a digest
        self._data = self.episodes[0][1]  # of the episode that `inner` plays
        self.inner = make(self._data)
        self.observation_space, self.action_space = self.inner.observation_space, self.inner.action_space
        self.metadata = self.inner.metadata

    def digest(self) -> bytes:
        """What tells other data."""
        return content(self.episodes)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin the episode of the window's first row, or any one."""
        super().reset(seed=seed)
        at = int(options["window"][0]) if options else int(self.np_random.integers(len(self.episodes)))
        if self.episodes[at][1] is not self._data:
            self.inner.close()
            self._data = self.episodes[at][1]
            self.inner = self._make(self._data)
        return self.inner.reset(seed=seed)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.inner.step(action)
        score = float(info.get("score", reward) if self._score is None else self._score(float(reward), info))
        return obs, float(reward), terminated, truncated, {**info, "score": score}

    def render(self) -> Any:
        return self.inner.render()

    def close(self) -> None:
        self.inner.close()


def dated(
    episodes: Sequence[tuple[Any, Any]],
    make: Callable[[Any], gymnasium.Env[Any, Any]],
    *,
    noop: Any = None,
    score: Callable[[float, Mapping[str, Any]], float] | None = None,
    baselines: Mapping[str, Callable[[Any, Any], Any]] | None = None,
    recorded: Sequence[str] = (),
) -> DatedEnv:
    """A windowed env of whole episodes, such as one a day: folds are then of episodes.

    `episodes` are pairs of a date (or an integer), strictly increasing, and data; `make(data)` is the env of
    one, which ends as it likes. Training begins any of the fit window's episodes; validation and test
    play each of theirs once, in order, with a memory that is cleared. The others are as of `sliced`.
    """
    return DatedEnv(episodes, make, noop=noop, score=score, baselines=baselines or {}, recorded=recorded)
