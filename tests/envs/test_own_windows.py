"""Users' own environments under walk-forward: the two examples, and what is wrong with broken ones."""

from __future__ import annotations

import copy
import csv
import gzip
import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box
from support import Trial, assert_same_bits, final_state

from rlrun import envs
from rlrun.api import train
from rlrun.config import ConfigError
from rlrun.config.compose import compose
from rlrun.config.keys import EnvError
from rlrun.data.table import Series
from rlrun.data.times import label
from rlrun.envs.vector.gym import GymVectorEnv
from rlrun.envs.windowed import DataSpec, Rows, dated, sliced
from rlrun.registry import register
from rlrun.runs.checkpoint import numbers
from rlrun.runs.run import resume
from rlrun.runs.task import Task
from rlrun.state import select
from rlrun.testing import RuleError, check_env

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
import windowed_inventory as shop
import windowed_portfolio as market

TABLES: dict[str, Callable[[], np.ndarray]] = {"Shop-v0": shop.demand, "Portfolio-v0": market.prices}
MAKERS: dict[str, Callable[[Any], gymnasium.Env]] = {"Shop-v0": shop.make, "Portfolio-v0": market.Portfolio}
DAYS = np.datetime64("2024-01-01") + np.arange(160)
AGENTS = {
    "dqn": ["algo=dqn", "model.hidden=[8]", "algo.learning_starts=20", "algo.batch_size=8"],
    "ppo": ["algo=ppo", "model.hidden=[8]", "algo.rollout_steps=16", "algo.n_minibatches=2"],
    "lstm_ppo": ["algo=lstm_ppo", "model.hidden_size=8", "algo.rollout_steps=16", "algo.n_minibatches=2"],
}


def config(agent: str, env_id: str, *more: str) -> Any:
    words = ["env=gym", f"env.id={env_id}", "eval=walk_forward", "eval.n_folds=3", "replicas=2", "num_envs=2"]
    words += ["log.tensorboard=false", "log.plot=false", "total_steps=400", "eval.stats.n_boot=100"]
    return compose([*AGENTS[agent], *words, *more])


@pytest.mark.parametrize("env_id", TABLES)
def test_the_examples_keep_the_promises(env_id: str) -> None:
    check_env(MAKERS[env_id], windowed=True, table=TABLES[env_id]())
    check_env(env_id, windowed=True)
    check_env(env_id)  # and the rules of every environment
    check_env(lambda table: market.Portfolio(table, discrete=False), windowed=True, table=market.prices())


@pytest.mark.parametrize("env_id", TABLES)
@pytest.mark.parametrize("agent", AGENTS)
def test_the_examples_are_judged_walk_forward(agent: str, env_id: str, tmp_path: Path) -> None:
    result = train(config(agent, env_id, f"out={tmp_path}"))
    plan = json.loads((result.folder / "folds.json").read_text())
    report = json.loads((result.folder / "report.json").read_text())
    names = (
        ["order_last_week", "noop", "random"] if env_id == "Shop-v0" else ["half_and_half", "noop", "random"]
    )
    assert plan["baselines"] == names and report["baseline"] == names[0]
    for fold in report["folds"]:
        begin, end = plan["folds"][fold["fold"]]["test"]
        assert fold["steps"] == end - begin - (fold["fold"] == 2)
    if env_id == "Portfolio-v0":
        assert report["folds"][0]["baselines"]["noop"] == 0.0
    assert "Out-of-sample" not in (result.folder / "report.md").read_text() or report["conclusion"]


def poisoned(env_id: str, begin: int) -> np.ndarray:
    """The table with other rows from `begin` on."""
    table = TABLES[env_id]()
    table[begin:] = table[begin:][::-1] * 1.5
    return table


