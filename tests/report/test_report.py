"""What a run shows at its end: honest tables, pictures that hold what they should, plain conclusions."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from rlrun.config import ConfigError
from rlrun.data.times import label
from rlrun.evals import folds, stats
from rlrun.evals.evaluation import Replica
from rlrun.evals.walk_forward import WalkForwardConfig
from rlrun.report.table import results_table
from rlrun.report.walk_forward import walk_forward_report
from rlrun.runs.folder import RunFolder

YAML = Path(__file__).parents[2] / "conf" / "eval" / "walk_forward.yaml"


def summary(returns: list[float | None], fold_of: list[int] | None = None) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for i, value in enumerate(returns):
        row: dict[str, Any] = {"replica": i, "seed": i + 1, "fold": fold_of[i] if fold_of else None}
        if value is None:
            row |= {"failed": "loss/q is nan at step 7", "eval_return": None, "eval_return_std": None}
        else:
            row |= {"eval_return": value, "eval_return_std": 1.5, "eval_episodes": 100}
        rows.append(row)
    scores = [value for value in returns if value is not None]
    used = [row["fold"] for row in rows if row["eval_return"] is not None]
    total = stats.aggregate(scores, used)
    return {"env_steps": 5000, "updates": 7, "wall_seconds": 2.0, "replicas": rows, "aggregate": total}


def test_one_seed_is_called_an_anecdote_and_five_are_not() -> None:
    one = results_table(summary([471.25]), RunFolder("outputs/x"))
    assert "one seed is an anecdote" in one and "replicas=5" in one and "471.2" in one
    assert one.endswith("next  rlrun play outputs/x") and "5,000 env steps in 2.0 s" in one
    five = results_table(summary([1.0, 2.0, 3.0, 4.0, 5.0]))
    assert "anecdote" not in five and "rlrun play" not in five
    assert "median 3.00   mean 3.00   IQM 3.00   [1.04, 4.96] (95% t over 5 seeds, of the mean)" in five


@pytest.mark.parametrize(
    ("mode", "returns", "told"),
    [
        (
            "sample",
            [140.0, 60.0],
            "greedy actions return 50.00, sampled actions return 100.0: eval.mode=sample",
        ),
        (
            "greedy",
            [9.0, 11.0],
            "sampled actions return 50.00, greedy actions return 10.00: eval.mode=greedy",
        ),
        ("sample", [50.0, 54.0], ""),  # a difference, but a small one
        ("sample", [None, 49.0], ""),  # one replica failed
    ],
)
def test_modes_that_score_much_else_are_told(mode: str, returns: list[float | None], told: str) -> None:
    made = summary([40.0 if returns[0] is not None else None, 60.0 if returns[0] is not None else 50.0])
    for row, value in zip(made["replicas"], returns, strict=True):
        row |= {f"{mode}_return": value, f"{mode}_return_std": 2.0, f"{mode}_episodes": 10}
    text = results_table(made)
    assert told in text and ("eval.mode" in text) == bool(told)
    for row in made["replicas"]:
        row[f"{mode}_return_std"] = 500.0  # noise of that size tells nothing
    assert "eval.mode" not in results_table(made)


def test_rows_of_folds_failures_and_many_replicas() -> None:
    text = results_table(summary([1.0, None, 3.0], [0, 1, 2]))
    assert re.search(r"seed  fold", text) and "failed" in text and "loss/q is nan at step 7" in text
    assert "no replica has a score" in results_table(summary([None]))
    many = results_table(summary([float(i) for i in range(101)]))
    assert len(many.splitlines()) < 8 and re.search(r"101 of 101\s+0\.00\s+5\.00\s+25\.00\s+50\.00", many)
    learned = summary([1.0])
    learned["env_steps"] = 0
    assert "7 updates in 2.0 s" in results_table(learned)


class Finished(RunFolder):
    """A run folder whose config and summary are made by hand."""

    run: Any
    rows: list[dict[str, Any]]

    def config(self) -> Any:
        return self.run

    def summary(self) -> dict[str, Any]:
        return {"replicas": self.rows}

    def read(self, *, listeners: bool = False) -> dict[str, Any]:
        return {"data_sha256": "0123456789abcdef0123", "versions": {"rlrun": "0.1.0"}}


def finished(folder: Path, edge: float, n_folds: int = 4, seeds: int = 2, ruin: bool = False) -> Finished:
    """A walk-forward run whose agent earns `edge` a fold more than the baseline's 1, 2, 3..."""
    days = np.arange("2020-01-01", "2020-07-19", dtype="datetime64[D]").astype("datetime64[ns]")
    values = OmegaConf.to_container(OmegaConf.load(YAML))
    assert isinstance(values, dict)
    del values["defaults"]
    values |= {"n_folds": n_folds, "test_size": 20, "min_train_size": 30}
    config: Any = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(WalkForwardConfig), values))
    made = folds.plan(config, 195, 5, 0, 1, days[5:])
    replicas = [Replica(k * seeds + s, s + 1, k) for k in range(n_folds) for s in range(seeds)]
    names = ["score", "pnl", "gross", "cost", "equity", "position", "traded", "ruined"]
    rows = []
    for r in replicas:
        fold = made.folds[r.fold or 0]
        steps = 20 if made.score_last(fold) else 19
        base, own = 1.0 + (r.fold or 0), edge + 0.1 * (r.seed - 1.5) + 0.01 * (r.fold or 0)
        for step in range(steps):
            t, lost = fold.test[0] + 6 + step, ruin and r.index == 1 and step >= 11
            score, cost = 0.0 if lost else (base + own) / steps, 0.0 if lost else 0.5 / steps
            agent = [
                score,
                score,
                score + cost,
                cost,
                10.0 + score * (step + 1),
                0.0 if lost else 1.0,
                0.1,
                float(lost),
            ]
            hold = [base / steps, base / steps, base / steps, 0.0, 10.0, 1.0, 0.0, 0.0]
            rows.append([label(days[t]), *list(r.row.values())[:3], t, *agent, *hold, *[0.0] * 8])
    run = Finished(folder)
    run.run = SimpleNamespace(
        choices={"algo": "dqn", "env": "trading"}, eval=config, total_steps=300,
        env=SimpleNamespace(account="fixed", unit=1.0, delay=1, periods_per_year=250.0, path="wti"),
    )  # fmt: skip
    run.rows = [r.row | {"steps": 9, "eval_return": 1.0, "val_score": 0.5} for r in replicas]
    run.write_plan(
        made.to_json() | {"baselines": ["buy_and_hold", "noop"], "notes": ["3 rows <b>filled</b>"]}
    )
    header = ["time", "replica", "seed", "fold", "t", *names]
    run.write_steps([*header, *(f"{n}_buy_and_hold" for n in names), *(f"{n}_noop" for n in names)], rows)
    return run


