"""Splits: the index rules, their equality with scikit-learn's, and every refusal."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from rlrun.evals import folds
from rlrun.evals.walk_forward import WalkForwardConfig

YAML = Path(__file__).parents[2] / "conf" / "eval" / "walk_forward.yaml"


@cache
def shipped() -> WalkForwardConfig:
    values = OmegaConf.to_container(OmegaConf.load(YAML))
    assert isinstance(values, dict)
    del values["defaults"]
    made = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(WalkForwardConfig), values))
    assert isinstance(made, WalkForwardConfig)
    return made


def config(val: float | None = None, validation: dict[str, Any] | None = None, **changes: Any) -> Any:
    """The shipped config with some values changed; `val` is short for validation.size."""
    inner = (validation or {}) | ({} if val is None else {"size": val})
    return replace(shipped(), validation=replace(shipped().validation, **inner), **changes)


def plan(n: int, lookback: int = 1, horizon: int = 0, delay: int = 1, **changes: Any) -> folds.Plan:
    return folds.plan(config(**changes), n, lookback, horizon, delay)


def test_hourly_vector() -> None:
    made = plan(17520, n_folds=6, test_size=1440, gap=24, val=720)
    first, last = made.folds[0], made.folds[5]
    assert (first.fit, first.val, first.test) == ((0, 8112), (8136, 8856), (8880, 10320))
    assert (last.fit, last.val, last.test) == ((0, 15312), (15336, 16056), (16080, 17520))
    assert first.train == (0, 8856) and made.unused == ()


def test_default_sizes_are_scikit_learns() -> None:
    made = plan(1003, gap=0, val=0)
    assert [b - a for a, b in (fold.train for fold in made.folds)] == [168, 335, 502, 669, 836]
    assert [b - a for a, b in (fold.test for fold in made.folds)] == [167] * 5
    assert all(fold.fit == fold.train and fold.val is None for fold in made.folds)


def test_auto_gap_is_horizon_and_delay() -> None:
    made = plan(1000, horizon=3, delay=2)
    for fold in made.folds:
        assert fold.val is not None
        assert made.gap == 5 == fold.test[0] - fold.train[1] == fold.val[0] - fold.fit[1]


def test_sliding_windows_align_at_either_end_and_name_unused_rows() -> None:
    end = plan(103, scheme="sliding", train_size=30, n_folds=2, test_size=20, val=0, gap=1)
    assert [(f.train, f.test) for f in end.folds] == [((32, 62), (63, 83)), ((52, 82), (83, 103))]
    assert end.unused == ((0, 32),)
    start = plan(103, scheme="sliding", train_size=30, n_folds=2, test_size=20, val=0, gap=1, align="start")
    assert [(f.train, f.test) for f in start.folds] == [((0, 30), (31, 51)), ((20, 50), (51, 71))]
    assert start.unused == ((71, 103),)
    apart = plan(103, n_folds=2, test_size=20, step=30, val=0, gap=1, max_train_size=40)
    assert [(f.train, f.test) for f in apart.folds] == [((12, 52), (53, 73)), ((42, 82), (83, 103))]
    grown = plan(103, n_folds=2, test_size=20, val=0, gap=1, align="start", train_size=30)
    assert [(f.train, f.test) for f in grown.folds] == [((0, 30), (31, 51)), ((0, 50), (51, 71))]


def test_shares_are_rounded_down_and_the_holdout_is_no_folds() -> None:
    made = plan(1000, test_size=0.1, final_holdout=0.29)
    assert made.n == 710 and made.holdout == (710, 1000)
    assert made.folds[-1].test == (639, 710)
    assert not made.score_last(made.folds[-1]) and made.score_last(made.folds[0])


@settings(max_examples=200, deadline=None)
@given(data=st.data(), n=st.integers(50, 5000), k=st.integers(1, 12), lookback=st.integers(1, 8))
def test_properties_of_any_plan(data: st.DataObject, n: int, k: int, lookback: int) -> None:
    sliding = data.draw(st.booleans())
    align = data.draw(st.sampled_from(["end", "start"]))
    changes: dict[str, Any] = {
        "n_folds": k,
        "scheme": "sliding" if sliding else "expanding",
        "align": align,
        "train_size": data.draw(st.integers(2, n // k + 2)) if sliding or align == "start" else None,
        "max_train_size": None if sliding else data.draw(st.none() | st.integers(2, n)),
        "test_size": data.draw(st.none() | st.integers(1, n // k) | st.floats(0.01, 1 / k)),
        "gap": data.draw(st.just("auto") | st.integers(0, 20)),
        "val": data.draw(st.just(0) | st.integers(1, 200) | st.floats(0.05, 0.4)),
        "final_holdout": data.draw(st.just(0.0) | st.floats(0.0, 0.5)),
    }
    try:
        made = plan(n, lookback, **changes)
    except folds.SplitError:
        assume(False)
        return
    tests = np.concatenate([np.arange(*fold.test) for fold in made.folds])
    assert len(made.folds) == k and len(set(tests)) == len(tests) and (np.diff(tests) > 0).all()
    assert tests[-1] < made.n and (align == "start" or tests[-1] == made.n - 1)
    used = np.zeros(made.n, bool)
    for fold in made.folds:
        assert 0 <= fold.train[0] == fold.fit[0]
        assert fold.train[1] + made.gap == fold.test[0]
        assert fold.fit[1] - fold.fit[0] >= max(2, 10 * lookback)
        if fold.val is None:
            assert fold.fit == fold.train
        else:
            assert fold.fit[1] + made.gap == fold.val[0] and fold.val[1] == fold.train[1]
            assert fold.val[1] - fold.val[0] >= 3  # two transitions
        used[slice(*fold.train)] = used[slice(*fold.test)] = True
    unused = np.concatenate([np.arange(0), *(np.arange(*window) for window in made.unused)])
    np.testing.assert_array_equal(unused, np.flatnonzero(~used))


def test_equal_to_scikit_learn() -> None:
    oracle = pytest.importorskip("sklearn.model_selection").TimeSeriesSplit
    rng, compared = np.random.default_rng(0), 0
    while compared < 200:
        n, k = int(rng.integers(30, 3000)), int(rng.integers(2, 11))
        test = int(rng.integers(2, max(n // k, 3))) if rng.random() < 0.5 else None
        gap = int(rng.integers(0, 20))
        cap = int(rng.integers(2, n)) if rng.random() < 0.5 else None
        try:
            made = plan(n, n_folds=k, test_size=test, gap=gap, max_train_size=cap, min_train_size=2, val=0)
        except folds.SplitError:
            continue
        split = oracle(k, max_train_size=cap, test_size=test, gap=gap).split(np.zeros(n))
        for fold, (train, rows) in zip(made.folds, split, strict=True):
            np.testing.assert_array_equal(np.arange(*fold.train), train)
            np.testing.assert_array_equal(np.arange(*fold.test), rows)
        compared += 1


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"gap": -1}, "eval.gap is -1: it must be at least 0"),
    ({"gap": "none"}, "eval.gap is none: it must be auto"),
    ({"n_folds": 0}, "eval.n_folds is 0: it must be at least 1"),
    ({"test_size": 0}, "eval.test_size is 0: it must be above 0"),
    ({"test_size": 1.5}, "a share below 1"),
    ({"max_train_size": 0}, "eval.max_train_size is 0"),
    ({"test_size": 50, "step": 49}, "eval.step is 49, below the test size of 50"),
    ({"test_size": 0.001}, "eval.test_size comes to 1 of 1003 rows"),
    ({"test_size": 190}, r"fold 0 would train on \d+ steps; need >= 160: lower n_folds, gap or test_size"),
    ({"test_size": 199, "val": 0}, "fold 0 would train on 7 steps; need >= 160"),
    ({"test_size": 400}, "fold 0 would train on 0 steps"),
    ({"test_size": 197, "val": 0, "min_train_size": 2, "lookback": 32}, "fewer than the lookback of 32"),
    ({"gap": 3, "horizon": 4}, "eval.gap is 3, but decisions reach 4 rows ahead"),
    ({"validation": {"gap": 2}, "horizon": 4}, "eval.validation.gap is 2, but decisions reach 4"),
    ({"val": 2, "test_size": 100}, "fold 0 would validate on 1 transitions; need >= 2"),
    ({"val": 0.001, "test_size": 100}, "fold 0 would validate on 0 transitions"),
    ({"scheme": "sliding"}, "scheme=sliding needs the rows of a train window"),
    ({"scheme": "sliding", "train_size": 400}, "fold 0 has 167 rows to train on, not train_size=400"),
    ({"scheme": "sliding", "train_size": 100, "max_train_size": 9}, "max_train_size has no effect"),
    ({"train_size": 100}, "train_size has no effect"),
    ({"align": "start"}, "align=start needs the rows of a train window"),
    ({"align": "start", "train_size": 400}, "fold 4 would end at row 1236 of 1003"),
    ({"scheme": "rolling"}, "eval.scheme is rolling: it must be one of expanding, sliding"),
    ({"baseline": "random", "baselines": ["noop"]}, "baseline is random: it must be one of baselines"),
    ({"val": 0, "validation": {"every": 5}}, "validation.every has no effect"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_refusals_name_the_fix(changes: dict[str, Any], message: str) -> None:
    arguments = {"lookback": 16} | changes
    with pytest.raises(folds.SplitError, match=message) as caught:
        plan(1003, **arguments)
    assert "\n" not in str(caught.value)


def test_warmup_before_the_data_is_refused() -> None:
    made = plan(1003, val=0.2)
    assert made.folds[0].val is not None
    room = made.folds[0].val[0]
    made.check_warmup(room)
    with pytest.raises(folds.SplitError, match=f"eval.warmup is {room + 1}, but fold 0's val window"):
        made.check_warmup(room + 1)


def test_json_layout_with_dates_of_first_and_last_rows() -> None:
    days = np.arange("2000-01-01", "2002-09-30", dtype="datetime64[D]").astype("datetime64[ns]")
    made = folds.plan(config(n_folds=3, test_size=100), len(days), 2, 0, 1, days)
    data = json.loads(json.dumps(made.to_json()))
    assert data["n"] == len(days) == 1003 and data["index"] == ["2000-01-01", "2002-09-29"]
    assert [fold["fold"] for fold in data["folds"]] == [0, 1, 2] and data["unused"] == []
    last = data["folds"][2]
    assert last["test"] == [903, 1003] and last["dates"]["test"] == ["2002-06-22", "2002-09-29"]
    assert last["train"] == [0, 902] and last["val"][1] == 902 and last["fit"][1] == last["val"][0] - 1
    hour = np.datetime64("2000-01-01T05:00", "ns")
    assert folds.label(hour) == "2000-01-01T05:00" and folds.label(np.int64(7)) == 7
    with pytest.raises(folds.SplitError, match="must be as many"):
        folds.plan(config(), 10, 2, 0, 1, days)