@pytest.mark.parametrize("env_id", TABLES)
@pytest.mark.parametrize("agent", AGENTS)
def test_what_follows_the_fit_rows_does_not_reach_training(
    agent: str, env_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = Task.of(config(agent, env_id)).evaluation.split  # type: ignore[attr-defined]
    end = split.folds[1].fit[1] + split.lookback
    states = []
    for table in (TABLES[env_id](), poisoned(env_id, end)):
        made = MAKERS[env_id]
        monkeypatch.setitem(gymnasium.registry, env_id, gymnasium.envs.registration.EnvSpec(
            env_id, entry_point=lambda made=made, table=table: made(table)
        ))  # fmt: skip
        trial = Trial.of(config(agent, env_id, "total_steps=3000"))
        trial.train(900 // trial.algo.rollout_steps)  # through the longest window
        states.append(trial.algo.state())
    for replica in (2, 3):
        assert_same_bits(select(states[0], replica), select(states[1], replica))
    with pytest.raises(AssertionError):  # the control: the next fold did see it
        assert_same_bits(select(states[0], 4), select(states[1], 4))


def test_a_run_is_resumed_in_the_midst_of_a_window(tmp_path: Path) -> None:
    common = ["checkpoint.every_steps=100"]
    whole = train(config("lstm_ppo", "Shop-v0", f"out={tmp_path}", *common))
    expected = final_state(whole.folder)
    newest = max(numbers(whole.folder / "ckpt"))
    (whole.folder / "summary.json").unlink()
    (whole.folder / "status.json").unlink()
    for file in (whole.folder / "ckpt" / f"{newest:08}").iterdir():
        file.unlink()
    (whole.folder / "ckpt" / f"{newest:08}").rmdir()
    again = resume(whole.folder)
    assert_same_bits(expected, final_state(again.folder))


class Plain(gymnasium.Env):
    """Sums the newest row; the parts of it that a test may break."""

    observation_space, action_space = Box(-np.inf, np.inf, (2,)), gymnasium.spaces.Discrete(2)
    noop, recorded = 0, ("equity", "pnl")

    def __init__(self, table: np.ndarray) -> None:
        self.rows = Rows(table)
        self.data_spec = DataSpec(self.index(table), lookback=1)
        self.position = 0.0

    def index(self, table: np.ndarray) -> np.ndarray:
        return np.arange(len(table))

    def window(self, options: Any) -> Any:
        return options or {"window": (1, len(self.rows))}

    def begin(self) -> None:
        self.position, self.equity = 0.0, 100.0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.row = self.rows.open(**self.window(options), lookback=1)
        self.begin()
        return self.seen(), {}

    def value(self, row: int) -> float:
        return float(self.rows[row])

    def seen(self) -> np.ndarray:
        return np.array([self.value(self.row), self.position], np.float32)

    def acts(self) -> bool:
        return bool(self.row >= self.rows.start)

    def over(self) -> tuple[bool, bool]:
        return False, self.row == self.rows.end - 1

    def score(self, pnl: float) -> float:
        return pnl / 10

    def step(self, action: Any) -> Any:
        acts = self.acts()
        self.row += 1
        pnl = self.position * (float(self.rows[self.row]) - float(self.rows[self.row - 1]))
        self.equity += pnl
        self.position = float(action) if acts else 0.0
        return self.seen(), pnl, *self.over(), {"score": self.score(pnl), "pnl": pnl, "equity": self.equity}


class ReadsAhead(Plain):
    def value(self, row: int) -> float:
        return float(self.rows.table[min(row + 1, len(self.rows) - 1)])


class Terminates(Plain):
    def over(self) -> tuple[bool, bool]:
        return self.row == self.rows.end - 1, False


class OtherScore(Plain):
    def score(self, pnl: float) -> float:
        return pnl + 0.01


class IgnoresTheWindow(Plain):
    def window(self, options: Any) -> Any:
        return {"window": (20, 33)}


class NormalisesOverAll(Plain):
    def value(self, row: int) -> float:
        table = self.rows.table
        return float((table[row] - table.mean()) / table.std())


class TradesInTheWarmUp(Plain):
    def acts(self) -> bool:
        return True


class Remembers(Plain):
    def begin(self) -> None:
        self.equity = 100.0


class Unsorted(Plain):
    def index(self, table: np.ndarray) -> np.ndarray:
        return np.roll(np.arange(len(table)), 1)


class OneTooFew(Plain):
    def over(self) -> tuple[bool, bool]:
        return False, self.row == self.rows.end - 2


class NoScore(Plain):
    def score(self, pnl: float) -> float:
        return float("nan")


class NeverEnds(Plain):
    def over(self) -> tuple[bool, bool]:
        return False, False


class LooksLongBack(Plain):
    def value(self, row: int) -> float:
        return float(self.rows.table[: row + 1].sum())


class ScoresOneRowMore(Plain):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        low, high = self.window(options)["window"]
        more = {**(options or {}), "window": (low, min(high + 1, len(self.rows)))}
        return super().reset(seed=seed, options=more)


class LooksAtTheLastSign(Plain):
    def value(self, row: int) -> float:
        return float(self.rows[row]) * (1.0 if self.rows.table[-1] > -1e9 else 2.0)


class CountsTheTable(Plain):
    def value(self, row: int) -> float:
        return float(self.rows[row]) / len(self.rows)


class PaysInTheWarmUp(Plain):
    def step(self, action: Any) -> Any:
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, reward + (self.row <= self.rows.start), terminated, truncated, info


class ReportsNoEquity(Plain):
    recorded = ("equity", "stock")


BROKEN = [
    (ScoresOneRowMore, 20, "goes on beyond its last row"),
    (LooksAtTheLastSign, 22, "other rows after the window"),  # which NaN alone shows
    (CountsTheTable, 22, "a table that ends there"),
    (PaysInTheWarmUp, 23, "of a warm-up has a reward or a score"),
    (ReportsNoEquity, 21, "info has no stock at step 1, which `recorded` names"),
    (ReadsAhead, 22, "other rows after the window|a table that ends there"),
    (Terminates, 20, "the last row is terminated, and not truncated"),
    (OtherScore, 21, "the score is neither the change of equity, up to a factor, nor its log growth"),
    (IgnoresTheWindow, 20, "two windows show the same: does it look at options|has 15 steps"),
    (NormalisesOverAll, 22, "other rows after the window|a table that ends there"),
    (TradesInTheWarmUp, 23, "a warm-up"),
    (Remembers, 24, "the same window after another one: obs differs"),
    (Unsorted, 20, "its index does not increase strictly"),
    (OneTooFew, 20, "has 12 steps, and it is over after 11"),
    (NoScore, 21, "info.'score'. is nan at step 1"),
    (NeverEnds, 20, "goes on beyond its last row|was about to be read"),
    (LooksLongBack, 22, "with other rows long before it: obs differs"),
]


def walk(rows: int = 160) -> np.ndarray:
    return np.random.default_rng(0).normal(size=rows).cumsum()


def test_a_plain_one_keeps_the_promises() -> None:
    check_env(Plain, windowed=True, table=walk())


@pytest.mark.parametrize(("broken", "rule", "words"), BROKEN, ids=lambda x: getattr(x, "__name__", None))
def test_what_is_broken_is_named(broken: Any, rule: int, words: str) -> None:
    with pytest.raises(RuleError, match=words) as caught:
        check_env(broken, windowed=True, table=walk())
    assert caught.value.rule == rule and broken.__name__ in str(caught.value)


class Ruinous(Plain):
    """Ends when it loses, which random actions do soon."""

    def over(self) -> tuple[bool, bool]:
        return self.equity < 99.0, self.equity >= 99.0 and self.row == self.rows.end - 1


class RuinousAnyhow(Ruinous):
    noop = None


def test_ruin_is_no_broken_window() -> None:
    falls = 100.0 - np.arange(160.0)
    check_env(Ruinous, windowed=True, table=falls)
    with pytest.raises(RuleError, match="has 12 steps, and it is over after"):
        check_env(RuinousAnyhow, windowed=True, table=falls)


class Dear(Plain):
    """With an account in large numbers, which round."""

    recorded = ("pnl", "gross", "cost")

    def step(self, action: Any) -> Any:
        obs, reward, terminated, truncated, info = super().step(action)
        more = {"gross": 1e9 * info["pnl"] + 0.1, "cost": 0.1}
        pnl = more["gross"] - 0.1 + 1e-4
        return obs, reward, terminated, truncated, {"score": pnl, "pnl": pnl, **more}


def test_an_account_may_round() -> None:
    check_env(Dear, windowed=True, table=walk(), rules=[21])


def labelled(rows: int = 160) -> np.ndarray:
    table = np.zeros(rows, [("time", "M8[D]"), ("price", "f8"), ("busy", "?"), ("sold", "i8")])
    table["time"] = np.datetime64("2024-01-01") + np.arange(rows)
    table["price"], table["busy"] = walk(rows), np.arange(rows) % 7 == 0
    table["sold"] = np.random.default_rng(1).poisson(5, rows)
    return table


def over(name: str, whole: np.ndarray | None = None) -> Any:
    """Over a slice of a structured table, of which it sees one column; or less the mean over all of it."""
    return lambda rows: SlicedPlain(rows[name] - (0.0 if whole is None else whole[name].mean()))


@pytest.mark.parametrize("name", ["price", "busy", "sold"])
def test_the_columns_of_a_table_are_poisoned_by_their_kind(name: str) -> None:
    def make(table: np.ndarray) -> gymnasium.Env:
        return sliced(table, over(name), index=table["time"], lookback=1, noop=0)

    def looks_ahead(table: np.ndarray) -> gymnasium.Env:
        return sliced(table, over(name, table), index=table["time"], lookback=1, noop=0)

    check_env(make, windowed=True, table=labelled())
    with pytest.raises(RuleError, match=r"a table that ends there|other rows after"):
        check_env(looks_ahead, windowed=True, table=labelled())


def test_a_series_may_be_the_table() -> None:
    table = Series(DAYS.astype("M8[ns]"), ("price",), walk()[:, None])

    def make(series: Series, looks: bool = False) -> gymnasium.Env:
        mean = series.values.mean() if looks else 0.0
        return sliced(series, lambda rows: SlicedPlain(rows[:, 0] - mean), lookback=1, noop=0)

    check_env(make, windowed=True, table=table)
    assert make(table).data_spec.index[0] == np.datetime64("2024-01-01")  # type: ignore[attr-defined]
    with pytest.raises(RuleError, match="a table that ends there: obs differs"):
        check_env(lambda series: make(series, True), windowed=True, table=table)


def test_dated_episodes_are_checked_too() -> None:
    data = days(30)
    check_env(lambda episodes: dated(episodes, SlicedPlain, noop=0), windowed=True, table=data)
    gymnasium.register("Checked-v0", lambda: dated(data, SlicedPlain, noop=0))
    check_env("Checked-v0", windowed=True)

    def ahead(episodes: Any) -> gymnasium.Env:
        mean = np.concatenate([day for _, day in episodes]).mean()
        return dated(episodes, lambda day: SlicedPlain(day - mean))

    with pytest.raises(RuleError, match=r"a table that ends there|other rows after"):
        check_env(ahead, windowed=True, table=data)
    with pytest.raises(RuleError, match="two windows show the same"):
        check_env(
            lambda episodes: dated(episodes, lambda day: SlicedPlain(np.ones(9))), windowed=True, table=data
        )


def test_windows_a_season_apart_are_not_taken_for_the_same() -> None:
    season = np.arange(160.0) % 5  # the windows that are looked at begin 40 rows apart
    check_env(lambda table: sliced(table, SlicedPlain, lookback=1, noop=0), windowed=True, table=season)


def test_overrides_of_a_windowed_check_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"env\.max_steps=3 has no effect with windowed=True"):
        check_env("Shop-v0", "env.max_steps=3", windowed=True)


class SlicedPlain(gymnasium.Env):
    """Over a slice, as such envs are written: it ends with its data."""

    observation_space, action_space = Box(-np.inf, np.inf, (1,)), gymnasium.spaces.Discrete(2)

    def __init__(self, data: np.ndarray) -> None:
        self.data = data

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.i = 1
        return np.array([self.data[1]], np.float32), {}

    def step(self, action: Any) -> Any:
        self.i += 1
        reward = float(action) * float(self.data[self.i])
        return np.array([self.data[self.i]], np.float32), reward, self.i == len(self.data) - 1, False, {}


def test_an_env_over_a_slice_becomes_a_windowed_one() -> None:
    table = np.arange(30.0)
    env = sliced(table, SlicedPlain, lookback=1, noop=0)
    obs, _ = env.reset(options={"window": (10, 14), "warmup": 2})
    seen, ends = [obs[0]], []
    for _ in range(5):
        obs, reward, terminated, truncated, info = env.step(1)
        seen.append(obs[0])
        ends.append((reward, info["score"], terminated, truncated))
    assert seen == [8.0, 9.0, 10.0, 11.0, 12.0, 13.0]
    assert ends == [(0, 0, False, False)] * 2 + [
        (11, 11, False, False),
        (12, 12, False, False),
        (13, 13, False, True),
    ]
    check_env(lambda data: sliced(data, SlicedPlain, lookback=1, noop=0), windowed=True, table=walk())
    alone = sliced(table, SlicedPlain, lookback=1)
    assert not alone.data_spec.warmup
    with pytest.raises(ValueError, match="an action that does nothing"):
        alone.reset(options={"window": (10, 14), "warmup": 2})
    wrong = sliced(table, SlicedPlain, lookback=0)
    wrong.reset(options={"window": (10, 14)})
    wrong.step(1), wrong.step(1)
    with pytest.raises(IndexError):
        wrong.step(1)


def test_ruin_terminates_and_the_end_of_data_does_not() -> None:
    def ends(**how: Any) -> list[tuple[bool, bool]]:
        env = sliced(np.arange(30.0), SlicedPlain, lookback=1, **how)
        env.reset(options={"window": (10, 14)})
        return [env.step(1)[2:4] for _ in range(3)]

    assert ends() == [(False, False), (False, False), (False, True)]
    assert ends(ruined=lambda reward, info: reward > 12) == [(False, False), (False, False), (True, False)]
    assert ends(ruined=lambda reward, info: reward > 11)[1] == (True, False)


def test_envs_over_the_slices_last_played_are_kept() -> None:
    made: list[int] = []

    def make(rows: np.ndarray) -> gymnasium.Env:
        made.append(int(rows[0]))
        return SlicedPlain(rows)

    env = sliced(np.arange(30.0), make, lookback=1)
    for first in (10, 11, 10, 12, 10, 13, 10, 14, 10, 11):
        assert env.reset(options={"window": (first, first + 5)})[0][0] == first
    assert made[1:] == [9, 10, 11, 12, 13, 10]  # 10 is played often, and made once


def test_an_agent_with_memory_is_told_that_tests_begin_without() -> None:
    cold = registered(lambda table: sliced(table, SlicedPlain, lookback=1), "ColdStart-v0")
    said = "every test begins without memory: this env cannot show rows before it acts"
    assert said in Task.of(config("lstm_ppo", cold)).evaluation.remarks
    assert said not in Task.of(config("ppo", cold)).evaluation.remarks
    assert said not in Task.of(config("lstm_ppo", "Shop-v0")).evaluation.remarks


def test_rows_outside_of_a_window_are_not_read() -> None:
    rows = Rows(np.arange(20.0))
    assert rows.open((5, 9), warmup=1, lookback=2) == 4
    assert rows[2:9].tolist() == [2, 3, 4, 5, 6, 7, 8] and rows.last(3, at=4).tolist() == [2, 3, 4]
    for key in (1, 9, -1, slice(1, 5), slice(5, 10), slice(None, 5)):
        with pytest.raises(IndexError, match=r"was about to be read: the window has \[2, 9\)"):
            rows[key]
    with pytest.raises(ValueError, match="read-only"):
        rows[2:9][0] = 1.0
    for window in ((5, 6), (2, 9), (5, 21)):
        with pytest.raises(ValueError, match="has no step, or lies outside the 20 rows"):
            rows.open(window, warmup=1, lookback=2)


def registered(env: Any, name: str, **more: Any) -> str:
    gymnasium.register(name, lambda: env(walk()), **more)
    return name


@pytest.mark.parametrize(
    ("env", "words"),
    [
        (NeverEnds, "it goes on at the last row of its window|was about to be read"),
        (OneTooFew, "it was truncated 1 rows before the end of its window"),
        (NoScore, "info.'score'. is nan"),
    ],
)
def test_a_broken_window_is_named_in_a_run(env: Any, words: str, tmp_path: Path) -> None:
    name = registered(env, f"{env.__name__}-v0")
    with pytest.raises((ConfigError, EnvError), match=words):
        train(config("ppo", name, f"out={tmp_path}", "num_envs=1"))


def test_what_a_windowed_env_lacks_is_said_before_a_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must increase strictly"):
        Task.of(config("ppo", registered(Unsorted, "Unsorted-v0")))
    with pytest.raises(ConfigError, match="declares its index by a data_spec"):
        Task.of(config("ppo", "CartPole-v1"))
    with pytest.raises(ConfigError, match="env=gym is a time series: eval=episodes would judge"):
        Task.of(compose([*AGENTS["ppo"], "env=gym", "env.id=Shop-v0"]))
    with pytest.raises(ConfigError, match="it ends after 20 steps, in the midst of its window"):
        Task.of(config("ppo", "Shop-v0", "env.max_steps=20"))


class Dated(Plain):
    """With an index of a test's own."""

    times: Any = ()

    def index(self, table: np.ndarray) -> Any:
        return type(self).times


NOON = datetime(2024, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))