@pytest.mark.parametrize(
    ("edge", "verdict"),
    [(0.5, "is better than buy_and_hold"), (-0.5, "is worse than"), (0.0, "cannot be told from")],
)
def test_walk_forward_report_says_what_the_folds_allow(tmp_path: Path, edge: float, verdict: str) -> None:
    data = walk_forward_report(finished(tmp_path, edge))
    assert verdict in data["conclusion"] and ("four times in five" in data["conclusion"]) == (edge == 0)
    text = (tmp_path / "report.md").read_text()
    assert text.startswith(f"# dqn on trading\n\n**{data['conclusion']}**")
    assert json.loads((tmp_path / "report.json").read_text()) == data
    assert data["paired"]["mean"] == pytest.approx(edge + 0.015)
    assert data["cost"] == pytest.approx(4 * 0.5)  # warm-up is not counted
    for k, fold in enumerate(data["folds"]):
        assert fold["baselines"] == pytest.approx({"noop": 0.0, "buy_and_hold": 1.0 + k})
        assert fold["agent"] == pytest.approx(1.0 + k + edge + 0.01 * k)
        assert fold["agent_std"] == pytest.approx(0.1 / 2**0.5) and fold["steps"] == (20 if k < 3 else 19)
        assert fold["validation"] == 0.5 and fold["ruined"] == [] and fold["ruined_baselines"] == {}
    row = f"| 3 | 2020-06-29 to 2020-07-18 | 19 | 0.5000 | {4 + edge + 0.03:.2f} ± 0.0707 | 4.00 | 0.00 |"
    assert row in text
    assert "data row = row + 5" in text and "Unused rows: none" in text
    page = (tmp_path / "report.html").read_text()
    assert "3 rows &lt;b&gt;filled&lt;/b&gt;" in page and page.count("data:image/png;base64,") == 2
    assert not re.search(r"<script|https?://|src=\"(?!data:)", page)
    for name in ("folds.png", "equity.png"):
        assert (tmp_path / name).read_bytes()[:4] == b"\x89PNG" and f"({name})" in text


def test_reports_of_few_folds_one_seed_and_ruin(tmp_path: Path) -> None:
    data = walk_forward_report(finished(tmp_path, 0.5, n_folds=2))
    assert "fewer than 3 folds" in data["conclusion"] and data["paired"]["new_period"] is None
    data = walk_forward_report(finished(tmp_path, 0.5, seeds=1))
    assert "rests on one seed" in data["conclusion"]
    data = walk_forward_report(finished(tmp_path, 0.5, ruin=True))
    assert data["folds"][0]["ruined"] == [{"seed": 2, "time": "2020-05-12"}]
    words = "The account was ruined in 1 of 8 tests (fold 0, seed 2 on 2020-05-12). The agent is better than"
    assert data["conclusion"].startswith(words)
    text = (tmp_path / "report.md").read_text()
    told = "Fold 0: the account was ruined and closed, and earned nothing from then on, of seed 2 on"
    assert "(ruined: 1) |" in text and f"{told} 2020-05-12." in text
    assert any("ruined" in line for line in console(finished(tmp_path, 0.5, ruin=True))[3:])


