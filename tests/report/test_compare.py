"""Comparing runs: one experiment a row, ranked within a task; nothing is claimed without evidence."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_folders import write_run
from scipy import stats as scipy

import rlrun
from rlrun import cli
from rlrun.config import ConfigError
from rlrun.report import formats
from rlrun.report.compare import comparison

ROWS = [[1.0, 5.0, 3.0, 2.0, 4.0], [11.0, 15.0, 13.0, 12.0, 14.0], [11.5, 15.5, 13.5, 12.5, 14.0]]


def rows(path: Path, **how: Any) -> list[dict[str, Any]]:
    return comparison(path, **how).rows


def table(path: Path, **how: Any) -> list[str]:
    return comparison(path, **how).lines()


def said(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = cli.main(["compare", *map(str, words)])
    return (code, *capsys.readouterr())


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """Two learning rates of dqn, five seeds each, one far behind the other; and ppo beside the better one."""
    write_run(tmp_path, ROWS[0], "algo=dqn", "replicas=5", "algo.learning_rate=0.5")
    write_run(tmp_path, ROWS[1], "algo=dqn", "replicas=5", "algo.learning_rate=0.01")
    write_run(tmp_path, ROWS[2], "algo=ppo", "replicas=5")
    return tmp_path


# Rows


def test_two_algorithms_of_ten_seeds_on_two_envs(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scores = {(env, algo): rng.normal(size=10) for env in ("cartpole", "acrobot") for algo in ("dqn", "ppo")}
    for (env, algo), values in scores.items():
        write_run(tmp_path, values.tolist(), f"algo={algo}", f"env={env}", "replicas=10")
    found = {(row["env"], row["name"]): row for row in rows(tmp_path)}
    assert found.keys() == scores.keys()
    for who, row in found.items():
        x = scores[who]
        assert row["iqm"] == pytest.approx(scipy.trim_mean(x, 0.25), abs=1e-9)
        oracle = scipy.bootstrap(
            (x,), lambda v, axis: scipy.trim_mean(v, 0.25, axis), method="percentile", n_resamples=4000, rng=1
        ).confidence_interval
        assert row["iqm_interval"] == pytest.approx(list(oracle), abs=0.06)
        if row["baseline"]:
            y = scores[who[0], row["baseline"]]
            p = scipy.permutation_test(
                (x, y), lambda a, b: (a - b).mean(), permutation_type="samples", n_resamples=np.inf
            ).pvalue
            assert (row["p"], row["p_holm"], row["paired"]) == pytest.approx((p, p, True), abs=1e-9)
            assert row["improvement"] == pytest.approx(scipy.mannwhitneyu(x, y).statistic / 100, abs=1e-9)
            assert row["difference"] == pytest.approx(x.mean() - y.mean(), abs=1e-9)
    assert sum(row["baseline"] is None for row in found.values()) == 2


def test_folds_are_averaged_before_an_interval_is_taken_as_summary_json_does(tmp_path: Path) -> None:
    fold_effect = np.array([0.0, 10.0, 20.0, 30.0, 50.0])
    scores = (fold_effect[:, None] + np.array([-1.0, 0.0, 1.0])).ravel().tolist()
    run = write_run(tmp_path, scores, "algo=dqn", "env=trading", "eval=walk_forward", "replicas=3", folds=5)
    (row,) = rows(tmp_path)
    total = run.summary()["aggregate"]
    assert {name: row[name] for name in total} == total
    assert (row["n"], row["over"], row["replicas"]) == (5, "folds", 15)
    assert row["interval"][1] - row["interval"][0] > 40  # as 15 seeds it would be 20 wide
    assert row["iqm_interval"][1] - row["iqm_interval"][0] < 2  # other seeds, on the same folds


def test_runs_that_differ_in_seeds_and_places_alone_are_one_experiment(tmp_path: Path) -> None:
    write_run(tmp_path, [1.0, 2.0], "algo=dqn", "replicas=2")
    write_run(
        tmp_path, [3.0], "algo=dqn", "seed=3", "threads=2", "log.plot=false", "checkpoint.every_seconds=5"
    )
    write_run(tmp_path, [3.0], "algo=dqn", "seed=3")  # the same seed again is no new evidence
    write_run(tmp_path, [9.0], "algo=dqn", "algo.gamma=0.5")
    other, pooled = rows(tmp_path)
    assert other["median"] == 9.0 and other["n"] == 1 and other["interval"] is None
    assert pooled["median"] == 2.0 and pooled["n"] == 3 and len(pooled["runs"]) == 3
    assert pooled["seconds"] == 4.5 and pooled["steps_per_second"] == round(4 * 3000 / 4.5, 1)
    assert [row["name"] for row in (other, pooled)] == ["dqn gamma=0.5", "dqn gamma=0.995"]
    assert other["keys"] == {"algo.gamma": 0.5}


def test_what_has_no_score_comes_last_and_never_counts_as_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path, None, "algo=ppo")
    write_run(tmp_path, [None], "algo=a2c")
    write_run(tmp_path, [float("nan"), float("inf")], "algo=reinforce", "replicas=2")
    write_run(tmp_path, [-5.0, None, -7.0], "algo=dqn", "replicas=3")
    found = rows(tmp_path)
    assert [row["name"] for row in found] == ["dqn", "a2c", "ppo", "reinforce"]
    assert [row["median"] for row in found] == [-6.0, None, None, None]
    assert (found[0]["replicas"], found[0]["unscored"], found[0]["n"], found[0]["worst"]) == (2, 1, 2, -7.0)
    lines = table(tmp_path)
    assert any("dqn" in line and "2 of 3" in line for line in lines)
    assert any("interrupted at step 3,000" in line for line in lines)
    code, out, _ = said(capsys, tmp_path, "--json")
    assert code == 0 and json.loads(out, parse_constant=pytest.fail)["runs"] == found


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (["eval.episodes=20"], "eval.episodes=20"),
        (["eval.mode=sample"], "eval.mode=sample"),
        (["env.max_steps=70"], "env.max_steps=70"),
        (["env=acrobot"], "env=acrobot"),
        (["eval=online"], "eval=online"),
    ],
)
def test_different_tasks_are_not_ranked_against_each_other(
    changes: list[str], told: str, tmp_path: Path
) -> None:
    write_run(tmp_path, [1.0], "algo=dqn")
    write_run(tmp_path, [100.0], "algo=dqn", *changes)
    assert {row["task"].count(told) for row in rows(tmp_path)} == {0, 1}
    assert [row["baseline"] for row in rows(tmp_path)] == [None, None]
    out = "\n".join(table(tmp_path))
    assert out.count("median") == 2 and told in out and "2 tasks: scores are ranked within each" in out


def test_what_belongs_to_training_makes_no_other_task(tmp_path: Path) -> None:
    write_run(tmp_path, [1.0], "algo=dqn")
    write_run(tmp_path, [2.0], "algo=dqn", "env.reward.scale=0.1")
    write_run(tmp_path, [3.0], "algo=ppo", "eval.every=100", "eval.during=2")
    write_run(tmp_path, [4.0], "algo=bc", "data=cartpole_expert", sha="0123")
    found = rows(tmp_path)
    assert [row["median"] for row in found] == [4.0, 3.0, 2.0, 1.0]
    assert {row["task"] for row in found} == {"env=cartpole eval=episodes"}


def test_other_data_are_another_task(tmp_path: Path) -> None:
    how = "algo=dqn", "env=trading", "eval=walk_forward"
    write_run(tmp_path, [1.0, 2.0, 3.0], *how, folds=3, sha="0123")
    write_run(tmp_path, [1.0, 2.0, 3.0], *how, folds=3, sha="4567")
    assert [row["task"].split("=")[-1] for row in rows(tmp_path)] == ["0123", "4567"]


# What the evidence says


def test_rows_are_held_against_the_best_and_over_all_pairs(three: Path) -> None:
    best, beside, behind = rows(three)
    assert [row["name"] for row in (best, beside, behind)] == ["ppo", "dqn lr=0.01", "dqn lr=0.5"]
    assert best["baseline"] is None and best["verdict"] is None
    assert (behind["baseline"], behind["family"], behind["verdict"]) == ("ppo", 3, "worse")
    assert behind["p"] == 2 / 252 and behind["p_holm"] == 3 * behind["p"]
    assert (beside["verdict"], beside["separated"]) == ("not separated", False)
    text = " ".join(table(three))
    assert "ppo is better than dqn lr=0.5; the evidence does not separate ppo and dqn lr=0.01" in text
    assert "more than 100 more seeds" in text and "Holm over all 3 pairs" in text


def test_a_declared_baseline_asks_about_the_rows(three: Path) -> None:
    found = {row["name"]: row for row in rows(three, baseline="dqn lr=0.01")}
    assert {row["family"] for row in found.values() if row["baseline"]} == {2}
    assert found["dqn lr=0.5"]["verdict"] == "worse" and found["ppo"]["verdict"] == "not separated"
    with pytest.raises(ConfigError, match="did you mean ppo"):
        comparison(three, baseline="pppo")


def test_one_seed_is_an_anecdote(tmp_path: Path) -> None:
    write_run(tmp_path, [1.0], "algo=dqn")
    assert "anecdote" in table(tmp_path)[1]
    write_run(tmp_path, [99.0], "algo=ppo")
    assert "anecdote" in table(tmp_path)[1]
    assert [row["verdict"] for row in rows(tmp_path)] == [None, "one seed"]


def test_how_many_more_seeds_it_takes_is_told(tmp_path: Path) -> None:
    """d of one deviation asks for 17 of each: from six on, 11 more."""
    unit = np.array([-1.0, -1.0, -0.5, 0.5, 1.0, 1.0])
    unit = (unit - unit.mean()) / unit.std(ddof=1)
    write_run(tmp_path, unit.tolist(), "algo=dqn", "replicas=6")
    write_run(tmp_path, (unit[::-1] + 1.0).tolist(), "algo=ppo", "replicas=6")
    assert rows(tmp_path)[1]["more_seeds"] == 11
    assert "about 11 more seeds of each" in " ".join(table(tmp_path)).replace("  ", " ")


# Ranking


def test_rows_are_ranked_as_asked(tmp_path: Path) -> None:
    write_run(tmp_path, [0.0, 10.0, 10.0, 10.0], "algo=dqn", "replicas=4")
    write_run(tmp_path, [8.0, 8.0, 8.0, 99.0], "algo=ppo", "replicas=4")
    first = {by: rows(tmp_path, by=by)[0]["name"] for by in ("iqm", "median", "mean", "worst")}
    assert first == {"iqm": "dqn", "median": "dqn", "mean": "ppo", "worst": "ppo"}
    assert "ranked by worst seed" in table(tmp_path, by="worst")[0]


@pytest.mark.parametrize(
    ("by", "told"), [("best", "luck"), ("max", "luck"), ("iqn", "did you mean iqm"), ("", "iqm, median")]
)
def test_luck_is_no_ranking(by: str, told: str, three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = said(capsys, three, "--by", by)
    assert code == 2 and out == "" and told in err and len(err.splitlines()) <= 3


# Files


def test_formats_go_to_stdout_or_to_a_file(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = three / "scores.csv"
    code, out, _ = said(capsys, three, "--csv", file, "--md")
    assert code == 0 and out.startswith("**env=cartpole") and file.exists()
    found = list(csv.DictReader(io.StringIO(file.read_text())))
    assert [row["name"] for row in found] == ["ppo", "dqn lr=0.01", "dqn lr=0.5"]
    assert [row["algo.learning_rate"] for row in found] == ["", "0.01", "0.5"]
    assert float(found[2]["p"]) == 2 / 252
    code, out, err = said(capsys, three, "--csv", "--latex")
    assert code == 2 and "cannot both go to stdout" in err
    code, out, err = said(capsys, three, "--csv", three)
    assert code == 2 and "is a folder" in err
    assert said(capsys, three, "--latex")[1].count(r"\\") == 4


BAD = ["=1+1", "+x", "-x", "@x", "\t=x", 'a"b,c', "$a_b&c%#{}~^\\", "x|y<b>*`", "two\nlines\x1b[31m"]


def test_no_cell_is_taken_for_anything_but_text() -> None:
    columns = {"=name": BAD, "number": [-1.5] * len(BAD)}
    heading, *cells = csv.reader(io.StringIO(formats.to_csv(columns)))
    assert heading[0] == "'=name" and {row[1] for row in cells} == {"-1.5"}
    assert [row[0] for row in cells[:6]] == ["'=1+1", "'+x", "'-x", "'@x", "' =x", 'a"b,c']
    tables = [("a_b|c", [["name", "="], *([text, "1"] for text in BAD)])]
    markdown, latex, page = (
        write(tables) for write in (formats.to_markdown, formats.to_latex, formats.to_html)
    )
    assert r"x\|y\<b\>\*\`" in markdown and r"**a\_b\|c**" in markdown
    assert all(line.replace(r"\|", "").count("|") == 3 for line in markdown.splitlines()[2:] if line)
    assert r"\$a\_b\&c\%\#\{\}\textasciitilde{}\textasciicircum{}\textbackslash{}" in latex
    assert "<b>" not in page and "x|y&lt;b&gt;*`" in page
    assert not any("\x1b" in text for text in (formats.to_csv(columns), markdown, latex, page))


def test_python_has_columns_and_a_page(three: Path) -> None:
    found = rlrun.compare([three], by="median", baseline="ppo")
    columns = found.columns()
    assert columns["name"][0] == "ppo" and columns["runs"] == [1, 1, 1]
    assert columns["iqm_interval_low"][0] == found.rows[0]["iqm_interval"][0]
    assert {type(cell) for column in columns.values() for cell in column} <= {
        str,
        int,
        float,
        bool,
        type(None),
    }
    assert "<td>dqn lr=0.01</td>" in found._repr_html_() and str(found).startswith("env=cartpole")


# Pictures


def metrics(level: float, seeds: int, tag: str = "eval/return") -> Iterator[Mapping[str, Any]]:
    for step in (1000, 2000, 3000):
        yield from ({"step": step, "replica": r, tag: level * step + r} for r in range(seeds))


def test_curves_are_drawn_beside_the_runs_for_each_task(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    write_run(tmp_path, [1.0, 2.0], "algo=dqn", "replicas=2", metrics=list(metrics(1.0, 2)))
    write_run(tmp_path, [1.0], "algo=ppo", metrics=list(metrics(2.0, 1)))
    write_run(tmp_path, [1.0], "algo=a2c")  # without a record
    write_run(tmp_path, [1.0], "algo=dqn", "eval.mode=sample", metrics=list(metrics(1.0, 1)))
    write_run(tmp_path, [1.0], "algo=dqn", "env=acrobot")  # nothing to draw
    code, out, _ = said(capsys, tmp_path, "--plot")
    assert code == 0 and sorted(file.name for file in tmp_path.glob("*.png")) == [
        "compare-cartpole-2.png",
        "compare-cartpole.png",
    ]
    assert f"wrote {tmp_path / 'compare-cartpole.png'}" in out
    elsewhere = tmp_path / "new" / "place"
    assert said(capsys, tmp_path / "ppo", "--plot", elsewhere)[0] == 0
    assert [file.name for file in elsewhere.iterdir()] == ["compare-cartpole.png"]


def test_a_curve_that_cannot_be_read_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    write_run(tmp_path, [1.0], "algo=dqn", metrics=list(metrics(1.0, 1)))
    damaged = write_run(tmp_path, [1.0], "algo=ppo")
    damaged.metrics.write_text('{"step": 1, "replica": 7, "eval/return": 1}\n')
    code, out, err = said(capsys, tmp_path, "--plot")
    assert code == 0 and "compare-cartpole.png" in out
    assert err.splitlines() == [f"rlrun: not drawn: {damaged.metrics} is damaged: it has a replica 7"]


def test_no_picture_without_being_asked(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(three.rglob("*"))
    assert said(capsys, three)[0] == 0
    assert sorted(three.rglob("*")) == before


# What is damaged


def test_damaged_runs_are_left_out_by_name(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damaged = write_run(three, [1e9], "algo=sac", "env=pendulum")
    damaged.summary_file.write_text("{")
    other = write_run(three, [1e9], "algo=a2c")
    other.record.write_text("[]")
    code, out, err = said(capsys, three)
    assert code == 0 and "a2c" not in out and "sac" not in out
    assert len(err.splitlines()) == 2 and str(damaged) in err and str(other) in err
    found = json.loads(said(capsys, three, "--json")[1])
    assert len(found["runs"]) == 3 and len(found["left_out"]) == 2


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"config": 3}', "[" * 100_000, '{"a":' * 100_000])
def test_nothing_but_damaged_runs_is_refused(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for algo in ("dqn", "ppo"):
        folder = write_run(tmp_path, [1.0], f"algo={algo}")
        for file in (folder.summary_file, folder.record):
            file.write_text(text)
        code, _, err = said(capsys, tmp_path)
        assert code == 2 and "damaged" in err and len(err.splitlines()) <= 3


def test_runs_without_any_summary_are_refused_and_a_damaged_status_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = said(capsys, tmp_path)
    assert code == 2 and "no run under" in err
    write_run(tmp_path, None, "algo=dqn").status_file.write_text("{")
    code, _, err = said(capsys, tmp_path)
    assert code == 2 and "no finished run" in err
    write_run(tmp_path, [1.0], "algo=ppo")
    code, out, _ = said(capsys, tmp_path)
    assert code == 0 and "(unfinished)" in out
