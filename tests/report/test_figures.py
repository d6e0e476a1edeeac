"""Every figure of a walk-forward report, worked out again from the recorded steps and the prices alone."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
from pathlib import Path
from statistics import mean, stdev, variance
from typing import Any

import numpy as np
import pytest

from rlrun.api import train
from rlrun.config.compose import compose
from rlrun.evals import stats

Rows = list[dict[str, float]]
COST = 0.002


def prices(path: Path, negative: bool) -> list[float]:
    """Hourly ones over New Year; a walk that is negative at times, or one that never is."""
    steps = np.random.default_rng(3).normal(0, 1, 500).cumsum()
    values = (5.0 + steps if negative else 50.0 * np.exp(0.02 * steps)).round(4).tolist()
    times = (np.datetime64("2019-12-25T00") + np.arange(500)).astype("datetime64[m]").astype(str).tolist()
    path.write_text("time,price\n" + "".join(f"{t},{p}\n" for t, p in zip(times, values, strict=True)))
    return values


@pytest.fixture(scope="module", params=["share", "fixed"])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """report.json, the steps of every policy by fold and seed, and the prices."""
    folder = tmp_path_factory.mktemp(request.param)
    fixed = request.param == "fixed"
    price = prices(folder / "p.csv", fixed)
    words = ["env.account=fixed", "env.capital=8", "env.unit=2", "env.ruin=0.5"] if fixed else []
    config = compose(
        [
            "algo=ppo", "env=series", f"env.path={folder / 'p.csv'}", "env.lookback=3", f"env.cost={COST}",
            "eval=walk_forward", "eval.n_folds=3", "replicas=2", "env.periods_per_year=8760", *words,
            "model.hidden=[4]", "num_envs=2", "algo.rollout_steps=32", "algo.n_minibatches=2",
            "total_steps=400", f"out={folder}", "log.tensorboard=false",
        ]
    )  # fmt: skip
    run = train(config).folder
    text = gzip.decompress((run / "test_steps.csv.gz").read_bytes()).decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    return json.loads((run / "report.json").read_text()), rows, price, fixed, run


def of(rows: list[dict[str, str]], fold: int, seed: int, policy: str = "agent") -> Rows:
    """The steps of one policy, by the plain names of what was recorded."""
    suffix = "" if policy == "agent" else f"_{policy}"
    names = ("score", "pnl", "gross", "cost", "equity", "position", "traded", "ruined")
    mine = [row for row in rows if (int(row["fold"]), int(row["seed"])) == (fold, seed)]
    return [{"t": float(row["t"]), **{name: float(row[name + suffix]) for name in names}} for row in mine]


def years(rows: list[dict[str, str]], fold: int, seed: int) -> list[str]:
    return [row["time"][:4] for row in rows if (int(row["fold"]), int(row["seed"])) == (fold, seed)]


def test_every_step_is_what_the_prices_say(found: Any) -> None:
    """The account again, row by row, from positions and prices."""
    _, rows, price, fixed, _ = found
    start, unit = (8.0, 2.0) if fixed else (1.0, 1.0)
    for fold in range(3):
        for policy, seed in (("agent", 1), ("agent", 2), ("buy_and_hold", 1), ("noop", 1)):
            steps, equity, position = of(rows, fold, seed, policy), start, 0.0
            for k, step in enumerate(steps):
                t, before = int(step["t"]), equity
                if step["ruined"] and (k == 0 or steps[k - 1]["ruined"]):
                    assert (
                        step["score"] == step["pnl"] == step["position"] == 0.0 and step["equity"] == before
                    )
                    continue
                if policy == "buy_and_hold" and k == 0:  # it is held already, paid for before the first fold
                    moved, position = (1.0 if fold == 0 else 0.0), 1.0
                    equity -= moved * COST * (unit * abs(price[t - 1]) if fixed else equity)
                assert step["position"] == position
                move = unit * (price[t] - price[t - 1]) if fixed else equity * (price[t] / price[t - 1] - 1)
                equity += position * move
                if step["ruined"]:
                    equity = 0.5 * start if fixed else 0.01
                else:
                    last = k == len(steps) - 1
                    to = (
                        steps[k + 1]["position"]
                        if not last
                        else (1.0 if policy == "buy_and_hold" and fold < 2 else 0.0)
                    )
                    equity -= abs(to - position) * COST * (unit * abs(price[t]) if fixed else equity)
                    position = to
                score = (equity - before) / unit if fixed else math.log(equity / before)
                assert step["score"] == pytest.approx(score, abs=1e-9)
                assert step["equity"] == pytest.approx(equity, abs=1e-9)
                assert step["pnl"] == pytest.approx(equity - before, abs=1e-9)
                assert step["gross"] - step["cost"] == pytest.approx(step["pnl"], abs=1e-12)


def test_folds_and_totals(found: Any) -> None:
    report, rows, _, fixed, run = found
    plan = json.loads((run / "folds.json").read_text())
    assert report["unit"] == ("money per unit" if fixed else "log growth") and report["seeds"] == [1, 2]
    total, ruined = 0.0, []
    for k, fold in enumerate(report["folds"]):
        scores = [sum(step["score"] for step in of(rows, k, seed)) for seed in (1, 2)]
        held = sum(step["score"] for step in of(rows, k, 1, "buy_and_hold"))
        fit = plan["folds"][k]["fit"]
        expected = {
            "agent": mean(scores), "agent_std": stdev(scores), "difference": mean(scores) - held,
            "steps": len(of(rows, k, 1)), "passes": 400 / (fit[1] - fit[0]),
        }  # fmt: skip
        assert {name: fold[name] for name in expected} == pytest.approx(expected, abs=1e-9)
        assert fold["baselines"] == pytest.approx({"buy_and_hold": held, "noop": 0.0}, abs=1e-9)
        total += mean(scores)
        held_ruin = [
            row["time"] for row in rows if row["fold"] == str(k) and float(row["ruined_buy_and_hold"])
        ]
        assert fold["ruined_baselines"] == ({"buy_and_hold": held_ruin[0]} if held_ruin else {})
        for seed in (1, 2):
            times = [row["time"] for row in rows if (int(row["fold"]), int(row["seed"])) == (k, seed)]
            first = [t for t, step in zip(times, of(rows, k, seed), strict=True) if step["ruined"]]
            ruined += [(k, seed, first[0])] if first else []
            assert [one["time"] for one in fold["ruined"] if one["seed"] == seed] == first[:1]
    assert report["total"]["agent"] == pytest.approx(total)
    assert bool(ruined) == fixed and report["conclusion"].startswith("The account was ruined") == fixed
    if fixed:
        summary = json.loads((run / "summary.json").read_text())["replicas"]
        assert [(r["fold"], r["seed"], r["ruined"]) for r in summary if "ruined" in r] == ruined


def test_how_sure_it_is(found: Any) -> None:
    report, rows, _, _, _ = found
    scores = [[sum(step["score"] for step in of(rows, k, seed)) for seed in (1, 2)] for k in range(3)]
    held = [sum(step["score"] for step in of(rows, k, 1, "buy_and_hold")) for k in range(3)]
    differences = [mean(s) - h for s, h in zip(scores, held, strict=True)]
    paired = report["paired"]
    assert paired["per_fold"] == pytest.approx(differences) and paired["mean"] == pytest.approx(
        mean(differences)
    )
    assert paired["wins"] == sum(d > 1e-12 for d in differences)
    half = 4.302652729911275 * stdev(differences) / math.sqrt(3)  # the t quantile of 2 degrees of freedom
    if "wider" not in paired["new_period"]["kind"]:
        assert paired["new_period"]["high"] == pytest.approx(mean(differences) + half)
        assert paired["new_period"]["low"] == pytest.approx(mean(differences) - half)
    centred = [d - mean(differences) for d in differences]
    expected = (centred[0] * centred[1] + centred[1] * centred[2]) / sum(c * c for c in centred)
    assert paired["autocorrelation"] == pytest.approx(expected)
    grand, by_fold = mean(map(mean, scores)), [mean(s) for s in scores]
    by_seed = [mean(s[i] for s in scores) for i in (0, 1)]
    rest = (
        sum((scores[k][i] - by_fold[k] - by_seed[i] + grand) ** 2 for k in range(3) for i in (0, 1)) / 2
    )  # (3 - 1) x (2 - 1) degrees of freedom
    assert report["components"] == pytest.approx(
        {
            "residual": rest,
            "fold": max(variance(by_fold) - rest / 2, 0.0),
            "seed": max(variance(by_seed) - rest / 3, 0.0),
        }
    )
    assert stats.paired(np.array(scores), np.array(held)).detectable == pytest.approx(paired["detectable"])


def test_years_risk_and_costs(found: Any) -> None:
    report, rows, _, fixed, _ = found
    for policy, seeds in (("agent", (1, 2)), ("buy_and_hold", (1,)), ("noop", (1,))):
        strings = [[step for k in range(3) for step in of(rows, k, seed, policy)] for seed in seeds]
        whole: dict[str, list[float]] = {}
        for string, seed in zip(strings, seeds, strict=True):
            own: dict[str, float] = {}
            labels = [year for k in range(3) for year in years(rows, k, seed)]
            for step, year in zip(string, labels, strict=True):
                own[year] = own.get(year, 0.0) + step["score"]
            for year, score in own.items():
                whole.setdefault(year, []).append(score)
        assert {y: report["years"][y][policy] for y in whole} == pytest.approx(
            {y: mean(v) for y, v in whole.items()}
        )
        each = [measured(string, fixed) for string in strings]
        for name, value in report["measures"][policy].items():
            values = [one.pop(name) for one in each]
            assert value == (None if None in values else pytest.approx(mean(values), abs=1e-9)), (
                policy,
                name,
            )
        assert not each[0]
    agents = [[step for k in range(3) for step in of(rows, k, seed)] for seed in (1, 2)]
    assert report["cost"] == pytest.approx(mean(sum(s["cost"] for s in string) for string in agents))
    for times, score in report["at_costs"].items():
        expected = []
        for string in agents:
            moneys = [(s["gross"] - int(times) * s["cost"], s["equity"] - s["pnl"]) for s in string]
            expected.append(sum(m / 2.0 if fixed else math.log(1 + m / b) for m, b in moneys))
        assert score == pytest.approx(mean(expected), abs=1e-9)
    assert report["at_costs"]["1"] == pytest.approx(report["total"]["agent"], abs=1e-9)


def measured(string: Rows, fixed: bool) -> dict[str, Any]:
    scores = [step["score"] for step in string]
    top = curve = fall = 0.0
    for score in scores:
        curve += score
        top = max(top, curve)
        fall = max(fall, top - curve)
    held = [step for step in string if step["position"] != 0.0]
    spread = stdev(scores)
    sharpe = mean(scores) / spread if spread > 0 else None
    return {
        "sharpe": sharpe,
        "sharpe_year": None if sharpe is None else sharpe * math.sqrt(8760),
        "drawdown": fall if fixed else 1 - math.exp(-fall),
        "turnover": mean(step["traded"] for step in string),
        "turnover_year": mean(step["traded"] for step in string) * 8760,
        "in_market": len(held) / len(string),
        "short": sum(step["position"] < 0 for step in string) / len(string),
        "hit_rate": mean(step["score"] > 0 for step in held) if held else None,
    }


def test_no_figure_is_left_out(found: Any) -> None:
    """A figure that comes to the report must come to this file."""
    report, _, _, _, run = found
    assert set(report) == {
        "title", "conclusion", "notes", "baseline", "level", "seeds", "unit", "folds", "total", "paired",
        "components", "years", "measures", "cost", "at_costs",
    }  # fmt: skip
    page = (run / "report.html").read_text()
    assert report["conclusion"] in page and "data:image/png;base64," in page
