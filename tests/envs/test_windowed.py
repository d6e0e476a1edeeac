"""Windows of a table, whatever is done in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from rlrun.envs.vector.windowed import WindowedEnv

LOOKBACK, ROWS = 2, 12


class Sum(WindowedEnv):
    """Scores the newest value of the table; action 1 reads a row too many."""

    def __init__(self, num_envs: int, table: np.ndarray, usable: np.ndarray | None = None) -> None:
        spaces = Box(-np.inf, np.inf, (LOOKBACK,)), Discrete(2)
        super().__init__(num_envs, *spaces, None, table, LOOKBACK, usable)

    def _open(self, rows: np.ndarray, options: Mapping[str, Any]) -> None:
        pass

    def _account(self, actions: np.ndarray, scored: Any, ends: Any, breaks: Any) -> Any:
        self._read(1 + 100 * int(actions.max()))
        reward = np.where(scored, self._read(1)[:, 0, 0], 0.0)
        return reward, np.zeros(self.num_envs, bool), {"breaks": breaks}

    def _observe(self) -> np.ndarray:
        return self._read(LOOKBACK)[:, 0].astype(np.float32)


def table(changed_from: int = ROWS) -> np.ndarray:
    values = np.arange(float(ROWS))[None]
    values[:, changed_from:] = 1e9
    return values


def play(env: Sum, **options: Any) -> tuple[list[Any], np.ndarray, list[Any]]:
    """Rewards, whether each was scored, and the data rows reached, until all sub-envs have ended."""
    obs, _ = env.reset(seed=1, options=options)
    rewards, scored, reached, over = [], [], [], np.zeros(env.num_envs, bool)
    while not over.all():
        obs, reward, _, over, info = env.step(np.zeros(env.num_envs, np.int64))
        rewards.append(reward.tolist()), scored.append(info["scored"]), reached.append(info["t"].tolist())
        assert (obs[:, -1] == env.t).all() or (obs[:, -1] >= 1e9).any()
    return rewards, np.array(scored), reached


def test_a_window_is_scored_row_by_row() -> None:
    """Usable row u is data row u + lookback: [1, 4) begins at row 3, and steps to 4 and 5."""
    assert play(Sum(1, table()), window=(1, 4))[::2] == ([[4.0], [5.0]], [[4], [5]])
    assert play(Sum(1, table()), window=(1, 4), score_last=True)[0] == [[4.0], [5.0], [6.0]]


def test_a_warm_up_is_seen_and_not_scored() -> None:
    rewards, scored, reached = play(Sum(1, table()), window=(3, 5), warmup=2)
    assert reached == [[4], [5], [6]] and scored[:, 0].tolist() == [False, False, True]
    assert rewards == [[0.0], [0.0], [6.0]]


def test_windows_of_sub_envs_are_their_own() -> None:
    rewards, scored, _ = play(Sum(2, table()), window=np.array([(0, 2), (4, 8)]))
    assert rewards[0] == [3.0, 7.0] and scored.sum(0).tolist() == [1, 3]


def test_what_comes_after_a_window_changes_nothing_in_it() -> None:
    plain, poisoned = (play(Sum(1, values), window=(0, 6)) for values in (table(), table(8)))
    assert plain[0] == poisoned[0]
    reached = play(Sum(1, table(8)), window=(0, 7))[0]  # the control: one row further, and it is seen
    assert reached[-1] == [1e9]


@pytest.mark.parametrize(
    "options",
    [{"window": (0, 11)}, {"window": (1, 4), "warmup": 2}, {"window": (3, 4)}, {"window": (-1, 4)}],
    ids=str,
)
def test_windows_outside_the_data_or_without_a_step_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="usable rows"):
        Sum(1, table()).reset(seed=1, options=options)


def test_reading_outside_the_window_is_an_error() -> None:
    env = Sum(1, table())
    env.reset(seed=1, options={"window": (4, 8)})
    with pytest.raises(IndexError, match="outside the episode's window"):
        env.step(np.ones(1, np.int64))
    with pytest.raises(ValueError, match="read-only"):
        env._table[0, 0] = 1.0


def test_its_state_goes_on_exactly() -> None:
    env, other = Sum(1, table()), Sum(1, table())
    env.reset(seed=1, options={"window": (0, 8)})
    env.step(np.zeros(1, np.int64))
    other.reset(seed=2)
    other.load_state(env.state())
    for one, two in zip(
        env.step(np.zeros(1, np.int64))[:4], other.step(np.zeros(1, np.int64))[:4], strict=True
    ):
        np.testing.assert_array_equal(one, two)


# Rows 5 and 6 have no past of their own: usable rows 0 to 2 are data rows 2 to 4, 3 to 7 are 7 to 11.
WITH_A_GAP = np.array([2, 3, 4, 7, 8, 9, 10, 11])


def test_an_episode_ends_before_a_gap() -> None:
    env = Sum(400, table(), WITH_A_GAP)
    seen = set()
    for steps in (0, 1, 2, 6):
        env.reset(seed=3, options={"window": (0, 8), "episode_steps": steps})
        begin, over, rows = env.t.tolist(), np.zeros(400, bool), [env.t]
        while not over.all():
            _, _, _, over, info = env.step(np.zeros(400, np.int64))
            assert not info["breaks"].any()
            rows.append(info["t"])
        ends = rows[-1].tolist()
        assert all((b < 5) == (e < 5) and b < e for b, e in zip(begin, ends, strict=True))
        assert steps or set(zip(begin, ends, strict=True)) == {(2, 4), (7, 11)}  # a segment each, by the seed
        assert all(e - b <= steps for b, e in zip(begin, ends, strict=True)) or not steps
        seen |= set(begin)
    assert seen == {2, 3, 7, 8, 9, 10}


def test_a_gap_is_passed_over_by_a_step_in_which_nothing_happens() -> None:
    env = Sum(1, table(), WITH_A_GAP)
    rewards, scored, reached = play(env, window=(0, 8), across=True)
    assert reached == [[3], [4], [7], [8], [9], [10], [11]]
    assert scored[:, 0].tolist() == [True, True, False, True, True, True, True]
    assert rewards == [[3.0], [4.0], [0.0], [8.0], [9.0], [10.0], [11.0]]
    env.reset(seed=1, options={"window": (0, 8), "across": True})
    breaks = [bool(env.step(np.zeros(1, np.int64))[4]["breaks"][0]) for _ in range(7)]
    assert breaks == [False, True, False, False, False, False, False]  # where what is held is given up


def test_a_window_of_gaps_alone_is_refused() -> None:
    env = Sum(1, table(), np.array([2, 5, 8, 9]))
    with pytest.raises(ValueError, match="gaps between all of its rows"):
        env.reset(seed=1, options={"window": (0, 3)})
    env.reset(seed=1, options={"window": (0, 4)})
    assert env.t.tolist() == [8]