@pytest.mark.parametrize(
    ("times", "second"),
    [
        (list(range(5, 165)), 6),
        (DAYS, "2024-01-02"),
        (DAYS.tolist(), "2024-01-02"),
        (DAYS.astype(str), "2024-01-02"),
        ([NOON + timedelta(days=k) for k in range(160)], "2024-01-02T10:00"),  # in UTC
    ],
    ids=["integers", "days", "dates", "texts", "with a zone"],
)
def test_an_index_may_be_written_in_any_way(times: Any, second: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Dated, "times", times)
    name = registered(Dated, "DatedAnyhow-v0")
    assert Task.of(config("ppo", name)).evaluation.plan["folds"][0]["dates"]["fit"][0] == second
    assert label(sliced(walk(), SlicedPlain, index=times).data_spec.index[1]) == second
    gymnasium.registry.pop(name)


@pytest.mark.parametrize(
    ("times", "words"),
    [
        (np.arange(160.0), "float64"),
        (["2024-01-01", "1.2.2024"], "row 1 of the index is 1.2.2024"),
        (range(100), "has 100 rows, and the table 160"),
        ([3], "has 1 rows: too few"),
    ],
)
def test_an_index_that_is_none_is_refused(times: Any, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Dated, "times", times)
    name = registered(Dated, "DatedBadly-v0")
    with pytest.raises(ConfigError, match=words):
        Task.of(config("ppo", name))
    gymnasium.registry.pop(name)