def console(run: Finished) -> list[str]:
    """The lines of a walk-forward run's table, without where the run is and what to type next."""
    walk_forward_report(run)
    total = stats.aggregate([1.0] * len(run.rows), [row["fold"] for row in run.rows])
    lines = results_table({"replicas": run.rows, "aggregate": total, "policy": "best val/score"}, run)
    return lines.splitlines()[:-3]


def test_the_console_shows_the_conclusion_and_then_a_baseline_beside_every_score(tmp_path: Path) -> None:
    run = finished(tmp_path, -0.5)
    lines = console(run)
    report = json.loads(run.report_json.read_text())
    head = lines.index("")
    assert " ".join(lines[:head]) == report["conclusion"]
    assert lines[head + 1].split() == ["fold", "score", "buy_and_hold", "difference", "best", "baseline"]
    folds = [line.split() for line in lines[head + 3 : head + 7]]
    for k, cells in enumerate(folds):
        assert cells[:4] == [str(k), f"{0.5 + 1.01 * k:.{2 if k else 4}f}", "±", "0.0707"]
        assert cells[4:] == [f"{1 + k:.2f}", f"{-0.5 + 0.01 * k:.4f}", "buy_and_hold", f"{1 + k:.2f}"]
    assert lines[head + 7].split() == ["mean", "2.01", "2.50", "-0.4850", "buy_and_hold", "2.50"]
    assert "score: mean ± std of 2 seeds; difference to buy_and_hold, declared beforehand" in lines
    assert all(len(line) <= 80 for line in lines) and "median 1.00   mean 1.00   IQM 1.00" in lines


def test_the_console_of_few_seeds_few_baselines_and_long_names(tmp_path: Path) -> None:
    one = finished(tmp_path, 0.5, seeds=1)
    lines = console(one)
    assert "score: of one seed; difference to buy_and_hold, declared beforehand" in lines
    assert not any("±" in line for line in lines) and any("+0.4500" in line for line in lines)
    plan = json.loads(one.plan.read_text())
    one.write_plan(plan | {"baselines": ["buy_and_hold"]})
    assert not any("best baseline" in line for line in console(one))
    one.write_plan(plan)
    report = json.loads(one.report_json.read_text())
    name = "momentum_of_the_last_forty_days"
    for row in (*report["folds"], report["total"]):
        row |= {"agent": -1234567.8, "baselines": {name: -1234567.8, "noop": -1234567.9}}
    for fold in report["folds"]:
        fold |= {"agent_std": 12345.6, "difference": -1234567.8}
    one.report_json.write_text(json.dumps(report | {"baseline": name, "seeds": [1, 2]}))
    total = stats.aggregate([-1234567.8])
    shown = results_table({"replicas": one.rows, "aggregate": total}, one).splitlines()[:-3]
    assert all(len(line) <= 80 for line in shown) and "momentum_of_.." in shown[shown.index("") + 1]


def test_the_console_of_a_run_in_which_every_seed_failed_claims_nothing(tmp_path: Path) -> None:
    run = finished(tmp_path, 0.5, seeds=1)
    for row in run.rows:
        row |= {"failed": "loss/q is nan at step 7", "eval_return": None}
    text = "\n".join(console(run))
    assert text.startswith("Nothing can be said.") and "loss/q is nan" in text


def test_what_comes_next_is_a_command_that_a_terminal_has(tmp_path: Path) -> None:
    run = finished(tmp_path, 0.5)
    walk_forward_report(run)
    last = results_table({"replicas": run.rows, "aggregate": stats.aggregate([1.0])}, run).splitlines()[-1]
    words = shlex.split(last.removeprefix("next  "), comments=True)
    assert words == ["less", str(run.report)] and last.endswith("# with pictures: report.html")


def test_a_damaged_report_is_refused(tmp_path: Path) -> None:
    run = finished(tmp_path, 0.5)
    for text in ("{", "[" * 100_000):
        run.report_json.write_text(text)
        with pytest.raises(ConfigError, match=r"report\.json is damaged"):
            results_table({"replicas": run.rows, "aggregate": {}}, run)


def test_a_report_leaves_out_the_seeds_that_failed(tmp_path: Path) -> None:
    """Of every fold, so that folds are compared over the same seeds; without any left it claims nothing."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    run, one = finished(tmp_path / "two", 0.5), finished(tmp_path / "one", 0.5, seeds=1)
    run.rows[3]["failed"] = "loss/q is nan at step 7"  # seed 2 in fold 1
    data, alone = walk_forward_report(run), walk_forward_report(one)
    assert data["seeds"] == [1] and data["folds"] == alone["folds"] and data["paired"] == alone["paired"]
    assert data["conclusion"] == alone["conclusion"] + " Left out, for failing in a fold: seed 2."
    run.rows[0]["failed"] = "loss/q is nan at step 9"
    data = walk_forward_report(run)
    assert data["conclusion"] == "Nothing can be said. Left out, for failing in a fold: seeds 1, 2."
    assert data["conclusion"] in run.report.read_text() and "paired" not in data


@pytest.fixture(autouse=True)
def _no_leftover_figures() -> Iterator[None]:
    yield
    assert "matplotlib.pyplot" not in sys.modules  # no global state, no window
