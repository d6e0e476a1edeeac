"""Made-up series: what can be foretold can be, by as much as is said, at the row where it is decided."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rlrun import envs
from rlrun.api import train
from rlrun.config.compose import compose
from rlrun.data.synthetic import KINDS, synthetic
from rlrun.envs.vector.series import Trading

LOOKBACK = 6


@pytest.mark.parametrize("delay", [0, 1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_foretold_is_what_a_decision_earns(kind: str, delay: int) -> None:
    made = synthetic(kind, 60_000, 1, delay, LOOKBACK)
    price = made.series.values[:, 0]
    lag = delay + 1
    earned = np.diff(np.log(price))[lag - 1 :] + 0.5 * 0.01**2  # of the row a decision first earns in
    foretold = made.foretold[: len(earned)]
    assert np.diff(np.log(price)).std() == pytest.approx(0.01, rel=0.03)
    if kind == "noise":
        assert not made.foretold.any()
        return
    slope = float(earned @ foretold / (foretold @ foretold))
    assert slope == pytest.approx(1.0, abs=0.1 if delay < 3 or kind != "ar1" else 1.0)
    r2 = float(np.corrcoef(earned, foretold)[0, 1] ** 2)
    expected = {"ar1": 0.3 ** (2 * lag), "memory": 0.9**2 * lag / (LOOKBACK + 10 + lag)}.get(kind, 0.09)
    assert r2 == pytest.approx(expected, rel=0.15, abs=0.005)


def test_a_series_is_a_function_of_its_seed_and_kind() -> None:
    hashes = {synthetic(kind, 300, seed, 1, 4).series.sha256 for kind in KINDS for seed in (0, 1)}
    assert len(hashes) == 2 * len(KINDS)
    assert synthetic("ar1", 300, 0, 1, 4).series.sha256 == synthetic("ar1", 300, 0, 1, 4).series.sha256


def test_no_observation_holds_the_sign_that_a_memory_series_showed() -> None:
    lag = 2
    made = synthetic("memory", 2000, 0, lag - 1, LOOKBACK)
    cue = made.series.values[:, 1]
    for t in np.flatnonzero(made.foretold):  # what is seen at t: the last LOOKBACK rows
        assert not cue[t - LOOKBACK + 1 : t + 1].any()
        assert np.sign(made.foretold[t]) == cue[: t + 1][np.flatnonzero(cue[: t + 1])[-1]]
    # Nor do prices: a drift is over before a decision by its first row could earn.
    known = made.foretold != 0
    for t in np.flatnonzero(known[1:] & ~known[:-1]) + 1:  # whose earnings prices show at t + lag
        assert not known[t + lag : t + 2 * lag].any()


def test_an_oracle_moves_where_it_pays() -> None:
    made = synthetic("predictive", 4000, 0, 1, 4)
    free, dear = made.oracle(0.0), made.oracle(0.05)
    sure = np.abs(made.foretold) > 1e-4
    np.testing.assert_array_equal(free[sure], np.sign(made.foretold[sure]))
    assert not dear.any() and 0 < np.abs(np.diff(made.oracle(0.001))).sum() < np.abs(np.diff(free)).sum()


def test_the_oracle_is_a_baseline_that_earns_what_it_knows() -> None:
    words = [
        "algo=ppo",
        "env=synthetic",
        "env.cost=0",
        "eval=walk_forward",
        "env.lookback=4",
        "env.rows=4000",
    ]
    env = envs.make(compose(words).env, 2)
    assert isinstance(env, Trading) and list(env.abilities.baselines) == ["buy_and_hold", "noop", "oracle"]
    obs, _ = env.reset(seed=0)
    total, over = np.zeros(2), False
    while not over:
        obs, _, _, truncated, info = env.step(env.abilities.baselines["oracle"](env, obs))
        total, over = total + info["score"], bool(truncated.all())
    expected = 4000 * (0.01 * 0.3 * np.sqrt(2 / np.pi) - 0.5 * 0.01**2)  # E|N(0, 1)| of the known part
    assert total == pytest.approx(expected, rel=0.15)


def test_a_report_says_how_much_was_found_of_what_could_be_known(tmp_path: Path) -> None:
    words = ["algo=ppo", "env=synthetic", "env.lookback=2", "env.rows=1500", "eval=walk_forward"]
    more = [
        "eval.n_folds=3",
        "total_steps=20000",
        f"out={tmp_path}",
        "log.tensorboard=false",
        "log.plot=false",
    ]
    run = train(compose([*words, *more])).folder
    report = json.loads((run / "report.json").read_text())
    share = report["total"]["agent"] / report["total"]["baselines"]["oracle"]
    assert report["share_of_oracle"] == pytest.approx(share) and share > 0.25
    assert (
        f"Found of what could be known: {share:.0%} of the oracle's score." in (run / "report.md").read_text()
    )
    noise = train(compose([*words, *more, "env.signal=noise", "total_steps=200"])).folder
    assert "share_of_oracle" not in json.loads((noise / "report.json").read_text())