class Short(Plain):
    """Counts its positions from -1."""

    action_space = gymnasium.spaces.Discrete(3, start=-1)
    baselines = {"long": lambda env, obs: 1}  # noqa: RUF012

    def step(self, action: Any) -> Any:
        assert -1 <= action <= 1
        return super().step(action)


def test_baselines_act_in_the_env_s_own_numbers(tmp_path: Path) -> None:
    result = train(config("ppo", registered(Short, "Short-v0"), f"out={tmp_path}"))
    for row in result.summary["replicas"]:
        low, high = (bound + 1 for bound in row["test_rows"])  # after a lookback of one row
        last = min(high, 159)
        assert row["baselines"]["noop"] == 0.0
        assert row["baselines"]["long"] == pytest.approx((walk()[last] - walk()[low + 1]) / 10)


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (lambda env, obs: 5, "the baseline mine does 5: it must be in Discrete"),
        (lambda env, obs: env.gone, "the baseline mine fails: AttributeError"),
        (lambda env, obs: [0, 1], "the baseline mine does .0, 1.: it must be in"),
    ],
)
def test_a_baseline_that_cannot_act_is_named_before_a_run(policy: Any, words: str) -> None:
    class Baselined(Plain):
        baselines = {"mine": policy}  # noqa: RUF012

    name = registered(Baselined, "Baselined-v0")
    with pytest.raises(ConfigError, match=words):
        _ = Task.of(config("ppo", name)).tried
    gymnasium.registry.pop(name)


def test_baselines_are_left_out_where_a_wrapper_rewrites_actions() -> None:
    words = ["env.wrappers=[{DiscretizeAction: {bins: 3}}]"]
    task = Task.of(config("ppo", "PortfolioBox-v0", *words))
    assert task.evaluation.plan["baselines"] == ["random"]
    assert task.evaluation.plan["notes"] == [
        "DiscretizeAction gives actions another meaning: the env's own baselines are left out"
    ]
    plain = Task.of(config("ppo", "PortfolioBox-v0", "env.wrappers=[ClipAction]"))
    assert plain.evaluation.plan["baselines"] == ["half_and_half", "noop", "random"]


class Seen(Plain):
    """Its picture shows its row."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012

    def render(self) -> np.ndarray:
        return np.full((2, 2, 3), self.row, np.uint8)


def test_pictures_and_states_are_of_the_window_that_is_played() -> None:
    gymnasium.register("Seen-v0", lambda render_mode=None: Seen(walk()))
    made = compose(["env=gym", "env.id=Seen-v0", *AGENTS["ppo"], "eval=walk_forward"]).env
    env, still = envs.make(made, 2), np.zeros(2, np.int64)
    env.reset(seed=1, options={"window": [[50, 60], [90, 99]], "warmup": 2})
    env.step(still)
    assert [env.render_frame(i)[0, 0, 0] for i in (0, 1)] == [50, 90]  # usable rows: a lookback of 1
    state = env.state()
    env.reset(seed=1, options={"window": [20, 30]})
    assert env.render_frame(0)[0, 0, 0] == 21
    env.load_state(state)
    expected = envs.make(made, 2)
    expected.load_state(state)
    for _ in range(5):
        one, other = env.step(still), expected.step(still)
        assert np.array_equal(one[0], other[0]) and one[4]["t"].tolist() == other[4]["t"].tolist()
    assert one[4]["t"].tolist() == [55, 95] and env.render_frame(1)[0, 0, 0] == 95


@dataclass
class ShopsConfig(envs.EnvConfig):
    time_indexed: ClassVar[bool | None] = True


@register("env", "shops", ShopsConfig)
def shops(config: ShopsConfig, num_envs: int) -> Any:
    return GymVectorEnv("Shop-v0", num_envs)


def test_a_vector_env_of_ones_own_is_judged_too(tmp_path: Path) -> None:
    made = config("ppo", "Shop-v0", f"out={tmp_path}")
    own = ShopsConfig(max_steps=None, reward=made.env.reward)
    result, expected = train(replace(made, env=own)), train(made)
    assert result.summary["replicas"] == expected.summary["replicas"]


def test_workers_play_the_same_windows(tmp_path: Path) -> None:
    one, other = (
        train(config("lstm_ppo", "Shop-v0", f"out={tmp_path}", f"env.workers={n}", "eval.n_folds=2"))
        for n in (1, 3)
    )
    assert_same_bits(final_state(one.folder), final_state(other.folder))
    assert one.summary["replicas"] == other.summary["replicas"]


def test_workers_go_on_in_the_midst_of_a_window() -> None:
    made = compose(["env=gym", "env.id=Shop-v0", *AGENTS["ppo"], "eval=walk_forward", "env.workers=2"]).env
    one, other = envs.make(made, 3), envs.make(made, 3)
    actions = np.array([1, 2, 3])
    one.reset(seed=4, options={"window": [[5, 30], [50, 70], [90, 120]], "episode_steps": [4, 0, 9]})
    one.step(actions)
    other.load_state(one.state())
    for _ in range(2):
        a, b = one.step(actions), other.step(actions)
        assert np.array_equal(a[0], b[0]) and a[4].keys() == b[4].keys()
        assert all(np.array_equal(a[4][name], b[4][name]) for name in a[4])
    with pytest.raises(ValueError, match="passes no reset option liquidate"):
        one.reset(seed=1, options={"liquidate": True})
    one.close(), other.close()


def test_a_warm_up_that_cannot_be_is_refused() -> None:
    gymnasium.register("Cold-v0", lambda: sliced(walk(), SlicedPlain, lookback=1))
    with pytest.raises(ConfigError, match=r"eval\.warmup is 5: this env cannot show rows before it acts"):
        Task.of(config("ppo", "Cold-v0", "eval.warmup=5"))
    assert Task.of(config("lstm_ppo", "Cold-v0")).evaluation.warmup == 0  # type: ignore[attr-defined]


def test_other_data_are_other_data(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = set()
    for table in (walk(), walk() + 1, walk(150)):
        env = gymnasium.register("Hashed-v0", lambda table=table: Plain(table))
        hashes.add(Task.of(config("ppo", "Hashed-v0")).data_sha256)
        gymnasium.registry.pop("Hashed-v0")
        assert env is None
    assert len(hashes) == 3


@dataclass
class Day:
    hours: list[float]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (walk(), walk() + 1),
        (np.zeros((2, 3)), np.zeros((3, 2))),
        (np.zeros(4, "f4"), np.zeros(2, "f8")),
        (np.array([(1.0, 2)], "f8,i8"), np.array([(1.0, 3)], "f8,i8")),
        (7, 8),
        ("a", "b"),
        ([1, [2, 3]], [1, 2, 3]),
        ({"x": np.arange(3)}, {"x": np.arange(3) + 1}),
        (Day([1.0]), Day([2.0])),
        (np.array([{"x": 1}]), np.array([{"x": 2}])),
    ],
    ids=str,
)
def test_data_of_any_form_are_told_apart(one: Any, other: Any) -> None:
    def of(data: Any) -> bytes:
        return dated([(0, data), (1, data)], lambda day: SlicedPlain(np.arange(9.0))).digest()

    assert of(one) == of(copy.deepcopy(one)) != of(other)


def test_random_starts_lie_inside_a_window_and_depend_on_the_seed_alone() -> None:
    made = compose([*AGENTS["ppo"], "env=gym", "env.id=Shop-v0", "eval=walk_forward"]).env
    env = envs.make(made, 40)
    env.reset(seed=1, options={"window": [100, 130], "episode_steps": 5})
    lengths = np.zeros(40)
    rows = [env.state()["rows"].copy()]
    over = np.zeros(40, bool)
    while not over.all():
        *_, terminated, truncated, _ = env.step(np.zeros(40, np.int64))
        lengths += ~over
        over |= terminated | truncated
    assert (
        (lengths == 5).all() and rows[0].min() >= 100 and rows[0].max() <= 129 and len(set(rows[0][:, 0])) > 8
    )
    alone = envs.make(made, 1)
    for i in (0, 17):
        seed = env.state()["seed"].view(np.uint64)[i : i + 1]
        alone.reset(seed=seed, options={"window": [100, 130], "episode_steps": 5})
        assert alone.state()["rows"][0].tolist() == rows[0][i].tolist()


def days(count: int = 60, seed: int = 0) -> list[tuple[str, np.ndarray]]:
    """A table a day, of 5 to 9 rows."""
    rng = np.random.default_rng(seed)
    dates = (np.datetime64("2024-01-01") + np.arange(count)).astype(str).tolist()
    return [(date, rng.normal(size=5 + k % 5)) for k, date in enumerate(dates)]


@pytest.mark.parametrize("agent", ["ppo", "lstm_ppo", "dqn"])
def test_folds_may_be_of_whole_episodes(agent: str, tmp_path: Path) -> None:
    data = days()
    name = f"Days-{agent}-v0"
    gymnasium.register(name, lambda: dated(data, SlicedPlain, noop=0, baselines={"one": lambda env, obs: 1}))
    check_env(name)
    result = train(config(agent, name, f"out={tmp_path}"))
    plan = json.loads((result.folder / "folds.json").read_text())
    assert plan["gap"] == 0 and [fold["test"] for fold in plan["folds"]] == [[15, 30], [30, 45], [45, 60]]
    report = json.loads((result.folder / "report.json").read_text())
    assert {fold["passes"] for fold in report["folds"]} == {None}  # of episodes, steps are no passes
    assert "passes over" not in (result.folder / "report.md").read_text()
    for row in result.summary["replicas"]:
        low, high = plan["folds"][row["fold"]]["test"]
        earned = sum(
            float(day[2:].sum()) for _, day in data[low:high]
        )  # a bet of 1 on every row from the third on
        assert row["baselines"]["one"] == pytest.approx(earned, abs=1e-5) and row["baselines"]["noop"] == 0.0
    text = gzip.decompress((result.folder / "test_steps.csv.gz").read_bytes()).decode()
    rows = [row for row in csv.DictReader(io.StringIO(text)) if row["replica"] == "0"]
    assert [row["time"] for row in rows] == [date for date, _ in data[15:30]]  # a line an episode
    assert float(rows[3]["score_one"]) == pytest.approx(float(data[18][1][2:].sum()), abs=1e-6)


def test_other_episodes_do_not_reach_a_folds_training() -> None:
    clean = days()
    states = []
    for k, episodes in enumerate((clean, clean[:30] + [(date, 9.0 - x) for date, x in clean[30:]])):
        gymnasium.register(f"Poison{k}-v0", lambda episodes=episodes: dated(episodes, SlicedPlain, noop=0))
        trial = Trial.of(config("dqn", f"Poison{k}-v0", "total_steps=2000"))
        trial.train(300)
        states.append(trial.algo.state())
    for replica in (0, 1, 2, 3):  # of the folds that end before
        assert_same_bits(select(states[0], replica), select(states[1], replica))
    with pytest.raises(AssertionError):
        assert_same_bits(select(states[0], 4), select(states[1], 4))
